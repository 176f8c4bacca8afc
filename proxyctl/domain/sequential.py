"""Tests of a rate that may be looked at after every tick. Pure mathematics: counts in, numbers out.

An e-process is evidence against a hypothesis; while that is true its mean is at most 1 at every look and wherever one
stops, so it ever reaches 1/α with a chance of at most α (Ville 1939). It is kept as its natural logarithm, one per
alternative that it is tried with. Start at log_ratios() and mixture() for "too high", at passes() for "low enough".

Sources: Lindon, Sanden, Shirikian, KDD 2022 (arXiv 2205.14762); Lindon & Malek, NeurIPS 2022 (arXiv 2011.03567);
Howard, Ramdas, McAuliffe, Sekhon, Annals of Statistics 2021 (arXiv 1810.08240); Hoeffding 1963; Ville 1939.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import exp, inf, lgamma, log, log1p
from typing import Final

LogRatios = tuple[float, ...]  # one natural logarithm per alternative of ODDS or ALONE_ODDS

# How many times the odds may have grown, and how much of the evidence is staked on each.
ODDS: Final = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
ALONE_ODDS: Final = (1.5, 2.0, 4.0, 8.0, 16.0, 32.0)
STAKES: Final = (0.30, 0.25, 0.20, 0.10, 0.10, 0.05)
NO_EVIDENCE: Final[LogRatios] = (0.0,) * len(STAKES)

BETA: Final = 0.05  # the chance to hold a rate for lower than it is
_A, _C = 0.5, 50.0  # the prior of the rate in passes(): Beta(0.5, 50), where rates of errors live
_MOST = 1 << 40  # requests beyond which nobody waits


# --- too high: the FAIL test, and the one-sample test of a bake ---------------------------------------------------


def log_ratios(hits: int, trials: int, chance: float, odds: Sequence[float] = ODDS) -> LogRatios:
    """What these trials say for odds ψ times those of `chance`: hits · ln ψ − trials · ln(1 + chance · (ψ − 1)).

    Two tests in one. Candidate against live: of the `trials` bad answers of both, `hits` are the candidate's, and
    `chance` is its share of the requests (for finite counts still at most 1 in the mean: the binomial dominates the
    hypergeometric, Hoeffding 1963). Candidate alone: of its `trials` requests, `hits` are bad, and `chance` is usual.
    """
    if not trials:
        return NO_EVIDENCE
    return tuple([hits * log(ratio) - trials * log1p(chance * (ratio - 1)) for ratio in odds])


def added(evidence: LogRatios, more: LogRatios) -> LogRatios:
    """Ticks are independent: their evidence multiplies."""
    return tuple([one + other for one, other in zip(evidence, more, strict=True)])


def mixture(evidence: LogRatios, dispersion: float = 1.0) -> float:
    """ln E: the mean of the alternatives by their stakes, each tempered by the dispersion φ ≥ 1 of counts in bursts.

    Tempering never weakens the bound, whatever φ does on the way: the mean of x^(1/φ) is at most that of x, to 1/φ.
    """
    return _log_sum([log(stake) + one / dispersion for stake, one in zip(STAKES, evidence, strict=True)])


def since_any_start(whole: float, steps: Sequence[float], planned: int) -> float:
    """ln of ½ E since the rollout began + ½ the mean of E over its planned steps, each since its own beginning.

    A defect that shows under load only is found by its step, however long the rollout was well before. A step that is
    still to come counts 1. A mean of e-processes is one: both halves together still cost one α.
    """
    halves = [log(0.5) + whole]
    halves += [log(0.5 / planned) + step for step in (*steps, *(0.0,) * (planned - len(steps)))]
    return _log_sum(halves)


def _log_sum(logs: Sequence[float]) -> float:
    largest = max(logs)
    return largest + log(sum([exp(one - largest) for one in logs]))


# --- low enough: the PASS test and its bounds ---------------------------------------------------------------------


def log_proof(bad: float, requests: float, rate: float) -> float:
    """ln P against "the rate is this": lnBeta(a+k, c+N−k) − lnBeta(a, c) − k · ln m − (N−k) · ln(1−m)."""
    return _log_marginal(bad, requests) - _log_likelihood(bad, requests, rate)


def passes(bad: float, requests: float, margin: float, beta: float = BETA) -> bool:
    """Whether the rate is proven to be below the margin, however often one looks."""
    return bad < margin * requests and log_proof(bad, requests, margin) >= log(1 / beta)


def upper_bound(bad: int, requests: int, beta: float = BETA) -> float:
    """The smallest margin that passes: the rate is below it, with confidence 1 − β at every look."""
    if bad >= requests:
        return 1.0
    marginal, needed = _log_marginal(bad, requests), log(1 / beta)
    return _first(lambda rate: marginal - _log_likelihood(bad, requests, rate) >= needed, bad / requests, 1.0)


def lower_bound(bad: int, requests: int, beta: float = BETA) -> float:
    """The same on the other side: the rate is above it."""
    if bad == 0:
        return 0.0
    marginal, needed = _log_marginal(bad, requests), log(1 / beta)
    return _first(lambda rate: marginal - _log_likelihood(bad, requests, rate) < needed, 0.0, bad / requests)


def _log_marginal(bad: float, requests: float) -> float:
    return _log_beta(_A + bad, _C + requests - bad) - _log_beta(_A, _C)


def _log_likelihood(bad: float, requests: float, rate: float) -> float:
    """Rates of 0 and 1 are limits that a user may set: what contradicts them is impossible."""
    good = requests - bad
    if (bad and rate <= 0) or (good and rate >= 1):
        return -inf
    return (bad * log(rate) if bad else 0.0) + (good * log1p(-rate) if good else 0.0)


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


def _first(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Where between the two it begins to hold, a ten-thousandth too high at most."""
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


