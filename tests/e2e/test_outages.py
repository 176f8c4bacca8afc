"""Docker, nginx, the store or one service out of order: traffic stays as it is, and every command answers in time."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxyctl.adapters.nginx.process.master import Process, find_master, workers_of
from proxyctl.adapters.places import Places
from proxyctl.demo.load import Model
from tests.e2e.invariants import spoke_plainly, unchanged
from tests.e2e.pair import file_says, standing_pair
from tests.e2e.shop import TWO, Said, Shop, answers, traffic_stays
from tests.engine_relay import LIES, Relay, relay
from tests.nginx_bed import workers_dying

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("outages")]  # one project for the file

SOON = 4.0  # nothing is waited for but a probe or an answer of nginx
ENGINE_PATIENCE = 15.0  # a hung engine is given 11 s
DEPLOY_PATIENCE = 20.0  # a drain of 5 s, start, gate
STORE_PATIENCE = 9.0  # a locked store is given 5 s


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with standing_pair() as shop:
        yield shop


@pytest.fixture
async def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Relay]:
    """Between the commands and the real Docker engine."""
    async with relay(tmp_path) as made:
        monkeypatch.setenv("DOCKER_HOST", made.host)
        yield made


async def at_once(*typed: Coroutine[None, None, Said]) -> list[Said]:
    """What each of them says; all have ended, even when one of them is not as it should be."""
    said = await asyncio.gather(*typed, return_exceptions=True)
    for failure in said:
        if isinstance(failure, BaseException):
            raise failure
    return [words for words in said if isinstance(words, Said)]


def places(shop: Shop) -> Places:
    return Places(root=shop.scene.folder / "state")


# --- Docker -----------------------------------------------------------------------------------------------------

NEEDS_NO_ENGINE = ("rollback web", "weight web 50", "abort web", "recover", "status")
NEEDS_THE_ENGINE = ("deploy web", "stage web", "plan web", "prune")


async def test_without_an_engine_traffic_still_moves_and_the_rest_says_what_is_missing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    async with traffic_stays(shop):
        for command in NEEDS_NO_ENGINE:
            await answers(shop, SOON, 0, command)
        for command in NEEDS_THE_ENGINE:
            said = await answers(shop, SOON, 6, command)
            assert "traffic stays as it is" in said.err


async def test_a_hung_engine_delays_no_move_of_traffic_and_nothing_for_ever(shop: Shop, engine: Relay) -> None:
    engine.hang_at = "/"
    async with traffic_stays(shop):
        await answers(shop, SOON, 0, "rollback web")
        (web,) = (await shop.status())["services"]
        assert {r["health"] for release in web["releases"] for r in release["replicas"]} == {"unknown"}
        late = [answers(shop, ENGINE_PATIENCE, 6, command) for command in NEEDS_THE_ENGINE]
        said = await at_once(*late, answers(shop, ENGINE_PATIENCE, 3, "check"))
    assert all("Docker" in words.err for words in said)


@pytest.mark.parametrize("lie", LIES)
async def test_an_engine_that_answers_nonsense_is_as_good_as_none(shop: Shop, engine: Relay, lie: str) -> None:
    engine.lie_at, engine.lie = "/", LIES[lie]
    async with traffic_stays(shop):
        for command in NEEDS_NO_ENGINE:
            await answers(shop, SOON, 0, command)
        (web,) = (await shop.status())["services"]
        assert {r["health"] for release in web["releases"] for r in release["replicas"]} == {"unknown"}
        await at_once(*(answers(shop, ENGINE_PATIENCE, 6, command) for command in NEEDS_THE_ENGINE))


async def test_an_engine_that_hangs_while_a_release_bakes_delays_only_its_promotion(shop: Shop, engine: Relay) -> None:
    with file_says(shop, "bake: 0s", "bake: 1s"):
        async with traffic_stays(shop):
            deploy = asyncio.create_task(shop.type("deploy", "web", "--image", TWO))
            await shop.until("baking")
            engine.cut_at = "/"
            await shop.until("promoting")
            await asyncio.sleep(0.5)
            assert not deploy.done()
            engine.cut_at = ""
            said = await deploy
    assert said.code == 0, said.err


# --- the store --------------------------------------------------------------------------------------------------


async def test_a_store_that_somebody_locks_is_waited_for_and_not_for_ever(shop: Shop) -> None:
    async with unchanged(shop.scene), traffic_stays(shop):
        db = sqlite3.connect(places(shop).store, isolation_level=None)
        db.execute("BEGIN EXCLUSIVE")
        writers = [answers(shop, STORE_PATIENCE, 6, command) for command in ("rollback web", "deploy web")]
        readers = [answers(shop, SOON, 0, command) for command in ("status", "history", "check")]
        said = await at_once(*writers, *readers)
        db.execute("ROLLBACK")
        db.close()
    assert all("database is locked" in words.err for words in said[:2])


@contextmanager
def store_is(shop: Shop, content: bytes | None) -> Iterator[None]:
    """Something else lies where the store should be: these bytes, or a folder."""
    store = places(shop).store
    own = [Path(f"{store}{part}") for part in ("", "-wal", "-shm") if Path(f"{store}{part}").exists()]
    for path in own:
        path.rename(path.with_name(f"{path.name}.away"))
    if content is None:
        store.mkdir()
    else:
        store.write_bytes(content)
    try:
        yield
    finally:
        if content is None:
            store.rmdir()
        for left in store.parent.glob("proxyctl.db*"):
            if left.suffix != ".away":
                left.unlink()
        for path in own:
            path.with_name(f"{path.name}.away").rename(path)


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\0" + bytes(4080), None])
async def test_a_store_that_cannot_be_read_stops_every_order_and_no_traffic(shop: Shop, content: bytes | None) -> None:
    async with unchanged(shop.scene), traffic_stays(shop):
        with store_is(shop, content):
            orders = ("rollback web", "switch web", "weight web 5", "abort web", "deploy web", "recover", "status")
            said = await at_once(*(answers(shop, SOON, 6, command) for command in orders))
    assert all("proxyctl.db cannot be used" in words.err for words in said)


# --- one service of two -----------------------------------------------------------------------------------------

ZOO = """\
services:
  zoo:
    container: {image: "proxyctl-demo:1"}
    port: 8000
    path: /zoo
    bake: 0s
    health: {path: /healthz, interval: 200ms, healthy: 1}
