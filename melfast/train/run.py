"""Start or resume a run: a folder with config, manifest, logs and checkpoints."""

import contextlib
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from melfast.config import loading as settings
from melfast.config.schema import Config
from melfast.data.feed import choose_loader, set_tf32, set_threads
from melfast.data.manifest import read_manifest
from melfast.distributed import World, launch_id, start_world, started_again
from melfast.io.errors import InputError
from melfast.io.files import atomic_path, own_folder
from melfast.io.log import Progress, logger, no_progress
from melfast.metrics.threshold import require_both_classes
from melfast.metrics.validation import require_metric, value_of
from melfast.models.checkpoint import State, find_checkpoint, has_checkpoint, load_state, read_record
from melfast.prepare.settings import PrepareConfig
from melfast.train.cells import count_cells
from melfast.train.data import MANIFEST, TrainingData, training_data, write_run_manifest
from melfast.train.epochs import require_steps
from melfast.train.learner import Learner, build_learner, new_record
from melfast.train.logging import Log, TextLog, open_log
from melfast.train.loop import Trainer
from melfast.train.preview import draw_preview
from melfast.train.stop import EXIT_CODE, watch_sigterm
from melfast.train.summary import draw_curves, read_log, summary_table
from melfast.train.trackers import require_tracker

CONFIG, SAMPLES, CURVES = "config.yaml", "samples.png", "curves.png"
COMMAND = "melfast train"  # as the folder's list of files says it
LAUNCH = "launch.txt"  # of torchrun's
SHOWN = 32  # images in samples.png
# With other values of these a checkpoint cannot be used.
FIXED = ("preprocess.", "model.", "train.batch_size", "train.seed", "optim.name", "optim.layer_decay")
# The manifest and weights of the run already contain the effect of these.
SETTLED = (
    "data.path",
    "data.kind",
    "data.images",
    "data.split",
    "data.split_seed",
    "data.fold",
    "data.allow_overlap",
    *(f"prepare.{key.name}" for key in fields(PrepareConfig)),
    "model.pretrained",
    "model.in_22k",
    "model.weights",
)
# These change where and how fast a run is computed, not its result.
FREE = (
    "output.dir",
    "data.threads",
    "train.threads",
    "train.device",
    "train.log_every",
    "train.checkpoint_minutes",
    "train.keep_last",
    "output.tracker",
)


def run_training(config: Config, sources: dict[str, str], *, resume: bool, progress: Progress = no_progress) -> None:
    """Trains into `config.output.dir`; under torchrun every process calls it.

    Processes that torchrun restarts after one has died (`--max-restarts`) resume from the last checkpoint
    of the run that they started, whatever `resume` is.

    Args:
        sources: where the user set the keys that are not defaults.
        resume: resume from the last checkpoint, if there is one.
        progress: called after each step, in the first process.
    Raises:
        SystemExit: 143, after SIGTERM, with a checkpoint written.
        InputError: the data, the config or the checkpoint cannot be used, or the folder contains a run
            and `resume` is False.
    """
    run = Path(config.output.dir)
    require_tracker(config.output.tracker)
    with start_world(config.train.device) as world, TextLog() as text, contextlib.ExitStack() as held:
        loader, why = choose_loader(config.data.loader, world.device.type)
        world.first_does(lambda: prepare_run(config, sources, run, resume, held, progress))
        logger.info(f"loader: {loader} ({why})")
        set_threads(config.train.threads, world)
        set_tf32(config.train.tf32)
        data = training_data(read_manifest(run / MANIFEST))
        steps = require_steps(config, data.train.rows, world)
        metric, valid = config.train.best_metric, data.valid
        require_metric(metric, valid.targets, valid.rows.groups)
        if config.train.threshold_rule == "equal_recall":
            note = require_both_classes(valid.targets, valid.rows.groups, data.group_names)
            if note:
                logger.info(note)
        cells = count_cells(config, data.train.rows, len(data.group_names))
        record = new_record(config, data, cells)
        begun = has_checkpoint(run)
        learner = build_learner(config, record, world, cells, restored=begun)
        state = State(config=settings.as_plain(config), data_digest=data.train.digest)
        if begun:
            state = resume_from(config, data, run, learner)
            record = record.learnt_by(read_record(find_checkpoint(run, "last")))
            logger.info(f"resuming from {state.name}, step {state.step:,}")
        world.first_does(lambda: write_config(config, run))
        with open_log(
            run,
            world,
            step=state.step,
            total=steps * config.train.epochs,
            tracker=config.output.tracker,
            config=settings.dotted(config),
            progress=progress,
        ) as log:
            if world.first:
                text.begin(run)
            logger.info(opening(config, data, learner, world))
            if world.first and not state.step:
                show_samples(config, run, log)
            with watch_sigterm() as stop, world.together():
                trainer = Trainer(config, data, run, world, record, learner, state, log)
                trainer.train(stop)
            if trainer.stopped and state.epoch < config.train.epochs:
                logger.info(
                    f"stopped by SIGTERM after step {state.step:,}; {find_checkpoint(run, 'last')} "
                    "holds it, and `resume=True` resumes"
                )
                sys.exit(EXIT_CODE)
            if world.first:
                sum_up(run, state, log)
            logger.info(closing(config, run, state))


