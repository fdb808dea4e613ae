"""Parameters that the library names, as the flags of a command."""

import re

import click


def with_flags(message: str, command: click.Command) -> str:
    """A library's message in the words of a command: `name` as --name, `name=value` as --name value.

    A name is that of one of the command's options or of its parameter, or the key of the config that
    it sets; what the command has no option for stays as it is.
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
