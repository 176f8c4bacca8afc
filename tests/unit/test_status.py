"""What `status` says is true now."""

from __future__ import annotations

import pytest

from proxyctl.adapters.memory import MemoryInspector
from proxyctl.cli.status import lines
from proxyctl.domain import commands as do
from proxyctl.domain import orders, plan
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.progress import Progress
from proxyctl.domain.state import Kind
from proxyctl.domain.steps import Approval, Weight
from proxyctl.engine.status import ProjectView, project_view
from tests.arena import SIGNED, WEB, Arena


class Killed(BaseException):
    """The process that drove it."""


async def looked(arena: Arena) -> ProjectView:
    proxy, inspector = await arena.proxy.status(), MemoryInspector(arena.world)
    return await project_view("shop", arena.store, arena.splits, inspector, arena.locks, proxy, None)


async def words(arena: Arena) -> list[str]:
    """Of web, as a person reads them."""
    text = lines(await looked(arena), arena.clock)
    return [line.strip() for line in text[text.index("") + 1 :]]


async def said_of_step(arena: Arena, step: int) -> str:
    """What is shown when the last verdict was of this step."""
    assert arena.state.rollout is not None
    fence = arena.store.raise_fence(WEB)
    kept = Progress(rollout=arena.state.rollout.id, step=step, spent=3.0, share=500, said="waiting at 5 %")
    arena.store.keep(WEB, kept, fence)
    (web,) = (await looked(arena)).services
    return web.said


async def test_the_verdict_on_a_step_that_is_over_is_not_shown_beside_the_next() -> None:
    arena = Arena()
    await arena.deploy("app:1")
    await arena.deploy("app:2", Kind.DEPLOY, (Weight(share=500), Approval()))
    assert await said_of_step(arena, 0) == ""
    assert await said_of_step(arena, 1) == "waiting at 5 %"


# --- what is taken back -------------------------------------------------------------------------------------------


async def leaving() -> Arena:
    """A canary was aborted, and its containers ended just now."""
    arena = Arena()
    await arena.deploy("app:1")
    await arena.deploy("app:2", Kind.STAGE, plan.at(2500, plan.at_once()))
    runner = arena.runner()
    runner.note(orders.abort(runner.state, Outcome.ABORTED, SIGNED.replace(reason="too slow")))
    arena.before_effect = lambda command: stopped(arena) if isinstance(command, do.Retire) else None
    with pytest.raises(Killed):
        await runner.run()
    return arena


def stopped(arena: Arena) -> None:
    candidate = arena.state.candidate
    assert candidate is not None
    for replica in candidate.replicas:
        del arena.world.containers[replica.name]
    raise Killed


async def test_containers_that_leave_as_told_are_no_drift() -> None:
    (web,) = (await looked(await leaving())).services
    assert {replica.health for release in web.releases for replica in release.replicas} == {"healthy", "absent"}
    assert web.drift == ("rollout web-r2 is aborting and nobody drives it",)


async def test_of_a_rollout_that_is_taken_back_it_is_said_why_and_no_step() -> None:
    said = await words(await leaving())
    assert said[:2] == ["web   aborting   rollout web-r2 of web-2, by tester", "taken back: too slow"]
