"""What nginx was told and by whom, as the journal has it: for the next generation, and for one that somebody spoiled.

Start at mend().
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain.model import ProxySettings, Route, ServiceName, Topology
from proxyctl.domain.state import ServiceState
from proxyctl.engine.traffic import flags_of
from proxyctl.ports import Flags, Proxy, Store


class Published(NamedTuple):
    topology: Topology
    splits: Mapping[ServiceName, Flags | None]
    fence: int


async def mend(project: str, store: Store, proxy: Proxy) -> int | None:
    """What `current` names is what was published, also where somebody changed it: the generation that nginx answers
    with since; None where it was whole. The caller holds the publishing lock. Raises like Proxy.publish()."""
    if proxy.damage() and (last := _last_published(project, store)) is not None:
        return await proxy.replace(last.topology, last.splits, last.fence, store.claim_generation)
    return None


def settings_in_force(store: Store, proxy: Proxy) -> ProxySettings | None:
    """What nginx goes by, whichever service brought it; by the journal where somebody spoiled the generation. None
    before the first."""
    topology = None if proxy.damage() else proxy.topology()
    if topology is not None:
        return topology.settings
    last = _last_told(store)
    return last[0].settings if last else None


def topology_of(project: str, settings: ProxySettings, routes: Mapping[ServiceName, Route | None]) -> Topology:
    known = tuple(route for _, route in sorted(routes.items()) if route is not None)
    return Topology(project=project, settings=settings, routes=known)


def routes_of(store: Store) -> dict[ServiceName, Route | None]:
    """Of every service as it was published, or is being published."""
    return {service: _known_route(store.load(service)) for service in store.services()}


def _known_route(state: ServiceState) -> Route | None:
    return state.intent.route if isinstance(state.intent, do.Publish) else state.route


def _last_published(project: str, store: Store) -> Published | None:
    """With the splits that were journaled: whoever had traffic has it."""
    if (last := _last_told(store)) is None:
        return None
    told, fence = last
    splits = {service: flags_of(store.load(service)) for service in store.services()}
    return Published(topology_of(project, told.settings, routes_of(store)), splits, fence)


def _last_told(store: Store) -> tuple[ev.RoutePublished, int] | None:
    """And the fence of whoever did."""
    found = ((entry.event, entry.fence) for entry in reversed(store.entries()))
    return next(((event, fence) for event, fence in found if isinstance(event, ev.RoutePublished)), None)
