"""Checkpoints: folders of a run, written atomically.

RUN/checkpoints/index.json          {"last": "epoch-012", "best": "epoch-009", "kept": [...], "old": [...]}
RUN/checkpoints/epoch-012/          model.safetensors  weights
                                    record.json        ModelRecord
                                    state.json         place in the run, config, digest of the data
                                    training.pt        optimizer and scaler
"""

import io
import json
import pickle
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import safetensors
import safetensors.torch
import torch
from pydantic import AfterValidator

from melfast.io.errors import InputError
from melfast.io.files import atomic_folder, write_json
from melfast.io.schema import checked, read_json, refused
from melfast.io.words import check_words
from melfast.models.classifier import build_classifier
from melfast.models.record import Count, ModelRecord

WEIGHTS, RECORD, STATE, TRAINING = "model.safetensors", "record.json", "state.json", "training.pt"
INDEX = "index.json"


def _name(text: str) -> str:
    if not re.fullmatch(r"epoch-[0-9]{3,9}(-step-[0-9]{6,9})?", text):  # as made by State.name: never a path
        raise refused("the name of a checkpoint, as epoch-007", text)
    return text


CheckpointName = Annotated[str, AfterValidator(_name)]


@checked()
class Index:
    """The valid checkpoints of a run, and `old`: those that are being written or removed."""

    last: CheckpointName | None = None
    best: CheckpointName | None = None
    kept: tuple[CheckpointName, ...] = ()
    old: tuple[CheckpointName, ...] = ()

    @property
    def names(self) -> set[str]:
        return set(filter(None, (self.last, self.best, *self.kept)))


def _metric(value: Any) -> Any:
    if type(value) not in (int, float):  # may contain NaN, for a group without images
        raise refused("a number", value)
    return value


@checked(frozen=False)
class State:
    """The progress of a run, and what must be the same when it resumes.

    Attributes:
        epoch: epochs done.
        step: total optimizer steps done.
        step_in_epoch: steps done in the current epoch; 0 between epochs.
        best: metrics of the best epoch, including `epoch`; empty before the first.
        config: the run's config as plain dicts.
        data_digest: hash of the names and targets of the training images, in order.
    """

    epoch: Count = 0
    step: Count = 0
    step_in_epoch: Count = 0
    best: dict[str, Annotated[Any, AfterValidator(_metric)]] = field(default_factory=dict)
    config: dict[str, dict[str, Any]] = field(default_factory=dict)
    data_digest: str = ""
    format: Literal[1] = 1

    def __post_init__(self) -> None:
        if self.best and not isinstance(self.best.get("epoch"), int):
            raise refused("metrics with their epoch", self.best, "best")

    @property
    def name(self) -> str:
        inside = f"-step-{self.step_in_epoch:06d}" if self.step_in_epoch else ""
        return f"epoch-{self.epoch:03d}{inside}"


def save_checkpoint(
    run: Path,
    weights: Mapping[str, torch.Tensor],
    record: ModelRecord,
    state: State,
    training: Mapping[str, Any],
    *,
    best: bool,
    keep_last: int = 1,
) -> Path:
    """Writes RUN/checkpoints/NAME, then points `last` to it, and `best` if it is the best.

    The index lists only complete checkpoints, even if the process is killed. Checkpoints other than the
    best and the `keep_last` newest are removed. Folders that were never listed are not touched.

    Raises:
        InputError: it cannot be written; the earlier checkpoints are unchanged.
    """
    folder = run / "checkpoints"
    index = _read_index(run)
    before = index.names
    target = folder / state.name
    assert target.name not in before, f"{target} already exists"
    # Serialise everything before writing: torch and safetensors report a full disk each
    # in their own way, Python's write as an OSError.
    buffer = io.BytesIO()
    torch.save(dict(training), buffer)
    tensors = {name: t.detach().cpu().contiguous() for name, t in weights.items()}
    files = {
        WEIGHTS: safetensors.torch.save(tensors),
        RECORD: record.to_json().encode(),
        STATE: json.dumps(asdict(state), indent=2).encode(),
        TRAINING: buffer.getvalue(),
    }
    try:
        _remove(folder, set(index.old) - before)  # of an interrupted write
        if target.exists():
            raise InputError(f"{target}: already exists and 'melfast train' did not write it; move it")
        # Listed before it exists: anything unlisted in the folder belongs to the user.
        write_json(folder / INDEX, asdict(replace(index, old=(target.name,))))
        try:
            with atomic_folder(target) as temporary:
                for name, content in files.items():
                    (temporary / name).write_bytes(content)
        except InputError:  # nothing was left, so a later folder of this name is the user's
            with suppress(InputError):
                write_json(folder / INDEX, asdict(replace(index, old=())))
            raise
        newest = (*index.kept, target.name)[-keep_last:]
        now = Index(target.name, target.name if best else index.best, newest)
        now = replace(now, old=tuple(sorted(before - now.names)))
        write_json(folder / INDEX, asdict(now))
        _remove(folder, now.old)
    except InputError as error:
        raise InputError(f"{error}; the last complete checkpoint is {_read_index(run).last or 'none'}") from error
    return target


