"""When releases may be started."""

from __future__ import annotations

from datetime import datetime

import pytest

from proxyctl.config.windows import window

MONDAY = datetime(2026, 11, 23)


@pytest.mark.parametrize(
    ("written", "day", "clock", "inside"),
    [
        ("Mon-Fri 09:00-16:30", 0, "09:00", True),
        ("Mon-Fri 09:00-16:30", 4, "16:29", True),
        ("Mon-Fri 09:00-16:30", 4, "16:30", False),
        ("Mon-Fri 09:00-16:30", 5, "12:00", False),
        ("Sat,Sun 10:00-12:00", 6, "11:59", True),
        ("Fri-Mon 00:00-24:00", 0, "23:59", True),
        ("Fri-Mon 00:00-24:00", 1, "00:00", False),
        ("Tue 08:00-09:00", 1, "07:59", False),
    ],
)
def test_a_window_has_its_beginning_and_not_its_end(written: str, day: int, clock: str, inside: bool) -> None:
    hour, minute = map(int, clock.split(":"))
    assert (MONDAY.replace(day=MONDAY.day + day, hour=hour, minute=minute) in window(written)) is inside


def test_a_window_is_told_day_by_day() -> None:
    assert str(window("Fri-Sun,Tue 09:00-24:00")) == "Tue,Fri,Sat,Sun 09:00-24:00"
