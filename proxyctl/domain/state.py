"""What is known of one service: the fold of its journal. Pure data."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from proxyctl.domain.commands import Command, Moment
from proxyctl.domain.model import (
    Colour,
    Incarnation,
    ProxySettings,
    Release,
    ReleaseId,
    Replica,
    Role,
    RolloutId,
    Route,
    Seconds,
    ServiceName,
)
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.plan import Plan
from proxyctl.domain.record import Record
from proxyctl.domain.rolling import Rolling
from proxyctl.domain.split import Split
from proxyctl.domain.steps import Step

__all__ = [
    "Kind",
    "Outcome",
    "Phase",
    "Placement",
    "Rollout",
    "ServiceState",
    "UnlawfulState",
    "candidate_of",
    "must",
    "rollout_of",
]

T = TypeVar("T")


class Phase(StrEnum):
    IDLE = "idle"  # no rollout; perhaps a warm standby
    STARTING = "starting"  # making room, publishing the route, starting replicas
    GATING = "gating"  # probing; no traffic
    SHIFTING = "shifting"  # moving traffic by the plan
    PAUSED = "paused"  # waiting to be told, watching
    BAKING = "baking"  # the candidate has all traffic and is watched
    PROMOTING = "promoting"  # roles change hands
    DRAINING = "draining"  # the standby window passed; the old release leaves
    ABORTING = "aborting"  # going to the safe side
    HELD = "held"  # a person decides
    DEGRADED = "degraded"  # safety itself failed


class Kind(StrEnum):
    """What was asked for; every one of them is a rollout and goes the same way."""

    DEPLOY = "deploy"
    STAGE = "stage"
    SWITCH = "switch"
    WEIGHT = "weight"
    ROLLBACK = "rollback"


class Placement(Record):
    """A release in a slot."""

    release: Release
    colour: Colour
    role: Role
    replicas: tuple[Replica, ...]
    astray: tuple[Replica, ...] = ()  # of a rolling release: they serve nobody, and may run all the same
    away: tuple[Replica, ...] = ()  # of a rolling release: still to come, or gone already
    gated: tuple[Incarnation, ...] = ()  # the lives that passed the gate; empty: none did
    keeps_running: bool = False  # its containers have the restart policy of their definition
    sick: str = ""  # why the live release did not pass its gate again after a restart; it serves on

    @property
    def absent(self) -> tuple[Replica, ...]:
        """In the order in which they come."""
        return (*self.astray, *self.away)

    @property
    def whole(self) -> int:
        return len(self.replicas) + len(self.absent)

    @property
    def incarnations(self) -> tuple[Incarnation, ...]:
        return tuple(r.incarnation for r in self.replicas if r.incarnation is not None)

    @property
    def gated_as_it_runs(self) -> bool:
        return bool(self.gated) and self.gated == self.incarnations

    @property
    def in_doubt(self) -> bool:
        """It passed a gate, was restarted, and nobody asked it again."""
        return bool(self.gated) and not self.gated_as_it_runs and not self.sick


class Rollout(Record):
    """One attempt to make a release live."""

    id: RolloutId
    kind: Kind
    release: ReleaseId
    colour: Colour  # the slot of the release: the lead of every split of this rollout
    replaces: ReleaseId | None  # the live release when it was opened
    plan: Plan
    fresh: bool  # this rollout starts the containers, so its abort removes them
    route: Route | None  # what nginx must know while it runs
    before: Route | None  # what nginx knew before it
    settings: ProxySettings  # that it brings; an abort takes none back, for they are of all services
    actor: str
    reason: str
    opened: float  # unix time
    cursor: int = 0  # the step that is being done
    since: Moment | None = None  # when its wait began, or went on
    spent: Seconds = 0.0  # of the wait, before `since`
    paused: bool = False  # by a person: no step goes on
    outcome: Outcome | None = None  # set when the end is known, before it is reached
    why: str = ""  # it ended, or is held
    rolling: Rolling | None = None  # old replicas leave as new ones come
    failed: tuple[str, ...] = ()  # replicas of the candidate, each time that one failed

    @property
    def step(self) -> Step | None:
        return self.plan[self.cursor] if self.cursor < len(self.plan) else None


class ServiceState(Record):
    service: ServiceName
    phase: Phase = Phase.IDLE
    split: Split | None = None  # None: nothing serves
    cover: bool = False
    preview: Colour | None = None  # the colour that matches and mirrors reach
    unsure: bool = False  # a move was begun and never observed: the flags may say the old or the new split
    route: Route | None = None  # as published
    unsure_route: bool = False  # a publish was begun and never observed: nginx may know this route or another
    settings: ProxySettings | None = None  # as published with it
    blue: Placement | None = None
    green: Placement | None = None
    arriving: Placement | None = None  # waits for its slot to be free
    rollout: Rollout | None = None
    intent: Command | None = None  # journaled and not yet observed
    standby_since: Moment | None = None
    trouble: str = ""  # why the service is degraded
    releases: tuple[Release, ...] = ()  # oldest first; `rollback --to` can start these again
    tried: Release | None = None  # started last, and not promoted: `retry` starts it again
    next_release: int = 1
    next_rollout: int = 1

    def at(self, colour: Colour) -> Placement | None:
        return self.blue if colour is Colour.BLUE else self.green

    @property
    def replicas(self) -> list[Replica]:
        """Of both slots."""
        return [replica for placed in (self.blue, self.green) if placed for replica in placed.replicas]

    def placing(self, placement: Placement) -> ServiceState:
        return self.replace(**{placement.colour.value: placement})

    def without(self, colour: Colour) -> ServiceState:
        return self.replace(blue=None) if colour is Colour.BLUE else self.replace(green=None)

    def holding(self, role: Role) -> Placement | None:
        for placed in (self.blue, self.green):
            if placed is not None and placed.role is role:
                return placed
        return None

    @property
    def live(self) -> Placement | None:
        return self.holding(Role.LIVE)

    @property
    def candidate(self) -> Placement | None:
        return self.holding(Role.CANDIDATE)

    @property
    def standby(self) -> Placement | None:
        return self.holding(Role.STANDBY)


class UnlawfulState(Exception):
    """What no phase allows: a bug, never a state to live with."""


def rollout_of(state: ServiceState) -> Rollout:
    return must(state.rollout)


def candidate_of(state: ServiceState) -> Placement:
    return must(state.candidate)


def must(thing: T | None) -> T:
    """It is there, in every phase in which it is asked for."""
    if thing is None:
        raise UnlawfulState("the state lacks what this phase always has")
    return thing
