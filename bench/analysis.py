"""How often a canary is rolled back, promoted or held: the real judge on simulated traffic, beside the design.

`python -m bench.analysis` takes about six minutes of one core; `python -m bench.analysis 40` has 40 runs a cell instead
of 400. In every cell: rolled back, percent (median seconds); then what the design's own simulations said.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np

from bench.arena import Row, report
from bench.simulated import (
    CANDIDATE,
    DESIGNED,
    ONE_STEP,
    USUAL,
    Counting,
    Ending,
    Rate,
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
from proxyctl.domain.evidence import Baseline, baseline_of, begin, observe
from proxyctl.domain.forecast import requests_needed
from proxyctl.domain.sequential import requests_to_pass
from proxyctl.domain.units import Seconds
from proxyctl.domain.verdict import Decision

Once = Callable[[Rng], Seconds | None]
TEN_MINUTES: Final = 600.0
RATES: Final = (USUAL, 0.02, 0.05, 0.20)


def cell(once: Once, runs: int, seed: int = 1) -> str:
    """How many percent are rolled back, and when."""
    rng = np.random.default_rng(seed)
    found = [seconds for seconds in (once(rng) for _ in range(runs)) if seconds is not None]
    when = f" ({statistics.median(found):.0f})" if found else ""
    return f"{100 * len(found) / runs:.3g}{when}"


def row(name: str, cells: list[tuple[str, Once, str]], runs: int) -> Row:
    return {"": name} | {f"{column} ": f"{cell(once, runs)} | {said}" for column, once, said in cells}


# --- one step of ten minutes --------------------------------------------------------------------------------------

ONE_STEP_SAID: Final = {
    (Sensitivity.NORMAL, 1.0): ("0.4", "61 (320)", "100 (100)", "100 (20)"),
    (Sensitivity.NORMAL, 10.0): ("0.6", "100 (50)", "100 (15)", "100 (5)"),
    (Sensitivity.NORMAL, 100.0): ("0.3", "100 (10)", "100 (5)", "100 (5)"),
    (Sensitivity.HIGH, 1.0): ("1.8", "80 (240)", "100 (70)", "100 (15)"),
    (Sensitivity.HIGH, 10.0): ("2.2", "100 (35)", "100 (10)", "100 (5)"),
    (Sensitivity.HIGH, 100.0): ("1.0", "100 (5)", "100 (5)", "100 (5)"),
}


def one_step(rng: Rng, per_second: float, bad: float, sensitivity: Sensitivity) -> Seconds | None:
    """Nine requests in ten are the live release's; nothing is known of its past."""
    log = ticks(rng, Traffic(candidate=per_second, live=9 * per_second, bad=bad), TEN_MINUTES)
    return rolled_back_after(begin(1, 0.0), ONE_STEP.replace(sensitivity=sensitivity), log)


def detection(runs: int) -> list[Row]:
    return [
        row(
            f"α {sensitivity.alpha:.0%}, {per_second:g} req/s",
            [
                (f"{bad:.1%} bad", partial(one_step, per_second=per_second, bad=bad, sensitivity=sensitivity), said)
                for bad, said in zip(RATES, saids, strict=True)
            ],
            runs,
        )
        for (sensitivity, per_second), saids in ONE_STEP_SAID.items()
    ]


# --- bursts, and few clients --------------------------------------------------------------------------------------


def burst(rng: Rng, per_second: float, bad: float, counting: Counting, tempered: bool) -> Seconds | None:
    traffic = Traffic(candidate=per_second, live=9 * per_second, bad=bad)
    before = bursts(rng, traffic.replace(candidate=0.0), 1800.0, counting, start=-1800.0)
    known = baseline_of(before, CANDIDATE.other) if tempered else Baseline()
    return rolled_back_after(begin(1, 0.0, known), ONE_STEP, bursts(rng, traffic, TEN_MINUTES, counting), tempered)


