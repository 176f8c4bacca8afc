"""What happens right now, told to whoever listens. Never stored; a slow listener loses lines, never slows a rollout."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from proxyctl.domain.ticks import Tick

BACKLOG = 1000


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
