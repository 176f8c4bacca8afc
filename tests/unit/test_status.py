"""What `status` says of a rollout is of the step in which it is."""

from __future__ import annotations

from proxyctl.adapters.memory import MemoryInspector
from proxyctl.domain.progress import Progress
from proxyctl.domain.state import Kind
from proxyctl.domain.steps import Approval, Weight
from proxyctl.engine.status import project_view
from tests.arena import WEB, Arena


async def said_of_step(arena: Arena, step: int) -> str:
    """What is shown when the last verdict was of this step."""
    assert arena.state.rollout is not None
    fence = arena.store.raise_fence(WEB)
    kept = Progress(rollout=arena.state.rollout.id, step=step, spent=3.0, share=500, said="waiting at 5 %")
    arena.store.keep(WEB, kept, fence)
    proxy, inspector = await arena.proxy.status(), MemoryInspector(arena.world)
    view = await project_view("shop", arena.store, arena.splits, inspector, arena.locks, proxy, None)
    (web,) = view.services
    return web.said


async def test_the_verdict_on_a_step_that_is_over_is_not_shown_beside_the_next() -> None:
    arena = Arena()
    await arena.deploy("app:1")
    await arena.deploy("app:2", Kind.DEPLOY, (Weight(share=500), Approval()))
    assert await said_of_step(arena, 0) == ""
    assert await said_of_step(arena, 1) == "waiting at 5 %"
