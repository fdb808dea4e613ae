"""Typed settings: frozen dataclasses in sections, read from YAML and the command line.

A schema is a dataclass whose fields are sections, dataclasses themselves. Unknown keys and wrong
types are errors of one line that name the file, the key and the nearest valid one.
"""

import dataclasses
import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from melfast.io.errors import InputError
from melfast.io.schema import described, in_words

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Override:
    """One setting from the command line: dotted key, value, and the option that the user typed."""

    key: str
    value: Any
    source: str


def load(
    schema: type[Settings],
    path: Path | None,
    overrides: Iterable[Override] = (),
    document: Mapping[str, Any] | None = None,
) -> tuple[Settings, dict[str, str]]:
    """Defaults, then the YAML file, then the overrides; the last override of a key wins.

    Args:
        document: content of the file, if it has already been read.
    Returns:
        The settings, and for each key that the user set, where it was set.
    Raises:
        InputError: not YAML, a key given twice, an unknown key, a wrong type or value.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if path is not None:
        values = _dotted(read_yaml(path) if document is None else document, str(path))
        sources = dict.fromkeys(values, str(path))
    for override in overrides:
        given = _dotted({override.key: override.value}, override.source)
        values |= given
        sources |= dict.fromkeys(given, override.source)
    nested: dict[str, Any] = {}
    for key, value in values.items():
        section, dot, name = key.partition(".")
        if not dot or not isinstance(nested.setdefault(section, {}), dict):
            nested[section] = value  # no section: an error
        else:
            nested[section][name] = value

    def where(key: str) -> str:
        """What set a key; if that was a default, what set another key of its section."""
        beside = [source for name, source in sources.items() if name.split(".")[0] == key.split(".")[0]]
        return sources.get(".".join(key.split(".")[:2])) or [*beside, "config"][0]

    try:  # as JSON, where a list is accepted for a tuple although types are strict
        return TypeAdapter(schema).validate_json(json.dumps(as_plain(nested), default=str)), sources
    except ValidationError as error:
        raise in_words(error, where, lambda key: _hint(key, schema)) from None


def parse_setting(text: str, option: str = "--set", example: str = "optim.lr=1e-4") -> Override:
    """Parses `optim.lr=1e-4`, the argument of --set; the value is read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"{option} {text}: expected KEY=VALUE, as in {option} {example}")
    try:
        return Override(key.strip(), yaml.load(value, Loader=Loader), option)
    except yaml.YAMLError as error:
        raise InputError(f"{option} {text}: the value is not YAML: {_problem(error)}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; an empty file is an empty mapping."""
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)
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
        raise InputError(f"{path}: expected sections as 'optim:', got {described(document)}")
    return document


def as_plain(value: object) -> Any:
    """Converts dataclasses to dicts and tuples to lists, recursively, for YAML and JSON."""
    if dataclasses.is_dataclass(value):
        return {f.name: as_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): as_plain(entry) for key, entry in value.items()}
    return [as_plain(entry) for entry in value] if isinstance(value, (tuple, list)) else value


def dotted(settings: object) -> dict[str, Any]:
    """`{"optim.lr": 0.001, ...}` with every key; values as in the YAML."""
    return {f"{name}.{key}": value for name, section in as_plain(settings).items() for key, value in section.items()}


def to_yaml(settings: object) -> str:
    """YAML that `load` reads back to equal settings."""
    return yaml.dump(as_plain(settings), Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=100)


def key_types(schema: type) -> dict[str, Any]:
    """The type of every dotted key."""
    return {
        f"{name}.{key}": hint
        for name, section in get_type_hints(schema).items()
        for key, hint in get_type_hints(section).items()
    }


def _dotted(document: Mapping[Any, Any], source: str) -> dict[str, Any]:
    """Dotted keys of a document; keys that are already dotted stay as they are."""
    values: dict[str, Any] = {}
    for name, body in document.items():
        if "." in str(name) or not isinstance(body, Mapping | None):
            pairs = {str(name): body}
        else:  # None: a section with all its lines commented out
            pairs = {f"{name}.{key}": value for key, value in (body or {}).items()}
        for key, value in pairs.items():
            if key in values:
                raise InputError(f"{source}: {key}: given twice")
            values[key] = value
    return values


def _hint(key: str, schema: type) -> str:
    """The hint for an unknown key: the nearest valid key, first in its own section, if one is close."""
    known, (section, _, name) = key_types(schema), key.rpartition(".")
    by_name = {each.partition(".")[2]: each for each in reversed(known)}  # `train.lr` means `optim.lr`
    own = {each.partition(".")[2]: each for each in known if each.startswith(f"{section}.")}
    close = difflib.get_close_matches(name, own, 1, 0.7)
    close = close or difflib.get_close_matches(name, [*by_name, *get_type_hints(schema)], 1, 0.7)
    if close:
        return f"unknown key, did you mean '{(by_name | own).get(close[0], close[0])}'?"
    return f"unknown key, the sections are {', '.join(get_type_hints(schema))}"


def _problem(error: yaml.YAMLError) -> str:
    return " ".join((getattr(error, "problem", None) or str(error)).split())


class Loader(yaml.SafeLoader):
    """SafeLoader that refuses a repeated key; YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    problem = f"key {key.value!r} is given twice"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


# YAML 1.1 reads 1e-4 and 1.5e4 as text.
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
Loader.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER, list("-+.0123456789"))


class _Dumper(yaml.SafeDumper):
    """Short lists of numbers stay on one line, floats read back as floats."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> Any:
        return super().represent_sequence(tag, sequence, flow_style=True)
