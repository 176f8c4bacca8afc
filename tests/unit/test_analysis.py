"""Which rule decides: the order of the page docs/analysis.md, and the sentence that each verdict carries."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxyctl.domain.analysis import Bake, Step, Until, judge, margin, slow_margin
from proxyctl.domain.codec import decode, encode
from proxyctl.domain.criteria import Criteria, OnInconclusive, Sensitivity
from proxyctl.domain.evidence import Baseline, Count, Evidence, Threshold, begin, next_step, observe
from proxyctl.domain.model import Colour
from proxyctl.domain.tally import EDGES, TICK, RouteTally, Tally, Tick, bucket
from proxyctl.domain.verdict import Decision, Doubt, Metric, Reason, Verdict

ERRORS_ONLY = Criteria(latency=False)
FIRST, LAST = Step(share=500, next_share=2500), Step(share=9800)
KNOWN = Baseline(
    errors=Count(requests=20_000, bad=100),
    threshold=bucket(0.2),
    thresholds=(Threshold(route="GET /pay", bucket=bucket(0.2)),),
    ceiling=0.006,
)


def a_tally(requests: int, bad: int = 0, slow: int = 0, clients: int | None = None) -> Tally:
    times = [0] * (len(EDGES) + 1)
    times[bucket(0.02)], times[bucket(2.0)] = requests - slow, slow
    return Tally(
        requests=requests,
        bad=bad,
        clients=tuple(f"client-{number}" for number in range(bad if clients is None else clients)),
        samples=tuple(f"3f2a{number}" for number in range(min(bad, 2))),
        routes=(RouteTally(route="GET /pay", requests=requests, bad=bad, times=tuple(times)),),
    )


def seen(candidate: Tally, live: Tally, ticks: int = 20, baseline: Baseline | None = KNOWN, steps: int = 4) -> Evidence:
    """So many ticks like this, since the step began."""
    evidence = begin(steps, 0.0, baseline)
    for number in range(ticks):
        evidence = observe(evidence, Tick(at=number * TICK, green=candidate, blue=live), Colour.GREEN)
    return evidence


GOOD = seen(a_tally(100), a_tally(1900, 10))
TERRIBLE = seen(a_tally(100, 30), a_tally(1900, 10))


def judged(evidence: Evidence, settings: Criteria, step: Step, now: float) -> Verdict:
    """In a wait that was never stopped."""
    return judge(evidence, settings, step.replace(elapsed=now - evidence.step_began), now)


def at_once(evidence: Evidence, settings: Criteria = ERRORS_ONLY, step: Step = FIRST, wait: float = 0.0) -> Verdict:
    """Judged when its last tick ended, or so much later."""
    return judged(evidence, settings, step, (evidence.last or 0.0) + TICK + wait)


def reached(verdict: Verdict) -> tuple[Decision, Reason]:
    return verdict.decision, verdict.reason


# --- the order ----------------------------------------------------------------------------------------------------


def test_a_hard_signal_needs_no_statistics() -> None:
    verdict = at_once(GOOD, step=FIRST.replace(failure="shop-web-2-1 exited with 137 (out of memory)"))
    assert reached(verdict) == (Decision.ROLLBACK, Reason.HARD_SIGNAL)
    assert verdict.sentence == "rolled back at 5 %: shop-web-2-1 exited with 137 (out of memory)"


def test_a_candidate_that_is_worse_goes_back() -> None:
    evidence = seen(a_tally(19, 1), a_tally(358, 3), ticks=5)
    verdict = at_once(evidence.replace(clients=("a", "b", "c", "d", "e")))
    assert reached(verdict) == (Decision.WAIT, Reason.UNPROVEN)
    verdict = at_once(seen(a_tally(19, 2), a_tally(358, 3), ticks=5).replace(clients=("a", "b", "c", "d", "e")))
    assert reached(verdict) == (Decision.ROLLBACK, Reason.WORSE)
    assert verdict.sentence == (
        "rolled back at 5 %: 10 bad of 95 (11 %) against 15 of 1,790 (0.84 %), evidence 132,506 of 100 needed, "
        "5 clients, worst GET /pay, requests 3f2a0, 3f2a1"
    )


def test_a_candidate_proven_good_goes_on() -> None:
    verdict = at_once(GOOD)
    assert reached(verdict) == (Decision.ADVANCE, Reason.PROVEN)
    assert verdict.sentence == "passed at 5 %: less than 0.24 % bad, proven by 0 bad of 2,000"


def test_nothing_passes_before_its_bake() -> None:
    verdict = at_once(seen(a_tally(100), a_tally(1900), ticks=8))
    assert reached(verdict) == (Decision.WAIT, Reason.UNPROVEN)
    assert verdict.findings[0].passed
    assert verdict.sentence.endswith("; 20 s are left")


def test_a_candidate_that_is_not_ready_does_not_go_on() -> None:
    verdict = at_once(GOOD, step=FIRST.replace(unready="1 of 2 replicas is not ready"))
    assert reached(verdict) == (Decision.WAIT, Reason.UNPROVEN)
    assert "1 of 2 replicas is not ready" in verdict.sentence


def test_waiting_says_what_is_missing() -> None:
    verdict = at_once(seen(a_tally(2), a_tally(38), ticks=12))
    assert reached(verdict) == (Decision.WAIT, Reason.UNPROVEN)
    assert verdict.sentence == (
        "waiting at 5 %: 0 bad of 24, proven less than 12 %; needs about 9 more requests to prove less than 10 % bad"
    )


def test_what_moves_both_sides_is_the_system_and_not_the_candidate() -> None:
    outage = seen(a_tally(100, 30), a_tally(1900, 200))
    verdict = at_once(outage)
    assert outage.errors.whole.against[1] > 100  # it looks worse, too
    assert reached(verdict) == (Decision.HOLD, Reason.SYSTEM_SICK)
    assert verdict.sentence == (
        "held at 5 %: the system, not the candidate; 360 of 1,200 (30 %) bad in the last minute, "
        "and 2,400 of 22,800 (11 %) of the live release's, where 0.5 % is usual"
    )


def test_a_hard_signal_goes_before_an_outage() -> None:
    outage = seen(a_tally(100, 30), a_tally(1900, 200))
    assert at_once(outage, step=FIRST.replace(failure="exited")).reason is Reason.HARD_SIGNAL


def test_a_minute_with_a_few_bad_answers_more_is_no_outage() -> None:
    """3 of 114 is more than five times 0.5 %, and happens once an hour."""
    evidence = seen(a_tally(6, 2), Tally(requests=9), ticks=11)
    evidence = observe(evidence, Tick(at=55.0, green=a_tally(6, 2), blue=Tally(requests=15, bad=3)), Colour.GREEN)
    assert at_once(evidence).reason is Reason.WORSE


UNKNOWN = seen(a_tally(0), a_tally(40, 1), ticks=120)


@pytest.mark.parametrize(
    ("policy", "decision", "words"),
    [
        (OnInconclusive.HOLD, Decision.HOLD, "a person decides"),
        (OnInconclusive.PROMOTE, Decision.ADVANCE, "goes on, as on_inconclusive says"),
        (OnInconclusive.ROLLBACK, Decision.ROLLBACK, "goes back, as on_inconclusive says"),
    ],
)
def test_at_the_deadline_the_user_s_word_decides(policy: OnInconclusive, decision: Decision, words: str) -> None:
    verdict = at_once(UNKNOWN, ERRORS_ONLY.replace(on_inconclusive=policy))
    assert reached(verdict) == (decision, Reason.INCONCLUSIVE)
    assert verdict.sentence == (
        "inconclusive after 10 min at 5 %: 0 bad of 0; "
        f"needs about 39 more requests to prove less than 10 % bad; {words}"
    )


def test_evidence_against_it_goes_before_the_deadline() -> None:
    late = ERRORS_ONLY.replace(deadline=50.0, on_inconclusive=OnInconclusive.PROMOTE)
    assert at_once(TERRIBLE, late).reason is Reason.WORSE
    assert at_once(GOOD, late).reason is Reason.PROVEN


def test_no_policy_promotes_against_strong_evidence() -> None:
    """Every bad answer is one client's: perhaps the client, perhaps not. A person decides."""
    one_client = seen(a_tally(5, 4, clients=1), a_tally(95), ticks=20)
    settings = ERRORS_ONLY.replace(deadline=100.0, on_inconclusive=OnInconclusive.PROMOTE)
    verdict = at_once(one_client, settings)
    assert reached(verdict) == (Decision.HOLD, Reason.INCONCLUSIVE)
    assert "80 bad of 100 (80 %) look worse, but all from one client" in verdict.sentence
    assert verdict.sentence.endswith("a person decides")


