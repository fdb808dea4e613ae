"""Translate parameter names in the library's messages to the flags of a command."""

import re

import click


def with_flags(message: str, command: click.Command) -> str:
    """A library's message with the flags of a command: `name` becomes --name, `name=value` --name value.

    A name may be that of an option, of its parameter, or of the config key that it sets. Names
    without an option stay as they are.
    """
    flags: dict[str, str] = {}
    for parameter in command.params:
        first = parameter.opts[0]
        if first.startswith("--"):
            key = (parameter.name or "").replace("__", ".")
            names = [option.lstrip("-").replace("-", "_") for option in parameter.opts]
            flags |= dict.fromkeys([key, key.rpartition(".")[2], *names], first)

    def flag(match: re.Match[str]) -> str:
        name, value = match["name"], match["value"]
        if name not in flags:
            return match[0]
        return flags[name] if value in (None, "True") else f"{flags[name]} {value.strip(chr(39))}"

    return re.sub(r"`(?P<name>[a-z][\w.]*)(?:=(?P<value>[^`]+))?`", flag, message)
