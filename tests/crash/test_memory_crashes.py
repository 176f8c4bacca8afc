"""Kill the driver at every boundary of every kind of rollout, in memory; then recover, and look at the promises."""

from __future__ import annotations

import pytest

from proxyctl.domain import orders, plan
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.rollout import fold
from proxyctl.domain.state import Kind, Phase, ServiceState
from tests.arena import SIGNED, WEB, Arena


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


async def deploy(arena: Arena) -> ServiceState:
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
    await arena.deploy("app:2", Kind.STAGE, plan.at(500))
    return await arena.order(lambda s: orders.abort(s, Outcome.ABORTED, SIGNED))


async def standby_ends(arena: Arena) -> ServiceState:
    await arena.deploy("app:2")
    return await arena.end_standby()


@pytest.mark.parametrize("story", [deploy, deploy_over_a_standby, sick_deploy, rollback, stage_and_abort, standby_ends])
async def test_a_kill_at_any_boundary_breaks_no_promise(story: object) -> None:
    boundary = 0
    while True:
        boundary += 1
        arena = Arena()
        await arena.deploy("app:1")
        crash_at(arena, boundary)
        try:
            await story(arena)  # type: ignore[operator]
            assert boundary > 10, "the story has boundaries to die at"
            return
        except Killed:
            live_again(arena)
        arena.locks.held.clear()  # the kernel frees the locks of the dead
        during = [p for p in arena.broken_promises() if p[0] in "12c"]
        assert not during, f"boundary {boundary}: {during}"
        state = await arena.resume()
        assert state.phase in (Phase.IDLE, Phase.PAUSED), f"boundary {boundary}: {state.phase}"
        assert not arena.broken_promises(), f"boundary {boundary}: {arena.broken_promises()}"
        assert fold(ServiceState(service=WEB), [e.event for e in arena.store.journal]) == arena.state
        assert await arena.resume() == state, "recovering twice changes nothing"


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
            assert not arena.broken_promises(), f"{first}, {second}: {arena.broken_promises()}"
