"""What a person may ask of a service, and what it means in its present state. Pure.

Every order becomes one event: it opens a rollout, or steers the one that runs. What the state does not allow is
refused with Conflict, in words.
"""

from __future__ import annotations

from proxyctl.domain import events as ev
from proxyctl.domain.commands import Moment
from proxyctl.domain.model import (
    Colour,
    ProxySettings,
    Release,
    ReleaseId,
    Replica,
    Role,
    RolloutId,
    Route,
    Service,
)
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.plan import Plan, at, at_once, blue_green, to_come, words
from proxyctl.domain.record import Record
from proxyctl.domain.rolling import Rolling, without_waits
from proxyctl.domain.rollout import ABORTABLE, GATED, reached
from proxyctl.domain.state import Kind, Phase, Placement, Rollout, ServiceState, candidate_of
from proxyctl.domain.steps import Analysis, Approval, Bake, Grow, Lookout, Pause, Weight
from proxyctl.errors import Conflict, Degraded, UsageError


class Signed(Record):
    """Who asks, why and when: it goes into the journal."""

    actor: str
    reason: str
    wall: float  # unix time, displayed only
    now: Moment = Moment(boot="", at=0.0)


def next_release_id(state: ServiceState) -> ReleaseId:
    return ReleaseId(f"{state.service}-{state.next_release}")


def free_colour(state: ServiceState) -> Colour:
    """The slot that a new release starts into: never the live one's."""
    return Colour.BLUE if state.live is None else state.live.colour.other


def open_fresh(
    state: ServiceState,
    kind: Kind,
    plan: Plan,
    release: Release,
    replicas: tuple[Replica, ...],
    route: Route | None,
    settings: ProxySettings,
    signed: Signed,
) -> ev.RolloutOpened:
    """Start this release and go by the plan."""
    refuse_while_running(state)
    _refuse_where_it_stands(state, release)
    colour = free_colour(state)
    rolling = rolling_of(release.service, state) if any(isinstance(step, Grow) for step in plan) else None
    placement = Placement(release=release, colour=colour, role=Role.CANDIDATE, replicas=replicas)
    if rolling is not None:
        placement = placement.replace(replicas=(), away=replicas)
    rollout = _rollout(state, kind, release.id, colour, plan, settings, signed)
    return ev.RolloutOpened(rollout=rollout.replace(fresh=True, route=route, rolling=rolling), placement=placement)


def _refuse_where_it_stands(state: ServiceState, release: Release) -> None:
    """Its containers would have the names of those that run, which would leave for them."""
    if release.id in {placed.release.id for placed in (state.blue, state.green) if placed is not None}:
        raise Conflict(
            f"{release.id} stands already, and is not started beside itself",
            serving=serving(state),
            next_step=f"proxyctl status {state.service}",
        )


def open_warm(state: ServiceState, kind: Kind, plan: Plan, standby: Placement, signed: Signed) -> ev.RolloutOpened:
    """Go by the plan with the release that stands warm."""
    refuse_while_running(state)
    settings = state.settings or ProxySettings()
    rollout = _rollout(state, kind, standby.release.id, standby.colour, plan, settings, signed)
    return ev.RolloutOpened(rollout=rollout, placement=None)


def rolling_of(service: Service, state: ServiceState) -> Rolling | None:
    """How a release of this definition takes the place of the live one. Where that may not run twice, neither may
    one of before it was said."""
    return service.rolling or (state.live.release.service.rolling if state.live else None)


def _rollout(
    state: ServiceState,
    kind: Kind,
    release: ReleaseId,
    colour: Colour,
    plan: Plan,
    settings: ProxySettings,
    signed: Signed,
) -> Rollout:
    return Rollout(
        id=RolloutId(f"{state.service}-r{state.next_rollout}"),
        kind=kind,
        release=release,
        colour=colour,
        replaces=state.live.release.id if state.live else None,
        plan=plan,
        fresh=False,
        route=state.route,
        before=state.route,
        settings=settings,
        actor=signed.actor,
        reason=signed.reason,
        opened=signed.wall,
    )


