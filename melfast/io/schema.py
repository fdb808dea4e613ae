"""Validated settings and records: frozen pydantic dataclasses with one-line errors.

Types are strict (no text for a number, no bool for an int), unknown keys are refused, and numbers must be finite.
"""

import dataclasses
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails, PydanticCustomError

from melfast.io.errors import InputError

T = TypeVar("T")
Fraction = Annotated[float, Field(ge=0, le=1)]
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
LARGEST_JSON = 64 * 2**20  # bytes; a record with 100,000 isotonic knots has 5 MB
SHOWN = 80  # characters shown of a wrong value
# By error type of pydantic.
EXPECTED = {
    "greater_than": "> {gt:g}",
    "greater_than_equal": ">= {ge:g}",
    "less_than": "< {lt:g}",
    "less_than_equal": "<= {le:g}",
    "literal_error": "{expected}",
    "refused": "{expected}",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "tuple_type": "a list",
    "dict_type": "a mapping by name",
    "dataclass_type": "a mapping by name",
}


@dataclass_transform(field_specifiers=(dataclasses.field,))
def checked(*, frozen: bool = True) -> Callable[[type[T]], type[T]]:
    """A dataclass that checks its values when created; raises InputError for invalid ones."""

    def decorate(cls: type[T]) -> type[T]:
        made: Any = dataclass(frozen=frozen, config=STRICT)(cls)
        build, names = made.__init__, [each.name for each in dataclasses.fields(made)]

        @wraps(build)
        def init(self: Any, *args: Any, **values: Any) -> None:
            try:
                build(self, **dict(zip(names, args, strict=False)), **values)  # errors then name the field
            except ValidationError as error:
                raise in_words(error, lambda key: cls.__name__) from None

        made.__init__ = init
        return made

    return decorate


def refused(expected: str, got: object, key: str = "") -> PydanticCustomError:
    """The error for a validator to raise.

    Args:
        key: key within the validated value, if it has several.
    """
    return PydanticCustomError("refused", "{expected}", {"expected": expected, "got": described(got), "key": key})


def from_json(schema: type[T], text: str, where: str) -> T:
    """Reads values of a schema from JSON; raises InputError, naming `where` and the key, for invalid ones."""
    try:
        return TypeAdapter(schema).validate_json(text)
    except ValidationError as error:
        raise in_words(error, lambda key: where) from None


def read_json(schema: type[T], path: Path) -> T:
    """`from_json` of a file.

    Raises:
        InputError: as `from_json`; or it is not a regular file, too large or not UTF-8.
    """
    try:
        size = path.stat().st_size
        if not path.is_file() or size > LARGEST_JSON:
            got = f"{size:,} bytes" if path.is_file() else "a folder, pipe or device"
            raise InputError(f"{path}: must be a JSON file of at most {LARGEST_JSON >> 20} MiB, got {got}")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text: {error.reason} at byte {error.start}") from None
    return from_json(schema, text, str(path))


def in_words(
    error: ValidationError, where: Callable[[str], str], unknown: Callable[[str], str] = lambda key: "unknown key"
) -> InputError:
    """The errors as one line, `FILE: optim.lr must be > 0, got -1.0; ...`.

    Args:
        where: the location of a dotted key.
        unknown: the message for a key that is not in the schema.
    """
    found: dict[str, str] = {}
    # In a file of another version much is wrong, so report the version first.
    for each in sorted(error.errors(), key=lambda each: not str(each["loc"][-1:]).endswith("format',)")):
        key, text = _problem(each, unknown)
        if not any(before.startswith(f"{key}.") for before in found):  # the list is wrong because its entry is
            found[key] = text
    places = [where(key) for key in found]
    told = [place if place != before else "" for place, before in zip(places, ["", *places], strict=False)]
    return InputError(
        "; ".join([f"{place}: {text}".removeprefix(": ") for place, text in zip(told, found.values(), strict=True)][:5])
    )


def described(value: object) -> str:
    """A value as the user may have written it, shortened."""
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _problem(error: ErrorDetails, unknown: Callable[[str], str]) -> tuple[str, str]:
    """The dotted key, and a sentence about what is wrong with it."""
    kind, context, place = error["type"], error.get("ctx", {}), list(error["loc"])
    got = context.get("got", described(error["input"]))
    expected = EXPECTED.get(kind, error["msg"]).format(**context)
    if kind == "missing" and place and isinstance(place[-1], int):  # of a tuple
        expected = f"a list of at least {int(place.pop()) + 1}"
        kind = "too_short"
    key = ".".join([*map(str, place), *filter(None, [context.get("key")])])
    if kind == "json_invalid":
        return key, f"not JSON: {context['error']}"
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return key, f"{key}: {unknown(key)}"
    if kind == "missing":
        return key, f"{key} is missing"
    if kind == "value_error":  # of a function that others also call
        return key, f"{key} {str(context['error']).removeprefix(f'{key} ')}"
    return key, f"{key} must be {expected}, got {got}".lstrip()
