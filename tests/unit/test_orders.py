"""What a person may ask of a service in which phase, and in which words the rest is refused."""

from __future__ import annotations

from functools import partial
from itertools import accumulate

import pytest

from proxyctl.domain import events as ev
from proxyctl.domain import obeyed, orders, plan
from proxyctl.domain.model import Colour, ProxySettings
from proxyctl.domain.orders import Signed
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.rollout import ABORTABLE, GATED, MOVES, advance
from proxyctl.domain.split import Split
from proxyctl.domain.state import Kind, Phase, ServiceState
from proxyctl.domain.steps import Approval, Weight
from proxyctl.errors import Conflict, Degraded, UsageError
from tests.arena import WEB, Arena

ANN = Signed(actor="ann", reason="too slow", wall=2.0)
UNSEEN = ServiceState(service=WEB)
IN_A_ROLLOUT = [phase for phase in MOVES if phase not in (Phase.IDLE, Phase.DRAINING, Phase.DEGRADED)]
NOT_ABORTABLE = [phase for phase in MOVES if phase not in (*ABORTABLE, Phase.ABORTING)]

switch = partial(orders.change_plan, plan=plan.blue_green(1.0), signed=ANN)
abort = partial(orders.abort, outcome=Outcome.ABORTED, signed=ANN)


def to_a_quarter(state: ServiceState) -> ev.Event:
    return orders.change_plan(state, plan.at(2500, plan.at_once()), ANN)


async def a_long_story() -> Arena:
    """web-2 grows from a quarter to all and its standby ends; web-3 waits for a yes, and is taken back while nginx is
    silent."""
    arena = Arena()
    await arena.deploy("app:1")
    await arena.deploy("app:2", Kind.STAGE, plan.at(2500, plan.at_once()))
    await arena.order(switch)
    await arena.end_standby()
    await arena.deploy("app:3", Kind.STAGE, (Weight(share=500), Approval()))
    arena.world.nginx_down = True
    await arena.order(abort)
    return arena


async def in_phase(phase: Phase) -> ServiceState:
    """A service with a live release, when it first came to this phase."""
    events = [entry.event for entry in (await a_long_story()).store.journal]
    return next(s for s in accumulate(events, advance, initial=UNSEEN) if s.live is not None and s.phase is phase)


async def with_a_standby() -> ServiceState:
    arena = Arena()
    await arena.deploy("app:1")
    return await arena.deploy("app:2")


async def open_fresh(state: ServiceState) -> ev.RolloutOpened:
    """The order that `deploy` gives for what stands in this state."""
    release = (await with_a_standby()).releases[0].replace(id=orders.next_release_id(state))
    return orders.open_fresh(state, Kind.DEPLOY, plan.blue_green(1.0), release, (), None, ProxySettings(), ANN)


# --- one rollout at a time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", IN_A_ROLLOUT)
async def test_a_second_rollout_is_refused_by_the_name_of_the_first(phase: Phase) -> None:
    state = await in_phase(phase)
    assert state.rollout is not None
    with pytest.raises(Conflict) as refusal:
        await open_fresh(state)
    expected = f"rollout {state.rollout.id} of {state.rollout.release} is {phase}, started by tester"
    assert str(refusal.value) == expected
    assert refusal.value.serving == orders.serving(state)
    assert refusal.value.next_step


ON_ITS_OWN = [phase for phase in ABORTABLE if phase not in (Phase.PAUSED, Phase.HELD)]


@pytest.mark.parametrize("phase", ON_ITS_OWN)
async def test_the_abort_that_the_refusal_proposes_is_allowed(phase: Phase) -> None:
    state = await in_phase(phase)
    with pytest.raises(Conflict) as refusal:
        orders.refuse_while_running(state)
    assert "proxyctl abort web" in refusal.value.next_step
    assert isinstance(abort(state), ev.AbortRequested)


