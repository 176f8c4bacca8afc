"""The engine came back and started releases anew: they serve on, and are gated again as they run now. In memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from proxyctl.adapters.memory import MemoryInspector
from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain import orders, plan
from proxyctl.domain.deciding import decide
from proxyctl.domain.model import Colour
from proxyctl.domain.split import Split
from proxyctl.domain.state import Kind, Phase, ServiceState
from proxyctl.engine.bus import Bus
from proxyctl.engine.status import ServiceView, service_view
from proxyctl.engine.supervisor import Supervisor
from tests.arena import SIGNED, WEB
from tests.journal_checks import states_of
from tests.unit.test_steering import Town, rollback

BLUE, GREEN = Colour.BLUE, Colour.GREEN
ABOUT_RESTARTS = (ev.Restarted, ev.Regated, ev.RegateFailed)


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    """One live release, in blue."""
    town = Town()
    await town.arena.deploy("app:1")
    yield town


@pytest.fixture
async def pair(town: Town) -> Town:
    """The live release in green, the one before it warm in blue; each covers the other."""
    await town.arena.deploy("app:2")
    assert town.arena.state.cover
    return town


def restart(town: Town, colour: Colour) -> None:
    placed = town.arena.state.at(colour)
    assert placed is not None
    for replica in placed.replicas:
        town.arena.world.restart(replica.name)


def a_guard(town: Town) -> Supervisor:
    return Supervisor(
        store=town.arena.store,
        locks=town.arena.locks,
        clock=town.arena.clock,
        splits=town.arena.splits,
        inspector=MemoryInspector(town.arena.world),
        hands=town.arena.hands,
        bus=Bus(),
        woken=asyncio.Event(),
    )


async def guarded(town: Town) -> None:
    """A guard looks until nothing is in doubt."""
    guard = asyncio.create_task(a_guard(town).guard(WEB))
    await town.until(lambda state: not any(placed and placed.in_doubt for placed in (state.blue, state.green)))
    guard.cancel()
    await asyncio.gather(guard, return_exceptions=True)


async def seen(town: Town) -> ServiceView:
    return await service_view(town.arena.state, town.arena.splits, MemoryInspector(town.arena.world), None)


async def health_of(town: Town, colour: Colour) -> set[str]:
    view = await seen(town)
    return {replica.health for r in view.releases if r.placed.colour is colour for replica in r.replicas}


def told(town: Town) -> list[type[ev.Event]]:
    return [type(entry.event) for entry in town.arena.store.journal if isinstance(entry.event, ABOUT_RESTARTS)]


def as_of(town: Town, kind: type[ev.Event]) -> ServiceState:
    """The state that the first event of this kind led to."""
    journal = town.arena.store.journal
    (at, *_) = [number for number, entry in enumerate(journal, 1) if isinstance(entry.event, kind)]
    return states_of(journal[:at])[WEB]


# --- at rest ------------------------------------------------------------------------------------------------------


async def test_a_restarted_live_release_is_gated_again_by_recover_and_status_says_so_meanwhile(town: Town) -> None:
    restart(town, BLUE)
    assert await health_of(town, BLUE) == {"restarted, not gated"}
    await town.steering.recover(WEB)
    assert await health_of(town, BLUE) == {"restarted, not gated"}
    assert (town.guarded, town.driven_by) == ([WEB], "nobody")
    await guarded(town)
    assert (await health_of(town, BLUE), (await seen(town)).drift) == ({"healthy"}, ())
    assert told(town) == [ev.Restarted, ev.Regated]
    assert town.traffic == Split.all_to(BLUE)


async def test_while_the_engine_is_away_status_says_why_no_health_is_known(town: Town) -> None:
    town.arena.world.engine_hangs = True
    assert ((await seen(town)).unseen, await health_of(town, BLUE)) == ("the engine did not answer", {"unknown"})
    town.arena.world.engine_hangs = False
    assert ((await seen(town)).unseen, await health_of(town, BLUE)) == ("", {"healthy"})


@pytest.mark.parametrize("colour", [GREEN, BLUE])
async def test_an_engine_that_restarts_one_container_after_the_other_is_waited_for(pair: Town, colour: Colour) -> None:
    placed = pair.arena.state.at(colour)
    assert placed is not None
    first, second = (replica.name for replica in placed.replicas)
    pair.arena.world.restart(first)
    sleep, slept = pair.arena.clock.sleep, 0

    async def meanwhile(seconds: float) -> None:
        """It is down for a while, and comes back in another life."""
        nonlocal slept
        slept += ev.Restarted in told(pair)
        if slept == 2:
            pair.arena.world.kill(second)
        if slept == 6:
            pair.arena.world.restart(second)
        await sleep(seconds)

    pair.arena.clock.sleep = meanwhile  # type: ignore[method-assign]
    await pair.steering.recover(WEB)
    await guarded(pair)
    assert await health_of(pair, colour) == {"healthy"}
    assert told(pair)[-2:] == [ev.Restarted, ev.Regated]
    assert ev.RegateFailed not in told(pair)


async def test_a_live_release_that_does_not_pass_again_serves_on_and_status_says_why(pair: Town) -> None:
    restart(pair, GREEN)
    pair.arena.world.sick.add("app:2")
    await pair.steering.recover(WEB)
    await guarded(pair)
    state = as_of(pair, ev.RegateFailed)
    assert (state.split, state.cover) == (Split.all_to(GREEN), True), "the standby covers what is sick"
    assert pair.traffic == state.split
    assert await health_of(pair, GREEN) == {"failed its gate"}
    (drift,) = (await seen(pair)).drift
    assert drift.startswith("web-2 did not pass its gate after a restart and serves on: shop-web-2-")


async def test_it_is_asked_again_by_the_next_recover(town: Town) -> None:
    restart(town, BLUE)
    town.arena.world.sick.add("app:1")
    await town.steering.recover(WEB)
    await guarded(town)
    town.arena.world.sick.clear()
    await town.steering.recover(WEB)
    await guarded(town)
    assert told(town) == [ev.Restarted, ev.RegateFailed, ev.Restarted, ev.Regated]
    assert await health_of(town, BLUE) == {"healthy"}


async def test_a_restarted_standby_covers_nobody_until_it_passed_again(pair: Town) -> None:
    restart(pair, BLUE)
    assert (await pair.steering.recover(WEB)).cover is False
    assert await health_of(pair, BLUE) == {"restarted, not gated"}
    await guarded(pair)
    assert pair.arena.state.cover
    assert await health_of(pair, BLUE) == {"healthy"}
    assert isinstance(decide(pair.arena.state), do.Stand)


async def test_a_guard_sees_a_restarted_standby_by_itself(pair: Town) -> None:
    restart(pair, BLUE)
    guard = asyncio.create_task(a_guard(pair).guard(WEB))
    await pair.until(lambda state: state.at(BLUE) is not None and pair.journaled(ev.Regated) == 1 and state.cover)
    guard.cancel()
    await asyncio.gather(guard, return_exceptions=True)
    assert told(pair) == [ev.Restarted, ev.Regated]


async def test_a_restarted_standby_that_does_not_pass_is_no_way_back(pair: Town) -> None:
    restart(pair, BLUE)
    pair.arena.world.sick.add("app:1")
    await a_guard(pair).guard(WEB)
    assert pair.arena.state.blue is None
    assert pair.traffic == Split.all_to(GREEN)
    assert not pair.arena.broken_promises()


async def test_a_guard_that_gates_again_holds_no_lock(town: Town) -> None:
    restart(town, BLUE)
    town.arena.world.sick.add("app:1")
    await town.steering.recover(WEB)
    guard = asyncio.create_task(a_guard(town).guard(WEB))
    for _ in range(200):
        await asyncio.sleep(0)
        assert town.driven_by == "nobody"
    assert not guard.done()
    guard.cancel()


async def test_a_verdict_on_what_left_meanwhile_is_thrown_away(pair: Town) -> None:
    restart(pair, GREEN)
    pair.arena.world.sick.add("app:2")
    await pair.steering.recover(WEB)
    guard = asyncio.create_task(a_guard(pair).guard(WEB))
    await asyncio.sleep(0)
    await pair.arena.deploy("app:3")
    await guard
    live = pair.arena.state.live
    assert live is not None
    assert (live.release.id, live.sick) == ("web-3", "")
    assert not pair.arena.broken_promises()


# --- the next rollout ---------------------------------------------------------------------------------------------


async def test_a_deploy_gates_the_restarted_live_release_before_its_own(town: Town) -> None:
    restart(town, BLUE)
    await town.arena.deploy("app:2")
    kinds = [type(entry.event) for entry in town.arena.store.journal]
    last_gate = len(kinds) - kinds[::-1].index(ev.GatePassed)
    assert kinds.index(ev.Regated) < last_gate
    assert town.arena.state.cover, "the release before is as gated as any"


async def test_a_deploy_cures_a_live_release_that_did_not_pass_again(town: Town) -> None:
    restart(town, BLUE)
    town.arena.world.sick.add("app:1")
    began = town.arena.world.time
    state = await town.arena.deploy("app:2")
    assert town.arena.world.time - began < 15, "nobody waits long for the verdict on what is replaced"
    assert told(town) == [ev.Restarted, ev.RegateFailed]
    assert (state.phase, town.traffic, state.cover) == (Phase.IDLE, Split.all_to(GREEN), False)
    assert isinstance(stand := decide(state), do.Stand)
    assert stand.window == 0, "what failed is no way back"


async def test_a_weight_gates_the_live_release_that_keeps_traffic(pair: Town) -> None:
    restart(pair, GREEN)
    order = await pair.arena.order(
        lambda s: orders.open_warm(s, Kind.WEIGHT, plan.at(500, plan.at_once()), orders.warm(s), SIGNED)
    )
    assert order.phase is Phase.PAUSED
    assert told(pair) == [ev.Restarted, ev.Regated]
    assert await health_of(pair, GREEN) == {"healthy"}


async def test_a_rollback_waits_for_no_verdict_on_what_it_leaves(pair: Town) -> None:
    restart(pair, GREEN)
    pair.arena.world.sick.add("app:2")
    began = pair.arena.world.time
    await pair.steering.steer(WEB, rollback, "rollback")
    assert pair.traffic == Split.all_to(BLUE)
    assert pair.arena.world.time - began < 0.1
    assert not pair.arena.world.flags[WEB].cover, "what was left was restarted: it covers nobody"
    assert pair.guarded == [WEB]
    await guarded(pair)
    assert told(pair) == [ev.Restarted, ev.RegateFailed]


async def test_a_rollback_to_a_restarted_standby_gates_it_and_takes_the_cover_away_before(pair: Town) -> None:
    restart(pair, BLUE)
    await pair.arena.rollback()
    since = [type(e.event) for e in pair.arena.store.journal][-20:]
    assert since.index(ev.SplitMoved) < since.index(ev.GatePassed)
    assert pair.traffic == Split.all_to(BLUE)
    assert not pair.arena.broken_promises()


async def test_where_nothing_was_restarted_a_rollback_tells_of_nothing_new(pair: Town) -> None:
    await pair.steering.steer(WEB, rollback, "rollback")
    assert told(pair) == []


async def test_an_engine_that_does_not_answer_is_no_verdict(town: Town) -> None:
    restart(town, BLUE)
    town.arena.world.engine_hangs = True
    await town.steering.recover(WEB)
    assert told(town) == []
    town.arena.world.engine_hangs = False
    await town.steering.recover(WEB)
    town.arena.world.engine_hangs = True
    guard = asyncio.create_task(a_guard(town).guard(WEB))
    await asyncio.sleep(0)
    town.arena.world.engine_hangs = False
    async with asyncio.timeout(5):
        await guard
    assert told(town) == [ev.Restarted, ev.Regated]