# --- never measured is not passed ---------------------------------------------------------------------------------


def test_never_measured_is_not_passed() -> None:
    verdict = judged(begin(4, 0.0), ERRORS_ONLY, FIRST, 10.0)
    assert verdict.decision is Decision.WAIT
    assert judged(begin(4, 0.0), ERRORS_ONLY, FIRST, 1e6).decision is Decision.HOLD


def test_a_log_that_says_nothing_holds() -> None:
    assert at_once(GOOD, wait=3 * TICK).decision is Decision.ADVANCE
    verdict = at_once(GOOD, wait=3 * TICK + 1)
    assert reached(verdict) == (Decision.HOLD, Reason.SILENT_LOG)
    assert verdict.sentence == "held at 5 %: the log has said nothing for 16 s"


@pytest.mark.parametrize(
    ("policy", "decision"),
    [
        (OnInconclusive.HOLD, Decision.HOLD),
        (OnInconclusive.PROMOTE, Decision.HOLD),
        (OnInconclusive.ROLLBACK, Decision.ROLLBACK),
    ],
)
def test_a_silent_log_never_promotes_whatever_the_policy(policy: OnInconclusive, decision: Decision) -> None:
    verdict = at_once(GOOD, ERRORS_ONLY.replace(on_inconclusive=policy), wait=600.0)
    assert reached(verdict) == (decision, Reason.INCONCLUSIVE)
    assert "the log has said nothing for 10 min" in verdict.sentence


