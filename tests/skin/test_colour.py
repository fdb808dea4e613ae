"""The checked colour functions; the numbers themselves are tested with the core."""

import numpy as np
import pytest

from melfast.skin.colour import lab_to_srgb, srgb_to_lab


def test_by_hand():
    np.testing.assert_allclose(srgb_to_lab(np.full(3, 255, np.uint8)), [100, 0, 0], atol=0.01)
    assert lab_to_srgb([50.0, 0.0, 0.0]).tolist() == [119, 119, 119]


@pytest.mark.parametrize("shape", [(3,), (1, 1, 3), (7, 1, 3), (2, 5, 6, 3), (0, 3)])
def test_round_trip(shape):
    rgb = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    lab = srgb_to_lab(rgb)
    assert (lab_to_srgb(lab) == rgb).all()
    assert (lab_to_srgb(lab.astype(np.float64)[..., ::-1][..., ::-1]) == rgb).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 150.5, -50.5, 255])
def test_lightness_out_of_range(value):
    lab = np.full((2, 4, 3), 20, np.float32)
    lab[1, 2, 0] = value
    wanted = rf"^L must be finite and within -50..150, got {value:g} at \(1, 2\)$"
    with pytest.raises(ValueError, match=wanted):
        lab_to_srgb(lab)


@pytest.mark.parametrize("channel", [1, 2])
def test_chroma_out_of_range(channel):
    lab = np.zeros(3, np.float32)
    lab[channel] = 257
    name = "Lab"[channel]
    with pytest.raises(ValueError, match=rf"^{name} must .* within -256..256, got 257 at \(\)$"):
        lab_to_srgb(lab)


def test_refuses():
    with pytest.raises(TypeError, match=r"^image must be uint8, got float64$"):
        srgb_to_lab(np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match=r"^image must have shape \(..., 3\), got \(4, 4\)$"):
        srgb_to_lab(np.zeros((4, 4), np.uint8))
    with pytest.raises(TypeError, match=r"^lab must be floating point, got int64$"):
        lab_to_srgb([1, 2, 3])
    with pytest.raises(ValueError, match=r"^lab must have shape \(..., 3\), got \(3, 2\)$"):
        lab_to_srgb(np.zeros((3, 2)))