@pytest.mark.parametrize("phase", [Phase.PROMOTING, Phase.ABORTING])
async def test_of_what_is_about_to_end_nothing_is_proposed_but_to_wait(phase: Phase) -> None:
    with pytest.raises(Conflict) as refusal:
        orders.refuse_while_running(await in_phase(phase))
    assert refusal.value.next_step == "wait: proxyctl status web --watch"


async def test_a_degraded_service_is_refused_as_degraded_with_what_mends_it() -> None:
    state = await in_phase(Phase.DEGRADED)
    for order in (orders.refuse_while_running, to_a_quarter, switch):
        with pytest.raises(Degraded, match="web is degraded: nginx does not answer") as refusal:
            order(state)
        assert refusal.value.next_step == "proxyctl proxy start, then proxyctl recover"


@pytest.mark.parametrize(
    ("phase", "asked"),
    [
        (Phase.PAUSED, "proxyctl promote web or proxyctl weight web PERCENT or proxyctl abort web"),
        (Phase.HELD, "proxyctl approve web or proxyctl deny web"),
    ],
)
async def test_nobody_is_told_to_wait_for_what_waits_for_a_person(phase: Phase, asked: str) -> None:
    with pytest.raises(Conflict) as refusal:
        orders.refuse_while_running(await in_phase(phase), "repeat it")
    assert refusal.value.next_step == f"{asked}; or repeat it"


async def test_while_a_standby_leaves_no_rollout_starts_and_waiting_is_the_advice() -> None:
    state = await in_phase(Phase.DRAINING)
    with pytest.raises(Conflict, match="web is draining its standby") as refusal:
        await open_fresh(state)
    assert "wait" in refusal.value.next_step


async def test_a_warm_release_cannot_be_opened_while_a_rollout_runs_either() -> None:
    standby = orders.warm(await with_a_standby())
    with pytest.raises(Conflict, match="rollout web-r2 of web-2 is baking"):
        orders.open_warm(await in_phase(Phase.BAKING), Kind.SWITCH, plan.blue_green(1.0), standby, ANN)


async def test_a_rollout_that_came_and_went_while_another_was_prepared_is_named_and_stays() -> None:
    """As a pull that takes long meets a deploy that takes no time."""
    arena = Arena()
    seen = await arena.deploy("app:1")
    now = await arena.deploy("app:2")
    with pytest.raises(Conflict, match=r"^rollout web-r2 came in between, while this one was prepared$") as refusal:
        orders.refuse_overtaken(now, seen)
    assert refusal.value.serving == "web: web-2 (green) 100 %"
    assert refusal.value.next_step.startswith("proxyctl history web; repeat it")


async def test_one_that_still_runs_is_named_like_any_other() -> None:
    with pytest.raises(Conflict, match="rollout web-r2 of web-2 is baking, started by tester"):
        orders.refuse_overtaken(await in_phase(Phase.BAKING), await in_phase(Phase.IDLE))


async def test_a_standby_that_left_meanwhile_overtakes_nobody() -> None:
    arena = Arena()
    await arena.deploy("app:1")
    seen = await arena.deploy("app:2")
    orders.refuse_overtaken(await arena.end_standby(), seen)


async def test_a_release_is_never_started_beside_itself_whoever_numbered_it() -> None:
    """Its containers would take the names of those that serve, and those would be removed for it."""
    arena = Arena()
    release = (await arena.deploy("app:1")).releases[0]
    numbered = release.replace(id=orders.next_release_id(arena.state))
    now = await arena.deploy("app:2")
    with pytest.raises(Conflict, match="web-2 stands already") as refusal:
        orders.open_fresh(now, Kind.DEPLOY, plan.blue_green(1.0), numbered, (), None, ProxySettings(), ANN)
    assert refusal.value.serving == "web: web-2 (green) 100 %"


# --- opening -----------------------------------------------------------------------------------------------------


