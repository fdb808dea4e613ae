"""The errors that a user can mend; each message is one line: where, found, wanted."""


class InputError(ValueError):
    """Something the user gave cannot be used; the message says where, found and wanted."""


class ImageError(InputError):
    """One image file cannot be used.

    Attributes:
        path: the file; what stands for its name where the image came without one.
        reason: what was found and what is wanted, without the path.
    """

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return (type(self), (self.path, self.reason))
