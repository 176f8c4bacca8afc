"""What a file of `NAME=value` lines says."""

from __future__ import annotations

import pytest

from proxyctl.domain.env_file import variables


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=plain", "plain"),
        ("A=", ""),
        ("  A = spaced ", "spaced"),
        ("export A=exported", "exported"),
        ("A=plain\r", "plain"),
        ("A=x=y", "x=y"),
        ("A=it's", "it's"),
        ("A=$B", "$B"),
    ],
)
def test_a_value_without_quotes_is_what_stands_on_its_line(line: str, value: str) -> None:
    assert variables(f"{line}\n") == {"A": value}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=before # after", "before"),
        ("A=before\t# after", "before"),
        ("A= # after", ""),
        ("A=a#b", "a#b"),
        ("A=#fff", "#fff"),
        ('A="x" # after', "x"),
        ("A='x'# after", "x"),
        ("A='x # y'", "x # y"),
    ],
)
def test_a_comment_begins_after_a_space_or_a_closed_quote(line: str, value: str) -> None:
    assert variables(line) == {"A": value}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('A="x"', "x"),
        ("A = 'x' \r", "x"),
        ('A="it\'s"', "it's"),
        ("A='it\\'s'", "it's"),
        ('A="say \\"x\\""', 'say "x"'),
        ('A="a\\nb\\tc\\\\n"', "a\nb\tc\\n"),
        ('A="\\d\\$B"', "\\d$B"),
        ("A='a\\nb'", "a\\nb"),
        ('A="a\nB=b"', "a\nB=b"),
    ],
)
def test_quotes_around_a_value_are_taken_off_and_only_double_ones_have_escapes(line: str, value: str) -> None:
    assert variables(f"{line}\n") == {"A": value}


@pytest.mark.parametrize("value", ['"x', "'x", '"x"y', "''x'"])
def test_a_quote_that_does_not_close_at_the_end_is_a_character_and_swallows_no_other_line(value: str) -> None:
    assert variables(f"A={value}\nB='y'\n") == {"A": value, "B": "y"}


def test_lines_that_assign_nothing_are_left_out() -> None:
    assert variables("\n# A=1\nA\nno line\n=1\na.b-c=1\nB=1\nB=2\n") == {"a.b-c": "1", "B": "2"}