def has_checkpoint(run: Path) -> bool:
    return _read_index(run).last is not None


@check_words
def find_checkpoint(run_or_file: str | Path, which: Literal["last", "best"] = "best") -> Path:
    """Finds the checkpoint folder for a run, a checkpoint or a file in one.

    For a run it is the best checkpoint, or the last one if there is no best one yet.

    Raises:
        InputError: there is none.
    """
    path = Path(run_or_file)
    if not path.exists():
        raise InputError(f"{path}: no such run, checkpoint folder or {WEIGHTS}")
    if path.is_file():
        path = path.parent
    if (path / WEIGHTS).is_file():
        return path
    index = _read_index(path)
    name = getattr(index, which) or index.last
    if name is None:
        raise InputError(
            f"{path}: no checkpoint here; expected a run folder with checkpoints/index.json, "
            f"or a folder with {WEIGHTS} and {RECORD}"
        )
    return path / "checkpoints" / name


def load_model(run_or_file: str | Path) -> torch.nn.Module:
    """The network of a run: normalised images [B, 3, H, W] to logits [B, K], in eval mode on the CPU.

    Its attribute `record`, a ModelRecord, describes the input (`record.preprocess`, for MelanomaDataset)
    and how logits become P(malignant) (`melfast.models.decode`).

    Args:
        run_or_file: a run (its best checkpoint), a checkpoint folder or a file in one.
    Raises:
        InputError: as load_checkpoint.
    """
    model, record = load_checkpoint(run_or_file)
    model.record = record  # type: ignore[assignment]
    return model


def load_checkpoint(run_or_file: str | Path) -> tuple[torch.nn.Module, ModelRecord]:
    """The best model of a run, or the one of a checkpoint, in eval mode on the CPU.

    Raises:
        InputError: no checkpoint, a broken file, or the weights of another model.
    """
    folder = find_checkpoint(run_or_file)
    record = read_record(folder)
    model = build_classifier(record)
    load_weights(model, folder / WEIGHTS)
    return model.eval(), record


def read_record(folder: Path) -> ModelRecord:
    """The record of a checkpoint; raises InputError if it is broken."""
    return read_json(ModelRecord, folder / RECORD)


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Fills a model with the tensors of a safetensors file, which must fit it exactly."""
    try:
        found = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: not a complete safetensors file: {error}") from None
    wanted = model.state_dict()
    problems = [
        _listed("missing", [name for name in wanted if name not in found]),
        _listed("unexpected", [name for name in found if name not in wanted]),
        _listed(
            "another shape",
            [
                f"{name} {list(found[name].shape)}, expected {list(tensor.shape)}"
                for name, tensor in wanted.items()
                if name in found and found[name].shape != tensor.shape
            ],
        ),
    ]
    if any(problems):
        raise InputError(f"{path}: weights of another model: {'; '.join(filter(None, problems))}")
    model.load_state_dict(found)


def load_state(folder: Path) -> State:
    """The state of a checkpoint; raises InputError for anything that `save_checkpoint` did not write."""
    return read_json(State, folder / STATE)


def load_training(folder: Path, wanted: Sequence[str] = ()) -> dict[str, Any]:
    """The state of the optimizer and its helpers for resuming; on the CPU.

    Raises:
        InputError: it cannot be read, or lacks something `wanted`.
    """
    path = folder / TRAINING
    try:
        training: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
        # The message of torch is long and suggests disabling its safeguard.
        raise InputError(f"{path}: broken, or not written by 'melfast train'") from None
    if missing := [name for name in wanted if name not in training]:
        raise InputError(f"{path}: written by an older melfast: it lacks {', '.join(missing)}; start a new run")
    return training


def _read_index(run: Path) -> Index:
    path = run / "checkpoints" / INDEX
    return read_json(Index, path) if path.exists() else Index()


def _remove(folder: Path, names: Iterable[str]) -> None:
    """Removes checkpoints that the index listed."""
    for name in names:
        if (folder / name).is_dir() and not (folder / name).is_symlink():
            shutil.rmtree(folder / name)


def _listed(what: str, names: list[str]) -> str:
    if not names:
        return ""
    return f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
