"""The tests of a rate, held against brute force, scipy and the tables of the design."""

from __future__ import annotations

from itertools import product
from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from proxyctl.domain.sequential import (
    NO_EVIDENCE,
    ODDS,
    LogRatios,
    added,
    at_most,
    clopper_pearson_upper,
    growth,
    log_ratios,
    lower_bound,
    mixture,
    more_to_pass,
    passes,
    requests_to_pass,
    since_any_start,
    upper_bound,
)

POPULATIONS = [(n, bad, ours) for n in (5, 12, 60, 400) for bad in (1, 2, 5, 12) for ours in (1, n // 4, n // 2, n - 1)]
POPULATIONS = [(n, bad, ours) for n, bad, ours in POPULATIONS if bad <= n and ours > 0]


def mean_of_e(n: int, bad: int, ours: int, odds: float) -> float:
    """Over every way in which the bad ones of `n` requests can fall on our side, if our odds of one are so high."""
    ways = stats.nchypergeom_fisher(n, bad, ours, odds)
    return sum(
        float(ways.pmf(k)) * exp(mixture(log_ratios(k, bad, ours / n)))
        for k in range(max(0, bad - (n - ours)), min(bad, ours) + 1)
    )


@pytest.mark.parametrize("odds", [1.0, 0.5])
def test_evidence_against_a_candidate_that_is_no_worse_is_at_most_1_in_the_mean(odds: float) -> None:
    means = [mean_of_e(*population, odds) for population in POPULATIONS]
    assert max(means) <= 1 + 1e-9
    assert max(means) > 0.9 or odds < 1  # the bound is used, not just kept


def test_evidence_against_a_worse_candidate_is_more_than_1_in_the_mean() -> None:
    assert all(mean_of_e(400, 12, ours, 3.0) > 1.2 for ours in (40, 100, 200))


def test_no_rule_to_stop_by_makes_the_mean_of_the_evidence_more_than_1() -> None:
    """Three ticks, a step that ends after the second, and whoever looks may stop where it suits them best."""
    ticks = [(6, 2, 2), (8, 3, 2), (6, 3, 3)]

    def best(left: list[tuple[int, int, int]], whole: LogRatios, step: LogRatios, closed: tuple[float, ...]) -> float:
        stopped = exp(since_any_start(mixture(whole), [*closed, mixture(step)], 2))
        if not left:
            return stopped
        (n, bad, ours), *rest = left
        ways = stats.hypergeom(n, bad, ours)
        onward = 0.0
        for k in range(min(bad, ours) + 1):
            ratios = log_ratios(k, bad, ours / n)
            grown, begun = added(whole, ratios), added(step, ratios)
            ended = len(rest) == 1
            onward += float(ways.pmf(k)) * best(
                rest, grown, NO_EVIDENCE if ended else begun, (*closed, mixture(begun)) if ended else closed
            )
        return max(stopped, onward)

    assert best(ticks, NO_EVIDENCE, NO_EVIDENCE, ()) == pytest.approx(1.0, abs=1e-9)


def test_the_likelihood_ratio_is_at_most_the_exact_one_and_reaches_it_in_large_populations() -> None:
    for n, bad, ours in POPULATIONS:
        for k, (index, odds) in product(range(min(bad, ours) + 1), enumerate(ODDS)):
            null = float(stats.hypergeom(n, bad, ours).pmf(k))
            if null == 0:
                continue
            exact = float(stats.nchypergeom_fisher(n, bad, ours, odds).pmf(k)) / null
            assert exp(log_ratios(k, bad, ours / n)[index]) <= exact * (1 + 1e-6)
    exact = stats.nchypergeom_fisher(100_000, 5, 10_000, 4.0).pmf(3) / stats.hypergeom(100_000, 5, 10_000).pmf(3)
    assert exp(log_ratios(3, 5, 0.1)[1]) == pytest.approx(float(exact), rel=1e-3)


@given(st.integers(1, 400), st.integers(1, 4000), st.data())
def test_at_one_look_the_evidence_never_claims_more_than_fishers_exact_test(
    ours: int, theirs: int, data: st.DataObject
) -> None:
    bad, their_bad = data.draw(st.integers(0, ours)), data.draw(st.integers(0, min(theirs, 60)))
    table = np.array([[bad, ours - bad], [their_bad, theirs - their_bad]])
    p = float(stats.fisher_exact(table, alternative="greater").pvalue)
    evidence = mixture(log_ratios(bad, bad + their_bad, ours / (ours + theirs)))
    assert p <= exp(-evidence) * (1 + 1e-6)


@given(st.lists(st.floats(-300, 300), min_size=6, max_size=6), st.floats(1, 10))
def test_tempering_is_bounded_by_the_evidence_itself(evidence: list[float], phi: float) -> None:
    """E^(1/φ) convicts only where E would: the false alarms stay bounded whatever φ is estimated."""
    whole = mixture(tuple(evidence))
    assert mixture(tuple(evidence), phi) <= whole / phi + 1e-9


def test_evidence_does_not_overflow() -> None:
    evidence = log_ratios(500_000, 500_000, 0.01)
    assert mixture(evidence) > 1e5
    assert mixture(log_ratios(0, 500_000, 0.5)) < -1e5


# --- passing ------------------------------------------------------------------------------------------------------

SIZES = {
    0.20: (14, 32, 45, 78),
    0.10: (31, 63, 88, 150),
    0.05: (67, 128, 175, 293),
    0.02: (187, 336, 450, 735),
    0.01: (409, 705, 932, 1500),
}


@pytest.mark.parametrize("margin", SIZES)
def test_the_requests_that_pass_with_0_1_2_and_5_bad_are_those_of_the_table(margin: float) -> None:
    assert tuple(requests_to_pass(bad, margin) for bad in (0, 1, 2, 5)) == SIZES[margin]


@pytest.mark.parametrize("margin", [0.2, 0.05, 0.02])
def test_a_candidate_on_the_margin_passes_one_time_in_20_at_most_however_long_one_looks(
    margin: float,
) -> None:
    rng, runs, bads = np.random.default_rng(20), 4000, 150
    bad_at = np.cumsum(rng.geometric(margin, (runs, bads)), axis=1)  # at which request the first, second... bad one is
    passing = np.array([requests_to_pass(bad, margin) for bad in range(bads)])
    ever = float(np.mean(np.any(bad_at > passing, axis=1)))
    assert 0.005 < ever <= 0.05 + 0.01


@given(st.integers(0, 300), st.integers(1, 100_000))
def test_the_bounds_are_where_the_test_turns(bad: int, requests: int) -> None:
    bad = min(bad, requests)
    above, below = lower_bound(bad, requests), upper_bound(bad, requests)
    assert 0 <= above <= bad / requests <= below <= 1
    if below < 1:
        assert passes(bad, requests, below)
        assert not passes(bad, requests, below * 0.999)


def test_bounds_that_may_be_looked_at_are_wider_than_those_of_one_look() -> None:
    for bad, requests in ((0, 60), (1, 412), (7, 400), (30, 3000)):
        once = stats.binomtest(bad, requests).proportion_ci(0.90, "exact")
        assert lower_bound(bad, requests) <= once.low
        assert once.high < upper_bound(bad, requests) < 1.7 * once.high + 0.005


@given(st.integers(0, 200), st.integers(200, 20_000))
def test_clopper_pearson_is_scipys(bad: int, requests: int) -> None:
    ours = clopper_pearson_upper(bad, requests, 0.01)
    assert ours == pytest.approx(
        float(stats.beta.isf(0.01, bad + 1, requests - bad)) if bad < requests else 1, rel=2e-4
    )


@pytest.mark.parametrize(
    ("bad", "requests", "rate"), [(0, 10, 0.3), (9, 1800, 0.01), (4500, 100_000, 0.05), (30, 60, 0.5)]
)
def test_the_chance_of_at_most_so_many_is_scipys(bad: int, requests: int, rate: float) -> None:
    assert at_most(bad, requests, rate) == pytest.approx(float(stats.binom.cdf(bad, requests, rate)), rel=1e-6)


def test_what_is_missing_to_pass_is_what_passes_then() -> None:
    assert more_to_pass(0, 14, 0.2, 0.0) == 0
    assert more_to_pass(0, 20, 0.05, 0.0) == 67 - 20
    more = more_to_pass(3, 60, 0.05, 0.005)
    assert more is not None
    assert passes(3 + 0.005 * more, 60 + more, 0.05)
    assert not passes(3 + 0.005 * (more - 2), 60 + more - 2, 0.05)


def test_a_rate_on_the_margin_passes_by_no_waiting() -> None:
    assert more_to_pass(0, 10, 0.02, 0.02) is None


CONVICTING = {  # canary requests at 2, 5, 10, 20, 50 % and a tenth of the traffic
    0.0005: (176, 61, 29, 14, 6),
    0.005: (572, 114, 42, 18, 6),
    0.01: (1807, 187, 57, 21, 7),
}


@pytest.mark.parametrize("usual", CONVICTING)
def test_the_growth_gives_the_requests_that_convict(usual: float) -> None:
    wanted = dict(zip((0.02, 0.05, 0.10, 0.20, 0.50), CONVICTING[usual], strict=True))
    for rate, requests in wanted.items():
        assert (log(100) + 1.5) / growth(rate, usual, 0.1) == pytest.approx(requests, rel=0.02, abs=1)
