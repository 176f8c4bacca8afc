"""The hands that move traffic between warm releases. Light: a warm rollback needs these and nothing heavier."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain import standing
from proxyctl.domain.commands import Moment
from proxyctl.domain.model import Colour, HealthKind, Incarnation, Replica
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.state import Placement, ServiceState, candidate_of, rollout_of
from proxyctl.domain.steps import Approval, Bake, Pause
from proxyctl.engine.runner import Facts, Hands
from proxyctl.errors import DockerUnavailable, OutcomeUnknown
from proxyctl.ports import Clock, Endpoint, Flags, Inspector, Life, Prober, ProbeResult, ReplicaState, Splits, Subject


class TrafficHands:
    """Observe, recheck, move; and the notes that need no more than a clock."""

    def __init__(self, *, inspector: Inspector, prober: Prober, splits: Splits, clock: Clock) -> None:
        self._inspector = inspector
        self._prober = prober
        self._splits = splits
        self._clock = clock

    def hands(self) -> Hands:
        return {
            do.Observe: self._observe,
            do.Recheck: self._recheck,
            do.Move: self._move,
            do.Begin: self._begin,
            do.Pass: self._pass,
            do.EndPlan: self._end_plan,
            do.Promote: self._promote,
            do.Close: self._close,
        }

    async def _observe(self, state: ServiceState, command: do.Observe) -> Facts:
        """A hung engine does not stop a rollback: then the probes alone decide, of the incarnation last seen."""
        placed = placement(state, command.colour)
        try:
            states, restarted = await asyncio.gather(
                self._inspector.inspect([replica.name for replica in placed.replicas]),
                restarts(self._inspector, state.live),
            )
        except DockerUnavailable as error:
            return [ev.ReplicasStarted(replicas=placed.replicas, unseen=str(error))]
        if elsewhere := list(filter(None, map(misplaced, placed.replicas, states))):
            return [ev.Interrupted(reason=", ".join(elsewhere))]
        gone = [f"{s.name} is {s.life}" for s in states if s.life is not Life.RUNNING]
        if gone:
            return [ev.ReplicasMissing(reason=", ".join(gone))]
        return [ev.ReplicasStarted(replicas=as_observed(placed, states)), *restarted]

    async def _recheck(self, state: ServiceState, command: do.Recheck) -> Facts:
        placed = placement(state, command.colour)
        results = await asyncio.gather(*(self._passes(placed, replica) for replica in placed.replicas))
        sick = [
            f"{replica.name}: {result.reason}"
            for replica, result in zip(placed.replicas, results, strict=True)
            if not result.passed
        ]
        if sick:
            return [ev.GateFailed(reason=f"{placed.release.id} stands warm but is not healthy: {', '.join(sick)}")]
        return [ev.GatePassed(incarnations=placed.incarnations)]

    async def _passes(self, placed: Placement, replica: Replica) -> ProbeResult:
        """One pass is enough; it has as many tries as a watched replica has."""
        check = placed.release.service.health
        if check.kind is HealthKind.NONE:
            return ProbeResult(passed=True, reason="runs", elapsed=0.0)
        for _ in range(check.unhealthy - 1):
            result = await self._prober.probe(endpoint(placed, replica), check)
            if result.passed:
                return result
            await self._clock.sleep(min(check.interval, 0.1))
        return await self._prober.probe(endpoint(placed, replica), check)

    async def _move(self, state: ServiceState, command: do.Move) -> Facts:
        if state.route is not None:
            await self._splits.move(state.service, flags_of(command))
        return [ev.SplitMoved(split=command.split, cover=command.cover, preview=command.preview)]

    async def _begin(self, _state: ServiceState, command: do.Begin) -> Facts:
        now = moment(self._clock)
        match command.step:
            case Pause():
                return [ev.StepHeld(since=now)]
            case Approval():
                return [ev.ApprovalAsked(since=now)]
            case Bake():
                return [ev.BakeStarted(since=now)]
            case _:
                return [ev.DwellStarted(since=now)]

    async def _pass(self, state: ServiceState, _command: do.Pass) -> Facts:
        return [ev.StepPassed(reason=standing.words(state))]

    async def _end_plan(self, _state: ServiceState, _command: do.EndPlan) -> Facts:
        return [ev.BakePassed()]

    async def _promote(self, _state: ServiceState, _command: do.Promote) -> Facts:
        promoted = ev.Promoted(since=moment(self._clock))
        return [promoted, ev.RolloutEnded(outcome=Outcome.PROMOTED, reason="")]

    async def _close(self, _state: ServiceState, command: do.Close) -> Facts:
        return [ev.RolloutEnded(outcome=command.outcome, reason=command.reason)]


def flags_of(said: do.Move | ServiceState) -> Flags | None:
    """What the flag files are to say; None: nobody serves."""
    return None if said.split is None else Flags(split=said.split, cover=said.cover, preview=said.preview)


def placement(state: ServiceState, colour: Colour) -> Placement:
    placed = state.at(colour)
    if placed is None:
        raise LookupError(f"{state.service} has nothing in {colour}")
    return placed


def subject_of(project: str, state: ServiceState) -> Subject:
    """The candidate, for whoever is asked about it."""
    rollout, placed = rollout_of(state), candidate_of(state)
    return Subject(
        project=project,
        service=state.service,
        release=rollout.release,
        colour=rollout.colour,
        share=state.split.share(rollout.colour) if state.split else 0,
        replica=placed.replicas[0].name if placed.replicas else "",
    )


def endpoint(placed: Placement, replica: Replica) -> Endpoint:
    """Straight at the replica, by its slot address."""
    service = placed.release.service
    port = service.health.port or service.port
    return Endpoint(
        replica=replica.name,
        address=f"{replica.ip}:{port}" if port else replica.ip,
        host=service.hosts[0] if service.hosts else "",
        tls=service.upstream_tls,
    )


def as_observed(placed: Placement, states: Sequence[ReplicaState]) -> tuple[Replica, ...]:
    return tuple(
        replica.replace(incarnation=seen.incarnation) for replica, seen in zip(placed.replicas, states, strict=True)
    )


async def restarts(inspector: Inspector, *placements: Placement | None) -> list[ev.Restarted]:
    """What the engine started anew since it was observed, and what did not pass when it was asked again; nothing
    while the engine does not say."""
    gated = [placed for placed in placements if placed is not None and placed.gated]
    with suppress(DockerUnavailable, OutcomeUnknown):
        seen = [await inspector.inspect([replica.name for replica in placed.replicas]) for placed in gated]
        return [fact for placed, states in zip(gated, seen, strict=True) for fact in restarted(placed, states)]
    return []


def restarted(placed: Placement, states: Sequence[ReplicaState]) -> list[ev.Restarted]:
    replicas = tuple(
        replica.replace(incarnation=seen.incarnation or replica.incarnation)
        for replica, seen in zip(placed.replicas, states, strict=True)
    )
    if replicas == placed.replicas and not placed.sick:
        return []
    return [ev.Restarted(colour=placed.colour, replicas=replicas)]


def misplaced(replica: Replica, seen: ReplicaState) -> str:
    """How a container that runs is not where nginx looks for it: Docker keeps an address, a hand does not."""
    if seen.life is not Life.RUNNING or seen.address == replica.ip:
        return ""
    return f"{seen.name} is at {seen.address or 'no address'} instead of {replica.ip}, where another may answer for it"


async def astray(inspector: Inspector, state: ServiceState) -> list[str]:
    """Which replicas of a service are not where nginx looks for them. Raises DockerUnavailable."""
    seen = await inspector.inspect([replica.name for replica in state.replicas])
    return [replica.name for replica, each in zip(state.replicas, seen, strict=True) if misplaced(replica, each)]


def why_not_running(seen: ReplicaState) -> str:
    """How a container ended, in the engine's terms."""
    if seen.life is Life.ABSENT:
        return f"{seen.name} is gone"
    if seen.oom_killed:
        return f"{seen.name} was killed for want of memory (OOM, exit code {seen.exit_code})"
    if seen.life is Life.EXITED:
        return f"{seen.name} exited with code {seen.exit_code}"
    return f"{seen.name} is {seen.life}"


def changed(replica: Replica, seen: ReplicaState) -> str:
    """Why this container is not the one that was observed; empty when it is."""
    if seen.life is not Life.RUNNING:
        return why_not_running(seen)
    if why := misplaced(replica, seen):
        return why
    known: Incarnation | None = replica.incarnation
    if known is not None and seen.incarnation != known:
        return f"{seen.name} restarted"
    return ""


def moment(clock: Clock) -> Moment:
    return Moment(boot=clock.boot, at=clock.now())
