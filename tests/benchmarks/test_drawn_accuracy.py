"""Accuracy on synthetic images: the figures of the script, and two images by hand."""

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.drawn_accuracy import SEED, SIZE, main, mean_and_median, overlap
from melfast.prepare.synth import draw_sample
from melfast.skin.ita import estimate_tone
from melfast.skin.masks import make_mask


def test_overlap_by_hand() -> None:
    found, truth = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    found[0], truth[:, :2] = True, True
    assert overlap(found, truth) == pytest.approx(2 / 6)
    assert mean_and_median([0.1, 0.2, 0.6]) == "0.300 (0.200)"


def test_two_images() -> None:
    said = CliRunner().invoke(main, ["--count", "2"])
    assert said.exit_code == 0, said.output
    samples = [draw_sample(SEED, index, SIZE) for index in range(2)]
    masks = [overlap(make_mask(sample.image) > 0, sample.mask) for sample in samples]
    errors = [abs(estimate_tone(sample.image).ita_deg - sample.ita_deg) for sample in samples]
    lines = said.output.splitlines()
    assert lines[1].endswith(mean_and_median(masks))
    assert lines[3].startswith(f"ITA off by {np.median(errors):.2f} degrees in the median")
    assert f"{max(errors):.1f} at most" in lines[3]
