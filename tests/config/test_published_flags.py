"""The published system's flags: the keys that they set, and values that are refused."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from melfast.cli import main
from melfast.cli.options import PUBLISHED_ONLY
from melfast.cli.train import SHORTHANDS
from melfast.config.loading import Override, dotted
from melfast.config.published_flags import PUBLISHED
from melfast.config.schema import Config, load_config
from melfast.io.errors import InputError

# As documented there.
NAMES = [
    "data_path",
    "skin_color_csv",
    "model",
    "num_classes",
    "num_groups",
    "pretrained",
    "freeze_model",
    "input_size",
    "batch_size",
    "epochs",
    "update_freq",
    "device",
    "num_workers",
    "lr",
    "min_lr",
    "weight_decay",
    "warmup_epochs",
    "mixup",
    "cutmix",
    "smoothing",
    "log_dir",
    "output_dir",
    "checkpoint",
    "test",
    "ohem",
    "ifw",
    "recall_ce",
    "focal_loss",
    "domain_independent_loss",
    "domain_discriminative_loss",
    "conditional_accuracy",
    "oversample_malignant",
    "undersample_benign",
    "undersample_benign_ratio",
    "cielab",
    "skin_former",
    "segment_out_skin",
    "use_amp",
    "model_ema",
    "layer_decay",
    "seed",
    "distributed",
    "world_size",
    "dist_url",
    "config",
]


def changed(**flags: Any) -> dict[str, Any]:
    """The keys that differ from the defaults."""
    plain = dotted(Config())
    found = dotted(load_config(None, published=flags)[0])
    return {key: value for key, value in found.items() if value != plain[key]}


def test_every_documented_name_is_known() -> None:
    ours = {name.lstrip("-").replace("-", "_") for names, *_ in SHORTHANDS for name in names.split()}
    assert set(NAMES) == set(PUBLISHED) | {"config"}
    assert set(NAMES) - set(PUBLISHED_ONLY) <= ours | {"config", "input_size"}
    assert set(PUBLISHED_ONLY) <= set(PUBLISHED)


@pytest.mark.parametrize(
    ("flags", "keys"),
    [
        (
            {"model": "convnext_tiny", "input_size": 224},
            {"model.backbone": "convnext_tiny", "preprocess.height": 224, "preprocess.width": 224},
        ),
        ({"skin_color_csv": "t.csv", "data_path": "images"}, {"data.path": "t.csv", "data.images": "images"}),
        ({"batch_size": 16, "update_freq": 4}, {"train.accumulate": 4}),  # 64 is the default
        ({"lr": "1e-4", "min_lr": 1e-6}, {"optim.lr": 1e-4, "optim.min_lr_ratio": 0.01}),
        ({"epochs": 10, "warmup_epochs": 1}, {"train.epochs": 10, "optim.warmup": 1.0, "optim.warmup_unit": "epochs"}),
        ({"ifw": True}, {"loss.weights": "ifw_class"}),
        (
            {"ifw": True, "smoothing": 0.1, "recall_ce": "true", "domain_discriminative_loss": True},
            {
                "loss.weights": "ifw_class_group",
                "loss.label_smoothing": 0.1,
                "loss.name": "recall_ce",
                "model.head": "domain_discriminative",
            },
        ),
        (
            {"domain_independent_loss": True, "conditional_accuracy": True},
            {"model.head": "domain_independent", "model.inference": "group_conditional"},
        ),
        (
            {"undersample_benign": True, "undersample_benign_ratio": 3},
            {"sampler.name": "undersample", "sampler.ratio": 3.0},
        ),
        ({"oversample_malignant": True}, {"sampler.name": "oversample"}),
        ({"cielab": True, "segment_out_skin": True}, {"preprocess.colour": "cielab", "preprocess.masked": True}),
        ({"skin_former": True}, {"augment.skin_former": {"very light": 0.2, "light": 0.4}}),
        ({"use_amp": True, "model_ema": True}, {"train.precision": "bf16", "train.ema": 0.9999}),
        ({"freeze_model": True, "checkpoint": "a.pth"}, {"model.freeze": True, "model.weights": "a.pth"}),
        ({"cielab": False, "ohem": "false", "test": False, "distributed": False, "world_size": 1}, {}),
    ],
)
def test_what_each_becomes(flags: dict[str, Any], keys: dict[str, Any]) -> None:
    found = changed(**flags)
    if "min_lr" in flags:
        found["optim.min_lr_ratio"] = round(found["optim.min_lr_ratio"], 9)
    assert found == keys


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"ohem": True, "focal_loss": True},
            "command line: ohem and focal_loss contradict each other: one sets loss.name 'ohem', the other 'focal'",
        ),
        (
            {"num_classes": 3},
            "command line: num_classes: melfast has two classes, benign and malignant: expected 2, got 3",
        ),
        ({"test": True}, "command line: test: is a command of its own: melfast evaluate --checkpoint RUN"),
        ({"min_lr": "low"}, "command line: min_lr: expected a number, got 'low'"),
        ({"cielab": True, "mixup": "much"}, "command line: mixup: train.mixup must be a number, got 'much'"),
    ],
)
def test_what_cannot_be(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as raised:
        load_config(None, published=flags)
    assert str(raised.value) == message


def test_in_a_file_beside_sections(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("lr: 1e-4\nwarmup-epochs: 2\nepochs: 8\ncielab: true\nmodel: resnet10t\nloss: {name: focal}\n")
    caplog.set_level("INFO", logger="melfast")
    config, _ = load_config(path, [Override("optim.lr", 0.5, "--lr")])
    assert (config.optim.lr, config.optim.warmup) == (0.5, 2.0)  # the command line wins
    assert (config.loss.name, config.model.backbone) == ("focal", "resnet10t")
    assert f"{path}: cielab -> preprocess.colour = cielab" in caplog.messages
    path.write_text("warmup_epoch: 2\n")
    with pytest.raises(InputError, match="warmup_epoch: unknown key"):
        load_config(path)


def test_on_the_command_line() -> None:
    words = ["train", "--cielab", "--recall_ce", "true", "--warmup-epochs", "1", "--epochs", "4", "--print-config"]
    found = CliRunner().invoke(main, words)
    assert found.exit_code == 0
    assert "command line: recall_ce -> loss.name = recall_ce" in found.stderr
    assert "  colour: cielab" in found.stdout
    assert "  warmup: 1.0\n  warmup_unit: epochs" in found.stdout
    assert "--cielab" not in CliRunner().invoke(main, ["train", "--help"]).output.split("Options")[1]
