"""Judge a candidate by what the log says of it. Pure: no I/O, no clock. Start at judge().

At every tick the rules of the step are asked in their order, and the first that has something to say decides.
docs/analysis.md is this page in words.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import reduce
from math import exp, inf, log
from operator import add
from typing import Final

from proxyctl.domain import explain
from proxyctl.domain.criteria import Criteria, OnInconclusive
from proxyctl.domain.evidence import RECENT, SLOW, TIMED, Comparison, Count, Evidence, Sides, usual_rate
from proxyctl.domain.plan import Stage
from proxyctl.domain.record import Record
from proxyctl.domain.sequential import (
    log_proof,
    lower_bound,
    mixture,
    more_to_pass,
    passes,
    since_any_start,
    upper_bound,
)
from proxyctl.domain.split import WHOLE
from proxyctl.domain.tally import EDGES, TICK
from proxyctl.domain.units import Seconds
from proxyctl.domain.verdict import Decision, Doubt, Finding, Metric, Reason, Verdict

ERRORS_SHARE: Final = 0.7  # of α; latency has the rest
MATERIAL: Final = 1.5  # times the live release's rate: less is not worth a rollback
FEWEST: Final = 3  # bad answers, and of these clients:
FEWEST_CLIENTS: Final = 2
BLAST: Final = 0.025  # of all answers may be bad without our knowing, after a move
MARGINS: Final = (0.02, 0.20)  # the narrowest, which the last step has, and the widest
USUAL_TIMES: Final = 3.0  # the usual rate: no margin is under that, or a good candidate would never pass
WIDEST: Final = 0.5  # and none beyond this, however bad the live release is
OUTAGE_TIMES: Final = 5.0  # the usual rate, on both sides: it is the system, not the candidate
CHANCE: Final = 0.01  # that a minute which looks like an outage is none
SILENCE: Final[Seconds] = 3 * TICK


class Until(StrEnum):
    """What ends the wait of a candidate that nothing speaks against."""

    PROOF = "proof"  # it is good enough for the next step
    CLOCK = "clock"
    PERSON = "person"


class Step(Record):
    """Where a rollout stands, and what is known beside the log."""

    share: int  # of the candidate, hundredths of a percent
    next_share: int | None = None  # after this step; None: it is the last
    until: Until = Until.PROOF
    window: Seconds = 0.0  # until the clock ends it
    failure: str = ""  # a hard signal: what happened
    unready: str = ""  # why it may not go on, though that is no reason to go back
    told: tuple[str, ...] = ()  # what sources said that decide nothing now
    output: str = ""  # of the command whose exit code is the hard signal
    logged: bool = True  # else only sources tell of it: it has no traffic, or nginx writes no log
    elapsed: Seconds = 0.0  # of its wait: a pause, and the time that the machine was off, are none of it

    def bake(self, settings: Criteria) -> Seconds:
        """How long it lasts at least."""
        return settings.bake if self.until is Until.PROOF else self.window

    def margins(self, settings: Criteria, usual: float, usually_slow: float) -> tuple[float | None, float | None]:
        """Of errors and of slow answers: what is to be proven before the next step."""
        if self.until is not Until.PROOF:
            return None, None
        return margin(settings, self, usual), slow_margin(self, usually_slow)


class Bake(Step):
    """The candidate has all traffic but a holdback, which may be none. Its evidence was begun by evidence.bake()."""

    until: Until = Until.CLOCK


def end_of(stage: Stage) -> Step:
    """The last wait of a stay: where the analysis is waited for, the time before it is over."""
    if stage.bakes:
        return Bake(share=stage.share, window=stage.window)
    if stage.analysed:
        return Step(share=stage.share, next_share=stage.next_share)
    return Step(share=stage.share, next_share=stage.next_share, until=Until.CLOCK, window=stage.window)


class Case(Record):
    """All that a rule may ask for."""

    evidence: Evidence
    settings: Criteria
    step: Step
    now: float
    alpha: float  # of one test
    findings: tuple[Finding, ...]
    usual: float  # the live release's rate of bad answers
    recent: Sides  # errors of the last minute

    @property
    def bake_left(self) -> Seconds:
        return max(0.0, self.step.bake(self.settings) - self.step.elapsed)

    @property
    def past_deadline(self) -> bool:
        """It begins when the window is over."""
        return self.step.elapsed >= self.step.window + self.settings.deadline

    @property
    def silence(self) -> Seconds:
        """For how long the log has said nothing; 0 while that is no reason for concern."""
        if not self.step.logged:
            return 0.0
        heard = self.evidence.step_began if self.evidence.last is None else self.evidence.last + TICK
        return self.now - heard if self.now - heard > SILENCE else 0.0

    @property
    def may_advance(self) -> bool:
        """The clock does not wait for requests; a proof is none without them."""
        blind = self.step.until is Until.PROOF and self.silence
        return not (self.bake_left or blind or self.step.unready)

    def verdict(self, decision: Decision, reason: Reason, decisive: Finding | None = None, detail: str = "") -> Verdict:
        return Verdict(
            decision=decision,
            reason=reason,
            share=self.step.share,
            elapsed=self.step.elapsed,
            findings=self.findings,
            decisive=decisive,
            recent=self.recent,
            usual=self.usual,
            bake_left=self.bake_left,
            silence=self.silence,
            clients=len(self.evidence.clients),
            samples=self.evidence.samples,
            gaps=self.evidence.gaps,
            logged=self.step.logged,
            detail=detail,
            told=self.step.told,
            output=self.step.output,
        )


Rule = Callable[[Case], Verdict | None]


def judge(evidence: Evidence, settings: Criteria, step: Step, now: float) -> Verdict:
    """What to do with the candidate of this step, or of a Bake; `now` is unix time."""
    alpha = of_one_test(settings, step, evidence.baseline.ceiling)
    usual = usual_rate(evidence)
    case = Case(
        evidence=evidence,
        settings=settings,
        step=step,
        now=now,
        alpha=alpha,
        findings=_findings(evidence, settings, alpha, *step.margins(settings, usual, _usually_slow(evidence)), usual),
        usual=usual,
        recent=_last_minute(evidence, now),
    )
    verdict = next(verdict for rule in rules(step) if (verdict := rule(case)) is not None)
    return verdict.replace(sentence=explain.sentence(verdict))


# --- the rules, in the order in which they are asked --------------------------------------------------------------


def hard_signal(case: Case) -> Verdict | None:
    """A container that exited or restarted, a probe or a source that failed often enough: no statistics are needed."""
    if not case.step.failure:
        return None
    return case.verdict(Decision.ROLLBACK, Reason.HARD_SIGNAL, detail=case.step.failure)


def system_sick(case: Case) -> Verdict | None:
    """Both sides are far above what is usual: going back would help nobody."""
    usual = max(case.usual, case.settings.floor)
    if not _far_above(case.recent.live, usual) or case.recent.candidate.rate <= OUTAGE_TIMES * usual:
        return None
    return case.verdict(Decision.HOLD, Reason.SYSTEM_SICK)


def worse(case: Case) -> Verdict | None:
    """The FAIL test: the evidence is strong enough, and what it says is worth a rollback."""
    convicting = [finding for finding in case.findings if finding.convicts]
    return case.verdict(Decision.ROLLBACK, Reason.WORSE, convicting[0]) if convicting else None


def over_limit(case: Case) -> Verdict | None:
    """The user's own limit, proven to be exceeded in this step; each planned step has its part of α."""
    errors, limit = case.findings[0], case.settings.max_error_rate
    if limit is None or errors.step.rate <= limit or errors.step.bad < FEWEST or _one_client(case.evidence):
        return None
    if log_proof(errors.step.bad, errors.step.requests, limit) < log(errors.needed * case.evidence.steps):
        return None
    return case.verdict(Decision.ROLLBACK, Reason.OVER_LIMIT, errors)


