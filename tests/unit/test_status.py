"""What `status` says is true now."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxyctl.adapters.memory import MemoryInspector
from proxyctl.cli.status import lines
from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain import orders, plan
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.progress import Progress
from proxyctl.domain.rollout import advance
from proxyctl.domain.state import Kind
from proxyctl.domain.steps import Approval, Weight
from proxyctl.engine.status import ProjectView, as_json, project_view
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


# --- what a rollback goes to --------------------------------------------------------------------------------------


async def a_pair() -> Arena:
    """web-2 is live, web-1 stands warm."""
    arena = Arena()
    await arena.deploy("app:1")
    await arena.deploy("app:2")
    return arena


async def promised(arena: Arena) -> tuple[str, str | None]:
    """What is said of a rollback: to a person, and to a program."""
    (web,) = as_json(await looked(arena))["services"]
    return (await words(arena))[0].removeprefix("web   idle").strip(), web["warm"]


async def test_a_rollback_is_warm_for_what_is_left_of_the_window() -> None:
    arena = await a_pair()
    arena.world.time += 2.0
    assert await promised(arena) == ("rollback is warm for 3 s more", "web-1")


def removed(arena: Arena) -> None:
    del arena.world.containers["shop-web-1-2"]


def restarted(arena: Arena) -> None:
    arena.world.restart("shop-web-1-2")


def unfit(arena: Arena) -> None:
    """As a rollback leaves it that found it sick."""
    fact = ev.StandbyLost(reason="503")
    arena.store.append([fact], advance(arena.state, fact), "", arena.store.raise_fence(WEB), 1.0)


def unseen(arena: Arena) -> None:
    arena.world.engine_hangs = True


@pytest.mark.parametrize("made", [removed, restarted, unfit, unseen])
async def test_no_rollback_is_called_warm_to_what_is_not_seen_as_it_passed_its_gate(
    made: Callable[[Arena], None],
) -> None:
    arena = await a_pair()
    made(arena)
    assert await promised(arena) == ("", None)


async def test_what_leaves_the_standby_is_not_called_warm() -> None:
    arena = await a_pair()
    runner = arena.runner()
    runner.note(ev.StandbyEnded(reason="its window passed"))
    runner.commit()
    assert await promised(arena) == ("web   draining", None)


# --- what to type next --------------------------------------------------------------------------------------------


async def test_where_nginx_does_not_run_its_start_is_the_next_thing_to_type() -> None:
    arena = await a_pair()
    assert "  next: proxyctl proxy start" not in lines(await looked(arena), arena.clock)
    await arena.proxy.stop()
    assert lines(await looked(arena), arena.clock)[1] == "  next: proxyctl proxy start"


async def test_before_the_first_release_there_is_nothing_to_start() -> None:
    arena = Arena()
    await arena.proxy.stop()
    said = lines(await looked(arena), arena.clock)
    assert (said[-1], "  next: proxyctl proxy start" in said) == ("no service was deployed yet: proxyctl deploy", False)


async def test_whoever_sees_drift_is_told_what_mends_it() -> None:
    arena = await a_pair()
    arena.world.containers.clear()
    assert (await words(arena))[-1] == "next: proxyctl recover web"
    arena.locks.acquire(WEB, "rollout of web")  # whoever drives it sees to it
    assert "next: proxyctl recover web" not in await words(arena)
