"""The skin-former: by hand, accuracy where the truth is known, and what stays unchanged."""

import math

import numpy as np
import pytest
from PIL import Image
from skimage.color import lab2rgb, rgb2lab

from melfast.io.folders import list_images
from melfast.prepare.synth import draw_sample
from melfast.skin import locus
from melfast.skin.curves import destinations, level_curves, light_gains
from melfast.skin.former import move_skin, skin_weights
from melfast.skin.ita import estimate_tone
from melfast.skin.light import lab_to_light
from melfast.skin.masks import Region
from melfast.skin.tone import ita_degrees

TARGETS = (-40, -20, 0, 20, 40, 60)
SIZE = (200, 150)


def destination(lab, target):
    return destinations([lab], [target])[0]


def skin_curves(lab_from, lab_to, **options):
    return level_curves(light_gains([lab_from], [lab_to], **options))[0]


def picture(skin=(68, 11, 15), lesion=(35, 15, 14), noise=1.0):
    """A disc on skin [90, 120, 3], and its regions."""
    y, x = np.mgrid[:90, :120]
    disc = np.hypot(y - 45, x - 60) < 20
    lab = np.where(disc[..., None], lesion, skin) + np.random.default_rng(0).normal(0, noise, (90, 120, 3))
    return np.rint(255 * lab2rgb(lab)).astype(np.uint8), disc.astype(np.uint8) * Region.LESION.value


def test_curves_by_hand():
    """Grey to grey: light 0.2140 (L 53.39, level 127.5) to 0.0331 (L 21.25)."""
    curves = skin_curves((53.389, 0, 0), (21.247, 0, 0), most_contrast=9)
    assert (curves[:, 0] == 0).all()
    assert (curves[:, 255] == 255).all()
    # x / (1 - x) is multiplied by 0.12575: of light 0.5 (level 188) stays 0.1117 (level 94).
    assert np.abs(curves[:, 188].astype(int) - 94).max() <= 1
    assert (np.diff(curves.astype(int), axis=1) >= 0).all()


def test_curves_take_one_colour_to_the_other():
    light, dark = (68.0, 11.0, 15.0), (38.0, 12.0, 14.0)
    for start, end in ((light, dark), (dark, light), (light, light)):
        curves = skin_curves(start, end)
        rgb = np.rint(255 * lab2rgb(start)).astype(int)
        moved = np.array([curves[c, rgb[c]] for c in range(3)], np.uint8)
        assert np.abs(rgb2lab(moved) - end).max() < 1.5


def test_a_nearly_saturated_channel_is_not_torn_apart():
    """Pink with red at 254: its neighbours must stay neighbours."""
    curves = skin_curves((80, 38, 2), (40, 12, 14)).astype(int)
    assert np.diff(curves[0, 230:256]).max() <= 3


@pytest.mark.parametrize("lab", [(68, 11, 15), (85, 35, -10), (30, 5, 25), (50, 60, 40)])
def test_destinations_have_the_angle_and_are_in_gamut(lab):
    for target in range(-60, 76, 5):
        to = destination(lab, target)
        assert math.degrees(math.atan2(to[0] - 50, to[2])) == pytest.approx(target)
        light = lab_to_light(np.array(to))
        assert light.min() > 0
        assert light.max() < 1


def test_a_person_keeps_what_is_their_own_the_more_the_nearer():
    lab = (65, 16, 15)
    assert destination(lab, ita_degrees(lab)) == pytest.approx(lab)
    own = [destination(lab, t)[1] - locus.chroma(t)[0] for t in (40, 20, 0, -30)]
    assert own == sorted(own, reverse=True)
    assert own[-1] < 0.3 * own[0]


@pytest.mark.parametrize("target", TARGETS)
def test_measures_the_target(target):
    image, regions = picture()
    moved = move_skin(image, target, regions=regions)
    assert moved.tone.ita_deg == pytest.approx(target, abs=1)
    assert moved.tone == estimate_tone(moved.image, regions=regions)
    skin = moved.image[regions == 0]
    assert ((skin > 0) & (skin < 255)).all()


def test_the_lesion_is_kept():
    image, regions = picture()
    for target in TARGETS:
        moved = move_skin(image, target, regions=regions).image
        inside = slice(36, 55), slice(51, 70)
        assert (moved[inside] == image[inside]).all()
        lesion = regions != 0
        assert (moved[lesion] == image[lesion]).mean() > 0.8


def test_no_rim_of_old_skin_is_left():
    """With a mask that is too large, pixels at its border that look like skin move with the skin."""
    image, _ = picture()
    y, x = np.mgrid[:90, :120]
    regions = (np.hypot(y - 45, x - 60) < 26).astype(np.uint8) * Region.LESION.value
    moved = move_skin(image, -30, regions=regions).image
    rim = (np.hypot(y - 45, x - 60) > 23) & (regions != 0)
    far = np.hypot(y - 45, x - 60) > 40
    lightness = rgb2lab(moved)[..., 0]
    assert abs(np.median(lightness[rim]) - np.median(lightness[far])) < 4


