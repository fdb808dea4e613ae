"""The suites: every module here registers its own with `harness.suite`."""

import importlib
import pkgutil


def load() -> None:
    """Imports every suite; they import what is heavy when they run."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
