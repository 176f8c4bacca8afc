"""A candidate that Docker or the kernel takes something from while it bakes, and a release whose image is gone."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.models.containers import Container

from tests.e2e.invariants import spoke_plainly
from tests.e2e.pair import file_says, standing_pair
from tests.e2e.shop import ONE, TWO, Said, Shop

pytestmark = [pytest.mark.docker, pytest.mark.long]

PYTHON = str(Path(sys.executable).resolve())  # the demo's images run it too
ROOM = 96 << 20  # bytes of a replica that is about to be killed for want of more


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with standing_pair() as shop:
        yield shop


class Baking:
    """A candidate that has all traffic, and what was said in the end of its deploy."""

    def __init__(self, replicas: list[Container]) -> None:
        self.replicas = replicas
        self.said = Said(0, "", "")


@asynccontextmanager
async def baking(shop: Shop) -> AsyncIterator[Baking]:
    """At the end the candidate was rolled back, and no request was lost."""
    before = live(await shop.web())
    with file_says(shop, "bake: 0s", "bake: 60s"):
        async with shop.load() as load:
            deploy = asyncio.create_task(shop.type("deploy", "web", "--image", ONE))
            await shop.until("baking")
            candidate = next(r["id"] for r in (await shop.web())["releases"] if r["role"] == "candidate")
            bake = Baking(shop.containers(f"release={candidate}"))
            yield bake
            bake.said = await deploy
            web = await shop.at_rest()
    spoke_plainly(bake.said)
    assert bake.said.code == 5, bake.said
    assert live(web) == before
    assert load.failed() == []


def live(web: dict[str, Any]) -> list[str]:
    return [release["id"] for release in web["releases"] if release["role"] == "live"]


def kill_for_want_of_memory(replica: Container) -> None:
    """The kernel itself does it: another process takes the room, and the application is marked as the one to go."""
    replica.update(mem_limit=ROOM, memswap_limit=ROOM)
    Path(f"/proc/{replica.attrs['State']['Pid']}/oom_score_adj").write_text("1000")
    eaten = replica.exec_run([PYTHON, "-S", "-c", f"b'x' * {2 * ROOM}"])
    deadline = time.monotonic() + 2
    while not replica.attrs["State"]["OOMKilled"]:
        assert time.monotonic() < deadline, f"{replica.attrs['State']}: {eaten}"
        replica.reload()


async def test_a_candidate_that_is_killed_for_want_of_memory_is_rolled_back_and_the_reason_told(shop: Shop) -> None:
    async with baking(shop) as bake:
        await asyncio.to_thread(kill_for_want_of_memory, bake.replicas[0])
    assert "was killed for want of memory (OOM, exit code 137)" in bake.said.err, bake.said.err.splitlines()[-3]


async def test_a_candidate_that_is_paused_is_rolled_back_and_stopped_all_the_same(shop: Shop) -> None:
    async with baking(shop) as bake:
        bake.replicas[0].pause()
    assert not [replica for replica in shop.containers() if replica.status == "paused"]


# --- an image that is gone --------------------------------------------------------------------------------------


@contextmanager
def an_image_of_its_own() -> Iterator[str]:
    """Nobody else holds it, so that it can be removed."""
    with closing(docker.from_env()) as engine:
        name = f"proxyctl-prove:{uuid.uuid4().hex[:8]}"
        engine.images.build(fileobj=BytesIO(f"FROM {ONE}\nLABEL its.own={name}\n".encode()), tag=name, rm=True)
        try:
            yield name
        finally:
            if engine.images.list(name):
                engine.images.remove(name, force=True)


async def test_a_release_whose_image_is_gone_is_named_and_the_live_one_stays(shop: Shop) -> None:
    with an_image_of_its_own() as image:
        assert (await shop.type("deploy", "web", "--image", image)).code == 0
        gone = live(await shop.web())
        for another in (ONE, TWO):
            assert (await shop.type("deploy", "web", "--image", another)).code == 0
        with closing(docker.from_env()) as engine:
            engine.images.remove(image, force=True)
    before = live(await shop.web())
    async with shop.load() as load:
        said = await shop.type("rollback", "web", "--to", *gone)
        await shop.at_rest()
    spoke_plainly(said)
    assert said.code == 6, said
    assert f"{gone[0]} cannot be started: its image {image} (sha256:" in said.err
    assert f"docker pull {image}" in said.err
    assert live(await shop.web()) == before
    assert "standby" in {release["role"] for release in (await shop.web())["releases"]}, "it was looked for before"
    assert load.failed() == []
