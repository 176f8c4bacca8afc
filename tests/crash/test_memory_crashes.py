"""Kill the driver at every boundary of every kind of rollout, in memory; then recover, and look at the promises."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from proxyctl.adapters.memory import MemoryInspector, MemoryRuntime
from proxyctl.domain import events as ev
from proxyctl.domain import orders, plan
from proxyctl.domain.container import HOST_NETWORK
from proxyctl.domain.model import Match, Mirror, ProxySettings, ServiceName
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.rolling import FailureAction, Rolling
from proxyctl.domain.rolling import Order as RollingOrder
from proxyctl.domain.state import Kind, Phase, ServiceState
from proxyctl.engine.steering import Steering
from proxyctl.errors import Conflict, Fenced
from proxyctl.ports import Lock
from tests.arena import SIGNED, WEB, Arena, AtPauseError, a_service
from tests.journal_checks import broken_journal, states_of

Story = Callable[[Arena], Awaitable[ServiceState]]
Order = Callable[[ServiceState], ev.Event]


class Killed(BaseException):
    """The process is gone; nothing after this line runs."""


def crash_at(arena: Arena, boundary: int) -> None:
    """Die at the n-th boundary: before and after every command, and before and after every commit."""
    passed = 0
    append = arena.store.append

    def boundary_reached(*_: object) -> None:
        nonlocal passed
        passed += 1
        if passed == boundary:
            raise Killed

    def commit(*args: object) -> None:
        boundary_reached()
        append(*args)  # type: ignore[arg-type]
        boundary_reached()

    arena.before_effect = arena.after_effect = boundary_reached
    arena.store.append = commit  # type: ignore[method-assign, assignment]


def live_again(arena: Arena) -> None:
    arena.before_effect = arena.after_effect = lambda command: None
    arena.store.append = type(arena.store).append.__get__(arena.store)  # type: ignore[method-assign]


def everything(arena: Arena) -> tuple[object, ...]:
    """What a second recovery must leave alone."""
    world = arena.world
    seen = (world.containers, world.policies, world.published, world.flags, world.moves, arena.store.journal)
    return (arena.state, *copy.deepcopy(seen))


def broken(arena: Arena) -> list[str]:
    found = arena.broken_promises() + broken_journal(arena.store.journal)
    if states_of(arena.store.journal) != {WEB: arena.state}:
        found.append("4: the snapshot is not what the journal folds to")
    flags = arena.world.flags.get(WEB)
    if arena.state.phase is Phase.IDLE and (flags is not None and flags.cover) != arena.state.cover:
        found.append("7: the journal and the flags differ about the cover")
    if arena.state.phase is Phase.IDLE and (topology := arena.proxy.topology()) is not None:
        routes = {route.service: route for route in topology.routes}
        if (routes.get(WEB), topology.settings) != (arena.state.route, arena.state.settings):
            found.append("7: the journal and nginx differ about the route")
    if arena.state.phase is Phase.IDLE and flags is not None and flags.preview is not None:
        found.append("1: rules lead to a release, and no rollout runs")
    return found


# --- stories ----------------------------------------------------------------------------------------------------


async def deploy(arena: Arena) -> ServiceState:
    return await arena.deploy("app:2")


async def deploy_with_other_settings(arena: Arena) -> ServiceState:
    arena.settings = ProxySettings(workers=3)
    return await arena.deploy("app:2")


async def deploy_for_another_host(arena: Arena) -> ServiceState:
    arena.edge = {"hosts": ("shop.example.com",)}
    return await arena.deploy("app:2")


async def deploy_over_a_standby(arena: Arena) -> ServiceState:
    await arena.deploy("app:2")
    return await arena.deploy("app:3")


async def sick_deploy(arena: Arena) -> ServiceState:
    arena.world.sick.add("sick:1")
    return await arena.deploy("sick:1")


async def rollback(arena: Arena) -> ServiceState:
    await arena.deploy("app:2")
    return await arena.rollback()


async def stage_and_abort(arena: Arena) -> ServiceState:
    await arena.deploy("app:2", Kind.STAGE, plan.at(500, plan.at_once()))
    return await arena.order(lambda s: orders.abort(s, Outcome.ABORTED, SIGNED))


async def standby_ends(arena: Arena) -> ServiceState:
    await arena.deploy("app:2")
    return await arena.end_standby()


async def canary_grows(arena: Arena) -> ServiceState:
    await arena.deploy("app:2", Kind.STAGE, plan.at(500, plan.at_once()))
    await arena.order(lambda s: orders.change_plan(s, plan.at(5000, plan.at_once()), SIGNED))
    return await arena.order(lambda s: orders.change_plan(s, plan.blue_green(1.0), SIGNED))


async def canary_shrinks(arena: Arena) -> ServiceState:
    await arena.deploy("app:2")
    await arena.order(lambda s: orders.open_warm(s, Kind.WEIGHT, plan.at(5000, plan.at_once()), orders.warm(s), SIGNED))
    return await arena.order(lambda s: orders.change_plan(s, plan.at(0, plan.at_once()), SIGNED))


async def previewed_and_aborted(arena: Arena) -> ServiceState:
    arena.edge = {"matches": (Match(host="preview.example.com"),)}
    await arena.deploy("app:2", Kind.STAGE, plan.hold(plan.at_once()))
    return await arena.order(lambda s: orders.abort(s, Outcome.ABORTED, SIGNED))


async def previewed_and_promoted(arena: Arena) -> ServiceState:
    arena.edge = {"mirror": Mirror(share=1000)}
    await arena.deploy("app:2", Kind.STAGE, plan.hold(plan.at_once()))
    await arena.order(lambda s: orders.change_plan(s, plan.at(500, plan.at_once()), SIGNED))
    return await arena.order(lambda s: orders.change_plan(s, plan.blue_green(1.0), SIGNED))


async def deploy_over_a_restarted_release(arena: Arena) -> ServiceState:
    restart_live(arena)
    return await arena.deploy("app:2")


async def rollback_from_a_restarted_release(arena: Arena) -> ServiceState:
    await arena.deploy("app:2")
    restart_live(arena)
    return await arena.rollback()


async def canary_beside_a_restarted_release(arena: Arena) -> ServiceState:
    await arena.deploy("app:2")
    restart_live(arena)
    arena.world.sick.add("app:2")
    return await arena.order(
        lambda s: orders.open_warm(s, Kind.WEIGHT, plan.at(5000, plan.at_once()), orders.warm(s), SIGNED)
    )


def rolls(arena: Arena, order: RollingOrder, parallelism: int = 1, replicas: int = 3, **policy: Any) -> None:
    rolling = Rolling(parallelism=parallelism, order=order, monitor=1.0, **policy)
    arena.edge = {"rolling": rolling, "replicas": replicas}


async def rolled_start_first(arena: Arena) -> ServiceState:
    rolls(arena, RollingOrder.START_FIRST, delay=1.0)
    return await arena.deploy("app:2")


async def rolled_stop_first(arena: Arena) -> ServiceState:
    rolls(arena, RollingOrder.STOP_FIRST)
    return await arena.deploy("app:2")


async def recreated(arena: Arena) -> ServiceState:
    rolls(arena, RollingOrder.STOP_FIRST, parallelism=0)
    return await arena.deploy("app:2")


async def sick_rolled(arena: Arena) -> ServiceState:
    rolls(arena, RollingOrder.START_FIRST, failure_action=FailureAction.ROLLBACK)
    arena.world.sick.add("sick:1")
    return await arena.deploy("sick:1")


async def sick_recreated(arena: Arena) -> ServiceState:
    rolls(arena, RollingOrder.STOP_FIRST, parallelism=0, failure_action=FailureAction.ROLLBACK)
    arena.world.sick.add("sick:1")
    return await arena.deploy("sick:1")


async def onto_the_host_and_again(arena: Arena) -> ServiceState:
    to_the_host(arena)
    await arena.deploy("app:2")
    return await arena.deploy("app:3")


async def sick_on_the_host(arena: Arena) -> ServiceState:
    to_the_host(arena)
    await arena.deploy("app:2")
    arena.world.sick.add("sick:1")
    return await arena.deploy("sick:1")


def to_the_host(arena: Arena) -> None:
    """There a release that starts while another one stands finds its port taken."""
    rolls(arena, RollingOrder.STOP_FIRST, parallelism=0, replicas=1, failure_action=FailureAction.ROLLBACK)
    arena.networks = (HOST_NETWORK,)


async def rolled_and_aborted_halfway(arena: Arena) -> ServiceState:
    rolls(arena, RollingOrder.STOP_FIRST)
    half = plan.of(arena.service("app:2"), a_service())[:6]
    await arena.deploy("app:2", steps=(*half, *plan.hold(plan.at_once())))
    return await arena.order(lambda s: orders.abort(s, Outcome.ABORTED, SIGNED))


def restart_live(arena: Arena) -> None:
    """By the engine; nobody looked yet."""
    assert arena.state.live is not None
    for replica in arena.state.live.replicas:
        arena.world.restart(replica.name)


STORIES: tuple[Story, ...] = (
    deploy,
    deploy_with_other_settings,
    deploy_for_another_host,
    deploy_over_a_standby,
    sick_deploy,
    rollback,
    stage_and_abort,
    standby_ends,
    canary_grows,
    canary_shrinks,
    previewed_and_aborted,
    previewed_and_promoted,
    deploy_over_a_restarted_release,
    rollback_from_a_restarted_release,
    canary_beside_a_restarted_release,
    rolled_start_first,
    rolled_stop_first,
    recreated,
    sick_rolled,
    sick_recreated,
    onto_the_host_and_again,
    sick_on_the_host,
    rolled_and_aborted_halfway,
)


async def killed_at(boundary: int, story: Story) -> Arena | None:
    """What a kill leaves behind; None when the story ended before."""
    arena = Arena()
    await arena.deploy("app:1")
    crash_at(arena, boundary)
    try:
        await story(arena)
    except Killed:
        live_again(arena)
        arena.locks.held.clear()  # the kernel frees the locks of the dead
        return arena
    assert boundary > 10, "the story has boundaries to die at"
    return None


@pytest.mark.parametrize("story", STORIES)
async def test_a_kill_at_any_boundary_breaks_no_promise(story: Story) -> None:
    boundary = 1
    while arena := await killed_at(boundary, story):
        where = f"boundary {boundary}"
        during = [p for p in broken(arena) if p[0] in "12c"] + broken_journal(arena.store.journal)
        assert not during, f"{where}: {during}"
        state = await arena.resume()
        assert state.phase in (Phase.IDLE, Phase.PAUSED), f"{where}: {state.phase}"
        assert not broken(arena), f"{where}: {broken(arena)}"
        once = everything(arena)
        await arena.resume()
        assert everything(arena) == once, f"{where}: recovering twice changes nothing"
        boundary += 1


async def test_a_kill_inside_the_recovery_breaks_no_promise() -> None:
    for first in range(1, 30):
        for second in range(1, 12):
            arena = Arena()
            await arena.deploy("app:1")
            try:
                crash_at(arena, first)
                await arena.deploy("app:2")
            except Killed:
                pass
            live_again(arena)
            try:
                crash_at(arena, second)
                await arena.resume()
            except Killed:
                pass
            live_again(arena)
            state = await arena.resume()
            assert state.phase is Phase.IDLE
            assert not broken(arena), f"{first}, {second}: {broken(arena)}"


# --- a person who types something else than `recover` ---------------------------------------------------------------


class NoProcesses:
    """Here the hands of a command reach to the end: nothing is left to others."""

    def drive(self, service: ServiceName, lock: Lock) -> None: ...

    def guard(self, service: ServiceName) -> None: ...

    async def wake(self, service: ServiceName) -> None: ...


async def typed(arena: Arena, order: Order) -> None:
    """Carry out an order as the command does. What the state does not allow, or what waits for more, is fine too."""
    steering = Steering(
        store=arena.store,
        locks=arena.locks,
        clock=arena.clock,
        splits=arena.splits,
        inspector=MemoryInspector(arena.world),
        processes=NoProcesses(),
        hands=arena.hands,
        put_back=MemoryRuntime(arena.world).put_back,
    )
    with suppress(Conflict, AtPauseError):
        await steering.act(WEB, order, "test")


def abort(state: ServiceState) -> ev.Event:
    return orders.abort(state, Outcome.ABORTED, SIGNED)


def back(state: ServiceState) -> ev.Event:
    if state.rollout is not None:
        return orders.abort(state, Outcome.ROLLED_BACK, SIGNED)
    return orders.open_warm(state, Kind.ROLLBACK, plan.at_once(), orders.warm(state), SIGNED)


def weight(state: ServiceState) -> ev.Event:
    if state.rollout is not None:
        return orders.weigh(state, 1000, SIGNED)
    return orders.open_warm(state, Kind.WEIGHT, plan.at(1000, plan.at_once()), orders.warm(state), SIGNED)


@pytest.mark.parametrize("order", [abort, back, weight])
@pytest.mark.parametrize("story", STORIES)
async def test_any_order_after_a_kill_breaks_no_promise(story: Story, order: Order) -> None:
    boundary = 1
    while arena := await killed_at(boundary, story):
        await typed(arena, order)
        assert not broken(arena), f"boundary {boundary}: {broken(arena)}"
        boundary += 1


async def test_a_driver_that_was_replaced_writes_nothing_more() -> None:
    arena = Arena()
    await arena.deploy("app:1")
    replaced = arena.runner()
    arena.runner()
    before = arena.store.entries()
    replaced.note(await arena.open("app:2"))
    with pytest.raises(Fenced):
        await replaced.run()
    assert arena.store.entries() == before
    assert len(arena.world.containers) == 2, "nor does it act"