def refuse_while_running(state: ServiceState, instead: str = "") -> None:
    """`instead` is what else may be done here. Raises Conflict; Degraded, where nothing may but to recover."""
    if state.phase is Phase.DRAINING:
        raise Conflict(
            f"{state.service} is draining its standby",
            serving=serving(state),
            next_step=f"wait a moment; proxyctl status {state.service}",
        )
    if state.rollout is None:
        return
    if state.phase is Phase.DEGRADED:
        raise degraded(state)
    rollout = state.rollout
    wait = f"wait: proxyctl status {state.service} --watch"
    going_on = f"proxyctl abort {state.service}, or {wait}" if state.phase in ABORTABLE else wait
    raise Conflict(
        f"rollout {rollout.id} of {rollout.release} is {state.phase}, started by {rollout.actor}",
        serving=serving(state),
        next_step=(asked_of_you(state) or going_on) + (f"; or {instead}" if instead else ""),
    )


def degraded(state: ServiceState) -> Degraded:
    """The same words in every command."""
    return Degraded(
        f"{state.service} is degraded: {state.trouble}",
        serving="not known: nginx did not answer as told",
        next_step="proxyctl proxy start, then proxyctl recover",
    )


def refuse_overtaken(state: ServiceState, seen: ServiceState) -> None:
    """What was prepared for the state that was seen is out of date once another rollout was opened, also where that
    has ended: its number and its slot are taken, and nobody said that it shall replace what serves now. Raises
    Conflict."""
    refuse_while_running(state)
    if state.next_rollout != seen.next_rollout:
        raise Conflict(
            f"rollout {state.service}-r{state.next_rollout - 1} came in between, while this one was prepared",
            serving=serving(state),
            next_step=f"proxyctl history {state.service}; repeat it, if it shall replace what serves now",
        )


# --- steering a rollout that runs -------------------------------------------------------------------------------


def abort(state: ServiceState, outcome: Outcome, signed: Signed) -> ev.AbortRequested:
    """Stop the rollout and go to the safe side; one that is on its way there goes on."""
    if state.phase not in (*ABORTABLE, Phase.ABORTING):
        raise Conflict(
            f"{state.service} has no rollout to abort: it is {state.phase}",
            serving=serving(state),
            next_step=f"proxyctl rollback {state.service}",
        )
    return ev.AbortRequested(actor=signed.actor, reason=signed.reason, outcome=outcome)


def change_plan(state: ServiceState, plan: Plan, signed: Signed) -> ev.PlanChanged:
    """Tell a rollout how to go on."""
    _gated(state)
    return ev.PlanChanged(plan=plan, actor=signed.actor, reason=signed.reason)


def weigh(state: ServiceState, share: int, signed: Signed) -> ev.PlanChanged:
    """This share, and there until told; the steps that give more come after it."""
    rollout = _shared(state)
    left = to_come(rollout.plan, rollout.cursor, share)
    return change_plan(state, at(share, left), signed)


def cut_over(state: ServiceState, signed: Signed) -> ev.PlanChanged:
    """All traffic at once, then watched for as long as its definition says."""
    _shared(state)
    candidate = candidate_of(state)
    return change_plan(state, blue_green(candidate.release.service.bake), signed)


def _shared(state: ServiceState) -> Rollout:
    """The rollout, of which a person may say who gets how much traffic. Raises Conflict."""
    rollout = _gated(state)
    if rollout.rolling is not None:
        raise Conflict(
            f"{state.service} is rolled: its share follows from how many of its replicas stand",
            serving=serving(state),
            next_step=f"proxyctl promote {state.service} --full waits for nothing; or proxyctl abort {state.service}",
        )
    return rollout


