"""SIGKILL a real deploy, or a command that moves traffic, at every journal boundary, with dockerd and nginx under load;
then recover."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

import docker
import pytest

from proxyctl.adapters.places import Places
from proxyctl.adapters.sqlite import SqliteStore
from proxyctl.demo.images import build_all
from proxyctl.demo.load import Load, Model
from proxyctl.demo.stage import Stage, stage
from tests.e2e.invariants import broken, unchanged

FAILPOINTS = Path(__file__).with_name("failpoints")
RECOVERED_WITHIN = 3.0
BOUNDARIES_OF_A_DEPLOY = 10  # fewer would mean that the failpoints do not bite
BOUNDARIES_OF_A_MOVE = 4
BOUNDARIES_OF_AN_ABORT = 3
BOUNDARIES_OF_A_RECOVERY = 3


async def typed(scene: Stage, *words: str, die_at: int = 0, die_in: str = "_drive") -> tuple[int, str]:
    """Exit code and stdout of a command."""
    environment = os.environ | {"DIE_AT": str(die_at), "DIE_IN": die_in, "PYTHONPATH": str(FAILPOINTS)}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "proxyctl",
        *words,
        *scene.options,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


async def at_rest(scene: Stage) -> dict[str, object]:
    """The service once nobody drives it any more."""
    deadline = time.monotonic() + 30
    while True:
        _, out = await typed(scene, "status", "--json")
        service: dict[str, object] = json.loads(out)["services"][0]
        if service["phase"] == "idle" or time.monotonic() > deadline:
            return service
        await asyncio.sleep(0.2)


@pytest.mark.docker
@pytest.mark.parametrize("first", [1, 2, 3])  # a third of them each, to share the time
async def test_a_real_kill_at_any_boundary_of_a_deploy_loses_no_request(first: int) -> None:
    await asyncio.to_thread(lambda: build_all(docker.from_env()))
    async with stage(bake="0s") as scene:
        assert (await typed(scene, "deploy", "web"))[0] == 0
        async with Load("127.0.0.1", scene.port, Model.KEEPALIVE, 4, pause=0.012) as load:
            boundary = first
            while (await typed(scene, "deploy", "web", "--image", "proxyctl-demo:2", die_at=boundary))[0] != 0:
                began = time.monotonic()
                code, _ = await typed(scene, "recover")
                assert code == 0, f"boundary {boundary}"
                assert time.monotonic() - began < RECOVERED_WITHIN, f"boundary {boundary}"
                service = await at_rest(scene)
                assert service["phase"] == "idle", f"boundary {boundary}: {service}"
                assert not (found := await broken(scene)), f"boundary {boundary}: {found}"
                async with unchanged(scene):
                    assert (await typed(scene, "recover"))[0] == 0
                assert not load.failed(), f"boundary {boundary}: {load.failed()[:3]}"
                boundary += 3
        assert boundary > BOUNDARIES_OF_A_DEPLOY
        assert not load.failed()


@pytest.mark.docker
@pytest.mark.parametrize("order", ["rollback web", "switch web", "weight web 25"])
async def test_a_real_kill_at_any_boundary_of_a_move_loses_no_request(order: str) -> None:
    await asyncio.to_thread(lambda: build_all(docker.from_env()))
    async with stage(bake="0s") as scene:
        for image in ("proxyctl-demo:1", "proxyctl-demo:2"):
            assert (await typed(scene, "deploy", "web", "--image", image))[0] == 0
        verb, *_ = order.split()
        async with Load("127.0.0.1", scene.port, Model.KEEPALIVE, 4, pause=0.012) as load:
            for boundary in count(1):
                code, _ = await typed(scene, *order.split(), die_at=boundary, die_in=verb)
                if code == 0:
                    break
                assert code == -signal.SIGKILL, f"boundary {boundary}: {code}"
                began = time.monotonic()
                assert (await typed(scene, "recover"))[0] == 0, f"boundary {boundary}"
                assert time.monotonic() - began < RECOVERED_WITHIN, f"boundary {boundary}"
                await back_to_rest(scene)
                assert not (found := await broken(scene)), f"boundary {boundary}: {found}"
                assert not load.failed(), f"boundary {boundary}: {load.failed()[:3]}"
            await back_to_rest(scene)
        assert boundary > BOUNDARIES_OF_A_MOVE
        assert not load.failed()


@pytest.mark.docker
async def test_an_abort_comes_true_wherever_its_driver_is_killed() -> None:
    await asyncio.to_thread(lambda: build_all(docker.from_env()))
    async with stage(bake="0s") as scene:
        for image in ("proxyctl-demo:1", "proxyctl-demo:2"):
            assert (await typed(scene, "deploy", "web", "--image", image))[0] == 0
        async with Load("127.0.0.1", scene.port, Model.KEEPALIVE, 4, pause=0.012) as load:
            for boundary in count(1):
                assert (await typed(scene, "weight", "web", "25", die_at=boundary))[0] == 0
                await driven(scene)
                assert (await typed(scene, "abort", "web"))[0] == 0, f"boundary {boundary}"
                assert (await at_rest(scene))["phase"] == "idle", f"boundary {boundary}"
                assert not (found := await broken(scene)), f"boundary {boundary}: {found}"
                if not died(scene):
                    break
        assert boundary > BOUNDARIES_OF_AN_ABORT
        assert not load.failed()


async def driven(scene: Stage) -> None:
    """Returns when the driver listens; a dead one may have left its socket."""
    async with asyncio.timeout(10):
        while True:
            with suppress(OSError):
                _, line = await asyncio.open_unix_connection(Places(scene.folder / "state").driver_socket("web"))
                line.close()
                return
            await asyncio.sleep(0.05)


def died(scene: Stage) -> bool:
    """Whether the last rollout was not ended by its driver, which has the fence after that of its opening."""
    with closing(SqliteStore(Places(scene.folder / "state").store)) as store:
        journal = store.entries()
    opened = next(entry for entry in journal if entry.rollout == journal[-1].rollout)
    return journal[-1].fence > opened.fence + 1


@pytest.mark.docker
async def test_a_recovery_that_is_killed_anywhere_is_finished_by_the_next() -> None:
    await asyncio.to_thread(lambda: build_all(docker.from_env()))
    async with stage(bake="0s") as scene:
        for image in ("proxyctl-demo:1", "proxyctl-demo:2"):
            assert (await typed(scene, "deploy", "web", "--image", image))[0] == 0
        async with Load("127.0.0.1", scene.port, Model.KEEPALIVE, 4, pause=0.012) as load:
            for boundary in count(1):
                assert (await typed(scene, "rollback", "web", die_at=3, die_in="rollback"))[0] == -signal.SIGKILL
                killed, _ = await typed(scene, "recover", die_at=boundary, die_in="recover")
                assert (await typed(scene, "recover"))[0] == 0, f"boundary {boundary}"
                assert not (found := await broken(scene)), f"boundary {boundary}: {found}"
                if killed == 0:
                    break
        assert boundary > BOUNDARIES_OF_A_RECOVERY
        assert not load.failed()


async def back_to_rest(scene: Stage) -> None:
    """A weight that came true waits for a person."""
    _, out = await typed(scene, "status", "--json")
    if json.loads(out)["services"][0]["phase"] == "paused":
        assert (await typed(scene, "abort", "web"))[0] == 0
    service = await at_rest(scene)
    assert service["phase"] == "idle", service
