"""Untrusted records: anything that names a file or a host, is out of bounds or not a model is refused in one line."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from melfast.data.preprocess import Preprocess
from melfast.io.errors import InputError
from melfast.models.checkpoint import find_checkpoint, load_state, read_record
from melfast.models.classifier import build_classifier
from melfast.models.record import OPTIONS, ModelRecord

RECORD = ModelRecord("resnet10t", Preprocess(24, 32), {"channels": [4, 4, 8, 8], "stem_width": 4}, threshold=0.3)
GROUPS = {"groups": ["light", "dark"], "priors": [[0.5, 0.1], [0.3, 0.1]], "head": "domain_independent"}


def changed(changes: dict[str, Any]) -> str:
    document = json.loads(RECORD.to_json())
    for key, value in changes.items():
        *outer, last = key.split(".")
        inner = document
        for name in outer:
            inner = inner[name]
        inner[last] = value
    return json.dumps(document)


ARCHITECTURE = "backbone must be the name of an architecture, as convnext_tiny or convnext_tiny.fb_in22k, got "
SHAPING = "must be left out: a model's options may only shape its network, got "
PLAIN = "must be numbers up to 8,192 or plain words, got "


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0}, "temperature must be >= 0.01, got 0"),
        ({"temperature": -1}, "temperature must be >= 0.01, got -1"),
        ({"temperature": float("inf")}, "temperature must be a finite number, got inf"),
        ({"temperature": True}, "temperature must be a number, got true"),
        (
            {"temperature": 2, "isotonic": [[0, 0], [1, 1]]},
            "temperature must be 1 with an isotonic calibration, got 2.0",
        ),
        ({"offset": 30}, "offset must be <= 20, got 30"),
        ({"offset": -1, "isotonic": [[0, 0], [1, 1]]}, "offset must be 0 with an isotonic calibration, got -1.0"),
        ({"threshold": float("nan")}, "threshold must be a finite number, got nan"),
        ({"threshold": 1e9}, "threshold must be <= 1, got 1000000000.0"),
        ({"threshold": "0.5"}, "threshold must be a number, got '0.5'"),
        ({"group_thresholds": [0.5]}, "group_thresholds must be 0 thresholds, one per group, got [0.5]"),
        ({"isotonic": [[0, 0, 1]]}, "isotonic.0 must be a list of at most 2, got [0, 0, 1]"),
        (
            {"isotonic": [0, 0, 1]},
            "isotonic.0 must be a list, got 0; isotonic.1 must be a list, got 0; isotonic.2 must be a list, got 1",
        ),
        ({"isotonic": [[0, 0], [1, 2]]}, "isotonic.1.1 must be <= 1, got 2"),
        ({"isotonic": [[0, 1], [1, 0]]}, "isotonic must be rising in both numbers, got [(0.0, 1.0), (1.0, 0.0)]"),
        ({"preprocess.height": 100000}, "preprocess.height must be <= 4096, got 100000"),
        ({"preprocess.width": 0}, "preprocess.width must be >= 1, got 0"),
        ({"preprocess.width": 32.0}, "preprocess.width must be a whole number, got 32.0"),
        ({"preprocess.std": [1, float("nan"), 1]}, "preprocess.std.1 must be a finite number, got nan"),
        ({"preprocess.std": [1, 0, 1]}, "preprocess.std.1 must be >= 0.0001, got 0"),
        ({"preprocess.std": [1]}, "preprocess.std must be a list of at least 3, got [1]"),
        ({"preprocess.more": 1}, "preprocess.more: unknown key"),
        ({"preprocess": None}, "preprocess must be a mapping by name, got nothing"),
        ({"more": 1}, "more: unknown key"),
        ({"head": "sum"}, "head must be 'plain', 'domain_discriminative' or 'domain_independent', got 'sum'"),
        ({"classes": ["one"]}, "classes must be a list of at least 2, got ['one']"),
        ({"classes": ["a", "a"]}, "classes must be distinct names, got ['a', 'a']"),
        ({"classes": ["a", "b\x1b[2J"]}, "classes.1 must be printable text, got 'b\\x1b[2J'"),
        ({"threshold_rule": "f1\n# Title"}, "threshold_rule must be printable text, got 'f1\\n# Title'"),
        ({"head": "domain_independent"}, "groups must be names of tone groups for head domain_independent, got []"),
        (
            GROUPS | {"priors": [[0.5, 0.5]]},
            "priors must be 2 rows of 2 shares, a group and a class each, got ((0.5, 0.5),)",
        ),
        (GROUPS | {"priors": [[-1, 1], [0, 0]]}, "priors.0.0 must be >= 0, got -1"),
        (
            GROUPS | {"priors": [[0, 1], [1, 0]]},
            "priors must be such that head domain_independent could learn every class, got ((0.0, 1.0), (1.0, 0.0))",
        ),
        ({"training.versions": "1"}, "training.versions must be a mapping by name, got '1'"),
        ({"training.more": 1}, "training.more: unknown key"),
        ({"melfast_format": 2}, "melfast_format must be 1, got 2"),
        # Names that timm would interpret as a file, a host or a folder.
        ({"backbone": "hf-hub:someone/model"}, ARCHITECTURE + "'hf-hub:someone/model'"),
        ({"backbone": "hf_hub:someone/model"}, ARCHITECTURE + "'hf_hub:someone/model'"),
        ({"backbone": "local-dir:/tmp/model"}, ARCHITECTURE + "'local-dir:/tmp/model'"),
        ({"backbone": "../model"}, ARCHITECTURE + "'../model'"),
        ({"backbone": "resnet10t\n"}, ARCHITECTURE + "'resnet10t\\n'"),
        ({"backbone_options": {"checkpoint_path": "x.pth"}}, f"backbone_options.checkpoint_path {SHAPING}'x.pth'"),
        ({"backbone_options": {"pretrained": True}}, f"backbone_options.pretrained {SHAPING}true"),
        (
            {"backbone_options": {"pretrained_cfg": {"url": "https://example.org/x"}}},
            f"backbone_options.pretrained_cfg {SHAPING}{{'url': 'https://example.org/x'}}",
        ),
        (
            {"backbone_options": {"chanels": 3}},
            "backbone_options.chanels must be left out: a model's options may only shape its network "
            "(did you mean 'channels'?), got 3",
        ),
        ({"backbone_options": {"act_layer": "/tmp/x"}}, f"backbone_options.act_layer {PLAIN}'/tmp/x'"),
        ({"backbone_options": {"depth": 10**9}}, f"backbone_options.depth {PLAIN}1000000000"),
        ({"backbone_options": {"channels": [[1], [2]]}}, f"backbone_options.channels {PLAIN}[[1], [2]]"),
    ],
)
def test_hostile(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        ModelRecord.from_json(changed(changes), "r.json")
    assert str(caught.value) == f"r.json: {message}"


@pytest.mark.parametrize("changes", [{}, GROUPS, {"isotonic": [[0, 0.1], [0, 0.2], [1, 1]]}, {"temperature": 2}])
def test_whole(changes: dict[str, Any]) -> None:
    record = ModelRecord.from_json(changed(changes), "r.json")
    assert ModelRecord.from_json(record.to_json(), "r.json") == record
    build_classifier(record)


def test_no_option_loads_anything() -> None:
    """timm's own parameters that name files, hosts or weights."""
    assert not OPTIONS & {
        "cache_dir",
        "checkpoint_path",
        "features_only",
        "file",
        "hf_hub_id",
        "in_chans",
        "num_classes",
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "pretrained_strict",
        "url",
    }


