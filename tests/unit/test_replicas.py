"""Replicas start all or not at all, and stop once nobody talks to them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import pytest

from proxyctl.domain import events as ev
from proxyctl.domain.container import Hook
from proxyctl.domain.model import Colour, Cutover, Protocol, ProxySettings, Release, Replica
from proxyctl.domain.state import must
from proxyctl.ports import Traffic
from tests.arena import Arena


async def test_no_replica_starts_after_the_start_was_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    arena = Arena()
    await arena.deploy("app:1")
    start = arena.runtime.start

    async def slow(release: Release, replica: Replica, colour: Colour, rollout: str) -> Replica:
        """The second replica starts long after the first was refused, whatever becomes of who waits for it."""
        if replica.name.endswith("-1"):
            arena.world.foreign_names.add(replica.name)  # somebody took it since it was looked for
        else:
            for _ in range(50):
                await asyncio.sleep(0)
        return await asyncio.shield(asyncio.ensure_future(start(release, replica, colour, rollout)))

    monkeypatch.setattr(arena.runtime, "start", slow)
    await arena.deploy("app:2")
    for _ in range(100):
        await asyncio.sleep(0)
    assert arena.broken_promises() == []


# --- drain ------------------------------------------------------------------------------------------------------

BUSY_FOR = 1.2  # seconds; the drain deadline of the service is 2 s


class Drain:
    """A standby whose window has passed, and what its replicas' connections look like meanwhile."""

    def __init__(self, arena: Arena, monkeypatch: pytest.MonkeyPatch, busy: Traffic, busy_for: float) -> None:
        self.arena = arena
        self.stopped_after = -1.0
        begun, stop = arena.clock.now(), arena.runtime.stop

        async def traffic(name: str, port: int) -> Traffic:
            elapsed = arena.clock.now() - begun
            return busy if elapsed < busy_for else Traffic(connections=0, quiet_for=math.inf)

        async def stopped(name: str, grace: float, pre_stop: Sequence[Hook]) -> str:
            self.stopped_after = arena.clock.now() - begun
            return await stop(name, grace, pre_stop)

        monkeypatch.setattr(arena.runtime, "traffic", traffic)
        monkeypatch.setattr(arena.runtime, "stop", stopped)

    @property
    def cut(self) -> int:
        (retired,) = [entry.event for entry in self.arena.store.entries() if isinstance(entry.event, ev.Retired)]
        return retired.cut


async def drained(
    monkeypatch: pytest.MonkeyPatch, busy: Traffic, busy_for: float, cutover: Cutover = Cutover.LIVE, old: float = 0.0
) -> Drain:
    """`old`: for how long there are workers of an older generation."""
    arena = Arena(ProxySettings(cutover=cutover))
    await arena.deploy("app:1")
    await arena.deploy("app:2")
    arena.world.old_workers_end = arena.clock.now() + old
    drain = Drain(arena, monkeypatch, busy, busy_for)
    await arena.end_standby()
    return drain


async def test_a_release_is_stopped_only_once_nobody_talks_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    drain = await drained(monkeypatch, Traffic(connections=3, quiet_for=0.0), BUSY_FOR)
    assert drain.stopped_after >= BUSY_FOR
    assert drain.cut == 0


async def test_whoever_talks_on_at_the_deadline_is_cut_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    drain = await drained(monkeypatch, Traffic(connections=3, quiet_for=0.0), math.inf)
    assert 2.0 <= drain.stopped_after < 2.5
    assert drain.cut == 6  # of two replicas


async def test_connections_that_nginx_only_keeps_hold_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    drain = await drained(monkeypatch, Traffic(connections=3, quiet_for=5.1), math.inf)
    assert drain.stopped_after == 0.0
    assert drain.cut == 0


NOBODY = Traffic(connections=0, quiet_for=math.inf)


async def test_old_workers_that_were_told_the_old_split_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may have a client's next request for a release that nobody talks to at the moment."""
    drain = await drained(monkeypatch, NOBODY, math.inf, Cutover.RELOAD, old=1.2)
    assert 1.2 <= drain.stopped_after < 2.0


async def test_streams_on_old_workers_hold_nobody_up_for_longer_than_the_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    drain = await drained(monkeypatch, NOBODY, math.inf, Cutover.RELOAD, old=math.inf)
    assert 2.0 <= drain.stopped_after < 2.5
    assert drain.cut == 0


async def test_old_workers_that_ask_for_flags_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await drained(monkeypatch, NOBODY, math.inf, Cutover.LIVE, old=math.inf)).stopped_after == 0.0


# --- what they speak --------------------------------------------------------------------------------------------


async def test_the_live_release_is_asked_in_its_own_words_beside_one_that_speaks_grpc() -> None:
    """From the publish on, and after a failed gate: nobody may hear the candidate's words but the candidate."""
    arena = Arena()
    await arena.deploy("app:1")
    arena.edge["protocol"] = Protocol.GRPC
    await arena.deploy("app:2")
    route = must(arena.state.route)
    assert (route.protocol_of(Colour.BLUE), route.protocol_of(Colour.GREEN)) == (Protocol.HTTP, Protocol.GRPC)
    await arena.deploy("app:3")
    assert must(arena.state.route).protocols == {Protocol.GRPC}
