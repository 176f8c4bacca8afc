"""Compose's variables: `${VAR}`, `$VAR`, `${VAR:-x}`, `${VAR-x}`, `${VAR:?e}`, `${VAR?e}` and `$$`. No nesting.

Only a Compose file has them; in `proxyctl.yml` a dollar is a dollar. Start at replaced().
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_VARIABLE = re.compile(
    r"\$(?:(?P<dollar>\$)|(?P<bare>[A-Za-z_][A-Za-z0-9_]*)"
    r"|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:(?P<how>:?[-?])(?P<word>[^{}$]*))?\})",
    re.ASCII,
)


def replaced(text: str, variables: Mapping[str, str]) -> str:
    """Raises ValueError for a variable that is wanted and missing, and for any other use of a dollar."""
    parts: list[str] = []
    end = 0
    for match in _VARIABLE.finditer(text):
        parts += [_no_dollar(text[end : match.start()]), _value(match, variables)]
        end = match.end()
    return "".join([*parts, _no_dollar(text[end:])])


def _no_dollar(text: str) -> str:
    if "$" in text:
        raise ValueError("$ begins no variable that is carried; write ${NAME}, ${NAME:-else}, or $$ for a dollar")
    return text


def _value(match: re.Match[str], variables: Mapping[str, str]) -> str:
    if match["dollar"]:
        return "$"
    name, how, word = match["bare"] or match["name"], match["how"] or "", match["word"] or ""
    value = variables.get(name)
    if value is None or (how.startswith(":") and not value):
        return _missing(name, how, word)
    return value


def _missing(name: str, how: str, word: str) -> str:
    if how.endswith("-"):
        return word
    reason = f": {word}" if word else ""
    raise ValueError(f"the variable {name} is not set{reason}; set it, or write ${{{name}:-else}}")
