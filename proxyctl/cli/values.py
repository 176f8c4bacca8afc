"""What a value on the command line may be. A bad one is refused before anything is opened. Start at Spoken.

The hot commands come by here: what only a mistake needs is imported by the mistake.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from proxyctl.config.places import NAME, RESERVED, as_path, existing
from proxyctl.config.problems import shown
from proxyctl.domain.split import hundredths

LONGEST_REASON = 500  # characters; the history shows it in one line

_WHOLE = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_RELEASE = re.compile(r"[a-z0-9-]{1,60}", re.ASCII)


class Spoken(click.ParamType):  # type: ignore[type-arg]
    """A value in words; what the reader says against it is the refusal."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value  # a default that was read already
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(f"{shown(value)}: {error}", param, ctx)


def _name(text: str) -> str:
    if NAME.fullmatch(text) and text not in RESERVED:
        return text
    from proxyctl.config import grammar

    return grammar.name(text)


def _image(text: str) -> str:
    from proxyctl.config import grammar

    return grammar.image(text)


def _release(text: str) -> str:
    if not _RELEASE.fullmatch(text):
        raise ValueError("not a release; write its id, such as web-3, or blue or green")
    return text


def _percent(text: str) -> int:
    try:
        return hundredths(text)
    except ValueError as error:
        raise ValueError(f"{error}; write a percentage such as 5 or 12.34") from None


def _reason(text: str) -> str:
    if len(text) > LONGEST_REASON:
        raise ValueError(f"longer than {LONGEST_REASON} characters; the history has a line for it")
    if not text.isprintable():
        from proxyctl.config import grammar

        return grammar.line(text)
    return text


def _source(text: str) -> Path:
    return existing(Path(text))


def whole(least: int, most: int) -> Spoken:
    """A whole number in these bounds."""

    def read(text: str) -> int:
        if not _WHOLE.fullmatch(text) or not least <= int(text) <= most:
            raise ValueError(f"write a whole number from {least} to {most}")
        return int(text)

    return Spoken("number", read)


SERVICE = Spoken("service", _name)
PROJECT = Spoken("name", _name)
IMAGE = Spoken("image", _image)
RELEASE = Spoken("release", _release)
PERCENT = Spoken("percent", _percent)
REASON = Spoken("text", _reason)
SOURCE = Spoken("file", _source)
PATH = Spoken("file", as_path)
