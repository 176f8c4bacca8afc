"""What would have happened: a rollout that meets a recorded log, judged by the real judge. Pure. Start at simulated().

Two things are simpler than in a rollout. Traffic moves at once, and a person or a hook answers at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import Final, NamedTuple

from proxyctl.domain import evidence as gathered
from proxyctl.domain.analysis import Step, Until, end_of, judge
from proxyctl.domain.criteria import Criteria
from proxyctl.domain.evidence import Baseline, Count, Sides, baseline_of
from proxyctl.domain.model import Colour
from proxyctl.domain.plan import Plan, Stage, stages, tested
from proxyctl.domain.record import Record
from proxyctl.domain.tally import TICK, Tick
from proxyctl.domain.units import Seconds
from proxyctl.domain.verdict import Decision, Verdict

LIVE: Final = Colour.BLUE
CANDIDATE: Final = Colour.GREEN


class Dealing(Record):
    """Who gets a request of the log, and what becomes of it there."""

    share: int = 0  # of the candidate, hundredths of a percent
    errors: float = 0.0  # this part of the candidate's answers is bad that were good in the log
    slower: float = 1.0  # its answers take so many times as long


class Stretch(NamedTuple):
    """Requests of one tick, to be dealt."""

    at: float  # unix time of its beginning, a multiple of TICK
    dealt: Callable[[Dealing], Tick]


class Defect(Record):
    errors: float = 0.0
    slower: float = 1.0
    from_step: int = 1  # before this one the candidate is as good as the live release


class Trial(Record):
    plan: Plan
    criteria: Criteria
    defect: Defect = Defect()


class Ending(StrEnum):
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled-back"
    HELD = "held"  # a person would have to decide


class Moment(Record):
    """One look of the judge."""

    elapsed: Seconds  # since the rollout began
    step: int  # in its plan, from 1
    share: int  # of the candidate, hundredths of a percent
    answers: Sides  # in this tick, with every bad answer: what users saw
    verdict: Verdict
    passed: bool = False  # the step is over, and traffic moves on
    ending: Ending | None = None


def simulated(trial: Trial, log: Iterable[Stretch], began: float) -> Iterator[Moment]:
    """Tick by tick from this unix time on, until it ends or the log does. What comes before is the live release's, and
    says what is usual. Where the log is silent the judge looks all the same."""
    past = list[Tick]()
    rollout: _Rollout | None = None
    for at, stretch in _on_end(log):
        if at < began:
            past += [stretch.dealt(Dealing())] if stretch else []
            continue
        rollout = rollout or _Rollout(trial, baseline_of(past, LIVE), at)
        moment = rollout.look(at, stretch)
        yield moment
        if moment.ending is not None:
            return


def shortest(trial: Trial) -> Seconds:
    """No rollout of this plan is promoted before."""
    return sum(stage.window + (trial.criteria.bake if stage.analysed else 0.0) for stage in with_traffic(trial.plan))


def with_traffic(plan: Plan) -> list[Stage]:
    """What a simulation goes through."""
    return [stage for stage in stages(plan) if stage.share]


def _on_end(log: Iterable[Stretch]) -> Iterator[tuple[float, Stretch | None]]:
    """Every tick of the time that the log spans, also those that nobody asked anything in."""
    at: float | None = None
    for stretch in log:
        while at is not None and at < stretch.at:
            yield at, None
            at += TICK
        yield stretch.at, stretch
        at = stretch.at + TICK


class _Rollout:
    """As far as it has come."""

    def __init__(self, trial: Trial, baseline: Baseline, began: float) -> None:
        self._trial = trial
        self._stages = with_traffic(trial.plan)
        self._at = 0
        self._began = began
        self._arrived = began
        self._evidence = gathered.begin(tested(trial.plan), began, baseline)
        if self._stage.bakes:
            self._evidence = gathered.bake(self._evidence, began)

    @property
    def _stage(self) -> Stage:
        return self._stages[self._at]

    def look(self, at: float, stretch: Stretch | None) -> Moment:
        """At the end of this tick; moves on if that is what it says."""
        now, stage = at + TICK, self._stage
        tick = stretch.dealt(self._dealing(stage)) if stretch else None
        if tick is not None:
            self._evidence = gathered.observe(self._evidence, tick, CANDIDATE)
        step = _step(stage, now - self._arrived)
        verdict = judge(self._evidence, self._trial.criteria, step, now)
        passed = verdict.decision is Decision.ADVANCE and (step.until is Until.PROOF or not stage.analysed)
        ending = _stopped(verdict)
        if passed and stage is self._stages[-1]:
            ending = Ending.PROMOTED
        elif passed:
            self._move_on(now)
        return Moment(
            elapsed=now - self._began,
            step=stage.number,
            share=stage.share,
            answers=_answers(tick),
            verdict=verdict,
            passed=passed,
            ending=ending,
        )

    def _dealing(self, stage: Stage) -> Dealing:
        defect = self._trial.defect
        if stage.number < defect.from_step:
            return Dealing(share=stage.share)
        return Dealing(share=stage.share, errors=defect.errors, slower=defect.slower)

    def _move_on(self, now: float) -> None:
        self._at, self._arrived = self._at + 1, now
        enter = gathered.bake if self._stage.bakes else gathered.next_step
        self._evidence = enter(self._evidence, now)


def _step(stage: Stage, elapsed: Seconds) -> Step:
    """First by the clock; then, where the analysis is waited for, in a wait of its own."""
    step = end_of(stage)
    if not stage.analysed:
        return step.replace(elapsed=elapsed)
    if elapsed > stage.window:
        return step.replace(elapsed=elapsed - stage.window)
    return step.replace(until=Until.CLOCK, window=stage.window, elapsed=elapsed)


def _stopped(verdict: Verdict) -> Ending | None:
    """What ends a rollout before it is through."""
    if verdict.decision is Decision.ROLLBACK:
        return Ending.ROLLED_BACK
    return Ending.HELD if verdict.undecided else None


def _answers(tick: Tick | None) -> Sides:
    if tick is None:
        return Sides()
    ours, theirs = tick.green, tick.blue
    return Sides(
        candidate=Count(requests=ours.requests, bad=ours.bad_attempts),
        live=Count(requests=theirs.requests, bad=theirs.bad_attempts),
    )
