"""What is shown of a rollout while it runs: lines for what happened; on a terminal, below them, what is so right now.

Only draws: it is told, and decides nothing. Start at screen().
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from math import log
from typing import TYPE_CHECKING, Protocol

from proxyctl.cli.options import say
from proxyctl.domain import events as ev
from proxyctl.domain import orders, plan
from proxyctl.domain.explain import duration, figure, percent, whole
from proxyctl.domain.model import Colour
from proxyctl.domain.recent import Lately
from proxyctl.domain.state import Phase, Placement, Rollout, ServiceState
from proxyctl.domain.ticks import Drained, Judged, Measure, Probed, Tick, Waiting, Watched
from proxyctl.domain.units import Seconds
from proxyctl.engine.history import intent, sentence
from proxyctl.ports import Entry

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

BAR = 30
DRAW_EVERY = 0.1
FULL, EMPTY = "█", "░"
SPARK = 20  # readings
SPARKS, SPARKS_ASCII = "▁▂▃▄▅▆▇█", "_.-=+*#@"


class Screen(Protocol):
    def line(self, entry: Entry) -> None:
        """What the journal says."""
        ...

    def note(self, text: str) -> None:
        """What this command says itself."""
        ...

    def tick(self, tick: Tick) -> None: ...

    def draw(self) -> None:
        """Bring what is so right now up to date, unless that was done a moment ago."""
        ...

    def close(self) -> None: ...


def screen(look: Callable[[], ServiceState], quiet: bool) -> Screen:
    """`look` reads what is known of the service now."""
    if quiet or not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return Lines(quiet)
    return Picture(look)


class Lines:
    """For logs, pipes and CI: one line for each fact."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._started = time.monotonic()

    def line(self, entry: Entry) -> None:
        if not isinstance(entry.event, ev.Intended):
            self.note(sentence(entry.event))

    def note(self, text: str) -> None:
        say(f"{time.monotonic() - self._started:6.1f}s  {text}", self._quiet)

    def tick(self, tick: Tick) -> None: ...

    def draw(self) -> None: ...

    def close(self) -> None: ...


