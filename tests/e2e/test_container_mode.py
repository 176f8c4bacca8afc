"""nginx in a container of its own: the same story, and what Docker does to it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import closing

import docker
import pytest
from docker.models.containers import Container

from proxyctl.adapters.nginx.process.master import find_master
from proxyctl.adapters.places import Places
from proxyctl.demo.load import Model
from tests.e2e.shop import SICK, TWO, Shop, open_shop
from tests.nginx_bed import DEBIAN
from tests.nginx_image import image_of
from tests.own_engine import own_engine

pytestmark = pytest.mark.docker

FILE = """\
project: PROJECT
proxy: {mode: container, image: "IMAGE", http: "127.0.0.1:PORT"}
services:
  web:
    container: {image: "proxyctl-demo:1", stop_grace_period: 2s}
    port: 8000
    replicas: 2
    health: {path: /healthz, interval: 200ms, healthy: 2, deadline: 6s}
    bake: 0s
    standby: 10m
    drain: 500ms
"""


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    image = await asyncio.to_thread(image_of, DEBIAN, "debian")
    async with open_shop(file=FILE.replace("IMAGE", image)) as made:
        yield made


def nginx_of(shop: Shop) -> Container:
    with closing(docker.from_env()) as engine:
        return engine.containers.get(f"{shop.scene.project}-nginx")


async def test_releases_come_and_go_and_no_request_is_lost(shop: Shop) -> None:
    assert (await shop.type("deploy", "web")).code == 0
    async with shop.load(Model.KEEPALIVE) as kept, shop.load(Model.NEW_CONNECTION) as new:
        assert (await shop.type("deploy", "web", "--image", TWO)).code == 0
        assert (await shop.get("/")).endswith(b"2\n")
        back = await shop.type("rollback", "web")
        assert back.code == 0, back.err
        assert (await shop.get("/")).endswith(b"1\n")
        assert (await shop.type("deploy", "web", "--image", SICK)).code == 5
    assert (await shop.status())["proxy"]["mode"] == "container"
    assert (kept.failed(), new.failed()) == ([], [])


async def test_an_nginx_that_dies_is_started_again_by_docker_and_serves_what_was_in_force(shop: Shop) -> None:
    assert (await shop.type("deploy", "web")).code == 0
    assert (await shop.type("deploy", "web", "--image", TWO)).code == 0
    master = find_master(Places(shop.scene.folder / "state"))
    assert master is not None
    master.send(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while not await answers(shop, b"2\n"):
        assert time.monotonic() < deadline, "nginx never came back"
        await asyncio.sleep(0.05)
    assert not master.title, "it died"
    assert (await shop.type("rollback", "web")).code == 0
    assert (await shop.get("/")).endswith(b"1\n")


async def test_nginx_comes_back_with_an_engine_that_was_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    with own_engine() as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        image = await asyncio.to_thread(image_of, DEBIAN, "debian")
        async with open_shop(file=FILE.replace("IMAGE", image)) as shop:
            assert (await shop.type("deploy", "web")).code == 0
            master = find_master(Places(shop.scene.folder / "state"))
            await asyncio.to_thread(engine.kill)
            assert await answers(shop, b"1\n"), "nginx and the replicas run on for now"
            await asyncio.to_thread(engine.start)
            deadline = time.monotonic() + 20
            while not await answers(shop, b"1\n"):
                assert time.monotonic() < deadline, "nginx never came back"
                await asyncio.sleep(0.05)
            assert master is not None
            assert not master.title, "it was stopped by the engine"
            assert (await shop.type("recover")).code == 0
            await shop.becomes("web-1", "healthy")


async def answers(shop: Shop, release: bytes) -> bool:
    try:
        return (await shop.get("/")).endswith(release)
    except OSError:
        return False


async def test_nginx_cannot_write_what_it_reads_and_leaves_nothing_when_stopped(shop: Shop) -> None:
    assert (await shop.type("deploy", "web")).code == 0
    nginx = nginx_of(shop)
    public = shop.scene.folder / "state/public"
    code, said = nginx.exec_run(["/bin/sh", "-c", f"rm -r {public}/generations"])
    assert code != 0
    assert b"Read-only file system" in said
    assert nginx.attrs["HostConfig"]["RestartPolicy"]["Name"] == "always"
    assert (await shop.type("proxy", "stop", "--yes")).code == 0
    with pytest.raises(docker.errors.NotFound):
        nginx_of(shop)
    assert (await shop.type("proxy", "start")).code == 0
    assert (await shop.get("/")).endswith(b"1\n")


async def test_a_mode_that_changes_under_a_running_nginx_is_refused(shop: Shop) -> None:
    assert (await shop.type("deploy", "web")).code == 0
    shop.write("mode: container", "mode: process")
    shop.write("replicas: 2", "replicas: 1")
    refused = await shop.type("deploy", "web", "--image", TWO)
    assert refused.code == 6
    assert "nginx runs in mode container, and proxyctl.yml asks for mode process" in refused.err
    assert (await shop.get("/")).endswith(b"1\n")


async def test_a_container_of_that_name_that_is_not_ours_is_left_alone(shop: Shop) -> None:
    with closing(docker.from_env()) as engine:
        stranger = engine.containers.create("proxyctl-demo:1", name=f"{shop.scene.project}-nginx")
        try:
            refused = await shop.type("deploy", "web")
            assert refused.code == 5
            assert f"a container named {stranger.name} exists and is not proxyctl's" in refused.err
            stranger.reload()
            assert stranger.status == "created"
        finally:
            stranger.remove()
    assert (await shop.type("deploy", "web")).code == 0
