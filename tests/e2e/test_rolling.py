"""Old replicas leave as new ones come, under load, with real containers and nginx; and the same the other way round."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxyctl.demo.load import Load, Model
from tests.e2e.shop import ONE, SICK, THREE, TWO, Said, Shop, ended, open_shop

pytestmark = pytest.mark.docker

MODELS = (Model.KEEPALIVE, Model.NEW_CONNECTION)
QUICK = "interval: 100ms, timeout: 400ms, healthy: 2, deadline: 6s"


@asynccontextmanager
async def a_shop(strategy: str, replicas: int = 3, cutover: str = "live") -> AsyncIterator[Shop]:
    """Release 1 is live."""
    async with open_shop(bake="1s") as made:
        made.write("proxy:\n", f"proxy:\n  cutover: {cutover}\n")
        made.write("interval: 200ms, healthy: 2, deadline: 6s", QUICK)
        made.write("    bake: 1s\n    standby: 10m\n    drain: 5s\n", f"    drain: 1s\n    strategy: {strategy}\n")
        made.write("replicas: 2", f"replicas: {replicas}")
        first = await made.type("deploy", "web")
        assert first.code == 0, first.err
        yield made


@asynccontextmanager
async def under_load(shop: Shop) -> AsyncIterator[tuple[Load, Load]]:
    """Not as much as the machine can do: the applications that start need some of it."""
    kept, new = (Load("127.0.0.1", shop.scene.port, model, 3, pause=0.02) for model in MODELS)
    async with kept, new:
        yield kept, new


def running(shop: Shop, image: str) -> int:
    return sum(c.status == "running" and c.image is not None and image in c.image.tags for c in shop.containers())


async def until(shop: Shop, image: str, count: int) -> None:
    async with asyncio.timeout(20):
        while await asyncio.to_thread(running, shop, image) != count:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(("cutover", "replicas"), [("live", 3), ("reload", 2)])
async def test_replicas_change_places_without_a_lost_request(cutover: str, replicas: int) -> None:
    async with a_shop("{rolling: {order: start-first, monitor: 1500ms}}", replicas, cutover) as shop:
        async with under_load(shop) as loads:
            said = await shop.type("deploy", "web", "--image", TWO)
            assert said.code == 0, said.err
            assert (running(shop, ONE), running(shop, TWO)) == (0, replicas)
            shop.write("order: start-first", f"order: stop-first, parallelism: {replicas - 1}")
            said = await shop.type("deploy", "web", "--image", THREE)
            assert said.code == 0, said.err
            assert (running(shop, TWO), running(shop, THREE)) == (0, replicas)
        for load in loads:
            assert not load.failed(), load.failed()[:3]
        back = await shop.type("rollback", "web")
        assert back.code == 4 and "proxyctl rollback web --to web-2" in back.err, back.err


def costs_its_gap_only(loads: tuple[Load, Load], said: Said) -> None:
    """Nothing failed but for as long as the command says, and by nginx's own word."""
    told = re.search(r"nobody answered for ([0-9.]+) s", said.err)
    assert told is not None, said.err
    for load in loads:
        failed = load.failed()
        assert {outcome.problem for outcome in failed} == {"status 503"}
        assert failed[-1].started - failed[0].ended <= float(told[1]) + 0.5, told


async def test_recreate_answers_503_in_the_gap_and_says_how_long_it_was() -> None:
    async with a_shop("recreate", replicas=1) as shop:
        planned = await shop.type("plan", "web")
        assert "nobody answers until the new release has passed its gate" in planned.out, planned.out
        async with under_load(shop) as loads:
            said = await shop.type("deploy", "web", "--image", TWO)
        assert said.code == 0, said.err
        costs_its_gap_only(loads, said)
        assert (running(shop, ONE), running(shop, TWO)) == (0, 1)


async def test_where_each_side_of_the_gap_is_a_reload_it_costs_no_more_of_whatever_end() -> None:
    """A good release, a sick one, and one that a person stops halfway."""
    async with a_shop("recreate", replicas=1, cutover="reload") as shop:
        shop.write("deadline: 6s", "deadline: 3s")
        for image, code in ((TWO, 0), (SICK, 5), (THREE, 5)):
            async with under_load(shop) as loads:
                deploy = await shop.start("deploy", "web", "--image", image)
                if image == THREE:
                    await until(shop, TWO, 0)
                    assert (await shop.type("abort", "web")).code == 0
                said = await ended(deploy)
                await shop.at_rest()
            assert said.code == code, said.err
            costs_its_gap_only(loads, said)
            assert (running(shop, TWO), len(shop.containers())) == (1, 1)


async def test_a_release_that_does_not_get_healthy_leaves_the_old_one_whole() -> None:
    async with a_shop("{rolling: {order: start-first, monitor: 1500ms, failure_action: rollback}}") as shop:
        async with under_load(shop) as loads:
            said = await shop.type("deploy", "web", "--image", SICK)
            assert said.code == 5 and "was not healthy within 6 s" in said.err, said.err
        for load in loads:
            assert not load.failed(), load.failed()[:3]
        assert (running(shop, ONE), len(shop.containers())) == (3, 3)


async def test_an_abort_halfway_brings_the_old_replicas_back() -> None:
    async with a_shop("{rolling: {monitor: 1500ms}}", replicas=2) as shop, under_load(shop) as loads:
        deploy = await shop.start("deploy", "web", "--image", TWO)
        await until(shop, TWO, 1)
        aborted = await shop.type("abort", "web")
        assert aborted.code == 0, aborted.err
        await deploy.communicate()
        await shop.at_rest()
        assert (running(shop, ONE), len(shop.containers())) == (2, 2)
        for load in loads:
            assert not load.failed(), load.failed()[:3]


async def test_a_killed_driver_leaves_a_rollout_that_goes_on() -> None:
    async with a_shop("{rolling: {order: start-first, monitor: 1500ms}}", replicas=2) as shop:
        async with under_load(shop) as loads:
            deploy = await shop.start("deploy", "web", "--image", TWO)
            await until(shop, TWO, 2)  # the first one has traffic
            os.kill(shop.driver(), signal.SIGKILL)
            await deploy.communicate()
            assert (await shop.type("recover")).code == 0
            await shop.at_rest()
        for load in loads:
            assert not load.failed(), load.failed()[:3]
        assert (running(shop, ONE), running(shop, TWO)) == (0, 2)
