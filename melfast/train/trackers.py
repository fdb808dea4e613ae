"""Trackers: log to MLflow or Weights & Biases, if installed and requested."""

import importlib
import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from melfast.io.errors import InputError
from melfast.io.words import check_words

TrackerName = Literal["none", "mlflow", "wandb"]
# The tracker's id of the run, so that a resumed run continues there, too.
RUN_ID = "tracker.txt"


class Tracker(Protocol):
    """An external service that receives the log of a run."""

    def record(self, values: Mapping[str, float], step: int) -> None: ...
    def picture(self, name: str, path: Path) -> None: ...
    def close(self, failed: bool) -> None: ...


@check_words
def require_tracker(name: TrackerName) -> None:
    """
    Raises:
        InputError: the tracker is not installed.
    """
    if name != "none" and importlib.util.find_spec(name) is None:
        raise InputError(f"output.tracker is {name!r}, which is not installed: pip install {name}")


@check_words
def open_tracker(name: TrackerName, run: Path, config: Mapping[str, Any]) -> Tracker | None:
    """Opens a tracker for a run folder, or resumes the one that it has.

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
    """MLflow, configured by MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME."""

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
    """Weights & Biases, configured by WANDB_PROJECT, WANDB_ENTITY and WANDB_MODE."""

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
    """Names such as `train/loss`; NaN is left out, because not every tracker accepts it."""
    return {f"{kind}/{k}": v for k, v in values.items() if math.isfinite(v)}
