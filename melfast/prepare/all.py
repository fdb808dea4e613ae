"""All: run the steps from an imported table to a manifest for training, decoding each image once.

The table and the files are the same as those of the single commands, run one after the other.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from melfast.data.manifest import Manifest, moved
from melfast.io.errors import InputError
from melfast.io.files import require_new
from melfast.io.journal import Journal
from melfast.prepare import check, dedup, ita, masks, resize
from melfast.prepare.settings import STEPS, PrepareConfig, StepName
from melfast.prepare.split import complete_split, lacks_validation, unused_identities
from melfast.prepare.sweep import Bad, Bar, Result, Step, SweepResult, no_bar, run_step

# Columns that a step fills; a table that already has one of them does not need the step.
FILLED: dict[str, tuple[str, ...]] = {
    "dedup": ("duplicate_group",),
    "masks": ("mask_path",),
    "ita": ita.FILLED,
    "split": ("split",),
}


@dataclass(frozen=True)
class Plan:
    """The steps to run on a table.

    Attributes:
        rows: the table, with paths relative to the output.
        steps: the steps to run, in order.
        notes: the steps to skip and why, one line each.
    """

    rows: Manifest
    config: PrepareConfig
    steps: tuple[StepName, ...]
    notes: list[str]

    @property
    def masks_folder(self) -> Path:
        beside = self.rows.path.with_name(f"masks-{self.config.mask_method}")
        return Path(self.config.masks_dir) if self.config.masks_dir else beside

    @property
    def copies_folder(self) -> Path:
        beside = self.rows.path.with_name(f"resized-{self.config.size}")
        return Path(self.config.copies_dir) if self.config.copies_dir else beside

    @property
    def folders(self) -> list[Path]:
        """The folders that files are written to."""
        each = {"masks": self.masks_folder, "resize": self.copies_folder}
        return [folder for name, folder in each.items() if name in self.steps]

    @property
    def tones(self) -> ita.ToneSettings:
        config = self.config
        return ita.ToneSettings(config.convention, config.tone_groups, config.fitzpatrick, config.min_quality)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that the results of an image depend on, for the journal."""
        names = ("mask_method", "convention", "size", "quality")
        steps = [name for name in self.steps if name != "split"]
        return {
            "steps": steps,
            "folders": [str(folder.absolute()) for folder in self.folders],
            **{name: value for name, value in asdict(self.config).items() if name in names},
        }

    def require_new_files(self) -> None:
        """Raises InputError if files would be replaced."""
        names = self.rows.image_names
        option = "masks_dir"
        try:
            if "masks" in self.steps:
                require_new(self.masks_folder / masks.mask_file(name) for name in names)
            option = "copies_dir"
            if "resize" in self.steps:
                require_new(file for name in names for file in resize.copy_files(self.copies_folder, name))
        except InputError as error:  # of another data set, perhaps
            raise InputError(f"{error}, `{option}=FOLDER` names another folder") from None


@dataclass(frozen=True)
class Prepared:
    """
    Attributes:
        manifest: the manifest to write.
        bad: images that were left out or, without the step `check`, have empty cells.
        resumed: number of images taken from the journal.
        summary: (step, what it did) to show.
        notes: notes for the user, one line each.
    """

    manifest: Manifest
    bad: list[Bad]
    resumed: int
    summary: list[tuple[str, str]]
    notes: list[str]


def plan_steps(
    rows: Manifest, output: Path, config: PrepareConfig, default: Collection[str] = STEPS, *, force: bool = False
) -> Plan:
    """Chooses the steps to run.

    Args:
        default: steps to run unless the config says otherwise.
        force: run steps even if the table already has their columns.
    Raises:
        InputError: the rows cannot be split.
    """
    chosen: list[StepName] = []
    notes = []
    for name in STEPS:
        wanted = getattr(config, name)
        if not (name in default if wanted is None else wanted):
            continue
        have = {column: int((rows.column(column) != "").sum()) for column in FILLED.get(name, ())}
        column, count = next(((column, count) for column, count in have.items() if count), ("", 0))
        if name == "split" and (rows.targets < 0).all():
            notes.append("split left out: no image is labelled")
        elif name == "split" and lacks_validation(rows) and not force:
            notes.append("split: the data set has no validation images; they are drawn from train")
            chosen.append(name)
        elif count and not force:
            notes.append(f"{name} left out: {count:,} of {len(rows):,} images have {column!r} already")
        else:
            chosen.append(name)
    if "split" in chosen:
        if force:
            rows = rows.with_columns(split=[""] * len(rows))
        complete_split(rows, config.fractions, config.seed)  # raises its errors before the work
    return Plan(moved(rows, output), config, tuple(chosen), notes)


