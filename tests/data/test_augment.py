"""Augmentation: each part by hand and within its bounds."""

import colorsys
import re

import numpy as np
import pytest

from melfast.data.augment import VARIANTS, Augment, draw_affine, draw_erase, draw_jitter, draw_variants
from melfast.io.errors import InputError

MANY = 4000
STILL = {"hflip": 0, "vflip": 0, "rotation_deg": 0, "translation": 0, "scale": 0}


def rng():
    return np.random.default_rng(5)


def corners_of(affine):
    """Where the output's corners lie in the input [N, 4, 2]."""
    corners = np.array([[-1, -1, 1], [1, -1, 1], [-1, 1, 1], [1, 1, 1]], float)
    return corners @ affine.transpose(0, 2, 1).astype(float)


def test_crops_lie_inside_and_have_the_area_and_ratio_asked_for():
    affine = draw_affine(rng(), MANY, Augment(**STILL, crop=0.25, crop_ratio=1.5), 1.0)
    corners = corners_of(affine)
    assert np.abs(corners).max() <= 1 + 1e-6
    wide, tall = affine[:, 0, 0], affine[:, 1, 1]
    assert (affine[:, 0, 1] == 0).all()
    ratio = wide / tall
    assert 1 / 1.5 - 1e-5 <= ratio.min() < 0.68
    assert 1.47 < ratio.max() <= 1.5 + 1e-5
    area = wide * tall
    assert 0.25 - 1e-5 <= area.min() < 0.26
    assert area.max() > 0.95
    inner = (area < 0.5) & (np.maximum(wide, tall) < 0.99)  # of these no side was cut
    assert abs(np.mean(area[inner]) - 0.375) < 0.01
    # Places: as far to every side.
    free = 1 - wide[inner]
    assert abs(np.mean(affine[inner, 0, 2] / free)) < 0.05


def test_a_crop_is_of_the_image_that_the_other_parts_turn():
    """Corner by corner: crop(turn(x))."""
    whole = draw_affine(rng(), 50, Augment(crop=1.0), 4 / 3)
    cropped = draw_affine(rng(), 50, Augment(crop=0.3), 4 / 3)
    side = cropped[:, :, 0][:, 0] / whole[:, :, 0][:, 0]
    assert ((side > 0) & (side <= 1)).all()
    place = cropped[:, 0, 2] - side * whole[:, 0, 2]
    np.testing.assert_allclose(
        corners_of(cropped)[:, :, 0], side[:, None] * corners_of(whole)[:, :, 0] + place[:, None], atol=1e-5
    )


def test_published_variants():
    augment = Augment(geometry="published", rotation_deg=15, translation=0.1)
    variant = np.tile(np.arange(len(VARIANTS)), MANY)
    affine = draw_variants(rng(), variant, augment, 1.0).astype(float)
    original, hflip, vflip, rotated, moved = (affine[variant == v] for v in range(5))
    assert (original == [[1, 0, 0], [0, 1, 0]]).all()
    assert (hflip == [[-1, 0, 0], [0, 1, 0]]).all()
    assert (vflip == [[1, 0, 0], [0, -1, 0]]).all()
    angle = np.rad2deg(np.arctan2(rotated[:, 1, 0], rotated[:, 0, 0]))
    assert -15 - 1e-4 < angle.min() < -14.9
    assert 14.9 < angle.max() < 15 + 1e-4
    np.testing.assert_allclose(np.linalg.det(rotated[:, :, :2]), 1, atol=1e-6)
    assert (rotated[:, :, 2] == 0).all()
    assert (moved[:, :, :2] == np.eye(2)).all()
    assert 0.19 < np.abs(moved[:, :, 2]).max() <= 0.2 + 1e-6  # of a width of 2


def test_jitter_by_hand():
    jitter = draw_jitter(rng(), MANY, Augment(brightness=0.2, contrast=0.4)).astype(float)
    grey = jitter[:, :, :3].sum(axis=2)  # what white gives, less the offset
    gain, offset = grey[:, 0], jitter[:, 0, 3]
    np.testing.assert_allclose(grey, np.repeat(gain[:, None], 3, 1), atol=1e-5)
    np.testing.assert_allclose(jitter[:, :, :3], gain[:, None, None] * np.eye(3), atol=1e-5)
    contrast = 1 - 2 * offset
    assert 0.6 - 1e-6 <= contrast.min() < 0.61
    assert 1.39 < contrast.max() <= 1.4 + 1e-6
    brightness = gain / contrast
    assert 0.8 - 1e-5 <= brightness.min() < 0.81
    assert 1.19 < brightness.max() <= 1.2 + 1e-5


def test_hue_turns_and_saturation_scales_what_is_not_grey():
    colour = np.array([0.7, 0.5, 0.4])
    luma = colour @ [0.299, 0.587, 0.114]
    for augment in (Augment(hue=0.1), Augment(saturation=0.5)):
        jitter = draw_jitter(rng(), MANY, augment).astype(float)
        np.testing.assert_allclose(jitter[:, :, :3].sum(axis=2), 1, atol=1e-5)
        turned = jitter[:, :, :3] @ colour
        np.testing.assert_allclose(turned @ [0.299, 0.587, 0.114], luma, atol=1e-4)
    scale = (turned - luma) / (colour - luma)
    np.testing.assert_allclose(scale, np.repeat(scale[:, :1], 3, 1), atol=1e-4)
    assert 0.5 - 1e-4 <= scale.min() < 0.51
    hues = [colorsys.rgb_to_hsv(*rgb)[0] for rgb in draw_jitter(rng(), MANY, Augment(hue=0.1))[:, :, :3] @ colour]
    start = colorsys.rgb_to_hsv(*colour)[0]
    turns = (np.array(hues) - start + 0.5) % 1 - 0.5
    assert 0.06 < np.abs(turns).max() < 0.16  # YIQ's circle is not quite HSV's


def test_erased_boxes():
    boxes = draw_erase(rng(), MANY, Augment(erase=0.25, erase_area=(0.1, 0.2)), 60, 80)
    erased = boxes[boxes[:, 2] > 0]
    assert abs(len(erased) / MANY - 0.25) < 0.03
    top, left, bottom, right = erased.T
    assert (top >= 0).all() and (left >= 0).all()  # noqa: PT018
    assert bottom.max() == 60
    assert right.max() == 80
    area = (bottom - top) * (right - left) / 4800
    assert 0.09 < area.min() < 0.11
    assert 0.19 < area.max() < 0.21
    ratio = (bottom - top) / (right - left)
    assert ratio.min() < 0.4
    assert ratio.max() > 2.5


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"geometry": "both"}, "Augment: geometry must be 'random' or 'published', got 'both'"),
        ({"crop": 0.01}, "Augment: crop must be >= 0.05, got 0.01"),
        ({"crop_ratio": 0.5}, "Augment: crop_ratio must be >= 1, got 0.5"),
        ({"hue": 0.6}, "Augment: hue must be <= 0.5, got 0.6"),
        ({"erase": 2.0}, "Augment: erase must be <= 1, got 2.0"),
        ({"erase_area": (0.5, 0.2)}, "Augment: erase_area must be two rising numbers, got [0.5, 0.2]"),
        ({"erase_area": (0.0, 0.2)}, "Augment: erase_area.0 must be > 0, got 0.0"),
        ({"skin_former": {"light": 1.5}}, "Augment: skin_former.light must be <= 1, got 1.5"),
        ({"skin_former_ita": (30.0, 90.0)}, "Augment: skin_former_ita.1 must be <= 75, got 90.0"),
    ],
)
def test_strength_out_of_range(parts, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        Augment(**parts)
