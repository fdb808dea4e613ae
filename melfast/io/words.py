"""Check parameters that accept one of a few words, such as `tta="flips"`, at the call."""

import difflib
import functools
import inspect
from collections.abc import Callable, Sequence
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from melfast.io.errors import InputError

Checked = TypeVar("Checked", bound=Callable[..., Any])


def require_word(name: str, value: object, words: Sequence[str]) -> None:
    """Raises InputError, naming the nearest word, if `value` is not one of the words."""
    if isinstance(value, str) and value in words:
        return
    near = difflib.get_close_matches(str(value), words, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise InputError(
        f"{name}: got {value!r}, expected {' or '.join(filter(None, [', '.join(words[:-1]), words[-1]]))}{hint}"
    )


def check_words(target: Checked) -> Checked:
    """Decorator of a function or class: checks its parameters of a Literal type at each call.

    Raises:
        InputError: the call passes a word that is not in the type.
    """
    if isinstance(target, type):
        target.__init__ = check_words(target.__init__)  # type: ignore[misc]
        return target
    parameters = inspect.signature(target).parameters
    words = {name: found for name, p in parameters.items() if (found := words_of(p.annotation))}
    assert words, f"{target}: no parameter of a Literal type"
    names = list(parameters)

    @functools.wraps(target)
    def checked(*args: Any, **kwargs: Any) -> Any:
        for name, value in (*zip(names, args, strict=False), *kwargs.items()):
            if name in words and not (value is None and parameters[name].default is None):
                require_word(name, value, words[name])
        return target(*args, **kwargs)

    checked.words = words  # type: ignore[attr-defined]
    return checked  # type: ignore[return-value]


def words_of(annotation: Any) -> tuple[str, ...]:
    """The words of a Literal, or of a Literal in a union with None."""
    if get_origin(annotation) is Literal:
        return tuple(word for word in get_args(annotation) if isinstance(word, str))
    if get_origin(annotation) not in (Union, UnionType):
        return ()
    return next((found for each in get_args(annotation) if (found := words_of(each))), ())
