"""The documentation as a site: `make docs` builds it into build/docs.

The pages read the same on GitHub: links between them are plain Markdown, and what only the site
knows (the API and the command lines) stands on pages of its own.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

import click
import numpy.typing
from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

import melfast
from melfast import cli

logger = logging.getLogger(__name__)


class ArrayLike:
    """Stands for numpy's of that name, a union of half a screen where a signature spells it out."""

    __module__ = "builtins"  # so that it is called by its name alone


class DTypeLike:
    """Likewise."""

    __module__ = "builtins"


class NDArray(Generic[TypeVar("DType")]):  # type: ignore[misc]
    """Likewise."""

    __module__ = "builtins"


# Before autodoc imports anything.
numpy.typing.ArrayLike, numpy.typing.DTypeLike, numpy.typing.NDArray = ArrayLike, DTypeLike, NDArray

project = "melfast"
author = "The melfast developers"
copyright = "The melfast developers, Apache-2.0"
version = release = melfast.__version__

extensions = [
    "myst_nb",  # brings myst_parser along
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]

myst_enable_extensions = ["attrs_inline", "colon_fence", "dollarmath"]
myst_heading_anchors = 3

# "off" builds without running the notebooks, in seconds; they then show their code alone.
nb_execution_mode = os.environ.get("MELFAST_DOCS_NOTEBOOKS", "cache")
nb_execution_cache_path = str(Path(__file__).parents[1] / "build" / "notebooks")
nb_execution_timeout = 240
nb_execution_raise_on_error = True

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# `make docs` is nitpicky about names of melfast's own; those of other projects would need their
# pages at hand, and none is fetched.
nitpick_ignore_regex = [
    ("py:.*", r"(?!melfast\b).*"),
    ("py:.*", r"melfast\.(.*\.)?_.*"),  # internal
    ("py:.*", r"melfast\.config\.loading\.Settings"),  # a type variable
]

smartquotes = False  # options begin with two dashes

html_math_renderer = "mathml"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = f"melfast {release}"
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
highlight_language = "text"  # of blocks without a name: shell, or what a command printed
pygments_style = "default"
pygments_dark_style = "monokai"

# Pages whose text stands outside of docs/; the file of the page itself is a link there, for GitHub.
OUTSIDE = {"contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md", "security": "SECURITY.md"}


def lead_inside(app: Sphinx, page: str, source: list[str]) -> None:
    """Takes in the pages of OUTSIDE, and lets links to them lead to the site's own page."""
    prefix = r"\]\(\.\./"
    if page in OUTSIDE:
        path = Path(__file__).parents[1] / OUTSIDE[page]
        app.env.note_dependency(str(path))
        source[0] = path.read_text(encoding="utf-8").replace("](docs/", "](")
        prefix = r"\]\("
    for inside, file in OUTSIDE.items():
        source[0] = re.sub(rf"{prefix}{file}(#[^)]*)?\)", rf"]({inside}.md\1)", source[0])


def as_written(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Keeps napoleon from taking what stands before a colon for a type where ours is none.

    That is in "Returns:", where the signature tells the type and we say shapes and units, and on
    the first line of a property.
    """
    for number, line in enumerate(lines[:-1]):
        if line.strip() in ("Returns:", "Yields:"):
            first = lines[number + 1]
            indent = len(first) - len(first.lstrip())
            lines[number + 1] = f"{first[:indent]}: {first[indent:]}"
    lines[:] = [as_code(line) for line in lines]
    if what == "property" and lines:
        lines[0] = f": {lines[0]}"


def readable_signature(
    app: Sphinx, what: str, name: str, thing: object, options: object, *texts: str | None
) -> tuple[str | None, ...]:
    """`<factory>`, a dataclass's default, would not be read as code."""
    return tuple(text and text.replace("<factory>", "...") for text in texts)


def as_code(line: str) -> str:
    """`single` backticks, which our docstrings use as Markdown does, as reStructuredText's code."""
    return re.sub(r"(?<![`:\w])`([^`]+)`(?![`_])", r"``\1``", line)


def dashes(app: Sphinx, doctree: nodes.document) -> None:
    """Between a parameter and what it is Sphinx sets two hyphens, for `smartquotes` to mend."""
    for text in list(doctree.findall(nodes.Text)):
        if text == " -- ":
            text.parent.replace(text, nodes.Text(" – "))


def write_math(translator: HTML5Translator, node: nodes.math | nodes.math_block) -> None:
    """Formulas as MathML, which browsers draw by themselves: no script, and no network."""
    formula = node.astext().replace("°", r"^\circ")  # Markdown may say either
    try:
        block = isinstance(node, nodes.math_block)
        translator.body.append(latex2mathml.tex2mathml(formula, as_block=block))
    except MathError as error:
        logger.warning("cannot set %r: %s", formula, error, location=node)
    raise nodes.SkipNode


class CommandHelp(SphinxDirective):
    """What `melfast COMMAND --help` prints, of every command, in a section each."""

    def run(self) -> list[nodes.Node]:
        return [self.told(words, text) for words, text in helps(cli.main, ("melfast",))]

    def told(self, words: tuple[str, ...], text: str) -> nodes.section:
        name = " ".join(words)
        section = nodes.section(ids=[nodes.make_id(name)], names=[nodes.fully_normalize_name(name)])
        section += nodes.title("", "", nodes.literal(text=name))
        section += nodes.literal_block(text, text, language="text")
        return section


def helps(
    command: click.Command, words: tuple[str, ...], parent: click.Context | None = None
) -> Iterator[tuple[tuple[str, ...], str]]:
    """A command's words and help, and those of the commands in it, in the order of its help."""
    context = click.Context(command, parent, words[-1], terminal_width=84, **cli.CONTEXT)
    yield words, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from helps(inner, (*words, name), context)


def setup(app: Sphinx) -> None:
    app.connect("source-read", lead_inside)
    app.connect("autodoc-process-docstring", as_written, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", readable_signature)
    app.connect("doctree-read", dashes)
    app.add_html_math_renderer("mathml", (write_math, None), (write_math, None))
    app.add_directive("melfast-help", CommandHelp)
