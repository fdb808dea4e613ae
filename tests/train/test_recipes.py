"""The configs in the repository: each trains in a small version."""

import json
from pathlib import Path

import pytest
import torch

from melfast.config.loading import Override
from melfast.config.schema import load_config
from melfast.train.run import run_training

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
# Of the same family and kind, for small pictures on a CPU.
SMALL = {
    "convnext_tiny": {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)},
    "dinov2_vit_base": {"depth": 2, "embed_dim": 24, "num_heads": 2},
}


def test_the_promised_ones_are_there() -> None:
    assert {path.stem for path in CONFIGS} >= {
        "quickstart",
        "ham10000",
        "isic2020_best",
        "isic2020_multi_gpu",
        "dinov2_probe",
    }


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_trains(path: Path, tiny_data: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    config, _ = load_config(path)
    changes = {
        "data.path": str(tiny_data),
        "output.dir": str(tmp_path / "run"),
        "data.threads": 1,
        "preprocess.height": 32,
        "preprocess.width": 48,
        "model.pretrained": False,
        "train.epochs": 1,
        "train.batch_size": 16,
        "train.device": "cpu",
        "train.log_every": 1,
        "train.threads": 1,
        "train.compile": False,  # a compiler takes longer than all the rest
    }
    if config.model.backbone in SMALL:
        changes["model.backbone_options"] = SMALL[config.model.backbone]
    config, _ = load_config(path, [Override(k, v, "test") for k, v in changes.items()])
    run_training(config, {}, resume=False)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == [1, 2]
    assert [line["step"] for line in lines if line["kind"] == "valid"] == [2]
