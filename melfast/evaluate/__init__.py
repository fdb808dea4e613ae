"""Evaluation. `melfast.evaluate(run)` measures a run, and is this package as well.

A package and a function of one name are one attribute of `melfast`, whichever was imported last. So
the package is callable: Python looks `__call__` up in a module's class, and lets it be replaced
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
        """Measures a run on a split, as `melfast evaluate` does, and writes the same files.

            measured = melfast.evaluate("runs/first")
            measured["all"]["auc"], measured["groups"]["dark"]["recall"]

        Args:
            run: its folder, of which the best checkpoint is taken, or a checkpoint.
            data_path: a manifest or a data set; None: the run's own manifest.
            split: train, valid, test or all.
            output: folder of metrics.json and predictions.csv; None: RUN/evaluation/SPLIT.
            report: whether the report is written too, into OUTPUT/report.
            settings: device, precision, batch_size, loader, threads, on_error, tta: the fields of
                melfast.models.running.InferenceSettings.
        Returns:
            {"all": {...}, "groups": {name: {...}}, "remarks": [...]}: `images`, `malignant` and the
            metrics of melfast.metrics.binary_metrics of all images and of each tone group.
        Raises:
            InputError: the run, the data or an image cannot be used.
        """
        from melfast.evaluate.run import run_evaluation
        from melfast.models.running import InferenceSettings

        evaluation = run_evaluation(run, data_path, split, output, InferenceSettings(**settings), report=report)
        return {} if evaluation is None else evaluation.measured


sys.modules[__name__].__class__ = _Evaluate
