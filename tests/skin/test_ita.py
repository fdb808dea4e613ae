"""ITA by hand, on synthetic images with known ITA, against OpenCV and the published table."""

import csv
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray

from melfast import core
from melfast.io.images import read_image
from melfast.prepare.synth.draw import draw_sample
from melfast.skin import published_ita as published
from melfast.skin.ita import NO_ELBOW, NO_SKIN, TOO_SMALL, estimate_tone
from melfast.skin.tone import ita_degrees

SKIN = (222, 182, 155)


def plain(colour=SKIN, height: int = 90, width: int = 120) -> NDArray[np.uint8]:
    return np.full((height, width, 3), colour, np.uint8)


def all_skin(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.zeros(image.shape[:2], np.uint8)


def test_one_colour():
    """Every number can be checked, because the image has a single colour."""
    image = plain()
    tone = estimate_tone(image, regions=all_skin(image))
    lab = core.srgb_to_lab(np.uint8(SKIN))
    np.testing.assert_allclose(tone.lab, lab, atol=1e-4)
    np.testing.assert_allclose(tone.ita_deg, ita_degrees(lab), atol=1e-4)
    assert tone.rgb == SKIN
    assert tone.skin_fraction == 1
    assert tone.quality > 0.8
    assert tone.doubts == ()


def test_only_skin_counts():
    """Three quarters of the image are not skin, according to the regions."""
    image, regions = plain((40, 90, 160)), np.ones((90, 120), np.uint8)
    image[30:75, 20:80], regions[30:75, 20:80] = SKIN, 0
    tone = estimate_tone(image, regions=regions)
    assert tone.rgb == SKIN
    assert tone.skin_fraction == 0.25


def test_the_larger_of_two_colours():
    image = plain()
    image[:30] = (120, 60, 50)
    tone = estimate_tone(image, regions=all_skin(image))
    assert tone.rgb == SKIN
    assert "uneven skin" in tone.doubts


def test_equal_halves_of_one_skin():
    """Two colours that only relief sets apart are one skin: the angle lies between theirs."""
    image = plain()
    image[:, 60:] -= np.uint8(4)
    tone = estimate_tone(image, regions=all_skin(image))
    low, high = sorted(ita_degrees(core.srgb_to_lab(image[0, [0, -1]])))
    assert low + 0.3 * (high - low) < tone.ita_deg < low + 0.7 * (high - low)


def test_colours_far_apart():
    """No pixel is near the middle of its cluster: the middle it is, and the skin is uneven."""
    image = np.random.default_rng(0).integers(0, 2, (30, 40, 3), dtype=np.uint8) * np.uint8(240)
    tone = estimate_tone(image, regions=all_skin(image))
    assert np.isfinite(tone.ita_deg)
    assert "uneven skin" in tone.doubts


@pytest.mark.parametrize(
    ("colour", "doubt"),
    [
        ((30, 18, 14), "under-exposed"),
        ((190, 170, 200), "b* near or below 0"),
        ((130, 115, 112), "ill-defined angle"),
        ((120, 190, 120), "colour cast"),
    ],
)
def test_doubts(colour, doubt):
    image = plain(colour)
    tone = estimate_tone(image, regions=all_skin(image))
    assert doubt in tone.doubts
    assert tone.quality < 0.5
    assert np.isfinite(tone.ita_deg)


def test_doubt_of_little_skin():
    image = plain()
    regions = np.ones_like(image[..., 0])
    regions[:3] = 0
    assert estimate_tone(image, regions=regions).doubts == ("little skin",)


def assert_no_number(tone, reason=NO_SKIN):
    assert np.isnan(tone.ita_deg)
    assert np.isnan(tone.lab).all()
    assert tone.rgb is None
    assert tone.quality == 0
    assert tone.doubts == (reason,)


@pytest.mark.parametrize("level", [0, 3, 253, 255])
@pytest.mark.parametrize("convention", ["cielab", "published"])
def test_black_and_white(convention, level):
    image = plain((level, level, level))
    assert_no_number(estimate_tone(image, convention=convention))
    if convention == "cielab":
        assert_no_number(estimate_tone(image, regions=all_skin(image)))


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (7, 7)])
@pytest.mark.parametrize("convention", ["cielab", "published"])
def test_too_small(convention, size):
    assert_no_number(estimate_tone(plain(SKIN, *size), convention=convention), TOO_SMALL)


@pytest.mark.parametrize("size", [(8, 8), (8, 3000), (3000, 8)])
@pytest.mark.parametrize("convention", ["cielab", "published"])
def test_small_and_thin(convention, size):
    tone = estimate_tone(plain(SKIN, *size), convention=convention)
    assert tone.rgb is None or np.abs(np.subtract(tone.rgb, SKIN)).max() <= 2


def test_no_skin_visible():
    image = plain()
    regions = np.ones_like(image[..., 0])
    assert_no_number(estimate_tone(image, regions=regions))
    regions.flat[:63] = 0
    assert_no_number(estimate_tone(image, regions=regions))
    regions.flat[63] = 0
    assert estimate_tone(image, regions=regions).rgb == SKIN


