"""Ensembles: combine the predictions of several models for the same images."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from melfast.data.manifest import read_manifest
from melfast.evaluate.run import (
    Evaluation,
    claim_output,
    conclude,
    open_world,
    predict_split,
    read_split,
    run_of,
    scored_images,
)
from melfast.io.errors import InputError
from melfast.io.log import Progress, no_progress
from melfast.io.words import check_words
from melfast.models.checkpoint import find_checkpoint
from melfast.models.infer import DEFAULT
from melfast.models.record import DEFAULT_THRESHOLD
from melfast.models.running import InferenceSettings
from melfast.report.measures import Scored
from melfast.report.predictions import read_predictions
from melfast.train.data import MANIFEST

Method = Literal["mean", "rank-mean"]
COMMAND = "melfast ensemble"


@dataclass(frozen=True)
class Member:
    """The predictions of one model.

    Attributes:
        name: name to show.
        scored: its images and their P(malignant).
        threshold: it calls images malignant from this value upwards; None: unknown.
    """

    name: str
    scored: Scored
    threshold: float | None


@check_words
def combine(
    score_mn: NDArray[np.float64], thresholds: Sequence[float | None], method: Method
) -> tuple[NDArray[np.float64], float | None]:
    """One score per image, and the threshold that follows from those of the members.

    Args:
        score_mn: P(malignant) of each member M and image N.
        thresholds: thresholds of the members, None unknown.
        method: `mean`: mean of P(malignant). `rank-mean`: mean of the fraction of images that a member
            scores lower (ties count half), for members with different calibration. Ranks depend on
            the set of images.
    Returns:
        Scores [N], and the score of an image that every member scores exactly at its threshold; None
        if the threshold of a member is unknown.
    """
    if method == "mean":
        known = [t for t in thresholds if t is not None]
        threshold = float(np.mean(known)) if len(known) == len(thresholds) else None
        return score_mn.mean(axis=0), threshold
    count = score_mn.shape[1]
    # With mean ranks, (rank - 1/2) / N is the fraction scored lower, ties counting half.
    ranks = np.stack([(rankdata(score) - 0.5) / count for score in score_mn])
    lower = [None if t is None else float((score < t).mean()) for t, score in zip(thresholds, score_mn, strict=True)]
    known = [t for t in lower if t is not None]
    return ranks.mean(axis=0), float(np.mean(known)) if len(known) == len(lower) else None


@check_words
def run_ensemble(
    sources: Sequence[str | Path],
    output: str | Path,
    *,
    method: Method = "mean",
    threshold: float | None = None,
    data_path: str | Path | None = None,
    split: str = "test",
    settings: InferenceSettings = DEFAULT,
    progress: Progress = no_progress,
) -> Evaluation | None:
    """Combines predictions and writes `metrics.json` and `predictions.csv`.

    Args:
        sources: either tables of predictions (from `melfast evaluate` or `melfast predict`), or runs,
            checkpoint folders or files in one. Checkpoints are evaluated on `split` of `data_path`,
            by default the manifest of the first; under torchrun every process calls this.
        threshold: None: derived from the thresholds of the members.
        progress: see run_evaluation.
    Returns:
        The result; None in all processes but the first.
    Raises:
        InputError: fewer than two sources or both kinds, different images or truths in one of them,
            or no threshold.
    """
    paths, output = [Path(source) for source in sources], Path(output)
    tables = [source.suffix.lower() == ".csv" for source in paths]
    if len(paths) < 2:
        raise InputError("an ensemble needs at least two models, got 1")
    if any(tables) and not all(tables):
        raise InputError(
            f"{paths[tables.index(False)]}: expected tables of predictions (.csv) only, or runs and checkpoints only"
        )
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"`threshold` must be in 0..1, got {threshold:g}")
    if all(tables):
        with contextlib.ExitStack() as held:
            claim_output(held, output, COMMAND)
            return finish([read_member(source) for source in paths], output, method, threshold)
    with open_world(settings) as world, contextlib.ExitStack() as held:
        folders = [find_checkpoint(source) for source in paths]
        world.first_does(lambda: claim_output(held, output, COMMAND))
        manifest = world.first_does(lambda: read_split(folders[0], data_path, split))
        answers = [predict_split(folder, manifest, world, settings, progress) for folder in folders]
        if not world.first:
            return None
        members = [
            Member(str(a.folder), scored_images(manifest.select(a.index), a.score), a.threshold) for a in answers
        ]
        kept = members[0].scored.names
        remarks = [remark for folder in folders for remark in seen_before(folder, kept)]
        if settings.tta != "none":
            remarks.append("the thresholds were chosen without test-time augmentation")
        remarks += [
            f"{a.folder}: its thresholds by tone group are not used; the threshold for all images is"
            for a in answers
            if a.record.group_thresholds
        ]
        left_out = [str(failure) for failure in answers[0].failures]
        return finish(members, output, method, threshold, remarks, left_out)


@check_words
def finish(
    members: Sequence[Member],
    output: Path,
    method: Method,
    threshold: float | None,
    remarks: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> Evaluation:
    """Combines members with the same images and writes the result."""
    images = agreed(members)
    score_mn = np.stack([member.scored.score for member in members])
    score, own = combine(score_mn, [member.threshold for member in members], method)
    source = "as requested"
    if threshold is None:
        threshold, source = own, "combined from the members' thresholds"
    if threshold is None and method == "mean":
        threshold, source = DEFAULT_THRESHOLD, "no member has one"
    if threshold is None:
        raise InputError(
            "rank-mean: the members' thresholds are unknown, because their tables lack calls of "
            "both classes; expected `threshold`, a share of the images"
        )
    about = {"members": [m.name for m in members], "method": method, "threshold_rule": source, "threshold": threshold}
    return conclude(
        replace(images, score=score),
        threshold,
        output,
        about,
        f"{method} of {len(members)} models, threshold {threshold:.4f}",
        remarks,
        left_out,
    )


def agreed(members: Sequence[Member]) -> Scored:
    """The common images of the members, with the truth and groups that any of them states.

    Raises:
        InputError: a member has different images, or a different truth for one.
    """
    first = members[0]
    names = first.scored.names
    targets = first.scored.targets.copy()
    told = dict.fromkeys(names, first.name)
    for member in members[1:]:
        other = member.scored
        if list(other.names) != list(names):
            raise InputError(_difference(first.name, names, member.name, other.names))
        known = other.targets >= 0
        wrong = np.flatnonzero(known & (targets >= 0) & (targets != other.targets))
        if wrong.size:
            row = int(wrong[0])
            raise InputError(
                f"{told[names[row]]} and {member.name} disagree on the truth of {names[row]!r} "
                f"({targets[row]} and {other.targets[row]}), and of {wrong.size - 1} more"
            )
        told |= {names[row]: member.name for row in np.flatnonzero(known & (targets < 0)).tolist()}
        targets = np.where(known, other.targets, targets)
    grouped = next((m.scored for m in members if m.scored.group_names), first.scored)
    return replace(grouped, targets=targets)


def _difference(one: str, names: Sequence[str], other: str, others: Sequence[str]) -> str:
    for more, less, missing in (
        (one, other, sorted(set(names) - set(others))),
        (other, one, sorted(set(others) - set(names))),
    ):
        if missing:
            listed = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            return f"{less}: lacks {len(missing):,} images of {more}: {listed}"
    raise AssertionError("the same names in another order")


def seen_before(folder: Path, names: Sequence[str]) -> list[str]:
    """A remark if a run was trained on images that it is now evaluated on."""
    path = run_of(folder) / MANIFEST
    if not path.is_file():
        return []
    manifest = read_manifest(path)
    trained = set(manifest.select(manifest.splits == "train").image_names)
    shared = len(trained & set(names))
    return [f"{folder} was trained on {shared:,} of these images"] if shared else []


def read_member(path: Path) -> Member:
    """A table of predictions, sorted by image name.

    Raises:
        InputError: see `read_predictions`, or it has no probabilities.
    """
    found = read_predictions(path)
    if found.score is None:
        raise InputError(f"{path}: has only calls; expected a column of probabilities")
    group_names = tuple(sorted(set(found.groups or ()) - {""}))
    place = {name: i for i, name in enumerate(group_names)} | {"": -1}
    groups = [place[cell] for cell in found.groups or [""] * len(found)]
    truth = np.full(len(found), -1) if found.truth is None else found.truth
    order = np.argsort(np.array(found.names))
    scored = Scored(
        [found.names[i] for i in order], truth[order], found.score[order], np.array(groups)[order], group_names
    )
    return Member(str(path), scored, found.threshold)