def in_bursts(runs: int) -> list[Row]:
    said = {
        (Counting.EVERY, False): ("13", "38", "", ""),
        (Counting.EVERY, True): ("0", "0.6", "13", "100"),
        (Counting.PER_CLIENT, False): ("0.1", "0.3", "64", "100"),
        (Counting.PER_CLIENT, True): ("", "", "", ""),
    }
    asked = [(1.0, USUAL), (10.0, USUAL), (1.0, 0.05), (10.0, 0.05)]
    return [
        row(
            f"bad is {counting}{', tempered by φ' if tempered else ''}",
            [
                (
                    f"{per_second:g} req/s, {bad:.1%}",
                    partial(burst, per_second=per_second, bad=bad, counting=counting, tempered=tempered),
                    words,
                )
                for (per_second, bad), words in zip(asked, saids, strict=True)
            ],
            runs,
        )
        for (counting, tempered), saids in said.items()
    ]


def busy(rng: Rng, clients: int, bad: float, counting: Counting) -> Seconds | None:
    traffic = Traffic(candidate=10.0, live=90.0, bad=bad, usual=0.01)
    return rolled_back_after(begin(1, 0.0), ONE_STEP, busy_clients(rng, traffic, TEN_MINUTES, clients, counting))


def of_few_clients(runs: int) -> list[Row]:
    return [
        row(
            f"bad is {counting}",
            [
                (f"{clients} clients, {bad:.0%}", partial(busy, clients=clients, bad=bad, counting=counting), "")
                for clients, bad in ((3, 0.01), (10, 0.01), (100, 0.01), (3, 0.10), (100, 0.10))
            ],
            runs,
        )
        for counting in Counting
    ]


# --- latency ------------------------------------------------------------------------------------------------------


def slower(rng: Rng, per_second: float, by: float) -> Seconds | None:
    known = baseline_of(timed(rng, 0.0, per_second, 1.0, 1800.0, -1800.0), CANDIDATE.other)
    log = timed(rng, per_second, 9 * per_second, by, TEN_MINUTES, 0.0)
    return rolled_back_after(begin(1, 0.0, known), ONE_STEP.replace(latency=True), log)


def latency(runs: int) -> list[Row]:
    said = {1.0: ("0.1", "3", "68", "100"), 10.0: ("0.1", "8", "100 (50)", "100")}
    return [
        row(
            f"{per_second:g} req/s",
            [
                (f"{by:g} times as slow", partial(slower, per_second=per_second, by=by), words)
                for by, words in zip((1.0, 1.1, 1.3, 2.0), saids, strict=True)
            ],
            runs,
        )
        for per_second, saids in said.items()
    ]


# --- after the cutover --------------------------------------------------------------------------------------------


def baking(rng: Rng, total: float, holdback: float, bad: float, with_past: bool) -> Seconds | None:
    known = past(rng, total) if with_past else Baseline()
    return bake_rolled_back_after(rng, total, holdback, bad, known)


def bakes(runs: int) -> list[Row]:
    said = {
        (1.0, 0.0): ("0", "18 (315)", "99 (130)", "100 (15)"),
        (10.0, 0.0): ("0", "100 (65)", "100 (15)", "100 (5)"),
        (100.0, 0.0): ("0", "100 (10)", "100 (5)", "100 (5)"),
        (20.0, 0.02): ("", "0", "69 (435)", "100 (110)"),
        (20.0, 0.05): ("", "25 (465)", "100 (210)", "100 (45)"),
        (20.0, 0.10): ("", "74 (370)", "100 (110)", "100 (25)"),
        (200.0, 0.02): ("", "99.7", "100", "100"),
    }
    return [
        row(
            f"{total:g} req/s, {f'{holdback:.0%} held back' if holdback else 'beside its past alone'}",
            [
                (
                    f"{bad:.1%} bad",
                    partial(baking, total=total, holdback=holdback, bad=bad, with_past=not holdback),
                    words,
                )
                for bad, words in zip(RATES, saids, strict=True)
            ],
            runs,
        )
        for (total, holdback), saids in said.items()
    ]


# --- whole rollouts -----------------------------------------------------------------------------------------------

