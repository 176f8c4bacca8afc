"""What the log has said for and against a candidate so far. Pure: no clock, no verdict; ticks in, evidence out.

Everything that judging goes on from after a crash is in one Evidence, and a tick that was counted is not counted again.
Start at begin() and observe(); analysis.py judges what is gathered here.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import Final

from proxyctl.domain.model import Colour
from proxyctl.domain.record import Record
from proxyctl.domain.sequential import (
    ALONE_ODDS,
    NO_EVIDENCE,
    LogRatios,
    added,
    clopper_pearson_upper,
    log_ratios,
)
from proxyctl.domain.tally import TICK, Histogram, RouteTally, Tally, Tick, bucket, comes_after, was_set_back
from proxyctl.domain.units import Seconds

KNOWN: Final = 1000  # requests from which a rate is known well enough to be a measure by itself
TIMED: Final = 50  # a route with more answers than this has a 95th percentile of its own
SLOW: Final = 0.05  # the share of the live release's answers that are slow, by definition
FAST: Final[Seconds] = 0.010  # is never slow: with little traffic a process is cold, and that is no regression
SETTLING: Final[Seconds] = 10.0  # after a step began: caches are cold, which is no regression
RECENT: Final = 12  # ticks in the last minute
CLIENTS: Final = 10  # as many as are told apart; more is "10 or more"
SAMPLES: Final = 3
_KEPT: Final = 1 - TICK / 1800  # of older ticks, with every new one: the last half hour weighs most
_BURSTS: Final = 10.0  # the highest dispersion believed; an outage that is over shall not blind us


class Count(Record):
    requests: int = 0
    bad: int = 0  # or slow, where latency is counted

    @property
    def rate(self) -> float:
        return self.bad / self.requests if self.requests else 0.0

    def __add__(self, other: Count) -> Count:
        return Count(requests=self.requests + other.requests, bad=self.bad + other.bad)


class Sides(Record):
    """The same ticks on both sides."""

    candidate: Count = Count()
    live: Count = Count()

    def __add__(self, other: Sides) -> Sides:
        return Sides(candidate=self.candidate + other.candidate, live=self.live + other.live)


class Span(Record):
    """Ticks on end: what was counted in them, and what it says against the candidate. A sum of spans is their union."""

    counts: Sides = Sides()
    against: LogRatios = NO_EVIDENCE

    def __add__(self, other: Span) -> Span:
        return Span(counts=self.counts + other.counts, against=added(self.against, other.against))


class Dispersion(Record):
    """How much the live release's bad answers come in bursts: sums over the ticks of the last half hour."""

    ticks: float = 0.0
    requests: float = 0.0
    bad: float = 0.0
    squares: float = 0.0  # bad² / requests, of each tick

    @property
    def phi(self) -> float:
        """Pearson's χ² per degree of freedom: variance over mean of the bad answers of a tick, for ticks of any size.

        1 is independent answers; it is never less, and 1 until there is enough to tell.
        """
        if self.ticks < 30 or self.bad < 10:
            return 1.0
        chi_square = self.squares * self.requests / self.bad - self.bad
        return min(max(1.0, chi_square / (self.ticks - 1)), _BURSTS)


class RouteTimes(Record):
    route: str
    times: Histogram


class RouteBad(Record):
    route: str
    bad: int


class Threshold(Record):
    route: str
    bucket: int  # the last bucket of a histogram that is not slow


class Baseline(Record):
    """What the live release was like; frozen once it is known, so that a candidate cannot move its own measure."""

    errors: Count = Count()
    dispersion: Dispersion = Dispersion()
    times: tuple[RouteTimes, ...] = ()  # by route, until the thresholds are known
    threshold: int | None = None  # of routes that have none of their own; None: not known yet
    thresholds: tuple[Threshold, ...] = ()  # 95th percentiles by route
    ceiling: float | None = None  # its rate of bad answers is below this, with confidence 99 %; None: nobody knows


class Comparison(Record):
    """One kind of bad answer, the candidate's against the live release's in the same ticks."""

    whole: Span = Span()  # since the rollout began
    step: Span = Span()  # since the step began
    closed: tuple[LogRatios, ...] = ()  # of the steps that ended
    dispersion: Dispersion = Dispersion()  # of the live release
    routes: tuple[RouteBad, ...] = ()  # the candidate's, not deduplicated


class Evidence(Record):
    steps: int  # of the plan; what follows the last is counted with it
    step_began: float  # unix time
    baseline: Baseline
    errors: Comparison
    latency: Comparison = Comparison()
    alone: LogRatios = NO_EVIDENCE  # the candidate's errors against the baseline, without a control
    last: float | None = None  # unix time at which the last counted tick began
    recent: tuple[Sides, ...] = ()  # errors of the last minute, oldest first
    clients: tuple[str, ...] = ()  # with a bad answer of the candidate
    samples: tuple[str, ...] = ()  # ids of the first requests that the candidate answered badly
    gaps: int = 0  # times that lines of the log were gone before they were read
    unreadable: int = 0  # lines of the last counted tick


