"""Who reaches a candidate that has no share of traffic, and when: real containers, real nginx, under load."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from proxyctl.demo.load import Model
from tests.e2e.shop import TWO, Shop, open_shop
from tests.nginx_bed import Client

pytestmark = pytest.mark.docker

PREVIEW = "preview.example.com"
RULES = """
    strategy:
      canary:
        steps: [{gate: approve}, {weight: 5, for: 1h}]
        match: [{header: {X-Canary: "yes"}}, {cookie: {canary: "1"}}, {cidr: 198.51.100.0/24}]
        mirror: {percent: 50}"""
MANUAL = f"""
    strategy: {{blue-green: {{promote: manual, preview: {{host: {PREVIEW}}}}}}}"""
MATCHED: tuple[Mapping[str, str], ...] = (
    {"X-Canary": "yes"},
    {"Cookie": "canary=1"},
    {"X-Forwarded-For": "198.51.100.7"},
)
NOT_MATCHED: tuple[Mapping[str, str], ...] = ({}, {"X-Canary": "no"}, {"X-Forwarded-For": "203.0.113.7"})


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    """Release 1 is live, and knows of no rules."""
    async with open_shop(bake="0s") as made:
        made.write("proxy:\n", 'proxy:\n  trusted: ["127.0.0.1"]\n')
        made.write("drain: 5s", "drain: 1s")
        first = await made.type("deploy", "web")
        assert first.code == 0, first.err
        yield made


async def seen(shop: Shop, asked: tuple[Mapping[str, str], ...]) -> set[str]:
    """The releases that answer."""
    found = set()
    for headers in asked:
        client = Client(*await asyncio.open_connection("127.0.0.1", shop.scene.port))
        answer = await client.ask("POST", "/", dict(headers), b"x")  # a POST is never mirrored
        found.add(answer.text.strip())
        client.close()
    return found


async def previewed(shop: Shop) -> Any:
    return (await shop.web())["preview"]


async def reasons(shop: Shop) -> set[tuple[str, str]]:
    """Of the log: the colour of the address, and why it was asked."""
    await asyncio.sleep(1.3)  # workers hold lines for a second
    slots = {
        replica["address"]: release["colour"]
        for release in (await shop.web())["releases"]
        for replica in release["replicas"]
    }
    lines = [line.split("\t") for line in (shop.scene.folder / "state/public/logs/access.log").read_text().splitlines()]
    return {(slots.get(line[-4], "gone"), line[-5]) for line in lines if line[-6] == "web"}


async def test_rules_reach_a_canary_without_traffic_from_its_gate_to_its_abort(shop: Shop) -> None:
    shop.write("drain: 1s", f"drain: 1s{RULES}")
    loads = [shop.load(model, 2) for model in (Model.KEEPALIVE, Model.NEW_CONNECTION)]
    async with loads[0], loads[1]:
        deploy = asyncio.create_task(shop.type("deploy", "web", "--image", TWO))
        while not deploy.done() and await previewed(shop) is None:
            found = await seen(shop, MATCHED)
            assert found == {"1"} or await previewed(shop) is not None, "before the gate"
        held = await deploy
        assert held.code == 8, held.err
        assert (await shop.web())["split"] == {"blue": 100.0, "green": 0.0}
        assert await seen(shop, MATCHED) == {"2"}
        assert await seen(shop, NOT_MATCHED) == {"1"}
        await asyncio.sleep(0.5)
        assert {("green", "match"), ("green", "mirror"), ("blue", "-")} <= await reasons(shop)
        assert all(load.releases_since(0) == {"1"} for load in loads), "copies answer nobody"
        assert (await shop.type("approve", "web")).code == 0
        while (await shop.web())["split"]["green"] != 5.0:
            await asyncio.sleep(0.05)
        assert await seen(shop, MATCHED) == {"2"}
        aborted = await shop.type("abort", "web")
        assert aborted.code == 0, aborted.err
        assert await seen(shop, MATCHED) == {"1"}
        assert await previewed(shop) is None
    assert [load.failed() for load in loads] == [[], []]


async def test_a_preview_host_shows_the_next_release_before_the_cutover_and_the_live_one_else(shop: Shop) -> None:
    shop.write("drain: 1s", f"drain: 1s{MANUAL}")
    preview = ({"Host": PREVIEW},)
    async with shop.load() as load:
        deploy = await shop.type("deploy", "web", "--image", TWO)
        assert deploy.code == 8, deploy.err
        assert (await seen(shop, preview), await seen(shop, ({},))) == ({"2"}, {"1"})
        assert (await shop.type("promote", "web")).code == 0
        await shop.at_rest()
        assert (await seen(shop, preview), await seen(shop, ({},))) == ({"2"}, {"2"})
        assert await previewed(shop) is None
        assert (await shop.type("rollback", "web")).code == 0
        assert (await seen(shop, preview), await seen(shop, ({},))) == ({"1"}, {"1"})
    assert load.failed() == []


async def test_a_candidate_that_dies_is_covered_for_those_who_match_and_led_to_no_more(shop: Shop) -> None:
    shop.write("drain: 1s", f"drain: 1s{RULES}")
    assert (await shop.type("deploy", "web", "--image", TWO)).code == 8
    for container in shop.containers("release=web-2"):
        container.kill()
    assert await seen(shop, MATCHED) == {"1"}
    await shop.at_rest()
    history = json.loads((await shop.type("history", "--json")).out)
    assert history[-1]["outcome"] == "failed"
    assert await seen(shop, MATCHED) == {"1"}