def test_latency_that_was_never_measured_is_not_passed() -> None:
    untimed = seen(Tally(requests=100), Tally(requests=1900, bad=10))
    assert at_once(untimed).decision is Decision.ADVANCE
    verdict = at_once(untimed, Criteria())
    assert verdict.decision is Decision.WAIT
    assert "0 slow of 0" in verdict.sentence


# --- doubts: evidence that is not worth a rollback ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("evidence", "doubt"),
    [
        (seen(a_tally(1, 1), a_tally(2000), ticks=2), Doubt.FEW),
        (seen(a_tally(30, 15, clients=1), a_tally(570)), Doubt.ONE_CLIENT),
        (seen(a_tally(100_000, 1450), a_tally(100_000, 1000)), Doubt.NOT_MUCH_WORSE),
        (seen(a_tally(100_000, 60), a_tally(1_900_000, 19)), Doubt.SMALL),
    ],
)
def test_a_doubt_prevents_a_rollback_however_strong_the_evidence_is(evidence: Evidence, doubt: Doubt) -> None:
    known = evidence if doubt is Doubt.ONE_CLIENT else evidence.replace(clients=("one", "another"))
    verdict = at_once(known)
    assert verdict.findings[0].strong
    assert verdict.findings[0].doubts == (doubt,)
    assert verdict.decision is not Decision.ROLLBACK


def test_a_defect_of_one_step_is_not_hidden_by_many_good_ones() -> None:
    """The rollout as a whole is not 1.5 times as bad; the step is ten times."""
    evidence = next_step(seen(a_tally(1000, 5), a_tally(19_000, 95), ticks=100), 500.0)
    for number in range(100, 106):
        tick = Tick(at=number * TICK, green=a_tally(500, 25), blue=a_tally(500, 2))
        evidence = observe(evidence, tick, Colour.GREEN)
    verdict = at_once(evidence, step=Step(share=5000, next_share=9800))
    assert reached(verdict) == (Decision.ROLLBACK, Reason.WORSE)
    assert "150 bad of 3,000 (5 %) against 12 of 3,000 (0.4 %)" in verdict.sentence


@pytest.mark.parametrize(
    ("sensitivity", "needed"), [(Sensitivity.HIGH, 20), (Sensitivity.NORMAL, 100), (Sensitivity.LOW, 1000)]
)
def test_sensitivity_is_the_chance_of_a_false_alarm(sensitivity: Sensitivity, needed: float) -> None:
    settings = ERRORS_ONLY.replace(sensitivity=sensitivity)
    assert at_once(GOOD, settings).findings[0].needed == pytest.approx(needed)


def test_two_metrics_share_the_chance_of_a_false_alarm() -> None:
    errors, latency = at_once(GOOD, Criteria()).findings
    assert 1 / errors.needed + 1 / latency.needed == pytest.approx(0.01)
    assert errors.needed == pytest.approx(1 / 0.007)


# --- latency ------------------------------------------------------------------------------------------------------


def test_a_slow_candidate_goes_back() -> None:
    verdict = at_once(seen(a_tally(50, slow=15), a_tally(950, 5, slow=40)), Criteria())
    assert reached(verdict) == (Decision.ROLLBACK, Reason.WORSE)
    assert verdict.decisive is not None
    assert verdict.decisive.metric is Metric.LATENCY
    assert verdict.sentence == (
        "rolled back at 5 %: 270 slow of 900 (30 %) against 720 of 17,100 (4.2 %), evidence over 1,000,000 of 333 "
        "needed, slow is over 205 ms, worst GET /pay"
    )


