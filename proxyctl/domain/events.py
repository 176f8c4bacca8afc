"""Facts. Durable ones are the journal: written before anybody hears of them, never edited. Pure data."""

from __future__ import annotations

from proxyctl.domain.commands import Command, Moment
from proxyctl.domain.model import Colour, Incarnation, ProxySettings, ReleaseId, Replica, Route, Seconds
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.plan import Plan
from proxyctl.domain.record import Record
from proxyctl.domain.split import Split
from proxyctl.domain.state import Placement, Rollout


class Intended(Record):
    """This is about to be done. What came of it is another entry."""

    command: Command


class RolloutOpened(Record):
    rollout: Rollout
    placement: Placement | None  # None: the release stands warm in its slot


class RoutePublished(Record):
    """A worker of this generation answered, and no older one takes requests."""

    generation: int
    route: Route | None
    settings: ProxySettings


class ReplicasStarted(Record):
    """Every replica runs, in these incarnations; or did when they were last seen, where the engine does not say."""

    replicas: tuple[Replica, ...]
    unseen: str = ""  # why


class Grown(Record):
    """These replicas run besides, and passed the gate."""

    colour: Colour
    replicas: tuple[Replica, ...]


class Shrunk(Record):
    """So many are left; nothing of the others is."""

    colour: Colour
    to: int
    cut: int  # as of Retired
    pre_stop: str = ""


class ReplicaFailed(Record):
    """One of the candidate did not pass the gate, or got sick after it. It serves nobody any more."""

    name: str
    reason: str
    detail: str = ""


class ReplicasMissing(Record):
    """A warm release is not what passed the gate any more: it is started and gated anew."""

    reason: str


class GatePassed(Record):
    incarnations: tuple[Incarnation, ...]


class GateFailed(Record):
    reason: str
    detail: str = ""  # exit code, last log lines


class Restarted(Record):
    """The engine started these replicas anew; no gate saw them as they run now."""

    colour: Colour
    replicas: tuple[Replica, ...]


class Regated(Record):
    colour: Colour
    incarnations: tuple[Incarnation, ...]


class RegateFailed(Record):
    """The live release serves on all the same; a standby is no way back any more."""

    colour: Colour
    reason: str
    detail: str = ""


class StepFailed(Record):
    """Starting, publishing or moving did not come true."""

    reason: str
    detail: str = ""
    in_doubt: bool = False  # it may have happened all the same: the way back undoes it


class SplitMoved(Record):
    """The workers answered as these flags say."""

    split: Split | None
    cover: bool
    preview: Colour | None = None


class DwellStarted(Record):
    """The candidate has its share, and stays there."""

    since: Moment


class StepHeld(Record):
    """The plan says pause."""

    since: Moment | None = None


class ApprovalAsked(Record):
    since: Moment


class BakeStarted(Record):
    since: Moment


class ClockLost(Record):
    """The machine was started again: what had passed of the wait counts, the time it was off does not. A standby's
    window counts from the beginning."""

    since: Moment
    spent: Seconds


class StepPassed(Record):
    """The wait is over, or the hook succeeded."""

    reason: str = ""


class Inconclusive(Record):
    """The analysis has no verdict at its deadline: a person decides."""

    reason: str


class BakePassed(Record):
    """Every step of the plan is done."""


class PlanChanged(Record):
    """A person told a rollout how to go on."""

    plan: Plan
    actor: str
    reason: str


class StepSkipped(Record):
    """A person ended the wait of this step."""

    step: int  # its place in the plan: said twice, it skips once
    actor: str
    reason: str


class Approved(Record):
    step: int
    actor: str
    reason: str


class PauseRequested(Record):
    at: Moment
    actor: str
    reason: str


class ResumeRequested(Record):
    actor: str
    reason: str


class CandidateFailed(Record):
    """It died, restarted or failed its probes while it was watched."""

    reason: str
    detail: str = ""
    replica: str = ""  # which one did; empty: the release as a whole


class AbortRequested(Record):
    actor: str
    reason: str
    outcome: Outcome  # aborted, rolled-back or superseded


class Interrupted(Record):
    """Whoever drove the rollout died before traffic moved."""

    reason: str


class PolicyAdopted(Record): ...


class Promoted(Record):
    since: Moment


class Retired(Record):
    release: ReleaseId
    colour: Colour
    cut: int  # connections with traffic in the last seconds when the drain deadline passed; -1: could not be seen
    pre_stop: str = ""  # why its hooks failed


class StandbyEnded(Record):
    reason: str


class StandbyLost(Record):
    """The standby is not in the incarnation that passed the gate."""

    reason: str


class RolloutEnded(Record):
    outcome: Outcome
    reason: str


class SafetyLost(Record):
    """Traffic could not be put, or not be seen, on the safe side."""

    reason: str


class RecoveryStarted(Record): ...


class Froze(Record):
    """No rollout of the project starts, nor is led on by hand, until it is thawed."""

    actor: str
    reason: str


class Thawed(Record):
    actor: str
    reason: str


Event = (
    Intended
    | RolloutOpened
    | RoutePublished
    | ReplicasStarted
    | Grown
    | Shrunk
    | ReplicaFailed
    | ReplicasMissing
    | GatePassed
    | GateFailed
    | Restarted
    | Regated
    | RegateFailed
    | StepFailed
    | SplitMoved
    | DwellStarted
    | StepHeld
    | ApprovalAsked
    | BakeStarted
    | ClockLost
    | StepPassed
    | Inconclusive
    | BakePassed
    | PlanChanged
    | StepSkipped
    | Approved
    | PauseRequested
    | ResumeRequested
    | CandidateFailed
    | AbortRequested
    | Interrupted
    | PolicyAdopted
    | Promoted
    | Retired
    | StandbyEnded
    | StandbyLost
    | RolloutEnded
    | SafetyLost
    | RecoveryStarted
)

ProjectEvent = Froze | Thawed  # of no service: no state follows from it
