"""One project in memory: arrange a service, give an order, look. Used by the unit, property and crash tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from proxyctl.adapters.memory import (
    ManualClock,
    MemoryAccessLog,
    MemoryHooks,
    MemoryInspector,
    MemoryLocks,
    MemoryMeasurer,
    MemoryProber,
    MemoryProxy,
    MemoryRuntime,
    MemorySplits,
    MemoryStore,
    MemoryWorld,
)
from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain import orders, plan
from proxyctl.domain.deciding import decide
from proxyctl.domain.model import (
    Colour,
    Container,
    HealthCheck,
    HealthKind,
    Incarnation,
    ProxySettings,
    Role,
    Service,
    ServiceName,
)
from proxyctl.domain.orders import Signed
from proxyctl.domain.state import Kind, Placement, ServiceState
from proxyctl.engine.bus import Bus
from proxyctl.engine.judging import Judging
from proxyctl.engine.releases import Opening
from proxyctl.engine.replicas import ReplicaHands
from proxyctl.engine.runner import Facts, Hand, Hands, Runner
from proxyctl.engine.traffic import TrafficHands
from proxyctl.engine.watch import Watch

WEB = ServiceName("web")
SIGNED = Signed(actor="tester", reason="", wall=1.0)


def a_service(**changes: object) -> Service:
    service = Service(
        name=WEB,
        container=Container(image="app:1"),
        health=HealthCheck(kind=HealthKind.HTTP, path="/healthz", interval=0.1, healthy=2, deadline=5.0),
        port=8000,
        replicas=2,
        bake=1.0,
        standby=5.0,
        drain=2.0,
    )
    return service.replace(**changes)


class AtPauseError(Exception):
    """A paused rollout watches for ever; a test has seen enough."""


class Arena:
    """The engine on in-memory adapters. A crash is a BaseException that a hook raises."""

    def __init__(self, settings: ProxySettings = ProxySettings()) -> None:  # noqa: B008 - it is frozen
        self.settings = settings
        self.world = MemoryWorld()
        self.store = MemoryStore()
        self.locks = MemoryLocks()
        self.clock = ManualClock(self.world)
        self.runtime = MemoryRuntime(self.world)
        self.prober = MemoryProber(self.world)
        self.proxy = MemoryProxy(self.world)
        self.splits = MemorySplits(self.world)
        self.hooks = MemoryHooks()
        self.measurer = MemoryMeasurer()
        self.log = MemoryAccessLog(self.world)
        self.edge: dict[str, object] = {}  # what the file says of the service beside its image
        self.networks: tuple[str, ...] = ()
        self.before_effect: Callable[[do.Command], None] = lambda command: None
        self.after_effect: Callable[[do.Command], None] = lambda command: None

    @property
    def state(self) -> ServiceState:
        return self.store.load(WEB)

    def hands(self, fence: int) -> Hands:
        bus = Bus()
        light = TrafficHands(
            inspector=MemoryInspector(self.world), prober=self.prober, splits=self.splits, clock=self.clock
        )
        heavy = ReplicaHands(
            project="shop",
            runtime=self.runtime,
            prober=self.prober,
            proxy=self.proxy,
            store=self.store,
            locks=self.locks,
            clock=self.clock,
            bus=bus,
            hooks=self.hooks,
            measurer=self.measurer,
            log=self.log,
            fence=fence,
        )
        return {kind: self._hooked(hand) for kind, hand in (light.hands() | heavy.hands()).items()}

    def watch(self, bus: Bus | None = None) -> Watch:
        """Over the candidate, as its driver watches; this bus is told."""
        bus = bus or Bus()
        judging = Judging(
            project="shop",
            store=self.store,
            log=self.log,
            measurer=self.measurer,
            clock=self.clock,
            bus=bus,
            fence=self.store.raise_fence(WEB),
        )
        return Watch(runtime=self.runtime, prober=self.prober, clock=self.clock, bus=bus, judging=judging)

    def _hooked(self, hand: Hand) -> Hand:
        async def hooked(state: ServiceState, command: do.Command) -> Facts:
            if isinstance(command, do.Watch) and command.window is None:
                raise AtPauseError
            self.before_effect(command)
            facts = await hand(state, command)
            self.after_effect(command)
            return facts

        return hooked

    def runner(self, woken: asyncio.Event | None = None) -> Runner:
        fence = self.store.raise_fence(WEB)
        return Runner(
            service=WEB, store=self.store, clock=self.clock, hands=self.hands(fence), fence=fence, woken=woken
        )

    def service(self, image: str) -> Service:
        """As the file defines it when this image is deployed."""
        return a_service(container=Container(image=image, networks=self.networks), **self.edge)

    async def open(self, image: str, kind: Kind = Kind.DEPLOY, steps: plan.Plan | None = None) -> ev.Event:
        service = self.service(image)
        opening = Opening(
            runtime=self.runtime,
            network=self.runtime.network,
            store=self.store,
            project="shop",
            settings=self.settings,
        )
        release = await opening.release(service, self.state, 1.0, "config", lambda line: None)
        return await opening.fresh(kind, steps or self.plan_of(service), release, self.state, SIGNED)

    def plan_of(self, service: Service) -> plan.Plan:
        live = self.state.live
        return plan.of(service, live.release.service if live else None)

    async def deploy(self, image: str, kind: Kind = Kind.DEPLOY, steps: plan.Plan | None = None) -> ServiceState:
        runner = self.runner()
        runner.note(await self.open(image, kind, steps))
        return await to_rest(runner)

    async def order(self, make: Callable[[ServiceState], ev.Event]) -> ServiceState:
        runner = self.runner()
        runner.note(make(runner.state))
        return await to_rest(runner)

    async def rollback(self) -> ServiceState:
        return await self.order(lambda s: orders.open_warm(s, Kind.ROLLBACK, plan.at_once(), orders.warm(s), SIGNED))

    async def resume(self) -> ServiceState:
        """What `recover` does: note what the crash means, then drive on."""
        runner = self.runner()
        state = runner.state
        flags = self.splits.read(WEB)
        moved = bool(flags and state.candidate and flags.split.serves(state.candidate.colour))
        if (event := orders.after_crash(state, moved)) is not None:
            runner.note(event)
        return await to_rest(runner)

    async def end_standby(self) -> ServiceState:
        assert isinstance(decide(self.state), do.Stand)
        return await self.order(lambda s: ev.StandbyEnded(reason="the window passed"))

    def _unasked(self, placed: Placement) -> set[Incarnation | None]:
        """Replicas of a rolling release that nginx was told of no more."""
        route = self.state.route
        pool = route.slots(placed.colour) if route else ()
        return {replica.incarnation for replica in placed.replicas if replica.address not in pool}

    def broken_promises(self) -> list[str]:
        """The invariants of the design that can be seen in memory; a list of what is broken."""
        found = []
        state = self.state
        flags = self.world.flags.get(WEB)
        running = {name for name, seen in self.world.containers.items() if seen.life == "running"}
        for colour in Colour:
            placed = state.at(colour)
            serves = flags is not None and flags.split.serves(colour)
            previewed = flags is not None and flags.preview is colour
            if (serves or previewed) and (placed is None or not placed.gated):
                found.append(f"1: {colour} has traffic and passed no gate")
            if previewed and (placed is None or placed.role is not Role.CANDIDATE):
                found.append(f"1: rules lead to {colour}, which is no candidate")
            if serves and placed is not None and not {r.name for r in placed.replicas} & running:
                found.append(f"2: {colour} has traffic and nobody runs")
        if flags and flags.cover and not all(p and p.gated for p in (state.blue, state.green)):
            found.append("cover: a release that passed no gate may get traffic")
        lives = {seen.incarnation for name, seen in self.world.containers.items() if name in running}
        serving = state.live  # whatever became of it: it may cover, for it serves anyway
        if (
            flags
            and flags.cover
            and not all(
                p and (p == serving or {life for life in p.gated if life not in self._unasked(p)} <= lives)
                for p in (state.blue, state.green)
            )
        ):
            found.append("cover: a release that does not run as it passed the gate may get traffic")
        numbers = [number for number, _ in self.world.published]
        if numbers != sorted(set(numbers)):
            found.append("4: a generation number went back")
        placed_names = {r.name for p in (state.blue, state.green) if p for r in p.replicas}
        if state.rollout is None and running - placed_names:
            found.append(f"5: orphans {running - placed_names}")
        if state.rollout is None and (flags.split if flags else None) != state.split:
            found.append("7: the journal and the flags differ")
        return found


async def to_rest(runner: Runner) -> ServiceState:
    with suppress(AtPauseError):
        await runner.run()
    return runner.state
