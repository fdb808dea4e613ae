"""Views for test-time augmentation."""

from pathlib import Path

import numpy as np
import pytest
import torch

from melfast.data.manifest import read_manifest
from melfast.data.preprocess import Preprocess
from melfast.data.views import VIEWS, require_views, viewed
from melfast.distributed import World
from melfast.io.errors import InputError
from melfast.models.classifier import build_classifier
from melfast.models.infer import Inference, infer
from melfast.models.record import ModelRecord
from melfast.models.running import InferenceSettings


def test_eight_pictures_of_a_square_and_four_of_a_rectangle() -> None:
    square = np.arange(9).reshape(1, 3, 3, 1)
    turns = {viewed(square, view)[..., 0].tobytes() for view in VIEWS["rotations"]}
    expected = {np.rot90(m, k).tobytes() for m in (square[0, ..., 0], square[0, ::-1, :, 0]) for k in range(4)}
    assert turns == expected
    assert len(turns) == 8
    flips = {viewed(np.arange(6).reshape(1, 2, 3, 1), view).shape for view in VIEWS["flips"]}
    assert flips == {(1, 2, 3, 1)}
    assert [viewed(square, view).tolist() for view in VIEWS["none"]] == [square.tolist()]


def test_torch_sees_what_numpy_sees() -> None:
    images = np.random.default_rng(0).random((2, 4, 4, 3))
    for view in VIEWS["rotations"]:
        found = viewed(torch.from_numpy(images).permute(0, 3, 1, 2), view, (2, 3))
        np.testing.assert_array_equal(found.permute(0, 2, 3, 1), viewed(images, view))


def test_rotations_need_a_square() -> None:
    with pytest.raises(InputError) as caught:
        require_views("rotations", Preprocess(24, 32))
    assert str(caught.value) == ("`tta=rotations` needs a square input, the model's is 32x24; expected `tta=flips`")


def test_mean_over_views_by_hand() -> None:
    record = ModelRecord("x", Preprocess(8, 8))
    logits = np.log(np.array([[3.0, 1.0, 1.0, 1.0], [1.0, 3.0, 1.0, 1.0]], np.float32))
    found = Inference(np.arange(2), logits).probabilities(record, np.full(2, -1, np.int16))
    np.testing.assert_allclose(found, [(0.25 + 0.5) / 2, (0.75 + 0.5) / 2], atol=1e-7)


@pytest.mark.parametrize("tta", ["flips", "rotations"])
def test_a_mirrored_image_gets_the_same_answer(tiny_data: Path, tta: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    options = {"channels": [4, 4, 8, 8], "stem_width": 4}
    record = ModelRecord("resnet10t", Preprocess(32, 32), options)
    model = build_classifier(record).eval()
    paths = read_manifest(tiny_data).image_paths[:6]
    found = infer(model, paths, record.preprocess, World(), settings=InferenceSettings(tta=tta))
    plain = infer(model, paths, record.preprocess, World())
    views = len(VIEWS[tta])
    assert found.logits.shape == (6, 2 * views)
    np.testing.assert_allclose(found.logits[:, :2], plain.logits, atol=1e-5)

    class Mirrored(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return model(images.flip(3))

    unknown = np.full(6, -1, np.int16)
    mirrored = infer(Mirrored(), paths, record.preprocess, World(), settings=InferenceSettings(tta=tta))
    np.testing.assert_allclose(mirrored.probabilities(record, unknown), found.probabilities(record, unknown), atol=1e-6)
    one, other = (i.probabilities(record, unknown) for i in (found, plain))
    assert np.abs(one - other).max() > 1e-4
