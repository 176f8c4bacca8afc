"""`cutover: reload`: the same commands, each move a reload, and no request lost."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from proxyctl.demo.load import Model
from tests.e2e.shop import SICK, TWO, Shop, open_shop

pytestmark = pytest.mark.docker

FILE = """\
project: PROJECT
proxy: {http: "127.0.0.1:PORT", cutover: reload, workers: 1}
services:
  web:
    container: {image: "proxyctl-demo:1", stop_grace_period: 2s}
    port: 8000
    replicas: 2
    health: {path: /healthz, interval: 200ms, healthy: 2, deadline: 6s}
    bake: 0s
    standby: 10m
    drain: 3s
"""


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with open_shop(file=FILE) as made:
        yield made


async def served(shop: Shop, requests: int) -> Counter[bytes]:
    return Counter([(await shop.get("/"))[-2:-1] for _ in range(requests)])


async def test_every_way_traffic_moves_loses_no_request(shop: Shop) -> None:
    assert (await shop.type("deploy", "web")).code == 0
    async with shop.load(Model.KEEPALIVE) as kept, shop.load(Model.NEW_CONNECTION) as new:
        assert (await shop.type("stage", "web", "--image", TWO)).code == 0
        assert await served(shop, 20) == {b"1": 20}
        assert (await shop.type("weight", "web", "25")).code == 0
        assert (await shop.web())["split"] == {"blue": 75.0, "green": 25.0}
        assert (await shop.type("abort", "web")).code == 0
        assert await served(shop, 20) == {b"1": 20}
        await shop.at_rest()
        assert (await shop.type("deploy", "web", "--image", TWO)).code == 0
        assert await served(shop, 20) == {b"2": 20}
        back = await shop.type("rollback", "web")
        assert back.code == 0, back.err
        assert await served(shop, 20) == {b"1": 20}
        assert (await shop.type("switch", "web")).code == 0
        assert await served(shop, 20) == {b"2": 20}
        assert (await shop.type("deploy", "web", "--image", SICK)).code == 5
    assert (kept.failed(), new.failed()) == ([], [])
    assert await served(shop, 20) == {b"2": 20}


async def test_a_share_is_dealt_exactly(shop: Shop) -> None:
    assert (await shop.type("deploy", "web")).code == 0
    assert (await shop.type("stage", "web", "--image", TWO)).code == 0
    assert (await shop.type("weight", "web", "12.5")).code == 0
    assert await served(shop, 80) == {b"1": 70, b"2": 10}


async def test_plan_says_what_is_not_the_same(shop: Shop) -> None:
    assert (await shop.type("deploy", "web")).code == 0
    planned = await shop.type("plan", "web")
    assert planned.code == 0, planned.err
    assert "every move reloads nginx, no client stays on its side of a split" in planned.err


async def test_the_way_may_change_while_nginx_serves(shop: Shop) -> None:
    assert (await shop.type("deploy", "web")).code == 0
    async with shop.load(Model.KEEPALIVE) as kept:
        for old, new, image in (("reload", "live", TWO), ("live", "reload", "proxyctl-demo:3")):
            shop.write(f"cutover: {old}", f"cutover: {new}")
            assert (await shop.type("deploy", "web", "--image", image)).code == 0
    assert kept.failed() == []
    assert await served(shop, 20) == {b"3": 20}


async def test_shares_that_a_hand_changed_close_no_way_back(shop: Shop) -> None:
    for image in ("proxyctl-demo:1", TWO):
        assert (await shop.type("deploy", "web", "--image", image)).code == 0
    told = shop.scene.folder / "state/public/current/splits.json"
    async with shop.load(Model.NEW_CONNECTION) as new:
        for command, release in (("recover", b"2"), ("rollback web", b"1"), ("switch web", b"2")):
            told.chmod(0o644)
            told.write_text("{")
            said = await shop.type(*command.split())
            assert said.code == 0, said.err
            assert await served(shop, 20) == {release: 20}
    assert new.failed() == []


async def test_a_driver_that_is_killed_in_a_move_is_made_good(shop: Shop) -> None:
    assert (await shop.type("deploy", "web")).code == 0
    async with shop.load(Model.NEW_CONNECTION) as new:
        for instant, percent in ((0.3, 25), (0.5, 50), (0.8, 25), (1.2, 50)):
            if (await shop.web())["phase"] == "idle":
                assert (await shop.type("stage", "web", "--image", TWO)).code == 0
            command = await shop.start("weight", "web", str(percent))
            await asyncio.sleep(instant)
            for pid in (command.pid, shop.driver()):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await command.wait()
            assert (await shop.type("recover")).code == 0
            said = (await shop.status())["proxy"]
            assert said["generation"] == said["observed"]
        if (await shop.web())["phase"] == "paused":
            assert (await shop.type("abort", "web")).code == 0
        await shop.at_rest()
    assert new.failed() == []
    assert await served(shop, 20) == {b"1": 20}
