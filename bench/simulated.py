"""Traffic out of a seed, judged by the real code: what bench/analysis.py and the unit tests measure by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from itertools import count
from typing import Final

import numpy as np
import numpy.typing as npt

from proxyctl.domain.analysis import Bake, Step, judge
from proxyctl.domain.criteria import Criteria
from proxyctl.domain.evidence import Baseline, Dispersion, Evidence, baseline_of, begin, next_step, observe
from proxyctl.domain.model import Colour
from proxyctl.domain.record import Record
from proxyctl.domain.split import WHOLE
from proxyctl.domain.tally import EDGES, TICK, RouteTally, Tally, Tick
from proxyctl.domain.units import Seconds
from proxyctl.domain.verdict import Decision, Reason, Verdict

CANDIDATE: Final = Colour.GREEN
USUAL: Final = 0.005  # the live release's rate of bad answers, unless said otherwise

Rng = np.random.Generator
Numbers = npt.NDArray[np.int64]
Rate = Callable[[float], float]  # of bad answers, by the share of the candidate


class Traffic(Record):
    """Requests per second of both colours, and which share of them is bad."""

    candidate: float
    live: float
    bad: float
    usual: float = USUAL


def ticks(rng: Rng, traffic: Traffic, seconds: Seconds, start: float = 0.0) -> Iterator[Tick]:
    """Independent requests of clients that never come back."""
    number = round(seconds / TICK)
    ours = rng.poisson(traffic.candidate * TICK, number)
    theirs = rng.poisson(traffic.live * TICK, number)
    our_bad, their_bad = rng.binomial(ours, traffic.bad), rng.binomial(theirs, traffic.usual)
    for at, n, k, m, j in zip(count(start, TICK), ours, our_bad, theirs, their_bad):
        yield Tick(at=at, blue=tally(at, int(m), int(j)), green=tally(at, int(n), int(k)))


def tally(at: float, requests: int, bad: int) -> Tally:
    clients = tuple(f"{at}-{number}" for number in range(min(bad, 64)))
    return Tally(requests=requests, bad=bad, bad_attempts=bad, clients=clients)


def past(rng: Rng, live: float, usual: float = USUAL) -> Baseline:
    """Half an hour of the live release alone."""
    traffic = Traffic(candidate=0.0, live=live, bad=0.0, usual=usual)
    return baseline_of(ticks(rng, traffic, 1800.0, start=-1800.0), CANDIDATE.other)


class Counting(StrEnum):
    """How the bad answers of a tick become its `bad`."""

    EVERY = "every answer"
    PER_COLOUR = "one per client and colour"
    PER_CLIENT = "one per client"  # the first, on whichever colour: what a Tally promises


def bursts(rng: Rng, traffic: Traffic, seconds: Seconds, counting: Counting, start: float = 0.0) -> Iterator[Tick]:
    """Clients that get a bad answer ask again at once, five times in the mean, and get another."""

    def side(at: float, per_second: float, rate: float, colour: str) -> Tally:
        retries = rng.geometric(0.2, rng.poisson(per_second * TICK * rate / 5))
        every, clients = int(retries.sum()), tuple(f"{colour}{at}-{number}" for number in range(len(retries)))
        bad = every if counting is Counting.EVERY else len(retries)
        requests = max(int(rng.poisson(per_second * TICK)), every)
        return Tally(requests=requests, bad=bad, bad_attempts=every, clients=clients[:64])

    for at in np.arange(start, start + seconds, TICK).tolist():
        live = side(at, traffic.live, traffic.usual, "b")
        yield Tick(at=at, blue=live, green=side(at, traffic.candidate, traffic.bad, "g"))


def busy_clients(rng: Rng, traffic: Traffic, seconds: Seconds, clients: int, counting: Counting) -> Iterator[Tick]:
    """All requests come from a few clients, each request dealt anew to a colour."""
    for at in np.arange(0.0, seconds, TICK).tolist():
        ours, theirs = (int(n) for n in rng.poisson((traffic.candidate * TICK, traffic.live * TICK)))
        whose = [
            rng.integers(0, clients, rng.binomial(requests, rate))
            for requests, rate in ((ours, traffic.bad), (theirs, traffic.usual))
        ]
        bad = _counted(rng, whose, clients, counting)
        names = tuple(f"client-{number}" for number in sorted(set(whose[0].tolist())))
        yield Tick(
            at=at, blue=Tally(requests=theirs, bad=bad[1]), green=Tally(requests=ours, bad=bad[0], clients=names)
        )


def _counted(rng: Rng, whose: list[Numbers], clients: int, counting: Counting) -> tuple[int, int]:
    if counting is Counting.EVERY:
        return len(whose[0]), len(whose[1])
    if counting is Counting.PER_COLOUR:
        return len(set(whose[0].tolist())), len(set(whose[1].tolist()))
    ours, theirs = (np.bincount(side, minlength=clients) for side in whose)
    either = ours + theirs
    first_is_ours = rng.random(clients) < ours / np.maximum(either, 1)
    return int((first_is_ours & (either > 0)).sum()), int((~first_is_ours & (either > 0)).sum())


def timed(rng: Rng, candidate: float, live: float, slower: float, seconds: Seconds, start: float) -> Iterator[Tick]:
    """Answers without errors: the live release's take 50 ms, log-normal with σ = 0.7, the candidate's so much more."""
    for at in np.arange(start, start + seconds, TICK).tolist():
        yield Tick(at=at, blue=_answers(rng, live, 1.0), green=_answers(rng, candidate, slower))


def _answers(rng: Rng, per_second: float, slower: float) -> Tally:
    requests = int(rng.poisson(per_second * TICK))
    times = 0.05 * slower * np.exp(0.7 * rng.standard_normal(requests))
    histogram = tuple(np.bincount(np.searchsorted(EDGES, times), minlength=len(EDGES) + 1).tolist())
    route = RouteTally(route="GET /", requests=requests, bad=0, times=histogram)
    return Tally(requests=requests, routes=(route,))


ONE_STEP = Criteria(latency=False, deadline=1e9)


def rolled_back_after(
    evidence: Evidence, settings: Criteria, log: Iterator[Tick], tempered: bool = True
) -> Seconds | None:
    """When a single step that is never left is rolled back, in log time; None: it is not."""
    for tick in log:
        evidence = observe(evidence, tick, CANDIDATE)
        if not tempered:
            evidence = evidence.replace(errors=evidence.errors.replace(dispersion=Dispersion()))
        verdict = judge(evidence, settings, Step(share=1000, next_share=WHOLE), tick.at + TICK)
        if verdict.decision is Decision.ROLLBACK:
            return tick.at + TICK
    return None


def bake_rolled_back_after(
    rng: Rng, total: float, holdback: float, bad: float, baseline: Baseline, settings: Criteria = ONE_STEP
) -> Seconds | None:
    """Ten minutes after the cutover, when the defect begins."""
    traffic = Traffic(candidate=total * (1 - holdback), live=total * holdback, bad=bad)
    step = Bake(share=round(WHOLE * (1 - holdback)), window=600.0)
    evidence = begin(1, 0.0, baseline)
    for tick in ticks(rng, traffic, 600.0):
        evidence = observe(evidence, tick, CANDIDATE)
        if judge(evidence, settings, step, tick.at + TICK).decision is Decision.ROLLBACK:
            return tick.at + TICK
    return None


class Stage(Record):
    """A step of a plan, and what is asked of it where that is not the default."""

    share: int  # hundredths of a percent
    margin: float | None = None
    bake: Seconds = 60.0


class Ending(Record):
    outcome: Decision  # ADVANCE: promoted
    seconds: Seconds
    served: int  # bad answers that the candidate gave
    verdict: Verdict


# The plan of the design's own simulations; without `margin` it is the default one.
DESIGNED: Final = (
    Stage(share=500, margin=0.20),
    Stage(share=2500, margin=0.05),
    Stage(share=5000, margin=0.02),
    Stage(share=9800, margin=0.02, bake=300.0),
)


def rollout(
    rng: Rng, total: float, bad: Rate, plan: tuple[Stage, ...] = DESIGNED, settings: Criteria | None = None
) -> Ending:
    """One rollout to its end, at this many requests per second of both colours together."""
    asked = settings or Criteria(latency=False)
    evidence = begin(len(plan), 0.0, past(rng, total))
    now = 0.0
    for index, stage in enumerate(plan):
        if index:
            evidence = next_step(evidence, now)
        after = plan[index + 1].share if index + 1 < len(plan) else None
        step = Step(share=stage.share, next_share=after)
        share = stage.share / WHOLE
        traffic = Traffic(candidate=total * share, live=total * (1 - share), bad=bad(share))
        for tick in ticks(rng, traffic, 2 * asked.deadline, start=now):
            evidence, now = observe(evidence, tick, CANDIDATE), tick.at + TICK
            step = step.replace(elapsed=now - evidence.step_began)
            verdict = judge(evidence, asked.replace(margin=stage.margin, bake=stage.bake), step, now)
            if verdict.decision is not Decision.WAIT and verdict.reason is not Reason.SYSTEM_SICK:
                break
        if verdict.decision is not Decision.ADVANCE:
            break
    served = evidence.errors.whole.counts.candidate.bad
    return Ending(outcome=verdict.decision, seconds=now, served=served, verdict=verdict)
