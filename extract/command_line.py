"""Command lines from dataclasses, with a ``--help`` that reads well in a terminal.

A dataclass is the command line: its fields are the flags, their docstrings the help. Beyond what
tyro does, text is filled to the terminal's width, and a setting whose default is worked out later
says so in its own words.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import shutil
import textwrap
from collections.abc import Sequence
from types import MappingProxyType
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import tyro

from extract.errors import UserError

T = TypeVar("T")
Config = TypeVar("Config")


def _hint(default: str) -> str:
    return "" if default in ("None", "") else f"(default: {default})"


Optional = Annotated[T | None, tyro.conf.DisallowNone, tyro.conf.arg(help_behavior_hint=_hint)]
"""A setting that may be left away; its docstring says what then happens."""
Several = Annotated[tuple[T, ...], tyro.conf.arg(help_behavior_hint=_hint)]
"""A list of values, empty by default."""


def titled(name: str) -> tuple[Any, ...]:
    """Markers of a group of settings: its title, and flags without a prefix."""
    return tyro.conf.OmitArgPrefixes, tyro.conf.arg(name=name)


def parse(
    config: type[Config],
    *,
    prog: str,
    args: Sequence[str] | None = None,
    default: Config | None = None,
) -> Config:
    """The configuration that the words of a command line give.

    Args:
        config: a dataclass; its groups are dataclasses too.
        prog: how it is called, for the first line of the help.
        args: the words; by default those the process was started with.
        default: what holds where a flag isn't given; by default the dataclass's own.
    """
    fill_help(config)
    about = inspect.cleandoc(config.__doc__ or "")
    width = min(80, shutil.get_terminal_size().columns) - 1
    # tyro joins lines that begin with a letter, and does not break long ones
    paragraphs = [
        p if p.startswith(" ") else textwrap.indent(textwrap.fill(p, width), " ")
        for p in about.replace("``", "`").split("\n\n")
    ]
    return tyro.cli(
        config,
        prog=prog,
        description="\n".join(paragraphs),
        args=args,
        default=tyro.MISSING_NONPROP if default is None else default,
    )


def require_at_least(config: Any, least: int, *names: str) -> None:
    """Refuse settings that are given and below ``least``.

    Raises:
        UserError: naming the flag and its value.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and value < least:
            rule = f"be at least {least}" if least else "not be negative"
            raise UserError(f"--{name.replace('_', '-')} ({value}) must {rule}")


def fill_help(config: type) -> None:
    """Give tyro the docstrings of a dataclass's fields, and of its groups, without line breaks."""
    documented = _docstrings(config)
    hints = get_type_hints(config)
    for field in dataclasses.fields(config):
        if field.name in documented:
            field.metadata = MappingProxyType({**field.metadata, "help": documented[field.name]})
        inner = hints[field.name]
        if not dataclasses.is_dataclass(inner):
            inner = next((t for t in get_args(inner) if dataclasses.is_dataclass(t)), None)
        if isinstance(inner, type):
            fill_help(inner)


def _docstrings(config: type) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(config))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            value = text.value if isinstance(text, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                words = " ".join(value.value.split())
                found[field.target.id] = words.replace("``", "`")
    return found
