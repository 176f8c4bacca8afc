"""Carry a service to the end of its rollout, then stand guard over its standby. Start at Supervisor.drive().

A driver holds the service's lock until the rollout ended. A guard holds only the guard's lock, looks, and takes the
service's lock for the moment in which it acts; so a rollback never waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain.model import Seconds, ServiceName
from proxyctl.domain.rollout import decide
from proxyctl.domain.state import ServiceState
from proxyctl.engine.bus import Bus
from proxyctl.engine.runner import Hands, Runner
from proxyctl.engine.traffic import changed, moment, placement
from proxyctl.errors import DockerUnavailable, Locked
from proxyctl.ports import Clock, Inspector, Lock, Locks, Splits, Store

LOOK_EVERY: Seconds = 0.5
MakeHands = Callable[[int], Hands]


class Supervisor:
    """`hands` is called only when something is to be done, so that a guard that only looks stays light."""

    def __init__(
        self,
        *,
        store: Store,
        locks: Locks,
        clock: Clock,
        splits: Splits,
        inspector: Inspector,
        hands: MakeHands,
        bus: Bus,
        woken: asyncio.Event,
    ) -> None:
        self._store = store
        self._locks = locks
        self._clock = clock
        self._splits = splits
        self._inspector = inspector
        self._hands = hands
        self._bus = bus
        self._woken = woken

    async def drive(self, service: ServiceName, lock: Lock, *first: ev.Event) -> ServiceState:
        """Until the service is at rest; the lock is released then."""
        try:
            fence = self._store.raise_fence(service)
            runner = Runner(
                service=service,
                store=self._store,
                clock=self._clock,
                hands=self._hands(fence),
                fence=fence,
                bus=self._bus,
                woken=self._woken,
            )
            runner.note(*first)
            with self._splits.logged(service):
                return await runner.run()
        finally:
            lock.release()

    async def guard(self, service: ServiceName) -> None:
        """Until the standby left, or somebody else drives the service: they leave a guard of their own."""
        while isinstance(stand := decide(state := self._store.load(service)), do.Stand):
            fact = await self._stand(state, stand)
            if fact is None:
                continue
            try:
                lock = self._locks.acquire(service, "standby window")
            except Locked:
                return
            if self._store.load(service) == state:
                await self.drive(service, lock, fact)
            else:
                lock.release()

    async def _stand(self, state: ServiceState, stand: do.Stand) -> ev.Event | None:
        """Why the standing ended; None when the state moved on."""
        while self._store.load(state.service) == state:
            if stand.since is None or stand.since.elapsed(moment(self._clock)) >= stand.window:
                return ev.StandbyEnded(
                    reason=f"its window of {stand.window:g} s passed" if stand.window else "not warm"
                )
            if lost := await self._lost(state, stand):
                return ev.StandbyLost(reason=lost)
            await self._clock.sleep(LOOK_EVERY)
        return None

    async def _lost(self, state: ServiceState, stand: do.Stand) -> str:
        """Why the standby is not what passed the gate; empty while it is, or while the engine does not say."""
        placed = placement(state, stand.colour)
        if not placed.gated:
            return ""
        try:
            seen = await self._inspector.inspect([replica.name for replica in placed.replicas])
        except DockerUnavailable:
            return ""
        return ", ".join(filter(None, map(changed, placed.replicas, seen)))
