"""Judge a candidate by nginx's log while its rollout waits. Start at Judging.verdicts().

How far the log was read, all that it said until there, and how far the wait has come are kept in one commit: a driver
killed anywhere leaves evidence that is neither lost nor counted twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import reduce

from proxyctl.domain import commands as do
from proxyctl.domain import evidence as gathered
from proxyctl.domain.analysis import Bake, Step, Until, judge
from proxyctl.domain.criteria import Criteria
from proxyctl.domain.evidence import Evidence
from proxyctl.domain.model import Colour, Logged, Route, Seconds
from proxyctl.domain.plan import next_share, tested
from proxyctl.domain.progress import Progress
from proxyctl.domain.state import Rollout, ServiceState
from proxyctl.domain.steps import Bake as BakeStep
from proxyctl.domain.tally import TICK, Position, Tick
from proxyctl.domain.ticks import Judged
from proxyctl.domain.verdict import Verdict
from proxyctl.engine.bus import Bus
from proxyctl.engine.traffic import moment
from proxyctl.errors import StateUnusable
from proxyctl.ports import AccessLog, Clock, Store

READ_EVERY: Seconds = 1.0
BEFORE: Seconds = 1800.0  # of the log before the rollout: what is usual

Wait = do.Watch | do.Analyse


class Judging:
    def __init__(self, *, store: Store, log: AccessLog, clock: Clock, bus: Bus, fence: int) -> None:
        self._store = store
        self._log = log
        self._clock = clock
        self._bus = bus
        self._fence = fence

    async def verdicts(self, state: ServiceState, wait: Wait) -> AsyncIterator[Verdict]:
        """What the log says of the candidate now, every second, as long as it is asked. None comes while the candidate
        has no traffic, or where the service wants no analysis."""
        case = _Case(state, wait)
        if case.criteria is None or not case.share:
            return
        progress: Progress | None = None
        while True:
            more = False
            try:
                progress = progress or await self._begun(case)
                progress, verdict, more = await self._look(case, progress)
            except StateUnusable as error:
                verdict = self._blind(case, progress, error)
            yield verdict
            if not more:
                await self._clock.sleep(self._until_next_look(case))

    def spent(self, state: ServiceState) -> Seconds | None:
        """Of the present wait, as far as it was kept; None when nothing was."""
        kept = self._store.kept(state.service)
        rollout = state.rollout
        here = kept is not None and rollout is not None and (kept.rollout, kept.step) == (rollout.id, rollout.cursor)
        return kept.spent if kept is not None and here else None

    async def _begun(self, case: _Case) -> Progress:
        """The evidence as it was kept, in the step that goes on now."""
        kept = self._store.kept(case.state.service)
        if kept is None or kept.rollout != case.rollout.id or kept.evidence is None or kept.position is None:
            return await self._learned(case)
        evidence = kept.evidence
        if case.bakes and not kept.bakes:
            evidence = gathered.bake(evidence, self._began(case))
        elif case.share != kept.share:
            evidence = gathered.next_step(evidence, self._began(case))
        return kept.replace(step=case.rollout.cursor, share=case.share, bakes=case.bakes, evidence=evidence)

    async def _learned(self, case: _Case) -> Progress:
        """What was usual before the rollout, and what has been said since its traffic moved."""
        began = self._began(case)
        position, past, since = await self._log.since(began - BEFORE), list[Tick](), list[Tick]()
        more = True
        while more:
            reading = await self._log.read(position, case.route)
            for tick in reading.ticks:
                (past if tick.at + TICK <= began else since).append(tick)
            position, more = reading.position, reading.more
        evidence = gathered.begin(tested(case.rollout.plan), began, gathered.baseline_of(past, case.live))
        if case.bakes:
            evidence = gathered.bake(evidence, began)
        return case.progress(self._elapsed(case), position, _observed(evidence, since, case.colour))

    async def _look(self, case: _Case, progress: Progress) -> tuple[Progress, Verdict, bool]:
        assert progress.position is not None and progress.evidence is not None
        reading = await self._log.read(progress.position, case.route)
        elapsed, known = self._elapsed(case), progress.spent
        evidence = _observed(progress.evidence, reading.ticks, case.colour)
        verdict = case.judged(evidence, self._clock.wall(), elapsed)
        progress = progress.replace(position=reading.position, evidence=evidence)
        if reading.ticks or elapsed - known >= TICK:
            progress = progress.replace(spent=elapsed, said=verdict.sentence)
            self._store.keep(case.state.service, progress, self._fence)
        self._bus.tell(_told(verdict))
        return progress, verdict, reading.more

    def _blind(self, case: _Case, progress: Progress | None, error: StateUnusable) -> Verdict:
        """What is known goes on speaking; but a log that cannot be read lets nothing pass."""
        known = progress and progress.evidence
        evidence = known or gathered.begin(tested(case.rollout.plan), self._began(case))
        return case.judged(evidence, self._clock.wall(), self._elapsed(case), unready=str(error))

    def _until_next_look(self, case: _Case) -> Seconds:
        """Sooner where the clock ends the wait."""
        left = case.window - self._elapsed(case)
        return min(READ_EVERY, left) if left > 0 else READ_EVERY

    def _elapsed(self, case: _Case) -> Seconds:
        since = case.wait.since
        return case.wait.spent + (since.elapsed(moment(self._clock)) if since else 0.0)

    def _began(self, case: _Case) -> float:
        """When the wait would have begun, had it never been stopped; unix time."""
        return self._clock.wall() - self._elapsed(case)


class _Case:
    """One wait of one rollout, in the words of the analysis."""

    def __init__(self, state: ServiceState, wait: Wait) -> None:
        assert state.rollout is not None and state.candidate is not None
        self.state = state
        self.wait = wait
        self.rollout: Rollout = state.rollout
        self.colour: Colour = state.rollout.colour
        self.live: Colour = self.colour.other
        self.share = state.split.share(self.colour) if state.split else 0
        self.criteria = _criteria(state)
        self.bakes = isinstance(self.rollout.step, BakeStep)

    @property
    def route(self) -> Route:
        assert self.state.route is not None
        return self.state.route

    def progress(self, spent: Seconds, position: Position, evidence: Evidence) -> Progress:
        return Progress(
            rollout=self.rollout.id,
            step=self.rollout.cursor,
            spent=spent,
            share=self.share,
            bakes=self.bakes,
            position=position,
            evidence=evidence,
        )

    @property
    def window(self) -> Seconds:
        """0 where the clock does not end it."""
        return (self.wait.window or 0.0) if isinstance(self.wait, do.Watch) else 0.0

    @property
    def until(self) -> Until:
        if isinstance(self.wait, do.Analyse):
            return Until.PROOF
        return Until.PERSON if self.wait.window is None else Until.CLOCK

    def judged(self, evidence: Evidence, now: float, elapsed: Seconds, unready: str = "") -> Verdict:
        assert self.criteria is not None
        step = (Bake if self.bakes else Step)(
            share=self.share,
            next_share=next_share(self.rollout.plan, self.rollout.cursor),
            until=self.until,
            window=self.window,
            stopped=now - evidence.step_began - elapsed,
            unready=unready,
        )
        return judge(evidence, self.criteria, step, now)


def _criteria(state: ServiceState) -> Criteria | None:
    """None where there is nothing to judge by."""
    logged = state.route is not None and state.settings is not None and state.settings.access_log is not Logged.OFF
    return state.candidate.release.service.analysis if state.candidate and logged else None


def _observed(evidence: Evidence, ticks: tuple[Tick, ...] | list[Tick], candidate: Colour) -> Evidence:
    return reduce(lambda known, tick: gathered.observe(known, tick, candidate), ticks, evidence)


def _told(verdict: Verdict) -> Judged:
    errors = verdict.findings[0]
    return Judged(
        decision=verdict.decision.value,
        sentence=verdict.sentence,
        evidence=errors.evidence,
        needed=errors.needed,
        candidate_requests=errors.step.requests,
        candidate_bad=errors.step.bad,
        live_requests=errors.counts.live.requests,
        live_bad=errors.counts.live.bad,
    )
