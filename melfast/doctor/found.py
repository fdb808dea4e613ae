"""What a probe of `melfast doctor` says.

A probe is a function that tries one thing melfast stands on. What is not there raises
ModuleNotFoundError, and what does not work whatever it raises by itself.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Found:
    """What a probe found.

    Attributes:
        text: one line.
        mend: the line that makes it better; None: nothing is amiss.
        facts: the same for programs; plain JSON.
    """

    text: str
    mend: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def require(holds: bool, otherwise: str) -> None:
    """Raises RuntimeError: a library is there and gives wrong results."""
    if not holds:
        raise RuntimeError(otherwise)


def named(versions: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
