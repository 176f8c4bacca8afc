"""A guard stands over a standby, and in nobody's way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from proxyctl.adapters.memory import MemoryInspector, MemoryLocks
from proxyctl.cli import detached
from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain import orders, plan
from proxyctl.domain.deciding import decide
from proxyctl.domain.model import ServiceName
from proxyctl.domain.state import Kind
from proxyctl.engine.bus import Bus
from proxyctl.engine.supervisor import Supervisor
from proxyctl.ports import Lock
from tests.arena import SIGNED, WEB, Arena

WINDOW = 5.0  # of the arena's service


@pytest.fixture
async def pair() -> Arena:
    """The live release, and the one before it warm."""
    arena = Arena()
    await arena.deploy("app:1")
    await arena.deploy("app:2")
    return arena


def over(arena: Arena, kind: type[Supervisor] = Supervisor) -> Supervisor:
    return kind(
        store=arena.store,
        locks=arena.locks,
        clock=arena.clock,
        splits=arena.splits,
        inspector=MemoryInspector(arena.world),
        hands=arena.hands,
        bus=Bus(),
        woken=asyncio.Event(),
    )


def a_guard(arena: Arena) -> asyncio.Task[None]:
    return asyncio.create_task(over(arena).guard(WEB))


async def stood(arena: Arena, until: float = 3600.0) -> float:
    """How long a guard stood before it had nothing to look after, or until it was killed."""
    began, guard = arena.world.time, a_guard(arena)
    while not guard.done() and arena.world.time < began + until:  # noqa: ASYNC110 - time passes when it sleeps
        await asyncio.sleep(0)
    guard.cancel()
    await asyncio.gather(guard, return_exceptions=True)
    return arena.world.time - began


async def test_a_guard_that_only_sees_a_change_takes_no_lock(pair: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    acquire, sleep = pair.locks.acquire, pair.clock.sleep

    def noting(service: ServiceName, purpose: str) -> Lock:
        taken.append(purpose)
        return acquire(service, purpose)

    async def somebody_rolls_back(seconds: float) -> None:
        monkeypatch.setattr(pair.clock, "sleep", sleep)
        await sleep(seconds)
        await pair.rollback()

    monkeypatch.setattr(pair.locks, "acquire", noting)
    monkeypatch.setattr(pair.clock, "sleep", somebody_rolls_back)
    task = a_guard(pair)
    for _ in range(8):
        await asyncio.sleep(0)
    task.cancel()
    assert taken == []


async def test_a_guard_waits_for_whoever_has_the_lock_for_a_moment(pair: Arena) -> None:
    """They leave a guard only where none stands."""
    lock, guard = pair.locks.acquire(WEB, "recover"), a_guard(pair)
    for _ in range(50):
        await asyncio.sleep(0)
    assert pair.world.time > 2 * WINDOW and pair.state.standby is not None
    lock.release()
    await guard
    assert pair.state.standby is None


def test_a_guard_that_ends_looks_again_once_the_next_one_could_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """It saw a rollback under way; that is over before it is gone, and left no guard, for one seemed to stand."""
    arena, locks, left = Arena(), MemoryLocks(), list[ServiceName]()

    async def under_way() -> None:
        await arena.deploy("app:1")
        await arena.deploy("app:2")
        runner = arena.runner()
        runner.note(orders.open_warm(arena.state, Kind.ROLLBACK, plan.at_once(), orders.warm(arena.state), SIGNED))
        runner.commit()

    class Ending(Supervisor):
        async def guard(self, service: ServiceName) -> None:
            await super().guard(service)
            await arena.resume()
            assert isinstance(decide(arena.state), do.Stand)

    def next_guard(service: ServiceName) -> None:
        assert not locks.held, "the lock of the one that ends is free"
        left.append(service)

    @asynccontextmanager
    async def shop(*_: object) -> AsyncIterator[SimpleNamespace]:
        yield SimpleNamespace(
            locks=SimpleNamespace(adopt=lambda fd, purpose: locks.acquire(ServiceName("web.guard"), purpose)),
            store=arena.store,
            supervisor=lambda woken: over(arena, Ending),
            processes=SimpleNamespace(guard=next_guard),
        )

    asyncio.run(under_way())
    monkeypatch.setattr(detached, "workshop", shop)
    monkeypatch.setattr(detached, "_outlive_the_terminal", lambda: None)
    ended = CliRunner().invoke(detached.guard, ["web", "--lock-fd", "7"], catch_exceptions=False)
    assert (ended.exit_code, left) == (0, [WEB])


# --- a reboot -----------------------------------------------------------------------------------------------------


def rebooted(arena: Arena) -> None:
    """Its clock begins anew."""
    arena.clock.boot, arena.world.time = "the next", 5.0


async def test_after_a_reboot_the_whole_window_counts_again_and_then_the_standby_leaves(pair: Arena) -> None:
    rebooted(pair)
    assert WINDOW <= await stood(pair) < 2 * WINDOW
    assert pair.state.standby is None
    assert pair.state.live is not None and pair.state.live.release.id == "web-2"
    assert not pair.broken_promises()


async def test_what_a_guard_waited_for_in_this_boot_counts_for_the_next_guard(pair: Arena) -> None:
    rebooted(pair)
    await stood(pair, until=WINDOW - 2.0)
    assert pair.state.standby is not None and pair.state.standby_since is not None
    assert pair.state.standby_since.boot == pair.clock.boot, "so that status knows how long it is warm"
    assert await stood(pair) < WINDOW
    assert pair.state.standby is None
    assert [type(e.event) for e in pair.store.entries()].count(ev.ClockLost) == 1


@pytest.mark.parametrize("ahead", [-18_000.0, 18_000.0])
async def test_a_clock_that_is_set_makes_no_window_shorter_or_longer(pair: Arena, ahead: float) -> None:
    pair.world.ahead = ahead
    assert WINDOW - 1.0 <= await stood(pair) < 2 * WINDOW
    assert pair.state.standby is None
