"""What happens right now, told to whoever listens. Never stored; a slow listener loses lines, never slows a rollout."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from proxyctl.domain.model import Seconds
from proxyctl.domain.record import Record

BACKLOG = 1000


class Probed(Record):
    """One probe of one replica, and how many in a row went the same way."""

    replica: str
    passed: bool
    reason: str
    streak: int
    needed: int


class Watched(Record):
    """The window runs: a bake, or a pause (then `window` is 0)."""

    elapsed: Seconds
    window: Seconds


class Drained(Record):
    replica: str
    connections: int
    left: Seconds  # until the drain deadline


class Waiting(Record):
    """A step could not be done and is tried again."""

    reason: str


Tick = Probed | Watched | Drained | Waiting


class Bus:
    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[Tick]] = set()

    def tell(self, tick: Tick) -> None:
        for queue in self._listeners:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(tick)

    @contextmanager
    def listen(self) -> Iterator[asyncio.Queue[Tick]]:
        queue: asyncio.Queue[Tick] = asyncio.Queue(BACKLOG)
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)
