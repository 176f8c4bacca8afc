"""What differs between two configurations, as a unified diff. Pure. Start at difference().

Compared block by block first: the lines of 1,000 services take difflib three seconds, because many of them are alike;
of their blocks hardly two are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher

CONTEXT = 3

# Where a block begins that stands in the top level, in http or in a server.
_BLOCK = re.compile(r"^(?= {0,8}[^ \n}].*\{$)", re.MULTILINE)

Change = tuple[str, int, int, int, int]  # as difflib has it: what, and from which line to which of either text


def difference(before: str, after: str, name: str, planned: str) -> str:
    """Empty when they are the same."""
    old, new = before.splitlines(True), after.splitlines(True)
    hunks = "".join(line for hunk in _Known(_changes(before, after)).hunks() for line in _told(hunk, old, new))
    return f"--- {name}\n+++ {planned}\n{hunks}" if hunks else ""


class _Known(SequenceMatcher[str]):
    """For difflib to group changes that are known already."""

    def __init__(self, changes: Iterator[Change]) -> None:
        super().__init__()
        self._changes = list(changes)

    def get_opcodes(self) -> list[Change]:  # type: ignore[override]  # its tags are strings to us
        return self._changes

    def hunks(self) -> Iterator[list[Change]]:
        if any(what != "equal" for what, *_ in self._changes):
            yield from self.get_grouped_opcodes(CONTEXT)


def _changes(before: str, after: str) -> Iterator[Change]:
    """By line; runs of equal lines in one."""
    same = None
    for change in _by_line(_BLOCK.split(before), _BLOCK.split(after)):
        if change[0] != "equal":
            yield from filter(None, [same])
            yield change
            same = None
        else:
            same = change if same is None else ("equal", same[1], change[2], same[3], change[4])
    yield from filter(None, [same])


def _by_line(old: list[str], new: list[str]) -> Iterator[Change]:
    i = j = 0
    for what, i1, i2, j1, j2 in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        ours, theirs = "".join(old[i1:i2]).splitlines(True), "".join(new[j1:j2]).splitlines(True)
        if what == "equal":
            yield what, i, i + len(ours), j, j + len(theirs)
        else:
            for inner, a1, a2, b1, b2 in SequenceMatcher(None, ours, theirs).get_opcodes():
                yield inner, i + a1, i + a2, j + b1, j + b2
        i, j = i + len(ours), j + len(theirs)


def _told(hunk: list[Change], old: list[str], new: list[str]) -> Iterator[str]:
    (_, i1, _, j1, _), (_, _, i2, _, j2) = hunk[0], hunk[-1]
    yield f"@@ -{_range(i1, i2)} +{_range(j1, j2)} @@\n"
    for what, a1, a2, b1, b2 in hunk:
        if what == "equal":
            yield from (f" {line}" for line in old[a1:a2])
        else:
            yield from (f"-{line}" for line in old[a1:a2])
            yield from (f"+{line}" for line in new[b1:b2])


def _range(start: int, stop: int) -> str:
    """Lines are counted from 1; a range of none is named by the line before it."""
    return f"{start + (stop > start)},{stop - start}"
