"""Follow a rollout that somebody else drives: the journal for what happened, its socket for what happens right now."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from contextlib import suppress

from proxyctl.cli.options import actor, say
from proxyctl.domain import events as ev
from proxyctl.domain import orders
from proxyctl.domain.model import ServiceName
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.state import ServiceState
from proxyctl.domain.ticks import Drained, Probed, Tick, Waiting, Watched
from proxyctl.engine.history import sentence
from proxyctl.errors import Aborted, Degraded, GateFailed, Interrupted, ProxyctlError, RolloutFailed, Unavailable
from proxyctl.ports import Entry
from proxyctl.wiring import Workshop

LOOK_EVERY = 0.05
LOST_AFTER = 2.0
BAR = 24


async def follow(shop: Workshop, service: ServiceName, rollout: str, after: int, quiet: bool) -> ServiceState:
    """Until the rollout ended or is held for a person. Raises what it failed of, with what serves now."""
    screen = Screen(quiet)
    leaving = _Interrupts(shop, service, screen)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, leaving.pressed)
    listening = asyncio.ensure_future(_tell_ticks(shop, service, screen))
    try:
        story = await _read_to_the_end(shop, service, rollout, after, screen, leaving)
    finally:
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
        loop.remove_signal_handler(signal.SIGINT)
        screen.clear()
    known = shop.store.load(service)
    if leaving.presses:
        ended = sentence(story[-1].event)
        raise Interrupted(f"interrupted; {ended}", serving=orders.serving(known))
    if (error := failure(story, known)) is not None:
        raise error
    return known


async def _read_to_the_end(
    shop: Workshop, service: ServiceName, rollout: str, after: int, screen: Screen, leaving: _Interrupts
) -> list[Entry]:
    story: list[Entry] = []
    seen = shop.clock.now()
    while True:
        for entry in shop.store.entries(service, after=after):
            after, seen = entry.seq, shop.clock.now()
            if entry.rollout != rollout:
                continue
            story.append(entry)
            screen.line(entry)
            if isinstance(entry.event, (ev.RolloutEnded, ev.StepHeld, ev.SafetyLost)):
                return story
        if leaving.presses > 1:
            raise Interrupted(
                "left; the rollout goes on by itself",
                serving=orders.serving(shop.store.load(service)),
                next_step=f"proxyctl status {service} --watch, or proxyctl abort {service}",
            )
        if shop.clock.now() - seen > LOST_AFTER and shop.locks.holder(service) is None:
            raise Unavailable(
                f"the process that drove {rollout} died",
                serving=orders.serving(shop.store.load(service)),
                next_step=f"proxyctl recover {service}; its last words: {shop.places.logs}/driver-{service}.log",
            )
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
    what = f"{outcome}: {reason or 'no reason given'}"
    next_step = f"proxyctl history {known.service}"
    kind = GateFailed if gate else Aborted if outcome in (Outcome.ABORTED, Outcome.SUPERSEDED) else RolloutFailed
    return kind(what, serving=serving, detail=detail, next_step=next_step)


class _Interrupts:
    """Ctrl-C once asks for an abort, twice leaves."""

    def __init__(self, shop: Workshop, service: ServiceName, screen: Screen) -> None:
        self.presses = 0
        self._shop = shop
        self._service = service
        self._screen = screen
        self._asking: asyncio.Future[None] | None = None

    def pressed(self) -> None:
        self.presses += 1
        if self.presses == 1:
            self._screen.note("aborting: traffic goes to the safe side (Ctrl-C again leaves; the driver goes on)")
            self._asking = asyncio.ensure_future(self._abort())

    async def _abort(self) -> None:
        abort = ev.AbortRequested(actor=actor(), reason="Ctrl-C", outcome=Outcome.ABORTED)
        self._shop.store.ask(self._service, abort)
        await self._shop.processes.wake(self._service)


async def _tell_ticks(shop: Workshop, service: ServiceName, screen: Screen) -> None:
    """The driver's socket appears a moment after the driver; it is tried again until cancelled."""
    while True:
        async for tick in shop.ticks(service):
            screen.tick(tick)
        await asyncio.sleep(LOOK_EVERY)


class Screen:
    """Lines for what happened; on a terminal, one more line below for what happens right now."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._live = sys.stderr.isatty() and not quiet
        self._started = time.monotonic()
        self._probes: dict[str, str] = {}

    def line(self, entry: Entry) -> None:
        if isinstance(entry.event, ev.Intended) and not self._live:
            return
        if isinstance(entry.event, ev.Intended):
            self.now(sentence(entry.event))
            return
        self._probes.clear()
        self.note(sentence(entry.event))

    def note(self, text: str) -> None:
        self.clear()
        say(f"{time.monotonic() - self._started:6.1f}s  {text}", self._quiet)

    def tick(self, tick: Tick) -> None:
        match tick:
            case Probed(replica=replica, passed=passed, reason=reason, streak=streak, needed=needed):
                mark = f"{'ok' if passed else reason} {streak}/{needed}"
                self._probes[replica] = f"{replica} {mark}"
                self.now("  ".join(self._probes.values()))
            case Watched(elapsed=elapsed, window=window) if window:
                filled = round(BAR * min(elapsed / window, 1))
                probes = "  ".join(self._probes.values())
                self.now(f"bake [{'#' * filled}{'.' * (BAR - filled)}] {elapsed:.0f}/{window:.0f} s  {probes}")
            case Drained(replica=replica, connections=connections, left=left):
                self.now(f"draining {replica}: {connections} connections, at most {left:.0f} s more")
            case Waiting(reason=reason):
                self.now(f"waiting: {reason}")
            case _:
                pass

    def now(self, text: str) -> None:
        if self._live:
            sys.stderr.write(f"\r\x1b[2K        {text[:110]}")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._live:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
