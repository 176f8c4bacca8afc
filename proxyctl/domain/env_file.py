"""What a file of `NAME=value` lines says, as Compose reads it; but a dollar is a dollar. Pure. Start at variables()."""

from __future__ import annotations

import re

_ASSIGNMENT = re.compile(
    r"""^[^\S\n]* (?:export[^\S\n]+)? (?P<name>[\w.-]+) [^\S\n]* =
    (?: [^\S\n]* (?P<quote>['"]) (?P<quoted>(?:\\[\s\S]|(?!(?P=quote))[^\\])*) (?P=quote) [^\S\n]* (?:\#.*)? $
      | (?P<bare>(?:(?![^\S\n]\#).)*) )""",
    re.MULTILINE | re.VERBOSE,
)
_ESCAPES = {
    "'": {"'": "'"},
    '"': {'"': '"', "\\": "\\", "$": "$", "n": "\n", "r": "\r", "t": "\t"},
}


def variables(text: str) -> dict[str, str]:
    """A value in quotes may have many lines, and in double ones escapes; elsewhere ` #` begins a comment. Lines that
    assign nothing are left out."""
    return {match["name"]: _value(match) for match in _ASSIGNMENT.finditer(text)}


def _value(match: re.Match[str]) -> str:
    if match["quote"] is None:
        return match["bare"].strip()
    escapes = _ESCAPES[match["quote"]]
    return re.sub(r"\\([\s\S])", lambda escape: escapes.get(escape[1], escape[0]), match["quoted"])
