"""The story of a service, with real containers behind a real nginx, typed as a user types it, under load."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import docker
import pytest

from proxyctl.demo.load import Model
from tests.e2e.shop import TWO, Said, Shop, open_shop

pytestmark = pytest.mark.docker
__all__ = ["Said", "Shop"]


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    """Release 1 is live."""
    async with open_shop() as made:
        first = await made.type("deploy", "web")
        assert first.code == 0, first.err
        yield made


async def test_a_deploy_and_a_rollback_under_load_lose_nothing_and_answer_no_wrong_release(shop: Shop) -> None:
    models = (Model.NEW_CONNECTION, Model.KEEPALIVE, Model.POST)
    loads = [shop.load(model, 2) for model in models]
    async with loads[0], loads[1], loads[2]:
        for words, release in ((("deploy", "web", "--image", TWO), "2"), (("rollback", "web"), "1")):
            said = await shop.type(*words)
            assert said.code == 0, said.err
            returned = time.monotonic()
            await asyncio.sleep(0.3)
            assert all(load.releases_since(returned) == {release} for load in loads)
    for load in loads:
        assert load.failed() == []
        assert len(load.outcomes) > 100


async def test_a_stream_an_upload_and_a_slow_answer_live_through_a_switch(shop: Shop) -> None:
    await shop.type("stage", "web", "--image", TWO)
    slow = asyncio.create_task(shop.get("/slow?ms=3000"))
    reader, stream = await asyncio.open_connection("127.0.0.1", shop.scene.port)
    stream.write(b"GET /sse HTTP/1.1\r\nHost: shop\r\n\r\n")
    uploaded, upload = await asyncio.open_connection("127.0.0.1", shop.scene.port)
    upload.write(b"POST /upload HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: 2000\r\n\r\n")
    for half in (b"a" * 1000, b"b" * 1000):
        upload.write(half)
        await upload.drain()
        await asyncio.sleep(0.5)
        assert (await shop.type("switch", "web")).code in (0, 4)  # the second finds it done
    assert (await uploaded.read(-1)).endswith(b"2000\n")
    assert (await slow).endswith(b"1\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"200 OK" in head
    for _ in range(5):
        assert b"data: 1" in await reader.readuntil(b"\n\n")
    stream.close()
    upload.close()


async def test_a_sick_release_is_refused_and_the_live_one_untouched(shop: Shop) -> None:
    before = await shop.web()
    async with shop.load() as load:
        said = await shop.type("deploy", "web", "--image", "proxyctl-demo:sick")
    assert said.code == 5
    assert "503 instead of 200-299" in said.err
    assert "serving: web: web-1 (blue) 100 %" in said.err
    assert load.failed() == []
    assert load.releases_since(0) == {"1"}
    assert (await shop.web())["releases"] == before["releases"]


async def test_a_release_that_exits_at_its_start_is_refused_with_its_exit_code(shop: Shop) -> None:
    said = await shop.type("deploy", "web", "--image", "proxyctl-demo:exits")
    assert said.code == 5
    assert "exited with code 3" in said.err
    assert "cannot go on" in said.err, "its last words are shown"


async def test_a_candidate_killed_while_it_bakes_is_rolled_back_by_itself(shop: Shop) -> None:
    path = shop.scene.folder / "proxyctl.yml"
    path.write_text(path.read_text().replace("bake: 1s", "bake: 20s"))
    async with shop.load() as load:
        deploy = asyncio.create_task(shop.type("deploy", "web", "--image", TWO))
        await shop.until("baking")
        filters: dict[str, Any] = {"label": [f"proxyctl.project={shop.scene.project}", "proxyctl.release=web-2"]}
        for container in docker.from_env().containers.list(filters=filters, ignore_removed=True):
            os.kill(container.attrs["State"]["Pid"], signal.SIGKILL)
        said = await deploy
    assert said.code == 5
    assert "rolled-back" in said.err
    assert load.failed() == []
    assert (await shop.web())["split"] == {"blue": 100.0, "green": 0.0}


async def test_a_canary_by_hand_goes_up_and_back(shop: Shop) -> None:
    assert (await shop.type("stage", "web", "--image", TWO)).code == 0
    assert (await shop.type("weight", "web", "10")).code == 0
    assert (await shop.web())["split"] == {"blue": 90.0, "green": 10.0}
    async with shop.load() as load:
        while len(load.outcomes) < 2000:
            await asyncio.sleep(0.05)
    share = sum(outcome.release == "2" for outcome in load.outcomes) / len(load.outcomes)
    assert 0.06 < share < 0.14
    refused = await shop.type("deploy", "web")
    assert refused.code == 4
    assert "web-r2" in refused.err
    assert (await shop.type("abort", "web", "--reason", "looked bad")).code == 0
    web = await shop.at_rest()
    assert web["split"] == {"blue": 100.0, "green": 0.0}
    history = json.loads((await shop.type("history", "--json")).out)
    assert [(h["outcome"], h["reason"]) for h in history][-1] == ("aborted", "looked bad")


async def test_a_missing_image_changes_nothing(shop: Shop) -> None:
    before = await shop.web()
    said = await shop.type("deploy", "web", "--image", "127.0.0.1:9/no/such:1")
    assert said.code == 6, said.err
    assert await shop.web() == before


async def test_nginx_killed_outright_serves_again_as_it_did(shop: Shop) -> None:
    pid = int((shop.scene.folder / "state/private/nginx/nginx.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}").exists() and b"nginx" in Path(f"/proc/{pid}/cmdline").read_bytes():
        await asyncio.sleep(0.02)
    said = await shop.type("proxy", "start")
    assert said.code == 0, said.err
    assert (await shop.get("/")).endswith(b"1\n")
    assert (await shop.status())["proxy"]["state"] == "running"


async def test_a_driver_killed_in_its_bake_is_followed_by_another(shop: Shop) -> None:
    async with shop.load() as load:
        deploy = asyncio.create_task(shop.type("deploy", "web", "--image", TWO))
        await shop.until("baking")
        lock = json.loads((shop.scene.folder / "state/private/locks/web.lock").read_text())
        os.kill(lock["pid"], signal.SIGKILL)
        assert (await shop.type("recover")).code == 0
        await deploy
        web = await shop.at_rest()
    assert load.failed() == []
    assert [r["id"] for r in web["releases"] if r["role"] == "live"] == ["web-2"]
