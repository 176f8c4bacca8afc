"""Which line of which template wrote a line of a configuration. Only asked for once something was refused.

Templates are rendered a second time, with a mark before every line of theirs that is printed. Start at Print, then
origins().
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum

from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

_MARK = re.compile("\x01(.*?)\x02")


class Print(StrEnum):
    PLAIN = "plain"
    MARKED = "marked"

    @property
    def extensions(self) -> list[type[Extension]]:
        """Of the environment that prints so."""
        return [_Marking] if self is Print.MARKED else []


class _Marking(Extension):
    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        for token in stream:
            if token.type == "data":
                yield Token(token.lineno, "data", _marked(token.value, stream.name or "", token.lineno))
            else:
                yield token


def origins(text: str, traced: str) -> list[str]:
    """For each line of the text, `server.conf.j2:12`; nothing when the marks changed what was printed."""
    if _MARK.sub("", traced) != text:
        return []
    return list(_origins(traced))


def _origins(traced: str) -> Iterator[str]:
    last = ""
    for line in traced.split("\n"):
        before = re.match(r"(?:[ \t]|\x01.*?\x02)*", line)
        marks = _MARK.findall(before[0]) if before else []
        yield (last := marks[-1] if marks else last)
        last = (_MARK.findall(line) or [last])[-1]


def _marked(printed: str, template: str, line: int) -> str:
    return "\n".join(f"\x01{template}:{number}\x02{part}" for number, part in enumerate(printed.split("\n"), line))
