"""What a rollout came to since the last entry of the journal: kept whole, so that a crash loses and doubles nothing."""

from __future__ import annotations

from proxyctl.domain.evidence import Evidence
from proxyctl.domain.model import RolloutId
from proxyctl.domain.record import Record
from proxyctl.domain.source import Measured
from proxyctl.domain.tally import Position
from proxyctl.domain.units import Seconds


class Progress(Record):
    rollout: RolloutId
    step: int  # its place in the plan
    spent: Seconds  # of the step's wait
    share: int  # the candidate's, hundredths of a percent, since the evidence of this step began
    bakes: bool = False  # it is evidence of the bake
    position: Position | None = None  # how far the log was read,
    evidence: Evidence | None = None  # and all that it said until there
    measured: tuple[Measured, ...] = ()  # by the sources beside it, in this step
    said: str = ""  # the last verdict
