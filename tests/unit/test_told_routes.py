"""What nginx is told of a service when a publish goes wrong, and beside services that tell it something else. In
memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxyctl.domain import events as ev
from proxyctl.domain.model import Colour, ProxySettings, Topology
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.split import Split
from proxyctl.domain.state import Phase
from proxyctl.errors import Degraded, OutcomeUnknown, ProxyctlError, PublishRefused
from tests.arena import Arena

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
    assert (recovered.phase, recovered.green) == (Phase.IDLE, None)
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
