"""A guard stands over a standby, and in nobody's way."""

from __future__ import annotations

import asyncio

import pytest

from proxyctl.adapters.memory import MemoryInspector
from proxyctl.domain.model import ServiceName
from proxyctl.engine.bus import Bus
from proxyctl.engine.supervisor import Supervisor
from proxyctl.ports import Lock
from tests.arena import WEB, Arena


async def test_a_guard_that_only_sees_a_change_takes_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    arena = Arena()
    await arena.deploy("app:1")
    await arena.deploy("app:2")
    taken: list[str] = []
    acquire, sleep = arena.locks.acquire, arena.clock.sleep

    def noting(service: ServiceName, purpose: str) -> Lock:
        taken.append(purpose)
        return acquire(service, purpose)

    async def somebody_rolls_back(seconds: float) -> None:
        monkeypatch.setattr(arena.clock, "sleep", sleep)
        await sleep(seconds)
        await arena.rollback()

    monkeypatch.setattr(arena.locks, "acquire", noting)
    monkeypatch.setattr(arena.clock, "sleep", somebody_rolls_back)
    guard = Supervisor(
        store=arena.store,
        locks=arena.locks,
        clock=arena.clock,
        splits=arena.splits,
        inspector=MemoryInspector(arena.world),
        hands=arena.hands,
        bus=Bus(),
        woken=asyncio.Event(),
    )
    task = asyncio.create_task(guard.guard(WEB))
    for _ in range(8):
        await asyncio.sleep(0)
    task.cancel()
    assert taken == []
