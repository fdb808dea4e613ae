"""Errors that a user can fix; each message is one line: where, what was found, what is expected."""


def printable(text: str) -> str:
    """Text that is safe to print: control characters, which could control a terminal or fake a line, are escaped.

    Marks that change the writing direction and bytes of file names that are not UTF-8 are escaped too.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class InputError(ValueError):
    """Some input cannot be used; the `printable` message says where, what was found and what is expected."""

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class UnreadableError(ValueError):
    """A picture cannot be used; the message says what was found and what is expected."""


class ImageError(InputError):
    """One image file cannot be used.

    Attributes:
        path: the file, or a description of an image without a file.
        reason: what was found and what is expected, without the path.
    """

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = printable(reason)

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return (type(self), (self.path, self.reason))
