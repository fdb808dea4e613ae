"""Words: each parameter of a Literal type is checked, in every public function of melfast."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pytest

import melfast
from melfast.data.augment import Augment
from melfast.io.errors import InputError
from melfast.io.words import check_words, words_of

Tta = Literal["none", "flips", "rotations"]


@check_words
def views(images: int, tta: Tta = "none", *, on_error: Literal["raise", "skip"] | None = None) -> str:
    return f"{images} {tta} {on_error}"


def test_by_hand() -> None:
    assert views(1) == "1 none None"
    assert views(1, "flips", on_error="skip") == "1 flips skip"
    assert views(1, on_error=None) == "1 none None"
    with pytest.raises(InputError) as caught:
        views(1, "rotation")  # type: ignore[arg-type]
    assert str(caught.value) == "tta: got 'rotation', expected none, flips or rotations; did you mean 'rotations'?"
    with pytest.raises(InputError) as caught:
        views(1, on_error=3)  # type: ignore[arg-type]
    assert str(caught.value) == "on_error: got 3, expected raise or skip"
    with pytest.raises(InputError, match="tta: got None, expected none"):
        views(1, None)  # type: ignore[arg-type]


def test_of_a_class() -> None:
    @check_words
    @dataclass(frozen=True)
    class Settings:
        tta: Tta = "none"

    assert Settings("flips").tta == "flips"
    with pytest.raises(ValueError, match="tta: got 'flip', expected none, flips or rotations; did you mean 'flips'"):
        Settings(tta="flip")  # type: ignore[arg-type]


def public() -> Iterator[tuple[str, Any]]:
    """Functions, methods and constructors of melfast that others may call, by name."""
    for module in pkgutil.walk_packages(melfast.__path__, "melfast."):
        # pydantic checks those of the config and of records itself.
        if module.name.startswith(("melfast.cli", "melfast.config", "melfast.__main__", "melfast.models.record")):
            continue
        loaded = importlib.import_module(module.name)
        for name, value in vars(loaded).items():
            if name.startswith("_") or getattr(value, "__module__", None) != module.name:
                continue
            if inspect.isfunction(value):
                yield f"{module.name}.{name}", value
            elif inspect.isclass(value) and value is not Augment:  # part of the config
                for method, function in vars(value).items():
                    if inspect.isfunction(function) and (method == "__init__" or not method.startswith("_")):
                        yield f"{module.name}.{name}.{method}", function


def test_every_word_is_checked() -> None:
    unchecked = [
        f"{name}({parameter.name})"
        for name, function in public()
        for parameter in inspect.signature(function).parameters.values()
        if words_of(parameter.annotation) and parameter.name not in getattr(function, "words", ())
    ]
    assert not unchecked, "\n".join(unchecked)