class Picture(Lines):
    """The lines, and a picture below them: split, replicas and their probes, the bake, the drain."""

    def __init__(self, look: Callable[[], ServiceState]) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__(quiet=False)
        self._look = look
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()
        self._console.show_cursor(True)  # whatever ends us, the terminal has its cursor
        self._drawn = 0.0
        self._probes: dict[str, Probed] = {}
        self._now: Watched | Drained | Waiting | None = None
        self._judged: Judged | None = None
        self._grown: dict[str, deque[float]] = {}  # the evidence of each metric toward its limit, 0 to 1
        self._gate_opened: float | None = None

    def line(self, entry: Entry) -> None:
        if not isinstance(entry.event, ev.Intended):
            self._now, self._judged = None, None
            self._gate_opened = time.monotonic() if isinstance(entry.event, ev.ReplicasStarted) else None
        super().line(entry)

    def note(self, text: str) -> None:
        from rich.text import Text

        self._console.print(Text(f"{time.monotonic() - self._started:6.1f}s  {text}"), soft_wrap=True)

    def tick(self, tick: Tick) -> None:
        if isinstance(tick, Probed):
            self._probes[tick.replica] = tick
        elif isinstance(tick, Judged):
            self._judged = tick
            for measure in tick.measures:
                grown = min(log(max(measure.evidence, 1.0)) / log(measure.needed), 1.0)
                self._grown.setdefault(measure.name, deque(maxlen=SPARK)).append(grown)
        else:
            self._now = tick

    def draw(self) -> None:
        now = time.monotonic()
        if now - self._drawn < DRAW_EVERY:
            return
        self._drawn = now
        self._live.update(self._picture(self._look()), refresh=True)

    def close(self) -> None:
        self._live.stop()

    # --- the picture -----------------------------------------------------------------------------------------------

    def _picture(self, known: ServiceState) -> RenderableType:
        from rich.console import Group

        return Group("", *(_fitting(line) for line in self._rows(known)))

    def _rows(self, known: ServiceState) -> Iterator[Text]:
        from rich.text import Text

        doing = f"  {intent(known.intent)}" if known.intent else ""
        yield Text.assemble((known.service, "bold"), "  ", known.phase.value, (doing, "dim"))
        for placed in filter(None, (known.blue, known.green)):
            yield from self._release_rows(known, placed)
        if known.candidate and self._gate_opened is not None:
            elapsed = time.monotonic() - self._gate_opened
            yield self._clock_row("gate", elapsed, known.candidate.release.service.health.deadline)
        if known.rollout is not None and len(known.rollout.plan) > 1:
            yield self._steps_row(known.rollout)
        if self._now is not None:
            yield self._now_row(self._now, known)
        if self._judged is not None:
            yield from map(self._measure_row, self._judged.measures)
            yield Text(f"  {'analysis':14}  {self._judged.sentence}")

    def _release_rows(self, known: ServiceState, placed: Placement) -> Iterator[Text]:
        from rich.text import Text

        share = known.split.percent(placed.colour) if known.split else 0.0
        yield Text.assemble(
            f"  {placed.colour:5} {share:6.2f} %  ",
            *self._bar(share / 100, _style(placed.colour)),
            f"  {placed.role:9}  {placed.release.id}  {placed.release.image}",
        )
        if self._judged is not None and self._judged.lately is not None:
            yield self._lately_row(self._judged.lately, placed.colour)
        for replica in placed.replicas:
            if probe := self._probes.get(replica.name):
                yield Text.assemble(f"        {replica.name:26} {replica.address:22} ", _verdict(probe, known.phase))

    def _steps_row(self, rollout: Rollout) -> Text:
        """What is done, what is being done, what comes."""
        from rich.text import Text

        row = Text("  ")
        for at, step in enumerate(rollout.plan):
            style = "dim" if at < rollout.cursor else "bold" if at == rollout.cursor else ""
            row.append(plan.words(step), style).append("" if at + 1 == len(rollout.plan) else " > ", "dim")
        return row

    def _lately_row(self, lately: Lately, colour: Colour) -> Text:
        """What the colour really got, and how it answered."""
        from rich.text import Text

        side, share = lately.side(colour), lately.share(colour) or 0.0
        if not side.requests:
            return Text(f"        {100 * share:6.2f} %  of the requests", style="dim")
        slowest = max(filter(None, (*lately.blue.trend, *lately.green.trend)), default=0.0)
        return Text.assemble(
            (f"        {100 * share:6.2f} %  ", "dim"),
            (f"{figure(side.per_second)} requests/s, ", "dim"),
            (f"{percent(side.bad)} bad", "red" if side.bad else "dim"),
            (f", median {_time(side.median)}, 95th percentile {_time(side.p95)}  ", "dim"),
            self._spark([None if time is None else time / slowest for time in side.trend]),
        )

    def _measure_row(self, measure: Measure) -> Text:
        """How far the evidence against the candidate has grown toward its limit, and what its proof still needs."""
        from rich.text import Text

        grown = self._grown[measure.name]
        bar = self._bar(grown[-1], "red" if grown[-1] > 0.5 else "yellow")
        against = f"evidence {whole(measure.evidence)} of {whole(measure.needed)}"
        return Text.assemble(f"  {measure.name:14}  ", *bar, f"  {self._spark(grown)}  {against}{_proof(measure)}")

    def _spark(self, parts: Iterable[float | None]) -> str:
        """0 to 1 each; nothing for what is not known."""
        levels = SPARKS_ASCII if self._console.options.ascii_only else SPARKS
        return "".join(" " if part is None else levels[min(int(part * len(levels)), len(levels) - 1)] for part in parts)

    def _now_row(self, now: Watched | Drained | Waiting, known: ServiceState) -> Text:
        from rich.text import Text

        match now:
            case Watched(elapsed=elapsed, window=window) if window:
                return self._clock_row("bake" if known.phase is Phase.BAKING else "step", elapsed, window)
            case Watched(elapsed=elapsed):
                told = ", until told: " + ", ".join(orders.choices(known)) if orders.choices(known) else ""
                return Text(f"  watching for {elapsed:.0f} s{told}")
            case Drained(replica=replica, connections=connections, left=left):
                seen = "unseen" if connections < 0 else str(connections)
                return Text(f"  draining {replica}: open connections {seen}, at most {left:.0f} s more")
            case Waiting(reason=reason):
                return Text(f"  trying again: {reason}", style="yellow")

    def _clock_row(self, name: str, elapsed: float, window: float) -> Text:
        from rich.text import Text

        bar = self._bar(min(elapsed / window, 1.0), "cyan")
        return Text.assemble(f"  {name:14}  ", *bar, f"  {elapsed:.0f} of {window:.0f} s")

    def _bar(self, part: float, style: str) -> tuple[tuple[str, str], tuple[str, str]]:
        """Whoever has anything shows at least one cell."""
        filled = max(round(part * BAR), 1 if part else 0)
        full, empty = ("#", ".") if self._console.options.ascii_only else (FULL, EMPTY)
        return (full * filled, style), (empty * (BAR - filled), "dim")


def _verdict(probe: Probed, phase: Phase) -> tuple[str, str]:
    """A gate counts what passes, a watch what fails."""
    counts = probe.passed is (phase is Phase.GATING)
    streak = f", {probe.streak} of {probe.needed}" if counts else ""
    return f"{'healthy' if probe.passed else probe.reason}{streak}", "green" if probe.passed else "red"


def _proof(measure: Measure) -> str:
    if measure.more is None:
        return ""
    return f", proof {whole(measure.requests)} of {whole(measure.requests + measure.more)} requests"


def _time(seconds: Seconds | None) -> str:
    return "unknown" if seconds is None else duration(seconds)


def _style(colour: Colour) -> str:
    return "blue" if colour is Colour.BLUE else "green"


def _fitting(line: Text) -> Text:
    line.no_wrap = True
    line.overflow = "ellipsis"
    return line
