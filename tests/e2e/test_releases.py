"""Which release serves: staged, switched to, superseded, brought back after it had gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import docker
import pytest

from tests.e2e.shop import ONE, SICK, THREE, TWO, Shop, ended, open_shop

pytestmark = pytest.mark.docker


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with open_shop(bake="0s") as made:
        made.write("drain: 5s", "drain: 500ms")
        yield made


def roles(web: dict[str, Any]) -> dict[str, str]:
    return {release["id"]: release["role"] for release in web["releases"]}


async def test_a_first_release_that_is_sick_gets_no_traffic_and_leaves_nothing(shop: Shop) -> None:
    deploy = await shop.start("deploy", "web", "--image", SICK)
    await shop.until("gating")
    head, _, page = (await shop.get("/")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 5" in head
    assert b"try again in a few seconds" in page
    said = await ended(deploy)
    assert said.code == 5
    assert "503 instead of 200-299" in said.err
    assert "serving: web: nothing serves" in said.err
    assert (await shop.get("/")).startswith(b"HTTP/1.1 404 "), "its route is taken back"
    assert (await shop.web())["releases"] == []
    assert shop.containers() == []
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


async def test_a_warm_release_leaves_for_a_deploy_only_once_that_one_can_come_and_this_is_said(shop: Shop) -> None:
    for image in (ONE, TWO):
        assert (await shop.type("deploy", "web", "--image", image)).code == 0
    warm = {"web-1": "standby", "web-2": "live"}
    unpulled = await shop.type("deploy", "web", "--image", "proxyctl-demo:none")
    assert (unpulled.code, roles(await shop.at_rest())) == (6, warm), unpulled.err
    tls = "    hosts: [a.example.com]\n    tls: {cert: file:no.pem, key: file:no.pem}\n"
    shop.file.write_text(shop.file.read_text() + tls)
    invalid = await shop.type("deploy", "web", "--image", THREE)
    assert (invalid.code, roles(await shop.at_rest())) == (6, warm), invalid.err
    assert "leaves" not in unpulled.err + invalid.err
    shop.write(tls, "")
    said = await shop.type("deploy", "web", "--image", THREE)
    assert said.code == 0, said.err
    leaves = said.err.index("web-1 leaves the standby: no warm rollback until promotion")
    assert leaves < said.err.index("into blue"), "before it is done"
    assert roles(await shop.at_rest()) == {"web-2": "standby", "web-3": "live"}


async def test_an_answer_that_takes_long_is_waited_for_before_its_release_leaves(shop: Shop) -> None:
    """Longer than nginx keeps a connection that nobody uses."""
    shop.write("drain: 500ms", "drain: 20s")
    for words in (["deploy", "web"], ["stage", "web", "--image", TWO], ["weight", "web", "100"]):
        assert (await shop.type(*words)).code == 0
    slow = asyncio.create_task(shop.get("/slow?ms=10000"))
    await asyncio.sleep(0.3)
    assert (await shop.type("abort", "web")).code == 0
    assert (await shop.get("/")).endswith(b"1\n")
    head, _, page = (await slow).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ") and page == b"2\n", head
    assert roles(await shop.at_rest()) == {"web-1": "live"}
    assert "cut" not in (await shop.type("events", "web")).out


async def test_a_staged_release_waits_for_its_switch_and_can_be_named(shop: Shop) -> None:
    assert (await shop.type("deploy", "web")).code == 0
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
    assert (await shop.type("deploy", "web")).code == 0
    assert (await shop.type("stage", "web", "--image", TWO)).code == 0
    refused = await shop.type("deploy", "web")
    assert refused.code == 4
    assert "web-r2" in refused.err
    assert (await shop.type("deploy", "web", "--image", THREE, "--supersede")).code == 0
    told = json.loads((await shop.type("history", "web", "--json")).out)
    assert [(t["id"], t["outcome"]) for t in told] == [
        ("web-r1", "promoted"),
        ("web-r2", "superseded"),
        ("web-r3", "promoted"),
    ]


async def test_a_rollout_that_bakes_refuses_another_one_and_is_superseded_when_told(shop: Shop) -> None:
    assert (await shop.type("deploy", "web")).code == 0
    shop.write("bake: 0s", "bake: 20s")
    first = await shop.start("deploy", "web", "--image", TWO)
    await shop.until("baking")
    shop.write("bake: 20s", "bake: 0s")
    async with shop.load() as load:
        for order in ("deploy", "stage"):
            refused = await shop.type(order, "web", "--image", THREE)
            assert refused.code == 4
            assert "rollout web-r2 of web-2 is baking, started by root" in refused.err
            assert "serving: web: web-2 (green) 100 %" in refused.err
        second = await shop.type("deploy", "web", "--image", THREE, "--supersede")
        assert second.code == 0, second.err
    assert load.failed() == []
    told = await ended(first)
    assert told.code == 5
    assert "superseded by another deploy" in told.err
    assert (await shop.get("/")).endswith(b"3\n")
    assert roles(await shop.at_rest()) == {"web-1": "standby", "web-3": "live"}
    assert shop.containers("release=web-2") == []


async def test_the_same_release_again_takes_over_and_nobody_notices(shop: Shop) -> None:
    assert (await shop.type("deploy", "web")).code == 0
    async with shop.load() as load:
        again = await shop.type("deploy", "web")
    assert again.code == 0, again.err
    assert load.failed() == []
    assert load.releases_since(0) == {"1"}
    web = await shop.at_rest()
    assert roles(web) == {"web-1": "standby", "web-2": "live"}
    assert len({release["digest"] for release in web["releases"]}) == 1


async def test_a_container_of_ours_that_belongs_to_nothing_is_pruned_and_no_other(shop: Shop) -> None:
    assert (await shop.type("deploy", "web")).code == 0
    labels = {"proxyctl.project": shop.scene.project, "proxyctl.service": "web", "proxyctl.release": "web-0"}
    with closing(docker.from_env()) as engine:
        orphan = engine.containers.create(ONE, labels=labels)
        assert f"would remove {orphan.name}" in (await shop.type("prune")).err
        assert f"removed {orphan.name}" in (await shop.type("prune", "--yes")).err
    assert [container.labels["proxyctl.release"] for container in shop.containers()] == ["web-1", "web-1"]
    assert "nothing to remove" in (await shop.type("prune")).err