def test_both_metrics_must_pass() -> None:
    assert at_once(seen(a_tally(50), a_tally(950, 5, slow=40)), Criteria()).decision is Decision.ADVANCE
    few = seen(a_tally(50, slow=6), a_tally(950, 5, slow=80), ticks=3)
    slower = at_once(few, Criteria(bake=1.0))
    assert slower.decision is Decision.WAIT
    assert "slow" in slower.sentence


# --- margins and the user's limit ---------------------------------------------------------------------------------


def test_margins_follow_the_traffic_that_comes_next() -> None:
    plan = [(500, 2500), (2500, 5000), (5000, 9800), (9800, None)]
    steps = [Step(share=share, next_share=after) for share, after in plan]
    assert [round(margin(Criteria(), step, 0.005), 3) for step in steps] == [0.1, 0.05, 0.026, 0.02]
    assert [round(slow_margin(step), 3) for step in steps] == [0.15, 0.15, 0.15, 0.15]
    assert margin(Criteria(), Step(share=1, next_share=10), 0.0) == 0.2
    assert margin(Criteria(), LAST, 0.03) == pytest.approx(0.09)  # or a good candidate would never pass
    assert margin(Criteria(), LAST, 0.9) == 0.5
    assert margin(Criteria(margin=0.05), FIRST, 0.03) == 0.05


def test_no_margin_is_above_the_user_s_limit() -> None:
    assert margin(Criteria(max_error_rate=0.01), FIRST, 0.0) == 0.01
    assert margin(Criteria(max_error_rate=0.01, margin=0.1), LAST, 0.02) == 0.01
    assert margin(Criteria(max_error_rate=0.30), FIRST, 0.0) == 0.1


def test_a_candidate_surely_above_the_limit_goes_back_though_the_live_release_is_as_bad() -> None:
    limited = ERRORS_ONLY.replace(max_error_rate=0.01)
    usual = KNOWN.replace(errors=Count(requests=20_000, bad=600))
    evidence = seen(a_tally(100, 3), a_tally(1900, 57), baseline=usual)
    assert at_once(evidence, ERRORS_ONLY).decision is Decision.ADVANCE
    verdict = at_once(evidence, limited)
    assert reached(verdict) == (Decision.ROLLBACK, Reason.OVER_LIMIT)
    assert verdict.sentence == (
        "rolled back at 5 %: 60 bad of 2,000 (3 %), surely more than 1.9 %, the limit is 1 %, 3 clients, "
        "worst GET /pay, requests 3f2a0, 3f2a1"
    )


def test_a_candidate_perhaps_above_the_limit_waits() -> None:
    limited = ERRORS_ONLY.replace(max_error_rate=0.01)
    verdict = at_once(seen(a_tally(10, 1), a_tally(190, 1), ticks=2), limited)
    assert verdict.decision is Decision.WAIT
    assert verdict.findings[0].margin == 0.01


# --- the bake after the cutover -----------------------------------------------------------------------------------

ALL = Bake(share=10_000, window=60.0)
HOLDBACK = Bake(share=9500, window=60.0)


def baked(evidence: Evidence, step: Bake, settings: Criteria = ERRORS_ONLY, wait: float = 0.0) -> Verdict:
    return judged(evidence, settings, step, (evidence.last or 0.0) + TICK + wait)


def test_a_quiet_bake_passes_when_its_window_is_over() -> None:
    assert reached(baked(seen(a_tally(1000, 5), Tally(), 8, steps=1), ALL)) == (Decision.WAIT, Reason.UNPROVEN)
    verdict = baked(seen(a_tally(1000, 5), Tally(), 12, steps=1), ALL)
    assert reached(verdict) == (Decision.ADVANCE, Reason.LASTED)
    assert verdict.sentence == "passed at 100 %: 60 s with 60 bad of 12,000 (0.5 %)"


def test_without_control_a_release_is_held_against_what_was_usual() -> None:
    verdict = baked(seen(a_tally(100, 3), Tally(), 12, steps=1), ALL)
    assert reached(verdict) == (Decision.ROLLBACK, Reason.WORSE_THAN_BEFORE)
    assert "36 bad of 1,200 (3 %) against 100 of 20,000 (0.5 %) before the rollout" in verdict.sentence


