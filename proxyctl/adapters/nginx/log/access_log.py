"""Follow nginx's log of requests and count it, tick by tick. Start at NginxAccessLog.read().

Ask it about once a second: a watch on the file would wake it for every 64 KiB of every worker, and a tick takes five
seconds. What it counted of the open tick is in memory only; whoever goes on from a position reads that once more.
"""

from __future__ import annotations

import asyncio
import secrets
from functools import cached_property
from threading import Lock

from proxyctl.adapters.durable import put_once, told_in_words
from proxyctl.adapters.nginx.log.files import Spot, Trail, spot_of
from proxyctl.adapters.nginx.log.lines import Ticks, charge
from proxyctl.adapters.nginx.process.master import is_written
from proxyctl.adapters.places import Places
from proxyctl.domain.model import Route
from proxyctl.domain.tally import Position, Tick
from proxyctl.ports import Reading

MOST_BLOCKS = 16  # in one reading, so that its ticks can be kept before it goes on


class NginxAccessLog:
    """Implements `AccessLog`, in a thread. Clients are told apart by a `salt`: the project's own, unless one is given
    by somebody who may not, or need not, make that."""

    def __init__(self, places: Places, project: str, salt: bytes | None = None) -> None:
        self._places = places
        self._project = project
        self._own_salt = salt
        self._following: _Following | None = None
        self._reading = Lock()  # a reading that nobody waits for any more may still run

    async def since(self, at: float) -> Position:
        return await asyncio.to_thread(self._since, at)

    async def read(self, since: Position, route: Route) -> Reading:
        return await asyncio.to_thread(self._read, since, route)

    def close(self) -> None:
        if self._following is not None:
            self._following.trail.close()

    def _since(self, at: float) -> Position:
        with told_in_words(self._places.root):
            return _position(spot_of(self._places.access_log, at), Position().share)

    def _read(self, since: Position, route: Route) -> Reading:
        with self._reading, told_in_words(self._places.root):
            if self._following is None or (self._following.position, self._following.route) != (since, route):
                self.close()
                self._following = self._follow(since, route)
            return self._following.read()

    def _follow(self, since: Position, route: Route) -> _Following:
        trail = Trail(self._places.access_log, Spot(since.log, since.begun, since.offset), is_written)
        return _Following(since, route, trail, Ticks(charge(self._project, route, self._salt), since.share))

    @cached_property
    def _salt(self) -> bytes:
        if self._own_salt is not None:
            return self._own_salt
        put_once(self._places.salt, secrets.token_hex(16))
        return self._places.salt.read_bytes()


class _Following:
    """One reader's way through the log."""

    def __init__(self, since: Position, route: Route, trail: Trail, ticks: Ticks) -> None:
        self.position = since
        self.route = route
        self.trail = trail
        self._ticks = ticks
        self._gaps_told = 0

    def read(self) -> Reading:
        ended: list[Tick] = []
        for _ in range(MOST_BLOCKS):
            stretch = self.trail.read()
            if stretch is None:
                break
            for end in self._ticks.take(stretch.lines()):
                ended.append(end.tick)
                self.position = _position(stretch.after(end.line), self._ticks.share)
        gaps = self.trail.gaps - self._gaps_told if ended else 0  # with the position that is beyond them, and once
        self._gaps_told += gaps
        return Reading(
            ticks=tuple(ended),
            position=self.position,
            more=stretch is not None,
            gaps=gaps,
        )


def _position(spot: Spot, share: int) -> Position:
    return Position(log=spot.log, begun=spot.begun, offset=spot.offset, share=share)
