"""The blocks of code in a Markdown page, and the melfast commands in a block of shell."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from markdown_it import MarkdownIt

from melfast.cli import main

OPERATORS = {"|", ";", "&&", "||", "&", "<", ">", ">>"}
# What a block of shell begins with where no fence says that it is one.
PROGRAMS = {
    "cd",
    "conda",
    "docker",
    "export",
    "find",
    "for",
    "git",
    "isic",
    "make",
    "melfast",
    "pip",
    "python",
    "python3",
    "sbatch",
    "srun",
    "torchrun",
    "tritonserver",
    "uv",
}
# Words of the shell that a command may follow.
BEFORE = {"do", "then", "else", "exec", "time", "!"}


@dataclass(frozen=True)
class Block:
    """A block of a page.

    Attributes:
        language: what a fence says, or what an indented block looks like: `sh`, `python`, `text`.
        line: of the block's first line of code in the page, counted from 1.
        section: the heading above it.
    """

    page: Path
    section: str
    line: int
    language: str
    code: str

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def commands(self) -> list["Line"]:
        """The lines of shell, those that end in a backslash joined with the next."""
        found, first, text = [], 0, ""
        for number, line in enumerate(self.code.splitlines()):
            first = first if text else number
            text += line
            if text.endswith("\\"):
                text = text[:-1]
                continue
            if text.strip() and not text.lstrip().startswith("#"):
                found.append(Line(f"{self.page.name}:{self.line + first}", text.strip()))
            text = ""
        return found

    @property
    def prompted(self) -> list["Line"]:
        """Commands after `$ ` in a block that shows output."""
        return [
            Line(f"{self.page.name}:{self.line + number}", line.removeprefix("$ "))
            for number, line in enumerate(self.code.splitlines())
            if line.startswith("$ ")
        ]


@dataclass(frozen=True)
class Line:
    """A line of shell, and its place."""

    place: str
    text: str


def read_blocks(page: Path) -> list[Block]:
    blocks, section = [], ""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    for before, token in zip([None, *tokens], tokens, strict=False):
        if before is not None and before.type == "heading_open":
            section = token.content
        if token.type not in ("fence", "code_block") or token.map is None:
            continue
        fenced = token.type == "fence"
        language = token.info.strip() if fenced else looks_like(token.content)
        if language.startswith("{"):  # a directive of the site
            continue
        line = token.map[0] + 1 + fenced
        blocks.append(Block(page, section, line, language, token.content))
    return blocks


def read_inline(page: Path) -> list[Line]:
    """Text between backticks on a page, including tables."""
    tokens = MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8"))
    return [
        Line(f"{page.name}:{token.map[0] + 1}", child.content)
        for token in tokens
        if token.map is not None
        for child in token.children or []
        if child.type == "code_inline"
    ]


def looks_like(code: str) -> str:
    """The language of an indented block, by its first word: `python`, `sh`, or otherwise `text`."""
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith("#")]
    first = lines[0].split()[0] if lines else ""
    if first in ("import", "from"):
        return "python"
    return "sh" if first in PROGRAMS or first.startswith(".venv/bin/") else "text"


def melfast_commands(line: str) -> list[list[str]]:
    """The words after `melfast` of each call in a line of shell, `-m melfast` of torchrun's too."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    calls: list[list[str]] = []
    words: list[str] = []
    for token in [*without_comment(lexer), ";"]:
        if token in OPERATORS or token in BEFORE:
            calls += calls_in(words)
            words = []
        else:
            words.append(token)
    return calls


def without_comment(tokens: Any) -> list[str]:
    """Up to a word that begins with `#`; a `#` within a word begins no comment in a shell."""
    found = []
    for token in tokens:
        if token.startswith("#"):
            break
        found.append(token)
    return found


def calls_in(words: list[str]) -> list[list[str]]:
    """The words after `melfast` in a command that is, or starts, one of ours."""
    if words[:1] == ["sbatch"] and "--wrap" in words:
        return melfast_commands(words[words.index("--wrap") + 1])
    starter = bool(words) and (words[0] in ("torchrun", "python", "srun") or "=" in words[0])
    if words[:1] == ["melfast"] or (starter and "melfast" in words):
        return [words[words.index("melfast") + 1 :]]
    images = [number for number, word in enumerate(words) if word.startswith("melfast:")]
    if words[:2] == ["docker", "run"] and images:
        return [words[images[0] + 1 :]]
    return []


def parse(words: list[str]) -> click.Context | None:
    """Lets click parse the words without running the command; None if they request help.

    Raises:
        click.UsageError: no such command or option, or a value that is not one of the choices.
    """
    command: click.Command = main
    context = click.Context(main, info_name="melfast", **main.context_settings)
    words = list(words)
    while isinstance(command, click.Group):
        if not words or words[0] in ("--help", "-h", "--version"):
            return None
        found = command.get_command(context, words[0])
        if found is None:
            raise click.UsageError(f"no such command: {' '.join(words[:1])}", context)
        command = found
        context = click.Context(command, parent=context, info_name=words.pop(0))
    try:
        return command.make_context(str(command.name), words, parent=context.parent)
    except click.exceptions.Exit:
        return None
