"""The end of what a program writes, which is where it says why it failed."""

from __future__ import annotations

from proxyctl.domain.units import Bytes, Seconds

MOST: Bytes = 4096
ARRIVE: Seconds = 0.5  # once the program ended: what it left running may hold its output open, and is not waited for


class LastWords:
    def __init__(self) -> None:
        self._end = bytearray()

    def add(self, data: bytes) -> None:
        self._end += data
        del self._end[:-MOST]

    def __str__(self) -> str:
        return self._end.decode("utf-8", "replace").strip()
