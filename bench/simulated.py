"""Traffic out of a seed, judged by the real code: what bench/analysis.py and the unit tests measure by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Final

import numpy as np

from proxyctl.domain.analysis import Analysis, Bake, Step, judge, judge_bake
from proxyctl.domain.evidence import Baseline, Evidence, baseline_of, begin, next_step, observe
from proxyctl.domain.model import Colour
from proxyctl.domain.record import Record
from proxyctl.domain.split import WHOLE
from proxyctl.domain.tally import TICK, Tally, Tick
from proxyctl.domain.units import Seconds
from proxyctl.domain.verdict import Decision, Reason, Verdict

CANDIDATE: Final = Colour.GREEN
USUAL: Final = 0.005  # the live release's rate of bad answers, unless said otherwise

Rng = np.random.Generator
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


ONE_STEP = Analysis(latency=False, deadline=1e9)


def rolled_back_after(evidence: Evidence, settings: Analysis, log: Iterator[Tick]) -> Seconds | None:
    """When a single step that is never left is rolled back, in log time."""
    for tick in log:
        evidence = observe(evidence, tick, CANDIDATE)
        verdict = judge(evidence, settings, Step(share=1000, next_share=WHOLE), tick.at + TICK)
        if verdict.decision is Decision.ROLLBACK:
            return tick.at + TICK
    return None


def bake_rolled_back_after(
    rng: Rng, total: float, holdback: float, bad: float, baseline: Baseline, settings: Analysis = ONE_STEP
) -> Seconds | None:
    """Ten minutes after the cutover, when the defect begins."""
    traffic = Traffic(candidate=total * (1 - holdback), live=total * holdback, bad=bad)
    step = Bake(share=round(WHOLE * (1 - holdback)), window=600.0)
    evidence = begin(1, 0.0, baseline)
    for tick in ticks(rng, traffic, 600.0):
        evidence = observe(evidence, tick, CANDIDATE)
        if judge_bake(evidence, settings, step, tick.at + TICK).decision is Decision.ROLLBACK:
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
    rng: Rng, total: float, bad: Rate, plan: tuple[Stage, ...] = DESIGNED, settings: Analysis | None = None
) -> Ending:
    """One rollout to its end, at this many requests per second of both colours together."""
    asked = settings or Analysis(latency=False)
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
            verdict = judge(evidence, asked.replace(margin=stage.margin, bake=stage.bake), step, now)
            if verdict.decision is not Decision.WAIT and verdict.reason is not Reason.SYSTEM_SICK:
                break
        if verdict.decision is not Decision.ADVANCE:
            break
    served = evidence.errors.whole.counts.candidate.bad
    return Ending(outcome=verdict.decision, seconds=now, served=served, verdict=verdict)
