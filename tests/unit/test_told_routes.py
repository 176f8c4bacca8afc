"""What nginx is told of a service when a publish goes wrong, and beside services that tell it something else. In
memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxyctl.domain import events as ev
from proxyctl.domain import orders, plan
from proxyctl.domain.model import Colour, ProxySettings, Topology
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.rolling import Rolling
from proxyctl.domain.split import Split
from proxyctl.domain.state import Kind, Phase
from proxyctl.engine.published import settings_in_force
from proxyctl.errors import Degraded, OutcomeUnknown, ProxyctlError, PublishRefused
from tests.arena import SIGNED, Arena

OLD, NEW = ProxySettings(), ProxySettings(workers=3)


async def settings_change(fails_with: ProxyctlError, *, taken: bool = False, times: int = 1) -> Arena:
    """Only the settings of web-2 are news to nginx, and telling them fails; whether it took them is another matter."""
    arena = Arena()
    await arena.deploy("app:1")
    arena.settings, publish, left = NEW, arena.proxy.publish, times

    async def failing(topology: Topology, fence: int, claim: Callable[[], int]) -> int:
        nonlocal left
        if left == 0:
            return await publish(topology, fence, claim)
        left -= 1
        if taken:
            await publish(topology, fence, claim)
        raise fails_with

    arena.proxy.publish = failing  # type: ignore[method-assign]
    await arena.deploy("app:2")
    return arena


def outcomes(arena: Arena) -> list[Outcome]:
    return [entry.event.outcome for entry in arena.store.journal if isinstance(entry.event, ev.RolloutEnded)]


def published(arena: Arena) -> int:
    """How often nginx was seen to answer as it was told."""
    return sum(isinstance(entry.event, ev.RoutePublished) for entry in arena.store.journal)


async def test_a_publish_that_left_nginx_without_any_configuration_is_not_called_safe() -> None:
    arena = await settings_change(Degraded("nginx took neither the new nor the last good generation"), times=2)
    assert (arena.state.phase, arena.state.split) == (Phase.DEGRADED, Split.all_to(Colour.BLUE))
    assert "neither" in arena.state.trouble
    recovered = await arena.resume()
    assert (recovered.phase, recovered.settings, recovered.green) == (Phase.IDLE, OLD, None)
    assert not arena.broken_promises()


@pytest.mark.parametrize("taken", [False, True], ids=["not taken", "taken"])
async def test_a_publish_whose_end_nobody_saw_ends_safe_only_once_nginx_is_seen_to_answer(taken: bool) -> None:
    arena = await settings_change(OutcomeUnknown("nginx did not answer in time"), taken=taken)
    assert (arena.state.phase, outcomes(arena)[-1]) == (Phase.IDLE, Outcome.FAILED)
    assert published(arena) == 2, "web-1's, and the one of the way back"
    topology = arena.proxy.topology()
    assert topology is not None
    assert (arena.state.settings, arena.state.route) == (topology.settings, topology.routes[0])


async def test_a_publish_that_was_refused_left_nothing_to_take_back() -> None:
    arena = await settings_change(PublishRefused("nginx refuses generation 2"))
    assert (arena.state.phase, outcomes(arena)[-1], published(arena)) == (Phase.IDLE, Outcome.FAILED, 1)
    assert arena.state.settings == OLD


# --- settings are the project's -----------------------------------------------------------------------------------


async def another_service_brings(arena: Arena, settings: ProxySettings) -> None:
    """It is deployed from a file that says so, and nginx goes by it."""
    topology = arena.proxy.topology()
    assert topology is not None
    await arena.proxy.publish(topology.replace(settings=settings), 1, arena.store.claim_generation)


def in_force(arena: Arena) -> ProxySettings:
    topology = arena.proxy.topology()
    assert topology is not None
    return topology.settings


async def test_the_batches_of_a_rolling_release_take_no_settings_back_that_came_meanwhile() -> None:
    arena = Arena()
    arena.edge = {"rolling": Rolling(monitor=1.0), "replicas": 3}
    await arena.deploy("app:1")
    half = plan.of(arena.service("app:2"), arena.service("app:1"))[:4]
    await arena.deploy("app:2", steps=(*half, *plan.hold(plan.at_once())))
    await another_service_brings(arena, NEW)
    before = len(arena.world.published)
    await arena.order(lambda s: orders.abort(s, Outcome.ABORTED, SIGNED))
    told = [topology for _, topology in arena.world.published[before:]]
    assert len({topology.routes for topology in told}) > 1, "it was told of batches"
    assert {topology.settings for topology in told} == {NEW}
    assert arena.state.settings == NEW
    assert not arena.broken_promises()


async def test_an_abort_takes_back_its_route_and_no_settings_that_came_meanwhile() -> None:
    arena = Arena()
    await arena.deploy("app:1")
    arena.edge = {"hosts": ("new.example.com",)}
    await arena.deploy("app:2", Kind.STAGE, plan.hold(plan.at_once()))
    await another_service_brings(arena, NEW)
    state = await arena.order(lambda s: orders.abort(s, Outcome.ABORTED, SIGNED))
    assert state.route is not None
    assert (state.route.hosts, state.settings, in_force(arena)) == ((), NEW, NEW)


async def test_settings_that_an_aborted_release_brought_stay_for_they_are_of_all_services() -> None:
    """Another service may be deployed with them since."""
    arena = Arena()
    await arena.deploy("app:1")
    arena.settings, arena.edge = NEW, {"hosts": ("new.example.com",)}
    await arena.deploy("app:2", Kind.STAGE, plan.hold(plan.at_once()))
    state = await arena.order(lambda s: orders.abort(s, Outcome.ABORTED, SIGNED))
    assert state.route is not None
    assert (state.route.hosts, state.settings, in_force(arena)) == ((), NEW, NEW)


async def test_where_the_generation_is_spoiled_the_journal_says_which_settings_are_in_force() -> None:
    arena = Arena()
    await arena.deploy("app:1")
    arena.settings = NEW
    await arena.deploy("app:2")
    arena.settings, arena.edge = OLD, {"hosts": ("new.example.com",)}
    arena.proxy.damage = lambda: "somebody was in it"  # type: ignore[method-assign]
    assert settings_in_force(arena.store, arena.proxy) == NEW


async def test_before_the_first_generation_no_settings_are_in_force() -> None:
    arena = Arena()
    assert settings_in_force(arena.store, arena.proxy) is None
