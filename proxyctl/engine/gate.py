"""The gate: the verdict that a release needs before any traffic. Start at Gate.verdict().

Every replica at once, straight at its address, until each passed `healthy` times in a row; a container that ends or
restarts fails the gate at once. Then through nginx, over the control server, to the colour's plain upstream.
"""

from __future__ import annotations

import asyncio

from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain.model import HealthCheck, HealthKind, Replica, Seconds, Service
from proxyctl.domain.probe import Tally
from proxyctl.domain.state import Placement, ServiceState
from proxyctl.domain.ticks import Probed
from proxyctl.engine.bus import Bus
from proxyctl.engine.host_ports import intruder
from proxyctl.engine.runner import Facts
from proxyctl.engine.traffic import changed, endpoint, placement, restarted
from proxyctl.ports import Clock, Life, Prober, Proxy, ReplicaState, Runtime

LOOK_EVERY: Seconds = 0.2
LOG_LINES = 20


class NotPassed(Exception):
    """Why, and the evidence."""

    def __init__(self, reason: str, detail: str = "", replica: str = "") -> None:
        super().__init__(reason)
        self.detail = detail
        self.replica = replica


class Died(NotPassed):
    """A container ended, or is in another life than was observed."""


class Gate:
    def __init__(self, *, runtime: Runtime, prober: Prober, proxy: Proxy, clock: Clock, bus: Bus) -> None:
        self._runtime = runtime
        self._prober = prober
        self._proxy = proxy
        self._clock = clock
        self._bus = bus

    async def verdict(self, state: ServiceState, command: do.Gate) -> Facts:
        """GatePassed for these very incarnations, or GateFailed with the evidence."""
        placed = placement(state, command.colour)
        try:
            await self.passes(state, placed, placed.release.service.health.deadline)
        except NotPassed as no:
            return [ev.GateFailed(reason=str(no), detail=no.detail)]
        return [ev.GatePassed(incarnations=placed.incarnations)]

    async def again(self, state: ServiceState, command: do.Regate) -> Facts:
        """The same verdict on a release that the engine restarted: Regated or RegateFailed.

        An engine restarts one container after the other: what it starts anew meanwhile is noted as Restarted and asked
        again, with as much time as it had.
        """
        placed, deadline = placement(state, command.colour), self._clock.now() + command.within
        noted = list[ev.Restarted]()
        while True:
            try:
                await self.passes(state, placed, command.within)
                return [*noted, ev.Regated(colour=command.colour, incarnations=placed.incarnations)]
            except NotPassed as no:
                if not isinstance(no, Died) or (lives := await self._running(placed, deadline)) is None:
                    return [*noted, ev.RegateFailed(colour=command.colour, reason=str(no), detail=no.detail)]
            if again := restarted(placed, lives):
                noted = again
                placed = placed.replace(replicas=again[0].replicas)

    async def _running(self, placed: Placement, deadline: Seconds) -> list[ReplicaState] | None:
        """Every container, once all run; none when that was not seen in time."""
        while self._clock.now() < deadline:
            seen = await self._runtime.inspect([replica.name for replica in placed.replicas])
            if all(replica.life is Life.RUNNING for replica in seen):
                return seen
            await self._clock.sleep(LOOK_EVERY)
        return None

    async def passes(self, state: ServiceState, placed: Placement, within: Seconds) -> None:
        """Raises NotPassed."""
        deadline = self._clock.now() + within
        await self._first_of(self._all_pass(placed, within), self._somebody_died(placed))
        await self._passes_through_nginx(state, placed, deadline)
        await self._look(placed)

    async def _first_of(self, *works: object) -> None:
        """The first to end decides; the other is cancelled."""
        tasks = [asyncio.ensure_future(work) for work in works]  # type: ignore[call-overload]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _all_pass(self, placed: Placement, within: Seconds) -> None:
        await asyncio.gather(*(self._replica_passes(placed, replica, within) for replica in placed.replicas))

    async def _replica_passes(self, placed: Placement, replica: Replica, within: Seconds) -> None:
        service = placed.release.service
        check = service.health
        if check.kind is HealthKind.NONE:
            await self._clock.sleep(service.readiness_delay)
            return
        tally, deadline = Tally(), self._clock.now() + within
        while tally.passes < check.healthy:
            if self._clock.now() > deadline:
                raise NotPassed(
                    f"{replica.name} was not healthy within {within:g} s: {tally.last}",
                    await self._last_words(replica.name),
                    replica.name,
                )
            if tally.passes or tally.failures:
                await self._clock.sleep(check.interval)
            tally = await self._probe(placed, replica, check, tally)

    async def _probe(self, placed: Placement, replica: Replica, check: HealthCheck, tally: Tally) -> Tally:
        result = await self._prober.probe(endpoint(placed, replica), check)
        tally = tally.after(result.passed, result.reason)
        streak = tally.passes or tally.failures
        self._bus.tell(
            Probed(
                replica=replica.name, passed=result.passed, reason=result.reason, streak=streak, needed=check.healthy
            )
        )
        return tally

    async def _somebody_died(self, placed: Placement) -> None:
        """Returns never; raises NotPassed when a container ended or restarted."""
        while True:
            await self._look(placed)
            await self._clock.sleep(LOOK_EVERY)

    async def _look(self, placed: Placement) -> None:
        """Who has its port first: for want of it a container ends."""
        if placed.replicas and (why := await intruder(self._runtime, placed)):
            name = placed.replicas[0].name
            raise NotPassed(why, await self._last_words(name), name)
        for replica, seen in zip(
            placed.replicas, await self._runtime.inspect([r.name for r in placed.replicas]), strict=True
        ):
            if why := changed(replica, seen):
                raise Died(why, await self._last_words(replica.name), replica.name)

    async def _passes_through_nginx(self, state: ServiceState, placed: Placement, deadline: Seconds) -> None:
        """The way that users will take, before any of them takes it."""
        if state.route is None or not placed.replicas:
            return
        check = through_nginx(placed.release.service)
        where = self._proxy.endpoint(state.route, placed.colour)
        while not (result := await self._prober.probe(where, check)).passed:
            if self._clock.now() > deadline:
                raise NotPassed(f"{placed.release.id} is healthy itself but not through nginx: {result.reason}")
            await self._clock.sleep(min(check.interval, 0.5))

    async def _last_words(self, name: str) -> str:
        return await self._runtime.logs(name, LOG_LINES)


def through_nginx(service: Service) -> HealthCheck:
    """The same check where it asks the served port as nginx does; else any answer that is not nginx's own."""
    check, scheme = service.health, "https" if service.upstream_tls else "http"
    if check.kind is HealthKind.HTTP and check.port is None and check.scheme == scheme:
        return check
    return HealthCheck(
        kind=HealthKind.HTTP, statuses=((100, 501), (505, 599)), timeout=check.timeout, interval=check.interval
    )
