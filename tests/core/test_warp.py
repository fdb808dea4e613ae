"""core.warp_affine against exact mirrors and turns, and SciPy's interpolation in float64."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from melfast import core
from melfast.data.augment import IDENTITY, Augment
from melfast.data.plan import Rows, training_plan
from melfast.data.preprocess import Preprocess


def random_image(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def warped(image: NDArray[np.uint8], affine: object) -> NDArray[np.uint8]:
    out = np.empty(image.shape, np.uint8)
    core.warp_affine(image, affine, out)
    return out


def reference(image: NDArray[np.uint8], affine: NDArray) -> NDArray[np.float64]:
    height, width = image.shape[:2]
    x, y = np.meshgrid((np.arange(width) + 0.5) / width * 2 - 1, (np.arange(height) + 0.5) / height * 2 - 1)
    at = np.einsum("ij,jhw->ihw", np.asarray(affine, np.float64), np.stack([x, y, np.ones_like(x)]))
    column, row = (at[0] + 1) / 2 * width - 0.5, (at[1] + 1) / 2 * height - 0.5
    # Clamping the sample is clamping its neighbours; map_coordinates' own modes round differently.
    where = [np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
    channels = [map_coordinates(image[..., c].astype(np.float64), where, order=1) for c in range(3)]
    return np.stack(channels, axis=-1)


def test_identity_is_a_copy():
    image = random_image(31, 47)
    assert (warped(image, IDENTITY) == image).all()


@pytest.mark.parametrize(("height", "width"), [(224, 224), (31, 47), (1, 9), (9, 1), (1, 1), (2, 2)])
def test_mirrors_are_exact(height, width):
    image = random_image(height, width)
    assert (warped(image, [[-1, 0, 0], [0, 1, 0]]) == image[:, ::-1]).all()
    assert (warped(image, [[1, 0, 0], [0, -1, 0]]) == image[::-1]).all()


def test_quarter_turn_is_exact():
    image = random_image(65, 65)
    # Output (x, y) reads input (y, -x).
    assert (warped(image, [[0, 1, 0], [-1, 0, 0]]) == np.rot90(image, -1)).all()


def test_half_a_pixel_by_hand():
    image = np.zeros((1, 4, 3), np.uint8)
    image[0, :, 0] = [0, 100, 50, 200]
    # Two units of x span four pixels, so 0.25 is half a pixel; past the last one its value goes on.
    assert warped(image, [[1, 0, 0.25], [0, 1, 0]])[0, :, 0].tolist() == [50, 75, 125, 200]


def test_far_outside_is_the_edge():
    image = random_image(20, 30)
    assert (warped(image, [[1, 0, 50], [0, 1, 0]]) == image[:, -1:]).all()
    assert (warped(image, [[1, 0, 0], [0, 1, -1e30]]) == image[:1]).all()
    assert (warped(image, [[0, 0, -1e30], [0, 0, 1e30]]) == image[-1, 0]).all()


@pytest.mark.parametrize("seed", range(30))
def test_matches_float64(seed):
    rng = np.random.default_rng(seed)
    height, width = np.exp(rng.uniform(0, 5.5, 2)).astype(int)
    image = random_image(height, width, seed)
    affine = (np.eye(2, 3) + rng.normal(0, 0.4, (2, 3))).astype(np.float32)
    assert np.abs(warped(image, affine) - reference(image, affine)).max() <= 0.52


@pytest.mark.parametrize("width", [*range(1, 70), 127, 128, 129])
def test_every_tail(width, guarded):
    image = random_image(5, width, width)
    affine = np.array([[0.9, 0.1, 0.05], [-0.2, 1.1, 0.1]], np.float32)
    out = guarded(image.shape, gap=width % 3, shift=width % 7)
    core.warp_affine(image, affine, out)
    assert np.abs(out - reference(image, affine)).max() <= 0.52


def test_a_plan_turns_circles_into_circles():
    """The matrices of an epoch plan, on an image that is not square."""
    height, width = 120, 200
    y, x = np.mgrid[:height, :width] + 0.5
    disc = (np.hypot(y - height / 2, x - width / 2) < 40).astype(np.uint8) * 255
    image = np.repeat(disc[..., None], 3, axis=2)
    turn = Augment(hflip=0, vflip=0, rotation_deg=90, translation=0, scale=0)
    rows = Rows(np.zeros(8, np.int64), np.zeros(8, np.int16))
    plan = training_plan(rows, Preprocess(height, width), turn, batch_size=8, seed=0, epoch=0)
    for affine in plan.affine:
        assert np.abs(warped(image, affine).astype(int) - image).mean() < 1.5


def test_input_strides():
    memory = random_image(60, 80)
    affine = [[0.9, 0.1, 0.05], [-0.2, 1.1, 0.1]]
    for view in (memory[3:50, 4:70], memory[::-2], memory[:, ::-3], memory.transpose(1, 0, 2)):
        assert (warped(view, affine) == warped(np.ascontiguousarray(view), affine)).all()
