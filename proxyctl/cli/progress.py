"""Follow a rollout that somebody else drives: the journal for what happened, its socket for what happens right now."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress

from proxyctl.cli.options import actor
from proxyctl.cli.screen import Screen, screen
from proxyctl.domain import events as ev
from proxyctl.domain import orders
from proxyctl.domain.model import ServiceName
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.plan import words
from proxyctl.domain.state import Kind, ServiceState
from proxyctl.engine.history import sentence, unanswered
from proxyctl.errors import Aborted, Degraded, GateFailed, Held, Interrupted, ProxyctlError, RolloutFailed, Unavailable
from proxyctl.ports import Entry
from proxyctl.wiring import Workshop

LOOK_EVERY = 0.05
LOST_AFTER = 2.0


async def follow(shop: Workshop, service: ServiceName, rollout: str, after: int, quiet: bool) -> ServiceState:
    """Until the rollout ended or is held for a person. Raises what it failed of, with what serves now."""
    shown = screen(lambda: shop.store.load(service), quiet)
    leaving = _Interrupts(shop, service, rollout, shown)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, leaving.pressed)
    listening = asyncio.ensure_future(_tell_ticks(shop, service, shown))
    try:
        story = await _read_to_the_end(shop, service, rollout, after, shown, leaving)
        if gap := unanswered(story):
            shown.note(f"nobody answered for {gap:.1f} s")
    finally:
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
        loop.remove_signal_handler(signal.SIGINT)
        shown.close()
    known = shop.store.load(service)
    if leaving.presses:
        ended = sentence(story[-1].event)
        raise Interrupted(f"interrupted; {ended}", serving=orders.serving(known))
    if (error := failure(story, known) or held(known)) is not None:
        raise error
    return known


async def _read_to_the_end(
    shop: Workshop, service: ServiceName, rollout: str, after: int, shown: Screen, leaving: _Interrupts
) -> list[Entry]:
    story: list[Entry] = []
    driven = shop.clock.now()
    while True:
        for entry in shop.store.entries(service, after=after):
            after, driven = entry.seq, shop.clock.now()
            if entry.rollout != rollout:
                continue
            story.append(entry)
            shown.line(entry)
            if isinstance(entry.event, (ev.RolloutEnded, ev.SafetyLost)):
                return story
        if orders.choices(shop.store.load(service)):
            return story
        if leaving.presses > 1:
            raise Interrupted(
                "left; the driver takes the rollout back",
                serving=orders.serving(shop.store.load(service)),
                next_step=f"proxyctl status {service} --watch",
            )
        quiet = shop.clock.now() - driven
        if quiet > LOST_AFTER / 2 and shop.locks.holder(service) is not None:  # one look could fall into a hand-over
            driven = shop.clock.now()
        elif quiet > LOST_AFTER:
            raise Unavailable(
                f"the process that drove {rollout} died",
                serving=orders.serving(shop.store.load(service)),
                next_step=f"proxyctl recover {service}; its last words: {shop.places.logs}/driver-{service}.log",
            )
        shown.draw()
        await shop.clock.sleep(LOOK_EVERY)


def failure(story: list[Entry], known: ServiceState) -> ProxyctlError | None:
    """Why the rollout did not end promoted or held; None when it did."""
    serving = orders.serving(known)
    outcome: Outcome | None = None
    reason, detail, gate = "", "", False
    for entry in story:
        match entry.event:
            case ev.SafetyLost(reason=why):
                return Degraded(why, serving=serving, next_step="proxyctl proxy start, then proxyctl recover")
            case ev.GateFailed(detail=text):
                detail, gate = text, True
            case ev.StepFailed(detail=text) | ev.CandidateFailed(detail=text):
                detail = text
            case ev.RolloutEnded():
                outcome, reason = entry.event.outcome, entry.event.reason
    if outcome in (None, Outcome.PROMOTED):
        return None
    what = reason if reason.startswith(outcome.replace("-", " ")) else f"{outcome}: {reason or 'no reason given'}"
    if outcome in (Outcome.ABORTED, Outcome.SUPERSEDED):
        return Aborted(what, serving=serving, detail=detail, next_step=f"proxyctl history {known.service}")
    kind = GateFailed if gate else RolloutFailed
    next_step = f"proxyctl events {known.service} tells every step; then deploy a mended release"
    return kind(what, serving=serving, detail=detail, next_step=next_step)


def held(known: ServiceState) -> Held | None:
    """Whether the rollout waits for a person; one that was staged, or got its share, does so as asked."""
    rollout, asked = known.rollout, orders.asked_of_you(known)
    if rollout is None or not asked or rollout.kind in (Kind.STAGE, Kind.WEIGHT):
        return None
    return Held(
        f"{rollout.id} waits for you at step {rollout.cursor + 1} of {len(rollout.plan)}: {_asks(known)}",
        serving=orders.serving(known),
        next_step=asked,
    )


def _asks(known: ServiceState) -> str:
    rollout = known.rollout
    if rollout is None or rollout.step is None:
        return "paused"
    return rollout.why or words(rollout.step)


class _Interrupts:
    """Ctrl-C once asks for an abort of the rollout that is followed, twice leaves."""

    def __init__(self, shop: Workshop, service: ServiceName, rollout: str, shown: Screen) -> None:
        self.presses = 0
        self._shop = shop
        self._service = service
        self._rollout = rollout
        self._shown = shown
        self._asking: asyncio.Future[None] | None = None

    def pressed(self) -> None:
        self.presses += 1
        if self.presses == 1:
            self._shown.note("aborting: traffic goes to the safe side (Ctrl-C again leaves that to the driver)")
            self._asking = asyncio.ensure_future(self._abort())

    async def _abort(self) -> None:
        abort = ev.AbortRequested(actor=actor(), reason="Ctrl-C", outcome=Outcome.ABORTED)
        self._shop.store.ask(self._service, self._rollout, abort)
        await self._shop.processes.wake(self._service)


async def _tell_ticks(shop: Workshop, service: ServiceName, shown: Screen) -> None:
    """The driver's socket appears a moment after the driver; it is tried again until cancelled."""
    while True:
        async for tick in shop.ticks(service):
            shown.tick(tick)
        await asyncio.sleep(LOOK_EVERY)
