"""Judge a candidate by nginx's log, and by sources beside it, while its rollout waits. Start at Judging.verdicts().

How far the log was read, all that it said until there, what sources measured, and how far the wait has come are kept
in one commit: a driver killed anywhere leaves evidence that is neither lost nor counted twice.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress
from functools import reduce

from proxyctl.domain import commands as do
from proxyctl.domain import evidence as gathered
from proxyctl.domain.analysis import Bake, Step, judge
from proxyctl.domain.criteria import Criteria
from proxyctl.domain.evidence import Evidence
from proxyctl.domain.model import Colour, Logged, Route, Seconds
from proxyctl.domain.plan import next_share, tested
from proxyctl.domain.progress import Progress
from proxyctl.domain.source import Heard, Measured
from proxyctl.domain.state import Phase, Rollout, ServiceState
from proxyctl.domain.steps import Bake as BakeStep
from proxyctl.domain.tally import TICK, Position, Tick
from proxyctl.domain.ticks import Judged
from proxyctl.domain.verdict import Verdict
from proxyctl.engine.bus import Bus
from proxyctl.engine.measuring import Measuring
from proxyctl.engine.traffic import moment
from proxyctl.errors import StateUnusable
from proxyctl.ports import AccessLog, Clock, Measurer, Store, Subject

READ_EVERY: Seconds = 1.0
BEFORE: Seconds = 1800.0  # of the log before the rollout: what is usual

Wait = do.Watch | do.Analyse


class Judging:
    def __init__(
        self, *, project: str, store: Store, log: AccessLog, measurer: Measurer, clock: Clock, bus: Bus, fence: int
    ) -> None:
        self._project = project
        self._store = store
        self._log = log
        self._measurer = measurer
        self._clock = clock
        self._bus = bus
        self._fence = fence

    async def verdicts(self, state: ServiceState, wait: Wait) -> AsyncGenerator[Verdict]:
        """What the log and the sources say of the candidate now, every second, as long as it is asked. None comes while
        the candidate has no traffic, or where the service wants no analysis. To be closed: sources are being asked."""
        case = _Case(state, wait)
        if case.criteria is None or not case.share:
            return
        measuring = self._measuring(case)
        async with measuring.going_on(self._elapsed(case)):
            progress = await self._begun_in_time(case)
            while True:
                progress, verdict, more = await self._look(case, progress, measuring)
                yield verdict
                if not more:
                    await self._clock.sleep(READ_EVERY)

    def spent(self, state: ServiceState) -> Seconds | None:
        """Of the present wait, as far as it was kept; None when nothing was."""
        kept = self._store.kept(state.service)
        rollout = state.rollout
        here = kept is not None and rollout is not None and (kept.rollout, kept.step) == (rollout.id, rollout.cursor)
        return kept.spent if kept is not None and here else None

    def _measuring(self, case: _Case) -> Measuring:
        return Measuring(
            sources=case.criteria.sources if case.criteria else (),
            known=self._measured(case),
            measurer=self._measurer,
            subject=case.subject(self._project),
            clock=self._clock,
        )

    def _measured(self, case: _Case) -> tuple[Measured, ...]:
        """In this step, as it was kept; a wait that begins anew counts anew."""
        kept = self._store.kept(case.state.service)
        same = kept is not None and (kept.rollout, kept.step, kept.share) == (
            case.rollout.id,
            case.rollout.cursor,
            case.share,
        )
        return kept.measured if kept is not None and same and not case.held else ()

    async def _begun_in_time(self, case: _Case) -> Progress:
        """A log that cannot be read is waited for: it is no reason to go back."""
        while True:
            with suppress(StateUnusable):
                return await self._begun(case)
            await self._clock.sleep(READ_EVERY)

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

    async def _look(self, case: _Case, progress: Progress, measuring: Measuring) -> tuple[Progress, Verdict, bool]:
        assert progress.position is not None and progress.evidence is not None
        position, ticks, more = progress.position, tuple[Tick, ...](), False
        with suppress(StateUnusable):  # a log that cannot be read is a silent one
            reading = await self._log.read(position, case.route)
            position, ticks, more = reading.position, reading.ticks, reading.more
        evidence = _observed(progress.evidence, ticks, case.colour)
        heard, measured = measuring.heard, () if case.held else measuring.measured
        verdict = case.judged(evidence, heard, self._clock.wall(), self._elapsed(case))
        if ticks or measured != progress.measured or self._elapsed(case) - progress.spent >= TICK:
            progress = progress.replace(
                spent=self._elapsed(case),
                position=position,
                evidence=evidence,
                measured=measured,
                said=verdict.sentence,
            )
            self._store.keep(case.state.service, progress, self._fence)
        self._bus.tell(_told(verdict))
        return progress.replace(position=position, evidence=evidence), verdict, more

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
        self.held = state.phase is Phase.HELD  # what is measured then belongs to no wait

    @property
    def route(self) -> Route:
        assert self.state.route is not None
        return self.state.route

    def subject(self, project: str) -> Subject:
        assert self.state.candidate is not None
        return Subject(
            project=project,
            service=self.state.service,
            release=self.rollout.release,
            colour=self.colour,
            share=self.share,
            replica=self.state.candidate.replicas[0].name,
        )

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

    def judged(self, evidence: Evidence, heard: Heard, now: float, elapsed: Seconds) -> Verdict:
        assert self.criteria is not None
        stopped = now - evidence.step_began - elapsed
        match self.rollout.step:
            case BakeStep(window=window):
                step: Step = Bake(share=self.share, window=window, stopped=stopped)
            case _:
                after = next_share(self.rollout.plan, self.rollout.cursor)
                step = Step(share=self.share, next_share=after, stopped=stopped)
        step = step.replace(failure=heard.failure, output=heard.output, unready=heard.unready, told=heard.told)
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