def promote(state: ServiceState, signed: Signed) -> ev.StepSkipped:
    """End the wait of this step. What is no wait is not left out: a replica that is to come, a hook, a yes."""
    rollout = _gated(state)
    if state.phase is Phase.SHIFTING and rollout.since is None:
        raise Conflict(
            f"{state.service} is just moving to its next step",
            serving=serving(state),
            next_step=f"look, then repeat it: proxyctl status {state.service}",
        )
    if not _waits(state, rollout):
        raise Conflict(
            f"{state.service} cannot leave out its present step: {words(rollout.step) if rollout.step else 'its last'}",
            serving=serving(state),
            next_step=asked_of_you(state),
        )
    return ev.StepSkipped(step=rollout.cursor, actor=signed.actor, reason=signed.reason)


def _waits(state: ServiceState, rollout: Rollout) -> bool:
    """Whether its present step is but a wait; at a share that it does not have yet, it is not."""
    match rollout.step:
        case Weight() as step:
            return reached(state, step)
        case Pause() | Analysis() | Lookout() | Bake():
            return True
        case _:
            return False


def promote_fully(state: ServiceState, signed: Signed) -> ev.PlanChanged:
    """All traffic at once, and no wait is left. What rolls goes on rolling."""
    rollout = _gated(state)
    left = rollout.plan[rollout.cursor :]
    return change_plan(state, at_once() if rollout.rolling is None else without_waits(left), signed)


def pause(state: ServiceState, signed: Signed) -> ev.PauseRequested:
    """No step goes on until a person resumes; a failing candidate is taken back all the same."""
    if _gated(state).paused:
        raise Conflict(
            f"{state.service} is paused already", serving=serving(state), next_step=f"proxyctl resume {state.service}"
        )
    return ev.PauseRequested(at=signed.now, actor=signed.actor, reason=signed.reason)


def resume(state: ServiceState, signed: Signed) -> ev.ResumeRequested | ev.StepSkipped:
    """The wait goes on with the time that it had left. A pause of the plan is over; an analysis without a verdict
    begins anew."""
    rollout = _gated(state)
    if isinstance(rollout.step, Approval) and not rollout.paused:
        raise Conflict(
            f"{state.service} waits to be approved",
            serving=serving(state),
            next_step=f"proxyctl approve {state.service}, or proxyctl deny {state.service}",
        )
    if isinstance(rollout.step, Pause) and not rollout.paused:
        return promote(state, signed)
    if state.phase not in (Phase.PAUSED, Phase.HELD):
        raise Conflict(
            f"{state.service} is not paused: it is {state.phase}",
            serving=serving(state),
            next_step=f"proxyctl promote {state.service} ends the wait of this step",
        )
    return ev.ResumeRequested(actor=signed.actor, reason=signed.reason)


def approve(state: ServiceState, signed: Signed) -> ev.Approved:
    return ev.Approved(step=_asking(state).cursor, actor=signed.actor, reason=signed.reason)


def deny(state: ServiceState, signed: Signed) -> ev.AbortRequested:
    _asking(state)
    return abort(
        state, Outcome.ABORTED, signed.replace(reason=f"denied{': ' + signed.reason if signed.reason else ''}")
    )


def _asking(state: ServiceState) -> Rollout:
    rollout = _gated(state)
    if state.phase is not Phase.HELD or not isinstance(rollout.step, Approval):
        raise Conflict(
            f"{state.service} does not ask for approval: it is {state.phase}",
            serving=serving(state),
            next_step=f"proxyctl status {state.service}",
        )
    return rollout


def _gated(state: ServiceState) -> Rollout:
    """The rollout, whose candidate has passed its gate and is not on its way out. Raises Conflict."""
    if state.phase not in GATED or state.rollout is None:
        refuse_while_running(state)
        raise Conflict(
            f"{state.service} has no rollout: it is {state.phase}",
            serving=serving(state),
            next_step=f"proxyctl deploy {state.service}",
        )
    return state.rollout


