"""Typed settings: frozen dataclasses in sections, read from YAML and the command line.

A schema is a dataclass whose fields are sections, dataclasses themselves. Unknown keys and wrong
types are errors of one line that name the file, the key and the nearest valid one.
"""

import dataclasses
import difflib
import math
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from melfast.io.errors import InputError

Schema = TypeVar("Schema")


@dataclass(frozen=True)
class Override:
    """One setting of the command line: dotted key, value, and the option that the user typed."""

    key: str
    value: Any
    source: str


def require(ok: bool, key: str, wanted: str, got: object) -> None:
    if not ok:
        raise InputError(f"{key} must be {wanted}, got {got}")


def load(
    schema: type[Schema],
    path: Path | None,
    overrides: Iterable[Override] = (),
    document: Mapping[str, Any] | None = None,
) -> tuple[Schema, dict[str, str]]:
    """Defaults, then the YAML file, then the overrides; the last override of a key wins.

    Args:
        document: of the file, where somebody has read it already.
    Returns:
        The settings, and for each key that the user set where it was set.
    Raises:
        InputError: not YAML, a key given twice, an unknown key, a wrong type or value.
    """
    types_by_key = key_types(schema)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if path is not None:
        values = _dotted(read_yaml(path) if document is None else document, schema, str(path))
        sources = dict.fromkeys(values, str(path))
    for override in overrides:
        given = _dotted({override.key: override.value}, schema, override.source)
        values |= given
        sources |= dict.fromkeys(given, override.source)
    typed = {k: _convert(v, types_by_key[k], k, sources[k]) for k, v in values.items()}
    sections: dict[str, Any] = {}
    for name, section in get_type_hints(schema).items():
        own = {k.removeprefix(f"{name}."): v for k, v in typed.items() if k.startswith(f"{name}.")}
        try:
            sections[name] = section(**own)
        except InputError as error:  # the section's own check; say where the value came from
            key = str(error).split(" ", 1)[0]
            where = sources.get(key) or sources[f"{name}.{next(iter(own))}"]
            raise InputError(f"{where}: {error}") from None
    try:
        return schema(**sections), sources
    except InputError as error:  # of two sections that do not go together
        where = sources.get(str(error).split(" ", 1)[0], "config")
        raise InputError(f"{where}: {error}") from None


def parse_setting(text: str, option: str = "--set", example: str = "optim.lr=1e-4") -> Override:
    """`optim.lr=1e-4`, the argument of --set or its like; the value is read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"{option} {text}: wanted KEY=VALUE, as in {option} {example}")
    try:
        return Override(key.strip(), yaml.load(value, Loader=_Loader), option)
    except yaml.YAMLError as error:
        raise InputError(f"{option} {text}: the value is not YAML: {_problem(error)}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; an empty file is an empty mapping."""
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise InputError(f"{path}{line}: not YAML: {_problem(error)}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise InputError(f"{path}: wanted sections as 'optim:', got {_describe(document)}")
    return document


def plain(value: object) -> Any:
    """Dataclasses to dicts and tuples to lists, all the way down: what YAML and JSON can hold."""
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, (tuple, list)) else value


def dotted(settings: object) -> dict[str, Any]:
    """`{"optim.lr": 0.001, ...}` of every key, values as in the YAML."""
    return {f"{name}.{key}": value for name, section in plain(settings).items() for key, value in section.items()}


def to_yaml(settings: object) -> str:
    """YAML that `load` reads back to equal settings."""
    return yaml.dump(plain(settings), Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=100)


def key_types(schema: type) -> dict[str, Any]:
    """The type of every dotted key."""
    return {
        f"{name}.{key}": hint
        for name, section in get_type_hints(schema).items()
        for key, hint in get_type_hints(section).items()
    }


def _dotted(document: Mapping[Any, Any], schema: type, source: str) -> dict[str, Any]:
    """Dotted keys of a document; keys that come dotted are taken as they are."""
    values: dict[str, Any] = {}
    sections, known = get_type_hints(schema), key_types(schema)
    for name, body in document.items():
        if name in known:
            pairs = {name: body}
        elif name not in sections:
            raise _unknown(str(name), schema, source)
        elif body is None:  # a section with all its lines commented out
            pairs = {}
        elif isinstance(body, Mapping):
            pairs = {f"{name}.{key}": value for key, value in body.items()}
        else:
            raise InputError(f"{source}: {name}: wanted a section, got {_describe(body)}")
        for key, value in pairs.items():
            if key not in known:
                raise _unknown(key, schema, source)
            if key in values:
                raise InputError(f"{source}: {key}: given twice")
            values[key] = value
    return values


def _unknown(key: str, schema: type, source: str) -> InputError:
    known = key_types(schema)
    by_name = {k.partition(".")[2]: k for k in known}  # `lr` and `train.lr` both mean `optim.lr`
    name = key.rpartition(".")[2]
    close = [by_name[name]] if name in by_name else difflib.get_close_matches(key, known, 1)
    close = close or [by_name[n] for n in difflib.get_close_matches(name, by_name, 1)]
    sections = ", ".join(get_type_hints(schema))
    hint = f"did you mean '{close[0]}'?" if close else f"the sections are {sections}"
    return InputError(f"{source}: {key}: unknown key, {hint}")


def _convert(value: Any, hint: Any, key: str, source: str) -> Any:
    """The value as its field's type; what is not plainly of that type is an error."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):  # `X | None` is the only union of the schema
        return None if value is None else _convert(value, args[0], key, source)
    if origin is Literal:
        if isinstance(value, str) and value in args:
            return value
        wanted = " or ".join(repr(choice) for choice in args)
        raise InputError(f"{source}: {key}: wanted {wanted}, got {_describe(value)}")
    if origin is tuple:
        if not isinstance(value, (list, tuple)) or len(value) != len(args):
            raise InputError(f"{source}: {key}: wanted {len(args)} numbers, got {_describe(value)}")
        return tuple(_convert(v, a, key, source) for v, a in zip(value, args, strict=True))
    if origin is dict:
        if not isinstance(value, dict) or not all(isinstance(k, str) for k in value):
            raise InputError(f"{source}: {key}: wanted a mapping by name, got {_describe(value)}")
        return value
    if hint is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)  # YAML 1.1 reads 1e-4, without a dot, as text
        except ValueError:
            number = math.nan
        if math.isfinite(number):
            return number
    elif type(value) is hint:  # not isinstance: True is an int
        return value
    wanted = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}[hint]
    raise InputError(f"{source}: {key}: wanted {wanted}, got {_describe(value)}")


def _describe(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)


def _problem(error: yaml.YAMLError) -> str:
    return " ".join((getattr(error, "problem", None) or str(error)).split())


class _Loader(yaml.SafeLoader):
    """SafeLoader that takes a repeated key for the mistake it is; YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    problem = f"key {key.value!r} is given twice"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


class _Dumper(yaml.SafeDumper):
    """Short lists of numbers stay on one line, floats read back as floats."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> Any:
        return super().represent_sequence(tag, sequence, flow_style=True)
