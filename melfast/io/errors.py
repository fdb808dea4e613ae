"""The errors that a user can mend; each message is one line: where, found, wanted."""


def printable(text: str) -> str:
    """Text that a terminal only shows: control characters, which would steer it or begin a line, are escaped.

    So are marks that turn the direction of writing, and bytes of file names that are not UTF-8.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class InputError(ValueError):
    """Something the user gave cannot be used; the message says where, found and wanted, as `printable` text."""

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class UnreadableError(ValueError):
    """A picture cannot be used; the message says what was found and what is wanted."""


class ImageError(InputError):
    """One image file cannot be used.

    Attributes:
        path: the file; what stands for its name where the image came without one.
        reason: what was found and what is wanted, without the path.
    """

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = printable(reason)

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return (type(self), (self.path, self.reason))
