"""Starting replicas: all or nothing is left."""

from __future__ import annotations

import asyncio

import pytest

from proxyctl.domain.model import Colour, Release, Replica
from tests.arena import Arena


async def test_no_replica_starts_after_the_start_was_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    arena = Arena()
    await arena.deploy("app:1")
    arena.world.foreign_names.add("shop-web-2-1")
    start = arena.runtime.start

    async def slow(release: Release, replica: Replica, colour: Colour, rollout: str) -> Replica:
        """The second replica starts long after the first was refused, whatever becomes of who waits for it."""
        if replica.name.endswith("-2"):
            for _ in range(50):
                await asyncio.sleep(0)
        return await asyncio.shield(asyncio.ensure_future(start(release, replica, colour, rollout)))

    monkeypatch.setattr(arena.runtime, "start", slow)
    await arena.deploy("app:2")
    for _ in range(100):
        await asyncio.sleep(0)
    assert arena.broken_promises() == []
