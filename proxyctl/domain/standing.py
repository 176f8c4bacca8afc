"""What follows from the replicas that stand, while those of two releases change places. Pure.

A placement holds the replicas that serve, and those that do not: of the candidate those still to come, of the live
release those that made room. Route and split always say what stands.
"""

from __future__ import annotations

from proxyctl.domain import events as ev
from proxyctl.domain.model import Colour, Replica, Route
from proxyctl.domain.rolling import FailureAction
from proxyctl.domain.split import WHOLE, Split
from proxyctl.domain.state import Phase, Placement, ServiceState, candidate_of, must, rollout_of


def grown(state: ServiceState, colour: Colour, came: tuple[Replica, ...]) -> ServiceState:
    """These passed the gate as they run."""
    placed = must(state.at(colour))
    names = {replica.name for replica in came}
    lives = tuple(replica.incarnation for replica in came if replica.incarnation is not None)
    return state.placing(
        placed.replace(
            replicas=(*placed.replicas, *came),
            astray=tuple(replica for replica in placed.astray if replica.name not in names),
            away=tuple(replica for replica in placed.away if replica.name not in names),
            gated=(*placed.gated, *lives),
        )
    )


def shrunk(state: ServiceState, colour: Colour, to: int) -> ServiceState:
    """The last ones are gone, and whoever was astray."""
    placed = must(state.at(colour))
    placed = _left(placed, placed.replicas[to:])
    return state.placing(placed.replace(astray=(), away=placed.absent))


def left_by(state: ServiceState, colour: Colour, name: str) -> ServiceState:
    """This one serves no more; it may not even have come."""
    placed = must(state.at(colour))
    return state.placing(_left(placed, tuple(replica for replica in placed.replicas if replica.name == name)))


def adrift(state: ServiceState, colour: Colour, to: int) -> ServiceState:
    """They were to come, and nobody knows how far that went."""
    placed = must(state.at(colour))
    coming = max(len(placed.astray), to - len(placed.replicas))
    return state.placing(placed.replace(astray=placed.absent[:coming], away=placed.absent[coming:]))


def _left(placed: Placement, leaving: tuple[Replica, ...]) -> Placement:
    gone = {replica.incarnation for replica in leaving}
    return placed.replace(
        replicas=tuple(replica for replica in placed.replicas if replica not in leaving),
        astray=(*leaving, *placed.astray),
        gated=tuple(life for life in placed.gated if life not in gone),
    )


def words(state: ServiceState) -> str:
    """How many stand of each release."""
    old, new = must(state.live), candidate_of(state)
    return f"{len(old.replicas)} old and {len(new.replicas)} new stand"


def split(state: ServiceState) -> Split | None:
    """Every replica has its part; None: nobody stands."""
    candidate = candidate_of(state)
    new, old = len(candidate.replicas), len(state.live.replicas) if state.live else 0
    return Split(candidate.colour, round(WHOLE * new / (new + old))) if new + old else None


def route(state: ServiceState) -> Route | None:
    """A pool names nobody who is away: to ask an address where nobody stands costs a client a second. Of a colour that
    has nobody, and so no traffic, it says what it said."""
    if state.route is None:
        return None
    pools = {colour: _addresses(state.at(colour)) or state.route.slots(colour) for colour in Colour}
    return state.route.replace(blue=pools[Colour.BLUE], green=pools[Colour.GREEN])


def _addresses(placed: Placement | None) -> tuple[str, ...]:
    return tuple(replica.address for replica in placed.replicas) if placed else ()


def failed(state: ServiceState, replica: str, reason: str, detail: str) -> list[ev.Event]:
    """What it means that this replica failed: it comes again, or a person decides, or the release is taken back."""
    if state.phase is Phase.ABORTING:
        return [ev.SafetyLost(reason=reason)]
    rollout, candidate = rollout_of(state), candidate_of(state)
    rolling, failures = must(rollout.rolling), len(rollout.failed) + 1
    lost = ev.ReplicaFailed(name=replica, reason=reason, detail=detail)
    after = left_by(state, candidate.colour, replica)
    if rolling.endures(failures, candidate.whole):
        return [lost]
    if rolling.failure_action is FailureAction.PAUSE and split(after) is not None:
        ask = ev.Inconclusive(reason=f"{_counted(failures, candidate.whole)}: {reason}")
        return [lost, ask] if state.phase is Phase.SHIFTING else [lost]
    return [lost, ev.CandidateFailed(reason=reason, detail=detail)]


def _counted(failures: int, replicas: int) -> str:
    return f"{failures} failure{'s' if failures > 1 else ''} of {replicas} replica{'s' if replicas > 1 else ''}"