"""


async def test_a_frozen_driver_of_one_service_blocks_no_other_and_not_its_own_rollback(shop: Shop) -> None:
    with file_says(shop, "services:\n", ZOO):
        await answers(shop, DEPLOY_PATIENCE, 0, "deploy zoo")
    with file_says(shop, "services:\n", ZOO.replace("bake: 0s", "bake: 60s")):
        deploy = asyncio.create_task(shop.type("deploy", "zoo", "--image", TWO))
        await until_baking(shop, "zoo")
        os.kill(json.loads((places(shop).locks / "zoo.lock").read_text())["pid"], signal.SIGSTOP)
        await answers(shop, DEPLOY_PATIENCE, 0, "deploy web")
        async with traffic_stays(shop):
            for command in ("status", "rollback web", "rollback web", "recover", "rollback zoo"):
                await answers(shop, SOON, 0, command)
        spoke_plainly(said := await deploy)
        assert said.code != 0, said
    services = {s["name"]: s["split"] for s in (await shop.status())["services"]}
    assert services["zoo"] == {"blue": 100.0, "green": 0.0}


async def until_baking(shop: Shop, name: str) -> None:
    deadline = time.monotonic() + 10
    while not any(s["name"] == name and s["phase"] == "baking" for s in (await shop.status())["services"]):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


# --- nginx ------------------------------------------------------------------------------------------------------


async def test_without_a_master_the_workers_serve_on_and_traffic_still_moves(shop: Shop) -> None:
    send(signal.SIGKILL, nginx(shop)[:1])
    async with traffic_stays(shop):
        for command in ("status", "rollback web", "weight web 50", "abort web", "recover"):
            await answers(shop, SOON, 0, command)
    assert "orphaned" in (await shop.type("proxy", "status")).out
    assert "running" in (await answers(shop, SOON, 0, "proxy start")).out


async def test_workers_that_die_in_a_rollout_fail_no_rollout_and_lose_only_what_they_had_accepted(shop: Shop) -> None:
    """A release is not at fault for them: it is deployed, and taken back, as ordered."""
    clients = 4
    async with shop.load(clients=clients) as kept, shop.load(Model.NEW_CONNECTION, clients) as fresh:
        async with workers_dying(places(shop), every=0.1) as dead:
            for command in ("deploy web", "rollback web", "weight web 50", "abort web"):
                await answers(shop, DEPLOY_PATIENCE, 0, command)
                seen = await shop.status()
                assert (seen["proxy"]["state"], seen["services"][0]["drift"]) == ("running", []), command
                assert seen["proxy"]["observed"] == seen["proxy"]["generation"]
        await shop.at_rest()
    assert len(dead) > 10
    for load in (kept, fresh):
        assert len(load.failed()) <= len(dead) * clients
        assert not [lost for lost in load.failed() if lost.problem.startswith("status")]
    told = json.loads((await shop.type("history", "web", "--json")).out)
    assert [chapter["outcome"] for chapter in told][-3:] == ["promoted", "promoted", "aborted"]


async def test_while_nginx_is_stopped_no_order_changes_anything_and_the_standby_stays_warm(shop: Shop) -> None:
    before = await shop.web()
    await answers(shop, SOON, 0, "proxy stop --yes")
    async with unchanged(shop.scene):
        assert "next: proxyctl proxy start" in (await answers(shop, SOON, 0, "status")).out
        for command in ("rollback web", "weight web 50", "switch web"):
            assert "next:    proxyctl proxy start" in (await answers(shop, SOON, 6, command)).err
    await answers(shop, SOON, 0, "proxy start")
    assert await shop.web() == before
    for _ in range(2):
        await answers(shop, SOON, 0, "rollback web")
    assert (await shop.web())["split"] == before["split"]


async def test_with_a_frozen_nginx_every_command_answers_and_afterwards_all_is_as_it_was(shop: Shop) -> None:
    before = (await shop.web())["split"]
    processes = nginx(shop)
    send(signal.SIGSTOP, processes)
    await answers(shop, SOON, 0, "status")
    for command in ("rollback web", "recover"):
        began = time.monotonic()
        spoke_plainly(await shop.type(*command.split()))
        assert time.monotonic() - began < SOON, command
    send(signal.SIGCONT, processes)
    began = time.monotonic()
    while (web := await shop.web())["phase"] != "idle":
        await answers(shop, SOON, 0, "recover")
        assert time.monotonic() - began < 2 * SOON, web
    assert web["split"] == before


async def test_after_nginx_was_killed_outright_a_deploy_starts_it_again(shop: Shop) -> None:
    send(signal.SIGKILL, nginx(shop))
    assert "stopped" in (await answers(shop, SOON, 0, "status")).out
    await answers(shop, DEPLOY_PATIENCE, 0, "deploy web")
    assert (await shop.get("/")).startswith(b"HTTP/1.1 200 ")


def nginx(shop: Shop) -> list[Process]:
    """The master, then its workers."""
    master = find_master(places(shop))
    assert master is not None
    return [master, *workers_of(master)]


def send(number: signal.Signals, processes: list[Process]) -> None:
    for process in processes:
        process.send(number)
