"""Which way traffic moves: by flags or by a reload, as the generation in force says. Start at SplitsInForce.

Where the way changes, the split goes along: nobody's traffic moves because of it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from proxyctl.adapters.durable import told_in_words
from proxyctl.adapters.nginx.traffic.reloaded import ReloadedSplits, Shift
from proxyctl.adapters.nginx.traffic.shares import NOBODY_SERVES, Shares, are_told, told
from proxyctl.adapters.nginx.traffic.splits import NginxSplits, point, repointing
from proxyctl.adapters.places import Places
from proxyctl.domain.model import Cutover, ServiceName, Topology
from proxyctl.ports import Flags, Splits


class SplitsInForce:
    """Implements `Splits`."""

    def __init__(self, places: Places, shift: Shift) -> None:
        self._places = places
        self._live = NginxSplits(places)
        self._reloaded = ReloadedSplits(places, shift)

    def read(self, service: ServiceName) -> Flags | None:
        return self._way().read(service)

    async def move(self, service: ServiceName, flags: Flags | None) -> None:
        await self._way().move(service, flags)

    async def doubt(self, service: ServiceName) -> str:
        return await self._way().doubt(service)

    async def reach(self) -> None:
        await self._way().reach()

    def logged(self, service: ServiceName) -> AbstractContextManager[None]:
        return self._way().logged(service)

    def _way(self) -> Splits:
        return self._reloaded if are_told(self._places) else self._live


def shares_in_force(places: Places, topology: Topology) -> Shares:
    """What nginx is told of who gets traffic: what it was told before, or what the flags said until now."""
    if topology.settings.cutover is Cutover.LIVE:
        return NOBODY_SERVES
    shares, flags = told(places), NginxSplits(places)
    return {route.service: flags.read(route.service) for route in topology.routes} if shares is None else shares


def flags_in_force(places: Places, topology: Topology) -> None:
    """Where nginx asks for flags from now on, they say what it was told until now."""
    if topology.settings.cutover is Cutover.LIVE:
        for service, flags in (told(places) or NOBODY_SERVES).items():
            with told_in_words(places.root), repointing(places, service):
                point(places, service, flags)