def retry(state: ServiceState) -> Release:
    """The release that was started last, and was not promoted. Raises Conflict."""
    refuse_while_running(state)
    if state.tried is None:
        raise Conflict(
            f"{state.service} has no release to try again: the last one was promoted",
            serving=serving(state),
            next_step=f"proxyctl deploy {state.service}",
        )
    return state.tried


def choices(state: ServiceState) -> tuple[str, ...]:
    """The verbs of which a person is to say one, for the rollout to go on; none while it goes on by itself."""
    rollout = state.rollout
    if rollout is None or state.phase not in (Phase.PAUSED, Phase.HELD):
        return ()
    if state.phase is Phase.PAUSED and not rollout.paused:
        return ("promote", "weight", "abort") if rollout.step == Pause() else ()
    if isinstance(rollout.step, Approval) and not rollout.paused:
        return ("approve", "deny")
    return ("resume", "promote", "abort") if _waits(state, rollout) else ("resume", "abort")


def goes_on(state: ServiceState) -> bool:
    """Whether a rollout gives its candidate more traffic with nobody asked."""
    return state.phase in ABORTABLE and not choices(state)


def asked_of_you(state: ServiceState) -> str:
    """The commands of which a person is to type one; empty while the rollout goes on by itself."""
    typed = {"weight": f"weight {state.service} PERCENT"}
    return " or ".join(f"proxyctl {typed.get(choice, f'{choice} {state.service}')}" for choice in choices(state))


# --- which release is meant -------------------------------------------------------------------------------------


def warm(state: ServiceState) -> Placement:
    """The release that can take traffic at once. Raises Conflict."""
    if state.standby is None:
        raise Conflict(
            f"{state.service} has no warm release beside the live one",
            serving=serving(state),
            next_step=_retained_hint(state),
        )
    return state.standby


def named(state: ServiceState, wanted: str) -> Placement | Release:
    """The placed or retained release that `--to RELEASE|blue|green` names. Raises UsageError."""
    for placed in (state.blue, state.green):
        if placed is not None and wanted in (placed.release.id, placed.colour):
            return placed
    for release in state.releases:
        if release.id == wanted:
            return release
    known = ", ".join(release.id for release in state.releases) or "none yet"
    raise UsageError(
        f"{state.service} has no release {wanted!r}; it knows: {known}", next_step=f"proxyctl history {state.service}"
    )


def retained(state: ServiceState) -> list[ReleaseId]:
    """What can be started again in the place of the live release, oldest first."""
    live = state.live.release.id if state.live else None
    return [release.id for release in state.releases if release.id != live]


def _retained_hint(state: ServiceState) -> str:
    older = retained(state)
    if not older:
        return f"proxyctl deploy {state.service}"
    return f"proxyctl rollback {state.service} --to {older[-1]} starts that release again and gates it"


# --- words ------------------------------------------------------------------------------------------------------


def serving(state: ServiceState) -> str:
    """What serves now, in one phrase; the same words in every message."""
    if not state.split:
        return f"{state.service}: nothing serves"
    parts = []
    for colour in Colour:
        placed = state.at(colour)
        if state.split.serves(colour) and placed is not None:
            parts.append(f"{placed.release.id} ({colour}) {state.split.percent(colour):g} %")
    return f"{state.service}: " + ", ".join(parts)


# --- after a crash ----------------------------------------------------------------------------------------------


def after_crash(state: ServiceState, candidate_has_traffic: bool) -> ev.Event | None:
    """What to note before driving on a service whose driver died; None: just drive on.

    Before traffic moved the rollout is undone: nobody wants a cutover as the side effect of a later command. After
    that it is finished, watched as it would have been.
    """
    match state.phase:
        case Phase.STARTING | Phase.GATING:
            return ev.Interrupted(reason="the process that drove it died")
        case Phase.SHIFTING if not candidate_has_traffic:
            return ev.Interrupted(reason="the process that drove it died before traffic moved")
        case Phase.DEGRADED:
            return ev.RecoveryStarted()
        case _:
            return None