def worse_than_before(case: Case) -> Verdict | None:
    """The candidate's errors against what was usual: after the cutover there is little control left, or none.

    Errors only: how fast answers are drifts too much in half an hour to be judged without a control.
    """
    finding = case.findings[0].replace(
        counts=Sides(candidate=case.evidence.errors.step.counts.candidate, live=case.evidence.baseline.errors),
        evidence=_e(mixture(case.evidence.alone, case.evidence.errors.dispersion.phi)),
        needed=1 / case.alpha,
    )
    finding = finding.replace(doubts=_doubts(finding.counts, case.settings, _one_client(case.evidence)))
    return case.verdict(Decision.ROLLBACK, Reason.WORSE_THAN_BEFORE, finding) if finding.convicts else None


def proven(case: Case) -> Verdict | None:
    """The PASS test, in every metric, and the bake of a step."""
    if not case.may_advance or not all(finding.passed for finding in case.findings):
        return None
    return case.verdict(Decision.ADVANCE, Reason.PROVEN)


def lasted(case: Case) -> Verdict | None:
    """The window passed and nothing spoke against it. Perhaps nobody asked for anything: the sentence says so."""
    return case.verdict(Decision.ADVANCE, Reason.LASTED) if case.may_advance else None


def overdue(case: Case) -> Verdict | None:
    """The deadline: the user said what to do when nothing is known. Never go on against evidence, or blind."""
    if not case.past_deadline:
        return None
    match case.settings.on_inconclusive:
        case OnInconclusive.ROLLBACK:
            decision = Decision.ROLLBACK
        case OnInconclusive.PROMOTE if case.may_advance and not any(finding.strong for finding in case.findings):
            decision = Decision.ADVANCE
        case _:
            decision = Decision.HOLD
    return case.verdict(decision, Reason.INCONCLUSIVE, _furthest(case), case.step.unready)


