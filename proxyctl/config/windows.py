"""The grammar of `windows:` of a project: `Mon-Fri 09:00-16:30`."""

from __future__ import annotations

import re
from typing import Any, Final

from proxyctl.domain.windows import DAYS, Window

_DAY: Final = "|".join(DAYS)
_WINDOW: Final = re.compile(
    rf"(?P<days>(?:{_DAY})(?:-(?:{_DAY}))?(?:,(?:{_DAY})(?:-(?:{_DAY}))?)*)"
    r" (?P<begin>[0-2]\d:[0-5]\d)-(?P<end>[0-2]\d:[0-5]\d)",
    re.ASCII,
)
_MIDNIGHT: Final = 24 * 60


def window(value: Any) -> Window:
    match = _WINDOW.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("write days and hours, such as Mon-Fri 09:00-16:30 or Sat,Sun 10:00-12:00")
    begin, end = _minutes(match["begin"]), _minutes(match["end"])
    if not begin < end <= _MIDNIGHT:
        raise ValueError("the end is not after the beginning; write 24:00 for midnight, and two windows over it")
    days = {day for part in match["days"].split(",") for day in _days(part)}
    return Window(days=tuple(sorted(days)), begin=begin, end=end)


def _days(part: str) -> list[int]:
    """Fri-Mon goes over the end of the week."""
    first, _, last = part.partition("-")
    begin, end = DAYS.index(first), DAYS.index(last or first)
    return [day % 7 for day in range(begin, end + 1 if begin <= end else end + 8)]


def _minutes(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes)
