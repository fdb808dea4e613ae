"""Checkpoints: folders of a run, each whole or not there at all.

RUN/checkpoints/index.json          {"last": "epoch-012", "best": "epoch-009", "kept": [...]}
RUN/checkpoints/epoch-012/          model.safetensors  weights
                                    record.json        ModelRecord
                                    state.json         place in the run, config, digest of the data
                                    training.pt        optimizer and scaler
"""

import io
import json
import os
import pickle
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch

from melfast.io.errors import InputError
from melfast.io.files import atomic_path, sync
from melfast.io.words import check_words
from melfast.models.classifier import build_classifier
from melfast.models.record import ModelRecord

WEIGHTS, RECORD, STATE, TRAINING = "model.safetensors", "record.json", "state.json", "training.pt"
FORMAT = 1


@dataclass
class State:
    """Where a run is, and what it must find again to go on.

    Attributes:
        epoch: epochs done.
        step: optimizer steps done in all.
        step_in_epoch: of these, in the epoch begun; 0 between epochs.
        best: the best epoch's metrics, `epoch` among them; empty before the first.
        config: the run's config as plain dicts.
        data_digest: of names and targets of the training images, in order.
    """

    epoch: int = 0
    step: int = 0
    step_in_epoch: int = 0
    best: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    data_digest: str = ""

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
    """Writes RUN/checkpoints/NAME and then points `last`, and `best` if it is, to it.

    Killed at any moment, the index names whole checkpoints. Those it no longer names are removed:
    all but the best and the `keep_last` newest.

    Raises:
        InputError: it cannot be written; the checkpoints before it are as they were.
    """
    folder = run / "checkpoints"
    index = _read_index(run)
    kept = _named(index)
    target, temporary = folder / state.name, folder / f".{state.name}.tmp"
    assert target.name not in kept, f"{target} is there already"
    # Everything is bytes before anything is written: torch and safetensors report a full disk each
    # in its own way, Python's write does so as an OSError.
    buffer = io.BytesIO()
    torch.save(dict(training), buffer)
    tensors = {name: t.detach().cpu().contiguous() for name, t in weights.items()}
    files = {
        WEIGHTS: safetensors.torch.save(tensors),
        RECORD: record.to_json().encode(),
        STATE: json.dumps({"format": FORMAT, **vars(state)}, indent=2).encode(),
        TRAINING: buffer.getvalue(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_others(folder, kept)  # what an interrupted write left
        temporary.mkdir()
        for name, content in files.items():
            (temporary / name).write_bytes(content)
            sync(temporary / name)
        sync(temporary)
        os.rename(temporary, target)
        sync(folder)
        newest = [*index.get("kept", []), target.name][-keep_last:]
        index |= {"last": target.name, "kept": newest} | ({"best": target.name} if best else {})
        with atomic_path(folder / "index.json") as file:
            file.write_text(json.dumps(index, indent=2))
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise InputError(
            f"{target}: checkpoint cannot be written: {error.strerror or error}; "
            f"the last whole one is {index.get('last', 'none')}"
        ) from error
    _remove_others(folder, _named(index))
    return target


def _named(index: dict[str, Any]) -> set[str | None]:
    return {index.get("last"), index.get("best"), *index.get("kept", [])}


def has_checkpoint(run: Path) -> bool:
    return "last" in _read_index(run)


@check_words
def find_checkpoint(run_or_file: Path, which: Literal["last", "best"] = "best") -> Path:
    """The checkpoint folder of a run, of a checkpoint or of a file in one.

    A run without a best checkpoint yet has its last one.

    Raises:
        InputError: there is none.
    """
    path = run_or_file
    if not path.exists():
        raise InputError(f"{path}: no such run, checkpoint folder or {WEIGHTS}")
    if path.is_file():
        path = path.parent
    if (path / WEIGHTS).is_file():
        return path
    index = _read_index(path)
    name = index.get(which) or index.get("last")
    if name is None:
        raise InputError(
            f"{path}: no checkpoint here; wanted a run folder with checkpoints/index.json, "
            f"or a folder with {WEIGHTS} and {RECORD}"
        )
    return path / "checkpoints" / name


def load_model(run_or_file: Path) -> tuple[torch.nn.Module, ModelRecord]:
    """The best model of a run, or the one of a checkpoint, in eval mode on the CPU.

    Raises:
        InputError: no checkpoint there, a broken file, or the weights of another model.
    """
    folder = find_checkpoint(run_or_file)
    record = read_record(folder)
    model = build_classifier(record)
    load_weights(model, folder / WEIGHTS)
    return model.eval(), record


def read_record(folder: Path) -> ModelRecord:
    """The record of a checkpoint; InputError where it is broken."""
    return ModelRecord.from_json(_read_text(folder / RECORD), str(folder / RECORD))


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Fills a model with the tensors of a safetensors file, which must fit it exactly."""
    try:
        found = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: not a whole safetensors file: {error}") from None
    wanted = model.state_dict()
    problems = [
        _listed("missing", [name for name in wanted if name not in found]),
        _listed("unexpected", [name for name in found if name not in wanted]),
        _listed(
            "another shape",
            [
                f"{name} {list(found[name].shape)}, wanted {list(tensor.shape)}"
                for name, tensor in wanted.items()
                if name in found and found[name].shape != tensor.shape
            ],
        ),
    ]
    if any(problems):
        raise InputError(f"{path}: weights of another model: {'; '.join(filter(None, problems))}")
    model.load_state_dict(found)


def load_state(folder: Path) -> State:
    """The state of a checkpoint; InputError for anything `save_checkpoint` did not write."""
    path = folder / STATE
    try:
        values = json.loads(_read_text(path))
        if values.pop("format") != FORMAT:
            raise InputError(f"{path}: written by another melfast; wanted format {FORMAT}")
        return State(**values)
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not the state of a melfast run ({error!r})") from None


def load_training(folder: Path, wanted: Sequence[str] = ()) -> dict[str, Any]:
    """What the optimizer and its helpers need to go on; on the CPU.

    Raises:
        InputError: it cannot be read, or lacks something `wanted`.
    """
    path = folder / TRAINING
    try:
        training: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
        # torch's own words are long and advise to switch its guard off.
        raise InputError(f"{path}: broken, or not written by 'melfast train'") from None
    if missing := [name for name in wanted if name not in training]:
        raise InputError(f"{path}: written by an older melfast: it lacks {', '.join(missing)}; begin again")
    return training


def _read_index(run: Path) -> dict[str, Any]:
    path = run / "checkpoints" / "index.json"
    if not path.is_file():
        return {}
    try:
        index: dict[str, Any] = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON: {error}") from None
    return index


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def _remove_others(folder: Path, kept: set[str | None]) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name not in kept:
            shutil.rmtree(entry)


def _listed(what: str, names: list[str]) -> str:
    if not names:
        return ""
    return f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
