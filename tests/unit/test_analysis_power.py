"""What the judge catches and what it lets go, on traffic out of a seed; `python -m bench.analysis` has more runs."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from bench.simulated import (
    CANDIDATE,
    ONE_STEP,
    USUAL,
    Counting,
    Rng,
    Traffic,
    bake_rolled_back_after,
    bursts,
    busy_clients,
    past,
    rolled_back_after,
    rollout,
    ticks,
    timed,
)
from proxyctl.domain.criteria import Criteria, Sensitivity
from proxyctl.domain.evidence import Baseline, baseline_of, begin
from proxyctl.domain.units import Seconds
from proxyctl.domain.verdict import Decision


def found(runs: int, once: Callable[[Rng], Seconds | None], seed: int = 7) -> tuple[float, float]:
    """The share that was rolled back, and the median of when."""
    rng = np.random.default_rng(seed)
    times = [seconds for seconds in (once(rng) for _ in range(runs)) if seconds is not None]
    return len(times) / runs, statistics.median(times or [0.0])


def one_step(per_second: float, bad: float, sensitivity: Sensitivity) -> Callable[[Rng], Seconds | None]:
    """Ten minutes with a tenth of the traffic, nothing known of the past."""
    traffic = Traffic(candidate=per_second, live=9 * per_second, bad=bad)
    settings = ONE_STEP.replace(sensitivity=sensitivity)
    return lambda rng: rolled_back_after(begin(1, 0.0), settings, ticks(rng, traffic, 600.0))


NORMAL, HIGH = Sensitivity.NORMAL, Sensitivity.HIGH


@pytest.mark.parametrize(
    ("sensitivity", "per_second", "at_most"),
    [(NORMAL, 1.0, 0.04), (NORMAL, 10.0, 0.04), (NORMAL, 100.0, 0.04), (HIGH, 10.0, 0.08)],
)
def test_a_good_candidate_is_hardly_ever_rolled_back(
    sensitivity: Sensitivity, per_second: float, at_most: float
) -> None:
    share, _ = found(50, one_step(per_second, USUAL, sensitivity))
    assert share <= at_most


@pytest.mark.parametrize(
    ("sensitivity", "per_second", "bad", "share", "median"),
    [
        (NORMAL, 1.0, 0.02, 0.61, 320),
        (NORMAL, 1.0, 0.05, 1.0, 100),
        (NORMAL, 1.0, 0.20, 1.0, 20),
        (NORMAL, 10.0, 0.02, 1.0, 50),
        (NORMAL, 10.0, 0.05, 1.0, 15),
        (NORMAL, 10.0, 0.20, 1.0, 5),
        (NORMAL, 100.0, 0.02, 1.0, 10),
        (NORMAL, 100.0, 0.20, 1.0, 5),
        (HIGH, 1.0, 0.02, 0.80, 240),
        (HIGH, 1.0, 0.05, 1.0, 70),
        (HIGH, 10.0, 0.02, 1.0, 35),
        (HIGH, 100.0, 0.02, 1.0, 5),
    ],
)
def test_a_bad_candidate_is_caught_as_often_and_as_early_as_designed(
    sensitivity: Sensitivity, per_second: float, bad: float, share: float, median: Seconds
) -> None:
    caught, when = found(60, one_step(per_second, bad, sensitivity))
    assert caught == pytest.approx(share, abs=0.16 if share < 1 else 0.02)
    assert when == pytest.approx(median, rel=0.35, abs=5)


# --- whole rollouts -----------------------------------------------------------------------------------------------


def outcomes(runs: int, total: float, bad: Callable[[float], float]) -> tuple[Counter[Decision], float]:
    rng = np.random.default_rng(7)
    ended = [rollout(rng, total, bad) for _ in range(runs)]
    return Counter(end.outcome for end in ended), statistics.median(end.seconds for end in ended)


def test_a_good_candidate_is_promoted_where_there_is_traffic() -> None:
    ended, median = outcomes(30, 20.0, lambda _: USUAL)
    assert ended[Decision.ADVANCE] >= 29
    assert median == pytest.approx(480.0, abs=20)


def test_with_little_traffic_a_good_candidate_is_promoted_or_held_and_not_rolled_back() -> None:
    ended, _ = outcomes(30, 2.0, lambda _: USUAL)
    assert ended[Decision.ADVANCE] / 30 == pytest.approx(0.75, abs=0.2)
    assert ended[Decision.ROLLBACK] <= 1


@pytest.mark.parametrize(("total", "share"), [(2.0, 0.20), (20.0, 0.99)])
def test_a_candidate_with_2_percent_is_never_promoted(total: float, share: float) -> None:
    ended, _ = outcomes(30, total, lambda _: 0.02)
    assert ended[Decision.ADVANCE] == 0
    assert ended[Decision.ROLLBACK] / 30 == pytest.approx(share, abs=0.2)


def test_a_defect_that_shows_under_load_only_is_caught_by_its_step() -> None:
    ended, median = outcomes(30, 20.0, lambda share: 0.05 if share >= 0.5 else USUAL)
    assert ended == {Decision.ROLLBACK: 30}
    assert median == pytest.approx(155.0, abs=15)


# --- what breaks such tests ---------------------------------------------------------------------------------------


def in_bursts(counting: Counting, tempered: bool, per_second: float = 10.0, bad: float = USUAL) -> float:
    traffic = Traffic(candidate=per_second, live=9 * per_second, bad=bad)

    def once(rng: Rng) -> Seconds | None:
        log = bursts(rng, traffic, 600.0, counting)
        return rolled_back_after(begin(1, 0.0, known if tempered else Baseline()), ONE_STEP, log, tempered)

    before = bursts(np.random.default_rng(1), traffic.replace(candidate=0.0), 1800.0, counting, start=-1800.0)
    known = baseline_of(before, CANDIDATE.other)
    return found(40, once)[0]


def test_retries_counted_one_by_one_would_roll_good_candidates_back() -> None:
    assert in_bursts(Counting.EVERY, tempered=False) >= 0.15


def test_retries_roll_nothing_back_when_a_client_counts_once_and_bursts_are_tempered() -> None:
    assert in_bursts(Counting.PER_CLIENT, tempered=True) == 0.0
    assert in_bursts(Counting.EVERY, tempered=True) <= 0.05
    assert in_bursts(Counting.PER_CLIENT, tempered=True, bad=0.05) >= 0.95


def busy(counting: Counting, bad: float) -> float:
    traffic = Traffic(candidate=10.0, live=90.0, bad=bad, usual=0.01)
    return found(
        15, lambda rng: rolled_back_after(begin(1, 0.0), ONE_STEP, busy_clients(rng, traffic, 600.0, 3, counting))
    )[0]


def test_of_a_busy_client_only_the_first_bad_answer_on_either_colour_may_count() -> None:
    """One on each colour would be fair to neither: the live release's many would count as one, like the candidate's."""
    assert busy(Counting.PER_COLOUR, bad=0.01) >= 0.3
    assert busy(Counting.PER_CLIENT, bad=0.01) == 0.0
    assert busy(Counting.PER_CLIENT, bad=0.10) == 1.0


def test_an_outage_of_both_sides_rolls_nothing_back() -> None:
    """A tenth of all answers is bad, for 90 s in the middle."""

    def once(rng: Rng) -> Seconds | None:
        calm = Traffic(candidate=10.0, live=90.0, bad=USUAL)
        storm = calm.replace(bad=0.1, usual=0.1)
        log = [*ticks(rng, calm, 120.0), *ticks(rng, storm, 90.0, start=120.0), *ticks(rng, calm, 120.0, start=210.0)]
        return rolled_back_after(begin(1, 0.0), ONE_STEP, iter(log))

    assert found(40, once)[0] <= 0.03


# --- latency, and the bake ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slower", "least", "most"), [(1.0, 0.0, 0.0), (1.1, 0.0, 0.4), (1.3, 0.9, 1.0), (2.0, 1.0, 1.0)]
)
def test_a_slower_candidate_is_caught_if_it_is_slow_enough_to_matter(slower: float, least: float, most: float) -> None:
    known = baseline_of(timed(np.random.default_rng(1), 0.0, 10.0, 1.0, 900.0, -900.0), CANDIDATE.other)
    settings = Criteria(deadline=1e9)
    share, _ = found(
        12, lambda rng: rolled_back_after(begin(1, 0.0, known), settings, timed(rng, 10.0, 90.0, slower, 300.0, 0.0))
    )
    assert least <= share <= most


@pytest.mark.parametrize(
    ("total", "holdback", "bad", "share"),
    [
        (1.0, 0.0, USUAL, 0.0),
        (1.0, 0.0, 0.02, 0.18),
        (1.0, 0.0, 0.05, 0.99),
        (10.0, 0.0, 0.02, 1.0),
        (20.0, 0.10, 0.05, 1.0),
        (20.0, 0.02, 0.20, 1.0),
    ],
)
def test_after_the_cutover_a_defect_is_caught_as_designed(
    total: float, holdback: float, bad: float, share: float
) -> None:
    def once(rng: Rng) -> Seconds | None:
        return bake_rolled_back_after(rng, total, holdback, bad, Baseline() if holdback else past(rng, total))

    assert found(30, once)[0] == pytest.approx(share, abs=0.16)
