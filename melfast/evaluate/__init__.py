"""Evaluation. `melfast.evaluate(run)` evaluates a run; the same name is this package.

A package and a function with the same name share one attribute of `melfast`, so the package itself is
callable: Python looks up `__call__` in the class of a module, which may be replaced
(https://docs.python.org/3/reference/datamodel.html#customizing-module-attribute-access).
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any


class _Evaluate(ModuleType):
    def __call__(
        self,
        run: str | Path,
        data_path: str | Path | None = None,
        *,
        split: str = "test",
        output: str | Path | None = None,
        report: bool = False,
        **settings: Any,
    ) -> dict[str, Any]:
        """Evaluates a run on a split like `melfast evaluate`, and writes the same files.

            measured = melfast.evaluate("runs/first")
            measured["all"]["auc"], measured["groups"]["dark"]["recall"]

        Args:
            run: a run folder (its best checkpoint) or a checkpoint.
            data_path: a manifest or a data set; None: the run's own manifest.
            split: train, valid, test or all.
            output: folder of metrics.json and predictions.csv; None: RUN/evaluation/SPLIT.
            report: also write the report, to OUTPUT/report.
            settings: device, precision, batch_size, loader, threads, on_error, tta: the fields of
                melfast.models.running.InferenceSettings.
        Returns:
            {"all": {...}, "groups": {name: {...}}, "remarks": [...]}: `images`, `malignant` and the
            metrics of melfast.metrics.binary_metrics for all images and for each tone group.
        Raises:
            InputError: the run, the data or an image cannot be used.
        """
        from melfast.evaluate.run import run_evaluation
        from melfast.models.running import InferenceSettings

        evaluation = run_evaluation(run, data_path, split, output, InferenceSettings(**settings), report=report)
        return {} if evaluation is None else evaluation.measured


sys.modules[__name__].__class__ = _Evaluate
