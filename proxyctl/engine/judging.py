"""Judge a candidate by nginx's log, and by sources beside it, while its rollout waits. Start at Judging.verdicts().

How far the log was read, all that it said until there, what sources measured, and how far the wait has come are kept
in one commit: a driver killed anywhere leaves evidence that is neither lost nor counted twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Sequence
from functools import reduce

from proxyctl.domain import commands as do
from proxyctl.domain import evidence as gathered
from proxyctl.domain.analysis import Bake, Step, Until, judge
from proxyctl.domain.criteria import Criteria
from proxyctl.domain.deciding import HASTY
from proxyctl.domain.evidence import RECENT, Evidence
from proxyctl.domain.model import Colour, Logged, Route, Seconds
from proxyctl.domain.plan import next_share, tested
from proxyctl.domain.progress import Progress
from proxyctl.domain.recent import lately
from proxyctl.domain.source import Heard, Measured
from proxyctl.domain.state import Phase, Rollout, ServiceState, must
from proxyctl.domain.steps import Bake as BakeStep
from proxyctl.domain.tally import TICK, Tick, comes_after
from proxyctl.domain.ticks import Judged, Measure
from proxyctl.domain.verdict import Finding, Verdict
from proxyctl.engine.bus import Bus
from proxyctl.engine.measuring import Measuring
from proxyctl.engine.traffic import moment, subject_of
from proxyctl.errors import StateUnusable
from proxyctl.ports import AccessLog, Clock, Measurer, Store

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
        self._ticks = deque[Tick](maxlen=RECENT)  # to be shown

    async def verdicts(self, state: ServiceState, wait: Wait) -> AsyncGenerator[Verdict]:
        """What the log and the sources say of the candidate now, every second, as long as it is asked. None comes where
        nothing can judge it. To be closed: sources are being asked."""
        case = _Case(state, wait)
        if not case.has_judges:
            return
        progress = self._known(case)
        measuring = self._measuring(case, progress.measured)
        async with measuring.going_on(self._elapsed(case)):
            while True:
                progress, verdict, more = await self._look(case, progress, measuring)
                yield verdict
                if not more:
                    await self._clock.sleep(self._until_next_look(case))

    def spent(self, state: ServiceState) -> Seconds | None:
        """Of the present wait, as far as it was kept; None when nothing was."""
        kept = self._store.kept(state.service)
        rollout = state.rollout
        here = kept is not None and rollout is not None and (kept.rollout, kept.step) == (rollout.id, rollout.cursor)
        return kept.spent if kept is not None and here else None

    def _known(self, case: _Case) -> Progress:
        """What was kept of this rollout, in the step that goes on now. Sources count anew in each; of a wait that ended
        without a verdict nothing was kept."""
        kept, spent = self._store.kept(case.state.service), self._elapsed(case)
        if kept is None or kept.rollout != case.rollout.id:
            return case.progress(spent)
        goes_on = (kept.step, kept.share) == (case.rollout.cursor, case.share)
        return case.progress(spent).replace(
            position=kept.position,
            evidence=kept.evidence and self._in_step(case, kept, kept.evidence),
            measured=kept.measured if goes_on else (),
        )

    def _in_step(self, case: _Case, kept: Progress, evidence: Evidence) -> Evidence:
        if case.bakes and not kept.bakes:
            return gathered.bake(evidence, self._began(case))
        return evidence if case.share == kept.share else gathered.next_step(evidence, self._began(case))

    def _measuring(self, case: _Case, known: tuple[Measured, ...]) -> Measuring:
        return Measuring(
            sources=case.criteria.sources,
            known=known,
            measurer=self._measurer,
            subject=subject_of(self._project, case.state),
            clock=self._clock,
        )

    async def _look(self, case: _Case, before: Progress, measuring: Measuring) -> tuple[Progress, Verdict, bool]:
        """What is known goes on speaking where the log cannot be read; but that lets nothing pass."""
        progress, more, blind = before, False, ""
        try:
            progress, more = await self._read(case, before)
            blind = "the log is still being read" if more else ""
        except StateUnusable as error:
            blind = str(error)
        elapsed, heard = self._elapsed(case), measuring.heard
        evidence = progress.evidence if case.logged else None
        evidence = evidence or gathered.begin(tested(case.rollout.plan), self._began(case))
        if not case.flees:
            heard = heard.replace(unready="; ".join(filter(None, (blind or _unread(evidence), heard.unready))))
        verdict = case.judged(evidence, heard, self._clock.wall(), elapsed)
        progress = progress.replace(measured=() if case.held or verdict.undecided else measuring.measured)
        if progress != before or elapsed - before.spent >= TICK:
            progress = progress.replace(spent=elapsed, said=verdict.sentence)
            self._store.keep(case.state.service, progress, self._fence)
        self._bus.tell(_told(verdict, self._ticks, evidence.step_began))
        return progress, verdict, more

    async def _read(self, case: _Case, progress: Progress) -> tuple[Progress, bool]:
        """With what the log says since then, and whether there is more. Raises StateUnusable."""
        if not case.logged:
            return progress, False
        if progress.evidence is None:
            progress = await self._learned(case, progress)
        assert progress.position is not None and progress.evidence is not None
        reading = await self._log.read(progress.position, case.route)
        self._show(reading.ticks)
        evidence = _observed(progress.evidence, reading.ticks, case.colour)
        evidence = evidence.replace(gaps=evidence.gaps + reading.gaps)
        return progress.replace(position=reading.position, evidence=evidence), reading.more

    async def _learned(self, case: _Case, progress: Progress) -> Progress:
        """What was usual before the rollout, and what has been said since its traffic moved."""
        began = self._began(case)
        position, past, since = await self._log.since(began - BEFORE), list[Tick](), list[Tick]()
        more = True
        while more:
            reading = await self._log.read(position, case.route)
            for tick in reading.ticks:
                (past if tick.at + TICK <= began else since).append(tick)
            self._show(reading.ticks)
            position, more = reading.position, reading.more
        evidence = gathered.begin(tested(case.rollout.plan), began, gathered.baseline_of(past, case.live))
        if case.bakes:
            evidence = gathered.bake(evidence, began)
        return progress.replace(position=position, evidence=_observed(evidence, since, case.colour))

    def _show(self, ticks: tuple[Tick, ...]) -> None:
        """A step may read again what the one before has read."""
        for tick in ticks:
            if comes_after(tick.at, self._ticks[-1].at if self._ticks else None):
                self._ticks.append(tick)

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
        self.flees = self.rollout.kind in HASTY  # then nothing unknown keeps it where it is
        self.wanted = _wanted(state.candidate.release.service.analysis, self.flees)
        self.bakes = isinstance(self.rollout.step, BakeStep)
        self.held = state.phase is Phase.HELD  # what is measured then belongs to no wait

    @property
    def route(self) -> Route:
        assert self.state.route is not None
        return self.state.route

    def progress(self, spent: Seconds) -> Progress:
        return Progress(
            rollout=self.rollout.id, step=self.rollout.cursor, spent=spent, share=self.share, bakes=self.bakes
        )

    @property
    def criteria(self) -> Criteria:
        assert self.wanted is not None
        return self.wanted

    @property
    def has_judges(self) -> bool:
        """Whom the service wants: the log, or sources that decide."""
        return self.wanted is not None and (self.logged or not all(each.dry_run for each in self.wanted.sources))

    @property
    def logged(self) -> bool:
        """The log tells of whom has traffic; sources may be asked of anybody."""
        state = self.state
        has_log = state.route is not None and state.settings is not None
        return self.share > 0 and has_log and must(state.settings).access_log is not Logged.OFF

    @property
    def window(self) -> Seconds:
        """0 where the clock does not end it."""
        if isinstance(self.wait, do.Watch):
            return self.wait.window or 0.0
        return 0.0 if self.logged else self.criteria.bake

    @property
    def until(self) -> Until:
        if isinstance(self.wait, do.Analyse):
            return Until.PROOF if self.logged else Until.CLOCK
        return Until.PERSON if self.wait.window is None else Until.CLOCK

    def judged(self, evidence: Evidence, heard: Heard, now: float, elapsed: Seconds) -> Verdict:
        step = (Bake if self.bakes else Step)(
            share=self.share,
            next_share=next_share(self.rollout.plan, self.rollout.cursor),
            until=self.until,
            window=self.window,
            elapsed=elapsed,
            failure=heard.failure,
            output=heard.output,
            unready=heard.unready,
            told=heard.told,
            logged=self.logged,
        )
        return judge(evidence, self.criteria, step, now)


def _wanted(criteria: Criteria | None, flees: bool) -> Criteria | None:
    """A way back asks no source: what it flees from may be why they fail, or do not answer."""
    return criteria.replace(sources=()) if criteria and flees else criteria


def _unread(evidence: Evidence) -> str:
    """Whom those lines tell of, nobody knows: the candidate's bad answers may be among them."""
    if not evidence.unreadable:
        return ""
    lines = "a line" if evidence.unreadable == 1 else f"{evidence.unreadable:,} lines"
    return f"{lines} of the log's last seconds cannot be read; proxyctl proxy reload has nginx write what it should"


def _observed(evidence: Evidence, ticks: tuple[Tick, ...] | list[Tick], candidate: Colour) -> Evidence:
    return reduce(lambda known, tick: gathered.observe(known, tick, candidate), ticks, evidence)


def _told(verdict: Verdict, ticks: Sequence[Tick], moved: float) -> Judged:
    return Judged(
        decision=verdict.decision.value,
        sentence=verdict.sentence,
        measures=tuple(_measure(finding) for finding in verdict.findings) if verdict.logged else (),
        lately=None if verdict.silence else lately(ticks, moved),
    )


def _measure(finding: Finding) -> Measure:
    return Measure(
        name=finding.metric.value,
        evidence=finding.evidence,
        needed=finding.needed,
        requests=finding.step.requests,
        more=None if finding.margin is None else finding.more,
    )
