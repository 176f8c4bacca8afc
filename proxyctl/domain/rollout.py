"""Decide what a service's rollout does next. Pure: no I/O, no clock, no chance.

State is the fold of the journal: `advance(state, event)` applies one fact, lawful only if MOVES lists it for the
phase. `decide(state)` names the next command; None means that nothing is left to do. Every command is idempotent, so
after a crash anywhere the way on is the same: fold, decide, perform. There is no stack of undo closures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Final, TypeVar

from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain.model import Colour, Role
from proxyctl.domain.split import Split
from proxyctl.domain.state import Kind, Outcome, Phase, Placement, Rollout, ServiceState
from proxyctl.domain.steps import Analysis, Bake, Hook, Pause, Step, Weight

T = TypeVar("T")

RETAINED = 10  # releases that `rollback --to` can start again

HASTY: Final = (Kind.ROLLBACK, Kind.SWITCH)  # whoever takes traffic away from a release waits for no verdict on it
GATED: Final = (Phase.SHIFTING, Phase.PAUSED, Phase.HELD, Phase.BAKING)  # the plan is being gone by
ABORTABLE: Final = (Phase.STARTING, Phase.GATING, *GATED)

MOVES: Final[dict[Phase, dict[type[ev.Event], Phase]]] = {
    Phase.IDLE: {
        ev.RolloutOpened: Phase.STARTING,
        ev.StandbyEnded: Phase.DRAINING,
        ev.StandbyLost: Phase.IDLE,
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
        ev.Inconclusive: Phase.HELD,
        ev.BakePassed: Phase.PROMOTING,
        ev.StepFailed: Phase.ABORTING,
        ev.Interrupted: Phase.ABORTING,
    },
    Phase.PAUSED: {
        ev.StepPassed: Phase.SHIFTING,
        ev.ResumeRequested: Phase.SHIFTING,
    },
    Phase.HELD: {
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
for _phase in GATED:
    MOVES[_phase] |= {
        ev.CandidateFailed: Phase.ABORTING,
        ev.ClockLost: _phase,
        ev.PlanChanged: Phase.SHIFTING,
        ev.StepSkipped: Phase.SHIFTING,
        ev.PauseRequested: Phase.PAUSED,
    }


class UnlawfulEvent(Exception):
    """An event that MOVES does not list for the phase: a bug, never a state to live with."""


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
    return _apply(state, event).replace(phase=phase, intent=None)


def _apply(state: ServiceState, event: ev.Event) -> ServiceState:
    match event:
        case ev.RolloutOpened():
            return _opened(state, event.rollout, event.placement)
        case ev.RoutePublished():
            return state.replace(route=event.route, settings=event.settings)
        case ev.ReplicasMissing():
            return _placed(state, _candidate(state).replace(gated=()))
        case ev.ReplicasStarted():
            return _placed(state, _candidate(state).replace(replicas=event.replicas))
        case ev.GatePassed():
            return _placed(state, _candidate(state).replace(gated=event.incarnations))
        case ev.Restarted():
            return _placed(state, _at(state, event.colour).replace(replicas=event.replicas, sick=""))
        case ev.Regated():
            return _placed(state, _at(state, event.colour).replace(gated=event.incarnations))
        case ev.RegateFailed():
            return _placed(state, _unfit(_at(state, event.colour), event.reason))
        case ev.SplitMoved():
            return _moved(state, event)
        case ev.DwellStarted() | ev.StepHeld() | ev.ApprovalAsked() | ev.BakeStarted():
            return _rolled(state, since=event.since)
        case ev.ClockLost():
            return _rolled(state, since=event.since, spent=event.spent)
        case ev.StepPassed():
            return _next_step(state)
        case ev.StepSkipped() | ev.Approved():
            return _next_step(state) if event.step == _rollout(state).cursor else state
        case ev.PauseRequested():
            return _paused_at(state, event.at)
        case ev.ResumeRequested():
            return _resumed(state)
        case ev.PlanChanged():
            return _rolled(state, plan=event.plan, cursor=0, since=None, spent=0.0, paused=False, why="")
        case ev.GateFailed():
            return _failed(state, Outcome.FAILED, event.reason)
        case ev.StepFailed():
            return _failed(_as_if_done(state) if event.in_doubt else state, Outcome.FAILED, event.reason)
        case ev.Interrupted():
            return _failed(_as_if_done(state), Outcome.FAILED, event.reason)
        case ev.CandidateFailed():
            return _failed(state, _way_back(state), event.reason)
        case ev.AbortRequested():
            return _rolled(_as_if_done(state), outcome=event.outcome, why=event.reason)
        case ev.PolicyAdopted():
            return _placed(state, _candidate(state).replace(keeps_running=True))
        case ev.Promoted():
            return _promoted(state, event)
        case ev.Retired():
            return _retired(state, event)
        case ev.StandbyLost():
            standby = _standing(state)
            return _placed(state, standby.replace(gated=()))
        case ev.RolloutEnded():
            return _ended(state)
        case ev.SafetyLost():
            return state.replace(trouble=event.reason)
        case ev.RecoveryStarted():
            return state.replace(trouble="")
        case ev.Inconclusive():
            return _rolled(state, why=event.reason)
        case ev.BakePassed() | ev.StandbyEnded() | ev.Intended():
            return state


def _opened(state: ServiceState, rollout: Rollout, placement: Placement | None) -> ServiceState:
    """A fresh release gets its placement once its slot is free; a warm one changes only its role."""
    state = state.replace(rollout=rollout, next_rollout=state.next_rollout + 1)
    if placement is None:
        return _placed(state, _must(state.at(rollout.colour)).replace(role=Role.CANDIDATE))
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
    return _placed(state, state.arriving).replace(arriving=None)


def _moved(state: ServiceState, event: ev.SplitMoved) -> ServiceState:
    state = state.replace(split=event.split, cover=event.cover, preview=event.preview, unsure=False)
    if state.phase is not Phase.SHIFTING:
        return state
    step = _rollout(state).step
    done = isinstance(step, Weight) and step.dwell == 0 and _reached(state, step)
    return _next_step(state) if done else state


def _reached(state: ServiceState, step: Weight) -> bool:
    return not state.unsure and Split(_rollout(state).colour, step.share).same_traffic(state.split)


def _next_step(state: ServiceState) -> ServiceState:
    return _rolled(state, cursor=_rollout(state).cursor + 1, since=None, spent=0.0, paused=False, why="")


def _paused_at(state: ServiceState, now: do.Moment) -> ServiceState:
    """What had passed of the wait counts when it goes on."""
    rollout = _rollout(state)
    passed = rollout.since.elapsed(now) if rollout.since else 0.0
    return _rolled(state, since=None, spent=rollout.spent + passed, paused=True)


def _resumed(state: ServiceState) -> ServiceState:
    """A wait that a person stopped goes on; one that ended without a verdict begins anew."""
    spent = _rollout(state).spent if state.phase is Phase.PAUSED else 0.0
    return _rolled(state, since=None, spent=spent, paused=False, why="")


def _as_if_done(state: ServiceState) -> ServiceState:
    """An intent whose outcome is unknown counts as done, so that the way back undoes it."""
    match state.intent:
        case do.Move(split=split, cover=cover, preview=preview):
            return state.replace(split=split, cover=cover, preview=preview)
        case do.Publish(route=route, settings=settings):
            return state.replace(route=route, settings=settings)
        case do.Retire(colour=colour) if (placed := state.at(colour)) is not None:
            return _placed(state, placed.replace(gated=()))
        case _:
            return state


def _failed(state: ServiceState, outcome: Outcome, reason: str) -> ServiceState:
    """The candidate is not to be trusted any more: its gate is void, so that it covers nobody."""
    state = _rolled(state, outcome=outcome, why=reason)
    candidate = state.candidate
    return state if candidate is None else _placed(state, candidate.replace(gated=()))


def _unfit(placed: Placement, reason: str) -> Placement:
    """What serves has nobody to take its place; what only stands warm is no way back any more."""
    return placed.replace(sick=reason) if placed.role is Role.LIVE else placed.replace(gated=())


def _way_back(state: ServiceState) -> Outcome:
    candidate = _candidate(state)
    had_traffic = state.split is not None and state.split.serves(candidate.colour)
    return Outcome.ROLLED_BACK if had_traffic else Outcome.FAILED


def _promoted(state: ServiceState, event: ev.Promoted) -> ServiceState:
    """The release is retained from now on: one that never was live is nothing to go back to."""
    candidate, live = _candidate(state), state.live
    others = tuple(release for release in state.releases if release.id != candidate.release.id)
    state = state.replace(releases=(*others, candidate.release)[-RETAINED:], tried=None)
    if live is not None:
        gated = () if live.sick else live.gated
        state = _placed(state, live.replace(role=Role.STANDBY, gated=gated, sick=""))
    state = _placed(state, candidate.replace(role=Role.LIVE))
    state = _rolled(state, outcome=Outcome.PROMOTED)
    return state.replace(standby_since=event.since if live else None)


def _retired(state: ServiceState, event: ev.Retired) -> ServiceState:
    state = state.without(event.colour)
    if state.standby is None:
        state = state.replace(standby_since=None)
    return _settle(state)


def _ended(state: ServiceState) -> ServiceState:
    """A warm candidate that was not promoted goes back to being the standby."""
    candidate = state.candidate
    if candidate is not None:
        state = _placed(state, candidate.replace(role=Role.STANDBY))
    return state.replace(rollout=None, arriving=None)


# --- what next --------------------------------------------------------------------------------------------------


def decide(state: ServiceState) -> do.Command | None:
    """The next command, or None when the service is at rest."""
    return NEXT[state.phase](state)


def _starting(state: ServiceState) -> do.Command:
    rollout = _rollout(state)
    if state.arriving is not None:
        return _make_room(state, _must(state.at(state.arriving.colour)))
    if rollout.route is not None and (state.route, state.settings) != (rollout.route, rollout.settings):
        return do.Publish(route=rollout.route, settings=rollout.settings)
    candidate = _candidate(state)
    if candidate.gated:  # it was warm: look before anything is done
        return do.Observe(colour=candidate.colour)
    return do.Start(colour=candidate.colour)


def _make_room(state: ServiceState, occupant: Placement) -> do.Command:
    """Nobody may be covered by a release that is about to stop."""
    alone = _flags(state, state.split, cover=False)
    return do.Retire(release=occupant.release.id, colour=occupant.colour) if _stand(state, alone) else alone


def _gating(state: ServiceState) -> do.Command:
    candidate, live = _candidate(state), state.live
    if state.cover and not _coverable(state):  # it was restarted: it covers nobody until it passed again
        return _flags(state, state.split, cover=False)
    if live is not None and live.in_doubt and _rollout(state).kind not in HASTY:
        return do.Regate(colour=live.colour, within=_patience(live))
    if candidate.gated_as_it_runs:
        return do.Recheck(colour=candidate.colour)
    return do.Gate(colour=candidate.colour)


def _patience(placed: Placement) -> float:
    """As long as it may take to be called healthy or sick: a rollout waits for no slow start of what serves already."""
    check = placed.release.service.health
    return max(check.healthy, check.unhealthy) * (check.interval + check.timeout)


def _shifting(state: ServiceState) -> do.Command:
    step = _rollout(state).step
    if step is None:
        return do.EndPlan()
    if isinstance(step, Weight) and (step.dwell == 0 or not _reached(state, step)):
        return _move_on(state, step)
    if state.preview != _previewed(state, state.split):  # a wait or a hook may be what the preview is for
        return _flags(state, state.split, cover=_coverable(state))
    return do.RunHook(name=step.name) if isinstance(step, Hook) else _wait(state, step)


def _move_on(state: ServiceState, step: Weight) -> do.Command:
    cover = _coverable(state)
    if cover and not state.cover:  # up before the move: a request in flight keeps the pool that it chose
        return _flags(state, state.split, cover=True)
    return _flags(state, Split(_rollout(state).colour, step.share), cover=cover)


def _wait(state: ServiceState, step: Step) -> do.Command:
    """Every wait is a watch over the candidate."""
    rollout = _rollout(state)
    if rollout.since is None:
        return do.Begin(step=step)
    match step:
        case Weight(dwell=None) | Analysis():
            return do.Analyse(colour=rollout.colour, since=rollout.since, spent=rollout.spent)
        case Weight(dwell=window) | Pause(window=window) | Bake(window=window):
            return do.Watch(colour=rollout.colour, since=rollout.since, spent=rollout.spent, window=window)
        case _:
            return do.Watch(colour=rollout.colour)


def _paused(state: ServiceState) -> do.Command:
    """By the plan, or by a person: then until he resumes."""
    rollout = _rollout(state)
    if rollout.paused or rollout.step is None:
        return do.Watch(colour=rollout.colour)
    return _wait(state, rollout.step)


def _held(state: ServiceState) -> do.Command:
    return do.Watch(colour=_rollout(state).colour)


def _baking(state: ServiceState) -> do.Command:
    step = _rollout(state).step
    return do.EndPlan() if step is None else _wait(state, step)


def _promoting(state: ServiceState) -> do.Command:
    candidate = state.candidate
    if candidate is None:
        return do.Close(outcome=Outcome.PROMOTED, reason="")
    if not candidate.keeps_running:
        return do.AdoptPolicy(colour=candidate.colour)
    live = state.live
    if state.cover and live is not None and not live.gated_as_it_runs:  # as a standby it covers nobody
        return _flags(state, state.split, cover=False)
    return do.Promote()


def _aborting(state: ServiceState) -> do.Command:
    """Traffic first, then the candidate, then the route: each only if it is not where it was."""
    rollout = _rollout(state)
    doomed = state.candidate if rollout.fresh and state.candidate and state.arriving is None else None
    safe = _flags(state, safe_split(state), cover=state.cover and doomed is None and _coverable(state))
    if not _stand(state, safe):
        return safe
    if doomed is not None:
        return do.Retire(release=doomed.release.id, colour=doomed.colour)
    if state.route != rollout.before:
        return do.Publish(route=rollout.before, settings=rollout.settings)
    return do.Close(outcome=rollout.outcome or Outcome.FAILED, reason=rollout.why)


def _idle(state: ServiceState) -> do.Command | None:
    rest = _flags(state, state.split, cover=_coverable(state))
    if not _stand(state, rest):
        return rest
    for placed in (state.live, state.standby):
        if placed is not None and placed.in_doubt:
            return do.Vet(colour=placed.colour, within=placed.release.service.health.deadline)
    standby = state.standby
    if standby is None:
        return None
    service = standby.release.service
    # One that is not as it passed the gate is no way back; an unrouted one would do its work twice.
    window = service.standby if service.routed and standby.gated else 0.0
    return do.Stand(colour=standby.colour, since=state.standby_since, window=window)


def _draining(state: ServiceState) -> do.Command:
    return _make_room(state, _standing(state))


def _degraded(state: ServiceState) -> None:
    """A person is needed; `recover` starts the way back."""


NEXT: Final[dict[Phase, Callable[[ServiceState], do.Command | None]]] = {
    Phase.IDLE: _idle,
    Phase.STARTING: _starting,
    Phase.GATING: _gating,
    Phase.SHIFTING: _shifting,
    Phase.PAUSED: _paused,
    Phase.HELD: _held,
    Phase.BAKING: _baking,
    Phase.PROMOTING: _promoting,
    Phase.ABORTING: _aborting,
    Phase.DRAINING: _draining,
    Phase.DEGRADED: _degraded,
}


def safe_split(state: ServiceState) -> Split | None:
    """Where traffic is safe: the live release. Before the first promotion that is nobody."""
    live = state.live
    return None if live is None else Split.all_to(live.colour)


def _flags(state: ServiceState, split: Split | None, cover: bool) -> do.Move:
    """This split and cover, and the preview that goes with them."""
    return do.Move(split=split, cover=cover, preview=_previewed(state, split))


def _stand(state: ServiceState, flags: do.Move) -> bool:
    """Whether the workers are known to go by them already."""
    there = same_traffic(state.split, flags.split)
    return there and not state.unsure and (state.cover, state.preview) == (flags.cover, flags.preview)


def _previewed(state: ServiceState, split: Split | None) -> Colour | None:
    """Rules lead to a candidate that passed its gate, as long as the live release has traffic too."""
    candidate = state.candidate
    if split is None or candidate is None or state.phase not in GATED or not candidate.gated_as_it_runs:
        return None
    asked = state.route is not None and state.route.previews
    return candidate.colour if asked and split.sole is not candidate.colour else None


def _coverable(state: ServiceState) -> bool:
    """Each colour may back the other only while both passed a gate as they run now. The live release serves anyway:
    a restart takes no cover from it, nor the cover that it is."""
    return all(
        placed is not None and (placed.gated_as_it_runs or (placed.role is Role.LIVE and bool(placed.gated)))
        for placed in (state.blue, state.green)
    )


def same_traffic(a: Split | None, b: Split | None) -> bool:
    """None is nobody serves."""
    return b is None if a is None else a.same_traffic(b)


# --- small words ------------------------------------------------------------------------------------------------


def _rolled(state: ServiceState, **changes: object) -> ServiceState:
    return state.replace(rollout=_rollout(state).replace(**changes))


def _placed(state: ServiceState, placement: Placement) -> ServiceState:
    return state.replace(blue=placement) if placement.colour is Colour.BLUE else state.replace(green=placement)


def _rollout(state: ServiceState) -> Rollout:
    return _must(state.rollout)


def _candidate(state: ServiceState) -> Placement:
    return _must(state.candidate)


def _standing(state: ServiceState) -> Placement:
    return _must(state.standby)


def _at(state: ServiceState, colour: Colour) -> Placement:
    return _must(state.at(colour))


def _must(thing: T | None) -> T:
    if thing is None:
        raise UnlawfulEvent("the state lacks what this phase always has")
    return thing


def _number(release: str) -> int:
    return int(release.rpartition("-")[2])
