"""Replicas that change places: the plan, what a failure means, and what a person may ask meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxyctl.config.load import load
from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain import orders, plan
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.rolling import FailureAction, Order, Rolling, between, leaves_nobody
from proxyctl.domain.state import Kind, Phase, ServiceState
from proxyctl.domain.steps import Grow, Shrink
from proxyctl.errors import Conflict
from tests.arena import SIGNED, Arena

START, STOP = Order.START_FIRST, Order.STOP_FIRST


def words(rolling: Rolling, old: int, new: int) -> str:
    return ", ".join(map(plan.words, between(rolling, old, new)))


def test_start_first_is_a_batch_more() -> None:
    rolling = Rolling(order=START, parallelism=2, monitor=9.0, delay=10.0)
    assert (
        words(rolling, 3, 3)
        == "2 of 3 new, watch for 9s, 2 of 3 old, watch for 10s, 3 of 3 new, watch for 9s, 0 of 3 old"
    )


def test_stop_first_makes_room_before() -> None:
    assert words(Rolling(), 2, 2) == "1 of 2 old, 1 of 2 new, watch for 5s, 0 of 2 old, 2 of 2 new, watch for 5s"


def test_parallelism_zero_is_all_at_once() -> None:
    assert words(Rolling(parallelism=0), 3, 2) == "0 of 3 old, 2 of 2 new, watch for 5s"


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("parallelism", range(5))
@pytest.mark.parametrize("new", range(1, 7))
@pytest.mark.parametrize("old", range(1, 7))
def test_a_plan_keeps_within_its_room_and_ends_with_the_new_release_alone(
    old: int, new: int, parallelism: int, order: Order
) -> None:
    rolling = Rolling(order=order, parallelism=parallelism)
    stand = {Grow: 0, Shrink: old}
    for step in between(rolling, old, new):
        if isinstance(step, (Grow, Shrink)):
            stand[type(step)] = step.to
            assert sum(stand.values()) <= rolling.most(old, new)
    assert stand == {Grow: new, Shrink: 0}


def test_only_what_stops_the_last_one_first_leaves_nobody() -> None:
    assert leaves_nobody(between(Rolling(), 1, 1))
    assert leaves_nobody(between(Rolling(parallelism=0), 3, 3))
    assert not leaves_nobody(between(Rolling(), 1, 3))
    assert not leaves_nobody(between(Rolling(order=START), 1, 1))


# --- failures ---------------------------------------------------------------------------------------------------


async def rolled(image: str = "app:2", replicas: int = 3, **policy: Any) -> Arena:
    arena = Arena()
    arena.edge = {"rolling": Rolling(monitor=1.0, **policy), "replicas": replicas}
    arena.world.sick.add("sick:1")
    await arena.deploy("app:1")
    await arena.deploy(image)
    return arena


def facts(arena: Arena, kind: type[ev.Event]) -> list[Any]:
    return [entry.event for entry in arena.store.journal if isinstance(entry.event, kind)]


def stands(state: ServiceState) -> tuple[int, ...]:
    return tuple(len(placed.replicas) if placed else 0 for placed in (state.live, state.candidate))


async def test_too_many_failures_ask_a_person_while_somebody_serves() -> None:
    arena = await rolled("sick:1")
    assert (arena.state.phase, stands(arena.state)) == (Phase.HELD, (2, 0))
    assert arena.state.rollout is not None and "1 failure of 3 replicas" in arena.state.rollout.why
    state = await arena.order(lambda s: orders.abort(s, Outcome.ABORTED, SIGNED))
    assert (state.phase, stands(state), len(arena.world.containers)) == (Phase.IDLE, (3, 0), 3)
    assert not arena.broken_promises()


async def test_nobody_is_asked_while_nobody_serves() -> None:
    arena = await rolled("sick:1", replicas=1)
    assert (arena.state.phase, stands(arena.state)) == (Phase.IDLE, (1, 0))
    assert not facts(arena, ev.Inconclusive)


async def test_after_every_batch_it_is_told_how_many_stand() -> None:
    told = [event.reason for event in facts(await rolled(replicas=2), ev.StepPassed)]
    assert [reason for reason in told if "stand" in reason] == [
        "1 old and 0 new stand",
        "1 old and 1 new stand",
        "0 old and 1 new stand",
        "0 old and 2 new stand",
    ]
    assert all(told), "no line is bare"


async def test_as_many_may_fail_as_the_ratio_says_and_not_one_more() -> None:
    arena = await rolled("sick:1", max_failure_ratio=0.34, failure_action=FailureAction.ROLLBACK)
    assert len(facts(arena, ev.ReplicaFailed)) == 2
    assert facts(arena, ev.RolloutEnded)[-1].outcome is Outcome.FAILED


async def test_continue_ends_once_more_failed_than_there_are_replicas() -> None:
    arena = await rolled("sick:1", failure_action=FailureAction.CONTINUE)
    assert len(facts(arena, ev.ReplicaFailed)) == 4
    assert (arena.state.phase, stands(arena.state)) == (Phase.IDLE, (3, 0))


async def test_one_that_dies_while_it_is_watched_comes_again() -> None:
    arena = Arena()
    arena.edge = {"rolling": Rolling(order=START, monitor=1.0, max_failure_ratio=0.5), "replicas": 2}
    await arena.deploy("app:1")
    seen = 0

    def kill_once(command: object) -> None:
        nonlocal seen
        if type(command).__name__ == "Watch":
            seen += 1
            if seen == 2:
                arena.world.kill("shop-web-2-2")

    arena.before_effect = kill_once
    state = await arena.deploy("app:2")
    assert [event.name for event in facts(arena, ev.ReplicaFailed)] == ["shop-web-2-2"]
    assert (state.phase, stands(state)) == (Phase.IDLE, (2, 0))
    assert state.live is not None and state.live.release.id == "web-2"
    assert not arena.broken_promises()


# --- persons ----------------------------------------------------------------------------------------------------


async def test_its_share_cannot_be_told() -> None:
    arena = await rolled("sick:1")
    with pytest.raises(Conflict, match="how many of its replicas stand"):
        orders.weigh(arena.state, 5000, SIGNED)


async def test_traffic_cannot_be_given_to_those_that_did_not_come_yet() -> None:
    arena = await rolled("sick:1")
    with pytest.raises(Conflict, match="how many of its replicas stand"):
        orders.cut_over(arena.state, SIGNED)


@pytest.mark.parametrize("order", Order)
async def test_no_promotion_leaves_out_a_replica_that_is_to_come(order: Order) -> None:
    """Else the old ones would leave for new ones that never came."""
    arena = await rolled("sick:1", replicas=2, order=order)
    assert arena.state.phase is Phase.HELD
    assert orders.choices(arena.state) == ("resume", "abort")
    with pytest.raises(Conflict, match=r"cannot leave out its present step: 1 of 2 new") as refused:
        orders.promote(arena.state, SIGNED)
    assert refused.value.next_step == "proxyctl resume web or proxyctl abort web"
    arena.world.sick.clear()
    state = await arena.order(lambda s: orders.resume(s, SIGNED))
    assert (state.phase, stands(state)) == (Phase.IDLE, (2, 0))
    assert state.live is not None and state.live.release.id == "web-2"


async def test_a_pause_before_a_replica_comes_is_resumed_and_not_promoted() -> None:
    arena = Arena()
    arena.edge = {"rolling": Rolling(monitor=1.0, order=START), "replicas": 1}
    await arena.deploy("app:1")

    def killed_as_it_comes(command: do.Command) -> None:
        if isinstance(command, do.Grow):
            raise KeyboardInterrupt

    arena.before_effect = killed_as_it_comes
    with pytest.raises(KeyboardInterrupt):
        await arena.deploy("app:2")
    arena.before_effect = lambda command: None
    await arena.order(lambda s: orders.pause(s, SIGNED))
    with pytest.raises(Conflict, match="cannot leave out"):
        orders.promote(arena.state, SIGNED)
    assert orders.asked_of_you(arena.state) == "proxyctl resume web or proxyctl abort web"


async def test_promoted_in_full_it_goes_on_without_waits() -> None:
    arena = await rolled("sick:1")
    arena.world.sick.clear()
    state = await arena.order(lambda s: orders.promote_fully(s, SIGNED))
    assert (state.phase, stands(state)) == (Phase.IDLE, (3, 0))
    assert state.live is not None and state.live.release.id == "web-2"


async def test_no_warm_release_is_left_and_a_retained_one_rolls_back() -> None:
    arena = await rolled()
    with pytest.raises(Conflict, match="no warm release"):
        orders.warm(arena.state)
    state = await arena.deploy("app:1", Kind.ROLLBACK)
    assert (state.phase, stands(state), state.standby) == (Phase.IDLE, (3, 0), None)


async def test_workers_change_places_as_well() -> None:
    arena = Arena()
    arena.edge = {"rolling": Rolling(monitor=1.0), "replicas": 2, "port": None}
    await arena.deploy("app:1")
    state = await arena.deploy("app:2")
    assert state.live is not None and state.live.release.id == "web-2"
    assert sorted(arena.world.containers) == ["shop-web-2-1", "shop-web-2-2"]
    assert not arena.world.published


async def test_an_old_release_that_does_not_come_back_is_degraded_and_can_be_recovered() -> None:
    arena = Arena()
    arena.edge = {"rolling": Rolling(parallelism=0, failure_action=FailureAction.ROLLBACK), "replicas": 2}
    await arena.deploy("app:1")
    arena.world.sick |= {"app:1", "app:2"}
    state = await arena.deploy("app:2")
    assert state.phase is Phase.DEGRADED and "shop-web-1-1 was not healthy" in state.trouble
    arena.world.sick.clear()
    state = await arena.resume()
    assert (state.phase, stands(state)) == (Phase.IDLE, (2, 0))
    assert state.live is not None and state.live.release.id == "web-1"
    assert not arena.broken_promises()


async def test_a_replica_that_may_still_run_leaves_before_an_old_one_comes_back() -> None:
    arena = Arena()
    arena.edge = {"rolling": Rolling(parallelism=0, failure_action=FailureAction.ROLLBACK), "replicas": 3}
    arena.world.sick.add("sick:1")
    most = 0

    def count(command: object) -> None:
        nonlocal most
        most = max(most, len(arena.world.containers))

    arena.before_effect = arena.after_effect = count
    await arena.deploy("app:1")
    state = await arena.deploy("sick:1")
    assert (state.phase, stands(state), most) == (Phase.IDLE, (3, 0), 3)


# --- the file ---------------------------------------------------------------------------------------------------


def policy_of(strategy: str, tmp_path: Path) -> tuple[Rolling | None, float]:
    path = tmp_path / "proxyctl.yml"
    path.write_text(
        "project: shop\nservices:\n  web:\n    container: {image: x}\n    port: 80\n    health: {path: /}\n"
        f"    strategy: {strategy}\n"
    )
    (service,) = load(path).services
    return service.rolling, service.bake


def test_a_batch_is_watched_for_as_long_as_its_check_takes_to_fail(tmp_path: Path) -> None:
    assert policy_of("rolling", tmp_path) == (Rolling(monitor=9.0), 9.0)
    recreate = Rolling(parallelism=0, monitor=9.0, failure_action=FailureAction.ROLLBACK)
    assert policy_of("recreate", tmp_path) == (recreate, 9.0)
    assert policy_of("{recreate: {monitor: 1m}}", tmp_path) == (recreate.replace(monitor=60.0), 60.0)


def test_the_words_are_those_of_update_config(tmp_path: Path) -> None:
    words = "parallelism: 2, delay: 10s, order: start-first, monitor: 30s, max_failure_ratio: 0.3"
    policy, _ = policy_of(f"{{rolling: {{{words}, failure_action: continue}}}}", tmp_path)
    assert policy == Rolling(
        parallelism=2,
        delay=10.0,
        order=START,
        monitor=30.0,
        max_failure_ratio=0.3,
        failure_action=FailureAction.CONTINUE,
    )
    assert policy_of("blue-green", tmp_path)[0] is None
