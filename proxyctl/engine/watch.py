"""Watch a candidate that has traffic, or may get it: a bake, a pause. Start at Watch.candidate().

Sick is: a container that ended, restarted or ran out of memory, at once; or a replica that failed `unhealthy` probes in
a row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing, suppress
from math import inf
from typing import Any

from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain.model import HealthKind, Replica, Seconds
from proxyctl.domain.probe import Tally
from proxyctl.domain.state import Placement, ServiceState
from proxyctl.domain.ticks import Probed, Watched
from proxyctl.domain.units import lasting
from proxyctl.domain.verdict import Decision
from proxyctl.engine.bus import Bus
from proxyctl.engine.host_ports import intruder
from proxyctl.engine.judging import Judging
from proxyctl.engine.runner import Facts
from proxyctl.engine.traffic import changed, endpoint, moment, placement
from proxyctl.errors import DockerUnavailable, OutcomeUnknown, Unavailable
from proxyctl.ports import Clock, Prober, Runtime

LOOK_EVERY: Seconds = 0.25
LOG_LINES = 20
TOLD_WITHIN: Seconds = 1.0


class Sick(Exception):
    def __init__(self, reason: str, detail: str, replica: str = "") -> None:
        super().__init__(reason)
        self.detail = detail
        self.replica = replica


class Watch:
    def __init__(self, *, runtime: Runtime, prober: Prober, clock: Clock, bus: Bus, judging: Judging) -> None:
        self._runtime = runtime
        self._prober = prober
        self._clock = clock
        self._bus = bus
        self._judging = judging

    async def candidate(self, state: ServiceState, wait: do.Watch | do.Analyse) -> Facts:
        """How the wait ended, or CandidateFailed when the candidate got sick before."""
        if wait.since is not None and wait.since.boot != self._clock.boot:
            return [self._clock_lost(state, wait)]
        return await self.during(self._end(state, wait), placement(state, wait.colour))

    async def during(self, work: Coroutine[Any, Any, Facts], placed: Placement) -> Facts:
        """The facts of this work, or CandidateFailed when this release got sick before its end."""
        eyes = [self._containers(placed), *(self._probes(placed, replica) for replica in placed.replicas)]
        tasks = [asyncio.ensure_future(eye) for eye in (work, *eyes)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return [fact for task in done for fact in task.result()]  # of several, the one who got sick is heard
        except Sick as sick:
            return [ev.CandidateFailed(reason=str(sick), detail=sick.detail, replica=sick.replica)]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _clock_lost(self, state: ServiceState, wait: do.Watch | do.Analyse) -> ev.ClockLost:
        """What had passed is known to the last tick."""
        spent = self._judging.spent(state)
        return ev.ClockLost(since=moment(self._clock), spent=wait.spent if spent is None else spent)

    # --- the end ---------------------------------------------------------------------------------------------------

    async def _end(self, state: ServiceState, wait: do.Watch | do.Analyse) -> Facts:
        """The facts that end the wait: as the log is judged, or by the clock where nothing is judged. Raises Sick."""
        telling = asyncio.ensure_future(self._tell(wait))
        try:
            return await self._judged(state, wait) or await self._clocked(wait)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    async def _judged(self, state: ServiceState, wait: do.Watch | do.Analyse) -> Facts:
        """Nothing where there is nothing to judge by."""
        async with aclosing(self._judging.verdicts(state, wait)) as verdicts:
            async for verdict in verdicts:
                if verdict.decision is Decision.ROLLBACK:
                    raise Sick(verdict.sentence, verdict.output)
                if verdict.decision is Decision.ADVANCE:
                    return [ev.StepPassed(reason=verdict.sentence)]
                if verdict.undecided:
                    return [ev.Inconclusive(reason=verdict.sentence)]
        return []

    async def _clocked(self, wait: do.Watch | do.Analyse) -> Facts:
        if isinstance(wait, do.Analyse):
            return [ev.Inconclusive(reason="nothing judges it: it has no traffic, or no log, and no source is asked")]
        window = inf if wait.window is None else wait.window
        while (left := window - self._elapsed(wait)) > 0:
            await self._clock.sleep(min(left, LOOK_EVERY))
        return [ev.StepPassed(reason=f"nothing failed in {lasting(round(window, 1))}")]

    async def _tell(self, wait: do.Watch | do.Analyse) -> None:
        """How far it has come; what nothing ends is told since it is watched."""
        wait = wait if wait.since else wait.replace(since=moment(self._clock))
        window = (wait.window if isinstance(wait, do.Watch) else None) or 0.0
        while True:
            self._bus.tell(Watched(elapsed=self._elapsed(wait), window=window))
            await self._clock.sleep(LOOK_EVERY)

    def _elapsed(self, wait: do.Watch | do.Analyse) -> Seconds:
        return wait.spent + (wait.since.elapsed(moment(self._clock)) if wait.since else 0.0)

    # --- the eyes --------------------------------------------------------------------------------------------------

    async def _containers(self, placed: Placement) -> Facts:
        """A hung engine is no verdict: the probes go on without it."""
        names = [replica.name for replica in placed.replicas]
        while True:
            try:
                for replica, seen in zip(placed.replicas, await self._runtime.inspect(names), strict=True):
                    if why := changed(replica, seen) or await intruder(self._runtime, placed):
                        raise await self._sick(replica, why)
            except (DockerUnavailable, OutcomeUnknown):
                pass
            await self._clock.sleep(LOOK_EVERY)

    async def _probes(self, placed: Placement, replica: Replica) -> Facts:
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
        return Sick(why, words, replica.name)
