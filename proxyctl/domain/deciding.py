"""Name what a service's rollout does next. Pure: no I/O, no clock, no chance. Start at decide().

Each phase has its function, which compares what is with what the phase wants and names one command. A command that is
done leaves a state for which the next is named; so nothing is remembered but the state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from proxyctl.domain import commands as do
from proxyctl.domain import standing
from proxyctl.domain.model import Colour, Role, Route
from proxyctl.domain.rolling import Rolling
from proxyctl.domain.rollout import GATED, reached
from proxyctl.domain.split import WHOLE, Split
from proxyctl.domain.state import (
    Kind,
    Outcome,
    Phase,
    Placement,
    ServiceState,
    candidate_of,
    must,
    rollout_of,
)
from proxyctl.domain.steps import Analysis, Bake, Grow, Hook, Lookout, Pause, Shrink, Step, Weight

ALL: Final = Weight(share=WHOLE)
HASTY: Final = (Kind.ROLLBACK, Kind.SWITCH)  # whoever takes traffic away from a release waits for no verdict on it


def decide(state: ServiceState) -> do.Command | None:
    """The next command, or None when the service is at rest."""
    return NEXT[state.phase](state)


def _starting(state: ServiceState) -> do.Command:
    rollout = rollout_of(state)
    if state.arriving is not None:
        return _make_room(state, must(state.at(state.arriving.colour)))
    told = not state.unsure_route and (state.route, state.settings) == (rollout.route, rollout.settings)
    if rollout.route is not None and not told:
        return do.Publish(route=rollout.route, settings=rollout.settings)
    candidate = candidate_of(state)
    if candidate.gated:  # it was warm: look before anything is done
        return do.Observe(colour=candidate.colour)
    return do.Start(colour=candidate.colour)


def _make_room(state: ServiceState, occupant: Placement) -> do.Command:
    """Nobody may be led to, nor covered by, a release that is about to stop."""
    alone = _flags(state, safe_split(state), cover=False)
    return do.Retire(release=occupant.release.id, colour=occupant.colour) if _stand(state, alone) else alone


def _gating(state: ServiceState) -> do.Command:
    candidate, live = candidate_of(state), state.live
    if state.cover and not _coverable(state):  # it was restarted: it covers nobody until it passed again
        return _flags(state, state.split, cover=False)
    if live is not None and live.in_doubt and rollout_of(state).kind not in HASTY:
        return do.Regate(colour=live.colour, within=_patience(live))
    if candidate.gated_as_it_runs:
        return do.Recheck(colour=candidate.colour)
    return do.Gate(colour=candidate.colour)


def _patience(placed: Placement) -> float:
    """As long as it may take to be called healthy or sick: a rollout waits for no slow start of what serves already."""
    check = placed.release.service.health
    return max(check.healthy, check.unhealthy) * (check.interval + check.timeout)


def _shifting(state: ServiceState) -> do.Command:
    step = rollout_of(state).step
    if step is None:
        return _end(state)
    if isinstance(step, Grow):
        return _grow(state, candidate_of(state), step.to) or do.Pass()
    if isinstance(step, Shrink):
        return _shrink(state, must(state.live), step.to) or do.Pass()
    if isinstance(step, Weight) and (step.dwell == 0 or not reached(state, step)):
        return _move_on(state, step)
    if state.preview != _previewed(state, state.split):  # a wait or a hook may be what the preview is for
        return _flags(state, state.split, cover=_coverable(state))
    return do.RunHook(name=step.name) if isinstance(step, Hook) else _wait(state, step)


def _end(state: ServiceState) -> do.Command:
    """Nobody is promoted at a part of traffic. What rolls has its part by who stands."""
    all_of_it = rollout_of(state).rolling is not None or reached(state, ALL)
    return do.EndPlan() if all_of_it else _move_on(state, ALL)


def _move_on(state: ServiceState, step: Weight) -> do.Command:
    cover = _coverable(state)
    if cover and not state.cover:  # up before the move: a request in flight keeps the pool that it chose
        return _flags(state, state.split, cover=True)
    return _flags(state, Split(rollout_of(state).colour, step.share), cover=cover)


def _grow(state: ServiceState, placed: Placement, to: int) -> do.Command | None:
    """They come, nginx is told of them, and they get their part."""
    if todo := _as_they_stand(state):
        return todo
    return do.Grow(colour=placed.colour, to=to) if len(placed.replicas) < to else None


def _shrink(state: ServiceState, placed: Placement, to: int) -> do.Command | None:
    """The other way round: nobody is stopped that nginx could still ask."""
    if len(placed.replicas) <= to:
        return None
    without = standing.shrunk(state, placed.colour, to)
    return _their_part(without) or _their_route(without) or do.Shrink(colour=placed.colour, to=to)


def _as_they_stand(state: ServiceState) -> do.Command | None:
    return _their_route(state) or _their_part(state)


def _their_route(state: ServiceState) -> do.Publish | None:
    route = standing.route(state)
    return None if _told(state, route) else do.Publish(route=route)


def _told(state: ServiceState, route: Route | None) -> bool:
    """Whether nginx is known to go by this route already."""
    return state.route == route and not state.unsure_route


def _their_part(state: ServiceState) -> do.Move | None:
    flags = _flags(state, standing.split(state), cover=_coverable(state))
    return None if _stand(state, flags) else flags


def _wait(state: ServiceState, step: Step) -> do.Command:
    """Every wait is a watch over the candidate."""
    rollout = rollout_of(state)
    if rollout.since is None:
        return do.Begin(step=step)
    match step:
        case Weight(dwell=None) | Analysis():
            return do.Analyse(colour=rollout.colour, since=rollout.since, spent=rollout.spent)
        case Weight(dwell=window) | Pause(window=window) | Bake(window=window) | Lookout(window=window):
            return do.Watch(colour=rollout.colour, since=rollout.since, spent=rollout.spent, window=window)
        case _:
            return do.Watch(colour=rollout.colour)


def _paused(state: ServiceState) -> do.Command:
    """By the plan, or by a person: then until he resumes."""
    rollout = rollout_of(state)
    if rollout.rolling and (todo := _as_they_stand(state)):
        return todo
    if rollout.paused or rollout.step is None:
        return do.Watch(colour=rollout.colour)
    return _wait(state, rollout.step)


def _held(state: ServiceState) -> do.Command:
    if rollout_of(state).rolling and (todo := _as_they_stand(state)):
        return todo
    return do.Watch(colour=rollout_of(state).colour)


def _baking(state: ServiceState) -> do.Command:
    step = rollout_of(state).step
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
    rollout = rollout_of(state)
    if rollout.rolling and state.live is not None and (todo := _back_again(state, rollout.rolling, state.live)):
        return todo
    doomed = state.candidate if rollout.fresh and state.candidate and state.arriving is None else None
    safe = _flags(state, safe_split(state), cover=state.cover and doomed is None and _coverable(state))
    if not _stand(state, safe):
        return safe
    if doomed is not None:
        return do.Retire(release=doomed.release.id, colour=doomed.colour)
    if not _told(state, rollout.before):
        return do.Publish(route=rollout.before)
    return do.Close(outcome=rollout.outcome or Outcome.FAILED, reason=rollout.why)


def _back_again(state: ServiceState, rolling: Rolling, live: Placement) -> do.Command | None:
    """The way of a rolling release in the other direction, until the live one is whole."""
    candidate = state.candidate
    if candidate is None or state.arriving is not None:
        return None
    if not live.absent:
        return _their_route(state)
    size, stand = rolling.batch(candidate.whole), len(candidate.replicas)
    room = rolling.most(live.whole, candidate.whole) - stand - len(live.replicas)
    if candidate.astray:
        return _as_they_stand(state) or do.Shrink(colour=candidate.colour, to=stand)
    if room <= 0:
        return _shrink(state, candidate, max(0, stand - size))
    if todo := _as_they_stand(state):
        return todo
    return do.Grow(colour=live.colour, to=min(live.whole, len(live.replicas) + min(room, max(size, 1))))


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
    return _make_room(state, must(state.standby))


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