async def test_the_first_release_starts_in_blue_and_replaces_nobody() -> None:
    opened = await open_fresh(UNSEEN)
    assert opened.placement is not None
    assert (opened.placement.release.id, opened.placement.colour) == ("web-1", Colour.BLUE)
    assert (opened.rollout.id, opened.rollout.replaces, opened.rollout.fresh) == ("web-r1", None, True)


async def test_a_new_release_starts_beside_the_live_one_under_a_number_of_its_own() -> None:
    state = await with_a_standby()
    opened = await open_fresh(state)
    assert state.live is not None
    assert opened.rollout.colour is state.live.colour.other
    assert (opened.rollout.id, opened.rollout.release, opened.rollout.replaces) == ("web-r3", "web-3", "web-2")


async def test_a_number_is_not_given_again_when_its_rollout_failed() -> None:
    arena = Arena()
    arena.world.sick.add("sick:1")
    await arena.deploy("app:1")
    failed = await arena.deploy("sick:1")
    assert failed.live is not None
    assert failed.live.release.id == "web-1"
    assert orders.next_release_id(failed) == "web-3"
    assert (await open_fresh(failed)).rollout.id == "web-r3"


async def test_a_warm_release_is_opened_where_it_stands() -> None:
    state = await with_a_standby()
    standby = orders.warm(state)
    opened = orders.open_warm(state, Kind.ROLLBACK, plan.at_once(), standby, ANN)
    assert opened.placement is None
    assert (opened.rollout.release, opened.rollout.colour) == ("web-1", standby.colour)
    assert (opened.rollout.fresh, opened.rollout.route) == (False, state.route)


async def test_who_asked_and_why_is_in_the_event() -> None:
    state = await with_a_standby()
    opened = orders.open_warm(state, Kind.ROLLBACK, plan.at_once(), orders.warm(state), ANN)
    assert (opened.rollout.actor, opened.rollout.reason, opened.rollout.opened) == ("ann", "too slow", 2.0)
    aborted = abort(await in_phase(Phase.BAKING))
    assert (aborted.actor, aborted.reason) == ("ann", "too slow")
    changed = switch(await in_phase(Phase.PAUSED))
    assert (changed.actor, changed.reason) == ("ann", "too slow")


# --- steering ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [Outcome.ABORTED, Outcome.ROLLED_BACK, Outcome.SUPERSEDED])
@pytest.mark.parametrize("phase", ABORTABLE)
async def test_until_it_is_promoted_a_rollout_can_be_stopped(phase: Phase, outcome: Outcome) -> None:
    state = await in_phase(phase)
    stopped = advance(state, orders.abort(state, outcome, ANN))
    assert stopped.phase is Phase.ABORTING
    assert stopped.rollout is not None
    assert (stopped.rollout.outcome, stopped.rollout.why) == (outcome, "too slow")


@pytest.mark.parametrize("phase", NOT_ABORTABLE)
async def test_where_there_is_nothing_to_stop_abort_is_refused(phase: Phase) -> None:
    state = await in_phase(phase)
    with pytest.raises(Conflict) as refusal:
        abort(state)
    assert str(refusal.value) == f"web has no rollout to abort: it is {phase}"
    assert refusal.value.serving == orders.serving(state)


async def test_what_is_taken_back_already_may_be_told_so_again() -> None:
    state = await in_phase(Phase.ABORTING)
    assert obeyed.under_way(state, abort(state))
    running = await in_phase(Phase.BAKING)
    assert not obeyed.under_way(running, abort(running))


async def test_after_a_promotion_abort_points_to_the_rollback() -> None:
    state = await with_a_standby()
    with pytest.raises(Conflict) as refusal:
        abort(state)
    assert refusal.value.next_step == "proxyctl rollback web"
    assert orders.warm(state).release.id == "web-1", "there is something to go back to"


