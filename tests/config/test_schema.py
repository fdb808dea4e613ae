"""The config: precedence, types, and errors of one line that name the file, the key and the fix."""

import re
from pathlib import Path
from typing import Any

import pytest

from melfast.config import loading as settings
from melfast.config.loading import Override, parse_setting
from melfast.config.schema import Config, load_config
from melfast.io.errors import InputError

SECTIONS = "data, prepare, preprocess, augment, sampler, model, loss, optim, train, output"


def load(tmp_path: Path, text: str, *overrides: Override) -> Config:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, overrides)[0]


def test_defaults_without_a_file() -> None:
    config, sources = load_config(None)
    assert config == Config()
    assert sources == {}


def test_defaults_then_yaml_then_command_line(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("optim:\n  lr: 0.5\n  weight_decay: 0.25\n", encoding="utf-8")
    overrides = [Override("optim.lr", 0.125, "--set"), Override("optim.lr", 0.0625, "--lr")]
    config, sources = load_config(path, overrides)
    assert config.optim.lr == 0.0625
    assert config.optim.weight_decay == 0.25
    assert config.optim.clip_norm == Config().optim.clip_norm
    assert sources == {"optim.lr": "--lr", "optim.weight_decay": str(path)}


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("optim: {lr: 1e-4}", "optim.lr", 1e-4),  # text to YAML 1.1
        ("optim: {lr: 1}", "optim.lr", 1.0),
        ("optim.lr: 2.5", "optim.lr", 2.5),
        ("optim: {betas: [0.5, 1e-1]}", "optim.betas", [0.5, 0.1]),
        ("preprocess: {mean: null}", "preprocess.mean", None),
        ("preprocess: {mean: [1, 2, 3]}", "preprocess.mean", [1.0, 2.0, 3.0]),
        ("train: {compile: yes}", "train.compile", True),
        (
            "model: {backbone_options: {channels: [1, 2], drop_rate: 1e-3}}",
            "model.backbone_options",
            {"channels": [1, 2], "drop_rate": 1e-3},
        ),
        ("optim:\n", "optim.lr", 1e-3),  # a section with nothing in it
        ("", "optim.lr", 1e-3),
    ],
)
def test_values(tmp_path: Path, text: str, key: str, value: Any) -> None:
    config = load(tmp_path, text)
    found = settings.dotted(config)[key]
    assert found == value
    assert type(found) is type(value)
    assert load(tmp_path, config.to_yaml()) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim: {lrr: 1}", "optim.lrr: unknown key, did you mean 'optim.lr'?"),
        ("train: {lr: 1}", "train.lr: unknown key, did you mean 'optim.lr'?"),
        ("clip_norm: 1", "clip_norm: unknown key, did you mean 'optim.clip_norm'?"),
        ("train: {ephocs: 1}", "train.ephocs: unknown key, did you mean 'train.epochs'?"),
        ("qqqq: 1", f"qqqq: unknown key, the sections are {SECTIONS}"),
        ("train: {foo: 1}", f"train.foo: unknown key, the sections are {SECTIONS}"),
        ("optm: {lr: 1}", "optm: unknown key, did you mean 'optim'?"),
        (
            "model: {backbone_options: {checkpoint_path: x.pth}}",
            "model.backbone_options.checkpoint_path must be left out: a model's options may only shape its network, "
            "got 'x.pth'",
        ),
        (
            "model: {backbone: 'hf-hub:timm/resnet18'}",
            "model.backbone must be the name of an architecture, as convnext_tiny or convnext_tiny.fb_in22k, "
            "got 'hf-hub:timm/resnet18'",
        ),
        ("data: {fold: 6/5}", "data.fold must be K/N as 2/5, K from 1 to N and N >= 2, got '6/5'"),
        (
            "train: {threshold_rule: recall, threshold_value: 2}",
            "train.threshold_value must be <= 1 for rule recall, got 2.0",
        ),
        ("optim: {warmup: 5}", "optim.warmup must be < 1, a fraction of all steps, got 5.0"),
        ("optim: 3", "optim must be a mapping by name, got 3"),
        ("optim: {lr: fast}", "optim.lr must be a number, got 'fast'"),
        ("optim: {lr: .nan}", "optim.lr must be a finite number, got nan"),
        ("optim: {lr: true}", "optim.lr must be a number, got true"),
        ("optim: {lr: }", "optim.lr must be a number, got nothing"),
        ("train: {epochs: true}", "train.epochs must be a whole number, got true"),
        ("train: {epochs: 3.0}", "train.epochs must be a whole number, got 3.0"),
        ("train: {compile: 1}", "train.compile must be true or false, got 1"),
        ("data: {path: 12}", "data.path must be text, got 12"),
        ("train: {device: gpu}", "train.device must be 'auto', 'cpu' or 'cuda', got 'gpu'"),
        ("optim: {betas: [0.5]}", "optim.betas must be a list of at least 2, got [0.5]"),
        ("model: {backbone_options: 3}", "model.backbone_options must be a mapping by name, got 3"),
        ("optim.lr: 1\noptim: {lr: 2}", "optim.lr: given twice"),
        ("- optim", "expected sections as 'optim:', got ['optim']"),
        ("optim: {lr: -1}", "optim.lr must be > 0, got -1"),
        ("augment: {hflip: 2}", "augment.hflip must be <= 1, got 2"),
        ("preprocess: {height: 0}", "preprocess.height must be >= 1, got 0"),
        ("train: {batch_size: 6, accumulate: 4}", "train.batch_size must be a multiple of train.accumulate (4), got 6"),
        ("data: {split: [0.5, 0.5, 0.5]}", "data.split must be fractions that add up to 1, got [0.5, 0.5, 0.5]"),
    ],
)
def test_error_names_the_file_the_key_and_the_way_out(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load(tmp_path, text)
    assert str(caught.value) == f"{tmp_path / 'x.yaml'}: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim:\n  lr: 1\n  lr: 2\n", "x.yaml:3: not YAML: key 'lr' is given twice"),
        ("optim: {lr: 1\n", "x.yaml:2: not YAML: expected ',' or '}', but got '<stream end>'"),
        ("? [1]\n: 2", "x.yaml:1: not YAML: found unhashable key"),
    ],
)
def test_error_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        load(tmp_path, text)


