"""Docker starts a release anew: it serves again by itself, and the next command has it gated again. Real `restart`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing

import docker
import pytest

from tests.e2e.invariants import spoke_plainly
from tests.e2e.pair import standing_pair
from tests.e2e.shop import THREE, Shop

pytestmark = pytest.mark.docker


@pytest.fixture
def shop() -> Iterator[Shop]:
    with standing_pair() as made:
        yield made


@pytest.fixture
def patient() -> Iterator[Shop]:
    """Where a start may take its time."""
    with standing_pair(deadline="20s") as made:
        yield made


async def restart(shop: Shop, release: str) -> None:
    """As the engine does it for every replica when it comes back itself."""

    def each() -> None:
        for container in shop.containers(f"release={release}"):
            container.restart(timeout=2)

    await asyncio.to_thread(each)
    while "200" not in (await shop.get("/")).decode(errors="replace").partition("\r\n")[0]:
        await asyncio.sleep(0.05)


async def sicken(shop: Shop, release: str) -> None:
    """Its health check fails from now on; it answers everything else."""
    for seen in (await shop.replicas(release)).values():
        reader, writer = await connected(seen["address"])
        writer.write(b"GET /sick HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
        await reader.read(-1)
        writer.close()


async def connected(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """To a replica that may be about to listen again."""
    host, _, port = address.partition(":")
    deadline = time.monotonic() + 10
    while True:
        try:
            return await asyncio.open_connection(host, int(port))
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, address
            await asyncio.sleep(0.05)


async def test_a_restarted_live_release_is_gated_again_by_recover(shop: Shop) -> None:
    await restart(shop, "web-2")
    await shop.becomes("web-2", "restarted, not gated")
    said = await shop.type("recover")
    assert (said.code, "gated again" in said.err) == (0, True), said
    await shop.becomes("web-2", "healthy")
    web = await shop.web()
    assert (web["drift"], web["cover"]) == ([], True)
    assert "green passed its gate again after a restart" in (await shop.type("events", "web")).out


async def test_recover_names_what_docker_did_not_bring_back(shop: Shop) -> None:
    first, second = shop.containers("release=web-2")
    await asyncio.to_thread(first.stop, timeout=2)
    said = await shop.type("recover")
    assert (said.code, f"{first.name} is exited: docker start {first.name}, or proxyctl deploy web" in said.err) == (
        0,
        True,
    ), said.err
    assert str(second.name) not in said.err
    await asyncio.to_thread(first.start)
    await shop.type("recover")
    await shop.becomes("web-2", "healthy")


async def test_a_restarted_live_release_that_fails_serves_on_until_a_deploy_cures_it(shop: Shop) -> None:
    await restart(shop, "web-2")
    await sicken(shop, "web-2")
    async with shop.load() as load:
        assert (await shop.type("recover")).code == 0
        await shop.becomes("web-2", "failed its gate")
        web = await shop.web()
        assert (web["split"]["green"], web["cover"]) == (100.0, True)
        assert "web-2 did not pass its gate after a restart and serves on" in web["drift"][0]
        assert "503 instead of 200-299" in web["drift"][0]
        said = await shop.type("deploy", "web", "--image", THREE)
        spoke_plainly(said)
        assert said.code == 0, said
        assert "did not pass its gate again after a restart" in said.err
    assert load.failed() == []
    assert (await shop.web())["split"]["blue"] == 100.0
    await shop.becomes("web-3", "healthy")


async def test_a_rollback_waits_for_no_verdict_on_what_it_leaves(shop: Shop) -> None:
    await restart(shop, "web-2")
    await sicken(shop, "web-2")
    began = time.monotonic()
    assert (await shop.type("rollback", "web")).code == 0
    assert time.monotonic() - began < 2
    web = await shop.web()
    assert (web["split"]["blue"], web["cover"]) == (100.0, False)


async def remove(shop: Shop, release: str) -> None:
    """As a person does it who tidies up."""
    for container in shop.containers(f"release={release}"):
        await asyncio.to_thread(container.remove, force=True)


STARTED_FIRST = "web-1 is started and gated first; until then no traffic moves"


async def test_a_rollback_to_what_was_removed_is_done_when_the_command_returns(shop: Shop) -> None:
    await remove(shop, "web-1")
    async with shop.load() as load:
        said = await shop.type("rollback", "web")
    spoke_plainly(said)
    assert (said.code, STARTED_FIRST in said.err, "is absent" in said.err) == (0, True, True), said
    web = await shop.web()
    assert (web["phase"], web["split"]["blue"], web["warm"]) == ("idle", 100.0, "web-2")
    assert load.failed() == []


async def test_a_share_for_what_was_removed_is_there_when_the_command_returns(shop: Shop) -> None:
    await remove(shop, "web-1")
    said = await shop.type("weight", "web", "20")
    assert (said.code, STARTED_FIRST in said.err) == (0, True), said
    web = await shop.web()
    assert (web["phase"], web["split"]["blue"]) == ("paused", 20.0)
    assert (await shop.type("abort", "web")).code == 0


async def test_a_rollback_to_what_cannot_be_started_any_more_fails_with_its_reason(shop: Shop) -> None:
    with closing(docker.from_env()) as engine:
        first, _ = shop.containers("release=web-1")
        name = str(first.name)
        await remove(shop, "web-1")
        stranger = await asyncio.to_thread(engine.containers.create, "proxyctl-demo:1", name=name)
        try:
            said = await shop.type("rollback", "web")
        finally:
            await asyncio.to_thread(stranger.remove, force=True)
    spoke_plainly(said)
    assert (said.code, name in said.err, STARTED_FIRST in said.err) == (5, True, True), said
    assert (await shop.at_rest())["split"]["green"] == 100.0


async def test_a_standby_that_docker_restarted_covers_again_once_it_passed(patient: Shop) -> None:
    await restart(patient, "web-1")
    await patient.becomes("web-1", "healthy")
    story = (await patient.type("events", "web")).out
    told = [words for words in ("blue was restarted", "blue passed its gate again") if words in story]
    assert len(told) == 2, story
    assert (await patient.web())["cover"]
    assert (await patient.type("rollback", "web")).code == 0