async def test_a_paused_rollout_takes_another_plan_from_its_start() -> None:
    state = await in_phase(Phase.PAUSED)
    told = advance(state, switch(state))
    assert told.phase is Phase.SHIFTING
    assert told.rollout is not None
    assert (told.rollout.plan, told.rollout.cursor) == (plan.blue_green(1.0), 0)


@pytest.mark.parametrize("phase", [phase for phase in IN_A_ROLLOUT if phase not in GATED])
async def test_before_its_gate_and_after_its_end_a_rollout_takes_no_other_plan(phase: Phase) -> None:
    state = await in_phase(phase)
    with pytest.raises(Conflict, match=rf"rollout web-r\d of web-\d is {phase}"):
        to_a_quarter(state)


async def test_without_a_rollout_there_is_no_plan_to_change() -> None:
    with pytest.raises(Conflict, match="web has no rollout: it is idle") as refusal:
        switch(await in_phase(Phase.IDLE))
    assert refusal.value.serving == "web: web-1 (blue) 100 %"
    with pytest.raises(Conflict, match="web is draining its standby"):
        switch(await in_phase(Phase.DRAINING))


# --- carried out -------------------------------------------------------------------------------------------------


async def test_an_abort_is_carried_out_when_traffic_is_back_although_the_candidate_still_leaves() -> None:
    paused = await in_phase(Phase.PAUSED)
    asked = abort(paused)
    assert not obeyed.carried_out(paused, asked)
    aborting = advance(paused, asked)
    assert not obeyed.carried_out(aborting, asked), "a quarter of it is still with the candidate"
    back = advance(aborting, ev.SplitMoved(split=Split.all_to(Colour.BLUE), cover=False))
    assert back.candidate is not None
    assert obeyed.carried_out(back, asked)


async def test_an_abort_is_not_carried_out_while_nobody_knows_where_traffic_is() -> None:
    gating = await in_phase(Phase.GATING)
    aborting = advance(gating, abort(gating))
    assert obeyed.carried_out(aborting, abort(gating))
    assert not obeyed.carried_out(aborting.replace(unsure=True), abort(gating))


async def test_a_weight_is_carried_out_when_the_rollout_waits_at_it() -> None:
    waiting = await in_phase(Phase.PAUSED)
    assert obeyed.carried_out(waiting, to_a_quarter(waiting))
    assert not obeyed.carried_out(waiting, orders.change_plan(waiting, plan.at(5000, plan.at_once()), ANN))
    assert not obeyed.carried_out(advance(waiting, to_a_quarter(waiting)), to_a_quarter(waiting)), "it moves yet"


@pytest.mark.parametrize(
    ("phase", "arrived"),
    [
        (Phase.PAUSED, False),
        (Phase.SHIFTING, False),
        (Phase.HELD, False),
        (Phase.BAKING, True),
        (Phase.PROMOTING, True),
    ],
)
async def test_a_switch_is_carried_out_once_the_candidate_has_all_traffic(phase: Phase, arrived: bool) -> None:
    asked = ev.PlanChanged(plan=plan.blue_green(1.0), actor="ann", reason="")
    assert obeyed.carried_out(await in_phase(phase), asked) is arrived


async def test_what_steers_no_rollout_is_never_called_carried_out() -> None:
    assert not obeyed.carried_out(await in_phase(Phase.IDLE), ev.StandbyEnded(reason=""))


# --- which release is meant --------------------------------------------------------------------------------------


async def test_the_standby_is_what_can_take_traffic_at_once() -> None:
    assert orders.warm(await with_a_standby()).release.id == "web-1"


async def test_without_a_standby_the_youngest_other_release_is_proposed() -> None:
    arena = Arena()
    for image in ("app:1", "app:2", "app:3"):
        await arena.deploy(image)
    with pytest.raises(Conflict, match="web has no warm release beside the live one") as refusal:
        orders.warm(await arena.end_standby())
    assert refusal.value.serving == "web: web-3 (blue) 100 %"
    assert refusal.value.next_step.startswith("proxyctl rollback web --to web-2 ")