def prepare(plan: Plan, *, threads: int = 1, journal: Journal | None = None, bar: Bar = no_bar) -> Prepared:
    """Runs the steps of a plan.

    Args:
        threads: number of images processed at the same time.
        journal: images that it contains are not read again.
        bar: as melfast.cli.progress.progress_bar, for each stage.
    Raises:
        InputError: a file cannot be written, or the remaining rows cannot be split.
    """
    rows = plan.rows
    steps = _steps(plan)
    every = Step(
        lambda row, picture: {name: step.work(row, picture) for name, step in steps.items()},
        lambda row, result: all(step.still_good(row, result[name]) for name, step in steps.items()),
    )
    swept = SweepResult([None] * len(rows), [])
    if steps:
        with bar("preparing", len(rows)) as advance:
            swept = run_step(rows, every, threads=threads, journal=journal, progress=advance)
    return _gather(plan, swept, lambda rows, found: dedup.find_duplicates(rows, found, threads=threads, bar=bar))


def _steps(plan: Plan) -> dict[str, Step]:
    """The steps for each image, in the order of STEPS, because a later one uses the mask of an earlier one."""
    config, rows = plan.config, plan.rows
    every = {
        "check": check.CHECK,
        "dedup": dedup.THUMBNAIL,
        "masks": masks.mask_step(rows, plan.masks_folder, config.mask_method),
        "ita": ita.tone_step(config.convention),
        "resize": resize.resize_step(
            rows, plan.copies_folder, config.size, config.quality, masked="masks" in plan.steps
        ),
    }
    return {name: every[name] for name in plan.steps if name in every}


def _gather(
    plan: Plan, swept: SweepResult, find_duplicates: Callable[[Manifest, SweepResult], dedup.Duplicates]
) -> Prepared:
    """Combines the results of all images into the table."""
    rows, results, config, steps = plan.rows, swept.results, plan.config, plan.steps
    summary: list[tuple[str, str]] = []
    notes = list(plan.notes)

    def of(name: str) -> SweepResult:
        return SweepResult([result and result[name] for result in results], swept.bad, swept.resumed)

    def keep(kept: Sequence[int]) -> None:
        nonlocal rows, results
        rows, results = rows.select(kept), [results[row] for row in kept]

    if "check" in steps:
        checked = check.checked_rows(rows, of("check"))
        keep([row for row, result in enumerate(results) if result is not None])
        rows = checked.good
        notes += check.manifest_remarks(rows, checked.profiles)
        summary.append(("check", f"{len(rows):,} images good, {len(swept.bad):,} bad"))
    if "dedup" in steps:
        rows = dedup.with_duplicates(rows, find_duplicates(rows, of("dedup")))
        notes += [f"targets differ in {line}" for line in dedup.contradictions(rows)]
        kinds = Counter(rows.column("duplicate_kind"))
        told = "; ".join(f"{kind} {kinds[kind]:,}" for kind in dedup.KINDS if kinds[kind])
        copies = [row for row, of_image in enumerate(rows.column("duplicate_of")) if of_image]
        done = "left out" if config.drop_copies else "marked"
        summary.append(("dedup", f"{len(copies):,} copies {done}" + (f": {told}" if told else "")))
        if config.drop_copies:
            for row in copies:
                _remove_files(results[row])
            keep([row for row, of_image in enumerate(rows.column("duplicate_of")) if not of_image])
    if "masks" in steps:
        rows = masks.with_masks(rows, of("masks"), config.mask_method)
        empty = int((rows.column("mask_area") == "0.0").sum())
        made = f"{sum(result is not None for result in results):,} {config.mask_method} masks in {plan.masks_folder}"
        summary.append(("masks", made + (f", {empty:,} of them empty" if empty else "")))
    if "ita" in steps:
        rows = ita.with_tones(rows, of("ita"), plan.tones)
        groups = Counter(rows.column("group_str"))
        names = [name for name in (*ita.TONE_GROUPS[config.tone_groups].names, "") if groups[name]]
        summary.append(("ita", ", ".join(f"{name or 'no group'} {groups[name]:,}" for name in names)))
    if "resize" in steps:
        rows = resize.with_resized(rows, of("resize"))
        num_bytes = sum(os.path.getsize(path) for path in rows.image_paths)
        summary.append(("resize", f"{len(rows):,} copies in {plan.copies_folder}, {num_bytes / 2**20:,.1f} MiB"))
    if "split" in steps:
        rows = complete_split(rows, config.fractions, config.seed)
        notes += [f"warning: {line}" for line in unused_identities(rows)]
        splits = Counter(rows.splits.tolist())
        told = ", ".join(f"{name} {splits[name]:,}" for name in ("train", "valid", "test") if splits[name])
        summary.append(("split", told + (f", none {splits['']:,}" if splits[""] else "")))
    return Prepared(rows, swept.bad, swept.resumed, summary, notes)


def _remove_files(result: Result | None) -> None:
    """Removes the files of an image that is left out after all."""
    for made in (result or {}).values():
        for name in ("path", "mask_path"):
            if made.get(name):
                Path(made[name]).unlink(missing_ok=True)
