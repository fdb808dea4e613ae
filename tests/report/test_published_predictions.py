"""The published model's calls on 6,562 images: the numbers that its paper prints."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

from melfast.data.manifest import Manifest
from melfast.io.tables import read_table
from melfast.metrics import fairness, metrics
from melfast.metrics.gaps import Gaps
from melfast.metrics.groups import Groups, cross, group_by
from melfast.metrics.intervals import pair_statistics
from melfast.metrics.metrics import confusion
from melfast.metrics.scores import Sample


@pytest.fixture(scope="module")
def manifest(real_data: Path) -> Manifest:
    """The images that are predicted, with what is predicted in column `called`."""
    predictions = read_table(real_data / "isic2020" / "published_predictions.csv").frame
    table = read_table(real_data / "isic2020" / "ISIC_2020_full.csv")
    known = Manifest(table.path, table.frame)
    row = {name: i for i, name in enumerate(known.image_names)}
    found = known.select(np.array([row[name] for name in predictions["image_name"]]))
    return found.with_columns(called=list(predictions["target"]))


@pytest.fixture(scope="module")
def calls(manifest: Manifest) -> dict[str, Any]:
    return {"y_true": manifest.targets, "y_pred": manifest.column("called").astype(int)}


@pytest.fixture(scope="module")
def tone(manifest: Manifest) -> Groups:
    return group_by(manifest, "group")


def test_overall(calls: dict[str, Any]) -> None:
    """The paper: accuracy 0.890, balanced 0.808, F1 0.215, recall 0.723, selection 0.1193."""
    counts = confusion(**calls)
    assert sum(vars(counts).values()) == 6562
    assert metrics.accuracy(counts) == pytest.approx(0.8920, abs=5e-5)
    assert metrics.balanced_accuracy(counts) == pytest.approx(0.8091, abs=5e-5)
    assert metrics.f1(counts) == pytest.approx(0.2183, abs=5e-5)
    assert metrics.recall(counts) == pytest.approx(0.7226, abs=5e-5)
    assert metrics.selection_rate(counts) == pytest.approx(0.1173, abs=5e-5)


def test_between_tone_groups(calls: dict[str, Any], tone: Groups) -> None:
    """The paper: demographic parity difference 0.1886, equal opportunity difference 0.2617."""
    groups = {"sensitive_features": tone}
    assert fairness.demographic_parity_difference(**calls, **groups) == pytest.approx(0.1858, abs=5e-5)
    assert fairness.equal_opportunity_difference(**calls, **groups) == pytest.approx(0.2617, abs=5e-5)
    found = fairness.confusions(**calls, **groups)
    recalls = {name: (c.tp, c.tp + c.fn) for name, c in found.items()}
    assert recalls == {"Very light": (15, 17), "Light": (36, 58), "Intermediate": (34, 46), "Tan": (14, 16)}
    recall = fairness.disparities(**calls, **groups)["recall"]
    assert recall.worst_group == "Light"


@pytest.mark.parametrize("column", ["sex", "age_approx", "fitzpatrick", "split", "anatom_site_general_challenge"])
def test_any_column_groups(column: str, manifest: Manifest, calls: dict[str, Any], tone: Groups) -> None:
    groups = group_by(manifest, column)
    both = cross(tone, groups)
    for each in (groups, both):
        found = fairness.confusions(**calls, sensitive_features=each)
        counted = sum(sum(vars(counts).values()) for counts in found.values())
        assert counted == each.known.sum()
    assert both.known.sum() == (tone.known & groups.known).sum()


def sample_of(calls: dict[str, Any], patient: np.ndarray | None = None) -> Sample:
    return Sample(calls["y_true"] == 1, calls["y_pred"] == 1, None, patient)


def test_gap_in_recall_is_within_chance(calls: dict[str, Any], tone: Groups) -> None:
    """Groups with 17, 58, 46 and 16 malignant images and equal true recall differ by 0.18.

    The null against every way to share 99 hits out among them.
    """
    sizes = np.array([17, 58, 46, 16])
    hits = np.array([(a, b, 99 - a - b - d, d) for a, b, d in itertools.product(range(18), range(59), range(17))])
    hits = hits[(hits[:, 2] >= 0) & (hits[:, 2] <= 46)]
    weight = special.comb(sizes, hits).prod(axis=1)
    statistic = pair_statistics(hits / sizes, np.broadcast_to(sizes.astype(float), hits.shape))
    own = float(pair_statistics(np.array([15, 36, 34, 14]) / sizes, sizes.astype(float)))
    ties = np.abs(statistic - own) < 1e-9
    p_value = (weight[(statistic > own) & ~ties].sum() + weight[ties].sum() / 2) / weight.sum()
    found = Gaps.of(sample_of(calls), tone).all()["recall"]
    assert found.gap == pytest.approx(0.2617, abs=5e-5)
    assert found.p_value == pytest.approx(p_value, abs=0.01)
    assert found.mean == pytest.approx(np.ptp(hits / sizes, axis=1) @ weight / weight.sum(), abs=0.003)
    assert found.mean == pytest.approx(0.18, abs=0.005)
    assert found.low == 0


@pytest.mark.parametrize("clustered", [False, True])
def test_gaps(clustered: bool, calls: dict[str, Any], tone: Groups, manifest: Manifest) -> None:
    """Recall may differ by chance; the false positive rate and the selection rate do differ."""
    patient = np.unique(manifest.column("patient_id"), return_inverse=True)[1] if clustered else None
    found = Gaps.of(sample_of(calls, patient), tone, permutations=2000).all()
    assert all(not gap.left_out for gap in found.values())
    assert found["selection_rate"].gap == pytest.approx(0.1858, abs=5e-5)
    assert found["recall"].p_value == pytest.approx(0.18, abs=0.03)
    for metric in ("fpr", "selection_rate", "precision"):
        assert found[metric].p_value < 0.01
        assert 0 < found[metric].low < found[metric].gap < found[metric].high
    assert found["fpr"].worst == "Tan"
