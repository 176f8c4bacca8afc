"""What a service's rollout has come to. Pure: no I/O, no clock, no chance. Start at advance().

State is the fold of the journal: `advance(state, event)` applies one fact, lawful only if MOVES lists it for the
phase. deciding.py names the next command from it. Every command is idempotent, so after a crash anywhere the way on
is the same: fold, decide, perform. There is no stack of undo closures.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Final

from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain import standing
from proxyctl.domain.model import Role
from proxyctl.domain.split import Split
from proxyctl.domain.state import (
    Outcome,
    Phase,
    Placement,
    Rollout,
    ServiceState,
    UnlawfulState,
    candidate_of,
    must,
    rollout_of,
)
from proxyctl.domain.steps import Grow, Weight

RETAINED = 10  # releases that `rollback --to` can start again

GATED: Final = (Phase.SHIFTING, Phase.PAUSED, Phase.HELD, Phase.BAKING)  # the plan is being gone by
ROLLING: Final = (Phase.SHIFTING, Phase.PAUSED, Phase.HELD)  # replicas come, and may fail
ABORTABLE: Final = (Phase.STARTING, Phase.GATING, *GATED)

MOVES: Final[dict[Phase, dict[type[ev.Event], Phase]]] = {
    Phase.IDLE: {
        ev.RolloutOpened: Phase.STARTING,
        ev.StandbyEnded: Phase.DRAINING,
        ev.StandbyLost: Phase.IDLE,
        ev.ClockLost: Phase.IDLE,
        ev.Restarted: Phase.IDLE,
        ev.Regated: Phase.IDLE,
        ev.RegateFailed: Phase.IDLE,
        ev.SplitMoved: Phase.IDLE,
    },
    Phase.STARTING: {
        ev.SplitMoved: Phase.STARTING,
        ev.Retired: Phase.STARTING,
        ev.RoutePublished: Phase.STARTING,
        ev.ReplicasMissing: Phase.STARTING,
        ev.ReplicasStarted: Phase.GATING,
        ev.StepFailed: Phase.ABORTING,
        ev.Interrupted: Phase.ABORTING,
    },
    Phase.GATING: {
        ev.Restarted: Phase.GATING,
        ev.Regated: Phase.GATING,
        ev.RegateFailed: Phase.GATING,
        ev.SplitMoved: Phase.GATING,
        ev.GatePassed: Phase.SHIFTING,
        ev.GateFailed: Phase.ABORTING,
        ev.StepFailed: Phase.ABORTING,
        ev.Interrupted: Phase.ABORTING,
    },
    Phase.SHIFTING: {
        ev.SplitMoved: Phase.SHIFTING,
        ev.DwellStarted: Phase.SHIFTING,
        ev.StepHeld: Phase.PAUSED,
        ev.ApprovalAsked: Phase.HELD,
        ev.BakeStarted: Phase.BAKING,
        ev.StepPassed: Phase.SHIFTING,
        ev.Grown: Phase.SHIFTING,
        ev.Shrunk: Phase.SHIFTING,
        ev.RoutePublished: Phase.SHIFTING,
        ev.Inconclusive: Phase.HELD,
        ev.BakePassed: Phase.PROMOTING,
        ev.StepFailed: Phase.ABORTING,
        ev.Interrupted: Phase.ABORTING,
    },
    Phase.PAUSED: {
        ev.RoutePublished: Phase.PAUSED,
        ev.SplitMoved: Phase.PAUSED,
        ev.StepPassed: Phase.SHIFTING,
        ev.Inconclusive: Phase.HELD,
        ev.ResumeRequested: Phase.SHIFTING,
    },
    Phase.HELD: {
        ev.RoutePublished: Phase.HELD,
        ev.SplitMoved: Phase.HELD,
        ev.Approved: Phase.SHIFTING,
        ev.ResumeRequested: Phase.SHIFTING,
    },
    Phase.BAKING: {
        ev.StepPassed: Phase.SHIFTING,
        ev.Inconclusive: Phase.HELD,
        ev.BakePassed: Phase.PROMOTING,
    },
    Phase.PROMOTING: {
        ev.SplitMoved: Phase.PROMOTING,
        ev.PolicyAdopted: Phase.PROMOTING,
        ev.Promoted: Phase.PROMOTING,
        ev.RolloutEnded: Phase.IDLE,
    },
    Phase.ABORTING: {
        ev.SplitMoved: Phase.ABORTING,
        ev.Retired: Phase.ABORTING,
        ev.Grown: Phase.ABORTING,
        ev.Shrunk: Phase.ABORTING,
        ev.RoutePublished: Phase.ABORTING,
        ev.SafetyLost: Phase.DEGRADED,
        ev.RolloutEnded: Phase.IDLE,
    },
    Phase.DRAINING: {
        ev.SplitMoved: Phase.DRAINING,
        ev.Retired: Phase.IDLE,
    },
    Phase.DEGRADED: {
        ev.RecoveryStarted: Phase.ABORTING,
    },
}
for _phase in ABORTABLE:
    MOVES[_phase][ev.AbortRequested] = Phase.ABORTING
for _phase in ROLLING:
    MOVES[_phase][ev.ReplicaFailed] = _phase
for _phase in GATED:
    MOVES[_phase] |= {
        ev.CandidateFailed: Phase.ABORTING,
        ev.ClockLost: _phase,
        ev.PlanChanged: Phase.SHIFTING,
        ev.StepSkipped: Phase.SHIFTING,
        ev.PauseRequested: Phase.PAUSED,
    }


class UnlawfulEvent(UnlawfulState):
    """An event that MOVES does not list for the phase."""


def fold(state: ServiceState, events: Iterable[ev.Event]) -> ServiceState:
    return reduce(advance, events, state)


def advance(state: ServiceState, event: ev.Event) -> ServiceState:
    """The state after this fact. Raises UnlawfulEvent."""
    if isinstance(event, ev.Intended):
        return state.replace(intent=event.command)
    try:
        phase = MOVES[state.phase][type(event)]
    except KeyError:
        raise UnlawfulEvent(f"{type(event).__name__} in phase {state.phase}") from None
    if isinstance(state.intent, do.Move):
        state = state.replace(unsure=True)
    if isinstance(state.intent, do.Publish) and not _refused(event):
        state = state.replace(unsure_route=True)
    if isinstance(state.intent, do.Grow) and not isinstance(event, ev.Grown):
        state = standing.adrift(state, state.intent.colour, state.intent.to)
    return _apply(state, event).replace(phase=phase, intent=None)


def _apply(state: ServiceState, event: ev.Event) -> ServiceState:
    match event:
        case ev.RolloutOpened():
            return _opened(state, event.rollout, event.placement)
        case ev.RoutePublished():
            return state.replace(route=event.route, settings=event.settings, unsure_route=False)
        case ev.ReplicasMissing():
            return state.placing(candidate_of(state).replace(gated=()))
        case ev.ReplicasStarted():
            return state.placing(candidate_of(state).replace(replicas=event.replicas))
        case ev.GatePassed():
            return state.placing(candidate_of(state).replace(gated=event.incarnations))
        case ev.Grown():
            return standing.grown(state, event.colour, event.replicas)
        case ev.Shrunk():
            return standing.shrunk(state, event.colour, event.to)
        case ev.ReplicaFailed():
            return _without_replica(state, event.name)
        case ev.Restarted():
            return state.placing(must(state.at(event.colour)).replace(replicas=event.replicas, sick=""))
        case ev.Regated():
            return state.placing(must(state.at(event.colour)).replace(gated=event.incarnations))
        case ev.RegateFailed():
            return state.placing(_unfit(must(state.at(event.colour)), event.reason))
        case ev.SplitMoved():
            return _moved(state, event)
        case ev.DwellStarted() | ev.StepHeld() | ev.ApprovalAsked() | ev.BakeStarted():
            return _rolled(state, since=event.since)
        case ev.ClockLost() if state.rollout is None:
            return state.replace(standby_since=event.since)
        case ev.ClockLost():
            return _rolled(state, since=event.since, spent=event.spent)
        case ev.StepPassed():
            return _next_step(state)
        case ev.StepSkipped() | ev.Approved():
            return _next_step(state) if event.step == rollout_of(state).cursor else state
        case ev.PauseRequested():
            return _paused_at(state, event.at)
        case ev.ResumeRequested():
            return _resumed(state)
        case ev.PlanChanged():
            return _rolled(state, plan=event.plan, cursor=0, since=None, spent=0.0, paused=False, why="")
        case ev.GateFailed():
            return _failed(state, Outcome.FAILED, event.reason)
        case ev.StepFailed(in_doubt=False):
            return _rolled(state, outcome=Outcome.FAILED, why=event.reason)
        case ev.StepFailed() | ev.Interrupted():  # the candidate is not to blame: one that stood warm goes on to
            return _rolled(_as_if_done(state), outcome=Outcome.FAILED, why=event.reason)
        case ev.CandidateFailed():
            return _failed(state, _way_back(state), event.reason)
        case ev.AbortRequested():
            return _rolled(_as_if_done(state), outcome=event.outcome, why=event.reason)
        case ev.PolicyAdopted():
            return state.placing(candidate_of(state).replace(keeps_running=True))
        case ev.Promoted():
            return _promoted(state, event)
        case ev.Retired():
            return _retired(state, event)
        case ev.StandbyLost():
            standby = must(state.standby)
            return state.placing(standby.replace(gated=()))
        case ev.RolloutEnded():
            return _ended(state)
        case ev.SafetyLost():
            return state.replace(trouble=event.reason)
        case ev.RecoveryStarted():
            return state.replace(trouble="")
        case ev.Inconclusive():  # the wait is over: if a person resumes, it begins anew
            return _rolled(state, why=event.reason, since=None, spent=0.0)
        case ev.BakePassed() | ev.StandbyEnded() | ev.Intended():
            return state


def _opened(state: ServiceState, rollout: Rollout, placement: Placement | None) -> ServiceState:
    """A fresh release gets its placement once its slot is free; a warm one changes only its role."""
    state = state.replace(rollout=rollout, next_rollout=state.next_rollout + 1)
    if placement is None:
        return state.placing(must(state.at(rollout.colour)).replace(role=Role.CANDIDATE))
    state = state.replace(
        arriving=placement,
        tried=placement.release,
        next_release=max(state.next_release, _number(placement.release.id) + 1),
    )
    return _settle(state)


def _settle(state: ServiceState) -> ServiceState:
    """Put the arriving release into its slot as soon as nobody stands there."""
    if state.arriving is None or state.at(state.arriving.colour) is not None:
        return state
    return state.placing(state.arriving).replace(arriving=None)


def _moved(state: ServiceState, event: ev.SplitMoved) -> ServiceState:
    state = state.replace(split=event.split, cover=event.cover, preview=event.preview, unsure=False)
    if state.phase is not Phase.SHIFTING:
        return state
    step = rollout_of(state).step
    done = isinstance(step, Weight) and step.dwell == 0 and reached(state, step)
    return _next_step(state) if done else state


def reached(state: ServiceState, step: Weight) -> bool:
    """Whether the workers are known to go by its share."""
    return not state.unsure and Split(rollout_of(state).colour, step.share).same_traffic(state.split)


def _next_step(state: ServiceState) -> ServiceState:
    return _rolled(state, cursor=rollout_of(state).cursor + 1, since=None, spent=0.0, paused=False, why="")


def _without_replica(state: ServiceState, name: str) -> ServiceState:
    """It is to come again, and to be watched again, before the plan goes on."""
    rollout = rollout_of(state)
    plan = rollout.plan[: rollout.cursor + 1]
    again = max((at for at, step in enumerate(plan) if isinstance(step, Grow)), default=rollout.cursor)
    state = standing.left_by(state, candidate_of(state).colour, name)
    return _rolled(state, cursor=again, since=None, spent=0.0, failed=(*rollout.failed, name))


def _paused_at(state: ServiceState, now: do.Moment) -> ServiceState:
    """What had passed of the wait counts when it goes on."""
    rollout = rollout_of(state)
    passed = rollout.since.elapsed(now) if rollout.since else 0.0
    return _rolled(state, since=None, spent=rollout.spent + passed, paused=True)


def _resumed(state: ServiceState) -> ServiceState:
    """A wait that a person stopped goes on."""
    return _rolled(state, since=None, paused=False, why="")


def _as_if_done(state: ServiceState) -> ServiceState:
    """An intent whose outcome is unknown counts as done, so that the way back undoes it."""
    match state.intent:
        case do.Move(split=split, cover=cover, preview=preview):
            return state.replace(split=split, cover=cover, preview=preview)
        case do.Shrink(colour=colour, to=to):
            return standing.shrunk(state, colour, to)
        case do.Retire(colour=colour) if (placed := state.at(colour)) is not None:
            return state.placing(placed.replace(gated=()))
        case _:
            return state


def _refused(event: ev.Event) -> bool:
    """What was intended did not happen, and that is known."""
    return isinstance(event, ev.StepFailed) and not event.in_doubt


def _failed(state: ServiceState, outcome: Outcome, reason: str) -> ServiceState:
    """The candidate is not to be trusted any more: its gate is void, so that it covers nobody. Of a rolling one, those
    that did not fail serve until their predecessors are back."""
    state = _rolled(state, outcome=outcome, why=reason)
    candidate = state.candidate
    return state if candidate is None or rollout_of(state).rolling else state.placing(candidate.replace(gated=()))


def _unfit(placed: Placement, reason: str) -> Placement:
    """What serves has nobody to take its place; what only stands warm is no way back any more."""
    return placed.replace(sick=reason) if placed.role is Role.LIVE else placed.replace(gated=())


def _way_back(state: ServiceState) -> Outcome:
    candidate = candidate_of(state)
    had_traffic = state.split is not None and state.split.serves(candidate.colour)
    return Outcome.ROLLED_BACK if had_traffic else Outcome.FAILED


def _promoted(state: ServiceState, event: ev.Promoted) -> ServiceState:
    """The release is retained from now on: one that never was live is nothing to go back to."""
    candidate, live = candidate_of(state), state.live
    others = tuple(release for release in state.releases if release.id != candidate.release.id)
    state = state.replace(releases=(*others, candidate.release)[-RETAINED:], tried=None)
    if live is not None and live.absent:
        return _live(state.without(live.colour).replace(standby_since=None), candidate)
    if live is not None:
        gated = () if live.sick else live.gated
        state = state.placing(live.replace(role=Role.STANDBY, gated=gated, sick=""))
    return _live(state, candidate).replace(standby_since=event.since if live else None)


def _live(state: ServiceState, candidate: Placement) -> ServiceState:
    return _rolled(state.placing(candidate.replace(role=Role.LIVE)), outcome=Outcome.PROMOTED)


def _retired(state: ServiceState, event: ev.Retired) -> ServiceState:
    state = state.without(event.colour)
    if state.standby is None:
        state = state.replace(standby_since=None)
    return _settle(state)


def _ended(state: ServiceState) -> ServiceState:
    """A warm candidate that was not promoted goes back to being the standby."""
    candidate = state.candidate
    if candidate is not None:
        state = state.placing(candidate.replace(role=Role.STANDBY))
    return state.replace(rollout=None, arriving=None)


# --- small words ------------------------------------------------------------------------------------------------


def _rolled(state: ServiceState, **changes: object) -> ServiceState:
    return state.replace(rollout=rollout_of(state).replace(**changes))


def _number(release: str) -> int:
    return int(release.rpartition("-")[2])
