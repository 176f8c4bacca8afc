"""The hands that start, publish, drain and remove. They need the engine and nginx; a warm rollback does not."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress

from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain import standing
from proxyctl.domain.model import Cutover, Replica, Role, Seconds
from proxyctl.domain.state import Placement, ServiceState, candidate_of, rollout_of
from proxyctl.domain.ticks import Drained
from proxyctl.engine.bus import Bus
from proxyctl.engine.gate import Gate, NotPassed
from proxyctl.engine.judging import Judging
from proxyctl.engine.published import routes_of, settings_in_force, topology_of
from proxyctl.engine.runner import Facts, Hands
from proxyctl.engine.traffic import placement, restarts, subject_of
from proxyctl.engine.watch import Watch
from proxyctl.errors import Unavailable
from proxyctl.ports import AccessLog, Clock, Hooks, Locks, Measurer, Prober, Proxy, Runtime, Store

LOOK_EVERY: Seconds = 0.25
UNSEEN = -1


class ReplicaHands:
    def __init__(
        self,
        *,
        project: str,
        runtime: Runtime,
        prober: Prober,
        proxy: Proxy,
        store: Store,
        locks: Locks,
        clock: Clock,
        bus: Bus,
        fence: int,
        hooks: Hooks,
        measurer: Measurer,
        log: AccessLog,
    ) -> None:
        self._project = project
        self._runtime = runtime
        self._proxy = proxy
        self._store = store
        self._locks = locks
        self._clock = clock
        self._bus = bus
        self._fence = fence
        self._hooks = hooks
        self._gate = Gate(runtime=runtime, prober=prober, proxy=proxy, clock=clock, bus=bus)
        judging = Judging(project=project, store=store, log=log, measurer=measurer, clock=clock, bus=bus, fence=fence)
        self._watch = Watch(runtime=runtime, prober=prober, clock=clock, bus=bus, judging=judging)

    def hands(self) -> Hands:
        return {
            do.Publish: self._publish,
            do.Start: self._start,
            do.Gate: self._gate.verdict,
            do.Regate: self._gate.again,
            do.Grow: self._grow,
            do.Shrink: self._shrink,
            do.Watch: self._watched,
            do.Analyse: self._watch.candidate,
            do.RunHook: self._run_hook,
            do.AdoptPolicy: self._adopt_policy,
            do.Retire: self._retire,
        }

    async def _publish(self, state: ServiceState, command: do.Publish) -> Facts:
        """One publisher per host at a time; nothing is reloaded when nginx knows all of it already."""
        async with self._locks.publishing():
            settings = command.settings or settings_in_force(self._store, self._proxy) or rollout_of(state).settings
            routes = {**routes_of(self._store), state.service: command.route}
            topology = topology_of(self._project, settings, routes)
            generation = await self._proxy.publish(topology, self._fence, self._store.claim_generation)
        return [ev.RoutePublished(generation=generation, route=command.route, settings=settings)]

    async def _start(self, state: ServiceState, command: do.Start) -> Facts:
        started = await self._started(state, placement(state, command.colour))
        return [ev.ReplicasStarted(replicas=started), *await restarts(self._runtime, state.live)]

    async def _started(self, state: ServiceState, placed: Placement) -> tuple[Replica, ...]:
        rollout = state.rollout.id if state.rollout else ""
        starts = (self._runtime.start(placed.release, replica, placed.colour, rollout) for replica in placed.replicas)
        outcomes = await asyncio.gather(*starts, return_exceptions=True)  # the way back finds all that started
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return tuple(outcome for outcome in outcomes if isinstance(outcome, Replica))

    # --- replica by replica ----------------------------------------------------------------------------------------

    async def _grow(self, state: ServiceState, command: do.Grow) -> Facts:
        """Those of the candidate that came before are watched meanwhile."""
        placed = placement(state, command.colour)
        if placed.role is Role.LIVE:
            return await self._grown(state, placed, command.to)
        return _meant(state, await self._watch.during(self._grown(state, placed, command.to), placed))

    async def _grown(self, state: ServiceState, placed: Placement, to: int) -> Facts:
        """What is astray is in an unknown state: it is started anew."""
        await self._stopped(placed, placed.astray)
        batch = placed.replace(replicas=placed.absent[: to - len(placed.replicas)])
        batch = batch.replace(replicas=await self._started(state, batch))
        try:
            await self._gate.passes(state, batch, placed.release.service.health.deadline)
        except NotPassed as no:
            return standing.failed(state, no.replica, str(no), no.detail)
        if placed.role is Role.LIVE:
            names = [replica.name for replica in batch.replicas]
            await self._runtime.adopt_restart_policy(placed.release, names)
        return [ev.Grown(colour=placed.colour, replicas=batch.replicas)]

    async def _shrink(self, state: ServiceState, command: do.Shrink) -> Facts:
        placed = placement(state, command.colour)
        leaving = placed.replace(replicas=placed.replicas[command.to :])
        cut = await self._drain(leaving)
        failed = await self._stopped(placed, (*leaving.replicas, *placed.astray))
        return [ev.Shrunk(colour=command.colour, to=command.to, cut=cut, pre_stop=failed)]

    async def _watched(self, state: ServiceState, command: do.Watch) -> Facts:
        return _meant(state, await self._watch.candidate(state, command))

    async def _run_hook(self, state: ServiceState, command: do.RunHook) -> Facts:
        """The candidate is watched meanwhile."""
        return await self._watch.during(self._hooked(state, command.name), candidate_of(state))

    async def _hooked(self, state: ServiceState, name: str) -> Facts:
        await self._hooks.run(name, hook_variables(self._project, state))
        return [ev.StepPassed(reason=f"hook {name}")]

    async def _adopt_policy(self, state: ServiceState, command: do.AdoptPolicy) -> Facts:
        placed = placement(state, command.colour)
        await self._runtime.adopt_restart_policy(placed.release, [replica.name for replica in placed.replicas])
        return [ev.PolicyAdopted()]

    async def _retire(self, state: ServiceState, command: do.Retire) -> Facts:
        placed = placement(state, command.colour)
        cut = await self._drain(placed)
        failed = await self._stopped(placed, (*placed.replicas, *placed.absent))
        return [ev.Retired(release=command.release, colour=command.colour, cut=cut, pre_stop=failed)]

    async def _stopped(self, placed: Placement, replicas: tuple[Replica, ...]) -> str:
        """Nothing of them is left. Returns why hooks failed."""
        definition = placed.release.service.container
        stops = (
            self._runtime.stop(replica.name, definition.stop_grace_period, definition.pre_stop) for replica in replicas
        )
        return ", ".join(why for why in await asyncio.gather(*stops) if why)

    async def _drain(self, placed: Placement) -> int:
        """Wait until nothing can reach the release, or its drain deadline. Returns the connections that are cut."""
        if not placed.release.service.routed:
            return 0
        deadline = self._clock.now() + placed.release.service.drain
        await self._old_workers_end(deadline)
        counts = await asyncio.gather(*(self._drain_replica(placed, replica, deadline) for replica in placed.replicas))
        return UNSEEN if UNSEEN in counts else sum(counts)

    async def _old_workers_end(self, deadline: Seconds) -> None:
        """Where nginx was told the split, its old workers go by the old one, and a client may have a request left for
        them."""
        with suppress(Unavailable):  # then the connections alone are looked at
            topology = self._proxy.topology()
            if topology is None or topology.settings.cutover is Cutover.LIVE:
                return
            while (await self._proxy.status()).draining and self._clock.now() < deadline:
                await self._clock.sleep(LOOK_EVERY)

    async def _drain_replica(self, placed: Placement, replica: Replica, deadline: Seconds) -> int:
        """Idle upstream connections are closed by nginx after its keep-alive time; only traffic counts, and an answer
        that is owed."""
        idle = self._idle_time()
        port = placed.release.service.port or 0
        while True:
            try:
                traffic = await self._runtime.traffic(replica.name, port)
            except Unavailable:
                traffic = None
            left = deadline - self._clock.now()
            if traffic is not None and (traffic.connections == 0 or traffic.quiet_for > idle):
                return 0
            if left <= 0:
                return UNSEEN if traffic is None else traffic.connections
            connections = UNSEEN if traffic is None else traffic.connections
            self._bus.tell(Drained(replica=replica.name, connections=connections, left=left))
            await self._clock.sleep(min(LOOK_EVERY, left))

    def _idle_time(self) -> Seconds:
        settings = [s.settings for s in map(self._store.load, self._store.services()) if s.settings is not None]
        return max((s.upstream_keepalive_timeout for s in settings), default=math.inf)


def _meant(state: ServiceState, facts: Facts) -> Facts:
    """Of a rolling release a replica may fail."""
    match facts:
        case [ev.CandidateFailed(replica=name, reason=reason, detail=detail)] if name and _rolls(state):
            return standing.failed(state, name, reason, detail)
    return facts


def _rolls(state: ServiceState) -> bool:
    return state.rollout is not None and state.rollout.rolling is not None


def hook_variables(project: str, state: ServiceState) -> dict[str, str]:
    """What a hook is told of the rollout, in its environment: what every command is told, and more."""
    rollout, placed = rollout_of(state), candidate_of(state)
    told = {
        "COMMAND": rollout.kind.value,
        "ROLLOUT": rollout.id,
        "REPLACES": rollout.replaces or "",
        "IMAGE": placed.release.image,
        "REPLICAS": " ".join(replica.address for replica in placed.replicas),
        "ACTOR": rollout.actor,
        "REASON": rollout.reason,
    }
    return dict(subject_of(project, state).variables) | {f"PROXYCTL_{name}": value for name, value in told.items()}
