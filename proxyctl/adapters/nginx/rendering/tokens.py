"""Values in an nginx configuration: each comes back as one token that is equal to it, or it is refused. Pure."""

from __future__ import annotations

import re

from markupsafe import Markup as Trusted

PLAIN_TEXT = re.compile(r"[A-Za-z0-9_.:/@*~+,=%\[\]-]+", re.ASCII)
VARIABLE = re.compile(r"[A-Za-z0-9_]+", re.ASCII)
QUOTABLE = re.compile(r"[\x20-\x23\x25-\x7e]*", re.ASCII)  # printable, and no $: nginx would see a variable


class Unprintable(ValueError):
    """A value that could mean something to nginx. Whoever validates the file let it pass by mistake."""


def plain(value: object) -> Trusted:
    """As it stands: letters, digits and a few signs that mean nothing to nginx. What is Trusted already stays."""
    if isinstance(value, Trusted):
        return value
    text = str(value)
    if not PLAIN_TEXT.fullmatch(text):
        raise Unprintable(f"{text!r} cannot be written into an nginx configuration")
    return Trusted(text)


def variable(name: str) -> Trusted:
    """A part of a variable's name, which ends where another character stands."""
    if not VARIABLE.fullmatch(name):
        raise Unprintable(f"{name!r} cannot be written into the name of an nginx variable")
    return Trusted(name)


def quoted(text: str) -> Trusted:
    """Between double quotes."""
    if not QUOTABLE.fullmatch(text):
        raise Unprintable(f"{text!r} cannot be written into an nginx configuration")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return Trusted(f'"{escaped}"')
