"""By what a candidate is judged, as the file says it. Pure data; analysis.py judges."""

from __future__ import annotations

from enum import StrEnum

from proxyctl.domain.record import Record
from proxyctl.domain.source import Source
from proxyctl.domain.units import Seconds


class Sensitivity(StrEnum):
    """The chance to roll back a rollout that is as good as the live release, over all its steps."""

    HIGH = "high"  # 5 %
    NORMAL = "normal"  # 1 %
    LOW = "low"  # 0.1 %

    @property
    def alpha(self) -> float:
        return {Sensitivity.HIGH: 0.05, Sensitivity.NORMAL: 0.01, Sensitivity.LOW: 0.001}[self]


class OnInconclusive(StrEnum):
    HOLD = "hold"  # a person decides
    PROMOTE = "promote"  # go on
    ROLLBACK = "rollback"


class Criteria(Record):
    """How a service wants its candidates judged."""

    max_error_rate: float | None = None  # the candidate's, whatever the live release's is
    sensitivity: Sensitivity = Sensitivity.NORMAL
    deadline: Seconds = 600.0  # of a step
    on_inconclusive: OnInconclusive = OnInconclusive.HOLD
    bake: Seconds = 60.0  # of a step, at least
    floor: float = 0.001  # a rate of bad answers that matters to nobody
    latency: bool = True
    margin: float | None = None  # to be proven at every step; None: by how much traffic comes next
    holdback: int = 0  # what the live release keeps during the bake, hundredths of a percent
    sources: tuple[Source, ...] = ()  # beside the log
