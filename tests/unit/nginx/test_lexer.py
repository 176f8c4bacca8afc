"""Our reading of nginx's syntax is nginx's own: where one sees an error the other does, and each word is the same."""

from __future__ import annotations

import re
import subprocess
import tempfile
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxyctl.adapters.nginx.readback.lexer import Unlexable, statements, words
from tests.nginx_bed import DEBIAN

TEXTS = {
    "a b;": ("a", "b"),
    "a b}c;": ("a", "b}c"),
    "a x#y;": ("a", "x#y"),
    "a # comment; {\n b;": ("a", "b"),
    'a "x;{}#";': ("a", "x;{}#"),
    r'a "say \"no\" \\";': ("a", 'say "no" \\'),
    r"a 'it\'s';": ("a", "it's"),
    r'a "\t\r\n\x";': ("a", "\t\r\n\\x"),
    r"a \;b;": ("a", r"\;b"),
    "a ${x}y;": ("a", "${x}y"),
    'a b"c;': ("a", 'b"c'),
    'a "x"\n"";': ("a", "x", ""),
    'if ($a = "x") {': ("if", "($a", "=", "x", ")"),
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_statement_has_the_words_that_nginx_sees(text: str) -> None:
    [statement] = statements(text)
    assert words(statement.raw) == TEXTS[text]


@pytest.mark.parametrize("text", ["a", ";", "{", "a b }", 'a "x"y;', 'a "x;', "a {;}", "a\0;", "a é;", "a;\r"])
def test_what_nginx_cannot_read_is_refused(text: str) -> None:
    with pytest.raises(Unlexable):
        list(statements(text))


PIECES = st.sampled_from(
    [" ", "\n", ";", "{", "}", '"', "'", "\\", "$", "#", "(", ")", "a", "b", "~", "\\n", "\\;", "${", '\\"']
)


@pytest.mark.nginx
@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, max_size=12).map("".join))
def test_any_text_is_read_as_nginx_reads_it(argument: str) -> None:
    text = f"events {{}} http {{ access_log /dev/null {argument}; }}"
    assert _third_word(text) == _unknown_format(text)


def _third_word(text: str) -> str | None:
    """Of the statement in http, where it is one and has one."""
    try:
        *_, inner = islice(statements(text), 4)
    except Unlexable:
        return None
    said = words(inner.raw)
    return said[2] if inner.end == ";" and len(said) > 2 else None


def _unknown_format(text: str) -> str | None:
    """The same by nginx, which repeats the name of a log format that it does not know."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as config:
        config.write(text)
        config.flush()
        command = [DEBIAN, "-e", "stderr", "-t", "-c", config.name]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    found = re.search(r'unknown log format "(.*)" in /', said, re.DOTALL)
    return found[1] if found else None
