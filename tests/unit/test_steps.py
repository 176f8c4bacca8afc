"""The steps of a plan: how a rollout waits, goes on, is paused, asked about and led by a person."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain import obeyed, orders, plan
from proxyctl.domain.commands import Moment
from proxyctl.domain.deciding import decide
from proxyctl.domain.model import Colour
from proxyctl.domain.orders import Signed
from proxyctl.domain.rollout import advance, fold
from proxyctl.domain.split import WHOLE
from proxyctl.domain.state import Kind, Phase, ServiceState
from proxyctl.domain.steps import Analysis, Approval, Bake, Hook, Pause, Step, Weight
from proxyctl.errors import Conflict
from tests.arena import SIGNED, Arena

ANN = Signed(actor="ann", reason="", wall=2.0)


def at(seconds: float) -> Moment:
    return Moment(boot="this one", at=seconds)


async def at_the_gate(*steps: Step) -> ServiceState:
    """A live release, and a candidate whose rollout by these steps has just been gated."""
    arena = Arena()
    await arena.deploy("app:1")
    await arena.deploy("app:2", Kind.DEPLOY, (*steps, Approval()))
    entries = arena.store.entries()
    gate = max(at for at, entry in enumerate(entries) if isinstance(entry.event, ev.GatePassed))
    return fold(ServiceState(service=arena.state.service), [entry.event for entry in entries[: gate + 1]])


def moved(state: ServiceState) -> ServiceState:
    """Traffic went where the next commands want it."""
    while isinstance(command := decide(state), do.Move):
        state = advance(state, ev.SplitMoved(split=command.split, cover=command.cover))
    return state


async def dwelling(*steps: Step) -> ServiceState:
    """In the wait of the first step, since second 100."""
    state = moved(await at_the_gate(*steps))
    begin = decide(state)
    assert isinstance(begin, do.Begin)
    began: dict[type[Step], Callable[..., ev.Event]] = {
        Pause: ev.StepHeld,
        Approval: ev.ApprovalAsked,
        Bake: ev.BakeStarted,
    }
    return advance(state, began.get(type(begin.step), ev.DwellStarted)(since=at(100)))


def step_of(state: ServiceState) -> Step | None:
    assert state.rollout is not None
    return state.rollout.step


async def test_a_weight_without_a_stay_is_done_once_it_was_seen() -> None:
    state = moved(await at_the_gate(Weight(share=500), Weight(share=2500)))
    assert step_of(state) == Approval()
    assert state.split is not None and state.rollout is not None
    assert state.split.percent(state.rollout.colour) == 25.0


async def test_a_weight_with_a_stay_is_watched_for_that_long() -> None:
    state = await dwelling(Weight(share=500, dwell=120.0), Weight(share=2500))
    command = decide(state)
    assert isinstance(command, do.Watch)
    assert (command.since, command.spent, command.window) == (at(100), 0.0, 120.0)
    state = advance(state, ev.StepPassed())
    assert (state.phase, step_of(state)) == (Phase.SHIFTING, Weight(share=2500))


@pytest.mark.parametrize("step", [Weight(share=500, dwell=None), Analysis()])
async def test_without_a_time_the_analysis_says_when_to_go_on(step: Step) -> None:
    state = await dwelling(step)
    assert isinstance(decide(state), do.Analyse)


async def test_a_hook_is_run_and_its_failure_is_the_rollouts() -> None:
    state = moved(await at_the_gate(Weight(share=500), Hook(name="smoke")))
    assert decide(state) == do.RunHook(name="smoke")
    assert step_of(advance(state, ev.StepPassed())) == Approval()
    assert advance(state, ev.StepFailed(reason="exit code 1")).phase is Phase.ABORTING


async def test_a_pause_of_the_plan_ends_when_its_time_is_over_or_when_told() -> None:
    timed = await dwelling(Pause(window=600.0))
    command = decide(timed)
    assert timed.phase is Phase.PAUSED
    assert isinstance(command, do.Watch) and command.window == 600.0
    assert step_of(advance(timed, ev.StepPassed())) == Approval()
    told = await dwelling(Pause())
    assert step_of(advance(told, orders.resume(told, ANN))) == Approval()


async def test_an_approval_waits_for_a_yes_and_a_no_takes_the_candidate_back() -> None:
    state = await dwelling(Approval(), Weight(share=500))
    assert state.phase is Phase.HELD
    assert step_of(advance(state, orders.approve(state, ANN))) == Weight(share=500)
    denied = advance(state, orders.deny(state, ANN.replace(reason="not on a friday")))
    assert denied.phase is Phase.ABORTING
    assert denied.rollout is not None and denied.rollout.why == "denied: not on a friday"
    with pytest.raises(Conflict, match="waits to be approved"):
        orders.resume(state, ANN)


async def test_what_nobody_asks_cannot_be_approved() -> None:
    state = await dwelling(Weight(share=500, dwell=60.0))
    for order in (orders.approve, orders.deny):
        with pytest.raises(Conflict, match="does not ask for approval: it is shifting"):
            order(state, ANN)


# --- a person's pause --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [Weight(share=500, dwell=120.0), Pause(window=120.0), Bake(window=120.0)])
async def test_after_a_pause_the_wait_has_the_time_that_it_had_left(step: Step) -> None:
    state = await dwelling(step)
    paused = advance(state, orders.pause(state, ANN.replace(now=at(130))))
    assert paused.phase is Phase.PAUSED
    watch = decide(paused)
    assert isinstance(watch, do.Watch) and watch.window is None, "no time ends it"
    resumed = advance(paused, orders.resume(paused, ANN))
    assert decide(resumed) == do.Begin(step=step)
    going_on = advance(resumed, ev.DwellStarted(since=at(500)))
    command = decide(going_on)
    assert isinstance(command, do.Watch)
    assert (command.since, command.spent, command.window) == (at(500), 30.0, 120.0)


async def test_a_pause_adds_nothing_to_a_wait_that_ended_without_a_verdict() -> None:
    """Held is not waiting: paused for an hour by somebody who looks into it, the analysis has all its time again."""
    held = advance(await dwelling(Analysis(), Weight(share=5000)), ev.Inconclusive(reason="too few requests"))
    paused = advance(held, orders.pause(held, ANN.replace(now=at(3700))))
    for state in (held, paused):
        anew = advance(state, orders.resume(state, ANN))
        going_on = advance(anew, ev.DwellStarted(since=at(4000)))
        assert decide(going_on) == do.Analyse(colour=Colour.GREEN, since=at(4000), spent=0.0)


async def test_a_pause_at_a_gate_ends_there_where_a_person_is_asked() -> None:
    asking = await dwelling(Approval())
    paused = advance(asking, orders.pause(asking, ANN.replace(now=at(130))))
    resume = orders.resume(paused, ANN)
    assert not obeyed.carried_out(paused, resume)
    asks_again = advance(advance(paused, resume), ev.ApprovalAsked(since=at(140)))
    assert asks_again.phase is Phase.HELD
    assert obeyed.carried_out(asks_again, resume)


async def test_a_pause_is_not_asked_for_twice_nor_resumed_unasked() -> None:
    state = await dwelling(Weight(share=500, dwell=120.0))
    paused = advance(state, orders.pause(state, ANN.replace(now=at(130))))
    with pytest.raises(Conflict, match="is paused already"):
        orders.pause(paused, ANN.replace(now=at(131)))
    with pytest.raises(Conflict, match="is not paused: it is shifting"):
        orders.resume(state, ANN)


async def test_a_candidate_that_fails_in_a_pause_is_taken_back_all_the_same() -> None:
    state = await dwelling(Weight(share=500, dwell=120.0))
    paused = advance(state, orders.pause(state, ANN.replace(now=at(130))))
    assert advance(paused, ev.CandidateFailed(reason="it died")).phase is Phase.ABORTING


async def test_after_a_restart_of_the_machine_what_had_passed_still_counts() -> None:
    state = await dwelling(Weight(share=500, dwell=120.0))
    after = advance(state, ev.ClockLost(since=Moment(boot="the next", at=3.0), spent=90.0))
    command = decide(after)
    assert isinstance(command, do.Watch)
    assert (command.since, command.spent) == (Moment(boot="the next", at=3.0), 90.0)


# --- going on sooner ---------------------------------------------------------------------------------------------


async def test_promote_ends_the_wait_of_one_step() -> None:
    state = await dwelling(Weight(share=500, dwell=120.0), Weight(share=2500, dwell=60.0))
    asked = orders.promote(state, ANN)
    state = advance(state, asked)
    assert step_of(state) == Weight(share=2500, dwell=60.0)
    assert step_of(advance(state, asked)) == Weight(share=2500, dwell=60.0), "asked twice, it skips once"
    with pytest.raises(Conflict, match="just moving to its next step"):
        orders.promote(state, ANN)


async def test_full_promotion_leaves_no_wait() -> None:
    state = await dwelling(Weight(share=500, dwell=120.0), Pause(), Bake(window=60.0))
    state = moved(advance(state, orders.promote_fully(state, ANN)))
    assert decide(state) == do.EndPlan()


async def test_a_weight_by_hand_goes_on_with_the_steps_that_give_more() -> None:
    ladder = (Weight(share=500, dwell=120.0), Weight(share=2500, dwell=60.0), Weight(share=5000, dwell=60.0))
    state = await dwelling(*ladder)
    told = advance(state, orders.weigh(state, 3000, ANN))
    assert told.rollout is not None
    assert told.rollout.plan == (Weight(share=3000), Pause(), Weight(share=5000, dwell=60.0), Approval())


async def test_a_weight_by_hand_that_is_promoted_gets_all_traffic() -> None:
    """Nobody is promoted at a part of it: its predecessor leaves when the standby window is over."""
    arena = Arena()
    await arena.deploy("app:1")
    await arena.deploy("app:2", Kind.WEIGHT, plan.at(5000, plan.at_once()))
    await arena.order(lambda state: orders.promote(state, SIGNED))
    state = await arena.end_standby()
    assert state.live is not None and state.live.release.id == "web-2"
    assert state.split is not None and state.split.sole is state.live.colour
    assert not arena.broken_promises()


async def staged(*then: Step) -> Arena:
    arena = Arena()
    await arena.deploy("app:1")
    await arena.deploy("app:2", Kind.STAGE, plan.hold(then))
    return arena


@pytest.mark.parametrize("goes_on", [orders.promote, orders.resume])
async def test_what_was_staged_goes_on_by_the_steps_of_a_deploy(
    goes_on: Callable[[ServiceState, Signed], ev.Event],
) -> None:
    arena = await staged(Weight(share=500), Approval(), Weight(share=WHOLE), Bake(window=1.0))
    asked = await arena.order(lambda state: goes_on(state, SIGNED))
    assert (asked.phase, step_of(asked)) == (Phase.HELD, Approval())
    state = await arena.order(lambda state: orders.approve(state, SIGNED))
    assert (state.phase, state.split and state.split.sole) == (Phase.IDLE, state.live and state.live.colour)
    assert state.live is not None and state.live.release.id == "web-2"


async def test_nobody_is_promoted_without_all_traffic_whatever_the_plan_says() -> None:
    """Plans of older journals end with a pause."""
    state = await (await staged()).order(lambda state: orders.promote(state, SIGNED))
    assert state.live is not None and state.live.release.id == "web-2"
    assert state.split is not None and state.split.sole is state.live.colour


async def test_a_weight_in_the_bake_goes_back_to_all_traffic_and_bakes_anew() -> None:
    state = await dwelling(Weight(share=WHOLE), Bake(window=60.0))
    told = advance(state, orders.weigh(state, 5000, ANN))
    assert told.rollout is not None
    assert told.rollout.plan[1:] == (Pause(), Weight(share=WHOLE), Bake(window=60.0), Approval())


async def test_a_stay_at_more_comes_again_as_a_whole_and_one_by_hand_does_not() -> None:
    ladder = (Weight(share=2500), Analysis(), Weight(share=5000), Bake(window=60.0))
    state = await dwelling(*ladder)
    told = advance(state, orders.weigh(state, 1000, ANN))
    assert told.rollout is not None and told.rollout.plan == (Weight(share=1000), Pause(), *ladder, Approval())
    there = moved(told)
    lower = advance(there, orders.weigh(there, 700, ANN))
    assert lower.rollout is not None and lower.rollout.plan == (Weight(share=700), Pause(), *ladder, Approval())


async def test_a_weight_by_hand_leaves_out_no_hook_and_no_approval() -> None:
    state = await dwelling(
        Weight(share=500),
        Pause(),
        Hook(name="migrate"),
        Weight(share=1000, dwell=60.0),
        Approval(),
        Weight(share=5000, dwell=60.0),
    )
    told = advance(state, orders.weigh(state, 3000, ANN))
    assert told.rollout is not None
    assert told.rollout.plan[2:-1] == (Hook(name="migrate"), Approval(), Weight(share=5000, dwell=60.0))


async def test_no_promotion_answers_for_the_person_who_is_asked() -> None:
    state = await dwelling(Approval(), Weight(share=500))
    assert orders.choices(state) == ("approve", "deny")
    with pytest.raises(Conflict, match="cannot leave out its present step: until it is approved") as refused:
        orders.promote(state, ANN)
    assert refused.value.next_step == "proxyctl approve web or proxyctl deny web"


async def test_no_promotion_leaves_out_a_hook_nor_a_share_that_is_not_there_yet() -> None:
    for steps in ((Hook(name="migrate"),), (Weight(share=500, dwell=60.0),)):
        state = await at_the_gate(*steps)
        paused = advance(state, orders.pause(state, ANN))
        assert orders.choices(paused) == ("resume", "abort")
        with pytest.raises(Conflict, match="cannot leave out"):
            orders.promote(paused, ANN)


def test_a_weight_by_hand_leaves_out_no_bake() -> None:
    held_back = (Weight(share=9800), Bake(window=60.0), Weight(share=WHOLE))
    for share in (9800, 9900):
        assert plan.at(share, then=held_back)[2:] == (Bake(window=60.0), Weight(share=WHOLE))


async def test_an_analysis_without_a_verdict_is_a_persons_to_decide() -> None:
    state = await dwelling(Analysis(), Weight(share=5000))
    held = advance(state, ev.Inconclusive(reason="too few requests"))
    assert held.phase is Phase.HELD
    assert isinstance(decide(held), do.Watch)
    assert step_of(advance(held, orders.promote(held, ANN))) == Weight(share=5000)
    anew = advance(held, orders.resume(held, ANN))
    assert decide(anew) == do.Begin(step=Analysis())
    assert not obeyed.carried_out(held, orders.resume(held, ANN))
    assert anew.rollout is not None and anew.rollout.spent == 0.0


# --- trying again ------------------------------------------------------------------------------------------------


async def test_a_release_that_was_taken_back_can_be_tried_again() -> None:
    arena = Arena()
    await arena.deploy("app:1")
    arena.world.sick.add("app:2")
    state = await arena.deploy("app:2")
    assert orders.retry(state).image == "app:2"
    arena.world.sick.clear()
    with pytest.raises(Conflict, match="the last one was promoted"):
        orders.retry(await arena.deploy("app:2"))


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (Weight(share=1234), "weight 12.34 %"),
        (Weight(share=500, dwell=120.0), "weight 5 % for 2m"),
        (Weight(share=500, dwell=None), "weight 5 % until the analysis passes"),
        (Pause(window=90.0), "pause for 90s"),
        (Pause(), "pause until told"),
        (Approval(), "until it is approved"),
        (Hook(name="smoke"), "hook smoke"),
        (Bake(window=0.5), "bake for 500ms"),
    ],
)
def test_a_step_in_words(step: Step, words: str) -> None:
    assert plan.words(step) == words
