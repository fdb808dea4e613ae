"""Checkpoints: round trip, interrupted writes, and refusals."""

import errno
import json
import os
import pkgutil
import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from melfast.data.preprocess import Preprocess
from melfast.io import files
from melfast.io.errors import InputError
from melfast.models import checkpoint
from melfast.models.checkpoint import (
    State,
    find_checkpoint,
    has_checkpoint,
    load_checkpoint,
    load_state,
    load_training,
    save_checkpoint,
)
from melfast.models.classifier import build_classifier
from melfast.models.record import ModelRecord

RECORD = ModelRecord("resnet10t", Preprocess(24, 32), {"channels": [4, 4, 8, 8], "stem_width": 4}, threshold=0.3)
FILES = ["model.safetensors", "record.json", "state.json", "training.pt"]


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_classifier(RECORD)


def save(run: Path, model: torch.nn.Module, epoch: int, best: bool = True) -> Path:
    state = State(epoch=epoch, step=10 * epoch, best={"epoch": epoch, "auc": 0.5}, config={"a": {"b": 1}})
    return save_checkpoint(run, model.state_dict(), RECORD, state, {"optimizer": {"lr": 0.5}}, best=best)


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_round_trip(tmp_path: Path, model: torch.nn.Module) -> None:
    folder = save(tmp_path, model, 1)
    assert sorted(path.name for path in folder.iterdir()) == FILES
    loaded, record = load_checkpoint(tmp_path)
    assert record == RECORD
    assert not loaded.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert load_state(folder).best == {"epoch": 1, "auc": 0.5}
    assert load_state(folder).config == {"a": {"b": 1}}
    assert load_training(folder) == {"optimizer": {"lr": 0.5}}


def test_channels_last_weights(tmp_path: Path, model: torch.nn.Module) -> None:
    image = torch.rand(2, 3, 24, 32)
    expected = model.eval()(image)
    save(tmp_path, model.to(memory_format=torch.channels_last), 1)
    torch.testing.assert_close(load_checkpoint(tmp_path)[0](image), expected)


def test_last_and_best_stay_and_the_others_go(tmp_path: Path, model: torch.nn.Module) -> None:
    for epoch, best in ((1, True), (2, True), (3, False), (4, False)):
        save(tmp_path, model, epoch, best)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"epoch-002", "epoch-004", "index.json"}
    assert find_checkpoint(tmp_path).name == "epoch-002"
    assert find_checkpoint(tmp_path, "last").name == "epoch-004"


def test_so_many_of_the_newest_stay(tmp_path: Path, model: torch.nn.Module) -> None:
    for epoch in range(1, 6):
        state = State(epoch=epoch, step=epoch)
        save_checkpoint(tmp_path, model.state_dict(), RECORD, state, {}, best=epoch == 1, keep_last=3)
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"epoch-001", "epoch-003", "epoch-004", "epoch-005", "index.json"}
    save(tmp_path, model, 6, best=False)  # keeps one
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"epoch-001", "epoch-006", "index.json"}


def test_training_state_of_an_older_melfast(tmp_path: Path, model: torch.nn.Module) -> None:
    folder = save(tmp_path, model, 1)
    with pytest.raises(InputError) as caught:
        load_training(folder, ["optimizer", "scaler", "criterion"])
    assert str(caught.value) == (
        f"{folder}/training.pt: written by an older melfast: it lacks scaler, criterion; start a new run"
    )


def test_names() -> None:
    assert State(epoch=3).name == "epoch-003"
    assert State(epoch=3, step_in_epoch=17).name == "epoch-003-step-000017"


def test_what_can_be_named(tmp_path: Path, model: torch.nn.Module) -> None:
    folder = save(tmp_path, model, 1, best=False)
    for path in (tmp_path, folder, folder / "model.safetensors", folder / "record.json"):
        assert find_checkpoint(path) == folder  # no best yet: the last
    assert has_checkpoint(tmp_path)
    assert not has_checkpoint(tmp_path / "elsewhere")


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch, after: int) -> Iterator[None]:
    """Allows `after` files to be written, then reports a full disk."""
    write, count = Path.write_bytes, 0

    def write_bytes(path: Path, content: bytes) -> int:
        nonlocal count
        if count == after:
            write(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        count += 1
        return write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write_bytes)
        yield


