"""Watch a candidate that has traffic, or may get it: a bake, a pause. Start at Watch.candidate().

Sick is: a container that ended, restarted or ran out of memory, at once; or a replica that failed `unhealthy` probes in
a row.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain.model import HealthKind, Replica, Seconds
from proxyctl.domain.probe import Tally
from proxyctl.domain.state import Placement, ServiceState
from proxyctl.domain.ticks import Probed, Watched
from proxyctl.engine.bus import Bus
from proxyctl.engine.runner import Facts
from proxyctl.engine.traffic import changed, endpoint, moment, placement
from proxyctl.errors import DockerUnavailable, OutcomeUnknown, Unavailable
from proxyctl.ports import Clock, Prober, Runtime

LOOK_EVERY: Seconds = 0.25
LOG_LINES = 20
TOLD_WITHIN: Seconds = 1.0


class Sick(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.detail = detail


class Watch:
    def __init__(self, *, runtime: Runtime, prober: Prober, clock: Clock, bus: Bus) -> None:
        self._runtime = runtime
        self._prober = prober
        self._clock = clock
        self._bus = bus

    async def candidate(self, state: ServiceState, command: do.Watch) -> Facts:
        """StepPassed when the window passed, CandidateFailed when it got sick before."""
        if command.since is not None and command.since.boot != self._clock.boot:
            return [ev.ClockLost(since=moment(self._clock), spent=command.spent)]
        placed = placement(state, command.colour)
        eyes = [self._probes(placed, replica) for replica in placed.replicas]
        tasks = [asyncio.ensure_future(eye) for eye in (self._window(command), self._containers(placed), *eyes)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except Sick as sick:
            return [ev.CandidateFailed(reason=str(sick), detail=sick.detail)]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return [ev.StepPassed()]

    async def _window(self, command: do.Watch) -> None:
        """Returns when the window passed; without a window, never."""
        while True:
            now = moment(self._clock)
            elapsed = command.spent + (command.since.elapsed(now) if command.since else 0.0)
            self._bus.tell(Watched(elapsed=elapsed, window=command.window or 0.0))
            if command.window is not None and elapsed >= command.window:
                return
            left = LOOK_EVERY if command.window is None else min(LOOK_EVERY, command.window - elapsed)
            await self._clock.sleep(left)

    async def _containers(self, placed: Placement) -> None:
        """A hung engine is no verdict: the probes go on without it."""
        names = [replica.name for replica in placed.replicas]
        while True:
            try:
                for replica, seen in zip(placed.replicas, await self._runtime.inspect(names), strict=True):
                    if why := changed(replica, seen):
                        raise await self._sick(replica, why)
            except (DockerUnavailable, OutcomeUnknown):
                pass
            await self._clock.sleep(LOOK_EVERY)

    async def _probes(self, placed: Placement, replica: Replica) -> None:
        check = placed.release.service.health
        tally = Tally()
        while check.kind is HealthKind.NONE or tally.failures < check.unhealthy:
            await self._clock.sleep(check.interval)
            if check.kind is HealthKind.NONE:
                continue
            result = await self._prober.probe(endpoint(placed, replica), check)
            tally = tally.after(result.passed, result.reason)
            self._bus.tell(
                Probed(
                    replica=replica.name,
                    passed=result.passed,
                    reason=result.reason,
                    streak=tally.passes or tally.failures,
                    needed=check.unhealthy,
                )
            )
        raise await self._sick(replica, f"{replica.name} failed {tally.failures} probes in a row: {tally.last}")

    async def _sick(self, replica: Replica, why: str) -> Sick:
        """With what the engine knows of its end, and its last words. Traffic does not wait for an engine that hangs."""
        words = ""
        with suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(TOLD_WITHIN):
                (seen,) = await self._runtime.inspect([replica.name])
                why = changed(replica, seen) or why
                words = await self._runtime.logs(replica.name, LOG_LINES)
        return Sick(why, words)
