"""Move traffic by a reload (`proxy.cutover: reload`): nginx is told the split as weights, in a generation of its own.

A move is done when a worker says the split and no older worker takes connections any more. Processes that wait for
their turn to publish leave what they wish where the one whose turn it is finds it, so that many moves share a reload.
Light: what renders is imported when it is needed. Start at ReloadedSplits.move().
"""

from __future__ import annotations

import fcntl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from proxyctl.adapters.durable import told_in_words
from proxyctl.adapters.nginx.control import Control
from proxyctl.adapters.nginx.flags import folder_name, parse_folder_name
from proxyctl.adapters.nginx.traffic.shares import Shares, told
from proxyctl.adapters.nginx.traffic.splits import logged
from proxyctl.adapters.places import Places
from proxyctl.domain.model import ServiceName
from proxyctl.errors import NginxUnavailable, SplitNotSeen
from proxyctl.ports import Flags

WISH = ".wish"

Wishes = Callable[[], Shares]
Shift = Callable[[Wishes], Awaitable[object]]  # nginx has these splits, asked for when it is our turn, and is observed


class ReloadedSplits:
    """Implements `Splits`."""

    def __init__(self, places: Places, shift: Shift) -> None:
        self._places = places
        self._shift = shift
        self._control = Control(places)

    def read(self, service: ServiceName) -> Flags | None:
        """As the generation in force tells nginx. Raises StateUnusable."""
        return (told(self._places) or {}).get(service)

    async def move(self, service: ServiceName, flags: Flags | None) -> None:
        """Raises PublishRefused too, when nginx does not take it; then all is as it was."""
        with _wished(self._places, service, flags):
            await self._shift(lambda: open_wishes(self._places))
        seen, expected = await self._control.split(service), folder_name(flags)
        if seen != expected:
            raise SplitNotSeen(
                f"{service}: nginx was told {expected} and says {seen}",
                next_step="proxyctl proxy status",
                serving=f"{seen}, as nginx says",
            )

    async def doubt(self, service: ServiceName) -> str:
        flags = self.read(service)
        with suppress(NginxUnavailable):
            seen, expected = await self._control.split(service), folder_name(flags)
            if seen != expected and self.read(service) == flags:  # nobody moved it meanwhile
                return f"{service}: nginx was told {expected} and says {seen}"
        return ""

    async def reach(self) -> None:
        await self._control.speaker()

    def logged(self, service: ServiceName) -> AbstractContextManager[None]:
        return logged(self._places, service)


def open_wishes(places: Places) -> Shares:
    """Of processes that live and wait; what a dead one wished is nobody's wish any more."""
    return dict(_open(places))


def _open(places: Places) -> Iterator[tuple[ServiceName, Flags | None]]:
    for path in places.locks.glob(f"*{WISH}"):
        with path.open() as file, suppress(ValueError):  # one that is only being written comes after us
            if _is_held(file.fileno()):
                yield ServiceName(path.name.removesuffix(WISH)), parse_folder_name(file.read())


@contextmanager
def _wished(places: Places, service: ServiceName, flags: Flags | None) -> Iterator[None]:
    """The kernel ends the wish with its process."""
    with told_in_words(places.root):
        file = _wish(places, service).open("w")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(folder_name(flags))
        file.flush()
        yield


def _wish(places: Places, service: ServiceName) -> Path:
    return places.locks / f"{service}{WISH}"


def _is_held(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
