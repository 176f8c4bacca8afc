"""A verdict in one sentence with its numbers: the same in terminal, JSON, journal and exit message. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from proxyctl.domain.evidence import CLIENTS, Count
from proxyctl.domain.tally import TICK
from proxyctl.domain.units import Seconds
from proxyctl.domain.verdict import Decision, Finding, Metric, Reason, Verdict

TOLD_AFTER: Final[Seconds] = 3 * TICK  # the one that begins, a whole one, and until both are written and read


def sentence(verdict: Verdict) -> str:
    where = f"{_done(verdict)} at {verdict.share / 100:g} %"
    return f"{where}: {'; '.join(part for part in (*_parts(verdict), *verdict.told, _lost(verdict)) if part)}"


def _done(verdict: Verdict) -> str:
    if verdict.reason is Reason.INCONCLUSIVE:
        return f"inconclusive after {duration(verdict.elapsed)}"
    return {
        Decision.ADVANCE: "passed",
        Decision.WAIT: "waiting",
        Decision.HOLD: "held",
        Decision.ROLLBACK: "rolled back",
    }[verdict.decision]


def _parts(verdict: Verdict) -> Iterator[str]:
    match verdict.reason:
        case Reason.HARD_SIGNAL:
            yield verdict.detail
        case Reason.SYSTEM_SICK:
            yield "the system, not the candidate"
            yield _shared(verdict)
        case Reason.WORSE | Reason.WORSE_THAN_BEFORE | Reason.OVER_LIMIT:
            yield ", ".join(part for part in _charge(verdict, _decisive(verdict)) if part)
        case Reason.PROVEN:
            yield from (_proof(finding) for finding in verdict.findings)
        case Reason.LASTED:
            yield _seen(verdict)
        case Reason.SILENT_LOG:
            yield verdict.detail
            yield f"the log has said nothing for {duration(verdict.silence)}"
        case Reason.INCONCLUSIVE:
            yield from _unknown(verdict)
            yield _policy(verdict)
        case Reason.UNPROVEN:
            yield from _unknown(verdict)


def _charge(verdict: Verdict, finding: Finding) -> Iterator[str]:
    if verdict.reason is Reason.OVER_LIMIT:
        yield f"{_counted(finding, finding.step)}, surely more than {percent(finding.above)}"
        yield f"the limit is {percent(finding.limit or 0.0)}"
    else:
        before = " before the rollout" if verdict.reason is Reason.WORSE_THAN_BEFORE else ""
        yield f"{_counted(finding, finding.counts.candidate)} against {_share(finding.counts.live)}{before}"
        yield f"evidence {whole(finding.evidence)} of {whole(finding.needed)} needed"
    if finding.metric is Metric.ERRORS:
        yield f"{verdict.clients}{' or more' if verdict.clients == CLIENTS else ''} clients"
    elif finding.slower_than is not None:
        yield f"slow is over {duration(finding.slower_than)}"
    yield f"worst {finding.worst}" if finding.worst else ""
    if finding.metric is Metric.ERRORS and verdict.samples:
        yield f"requests {', '.join(verdict.samples)}"


def _seen(verdict: Verdict) -> str:
    errors = verdict.findings[0]
    if not verdict.logged:
        return f"{duration(verdict.elapsed)} without a word against it"
    if not errors.step.requests and verdict.elapsed < TOLD_AFTER:
        return f"{duration(verdict.elapsed)}, before the log could tell who asked it"
    if not errors.step.requests:
        return f"in {duration(verdict.elapsed)} nobody asked it for anything"
    return f"{duration(verdict.elapsed)} with {_counted(errors, errors.step)}"


def _shared(verdict: Verdict) -> str:
    ours, theirs = _share(verdict.recent.candidate), _share(verdict.recent.live)
    return f"{ours} bad in the last minute, and {theirs} of the live release's, where {percent(verdict.usual)} is usual"


def _unknown(verdict: Verdict) -> Iterator[str]:
    """What is known, and what is missing."""
    yield verdict.detail
    if verdict.logged:
        yield from _logged(verdict)
    if verdict.bake_left:
        yield f"{duration(verdict.bake_left)} are left"


def _logged(verdict: Verdict) -> Iterator[str]:
    """Of that, what the log tells."""
    finding = _decisive(verdict)
    if verdict.silence:
        yield f"the log has said nothing for {duration(verdict.silence)}"
    for strong in verdict.findings:
        if strong.strong:
            yield f"{_counted(strong, strong.counts.candidate)} look worse, but {', '.join(strong.doubts)}"
    if finding.margin is None:
        yield f"{_counted(finding, finding.step)} so far"
    elif finding.passed:
        yield _proof(finding)
    else:
        yield f"{_counted(finding, finding.step)}{_proven_so_far(finding)}"
        yield _missing(finding)


def _missing(finding: Finding) -> str:
    goal = f"less than {percent(finding.margin or 0.0)} {_kind(finding)}"
    if finding.more is None:
        return f"{goal} will not be proven by waiting"
    return f"needs about {whole(_rounded(finding.more))} more requests to prove {goal}"


def _proof(finding: Finding) -> str:
    return f"less than {percent(finding.below)} {_kind(finding)}, proven by {_counted(finding, finding.step)}"


def _proven_so_far(finding: Finding) -> str:
    return f", proven less than {percent(finding.below)}" if finding.below < 1 else ""


def _policy(verdict: Verdict) -> str:
    return {
        Decision.ADVANCE: "goes on, as on_inconclusive says",
        Decision.ROLLBACK: "goes back, as on_inconclusive says",
    }.get(verdict.decision, "a person decides")


def _lost(verdict: Verdict) -> str:
    gaps = "a gap" if verdict.gaps == 1 else f"{verdict.gaps} gaps"
    return f"the log has {gaps}: lines were gone before they were read" if verdict.gaps else ""


def _decisive(verdict: Verdict) -> Finding:
    return verdict.decisive or verdict.findings[0]


# --- numbers ------------------------------------------------------------------------------------------------------


def _kind(finding: Finding) -> str:
    return "bad" if finding.metric is Metric.ERRORS else "slow"


def _counted(finding: Finding, count: Count) -> str:
    """6 bad of 93 (6.5 %)."""
    rate = f" ({percent(count.rate)})" if count.bad else ""
    return f"{whole(count.bad)} {_kind(finding)} of {whole(count.requests)}{rate}"


def _share(count: Count) -> str:
    """14 of 1,790 (0.78 %)."""
    rate = f" ({percent(count.rate)})" if count.bad else ""
    return f"{whole(count.bad)} of {whole(count.requests)}{rate}"


def percent(rate: float) -> str:
    """6.5 %, 12 %, 0.078 %."""
    return f"{figure(100 * rate)} %"


def duration(seconds: Seconds) -> str:
    """210 ms, 40 s, 11 min."""
    if seconds < 1:
        return f"{figure(1000 * seconds)} ms"
    return f"{seconds:.0f} s" if seconds < 120 else f"{figure(seconds / 60)} min"


def figure(number: float) -> str:
    """The two digits that count, and no fraction of what has them before the point."""
    return f"{number:,.0f}" if number >= 9.95 else f"{number:.2g}"


def whole(number: float) -> str:
    """1,790; what is beyond any limit is not written out."""
    return f"{number:,.0f}" if number < 1e6 else "over 1,000,000"


def _rounded(number: int) -> int:
    """Two digits: a forecast is no measurement."""
    digits = max(0, len(str(number)) - 2)
    return round(number, -digits)
