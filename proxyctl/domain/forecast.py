"""What a canary can tell at a given traffic: how long every step will take, and what it can catch. Pure.

Start at forecast_of(). The figures are of the same tests that will judge; nothing here is simulated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count
from math import ceil, comb, log, prod
from typing import Final

from proxyctl.domain.analysis import FEWEST, MATERIAL, Step, Until, end_of, of_errors, of_one_test
from proxyctl.domain.criteria import Criteria
from proxyctl.domain.evidence import SLOW, Count
from proxyctl.domain.explain import duration, figure, percent
from proxyctl.domain.model import Colour
from proxyctl.domain.plan import Plan, stages, tested, words
from proxyctl.domain.record import Record
from proxyctl.domain.sequential import clopper_pearson_upper, log_ratios, mixture, requests_to_pass
from proxyctl.domain.source import Source
from proxyctl.domain.split import WHOLE
from proxyctl.domain.steps import Analysis, Bake, Pause, Weight
from proxyctl.domain.steps import Step as PlanStep
from proxyctl.domain.tally import TICK, Tally, Tick
from proxyctl.domain.units import Seconds, lasting

POWER: Final = 0.8  # the chance to catch what is said to be caught


class StepForecast(Record):
    number: int  # in its plan, from 1
    share: int  # of the candidate, hundredths of a percent
    per_second: float  # requests of the candidate
    margin: float | None  # what its rate of errors must be proven to be below; None: nothing is to be proven
    requests: int | None  # that a good candidate needs, as often as not; None: it cannot pass, or need not
    seconds: Seconds | None  # the same in time; never less than the step's bake
    passes: float  # the chance that a good candidate passes before the deadline
    catches: float | None  # a candidate with this rate of errors is rolled back before the deadline, 4 times in 5
    deadline: Seconds
    timed: bool = False  # it ends by the clock, at the deadline, whatever was proven

    @property
    def inconclusive(self) -> bool:
        """A good candidate will rather be stopped by the deadline than pass."""
        return self.passes < 0.5 and not self.timed

    def __str__(self) -> str:
        return "; ".join(_parts(self))


class Traffic(Record):
    """Of one service, today."""

    per_second: float
    usual: float  # its live release's rate of bad answers
    seconds: Seconds  # of the log that this is known from


def traffic_of(ticks: Iterable[Tick], live: Colour, now: float) -> Traffic | None:
    """What these ticks say until now, unix time; None: they have no request. What was sampled is counted for all."""
    known = [(tick.at, _asked(tick), tick.blue if live is Colour.BLUE else tick.green) for tick in ticks]
    requests = sum(asked for _, asked, _ in known)
    if not requests:
        return None
    until = max(known[-1][0], now - 2 * TICK) + TICK  # the tick that is open has not been told yet
    seconds = until - known[0][0]
    errors = sum((_errors(tally) for *_, tally in known), Count())
    return Traffic(per_second=requests / seconds, usual=errors.rate, seconds=seconds)


def _asked(tick: Tick) -> float:
    return (tick.blue.requests + tick.green.requests) / tick.sampled


def _errors(tally: Tally) -> Count:
    return Count(requests=tally.requests, bad=tally.bad)


def forecast_of(plan: Plan, settings: Criteria, today: Traffic) -> tuple[StepForecast, ...]:
    """Of every step of a plan in which both releases have traffic."""
    shared = [stage for stage in stages(plan) if 0 < stage.share < WHOLE]
    return tuple(
        _step(settings, end_of(stage), stage.number, 1 if stage.bakes else tested(plan), today) for stage in shared
    )


def _step(settings: Criteria, step: Step, number: int, planned: int, today: Traffic) -> StepForecast:
    ours = today.per_second * step.share / WHOLE
    timed = step.until is Until.CLOCK
    lasts = step.window if timed else settings.deadline
    bad, slow = step.margins(settings, today.usual, SLOW)
    rates = [(today.usual, bad), (SLOW, slow if settings.latency else None)]
    tests = [(rate, below) for rate, below in rates if below is not None]
    needed = [requests_needed(rate, below) for rate, below in tests]
    enough = [number for number in needed if number is not None]
    requests = max(enough) if enough and len(enough) == len(tests) else None
    seconds = None if requests is None or not ours else max(settings.bake, requests / ours)
    alpha = of_errors(settings, of_one_test(settings, step, ceiling=today.usual))
    return StepForecast(
        number=number,
        share=step.share,
        per_second=ours,
        margin=bad,
        requests=requests,
        seconds=step.window if timed else seconds,
        passes=prod((chance_to_pass(rate, below, int(ours * lasts)) for rate, below in tests), start=1.0),
        catches=catches(settings, alpha, int(ours * lasts), step.share / WHOLE, planned, today.usual),
        deadline=lasts,
        timed=timed,
    )


# --- sources ------------------------------------------------------------------------------------------------------


def delays(plan: Plan, settings: Criteria) -> tuple[str, ...]:
    """Which steps sources make longer than they are by themselves, or bring to their deadline."""
    deciding = [source for source in settings.sources if not source.dry_run]
    slowest = max(deciding, key=lambda source: source.soonest, default=None)
    return tuple(delay for step in plan if slowest and (delay := _delay(step, slowest, settings)))


def _delay(step: PlanStep, source: Source, settings: Criteria) -> str:
    match step:
        case Weight(dwell=None) | Analysis():
            least, ends = settings.bake, settings.deadline
        case Weight(dwell=window) | Pause(window=window) | Bake(window=window) if window:
            least, ends = window, window + settings.deadline
        case _:
            return ""
    soonest = source.soonest
    if soonest <= least:
        return ""
    what = f"will end inconclusive after {lasting(ends)}" if soonest >= ends else f"lasts {lasting(soonest)}"
    return f"{words(step)}: {what}, since {source.name} cannot have passed before {lasting(soonest)}"


# --- passing ------------------------------------------------------------------------------------------------------


def requests_needed(rate: float, margin: float, chance: float = 0.5) -> int | None:
    """With this chance a candidate with this rate has passed by then; None: it hardly ever will."""
    return next((requests for requests, passed in _passed(rate, margin) if passed >= chance), None)


def chance_to_pass(rate: float, margin: float, requests: int) -> float:
    """That a candidate with this rate passes within so many requests."""
    chance = 0.0
    for looked, passed in _passed(rate, margin):
        if looked > requests:
            break
        chance = passed
    return chance


def _passed(rate: float, margin: float) -> Iterator[tuple[int, float]]:
    """The chance to have passed, wherever it grows: exactly, request by request.

    With k bad ones a candidate passes at requests_to_pass(k); in between the bad ones of those that have not are spread
    by the binomial.
    """
    if rate >= margin:
        return
    open_with, looked, passed = [1.0], 0, 0.0  # the chance to be unpassed with 0, 1, 2... bad ones
    for bad in count():
        requests = requests_to_pass(bad, margin)
        open_with = _spread(open_with, requests - looked, rate)
        passed += sum(open_with[: bad + 1])
        open_with[: bad + 1] = [0.0] * len(open_with[: bad + 1])
        looked = requests
        yield requests, passed
        if passed > 0.999 or bad == 300:
            return


def _spread(chances: list[float], requests: int, rate: float) -> list[float]:
    more = _binomial(requests, rate)
    spread = [0.0] * (len(chances) + len(more) - 1)
    for have, chance in enumerate(chances):
        if chance > 0:
            for extra, by in enumerate(more):
                spread[have + extra] += chance * by
    return spread


def _binomial(requests: int, rate: float) -> list[float]:
    """The chances of 0, 1, 2... bad ones, until they no longer matter."""
    chances = list[float]()
    while sum(chances) < 1 - 1e-9 and len(chances) <= requests:
        bad = len(chances)
        chances.append(comb(requests, bad) * rate**bad * (1 - rate) ** (requests - bad))
    return chances


# --- catching -----------------------------------------------------------------------------------------------------


def catches(settings: Criteria, alpha: float, requests: int, share: float, planned: int, usual: float) -> float | None:
    """The smallest rate that is rolled back within so many requests of this step alone, with a chance of POWER."""
    enough = convicting(requests, share, usual, _needed(alpha, planned))
    enough = max(enough, FEWEST, ceil(MATERIAL * usual * requests), ceil(settings.floor * requests))
    return clopper_pearson_upper(enough - 1, requests, 1 - POWER) if enough <= requests else None


def convicting(requests: int, share: float, usual: float, needed: float) -> int:
    """How many bad ones of so many requests are evidence enough, while the live release is as usual."""
    live_bad = round(requests * (1 - share) / share * usual) if share else 0
    low, high = 0, requests + 1
    while high - low > 1:
        bad = (low + high) // 2
        enough = mixture(log_ratios(bad, bad + live_bad, share)) >= log(needed)
        low, high = (low, bad) if enough else (bad, high)
    return high


def _needed(alpha: float, planned: int) -> float:
    """What the step's own E must reach while every other step's is 1: see since_any_start()."""
    return (1 / alpha - 0.5 * (planned - 1) / planned) / (0.5 + 0.5 / planned)


# --- words --------------------------------------------------------------------------------------------------------


def _parts(step: StepForecast) -> Iterator[str]:
    name = f"step {step.number} at {step.share / 100:g} % ({figure(step.per_second)} req/s)"
    if step.margin is None:
        yield f"{name} lasts {duration(step.deadline)}, whatever is proven"
    elif not step.per_second:
        yield f"{name} has nothing to be judged by"
    elif step.seconds is None or step.requests is None:
        yield f"{name} cannot pass: the live release is no better than {percent(step.margin)} bad"
    else:
        goal = f"to prove less than {percent(step.margin)} bad by {step.requests:,} requests"
        yield f"{name} needs ~{duration(step.seconds)} {goal}"
    if step.inconclusive:
        yield f"deadline is {duration(step.deadline)}: will end inconclusive"
    elif step.passes < 0.9:
        yield f"deadline is {duration(step.deadline)}: ends inconclusive {percent(1 - step.passes)} of the time"
    if step.catches is None:
        yield f"catches nothing in {duration(step.deadline)}"
    else:
        yield f"catches {percent(step.catches)} bad in {duration(step.deadline)}, 4 times in 5"
