"""The result of a probe of `melfast doctor`.

A probe is a function that tries one thing that melfast depends on. If it is missing it raises
ModuleNotFoundError; if it does not work, its own exception is passed on.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ProbeResult:
    """What a probe found.

    Attributes:
        text: one line.
        fix: the command that improves it; None: nothing to improve.
        facts: the same in machine-readable form; plain JSON.
    """

    text: str
    fix: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def require(holds: bool, otherwise: str) -> None:
    """Raises RuntimeError if a library gives wrong results."""
    if not holds:
        raise RuntimeError(otherwise)


def named(versions: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
