"""Trackers: MLflow and Weights & Biases, where they are installed and asked for."""

import importlib
import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from melfast.io.errors import InputError
from melfast.io.words import check_words

TrackerName = Literal["none", "mlflow", "wandb"]
# The tracker's own name of the run, so that a run that goes on does so there, too.
RUN_ID = "tracker.txt"


class Tracker(Protocol):
    """Somebody else who is told what a run logs."""

    def record(self, values: Mapping[str, float], step: int) -> None: ...
    def picture(self, name: str, path: Path) -> None: ...
    def close(self, failed: bool) -> None: ...


@check_words
def require_tracker(name: TrackerName) -> None:
    """
    Raises:
        InputError: it is not installed.
    """
    if name != "none" and importlib.util.find_spec(name) is None:
        raise InputError(f"output.tracker is {name!r}, which is not installed: pip install {name}")


@check_words
def open_tracker(name: TrackerName, run: Path, config: Mapping[str, Any]) -> Tracker | None:
    """Opens a tracker for a run folder, or goes on with the one it has.

    Args:
        config: dotted keys.
    """
    if name == "none":
        return None
    file = run / RUN_ID
    known = file.read_text(encoding="utf-8").strip() if file.is_file() else None
    tracker = (Mlflow if name == "mlflow" else Wandb)(run, config, known)
    file.write_text(f"{tracker.run_id}\n", encoding="utf-8")
    return tracker


class Mlflow:
    """MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say where."""

    def __init__(self, run: Path, config: Mapping[str, Any], known: str | None) -> None:
        self.mlflow: Any = importlib.import_module("mlflow")
        started = self.mlflow.start_run(run_id=known, run_name=None if known else run.name)
        self.run_id: str = started.info.run_id
        if known is None:
            self.mlflow.log_params({key: str(value) for key, value in config.items()})

    def record(self, values: Mapping[str, float], step: int) -> None:
        self.mlflow.log_metrics(dict(values), step=step)

    def picture(self, name: str, path: Path) -> None:
        self.mlflow.log_artifact(str(path))

    def close(self, failed: bool) -> None:
        self.mlflow.end_run("FAILED" if failed else "FINISHED")


class Wandb:
    """WANDB_PROJECT, WANDB_ENTITY and WANDB_MODE say where."""

    def __init__(self, run: Path, config: Mapping[str, Any], known: str | None) -> None:
        self.wandb: Any = importlib.import_module("wandb")
        self.run = self.wandb.init(id=known, resume="allow", name=run.name, dir=str(run), config=dict(config))
        self.run_id: str = self.run.id

    def record(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def picture(self, name: str, path: Path) -> None:
        self.run.log({name: self.wandb.Image(str(path))}, commit=False)

    def close(self, failed: bool) -> None:
        self.run.finish(exit_code=int(failed))


def finite(kind: str, values: Mapping[str, float]) -> dict[str, float]:
    """Names as `train/loss`; what is no number is left out, for not every tracker takes it."""
    return {f"{kind}/{k}": v for k, v in values.items() if math.isfinite(v)}
