"""When releases may be started: hours of weekdays, in the host's own time. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from proxyctl.domain.record import Record

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


class Window(Record):
    days: tuple[int, ...]  # 0 is Monday
    begin: int  # minutes since midnight
    end: int  # the first minute after it, on the same day; 1440 is midnight

    def __contains__(self, when: datetime) -> bool:
        return when.weekday() in self.days and self.begin <= when.hour * 60 + when.minute < self.end

    def __str__(self) -> str:
        days = ",".join(DAYS[day] for day in self.days)
        return f"{days} {_clock(self.begin)}-{_clock(self.end)}"


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
