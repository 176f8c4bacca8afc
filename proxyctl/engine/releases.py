"""Make a release out of a service's definition, and open its rollout. Start at Opening.

Everything is chosen before anything exists: the image digest, the release's number, container names, slot addresses.
Pulling the image is the only effect, and it changes nothing that serves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from proxyctl.domain import events as ev
from proxyctl.domain import orders
from proxyctl.domain.model import LOOPBACK, Apart, Colour, Edge, ProxySettings, Release, Replica, Route, Service
from proxyctl.domain.orders import Signed
from proxyctl.domain.plan import Plan, first_batch
from proxyctl.domain.state import Kind, Placement, ServiceState
from proxyctl.engine.host_ports import TO_FREE_A_PORT, containers_of, taken_port
from proxyctl.errors import AddressTaken
from proxyctl.ports import Network, Runtime, Store

TellNetwork = Callable[[], Awaitable[Network]]


class Opening:
    """`network` tells the slots that addresses are taken from: those there are, or those there would be."""

    def __init__(
        self, *, runtime: Runtime, network: TellNetwork, store: Store, project: str, settings: ProxySettings
    ) -> None:
        self._runtime = runtime
        self._network = network
        self._store = store
        self._project = project
        self._settings = settings

    async def release(
        self, service: Service, state: ServiceState, wall: float, config_digest: str, progress: Callable[[str], None]
    ) -> Release:
        """The next release of the service, pinned to the image's digest. Raises ImageUnavailable."""
        image = await self._runtime.resolve(service.container, progress)
        return Release(
            id=orders.next_release_id(state),
            service=service,
            image=image.reference,
            digest=image.digest,
            config_digest=config_digest,
            created=wall,
        )

    async def fresh(
        self, kind: Kind, plan: Plan, release: Release, state: ServiceState, signed: Signed
    ) -> ev.RolloutOpened:
        """The event that opens a rollout of this release into the free slot. Raises Unavailable for what would keep it
        from starting, as far as that is known, while what serves still stands."""
        service, colour = release.service, orders.free_colour(state)
        names = [f"{self._project}-{release.id}-{ordinal}" for ordinal in range(1, service.replicas + 1)]
        await self._runtime.require_image(release)
        await self._runtime.require(service.container, names)
        await self._refuse_taken_ports(service, state)
        slots = (await self._network()).slots
        addresses = {c: self._addresses(state.at(c), service, c, slots, colour) for c in Colour}
        replicas = tuple(
            Replica(name=name, address=address) for name, address in zip(names, addresses[colour], strict=True)
        )
        addresses[colour] = addresses[colour][: first_batch(plan)]
        route = route_of(service, addresses, colour, state.at(colour.other)) if service.routed else None
        return orders.open_fresh(state, kind, plan, release, replicas, route, self._settings, signed)

    async def _refuse_taken_ports(self, service: Service, state: ServiceState) -> None:
        """Before the release that serves has left. Raises AddressTaken."""
        if taken := await taken_port(self._runtime, service, containers_of(state)):
            raise AddressTaken(taken, serving=orders.serving(state), next_step=TO_FREE_A_PORT)

    def _addresses(
        self, placed: Placement | None, service: Service, colour: Colour, slots: tuple[str, ...], idle: Colour
    ) -> tuple[str, ...]:
        """What stands in a slot keeps its addresses; the idle one gets as many as the new release has replicas."""
        if placed is not None and colour is not idle:
            return tuple(replica.address for replica in placed.replicas)
        if service.container.on_the_host:
            return (f"{LOOPBACK}:{service.port}" if service.port else LOOPBACK,)
        leased = self._store.lease_slots(service.name, colour, service.replicas, slots)
        return tuple(f"{ip}:{service.port}" if service.port else ip for ip in leased)


def route_of(
    service: Service, addresses: dict[Colour, tuple[str, ...]], colour: Colour, beside: Placement | None
) -> Route:
    """The edge is the new release's at once. What stands beside it is still asked in its own words, by TLS or not."""
    edge = {name: getattr(service, name) for name in Edge.fields()}
    route = Route(service=service.name, blue=addresses[Colour.BLUE], green=addresses[Colour.GREEN], **edge)
    before = beside.release.service if beside else service
    if (before.upstream_tls, before.protocol) == (service.upstream_tls, service.protocol):
        return route
    apart = Apart(colour=colour.other, tls=before.upstream_tls, protocol=before.protocol)
    return route.replace(apart=apart)