def unproven(case: Case) -> Verdict:
    """Wait; without a log there is no proof to wait for."""
    if case.silence and case.step.until is Until.PROOF:
        return case.verdict(Decision.HOLD, Reason.SILENT_LOG, detail=case.step.unready)
    return case.verdict(Decision.WAIT, Reason.UNPROVEN, _furthest(case), case.step.unready)


AGAINST: Final[tuple[Rule, ...]] = (hard_signal, system_sick, worse, over_limit)
AGAINST_BAKE: Final[tuple[Rule, ...]] = (hard_signal, system_sick, worse, worse_than_before, over_limit)
ENDS: Final[dict[Until, tuple[Rule, ...]]] = {
    Until.PROOF: (proven, overdue),
    Until.CLOCK: (lasted, overdue),
    Until.PERSON: (),
}


def rules(step: Step) -> tuple[Rule, ...]:
    """In the order in which they are asked; the last has always something to say."""
    return (*(AGAINST_BAKE if isinstance(step, Bake) else AGAINST), *ENDS[step.until], unproven)


# --- how sure it must be ------------------------------------------------------------------------------------------


def of_one_test(settings: Criteria, step: Step, ceiling: float | None) -> float:
    """α. After the cutover there are two, where there is a holdback to be compared with and a past as well."""
    both = isinstance(step, Bake) and step.share < WHOLE and ceiling is not None
    return settings.sensitivity.alpha / (2 if both else 1)


def of_errors(settings: Criteria, alpha: float) -> float:
    """Of a test's α; latency has the rest."""
    return alpha * ERRORS_SHARE if settings.latency else alpha


# --- what is found in one metric ----------------------------------------------------------------------------------


def margin(settings: Criteria, step: Step, usual: float) -> float:
    """What the rate of errors must be proven to be below, so that the next step risks little of all traffic."""
    own = settings.margin
    wanted = max(_blast_margin(step), min(USUAL_TIMES * usual, WIDEST)) if own is None else own
    return wanted if settings.max_error_rate is None else min(wanted, settings.max_error_rate)


def slow_margin(step: Step, usually_slow: float = SLOW) -> float:
    """The same for slow answers: of the live release's, one in twenty is slow, or more since the machine is busier."""
    return max(_blast_margin(step), min(USUAL_TIMES * usually_slow, WIDEST))