ROLLOUTS_SAID: Final[dict[tuple[float, str], tuple[Rate, str]]] = {
    (2, "good"): (lambda _: USUAL, "75 / 0.08 / 25 (940), 5"),
    (2, "2 %"): (lambda _: 0.02, "0 / 20 / 80, 10"),
    (2, "5 %"): (lambda _: 0.05, "0 / 84 / 16 (495), 8"),
    (2, "20 %"): (lambda _: 0.20, "0 / 99 / 1 (200), 4"),
    (20, "good"): (lambda _: USUAL, "99.8 / 0.2 / 0 (480), 34"),
    (20, "2 %"): (lambda _: 0.02, "0 / 99 / 1 (170), 17"),
    (20, "5 %"): (lambda _: 0.05, "0 / 100 / 0 (75), 7"),
    (20, "5 % from 50 % weight on"): (lambda share: 0.05 if share >= 0.5 else USUAL, "0 / 100 / 0 (155), 19"),
    (200, "good"): (lambda _: USUAL, "99.8 / 0.2 / 0 (480), 343"),
    (200, "2 %"): (lambda _: 0.02, "0 / 100 / 0 (55), 12"),
    (200, "20 %"): (lambda _: 0.20, "0 / 100 / 0 (5), 10"),
}
BY_DEFAULT: Final = tuple(stage.replace(margin=None) for stage in DESIGNED)


def endings(total: float, bad: Rate, runs: int, **how: object) -> list[Ending]:
    rng = np.random.default_rng(3)
    return [rollout(rng, total, bad, **how) for _ in range(runs)]  # type: ignore[arg-type]


def summary(ended: list[Ending]) -> str:
    """Promoted / rolled back / held in percent (median seconds of the most frequent), bad answers served."""
    by = {decision: [end.seconds for end in ended if end.outcome is decision] for decision in Decision}
    most = max(by.values(), key=len)
    shares = " / ".join(
        f"{100 * len(by[decision]) / len(ended):.3g}"
        for decision in (Decision.ADVANCE, Decision.ROLLBACK, Decision.HOLD)
    )
    served = statistics.mean(end.served for end in ended)
    return f"{shares} ({statistics.median(most):.0f}), {served:.0f}"


def rollouts(runs: int) -> list[Row]:
    patient = Criteria(latency=False, deadline=1800.0)
    return [
        {
            "req/s": total,
            "truth": truth,
            "measured": summary(endings(total, bad, runs)),
            "design": said,
            "default margins": summary(endings(total, bad, runs, plan=BY_DEFAULT)),
            "and 30 min": summary(endings(total, bad, runs, plan=BY_DEFAULT, settings=patient)) if total < 20 else "",
        }
        for (total, truth), (bad, said) in ROLLOUTS_SAID.items()
    ]


# --- sizes and speed ----------------------------------------------------------------------------------------------


def sizes(_: int) -> list[Row]:
    return [
        {
            "margin": f"{margin:.0%}",
            "with 0, 1, 2, 5 bad": "/".join(str(requests_to_pass(bad, margin)) for bad in (0, 1, 2, 5)),
            "median": requests_needed(USUAL, margin),
            "90 % of the time": requests_needed(USUAL, margin, 0.9),
        }
        for margin in (0.20, 0.10, 0.05, 0.02, 0.01)
    ]


def speed(_: int) -> list[Row]:
    log = list(timed(np.random.default_rng(1), 50.0, 450.0, 1.0, 5000.0, 0.0))
    evidence = begin(4, -60.0)
    began = time.perf_counter()
    for tick in log:
        evidence = observe(evidence, tick, CANDIDATE)
    return [{"one tick of 500 req/s counted, us": round((time.perf_counter() - began) / len(log) * 1e6)}]


def main() -> None:
    runs = max(4, next((int(word) for word in sys.argv[1:] if word.isdigit()), 400))
    report("Requests that a good candidate needs to pass, exactly; 0.5 % bad is usual", sizes(runs))
    report("A tick", speed(runs))
    report(f"One step of ten minutes, {runs} runs a cell: rolled back %, (median s) | design", detection(runs))
    report("Bad answers in bursts of five: rolled back % | design", in_bursts(runs))
    report("100 req/s of a few clients, 1 % bad is usual: rolled back %", of_few_clients(runs // 4))
    report("Latency: rolled back % | design", latency(runs // 4))
    report("Ten minutes after the cutover, a defect that begins with it: rolled back % | design", bakes(runs // 2))
    report("Whole rollouts, 5, 25, 50, 98 %: promoted / rolled back / held, % (median s), bad answers", rollouts(runs))


if __name__ == "__main__":
    main()