def test_without_control_and_without_a_past_nothing_is_held_against_it() -> None:
    verdict = baked(seen(a_tally(100, 30), Tally(), 12, baseline=None, steps=1), ALL)
    assert verdict.reason is Reason.LASTED


def test_a_holdback_is_a_control_and_each_test_has_half_of_the_chance() -> None:
    evidence = seen(a_tally(950, 50), a_tally(50), 12, baseline=None, steps=1)
    verdict = baked(evidence, HOLDBACK)
    assert verdict.findings[0].needed == pytest.approx(100)
    both = seen(a_tally(950, 50), a_tally(50), 12, steps=1)
    assert baked(both, HOLDBACK).findings[0].needed == pytest.approx(200)
    assert baked(both, ALL).findings[0].needed == pytest.approx(100)
    assert baked(both, HOLDBACK).decision is Decision.ROLLBACK


def test_a_holdback_that_suffers_too_holds() -> None:
    verdict = baked(seen(a_tally(950, 100), a_tally(50, 6), 12, steps=1), HOLDBACK)
    assert reached(verdict) == (Decision.HOLD, Reason.SYSTEM_SICK)


def test_the_clock_waits_for_nobody_to_ask_but_says_that_nobody_did() -> None:
    verdict = judged(begin(1, 0.0, KNOWN), ERRORS_ONLY, ALL, 60.0)
    assert reached(verdict) == (Decision.ADVANCE, Reason.LASTED)
    assert verdict.sentence == "passed at 100 %: in 60 s nobody asked it for anything"


def test_nobody_is_said_to_have_asked_nothing_before_the_log_could_tell() -> None:
    verdict = judged(begin(1, 0.0, KNOWN), ERRORS_ONLY, ALL.replace(window=3.0), 3.0)
    assert reached(verdict) == (Decision.ADVANCE, Reason.LASTED)
    assert verdict.sentence == "passed at 100 %: 3 s, before the log could tell who asked it"


@pytest.mark.parametrize(("policy", "decision"), [("hold", Decision.HOLD), ("rollback", Decision.ROLLBACK)])
def test_what_is_not_ready_when_the_clock_ends_has_the_deadline_to_become_so(policy: str, decision: Decision) -> None:
    settings, blind = ERRORS_ONLY.replace(on_inconclusive=OnInconclusive(policy)), ALL.replace(unready="no answer")
    good = seen(a_tally(1000, 5), Tally(), 200, steps=1)
    assert judged(good, settings, blind, 659.0).decision is Decision.WAIT
    assert reached(judged(good, settings, blind, 660.0)) == (decision, Reason.INCONCLUSIVE)


def test_what_suffered_and_is_silent_since_suffers_no_more() -> None:
    both_bad = seen(a_tally(100, 50), a_tally(900, 450), 12)
    last = both_bad.last or 0.0
    assert judged(both_bad, ERRORS_ONLY, FIRST, last + 10.0).reason is Reason.SYSTEM_SICK
    assert judged(both_bad, ERRORS_ONLY, FIRST, last + 3600.0).reason is Reason.INCONCLUSIVE


def test_a_wait_for_a_person_ends_by_no_clock() -> None:
    settings = ERRORS_ONLY.replace(on_inconclusive=OnInconclusive.ROLLBACK)
    told = Step(share=500, next_share=2500, until=Until.PERSON)
    assert judged(GOOD, settings, told, 1e6).decision is Decision.WAIT
    assert judged(TERRIBLE, settings, told, 1e6).decision is Decision.ROLLBACK


# --- as data ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("evidence", [GOOD, TERRIBLE, UNKNOWN])
def test_a_verdict_is_json_and_back(evidence: Evidence) -> None:
    verdict = at_once(evidence, Criteria())
    said: Any = json.loads(json.dumps(encode(verdict), allow_nan=False))
    assert decode(Verdict, said) == verdict
    assert said["sentence"] == verdict.sentence
    assert decode(Criteria, json.loads(json.dumps(encode(Criteria(max_error_rate=0.01))))).max_error_rate == 0.01


def test_where_the_live_release_got_slower_too_a_candidate_need_not_be_faster() -> None:
    busier = seen(a_tally(100, slow=17), a_tally(1900, slow=320))
    verdict = at_once(busier, settings=Criteria())
    assert reached(verdict) == (Decision.ADVANCE, Reason.PROVEN)
    slower = seen(a_tally(100, slow=17), a_tally(1900, slow=60))
    assert at_once(slower, settings=Criteria()).decision is Decision.ROLLBACK
