"""Hooks of the user: real executables, what they are told, and how they fail."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from proxyctl.adapters import hooks
from proxyctl.adapters.hooks import HookFolder
from proxyctl.cli.traffic import raise_if_it_failed
from proxyctl.domain import events as ev
from proxyctl.domain.state import Kind
from proxyctl.domain.steps import Hook, Weight
from proxyctl.errors import RolloutFailed, Unavailable
from tests.arena import Arena
from tests.prove.ground import Ground


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / ".proxyctl" / "hooks"
    made.mkdir(parents=True)
    return made


def a_hook(folder: Path, name: str, script: str, mode: int = 0o755) -> HookFolder:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(mode)
    return HookFolder(folder)


async def test_it_runs_beside_the_file_and_is_told_of_the_rollout(folder: Path) -> None:
    runs = a_hook(folder, "smoke", 'echo "$PROXYCTL_WEIGHT $PWD $HOME" > told')
    await runs.run("smoke", {"PROXYCTL_WEIGHT": "5"})
    beside = folder.parent.parent
    assert (beside / "told").read_text().split() == ["5", str(beside), os.environ["HOME"]]


async def test_a_failure_is_told_with_its_last_words(folder: Path) -> None:
    runs = a_hook(folder, "smoke", "echo one; echo the totals differ >&2; exit 3")
    with pytest.raises(Unavailable, match="hook smoke ended with code 3: the totals differ") as failed:
        await runs.run("smoke", {})
    assert failed.value.detail == "one\nthe totals differ"


@pytest.mark.parametrize(
    ("name", "mode", "words"), [("other", 0o755, "No such file or directory"), ("smoke", 0o644, "Permission denied")]
)
async def test_one_that_cannot_be_run_is_named(folder: Path, name: str, mode: int, words: str) -> None:
    runs = a_hook(folder, "smoke", "exit 0", mode)
    with pytest.raises(Unavailable, match=words):
        await runs.run(name, {})


async def test_one_that_takes_too_long_is_ended_with_all_that_it_started(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "PATIENCE", 0.3)
    runs = a_hook(folder, "smoke", "sleep 600 & echo $! > pid; wait")
    with pytest.raises(Unavailable, match="hook smoke took longer than 300ms"):
        await runs.run("smoke", {})
    await is_ended(folder)


async def test_what_it_leaves_running_ends_with_it(folder: Path) -> None:
    runs = a_hook(folder, "smoke", "sleep 600 & echo $! > pid")
    async with asyncio.timeout(5):
        await runs.run("smoke", {})
    await is_ended(folder)


async def test_what_left_its_group_keeps_nobody_waiting(folder: Path) -> None:
    runs = a_hook(folder, "smoke", "setsid sleep 600 & echo $! > pid")
    async with asyncio.timeout(5):
        await runs.run("smoke", {})
    os.kill(int((folder.parent.parent / "pid").read_text()), signal.SIGKILL)


async def is_ended(folder: Path) -> None:
    pid = int((folder.parent.parent / "pid").read_text())
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("what it started still runs")


async def test_a_hook_step_is_told_what_serves_and_its_failure_takes_the_candidate_back() -> None:
    arena = Arena()
    await arena.deploy("app:1")
    steps = (Weight(share=500), Hook(name="smoke"), Weight(share=10_000))
    promoted = await arena.deploy("app:2", Kind.DEPLOY, steps)
    assert promoted.live is not None and promoted.live.release.image == "app:2"
    ((name, told),) = arena.hooks.ran
    assert (name, told["PROXYCTL_WEIGHT"], told["PROXYCTL_RELEASE"]) == ("smoke", "5", "web-2")
    arena.hooks.failing.add("smoke")
    refused = await arena.deploy("app:3", Kind.DEPLOY, steps)
    assert refused.live is not None and refused.live.release.image == "app:2"
    (ended,) = [e.event for e in arena.store.entries() if isinstance(e.event, ev.StepFailed)]
    assert ended.reason == "hook smoke ended with code 1"


async def test_an_order_that_a_hook_said_no_to_tells_what_becomes_of_the_candidate(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    with ground.driven():
        await ground.deploy("app:1")
        before = ground.store.last_seq()
        ground.hooks.failing.add("smoke")
        await ground.deploy("app:2", Kind.DEPLOY, (Weight(share=500), Hook(name="smoke")))
    with pytest.raises(RolloutFailed, match="promote did not come true: hook smoke ended with code 1") as refused:
        raise_if_it_failed(ground.workshop, ground.state, before, "promote")
    assert refused.value.next_step == "proxyctl status web --watch, until it is taken back"
    ground.close()
