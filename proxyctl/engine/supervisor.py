"""Carry a service to the end of its rollout, then stand guard over its standby. Start at Supervisor.drive().

A driver holds the service's lock until the rollout ended. A guard holds only the guard's lock, looks, and takes the
service's lock for the moment in which it acts; so a rollback never waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain.deciding import decide
from proxyctl.domain.model import Seconds, ServiceName
from proxyctl.domain.state import ServiceState
from proxyctl.engine.bus import Bus
from proxyctl.engine.runner import Facts, Hands, Runner
from proxyctl.engine.traffic import changed, moment, placement, restarted
from proxyctl.errors import DockerUnavailable, Locked, Unavailable
from proxyctl.ports import Clock, Inspector, Life, Lock, Locks, Splits, Store

LOOK_EVERY: Seconds = 0.5
COMES_BACK_WITHIN: Seconds = 8.0  # at least: a restart has a moment in which the container does not run
LOOKS_ONLY = 0  # the fence of hands that write nothing
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
        """Until nothing needs looking after, or somebody else drives the service: they leave a guard of their own."""
        while isinstance(task := decide(state := self._store.load(service)), (do.Stand, do.Vet)):
            facts = await (self._vet(state, task) if isinstance(task, do.Vet) else self._stand(state, task))
            if not facts:
                continue
            try:
                lock = self._locks.acquire(service, "standby window")
            except Locked:  # for a moment; whoever drives the service moves its state on
                await self._clock.sleep(LOOK_EVERY)
                continue
            if self._store.load(service) == state:
                await self.drive(service, lock, *facts)
            else:
                lock.release()

    async def _stand(self, state: ServiceState, stand: do.Stand) -> Facts:
        """Why the standing ended, or begins anew after a reboot; nothing when the state moved on."""
        if stand.since is not None and stand.since.boot != self._clock.boot:
            return [ev.ClockLost(since=moment(self._clock), spent=0.0)]
        while self._store.load(state.service) == state:
            if stand.since is None or stand.since.elapsed(moment(self._clock)) >= stand.window:
                why = f"its window of {stand.window:g} s passed" if stand.window else "not warm"
                return [ev.StandbyEnded(reason=why)]
            if lost := await self._lost(state, stand):
                return lost
            await self._clock.sleep(LOOK_EVERY)
        return []

    async def _lost(self, state: ServiceState, stand: do.Stand) -> Facts:
        """How the standby is not what passed the gate; nothing while it is, or while the engine does not say."""
        placed = placement(state, stand.colour)
        if not placed.gated:
            return []
        start = placed.release.service.health.deadline
        patient_until = self._clock.now() + max(start, COMES_BACK_WITHIN)
        while True:
            try:
                seen = await self._inspector.inspect([replica.name for replica in placed.replicas])
            except DockerUnavailable:
                return []
            if all(replica.life is Life.RUNNING for replica in seen):
                return [*restarted(placed, seen)]
            if self._clock.now() >= patient_until:
                return [ev.StandbyLost(reason=", ".join(filter(None, map(changed, placed.replicas, seen))))]
            await self._clock.sleep(LOOK_EVERY)

    async def _vet(self, state: ServiceState, vet: do.Vet) -> Facts:
        """The verdict; nothing when the state moved on, or while the engine does not say."""
        regate = do.Regate(colour=vet.colour, within=vet.within)
        verdict = asyncio.ensure_future(self._hands(LOOKS_ONLY)[do.Regate](state, regate))
        moved_on = asyncio.ensure_future(self._moved_on(state))
        try:
            await asyncio.wait({verdict, moved_on}, return_when=asyncio.FIRST_COMPLETED)
            return verdict.result() if verdict.done() else []
        except Unavailable:
            await self._clock.sleep(LOOK_EVERY)
            return []
        finally:
            for task in (verdict, moved_on):
                task.cancel()
            await asyncio.gather(verdict, moved_on, return_exceptions=True)

    async def _moved_on(self, state: ServiceState) -> None:
        while self._store.load(state.service) == state:
            await self._clock.sleep(LOOK_EVERY)