def test_weights():
    image, regions = picture(noise=0)
    weights = skin_weights(image, regions, (68, 11, 15))
    assert weights[45, 60] == 0
    assert weights[0, 0] == 255
    assert (np.diff(weights[45, 60:].astype(int)) >= 0).all()
    assert (skin_weights(image, np.zeros_like(regions), (68, 11, 15)) == 255).all()
    assert (skin_weights(image, np.full_like(regions, Region.LESION), (68, 11, 15)) == 0).all()
    # A lesion of the skin's own colour.
    plain = np.full_like(image, 180)
    assert skin_weights(plain, regions, tuple(rgb2lab(plain)[0, 0])).dtype == np.uint8


def test_regions_at_working_size():
    image, regions = picture()
    large = image.repeat(8, axis=0).repeat(8, axis=1)
    rows, columns = np.mgrid[:384, :512]
    small = regions[rows * 90 // 384, columns * 120 // 512]
    moved = move_skin(large, 0, regions=small)
    assert moved.image.shape == large.shape
    assert moved.tone.ita_deg == pytest.approx(0, abs=1)


@pytest.mark.parametrize("shape", [(45, 60), (900, 40), (120, 90)])
def test_regions_of_another_image(shape):
    image, _ = picture()
    with pytest.raises(ValueError, match=r"regions must have shape \(.*\) for this image, got"):
        move_skin(image, 0, regions=np.zeros(shape, np.uint8))


def test_published_by_hand():
    """From ITA 50.19 to 10.19: 40 degrees, L - 4.8, b + 20, on skin pixels and no others."""
    image, regions = picture(noise=0)
    before = estimate_tone(image, regions=regions)
    moved = move_skin(image, before.ita_deg - 40, method="published", regions=regions)
    expected = rgb2lab(image) + np.array([-4.8, 0, 20])
    skin = regions == 0
    levels = 255 * lab2rgb(expected)
    assert np.abs(moved.image - levels)[skin].max() < 0.51
    assert (moved.image[~skin] == image[~skin]).all()
    assert moved.tone.ita_deg > before.ita_deg - 40 + 10  # it misses


def test_published_does_not_wrap_around():
    image, regions = picture(skin=(97, 2, 4), noise=0)
    lighter = move_skin(image, 75, method="published", regions=regions).image
    darker = move_skin(image, -60, method="published", regions=regions).image
    assert lighter[0, 0].min() > 220  # blue falls by 5 b*
    assert darker[0, 0, 2] < lighter[0, 0, 2]
    assert np.diff(darker[0, 0].astype(int)).max() < 0  # yellow, and no channel wraps around


@pytest.mark.parametrize("method", ["exact", "published"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (300, 1), (7, 7), (60, 80)])
@pytest.mark.parametrize("level", [0, 255])
def test_without_skin_nothing_is_moved(shape, level, method):
    image = np.full((*shape, 3), level, np.uint8)
    moved = move_skin(image, 20, method=method)
    assert math.isnan(moved.tone.ita_deg)
    assert moved.image is image
    assert moved.tone.doubts


def test_all_lesion():
    image, regions = picture()
    moved = move_skin(image, 20, regions=np.full_like(regions, Region.LESION))
    assert math.isnan(moved.tone.ita_deg)
    assert moved.image is image


@pytest.mark.parametrize("level", [(1, 0, 0), (250, 255, 255), (255, 0, 0), (0, 0, 255)])
def test_colours_of_no_skin_do_no_harm(level):
    image = np.full((60, 80, 3), level, np.uint8)
    for target in (-60, 75):
        assert move_skin(image, target).image.shape == image.shape


@pytest.mark.parametrize("target", [math.nan, math.inf, -60.1, 76])
def test_refuses_a_target(target):
    image, regions = picture()
    with pytest.raises(ValueError, match=r"^target_ita_deg must be within -60\.\.75 degrees, got"):
        move_skin(image, target, regions=regions)


def test_refuses():
    image, regions = picture()
    with pytest.raises(ValueError, match=r"^method: got 'fast', expected exact or published$"):
        move_skin(image, 0, method="fast", regions=regions)
    with pytest.raises(TypeError, match=r"uint8"):
        move_skin(image / 255, 0, regions=regions)


def test_synthetic_images():
    """Accuracy on synthetic images, measured over their true skin."""
    missed = []
    for index in range(8):
        sample = draw_sample(5, index, SIZE)
        regions = np.where(sample.mask, Region.LESION, 0) | np.where(sample.skin, 0, Region.MARGIN)
        for target in TARGETS:
            tone = move_skin(sample.image, target, regions=regions.astype(np.uint8)).tone
            missed.append(abs(tone.ita_deg - target))
    assert np.mean(np.array(missed) <= 2) >= 0.95


def test_real_images(real_data):
    files = list_images(real_data / "ham10000" / "images")
    missed = []
    for path in files[:: len(files) // 12]:
        image = np.asarray(Image.open(path).convert("RGB"))
        missed += [abs(move_skin(image, t).tone.ita_deg - t) for t in TARGETS]
    assert np.mean(np.array(missed) <= 2) >= 0.95
