"""Carry out an order of a person: drive the service ourselves, or ask the process that drives it. Start at Steering.

A driver that has not taken a request within 200 ms is ended (it is proxyctl's own process, verified by its start time)
and its lock is taken: a stuck driver never delays a rollback, and ending it anywhere is safe.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain import obeyed, orders
from proxyctl.domain.deciding import decide
from proxyctl.domain.model import Replica, Seconds, ServiceName
from proxyctl.domain.state import Phase, ServiceState
from proxyctl.engine.runner import Hands, Runner
from proxyctl.engine.traffic import astray, flags_of, restarts
from proxyctl.errors import Conflict, DockerUnavailable, Locked, NginxUnavailable, StateUnusable
from proxyctl.ports import Clock, Inspector, Lock, Locks, Processes, Splits, Store

TAKEN_WITHIN: Seconds = 0.2
FREED_WITHIN: Seconds = 3.0
ANSWERED_WITHIN: Seconds = 15.0
LOOK_EVERY: Seconds = 0.005

MakeHands = Callable[[int], Hands]  # for a fence
Order = Callable[[ServiceState], ev.Event]
PutBack = Callable[[Sequence[Replica]], Awaitable[object]]  # as Runtime has it


class Asked(NamedTuple):
    """An order that met somebody who drives the service."""

    service: ServiceName
    rollout: str  # that was meant; "": none ran
    order: ev.Event
    after: int  # seq of the journal's last entry before


class Steering:
    def __init__(
        self,
        *,
        store: Store,
        locks: Locks,
        clock: Clock,
        splits: Splits,
        inspector: Inspector,
        processes: Processes,
        hands: MakeHands,
        put_back: PutBack,
    ) -> None:
        self._store = store
        self._locks = locks
        self._clock = clock
        self._splits = splits
        self._inspector = inspector
        self._processes = processes
        self._hands = hands
        self._put_back = put_back

    async def act(self, service: ServiceName, order: Order, purpose: str) -> ServiceState:
        """Take the lock, mend what a crash left, carry out the order as far as these hands reach, and leave the rest to
        a driver. Raises Locked when the service is driven, Conflict when its state does not allow the order."""
        lock = self._locks.acquire(service, purpose)
        try:
            runner = self._runner(service)
            try:
                event = self._event(runner, order)
                await self._refuse_without_nginx(runner.state, event)
                if not obeyed.under_way(runner.state, event):
                    runner.note(event)
            finally:  # what a crash left is mended even when the order is refused
                state = await runner.run()
                self._leave_rest(state, lock)
        finally:
            lock.release()
        return state

    async def steer(self, service: ServiceName, order: Order, purpose: str) -> ServiceState:
        """Act, or have the driver act: returns once the state shows it. Raises Conflict like act(), and RolloutFailed
        where the rollout that was meant went back to the safe side instead."""
        try:
            return await self.act(service, order, purpose)
        except Locked:
            asked = self._asked(service, order)  # refused in words before anybody is disturbed
        known = self._store.load(service)
        if obeyed.under_way(known, asked.order) and self._carried_out(asked):
            return known  # whoever drains what leaves is not disturbed
        await self._refuse_without_nginx(known, asked.order)
        if not isinstance(asked.order, ev.RolloutOpened):
            await self._ask_driver(asked)
            if self._carried_out(asked):
                return self._store.load(service)
        if await self._becomes(lambda: self._free(service), FREED_WITHIN):  # it ended before it heard of the request
            self._store.take(service, asked.rollout)
            return await self._act_after(asked, order, purpose)
        obeyed.refuse_another(self._store.load(service), asked.rollout, asked.order)
        raise Locked(
            f"the driver of {service} has not carried this out yet",
            serving=orders.serving(self._store.load(service)),
            next_step=f"proxyctl status {service} --watch",
        )

    def _asked(self, service: ServiceName, order: Order) -> Asked:
        after = self._store.last_seq()
        known = self._store.load(service)
        return Asked(service, known.rollout.id if known.rollout else "", order(known), after)

    async def _act_after(self, asked: Asked, order: Order, purpose: str) -> ServiceState:
        """A driver that died may have taken the order: whoever acts next has finished it, and it is not given twice."""

        def again(state: ServiceState) -> ev.Event:
            obeyed.refuse_another(state, asked.rollout, asked.order)
            return order(state)

        try:
            return await self.act(asked.service, again, purpose)
        except Conflict:
            known = self._store.load(asked.service)
            if known.phase is not Phase.DEGRADED and not self._carried_out(asked):
                raise
            return known

    async def _ask_driver(self, asked: Asked) -> None:
        """Leave the request; whoever drives that rollout and does not take it in time is ended."""
        service = asked.service
        request = self._store.ask(service, asked.rollout, asked.order)
        await self._processes.wake(service)
        if not await self._becomes(lambda: self._store.taken(request) or self._is_over(asked), TAKEN_WITHIN):
            await self._end_driver(service)
        await self._becomes(lambda: self._carried_out(asked) or self._is_over(asked), ANSWERED_WITHIN)

    def _is_over(self, asked: Asked) -> bool:
        """Nobody drives what was meant."""
        return self._free(asked.service) or self._ended(asked, self._store.load(asked.service)) is not None

    def _carried_out(self, asked: Asked) -> bool:
        state = self._store.load(asked.service)
        return obeyed.carried_out(state, asked.order, self._ended(asked, state))

    def _ended(self, asked: Asked, state: ServiceState) -> ev.RolloutEnded | None:
        """How the rollout that was meant did, once it is over."""
        if state.rollout is not None and state.rollout.id == asked.rollout:
            return None
        for entry in self._store.entries(asked.service, after=asked.after):
            if entry.rollout == asked.rollout and isinstance(entry.event, ev.RolloutEnded):
                return entry.event
        return None

    async def recover(self, service: ServiceName) -> ServiceState:
        """Finish or undo what a crash left, and have gated again what the engine restarted; nothing to mend is done.
        Twice changes nothing."""
        lock = self._locks.acquire(service, "recover")
        try:
            runner = self._runner(service)
            try:
                await self._bring_back(runner.state)
            finally:  # who has an address of ours keeps nothing else from being mended
                state = await self._recover_with(runner)
                self._leave_rest(state, lock)
        finally:
            lock.release()
        return state

    async def _recover_with(self, runner: Runner) -> ServiceState:
        self._mend(runner)
        await self._flags_follow_the_journal(runner.state)
        if runner.state.phase is Phase.IDLE:
            runner.note(*await restarts(self._inspector, runner.state.live, runner.state.standby))
        return await runner.run()

    async def _bring_back(self, state: ServiceState) -> None:
        """What a hand moved to other addresses is where nginx looks for it. Raises AddressTaken."""
        with suppress(DockerUnavailable):
            if await astray(self._inspector, state):
                await self._put_back(state.replicas)

    def open(self, service: ServiceName, order: Order, purpose: str) -> ServiceState:
        """Journal the order and leave all of it to a driver, that holds the lock from the same instant."""
        lock = self._locks.acquire(service, purpose)
        try:
            runner = self._runner(service)
            runner.note(order(runner.state))
            runner.commit()
            self._leave_rest(runner.state, lock)
        finally:
            lock.release()
        return runner.state

    def _runner(self, service: ServiceName) -> Runner:
        fence = self._store.raise_fence(service)
        return Runner(service=service, store=self._store, clock=self._clock, hands=self._hands(fence), fence=fence)

    def _free(self, service: ServiceName) -> bool:
        return self._locks.holder(service) is None

    def _event(self, runner: Runner, order: Order) -> ev.Event:
        """What the order means; if a crash stands in its way, what it means once that is mended. Raises Conflict."""
        try:
            return order(runner.state)
        except Conflict:
            self._mend(runner)
            return order(runner.state)

    async def _refuse_without_nginx(self, state: ServiceState, event: ev.Event) -> None:
        """What moves traffic is not begun where nobody would see it; what takes it back is. Raises NginxUnavailable."""
        if state.route is None or isinstance(event, (ev.AbortRequested, ev.PauseRequested)):
            return
        try:
            await self._splits.reach()
        except NginxUnavailable as error:
            raise NginxUnavailable(
                f"{state.service} was left as it is: {error}",
                serving="not known: nginx does not answer",
                next_step="proxyctl proxy start",
            ) from error

    def _mend(self, runner: Runner) -> None:
        if (event := orders.after_crash(runner.state, self._candidate_has_traffic(runner.state))) is not None:
            runner.note(event)

    def _candidate_has_traffic(self, state: ServiceState) -> bool:
        """As the flag files say, not as the journal hoped."""
        split = state.split
        with suppress(StateUnusable):  # changed by somebody's hand: then the journal is all there is
            flags = self._splits.read(state.service) if state.route is not None else None
            split = flags.split if flags is not None else state.split
        return bool(split and state.candidate and split.serves(state.candidate.colour))

    async def _flags_follow_the_journal(self, state: ServiceState) -> None:
        """Flags moved by somebody else's hand go back to what was journaled."""
        if state.rollout is not None or state.route is None or state.phase is not Phase.IDLE:
            return
        if await self._flags_agree(state):
            return
        with suppress(NginxUnavailable):  # nginx reads the flags when it starts
            journaled = do.Move(split=state.split, cover=state.cover, preview=state.preview)
            await self._hands(0)[do.Move](state, journaled)

    async def _flags_agree(self, state: ServiceState) -> bool:
        """They can be believed, say what was journaled, and nginx sees them."""
        try:
            journaled = self._splits.read(state.service) == flags_of(state)
            return journaled and not await self._splits.doubt(state.service)
        except StateUnusable:
            return False

    def _leave_rest(self, state: ServiceState, lock: Lock) -> None:
        match decide(state):
            case None:
                return
            case do.Stand() | do.Vet():
                self._processes.guard(state.service)
            case _:
                self._processes.drive(state.service, lock)

    async def _end_driver(self, service: ServiceName) -> None:
        holder = self._locks.holder(service)
        self._locks.end_holder(service)
        if not await self._becomes(lambda: self._free(service), FREED_WITHIN):
            raise Locked(
                f"the driver of {service} neither answers nor can be ended",
                serving=orders.serving(self._store.load(service)),
                next_step=f"end process {holder.pid if holder else '?'} and repeat the command",
            )

    async def _becomes(self, true: Callable[[], bool], within: Seconds) -> bool:
        deadline = self._clock.now() + within
        while not true():
            if self._clock.now() > deadline:
                return False
            await self._clock.sleep(LOOK_EVERY)
        return True
