"""Many hands on one service: one acts, the others are told; traffic loses nothing and ends where somebody put it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator

import pytest

from tests.e2e.shop import TWO, Shop, open_shop

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
