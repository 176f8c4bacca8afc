"""A candidate that gets sick while it is watched loses its traffic, whatever else is out of order."""

from __future__ import annotations

import pytest

from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain.model import Service
from proxyctl.engine.runner import Facts
from proxyctl.errors import DockerUnavailable
from tests.arena import WEB, Arena


class Baking(Arena):
    def service(self, image: str) -> Service:
        return super().service(image).replace(bake=60.0)


async def test_a_sick_candidate_loses_its_traffic_although_the_engine_hangs() -> None:
    arena = Baking()
    await arena.deploy("app:1")
    before = arena.world.flags[WEB].split

    def out_of_order(command: do.Command) -> None:
        if isinstance(command, do.Watch):
            arena.world.sick.add("app:2")
            arena.world.engine_hangs = True

    arena.before_effect = out_of_order
    with pytest.raises(DockerUnavailable):  # its containers can only be stopped later
        await arena.deploy("app:2")
    assert arena.world.flags[WEB].split.same_traffic(before)
    assert "failed 3 probes in a row: 503" in reason(arena)


async def test_what_became_of_a_container_is_told_although_the_probes_saw_it_first() -> None:
    arena = Baking()
    await arena.deploy("app:1")
    looked = arena.runtime.inspect

    async def late(names: list[str]) -> object:
        """The engine tells nothing until the probes have failed."""
        if len(names) > 1:
            raise DockerUnavailable("not yet")
        return await looked(names)

    def killed(command: do.Command) -> None:
        if isinstance(command, do.Watch):
            arena.world.kill("shop-web-2-1", oom=True)
            arena.runtime.inspect = late  # type: ignore[method-assign, assignment]

    arena.before_effect = killed
    await arena.deploy("app:2")
    assert reason(arena) == "shop-web-2-1 was killed for want of memory (OOM, exit code 137)"


async def test_a_candidate_that_gets_sick_in_the_moment_in_which_its_time_ends_is_not_promoted() -> None:
    arena = Baking()
    placed = (await arena.deploy("app:1")).live
    assert placed is not None
    arena.world.kill(placed.replicas[0].name)
    watch = arena.watch()

    async def at_once() -> Facts:
        return [ev.StepPassed()]

    for _ in range(20):  # whichever of the two is looked at first
        (fact,) = await watch.during(at_once(), placed)
        assert isinstance(fact, ev.CandidateFailed)


def reason(arena: Arena) -> str:
    (failed,) = [e.event for e in arena.store.entries() if isinstance(e.event, ev.CandidateFailed)]
    return failed.reason