def test_nested_too_deep() -> None:
    with pytest.raises(InputError, match=r"^r.json: not JSON: recursion limit exceeded"):
        ModelRecord.from_json("[" * 100_000, "r.json")


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"last": "../../elsewhere"}, "last must be the name of a checkpoint, as epoch-007, got '../../elsewhere'"),
        ({"last": "/etc"}, "last must be the name of a checkpoint, as epoch-007, got '/etc'"),
        ({"best": 3}, "best must be text, got 3"),
        ({"kept": "epoch-001"}, "kept must be a list, got 'epoch-001'"),
        ([], "must be a mapping by name, got []"),
        ({"more": 1}, "more: unknown key"),
    ],
)
def test_hostile_index(tmp_path: Path, index: object, message: str) -> None:
    path = tmp_path / "checkpoints" / "index.json"
    path.parent.mkdir()
    path.write_text(json.dumps(index))
    with pytest.raises(InputError) as caught:
        find_checkpoint(tmp_path)
    assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"epoch": -1}, "epoch must be >= 0, got -1"),
        ({"best": {"auc": 1}}, "best must be metrics with their epoch, got {'auc': 1}"),
        ({"best": {"epoch": 1, "auc": "high"}}, "best.auc must be a number, got 'high'"),
        ({"config": {"optim": 3}}, "config.optim must be a mapping by name, got 3"),
        ({"format": 2}, "format must be 1, got 2"),
    ],
)
def test_hostile_state(tmp_path: Path, state: dict[str, object], message: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(json.dumps(state))
    with pytest.raises(InputError) as caught:
        load_state(tmp_path)
    assert str(caught.value) == f"{path}: {message}"


def test_files_that_are_no_files(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    os.mkfifo(path)
    with pytest.raises(
        InputError, match=r"record.json: must be a JSON file of at most 64 MiB, got a folder, pipe or dev"
    ):
        read_record(tmp_path)
    path.unlink()
    path.touch()
    os.truncate(path, 2**40)
    with pytest.raises(
        InputError, match=r"record.json: must be a JSON file of at most 64 MiB, got 1,099,511,627,776 byt"
    ):
        read_record(tmp_path)
    path.write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"record.json: is not UTF-8 text: invalid start byte at byte 0$"):
        read_record(tmp_path)