def test_every_error_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load(tmp_path, "optim: {lr: fast, betas: [2, 3]}", Override("train.epochs", 0, "--epochs"))
    path = tmp_path / "x.yaml"
    assert str(caught.value) == (
        f"{path}: optim.lr must be a number, got 'fast'; optim.betas.0 must be < 1, got 2; "
        f"optim.betas.1 must be < 1, got 3; --epochs: train.epochs must be >= 1, got 0"
    )


@pytest.mark.parametrize("text", ["1e-4", "1.5E3", "-.5e1", "+2.e+1", "0.5", "3"])
def test_numbers_are_read_as_in_python(text: str) -> None:
    assert parse_setting(f"a={text}").value == float(text)


def test_error_of_a_default_names_what_was_set_beside_it() -> None:
    with pytest.raises(
        InputError, match=r"^--set: train.batch_size must be a multiple of train.accumulate \(5\), got 64$"
    ):
        load_config(None, [parse_setting("train.accumulate=5")])


def test_what_yaml_knows_and_json_does_not(tmp_path: Path) -> None:
    assert load(tmp_path, "data: {path: 2024-01-01}").data.path == "2024-01-01"
    with pytest.raises(InputError, match=r"augment.skin_former.2024-01-01 must be <= 1, got 2$"):
        load(tmp_path, "augment: {skin_former: {2024-01-01: 2}}")


def test_error_of_a_value_names_who_set_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^--lr: optim.lr must be > 0, got -1.0$"):
        load(tmp_path, "optim: {lr: 1}", Override("optim.lr", -1.0, "--lr"))


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read: No such file or directory"), (b"\xff\xfe", "not UTF-8 text")]
)
def test_file_that_cannot_be_read(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"x.yaml: {message}"):
        load_config(path)


def test_setting() -> None:
    assert parse_setting("optim.lr=1e-4") == Override("optim.lr", 1e-4, "--set")
    assert parse_setting("optim.betas=[0.5, 0.9]").value == [0.5, 0.9]
    assert parse_setting("data.path=a=b").value == "a=b"
    for text in ("optim.lr", "=3"):
        with pytest.raises(InputError, match=f"--set {text}: expected KEY=VALUE"):
            parse_setting(text)
    with pytest.raises(InputError, match=r"--set a=\[: the value is not YAML"):
        parse_setting("a=[")


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "configs").glob("*.yaml")))
def test_shipped_configs_load(path: Path) -> None:
    config, _ = load_config(path)
    assert config != Config()


def test_a_whole_section_on_the_command_line(tmp_path: Path) -> None:
    config = load(tmp_path, "optim: {weight_decay: 0.25}", parse_setting("optim={lr: 1e-4}"))
    assert (config.optim.lr, config.optim.weight_decay) == (1e-4, 0.25)