def begin(steps: int, at: float, baseline: Baseline | None = None) -> Evidence:
    """No evidence yet: a rollout of so many weights begins, at this unix time."""
    known = baseline or Baseline()
    errors = Comparison(dispersion=known.dispersion)
    return Evidence(steps=steps, step_began=at, baseline=known, errors=errors)


def next_step(evidence: Evidence, at: float) -> Evidence:
    """The step's own evidence is closed, the rollout's goes on. Steps beyond the plan go on with the last one's."""
    if len(evidence.errors.closed) + 1 >= evidence.steps:
        errors, latency = _uncounted(evidence.errors), _uncounted(evidence.latency)
    else:
        errors, latency = _closed(evidence.errors), _closed(evidence.latency)
    return evidence.replace(errors=errors, latency=latency, step_began=at)


def bake(evidence: Evidence, at: float) -> Evidence:
    """The cutover is done: tests of their own begin, which know what the rollout learned of the live release."""
    errors = evidence.baseline.errors + evidence.errors.whole.counts.live
    learned = _with_ceiling(evidence.baseline.replace(errors=errors))
    return begin(1, at, learned).replace(
        errors=Comparison(dispersion=evidence.errors.dispersion),
        latency=Comparison(dispersion=evidence.latency.dispersion),
        last=evidence.last,
        gaps=evidence.gaps,
        unreadable=evidence.unreadable,
    )


def observe(evidence: Evidence, tick: Tick, candidate: Colour) -> Evidence:
    """With this tick counted; one that was counted, or is older than that, changes nothing. Where the clock was set
    back, the step has begun by its time too."""
    if not comes_after(tick.at, evidence.last):
        return evidence
    if evidence.last is not None and was_set_back(tick.at, evidence.last):
        evidence = evidence.replace(step_began=min(evidence.step_began, tick.at))
    ours, theirs = _sides(tick, candidate)
    errors = Sides(candidate=_errors(ours), live=_errors(theirs))
    return evidence.replace(
        last=tick.at,
        baseline=_timed(evidence.baseline, theirs),
        errors=_compared(evidence, evidence.errors, tick.at, errors, _bad_routes(ours)),
        latency=_latency(evidence, tick.at, ours, theirs),
        alone=_alone(evidence, tick.at, errors.candidate),
        recent=(*evidence.recent, errors)[-RECENT:],
        clients=_first_of(evidence.clients, ours.clients, CLIENTS),
        samples=_first_of(evidence.samples, ours.samples, SAMPLES),
        unreadable=tick.unreadable,
    )


def usual_rate(evidence: Evidence) -> float:
    """The live release's rate of bad answers: from before if that is known well, else with what was seen since."""
    before = evidence.baseline.errors
    return before.rate if before.requests >= KNOWN else (before + evidence.errors.whole.counts.live).rate


# --- what the live release was like -------------------------------------------------------------------------------


def baseline_of(ticks: Iterable[Tick], live: Colour) -> Baseline:
    """From the ticks before the rollout; of the last half hour, say."""
    learned = Baseline()
    for tick in ticks:
        tally, _ = _sides(tick, live)
        learned = learned.replace(
            errors=learned.errors + _errors(tally),
            dispersion=_spread(learned.dispersion, _errors(tally)),
            times=_merged(learned.times, tally.routes),
        )
    return _with_ceiling(_with_thresholds(learned))


def _timed(known: Baseline, live: Tally) -> Baseline:
    """A rollout without a past learns from its first ticks how fast the live release is, and from none after that."""
    if _frozen(known):
        return known
    return _with_thresholds(known.replace(times=_merged(known.times, live.routes)))


def _with_ceiling(known: Baseline) -> Baseline:
    """It holds for any number of requests: few of them only leave room for more to be usual."""
    if known.errors.bad >= known.errors.requests:
        return known
    return known.replace(ceiling=clopper_pearson_upper(known.errors.bad, known.errors.requests, 0.01))


def _with_thresholds(known: Baseline) -> Baseline:
    whole = [sum(counts) for counts in zip(*(route.times for route in known.times), strict=True)]
    if sum(whole) <= TIMED:
        return known
    own = [Threshold(route=r.route, bucket=_percentile(r.times)) for r in known.times if sum(r.times) > TIMED]
    return known.replace(threshold=_percentile(whole), thresholds=tuple(own), times=())


def _frozen(known: Baseline) -> bool:
    return known.threshold is not None


