"""Linear light, against scikit-image."""

import numpy as np
from skimage.color import lab2xyz, rgb2lab, xyz2rgb

from melfast.skin.light import lab_to_light, level_to_light, light_to_level


def test_every_level_comes_back():
    levels = np.arange(256, dtype=np.uint8)
    light = level_to_light(levels)
    assert (light[0], light[255]) == (0, 1)
    assert (np.diff(light) > 0).all()
    assert (light_to_level(light) == levels).all()


def test_clips():
    assert light_to_level(np.array([-0.1, 1.2])).tolist() == [0, 255]


def test_lab_to_light():
    rgb = np.random.default_rng(0).integers(0, 256, (500, 3), dtype=np.uint8)
    lab = rgb2lab(rgb)
    np.testing.assert_allclose(lab_to_light(lab), level_to_light(rgb), atol=1e-6)
    levels = 255 * xyz2rgb(lab2xyz(lab))
    assert np.abs(light_to_level(lab_to_light(lab)) - levels).max() < 0.501