def _usually_slow(evidence: Evidence) -> float:
    """The live release's rate of slow answers in this step."""
    live = evidence.latency.step.counts.live
    return max(SLOW, live.rate if live.requests > TIMED else 0.0)


def _blast_margin(step: Step) -> float:
    narrowest, widest = MARGINS
    if step.next_share is None:
        return narrowest
    return min(max(BLAST * WHOLE / step.next_share, narrowest), widest)


def _findings(
    evidence: Evidence, settings: Criteria, alpha: float, bad: float | None, slow: float | None, usual: float
) -> tuple[Finding, ...]:
    for_errors = of_errors(settings, alpha)
    errors = _found(Metric.ERRORS, evidence, settings, for_errors)
    errors = _held_against(errors, bad, usual).replace(limit=settings.max_error_rate)
    if not settings.latency:
        return (errors,)
    latency = _found(Metric.LATENCY, evidence, settings, alpha - for_errors)
    slowest = evidence.baseline.threshold
    slower_than = None if slowest is None else EDGES[min(slowest, len(EDGES) - 1)]
    return errors, _held_against(latency, slow, SLOW).replace(slower_than=slower_than)


def _found(metric: Metric, evidence: Evidence, settings: Criteria, alpha: float) -> Finding:
    known = evidence.errors if metric is Metric.ERRORS else evidence.latency
    one_client = metric is Metric.ERRORS and _one_client(evidence)
    doubts, counts = min(
        ((_doubts(span.counts, settings, one_client), span.counts) for span in (known.whole, known.step)),
        key=lambda span: len(span[0]),
    )
    step = known.step.counts.candidate
    return Finding(
        metric=metric,
        counts=counts,
        evidence=_e(_log_evidence(known, evidence.steps)),
        needed=1 / alpha,
        doubts=doubts,
        step=step,
        above=lower_bound(step.bad, step.requests),
        below=upper_bound(step.bad, step.requests),
        worst=max(known.routes, key=lambda route: route.bad).route if known.routes else "",
    )


def _held_against(finding: Finding, wanted: float | None, usual: float) -> Finding:
    """The PASS test, where something is to be proven."""
    if wanted is None:
        return finding
    bad, requests = finding.step.bad, finding.step.requests
    passed = passes(bad, requests, wanted)
    more = 0 if passed else more_to_pass(bad, requests, wanted, usual)
    return finding.replace(margin=wanted, passed=passed, more=more)


def _log_evidence(known: Comparison, planned: int) -> float:
    phi = known.dispersion.phi
    steps = [mixture(step, phi) for step in (*known.closed, known.step.against)]
    return since_any_start(mixture(known.whole.against, phi), steps, planned)


def _doubts(counts: Sides, settings: Criteria, one_client: bool) -> tuple[Doubt, ...]:
    rate = counts.candidate.rate
    found = {
        Doubt.FEW: counts.candidate.bad < FEWEST,
        Doubt.ONE_CLIENT: one_client,
        Doubt.NOT_MUCH_WORSE: rate < MATERIAL * counts.live.rate,
        Doubt.SMALL: rate < settings.floor,
    }
    return tuple(doubt for doubt, so in found.items() if so)


# --- small words --------------------------------------------------------------------------------------------------


def _last_minute(evidence: Evidence, now: float) -> Sides:
    """Nothing, once that is over: what is silent does not suffer."""
    over = evidence.last is None or now - evidence.last > (RECENT + 1) * TICK
    return Sides() if over else reduce(add, evidence.recent, Sides())


def _one_client(evidence: Evidence) -> bool:
    return len(evidence.clients) < FEWEST_CLIENTS


def _far_above(count: Count, usual: float) -> bool:
    """No chance: a minute with three bad answers instead of one is no outage."""
    return count.rate > OUTAGE_TIMES * usual and log_proof(count.bad, count.requests, usual) >= log(1 / CHANCE)


def _furthest(case: Case) -> Finding:
    """The metric that needs the most requests."""
    return max(case.findings, key=lambda finding: inf if finding.more is None else finding.more)


def _e(log_evidence: float) -> float:
    return exp(min(log_evidence, 700.0))  # what is more is no float