@pytest.mark.parametrize(
    ("image", "regions", "error", "message"),
    [
        ([[1, 2, 3]], None, TypeError, "image must be a numpy array, got list"),
        (plain().astype(np.float32), None, TypeError, "image must be uint8, got float32"),
        (plain()[..., 0], None, ValueError, "image must have shape (height, width, 3) and a pixel, got (90, 120)"),
        (plain()[..., :2], None, ValueError, "image must have shape (height, width, 3) and a pixel, got (90, 120, 2)"),
        (plain()[:0], None, ValueError, "image must have shape (height, width, 3) and a pixel, got (0, 120, 3)"),
        (plain(), plain(), ValueError, "regions must have shape (height, width) and a pixel, got (90, 120, 3)"),
        (plain(), np.zeros((90, 120)), TypeError, "regions must be uint8, got float64"),
    ],
)
def test_refuses(image, regions, error, message):
    with pytest.raises(error, match=re.escape(message)):
        estimate_tone(image, regions=regions)
    if regions is None:
        with pytest.raises(error, match=re.escape(message)):
            estimate_tone(image, convention="published")


def test_refuses_a_convention():
    with pytest.raises(ValueError, match="convention: got 'lab8', expected cielab or published"):
        estimate_tone(plain(), convention="lab8")


def errors(count: int, oracle: bool) -> NDArray[np.float64]:
    """Errors of the ITA of synthetic images after JPEG compression."""
    found = []
    for index in range(count):
        sample = draw_sample(21, index)
        image = simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(sample.image, quality=92))
        regions = np.uint8(~sample.skin) if oracle else None
        found.append(estimate_tone(image, regions=regions).ita_deg - sample.ita_deg)
    return np.abs(found)


def test_drawn_images_with_their_true_skin():
    error = errors(16, oracle=True)
    assert error.mean() <= 0.5
    assert error.max() <= 2


def test_drawn_images():
    """The images have lesions, hair, vignettes and rulers."""
    error = errors(40, oracle=False)
    assert error.mean() <= 1.5
    assert (error <= 4).mean() >= 0.95


@pytest.mark.parametrize("shape", [(300, 400), (256, 128), (512, 256), (511, 255), (20, 10), (1, 1)])
def test_resize_as_opencv(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found = published.resize_linear(image, 256, 128)
    expected = cv2.resize(image, (128, 256))
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (found != expected).mean() <= 0.01


def test_lab8_as_opencv():
    image = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    found, expected = published.srgb_to_lab8(image), cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (found != expected).mean() <= 1e-4


def test_distinct_by_hand():
    lab8 = np.uint8([[9, 0, 1], [255, 3, 2], [9, 0, 1], [9, 1, 0], [9, 0, 1]])
    colours, repeats = published.distinct(lab8)
    assert colours.tolist() == [[9, 0, 1], [9, 1, 0], [255, 3, 2]]
    assert repeats.tolist() == [3, 1, 1]


def test_published_table(real_data):
    """The two images of the table that are available."""
    with open(real_data / "isic2020" / "ISIC_2020_full.csv", encoding="utf-8") as file:
        table = {row["image_name"]: row for row in csv.DictReader(file, delimiter=";")}
    for name in ("ISIC_0052212.jpg", "ISIC_0081956.jpg"):
        tone = estimate_tone(read_image(real_data / "isic2020" / "images" / name), convention="published")
        assert abs(tone.ita_deg - float(table[name]["ita"].replace(",", "."))) <= 1.5
        colour = [int(table[name][f"color_{channel}"]) for channel in "rgb"]
        np.testing.assert_allclose(tone.rgb, colour, atol=8)


def test_published_without_an_elbow(monkeypatch):
    """An elbow of 7 or more points behind the end of the published list."""
    image = draw_sample(21, 0, size=(300, 225)).image
    assert np.isfinite(estimate_tone(image, convention="published").ita_deg)
    monkeypatch.setattr("melfast.skin.ita._elbow", lambda inertias: 7)
    assert_no_number(estimate_tone(image, convention="published"), NO_ELBOW)
    monkeypatch.setattr("melfast.skin.ita._elbow", lambda inertias: None)
    assert estimate_tone(image, convention="published").clusters == 9


SCRIPT = """
import hashlib
from melfast.prepare.synth.draw import draw_sample
from melfast.skin.ita import estimate_tone

digest = hashlib.sha256()
for index in range(4):
    image = draw_sample(3, index, size=(300, 225)).image
    for convention in ("cielab", "published"):
        digest.update(repr(estimate_tone(image, convention=convention)).encode())
print(digest.hexdigest())
"""


def test_every_instruction_set_gives_the_same():
    digests = set()
    for isa in ("baseline", ""):
        environment = os.environ | {"MELFAST_ISA": isa}
        command = [sys.executable, "-c", SCRIPT]
        digests.add(subprocess.check_output(command, env=environment, text=True))
    assert len(digests) == 1


def test_every_thread_gives_the_same():
    images = [draw_sample(3, index, size=(300, 225)).image for index in range(4)] * 4
    expected = [estimate_tone(image) for image in images[:4]] * 4
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(estimate_tone, images)) == expected