# --- how many requests it takes -----------------------------------------------------------------------------------


def more_to_pass(bad: int, requests: int, margin: float, rate: float) -> int | None:
    """Further requests until it passes, if so many of them are bad; None: it never will."""
    if rate >= margin:
        return None
    return _fewest(lambda more: passes(bad + rate * more, requests + more, margin))


@cache
def requests_to_pass(bad: int, margin: float, beta: float = BETA) -> int:
    """The requests at which a candidate with this many bad ones passes."""
    return bad + (_fewest(lambda good: passes(bad, bad + good, margin, beta)) or _MOST)


def _fewest(enough: Callable[[int], bool]) -> int | None:
    if enough(0):
        return 0
    high = next((1 << power for power in range(41) if enough(1 << power)), None)
    if high is None:
        return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def growth(candidate: float, live: float, share: float) -> float:
    """By how much ln E grows with every request of the candidate, at these true rates; at the best alternative.

    p_c · ln ψ − (p_c + p_t · (1−w)/w) · ln(1 + w(ψ−1)); about (ln(1/α) + 1.5) / growth requests convict.
    """
    both = candidate + live * (1 - share) / share
    return max(candidate * log(ratio) - both * log1p(share * (ratio - 1)) for ratio in ODDS)


# --- one look -----------------------------------------------------------------------------------------------------


def clopper_pearson_upper(bad: int, requests: int, alpha: float) -> float:
    """The exact bound of one look: the rate at which so few bad ones have a chance of α (Clopper & Pearson 1934)."""
    if bad >= requests:
        return 1.0
    return _first(lambda rate: at_most(bad, requests, rate) <= alpha, bad / requests, 1.0)


def at_most(bad: int, requests: int, rate: float) -> float:
    """The chance of no more than this many bad ones; quick for counts below the mean, where terms only shrink."""
    chance = lgamma(requests + 1) - lgamma(bad + 1) - lgamma(requests - bad + 1)
    term = exp(chance + _log_likelihood(bad, requests, rate))
    total = 0.0
    for number in range(bad, -1, -1):
        total += term
        term *= number * (1 - rate) / ((requests - number + 1) * rate)
        if term < total * 1e-12:
            break
    return min(1.0, total)