def _percentile(times: Iterable[int]) -> int:
    """The first bucket at whose upper edge no more than the slow share is left, and everything is that is fast for
    anybody."""
    sums = list(accumulate(times))
    found = next(index for index, at_most in enumerate(sums) if at_most >= (1 - SLOW) * sums[-1])
    return max(found, bucket(FAST))


def _merged(known: tuple[RouteTimes, ...], routes: tuple[RouteTally, ...]) -> tuple[RouteTimes, ...]:
    times = {route.route: route.times for route in known}
    for route in routes:
        if route.times:
            before = times.get(route.route, (0,) * len(route.times))
            times[route.route] = tuple([a + b for a, b in zip(before, route.times, strict=True)])
    return tuple(RouteTimes(route=name, times=times[name]) for name in sorted(times))


# --- one tick -----------------------------------------------------------------------------------------------------


def _sides(tick: Tick, colour: Colour) -> tuple[Tally, Tally]:
    return (tick.blue, tick.green) if colour is Colour.BLUE else (tick.green, tick.blue)


def _errors(tally: Tally) -> Count:
    return Count(requests=tally.requests, bad=tally.bad)


def _bad_routes(tally: Tally) -> dict[str, int]:
    return {route.route: route.bad for route in tally.routes if route.bad}


def _latency(evidence: Evidence, at: float, ours: Tally, theirs: Tally) -> Comparison:
    if not _frozen(evidence.baseline) or at < evidence.step_began + SETTLING:
        return evidence.latency
    limits = {limit.route: limit.bucket for limit in evidence.baseline.thresholds}
    candidate, slow = _slow(evidence.baseline, limits, ours)
    live, _ = _slow(evidence.baseline, limits, theirs)
    return _compared(evidence, evidence.latency, at, Sides(candidate=candidate, live=live), slow)


def _slow(known: Baseline, limits: dict[str, int], tally: Tally) -> tuple[Count, dict[str, int]]:
    """Answers that have a time, and which routes had slow ones."""
    timed, slow = 0, dict[str, int]()
    for route in tally.routes:
        if route.times:
            timed += sum(route.times)
            if late := sum(route.times[limits.get(route.route, known.threshold or 0) + 1 :]):
                slow[route.route] = late
    return Count(requests=timed, bad=sum(slow.values())), slow


def _compared(evidence: Evidence, known: Comparison, at: float, counts: Sides, routes: dict[str, int]) -> Comparison:
    """A tick from before the step, told late, counts for the rollout only."""
    span = Span(counts=counts, against=_against(counts))
    return known.replace(
        whole=known.whole + span,
        step=known.step if at < evidence.step_began else known.step + span,
        dispersion=_spread(known.dispersion, counts.live),
        routes=_blamed(known.routes, routes),
    )


def _against(counts: Sides) -> LogRatios:
    """Who has the bad answers, given how many there are: no rate is assumed, so what moves on both sides cancels."""
    both = counts.candidate + counts.live
    if not both.bad:
        return NO_EVIDENCE
    return log_ratios(counts.candidate.bad, both.bad, counts.candidate.requests / both.requests)


def _alone(evidence: Evidence, at: float, candidate: Count) -> LogRatios:
    ceiling = evidence.baseline.ceiling
    if ceiling is None or at < evidence.step_began:
        return evidence.alone
    return added(evidence.alone, log_ratios(candidate.bad, candidate.requests, ceiling, ALONE_ODDS))


def _spread(known: Dispersion, live: Count) -> Dispersion:
    if not live.requests:
        return known
    return Dispersion(
        ticks=known.ticks * _KEPT + 1,
        requests=known.requests * _KEPT + live.requests,
        bad=known.bad * _KEPT + live.bad,
        squares=known.squares * _KEPT + live.bad**2 / live.requests,
    )


def _blamed(known: tuple[RouteBad, ...], routes: dict[str, int]) -> tuple[RouteBad, ...]:
    if not routes:
        return known
    before = {route.route: route.bad for route in known}
    bad = {name: before.get(name, 0) + routes.get(name, 0) for name in {*before, *routes}}
    return tuple(RouteBad(route=name, bad=bad[name]) for name in sorted(bad))


def _first_of(known: tuple[str, ...], more: tuple[str, ...], limit: int) -> tuple[str, ...]:
    if not more or len(known) == limit:
        return known
    return tuple(dict.fromkeys((*known, *more)))[:limit]


def _closed(known: Comparison) -> Comparison:
    return known.replace(closed=(*known.closed, known.step.against), step=Span())


def _uncounted(known: Comparison) -> Comparison:
    """The step must be proven anew, but what speaks against the candidate goes on."""
    return known.replace(step=Span(against=known.step.against))
