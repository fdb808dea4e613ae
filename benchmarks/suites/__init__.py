"""The suites: each module registers one with `harness.suite`."""

import importlib
import pkgutil


def load() -> None:
    """Imports every suite; heavy imports happen when they run."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
