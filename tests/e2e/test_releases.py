"""Which release serves: staged, switched to, superseded, brought back after it had gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import docker
import pytest

from tests.e2e.shop import ONE, SICK, TWO, Shop, open_shop

pytestmark = pytest.mark.docker


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with open_shop(bake="0s") as made:
        made.write("drain: 5s", "drain: 500ms")
        yield made


def roles(web: dict[str, Any]) -> dict[str, str]:
    return {release["id"]: release["role"] for release in web["releases"]}


async def test_a_first_release_that_is_sick_gets_no_traffic_and_leaves_nothing(shop: Shop) -> None:
    said = await shop.type("deploy", "web", "--image", SICK)
    assert said.code == 5
    assert "serving: web: nothing serves" in said.err
    assert (await shop.web())["releases"] == []
    assert (await shop.type("deploy", "web")).code == 0
    assert (await shop.get("/")).endswith(b"1\n")


async def test_a_release_that_is_warm_no_more_is_started_and_gated_again(shop: Shop) -> None:
    shop.write("standby: 10m", "standby: 0s")
    for image in (ONE, TWO):
        assert (await shop.type("deploy", "web", "--image", image)).code == 0
    while len(roles(await shop.at_rest())) > 1:  # the guard sends the standby away
        await asyncio.sleep(0.1)
    refused = await shop.type("rollback", "web")
    assert refused.code == 4
    assert "proxyctl rollback web --to web-1" in refused.err
    said = await shop.type("rollback", "web", "--to", "web-1")
    assert said.code == 0, said.err
    assert "gate passed by 2 of 2" in said.err
    assert (await shop.get("/")).endswith(b"1\n")


async def test_a_staged_release_waits_for_its_switch_and_can_be_named(shop: Shop) -> None:
    await shop.type("deploy", "web")
    assert (await shop.type("stage", "web", "--image", TWO)).code == 0
    assert (await shop.get("/")).endswith(b"1\n")
    assert (await shop.type("switch", "web", "--to", "web-2")).code == 0
    await shop.at_rest()
    for name, answers in (("blue", b"1\n"), ("green", b"2\n"), ("web-1", b"1\n")):
        assert (await shop.type("switch", "web", "--to", name)).code == 0
        assert (await shop.get("/")).endswith(answers)
        await shop.at_rest()
    live = await shop.type("switch", "web", "--to", "web-1")
    assert (live.code, "web-1 is live already" in live.err) == (4, True)
    unknown = await shop.type("switch", "web", "--to", "web-9")
    assert unknown.code == 2
    assert "it knows: " in unknown.err
    assert "web-1" in unknown.err


async def test_a_rollout_that_waits_refuses_another_one_and_is_superseded_when_told(shop: Shop) -> None:
    await shop.type("deploy", "web")
    await shop.type("stage", "web", "--image", TWO)
    refused = await shop.type("deploy", "web")
    assert refused.code == 4
    assert "web-r2" in refused.err
    assert (await shop.type("deploy", "web", "--image", TWO, "--supersede")).code == 0
    told = json.loads((await shop.type("history", "web", "--json")).out)
    assert [(t["id"], t["outcome"]) for t in told] == [
        ("web-r1", "promoted"),
        ("web-r2", "superseded"),
        ("web-r3", "promoted"),
    ]


async def test_a_container_of_ours_that_belongs_to_nothing_is_pruned_and_no_other(shop: Shop) -> None:
    await shop.type("deploy", "web")
    labels = {"proxyctl.project": shop.scene.project, "proxyctl.service": "web", "proxyctl.release": "web-0"}
    with closing(docker.from_env()) as engine:
        orphan = engine.containers.create(ONE, labels=labels)
        assert f"would remove {orphan.name}" in (await shop.type("prune")).err
        assert f"removed {orphan.name}" in (await shop.type("prune", "--yes")).err
        left: list[Any] = engine.containers.list(
            all=True, filters={"label": [f"proxyctl.project={shop.scene.project}"]}
        )
    assert sorted(container.labels["proxyctl.release"] for container in left) == ["web-1", "web-1"]
    assert "nothing to remove" in (await shop.type("prune")).err