@pytest.mark.parametrize("after", range(4))
def test_full_disk_leaves_the_last_checkpoint(
    tmp_path: Path, model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    save(tmp_path, model, 1)
    before = tree(tmp_path)
    with full_disk(monkeypatch, after), pytest.raises(InputError) as caught:
        save(tmp_path, model, 2)
    assert str(caught.value) == (
        f"{tmp_path}/checkpoints/epoch-002: cannot be written: "
        "No space left on device; the last complete checkpoint is epoch-001"
    )
    assert tree(tmp_path) == before
    index = json.loads((tmp_path / "checkpoints" / "index.json").read_text())
    assert index["old"] == []  # a folder epoch-002 from now on is the user's
    load_checkpoint(tmp_path)
    save(tmp_path, model, 2)  # and there is room again
    assert find_checkpoint(tmp_path).name == "epoch-002"


def test_file_size_limit(tmp_path: Path, model: torch.nn.Module) -> None:
    """The operating system's own refusal, in the middle of a file."""
    save(tmp_path, model, 1)
    before = tree(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(InputError, match="cannot be written: File too large"):
            save(tmp_path, model, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert tree(tmp_path) == before
    load_checkpoint(tmp_path)


class Killed(BaseException):
    """Simulates SIGKILL, after which nothing can be cleaned up."""


@pytest.mark.parametrize(
    ("name", "number"),
    [
        *(("os.replace", number) for number in (1, 2, 3)),  # the index, the checkpoint, the index
        *(("pathlib.Path.write_bytes", number) for number in (1, 4)),
        *(("melfast.io.files.sync", number) for number in (1, 3, 5, 8, 9)),
        ("shutil.rmtree", 1),
    ],
)
def test_killed_at_any_moment(
    tmp_path: Path, model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    save(tmp_path, model, 1)
    kept, calls, dead = tmp_path / "checkpoints" / "epoch-001-paper", 0, False
    shutil.copytree(tmp_path / "checkpoints" / "epoch-001", kept)
    original = pkgutil.resolve_name(name)

    def kill(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls, dead
        calls += 1
        dead = dead or calls == number
        if dead:
            raise Killed
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(name, kill)
        patch.setattr("melfast.io.files.remove_leftover", lambda path: None)
        with pytest.raises(Killed):
            save(tmp_path, model, 2)
    assert dead
    done = find_checkpoint(tmp_path).name
    assert done == "epoch-002" if name == "shutil.rmtree" else done in ("epoch-001", "epoch-002")
    load_checkpoint(tmp_path)
    files._tidied.clear()
    for path in (tmp_path / "checkpoints").glob(".melfast-*.tmp"):
        os.utime(path, (0, 0))
    save(tmp_path, model, 3)
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"epoch-003", "epoch-001-paper", "index.json"}  # what was left behind is gone
    load_checkpoint(kept)


def test_what_the_index_never_named_stays(tmp_path: Path, model: torch.nn.Module) -> None:
    mine = ["sam_vit_h", "epoch-001-paper", "epoch-000", "epoch-002-step-1"]
    for name in mine:
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
        (tmp_path / "checkpoints" / name / "file").write_text("mine")
    for epoch in (1, 2, 3):
        save(tmp_path, model, epoch)
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {*mine, "epoch-003", "index.json"}
    assert all((tmp_path / "checkpoints" / name / "file").read_text() == "mine" for name in mine)


def test_a_folder_of_the_users_in_the_way_of_a_checkpoint(tmp_path: Path, model: torch.nn.Module) -> None:
    save(tmp_path, model, 1)
    mine = tmp_path / "checkpoints" / "epoch-002"
    mine.mkdir()
    (mine / "file").write_text("mine")
    with pytest.raises(InputError) as caught:
        save(tmp_path, model, 2)
    assert str(caught.value) == (
        f"{mine}: already exists and 'melfast train' did not write it; move it; "
        "the last complete checkpoint is epoch-001"
    )
    save(tmp_path, model, 3)
    assert (mine / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["../elsewhere", "sam_vit_h", "epoch-1", "/elsewhere", "epoch-001/.."])
def test_an_index_names_nothing_but_checkpoints(tmp_path: Path, model: torch.nn.Module, name: str) -> None:
    save(tmp_path, model, 1)
    place = tmp_path / "checkpoints" / name
    if not name.startswith("/"):
        place.mkdir(exist_ok=True)
    index = tmp_path / "checkpoints" / "index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"old": [name]}))
    with pytest.raises(InputError, match=r"index.json: old.* must be the name of a checkpoint, as epoch-007, got "):
        save(tmp_path, model, 2)
    assert place.exists() or name.startswith(("/", "epoch-001/"))


def test_no_permission(tmp_path: Path, model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path, *args: object, **kwargs: object) -> None:  # root may write anywhere
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(InputError) as caught:
        save(tmp_path, model, 1)
    assert str(caught.value) == (
        f"{tmp_path}/checkpoints/index.json: cannot be written: Permission denied; the last complete checkpoint is none"
    )


def test_folder_that_is_a_file(tmp_path: Path, model: torch.nn.Module) -> None:
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(InputError, match=r"checkpoints/index\.json: cannot be written: "):
        save(tmp_path, model, 1)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such run, checkpoint folder or model"):
        find_checkpoint(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no checkpoint here; expected a run folder with"):
        find_checkpoint(tmp_path)


def test_weights_of_another_model(tmp_path: Path, model: torch.nn.Module) -> None:
    folder = save(tmp_path, model, 1)
    other = RECORD.replace(backbone_options={"channels": [4, 4, 8, 16], "stem_width": 4})
    (folder / "record.json").write_text(other.to_json())
    with pytest.raises(InputError) as caught:
        load_checkpoint(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{folder}/model.safetensors: weights of another model: ")
    assert "another shape (" in message
    assert "fc.weight [2, 8], expected [2, 16]" in message or "layer4" in message

    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    tensors["extra"] = tensors.pop("fc.bias")
    safetensors.torch.save_file(tensors, folder / "model.safetensors")
    (folder / "record.json").write_text(RECORD.to_json())
    with pytest.raises(InputError, match=r"1 missing \(fc.bias\); 1 unexpected \(extra\)$"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("content", [b"", b"rubbish that is no safetensors file", None])
def test_broken_weights(tmp_path: Path, model: torch.nn.Module, content: bytes | None) -> None:
    path = save(tmp_path, model, 1) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-7] if content is None else content)
    with pytest.raises(InputError, match="not a complete safetensors file: "):
        load_checkpoint(tmp_path)


def test_broken_record_state_and_index(tmp_path: Path, model: torch.nn.Module) -> None:
    folder = save(tmp_path, model, 1)
    (folder / "training.pt").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(InputError, match=r"training.pt: broken, or not written by 'melfast train'$"):
        load_training(folder)
    (folder / "state.json").write_text('{"format": 1, "epocs": 3}')
    with pytest.raises(InputError, match=r"state.json: epocs: unknown key$"):
        load_state(folder)
    (folder / "state.json").write_text('{"format": 99}')
    with pytest.raises(InputError, match=r"state.json: format must be 1, got 99$"):
        load_state(folder)
    (folder / "record.json").write_text("{")
    with pytest.raises(InputError, match=r"record.json: not JSON: EOF"):
        load_checkpoint(tmp_path)
    (folder / "record.json").unlink()
    with pytest.raises(InputError, match=r"record.json: cannot be read: No such file"):
        load_checkpoint(tmp_path)
    (tmp_path / "checkpoints" / "index.json").write_text("{")
    with pytest.raises(InputError, match=r"index.json: not JSON"):
        find_checkpoint(tmp_path)


def test_files_run_no_code(tmp_path: Path, model: torch.nn.Module) -> None:
    folder = save(tmp_path, model, 1)
    torch.save({"optimizer": os.getcwd}, folder / "training.pt")
    with pytest.raises(InputError, match=r"training.pt: broken, or not written by 'melfast train'$"):
        load_training(folder)


def test_state_holds_no_more_than_json(tmp_path: Path, model: torch.nn.Module) -> None:
    state = json.loads((save(tmp_path, model, 2) / checkpoint.STATE).read_text())
    assert state["format"] == 1
    assert (state["epoch"], state["step"], state["step_in_epoch"]) == (2, 20, 0)
