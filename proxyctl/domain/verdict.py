"""What was decided about a candidate, and by which numbers. Pure data; explain.py puts it in words."""

from __future__ import annotations

from enum import StrEnum

from proxyctl.domain.evidence import Count, Sides
from proxyctl.domain.record import Record
from proxyctl.domain.units import Seconds


class Decision(StrEnum):
    ADVANCE = "advance"  # the next step, or after the last one: promotion
    WAIT = "wait"  # not known yet
    HOLD = "hold"  # stay: what is seen says nothing about the candidate, or a person must decide
    ROLLBACK = "rollback"


class Reason(StrEnum):
    HARD_SIGNAL = "hard-signal"  # a container exited or restarted, a probe or a source failed: no statistics needed
    SYSTEM_SICK = "system-sick"  # others are bad too
    WORSE = "worse"  # than the live release, in the same ticks
    WORSE_THAN_BEFORE = "worse-than-before"  # than the live release was, before the rollout
    OVER_LIMIT = "over-limit"  # above max_error_rate
    PROVEN = "proven"  # good enough for the next step
    LASTED = "lasted"  # its time passed, and nothing spoke against it
    INCONCLUSIVE = "inconclusive"  # the deadline passed; on_inconclusive decided
    SILENT_LOG = "silent-log"  # nothing comes from the log
    UNPROVEN = "unproven"  # more requests, or more time


class Metric(StrEnum):
    ERRORS = "errors"
    LATENCY = "latency"


class Doubt(StrEnum):
    """Why evidence that is strong enough does not convict. Doubts only ever prevent false alarms."""

    FEW = "fewer than 3 of them"
    ONE_CLIENT = "all from one client"
    NOT_MUCH_WORSE = "less than 1.5 times the live release's rate"
    SMALL = "too small a rate to matter"


class Finding(Record):
    """One metric at one look."""

    metric: Metric
    counts: Sides  # since the rollout began, or the step if that says more
    evidence: float  # that the candidate is worse: E, against which odds nobody should bet
    needed: float  # 1/α
    doubts: tuple[Doubt, ...]
    step: Count  # the candidate's since the step began
    above: float  # the step's true rate is above this, with 95 % confidence,
    below: float  # and below this
    margin: float | None = None  # what `below` must come under; None: nothing is to be proven
    limit: float | None = None  # max_error_rate
    passed: bool = False
    more: int | None = None  # requests until it passes if it is as good as the live release; None: not by waiting
    worst: str = ""  # the route with the most of them
    slower_than: Seconds | None = None  # with latency: what counts as slow on most routes

    @property
    def strong(self) -> bool:
        return self.evidence >= self.needed

    @property
    def convicts(self) -> bool:
        return self.strong and not self.doubts


class Verdict(Record):
    decision: Decision
    reason: Reason
    share: int  # of the candidate, hundredths of a percent
    elapsed: Seconds  # since the step or the bake began
    findings: tuple[Finding, ...] = ()
    decisive: Finding | None = None
    recent: Sides = Sides()  # errors of the last minute
    usual: float = 0.0  # the live release's rate of errors
    bake_left: Seconds = 0.0
    silence: Seconds = 0.0  # of the log; 0: it speaks
    clients: int = 0  # with a bad answer of the candidate; 10 is 10 or more
    samples: tuple[str, ...] = ()  # ids of its first bad requests
    gaps: int = 0  # of the log, since the rollout began
    logged: bool = True  # else only sources were asked
    detail: str = ""  # what is known beside the log, in words
    told: tuple[str, ...] = ()  # by sources that decided nothing: passed, or a dry run
    output: str = ""  # of the command that failed, the end of it
    sentence: str = ""  # all this for people: the same in terminal, JSON, journal and exit message

    @property
    def undecided(self) -> bool:
        """The deadline passed, and a person must decide."""
        return self.reason is Reason.INCONCLUSIVE and self.decision is Decision.HOLD
