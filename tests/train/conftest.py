"""A run that takes about a second."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from melfast.config.loading import Override
from melfast.config.schema import Config, load_config

TINY = {
    "preprocess.height": 24,
    "preprocess.width": 32,
    "model.backbone": "resnet10t",
    "model.backbone_options": {"channels": [4, 4, 8, 8], "stem_width": 4},
    "optim.lr": 0.01,
    "train.epochs": 2,
    "train.batch_size": 8,
    "train.threads": 1,
    "train.log_every": 1,
    "data.threads": 1,
}


@pytest.fixture
def tiny_config(tiny_data: Path, tmp_path: Path) -> Callable[..., Config]:
    """Makes a config of 2 epochs of 4 steps into tmp_path/run; keywords as `train__epochs=3`."""

    def make(**changes: Any) -> Config:
        values = TINY | {"data.path": str(tiny_data), "output.dir": str(tmp_path / "run")}
        values |= {key.replace("__", "."): value for key, value in changes.items()}
        overrides = [Override(key, value, "test") for key, value in values.items()]
        return load_config(None, overrides)[0]

    return make