async def test_where_there_is_nothing_to_go_back_to_a_deploy_is_proposed() -> None:
    for state in (UNSEEN, await in_phase(Phase.IDLE)):
        with pytest.raises(Conflict) as refusal:
            orders.warm(state)
        assert refusal.value.next_step == "proxyctl deploy web"


async def test_a_release_is_named_by_its_id_or_by_its_colour() -> None:
    state = await with_a_standby()
    assert orders.named(state, "web-1") == orders.named(state, "blue") == state.blue
    assert orders.named(state, "web-2") == orders.named(state, "green") == state.green


async def test_a_release_that_left_its_slot_is_still_known_by_name() -> None:
    arena = Arena()
    await arena.deploy("app:1")
    await arena.deploy("app:2")
    state = await arena.end_standby()
    retained = orders.named(state, "web-1")
    assert retained == state.releases[0]
    assert state.at(Colour.BLUE) is None


@pytest.mark.parametrize("wanted", ["web-9", "web", "", "BLUE"])
async def test_a_name_that_nobody_has_is_answered_with_the_ones_that_are(wanted: str) -> None:
    with pytest.raises(UsageError, match="it knows: web-1, web-2") as refusal:
        orders.named(await with_a_standby(), wanted)
    assert repr(wanted) in str(refusal.value)
    assert refusal.value.next_step == "proxyctl history web"


def test_a_colour_nobody_stands_in_names_nothing() -> None:
    with pytest.raises(UsageError, match="web has no release 'blue'; it knows: none yet"):
        orders.named(UNSEEN, "blue")


# --- words -------------------------------------------------------------------------------------------------------


async def test_what_serves_is_said_in_one_phrase() -> None:
    assert orders.serving(UNSEEN) == "web: nothing serves"
    assert orders.serving(await with_a_standby()) == "web: web-2 (green) 100 %"
    assert orders.serving(await in_phase(Phase.PAUSED)) == "web: web-1 (blue) 75 %, web-2 (green) 25 %"


async def test_a_share_is_said_to_the_hundredth() -> None:
    state = (await in_phase(Phase.PAUSED)).replace(split=Split(Colour.GREEN, 1))
    assert orders.serving(state) == "web: web-1 (blue) 99.99 %, web-2 (green) 0.01 %"


async def test_before_the_first_promotion_nobody_is_said_to_serve() -> None:
    opened = advance(UNSEEN, await open_fresh(UNSEEN))
    assert orders.serving(opened) == "web: nothing serves"


# --- after a crash -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moved", [True, False])
@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.GATING])
async def test_what_a_crash_interrupted_before_its_gate_is_undone(phase: Phase, moved: bool) -> None:
    state = await in_phase(phase)
    interrupted = orders.after_crash(state, moved)
    assert isinstance(interrupted, ev.Interrupted)
    assert advance(state, interrupted).phase is Phase.ABORTING


async def test_a_shift_is_undone_only_while_no_traffic_moved() -> None:
    state = await in_phase(Phase.SHIFTING)
    assert isinstance(orders.after_crash(state, False), ev.Interrupted)
    assert orders.after_crash(state, True) is None


async def test_safety_that_was_lost_is_looked_for_again() -> None:
    state = await in_phase(Phase.DEGRADED)
    recovery = orders.after_crash(state, False)
    assert recovery is not None
    assert advance(state, recovery).phase is Phase.ABORTING


UNTOUCHED = [Phase.IDLE, Phase.PAUSED, Phase.HELD, Phase.BAKING, Phase.PROMOTING, Phase.DRAINING, Phase.ABORTING]


@pytest.mark.parametrize("phase", UNTOUCHED)
async def test_everything_else_just_goes_on_after_a_crash(phase: Phase) -> None:
    for moved in (True, False):
        assert orders.after_crash(await in_phase(phase), moved) is None
