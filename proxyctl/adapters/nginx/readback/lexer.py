r"""nginx's own syntax: text to statements, and a statement to its words. Pure. Start at statements() and words().

Follows ngx_conf_read_token: what is a word here is a word there. Not crossplane (0.5.8), because it differs, seen in
`a b}c;` (an error to it, one word to nginx) and `"x"y` (two words to it, an error to nginx), and because it needs 1.5 s
for the words of 1,000 services, which is five times what this takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

LONGEST_WORD = 4095  # bytes, quotes included: nginx takes one more only where its buffer begins with it

_BLANK = r"[ \t\r\n]"
_GAP = rf"(?:{_BLANK}++|\#[^\n]*+)*+"  # a # begins a comment only where a word could begin
# Inside a word, `{` ends it but for the one in ${name}; a } or a quote means nothing.
_PLAIN = r"(?:[^ \t\r\n;{}\"'#\\$]|\\.|\$\{*+)(?:[^ \t\r\n;{\\$]++|\\.|\$\{*+)*+"
_QUOTED = rf"(?:\"(?:[^\"\\]++|\\.)*+\"|'(?:[^'\\]++|\\.)*+')(?={_BLANK}|[;{{)]|\Z)"
_WORD = rf"(?:{_PLAIN}|{_QUOTED})"

_STATEMENT = re.compile(
    rf"{_GAP}(?:(?P<raw>(?:{_WORD}{_GAP})++)(?P<end>[;{{])|(?P<close>\}})|\Z|(?P<wrong>.))", re.DOTALL
)
_NEXT_WORD = re.compile(rf"{_GAP}({_WORD}|\Z)", re.DOTALL)
_HARD = re.compile(r"[\"'\\#]")  # a statement with one of these is not just words between blanks
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_FOREIGN = re.compile(r"[^\t\n\x20-\x7e]")
_MEANINGS = {"t": "\t", "r": "\r", "n": "\n", '"': '"', "'": "'", "\\": "\\"}


class Statement(NamedTuple):
    raw: str  # as it is written, without its end
    end: str  # ";", or "{" where it opens a block, or "}" where it closes one and says nothing else
    at: int  # where it begins in the text


class Unlexable(ValueError):
    """From here on nginx would not know what is meant."""

    def __init__(self, at: int, why: str) -> None:
        super().__init__(why)
        self.at = at


def statements(text: str) -> Iterator[Statement]:
    """All of them, in order; blocks are not matched up. Raises Unlexable."""
    if foreign := _FOREIGN.search(text):
        raise Unlexable(foreign.start(), f"character U+{ord(foreign[0]):04X} is not printable ASCII")
    for match in _STATEMENT.finditer(text):
        kind = match.lastgroup
        if kind == "end":
            if match.end() - match.start("raw") > LONGEST_WORD:
                _refuse_long_words(match)
            yield Statement(match["raw"], match["end"], match.start("raw"))
        elif kind == "close":
            yield Statement("", "}", match.start("close"))
        elif kind == "wrong":
            raise Unlexable(match.start("wrong"), _why(text, match.start("wrong")))


def words(raw: str) -> tuple[str, ...]:
    """What nginx makes of a statement: its name, then its arguments."""
    if not _HARD.search(raw):
        return tuple(raw.split())
    return tuple(_meaning(word) for word in _NEXT_WORD.findall(raw) if word)


def line_of(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _meaning(word: str) -> str:
    bare = word[1:-1] if word[0] in "\"'" else word
    return _ESCAPED.sub(lambda match: _MEANINGS.get(match[1], match[0]), bare)


def _refuse_long_words(statement: re.Match[str]) -> None:
    for word in _NEXT_WORD.finditer(statement["raw"]):
        if len(word[1]) > LONGEST_WORD:
            at = statement.start("raw") + word.start(1)
            raise Unlexable(at, f"a word of {len(word[1])} characters; nginx takes {LONGEST_WORD}")


def _why(text: str, at: int) -> str:
    rest = text[at:].partition("\n")[0].strip()
    return f"nginx cannot read on from {rest[:40]!r}: a quote, a ; or a brace is missing or one too many"
