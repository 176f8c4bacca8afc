"""Many hands on one service: one acts, the others are told; traffic loses nothing and ends where somebody put it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import docker
import pytest

from tests.e2e.shop import THREE, TWO, Shop, ended, open_shop
from tests.tiny_registry import Registry, registry

pytestmark = pytest.mark.docker

OPERATORS, ROUNDS = (16, 20) if os.environ.get("PROXYCTL_PROVE") == "full" else (8, 3)


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    """Release 2 is live, release 1 stands warm."""
    async with open_shop(bake="0s") as made:
        for words in (("deploy", "web"), ("deploy", "web", "--image", TWO)):
            assert (await made.type(*words)).code == 0
        yield made


@pytest.mark.timeout(600)
async def test_many_at_once_act_one_after_the_other_or_are_told(shop: Shop) -> None:
    orders = [("rollback", "web"), ("switch", "web"), ("weight", "web", "30"), ("abort", "web")] * (OPERATORS // 4)
    async with shop.load() as load:
        for _ in range(ROUNDS):
            for said in await asyncio.gather(*(shop.type(*words) for words in orders)):
                assert said.code in (0, 4, 5), said.err
                assert "Traceback" not in said.err
                assert "serving" in said.err or "live:" in said.err, said.err
    assert load.failed() == []
    web = await shop.web()
    if web["phase"] == "paused":  # the last word was a weight
        assert set(web["split"].values()) == {30.0, 70.0}
        assert (await shop.type("abort", "web")).code == 0
    assert sorted((await shop.at_rest())["split"].values()) == [0.0, 100.0]


async def test_of_two_deploys_at_once_one_goes_on_and_the_other_names_it(shop: Shop) -> None:
    said = await asyncio.gather(*(shop.type("deploy", "web") for _ in range(2)))
    assert sorted(each.code for each in said) == [0, 4]
    refused = next(each for each in said if each.code == 4)
    assert "web" in refused.err
    assert "next:" in refused.err
    told = json.loads((await shop.type("history", "web", "--json")).out)
    assert [chapter["outcome"] for chapter in told] == ["promoted"] * 3


@asynccontextmanager
async def a_shelf() -> AsyncIterator[Registry]:
    """Nothing of it stays on the engine."""
    async with registry() as shelf:
        yield shelf
        with closing(docker.from_env()) as engine:
            engine.images.remove(shelf.image("tiny:1"), force=True)


async def test_a_deploy_that_waits_for_its_pull_meanwhile_is_overtaken_and_touches_nothing(shop: Shop) -> None:
    """Both would be web-3, and containers of that name serve by then."""
    async with a_shelf() as shelf, shop.load() as load:
        shelf.answers.clear()
        slow = await shop.start("deploy", "web", "--image", shelf.image("tiny:1"))
        await shelf.asked.wait()
        assert (await shop.type("deploy", "web", "--image", THREE)).code == 0
        serving = {container.id for container in shop.containers("release=web-3")}
        shelf.answers.set()
        said = await ended(slow)
        assert {container.id for container in shop.containers("release=web-3")} == serving
    assert load.failed() == []
    assert said.code == 4, said.err
    assert "rollout web-r3 came in between, while this one was prepared" in said.err
    assert "serving: web: web-3" in said.err
    assert "next:    proxyctl history web; repeat it" in said.err
