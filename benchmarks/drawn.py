"""python benchmarks/drawn.py [--count N]: evaluate masks and skin tone on synthetic images.

Prints the figures for synthetic images in docs/methods/masks.md and docs/methods/ita.md.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from melfast.prepare.synth import draw_sample
from melfast.skin.ita import estimate_tone
from melfast.skin.masks import make_mask
from melfast.skin.tone import TONE_GROUPS, classify

SEED, SIZE = 7, (400, 300)


def overlap(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Intersection over union."""
    return float((found & truth).sum() / (found | truth).sum())


def mean_and_median(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ({np.median(values):.3f})"


@click.command()
@click.option("--count", type=click.IntRange(min=1), default=300, show_default=True)
def main(count: int) -> None:
    """Evaluate masks and skin tone on COUNT synthetic images against their truth."""
    lesion, published, errors, right = [], [], [], []
    for index in range(count):
        sample = draw_sample(SEED, index, SIZE)
        lesion.append(overlap(make_mask(sample.image) > 0, sample.mask))
        published.append(overlap(make_mask(sample.image, "published") > 0, sample.mask))
        found = estimate_tone(sample.image).ita_deg
        errors.append(abs(found - sample.ita_deg))
        group, true = (int(classify(deg, TONE_GROUPS["six"])) for deg in (found, sample.ita_deg))
        right.append(group == true)
    middle, high, most = np.quantile(errors, [0.5, 0.95, 1.0])
    print(f"{count} images of draw_sample({SEED}, ..., {SIZE})")
    print(f"lesion mask, mean (median) overlap: {mean_and_median(lesion)}")
    print(f"published mask:                     {mean_and_median(published)}")
    print(
        f"ITA off by {middle:.2f} degrees in the median, {high:.1f} at the 95th percentile, "
        f"{most:.1f} at most; {np.mean(right):.1%} in the right group of six"
    )


if __name__ == "__main__":
    main()
