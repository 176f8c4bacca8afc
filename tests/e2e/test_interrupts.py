"""A rollout outlives its terminal, and Ctrl-C goes to the safe side."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator

import pytest

from tests.e2e.shop import SICK, TWO, Shop, ended, open_shop

pytestmark = pytest.mark.docker


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    """Release 1 is live; a bake takes longer than a test."""
    async with open_shop(bake="0s") as made:
        made.write("drain: 5s", "drain: 500ms")
        assert (await made.type("deploy", "web")).code == 0
        made.write("bake: 0s", "bake: 20s")
        made.write("healthy: 2", "healthy: 8")  # a gate that can be seen
        yield made


async def test_ctrl_c_in_the_bake_aborts_to_the_safe_side(shop: Shop) -> None:
    deploy = await shop.start("deploy", "web", "--image", TWO)
    await shop.until("baking")
    async with shop.load() as load:
        deploy.send_signal(signal.SIGINT)
        said = await ended(deploy)
    assert said.code == 130
    assert "aborting: traffic goes to the safe side" in said.err
    assert "serving: web: web-1 (blue) 100 %" in said.err
    assert load.failed() == []
    assert (await shop.web())["split"] == {"blue": 100.0, "green": 0.0}
    assert shop.containers("release=web-2") == []


async def test_ctrl_c_in_the_gate_leaves_the_live_release_as_it_is(shop: Shop) -> None:
    before = (await shop.web())["releases"]
    deploy = await shop.start("deploy", "web", "--image", SICK)
    await shop.until("gating")
    async with shop.load() as load:
        deploy.send_signal(signal.SIGINT)
        said = await ended(deploy)
    assert said.code == 130, said.err
    assert load.failed() == []
    assert load.releases_since(0) == {"1"}
    assert (await shop.at_rest())["releases"] == before
    assert shop.containers("release=web-2") == []


async def test_a_second_ctrl_c_leaves_at_once_and_the_driver_goes_on_to_the_safe_side(shop: Shop) -> None:
    deploy = await shop.start("deploy", "web", "--image", TWO)
    await shop.until("baking")
    os.kill(driver := shop.driver(), signal.SIGSTOP)
    deploy.send_signal(signal.SIGINT)
    assert deploy.stderr is not None
    while b"aborting" not in await deploy.stderr.readline():
        pass
    deploy.send_signal(signal.SIGINT)
    said = await asyncio.wait_for(ended(deploy), 3)
    assert said.code == 130
    assert "left; the driver takes the rollout back" in said.err
    assert said.err.rstrip().endswith("next:    proxyctl status web --watch"), "to abort it would be refused"
    assert (await shop.web())["phase"] == "baking"
    os.kill(driver, signal.SIGCONT)
    assert (await shop.at_rest())["split"] == {"blue": 100.0, "green": 0.0}
    assert shop.containers("release=web-2") == []


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGKILL])
async def test_a_rollout_goes_on_without_its_command(shop: Shop, number: signal.Signals) -> None:
    shop.write("bake: 20s", "bake: 1s")
    deploy = await shop.start("deploy", "web", "--image", TWO)
    await shop.until("gating")
    deploy.send_signal(number)
    assert (await ended(deploy)).code == -number
    await promoted(shop)


async def test_a_rollout_goes_on_when_its_terminal_is_closed(shop: Shop) -> None:
    shop.write("bake: 20s", "bake: 1s")
    terminal, command_side = pty.openpty()
    deploy = await asyncio.create_subprocess_exec(
        *("setsid", "--ctty", sys.executable, "-m", "proxyctl", "deploy", "web", "--image", TWO, *shop.scene.options),
        stdin=command_side,
        stdout=command_side,
        stderr=command_side,
    )
    os.close(command_side)
    await shop.until("gating")
    os.close(terminal)
    assert await asyncio.wait_for(deploy.wait(), 5) == -signal.SIGHUP
    await promoted(shop)


async def promoted(shop: Shop) -> None:
    web = await shop.at_rest()
    assert [(r["id"], r["role"]) for r in web["releases"]] == [("web-1", "standby"), ("web-2", "live")]
    assert (await shop.get("/")).endswith(b"2\n")


async def test_a_terminal_shows_the_rollout_as_it_goes_and_a_pipe_plain_lines(shop: Shop) -> None:
    shop.write("bake: 20s", "bake: 2s")
    seen = await asyncio.to_thread(in_a_terminal, "deploy", "web", "--image", TWO, *shop.scene.options)
    for part in ("gating", "gate  ", "healthy, ", " of 8", "bake  ", " of 2 s", "█", "\x1b["):
        assert part in seen, part
    plain = await shop.type("rollback", "web")
    assert "\x1b" not in plain.err + plain.out


def in_a_terminal(*words: str) -> str:
    """All that a command writes to a terminal of its own."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": "110", "LINES": "30"}
        os.execv(sys.executable, [sys.executable, "-m", "proxyctl", *words])
    seen = b""
    try:
        while part := os.read(terminal, 65536):
            seen += part
    except OSError:  # the other side is closed
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return seen.decode()
