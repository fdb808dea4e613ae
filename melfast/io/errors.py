"""The errors that a user can mend; each message is one line: where, found, wanted."""

from pathlib import Path


class InputError(ValueError):
    """Something the user gave cannot be used; the message says where, found and wanted."""


class UnreadableError(ValueError):
    """A picture cannot be used; the message says what was found and what is wanted."""


class ImageError(InputError):
    """One image file cannot be used.

    Attributes:
        path: the file.
        reason: what was found and what is wanted, without the path.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return (type(self), (self.path, self.reason))