def show_samples(config: Config, run: Path, log: Log) -> None:
    """Draws a sheet of the first images as the model will see them, like `melfast show`."""
    with contextlib.suppress(InputError):  # no image can be read, which training will report
        draw_preview(read_manifest(run / MANIFEST), config, run / SAMPLES, images=SHOWN)
        log.picture("samples", run / SAMPLES)


def sum_up(run: Path, state: State, log: Log) -> None:
    """Writes the curves and the table of a finished run."""
    train, valid = read_log(run)
    if not any(record["epoch"] == state.best["epoch"] for record in valid):
        logger.warning(f"{run / 'log.jsonl'} lacks the best epoch: no curves and no table")
        return
    draw_curves(train, valid, state.best["epoch"], run / CURVES)
    log.picture("curves", run / CURVES)
    logger.info(summary_table(valid, state.best["epoch"]))


def prepare_run(
    config: Config,
    sources: dict[str, str],
    run: Path,
    resume: bool,
    held: contextlib.ExitStack,
    progress: Progress = no_progress,
) -> None:
    """Creates the run folder with its manifest; a resumed run keeps its manifest.

    Args:
        held: keeps the folder locked for this process until it is closed.
    """
    own = held.enter_context(own_folder(run, COMMAND, known=has_checkpoint(run)))
    launch = run / LAUNCH
    if started_again() and launch.is_file() and launch.read_text("utf-8") == launch_id():
        resume = True
    if has_checkpoint(run) and not resume:
        raise InputError(f"{run}: holds a run already; `resume=True` resumes it, or choose another `output.dir`")
    if has_checkpoint(run):
        state = load_state(find_checkpoint(run, "last"))
        compare_configs(settings.dotted(config), state.config, run, set(sources))
    elif resume:
        logger.info(f"{run}: no checkpoint yet, training starts from the beginning")
    if not has_checkpoint(run):
        own.claim()
        write_run_manifest(config, run, set(sources), progress)
    if launch_id():
        with atomic_path(launch) as file:
            file.write_text(launch_id(), encoding="utf-8")


def write_config(config: Config, run: Path) -> None:
    """Writes the config, once it is known that the run will use it."""
    with atomic_path(run / CONFIG) as file:
        file.write_text(config.to_yaml(), encoding="utf-8")


def compare_configs(now: dict[str, Any], before: dict[str, dict[str, Any]], run: Path, set_by_user: set[str]) -> None:
    """Reports the keys that differ from those of the checkpoint.

    Raises:
        InputError: a key that must not change differs.
    """
    then = {f"{name}.{key}": v for name, section in before.items() for key, v in section.items()}
    differing = [key for key in now if key not in FREE and now[key] != then.get(key)]
    changes = {key: f"{key} {then.get(key)} -> {now[key]}" for key in differing}
    fixed_keys = [key for key in differing if key.startswith(FIXED) and key not in SETTLED]
    if fixed := [changes[key] for key in fixed_keys]:
        raise InputError(f"{run}: cannot resume with another {', another '.join(fixed)}")
    if changed := [changes[key] for key in differing if key not in SETTLED]:
        logger.warning(f"resuming with another config: {', '.join(changed)}")
    for key in differing:
        if key in SETTLED and key in set_by_user:
            own = MANIFEST if key.startswith(("data.", "prepare.")) else "weights"
            logger.warning(f"{changes[key]} is not used: the run has its own {own}")


def resume_from(config: Config, data: TrainingData, run: Path, learner: Learner) -> State:
    """Restores the learner and the state from the last checkpoint of the run."""
    folder = find_checkpoint(run, "last")
    state = load_state(folder)
    if state.data_digest != data.train.digest:
        raise InputError(f"{run / MANIFEST}: its training images are not those that {folder} was trained on")
    learner.restore(folder)
    state.config = settings.as_plain(config)
    return state


def opening(config: Config, data: TrainingData, learner: Learner, world: World) -> str:
    parameters = sum(p.numel() for p in learner.model.parameters())
    train, valid = data.train.class_counts, data.valid.class_counts
    return (
        f"{config.model.backbone}, {parameters / 1e6:.2f} M parameters, on {world.size} x "
        f"{world.device.type} in {config.train.precision}; "
        f"train {sum(train):,} images ({train[1]:,} malignant), "
        f"valid {sum(valid):,} ({valid[1]:,})"
    )


def closing(config: Config, run: Path, state: State) -> str:
    name = config.train.best_metric
    return (
        f"done: best epoch {state.best['epoch']} of {state.epoch} with valid {name} "
        f"{value_of(state.best, name):.4f}: {find_checkpoint(run, 'best')}"
    )
