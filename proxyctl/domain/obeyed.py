"""What became of an order: it came true, came too late, or met another rollout. Pure. Start at carried_out()."""

from __future__ import annotations

from proxyctl.domain import events as ev
from proxyctl.domain.deciding import safe_split, same_traffic
from proxyctl.domain.orders import refuse_while_running, serving
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.split import Split
from proxyctl.domain.state import Phase, Rollout, ServiceState
from proxyctl.domain.steps import Approval, Pause, Weight
from proxyctl.errors import Conflict, RolloutFailed


def carried_out(state: ServiceState, order: ev.Event, ended: ev.RolloutEnded | None = None) -> bool:
    """Whether traffic is where this order to a rollout wants it, as the state shows; or as the rollout `ended`, if it
    did. Raises RolloutFailed once traffic is back on the safe side instead, Conflict once it is past the order."""
    if ended is not None:
        return _came_true(state, order, ended)
    rollout, back = state.rollout, _is_back(state)
    if rollout is not None and back and not isinstance(order, ev.AbortRequested):
        raise _went_back(state, rollout.outcome or Outcome.FAILED, rollout.why)
    match order:
        case ev.AbortRequested():
            return back
        case ev.PlanChanged(plan=(Weight(share=share), Pause(), *_)) if state.candidate is not None:
            return state.phase is Phase.PAUSED and Split(state.candidate.colour, share).same_traffic(state.split)
        case ev.PlanChanged(plan=plan) if rollout is not None and rollout.rolling is not None:
            return rollout.plan == plan
        case ev.PlanChanged():
            return state.phase in (Phase.BAKING, Phase.PROMOTING)
        case ev.StepSkipped(step=step) | ev.Approved(step=step):
            return rollout is not None and rollout.cursor > step
        case ev.PauseRequested():
            return rollout is not None and rollout.paused
        case ev.ResumeRequested():
            return rollout is not None and not (rollout.paused or _without_a_verdict(state, rollout))
        case _:
            return False


def _is_back(state: ServiceState) -> bool:
    """On its way out, and traffic has arrived."""
    known = state.preview is None and not state.unsure
    return state.phase is Phase.ABORTING and known and same_traffic(state.split, safe_split(state))


def _came_true(state: ServiceState, order: ev.Event, ended: ev.RolloutEnded) -> bool:
    """What the end of its rollout made of an order: a promotion is what all want but those that stop, or wait."""
    promoted = ended.outcome is Outcome.PROMOTED
    match order:
        case ev.AbortRequested():
            return not promoted
        case _ if not promoted:
            raise _went_back(state, ended.outcome, ended.reason)
        case ev.PauseRequested() | ev.PlanChanged(plan=(Weight(), Pause(), *_)):
            raise Conflict(
                f"too late: the rollout of {state.service} is over, promoted",
                serving=serving(state),
                next_step=f"proxyctl rollback {state.service}, if it shall not stay",
            )
        case _:
            return True


def _went_back(state: ServiceState, outcome: Outcome, reason: str) -> RolloutFailed:
    return RolloutFailed(
        f"too late: the rollout of {state.service} is over, {outcome}{': ' + reason if reason else ''}",
        serving=serving(state),
        next_step=f"proxyctl history {state.service}",
    )


def refuse_another(state: ServiceState, rollout: str, order: ev.Event) -> None:
    """Whoever gave this order to a rollout means no other; once it is over, only the way back is still meant. Raises
    Conflict."""
    now = state.rollout.id if state.rollout is not None else ""
    if now not in ("", rollout):
        refuse_while_running(state)
    if rollout and not now and not isinstance(order, ev.AbortRequested):
        raise Conflict(
            f"rollout {rollout} is over", serving=serving(state), next_step=f"proxyctl status {state.service}"
        )


def _without_a_verdict(state: ServiceState, rollout: Rollout) -> bool:
    """Held by an analysis, not by a plan that asks to be approved."""
    return state.phase is Phase.HELD and not isinstance(rollout.step, Approval)


def under_way(state: ServiceState, order: ev.Event) -> bool:
    """It was ordered before, or is done by itself: there is nothing to note, and it goes on."""
    return state.phase is Phase.ABORTING and isinstance(order, ev.AbortRequested)
