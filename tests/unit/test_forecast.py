"""What `plan` says of a canary beforehand is what the judge does later."""

from __future__ import annotations

import numpy as np
import pytest

from bench.simulated import ONE_STEP, USUAL, Traffic, rolled_back_after, ticks
from proxyctl.domain.criteria import Criteria
from proxyctl.domain.evidence import begin
from proxyctl.domain.forecast import (
    POWER,
    StepForecast,
    catches,
    chance_to_pass,
    delays,
    forecast_of,
    requests_needed,
    traffic_of,
)
from proxyctl.domain.forecast import (
    Traffic as Today,
)
from proxyctl.domain.model import Colour
from proxyctl.domain.plan import Plan
from proxyctl.domain.sequential import passes, requests_to_pass
from proxyctl.domain.source import SUCCESS, HostCommand, Source
from proxyctl.domain.steps import Analysis, Approval, Bake, Pause, Weight
from proxyctl.domain.tally import Tally, Tick

PLAN = tuple(Weight(share=share, dwell=None) for share in (500, 2500, 5000, 9800))
ERRORS_ONLY = Criteria(latency=False)
ALPHA = ERRORS_ONLY.sensitivity.alpha


def forecast(settings: Criteria, plan: Plan, per_second: float, usual: float) -> tuple[StepForecast, ...]:
    return forecast_of(plan, settings, Today(per_second=per_second, usual=usual, seconds=1800.0))


@pytest.mark.parametrize(
    ("margin", "median", "most"), [(0.20, 14, 14), (0.10, 31, 63), (0.05, 67, 175), (0.02, 336, 821)]
)
def test_the_requests_to_pass_are_those_of_the_table(margin: float, median: int, most: int) -> None:
    assert requests_needed(USUAL, margin) == median
    assert requests_needed(USUAL, margin, 0.9) == most


def test_the_chance_to_pass_is_what_a_simulation_finds() -> None:
    rng, runs = np.random.default_rng(1), 4000
    bad_at = np.cumsum(rng.geometric(0.01, (runs, 40)), axis=1)
    passing = np.array([requests_to_pass(bad, 0.05) for bad in range(40)])
    when = passing[np.argmax(bad_at > passing, axis=1)]
    for requests in (67, 130, 200, 400):
        assert chance_to_pass(0.01, 0.05, requests) == pytest.approx(float(np.mean(when <= requests)), abs=0.025)


def test_nothing_passes_that_is_as_bad_as_its_margin() -> None:
    assert requests_needed(0.02, 0.02) is None
    assert chance_to_pass(0.02, 0.02, 10**9) == 0.0
    assert not passes(20, 1000, 0.02)


@pytest.mark.parametrize("per_second", [1.0, 10.0])
def test_what_a_step_is_said_to_catch_it_catches_about_4_times_in_5(per_second: float) -> None:
    bad = catches(ERRORS_ONLY, ALPHA, int(600 * per_second), 0.1, 1, USUAL)
    assert bad is not None
    rng, runs = np.random.default_rng(2), 50
    traffic = Traffic(candidate=per_second, live=9 * per_second, bad=bad)
    caught = sum(
        rolled_back_after(begin(1, 0.0), ONE_STEP, ticks(rng, traffic, 600.0)) is not None for _ in range(runs)
    )
    assert caught / runs == pytest.approx(POWER, abs=0.15)


def test_more_traffic_catches_finer_regressions_and_less_than_one_and_a_half_times_is_none() -> None:
    found = [catches(ERRORS_ONLY, ALPHA, requests, 0.1, 4, USUAL) for requests in (60, 600, 6000, 600_000)]
    assert all(rate is not None for rate in found)
    assert found == sorted(found, key=lambda rate: -(rate or 0.0))
    assert found[-1] is not None
    assert 1.5 * USUAL < found[-1] < 1.6 * USUAL


def test_a_step_with_too_little_traffic_is_said_to_end_inconclusive() -> None:
    first, *_ = forecast(ERRORS_ONLY.replace(deadline=300.0, margin=0.05), PLAN, 2.0, USUAL)
    assert first.requests == 67
    assert first.inconclusive
    assert str(first) == (
        "step 1 at 5 % (0.1 req/s) needs ~11 min to prove less than 5 % bad by 67 requests; "
        "deadline is 5 min: will end inconclusive; catches 18 % bad in 5 min, 4 times in 5"
    )


def test_a_step_with_enough_traffic_needs_its_bake() -> None:
    steps = forecast(ERRORS_ONLY, PLAN, 200.0, USUAL)
    assert [step.seconds for step in steps] == [60.0] * 4
    assert not any(step.inconclusive for step in steps)
    assert str(steps[0]) == (
        "step 1 at 5 % (10 req/s) needs ~60 s to prove less than 10 % bad by 31 requests; "
        "catches 0.98 % bad in 10 min, 4 times in 5"
    )


def test_a_step_that_may_or_may_not_make_it_says_how_often() -> None:
    steps = forecast(ERRORS_ONLY, PLAN, 1.0, USUAL)
    assert "deadline is 10 min: ends inconclusive 11 % of the time" in str(steps[1])


