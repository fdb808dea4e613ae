"""The header of a picture of any format that melfast reads."""

from typing import BinaryIO

from melfast.io.headers import HEAD, PARSERS, Header, decoding, recognise_format, require_size
from melfast.io.rare_formats import HEADERS


def read_header(file: BinaryIO) -> Header:
    """The header of a picture, from the first HEAD bytes unless its format keeps it elsewhere.

    Raises:
        UnreadableError: with the reason why it cannot be read or must not be decoded.
    """
    file.seek(0)
    head = file.read(HEAD)
    kind = recognise_format(head)
    with decoding(kind):
        if kind in PARSERS:
            header = PARSERS[kind](head)
        else:
            file.seek(0)
            header = HEADERS[kind](file)
    require_size(header.height, header.width)
    return header
