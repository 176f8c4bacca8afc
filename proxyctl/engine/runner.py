"""Drive one service: decide, journal the intent, act, journal what was observed. Start at Runner.run().

The runner knows no command by name but those it must treat apart: effects are journaled before, long looks can be
interrupted by a request. What to do is the domain's, how to do it is the hands'. It holds the service's lock and fence
all along; a runner that was replaced is told by Fenced at its next commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain.deciding import decide
from proxyctl.domain.model import ServiceName
from proxyctl.domain.rollout import MOVES, advance
from proxyctl.domain.state import ServiceState
from proxyctl.domain.ticks import Waiting
from proxyctl.engine.bus import Bus
from proxyctl.errors import Degraded, OutcomeUnknown, Unavailable
from proxyctl.ports import Clock, Store

Facts = Sequence[ev.Event]
Hand = Callable[[ServiceState, Any], Awaitable[Facts]]
Hands = dict[type[Any], Hand]

LONG = (do.Start, do.Grow, do.Gate, do.Regate, do.Watch, do.Analyse, do.RunHook)
RETRY_EVERY = 2.0
RETRY_FOR = 600.0


class Runner:
    """`hands` carry out commands; a command without a hand is left to a process that has one."""

    def __init__(
        self,
        *,
        service: ServiceName,
        store: Store,
        clock: Clock,
        hands: Hands,
        fence: int,
        bus: Bus | None = None,
        woken: asyncio.Event | None = None,
    ) -> None:
        self.state = store.load(service)
        self._store = store
        self._clock = clock
        self._hands = hands
        self._fence = fence
        self._bus = bus or Bus()
        self._woken = woken
        self._unwritten: list[ev.Event] = []
        self._rollout = self.state.rollout.id if self.state.rollout else ""

    def note(self, *facts: ev.Event) -> None:
        """Take facts into the state; they are on disk before the next effect, and before run() returns."""
        for fact in facts:
            if isinstance(fact, ev.RolloutOpened):
                self._rollout = fact.rollout.id
            self.state = advance(self.state, fact)
            self._unwritten.append(fact)
            if isinstance(fact, ev.RolloutEnded):
                self.commit()
                self._rollout = ""

    def commit(self) -> None:
        if self._unwritten:
            self._store.append(self._unwritten, self.state, self._rollout, self._fence, self._clock.wall())
            self._unwritten = []

    async def run(self) -> ServiceState:
        """Until the service is at rest, or what comes next is beyond these hands."""
        self._heed()
        while (command := decide(self.state)) is not None:
            hand = self._hands.get(type(command))
            if hand is None:
                break
            self.note(*await self._perform(command, hand))
            self._heed()
        self.commit()
        return self.state

    async def _perform(self, command: do.Command, hand: Hand) -> Facts:
        """Write the intent, act, return what was seen. A crash between any two lines is resumable."""
        if isinstance(command, do.EFFECTS):
            self.note(ev.Intended(command=command))
            self.commit()
        if isinstance(command, LONG):
            self.commit()
        try:
            if self._woken is not None and isinstance(command, LONG):
                return await self._interruptible(command, hand)
            return await hand(self.state, command)
        except (Unavailable, Degraded) as error:
            return await self._unfinished(command, hand, error)

    async def _unfinished(self, command: do.Command, hand: Hand, error: Unavailable | Degraded) -> Facts:
        """What a command that did not come true means depends on the phase, and the table knows it."""
        lawful = MOVES[self.state.phase]
        if ev.StepFailed in lawful:
            in_doubt = isinstance(error, (OutcomeUnknown, Degraded)) or isinstance(command, do.Move)
            return [ev.StepFailed(reason=str(error), detail=error.detail, in_doubt=in_doubt)]
        if ev.SafetyLost in lawful and isinstance(command, (do.Move, do.Publish)):
            return [ev.SafetyLost(reason=str(error))]
        return await self._insist(command, hand, error)

    async def _insist(self, command: do.Command, hand: Hand, error: Exception) -> Facts:
        """Traffic is where it should be; what is left to do can wait for the engine to come back."""
        deadline = self._clock.now() + RETRY_FOR
        while self._clock.now() < deadline and self._woken is not None:
            self._bus.tell(Waiting(reason=str(error)))
            await self._clock.sleep(RETRY_EVERY)
            try:
                return await hand(self.state, command)
            except Unavailable as again:
                error = again
        raise error

    async def _interruptible(self, command: do.Command, hand: Hand) -> Facts:
        """The hand's facts, or none when a request changed the state meanwhile."""
        assert self._woken is not None
        work = asyncio.ensure_future(hand(self.state, command))
        try:
            while True:
                wake = asyncio.ensure_future(self._woken.wait())
                await asyncio.wait({work, wake}, return_when=asyncio.FIRST_COMPLETED)
                wake.cancel()
                if work.done():
                    return work.result()
                if self._heed():
                    return []
        finally:
            if not work.done():
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)

    def _heed(self) -> Facts:
        """Take the open requests to this rollout into the state; what it does not allow any more changes nothing."""
        if self._woken is not None:
            self._woken.clear()
        return [event for event in self._store.take(self.state.service, self._rollout) if self._allows(event)]

    def _allows(self, event: ev.Event) -> bool:
        """Note it, if the state still allows it."""
        if type(event) not in MOVES[self.state.phase]:
            return False
        self.note(event)
        return True