def test_latency_needs_requests_too() -> None:
    with_latency, without = (forecast(s, PLAN, 20.0, 0.0)[0] for s in (Criteria(), ERRORS_ONLY))
    assert with_latency.requests is not None
    assert without.requests is not None
    assert with_latency.requests > without.requests


def test_a_limit_that_the_live_release_itself_breaks_is_said_to_be_out_of_reach() -> None:
    step, *_ = forecast(ERRORS_ONLY.replace(max_error_rate=0.01), PLAN, 20.0, 0.03)
    assert step.requests is None
    assert "cannot pass: the live release is no better than 1 % bad" in str(step)
    assert step.inconclusive


def test_a_service_that_nobody_asks_has_nothing_to_be_judged_by() -> None:
    step, *_ = forecast(ERRORS_ONLY, PLAN, 0.0, 0.0)
    assert str(step) == (
        "step 1 at 5 % (0 req/s) has nothing to be judged by; deadline is 10 min: will end inconclusive; "
        "catches nothing in 10 min"
    )


# --- of a plan, by today's traffic --------------------------------------------------------------------------------


def test_todays_traffic_is_all_requests_and_the_live_releases_rate_of_bad_ones() -> None:
    log = [
        Tick(at=0.0, blue=Tally(requests=90, bad=9), green=Tally(requests=10, bad=10)),
        Tick(at=5.0, blue=Tally(requests=45, bad=0), green=Tally(requests=5), sampled=0.5),
    ]
    known = traffic_of(log, Colour.BLUE, now=12.0)
    assert known == Today(per_second=20.0, usual=9 / 135, seconds=10.0)
    later = traffic_of(log, Colour.BLUE, now=105.0)
    assert later is not None
    assert later.per_second == 2.0, "the silence since counts"


def test_without_a_request_there_is_no_traffic_to_go_by() -> None:
    assert traffic_of([], Colour.BLUE, now=12.0) is None
    assert traffic_of([Tick(at=0.0, blue=Tally(), green=Tally())], Colour.BLUE, now=12.0) is None


def test_a_step_that_ends_by_the_clock_is_never_inconclusive_and_catches_what_its_time_allows() -> None:
    plan = (
        Weight(share=500, dwell=60.0),
        Pause(window=60.0),
        Weight(share=2500),
        Analysis(),
        Weight(share=10_000),
        Bake(window=60.0),
    )
    timed, judged = forecast(ERRORS_ONLY, plan, 20.0, USUAL)
    assert (timed.share, timed.deadline, timed.timed, timed.inconclusive) == (500, 120.0, True, False)
    assert (timed.margin, timed.requests, timed.passes) == (None, None, 1.0), "nothing is to be proven"
    assert "lasts 2 min, whatever is proven" in str(timed)
    assert timed.catches == catches(ERRORS_ONLY, ALPHA, 120, 0.05, 2, USUAL)
    assert (judged.share, judged.deadline, judged.timed) == (2500, ERRORS_ONLY.deadline, False)
    assert (judged.margin, judged.requests) == (0.025, requests_needed(USUAL, 0.025)), "of all that comes next"


def test_steps_are_counted_in_their_plan() -> None:
    plan = (Weight(share=500, dwell=60.0), Approval(), Weight(share=2500, dwell=None), Weight(share=10_000))
    assert [str(step).partition(" (")[0] for step in forecast(ERRORS_ONLY, plan, 20.0, USUAL)] == [
        "step 1 at 5 %",
        "step 3 at 25 %",
    ]


# --- sources ------------------------------------------------------------------------------------------------------

SMOKE = Source(name="smoke", question=HostCommand(words=("smoke",), folder="/"), passes=SUCCESS, interval=60.0)
STEPS = (
    Weight(share=500, dwell=60.0),
    Weight(share=2500, dwell=None),
    Pause(),
    Weight(share=10_000),
    Bake(window=60.0),
)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (SMOKE, ()),
        (SMOKE.replace(count=2), ()),
        (
            SMOKE.replace(count=4, delay=30.0),
            (
                "weight 5 % for 1m: lasts 210s, since smoke cannot have passed before 210s",
                "weight 25 % until the analysis passes: lasts 210s, since smoke cannot have passed before 210s",
                "bake for 1m: lasts 210s, since smoke cannot have passed before 210s",
            ),
        ),
        (
            SMOKE.replace(count=11),
            (
                "weight 5 % for 1m: lasts 10m, since smoke cannot have passed before 10m",
                "weight 25 % until the analysis passes: will end inconclusive after 10m, "
                "since smoke cannot have passed before 10m",
                "bake for 1m: lasts 10m, since smoke cannot have passed before 10m",
            ),
        ),
        (SMOKE.replace(count=11, dry_run=True), ()),
    ],
    ids=["as long as it lasts", "in time", "late", "too late", "a dry run"],
)
def test_a_plan_says_which_steps_a_source_makes_longer(source: Source, said: tuple[str, ...]) -> None:
    quick = SMOKE.replace(name="quick", interval=1.0)
    assert delays(STEPS, Criteria(sources=(quick, source))) == said
