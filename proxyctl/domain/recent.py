"""What the log said lately, colour by colour: for people to look at; it decides nothing. Pure. Start at lately()."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from proxyctl.domain.model import Colour
from proxyctl.domain.record import Record
from proxyctl.domain.tally import EDGES, TICK, Tally, Tick
from proxyctl.domain.units import Seconds

SPAN: Final[Seconds] = 60.0
WORST: Final = 0.95  # of the answers are as fast as what stands for the slow ones


class Side(Record):
    """One colour; of what a rule sent there nothing is counted."""

    requests: int
    per_second: float
    bad: float  # of them, 0 to 1
    median: Seconds | None  # until the first byte; None: nothing was answered
    p95: Seconds | None
    trend: tuple[Seconds | None, ...]  # the 95th percentile of each tick of the minute, oldest first


class Lately(Record):
    """The last minute, or less: since the split is as it is."""

    blue: Side
    green: Side

    def side(self, colour: Colour) -> Side:
        return self.blue if colour is Colour.BLUE else self.green

    def share(self, colour: Colour) -> float | None:
        """Of the requests, those that this colour really got, 0 to 1; None where there were none."""
        both = self.blue.requests + self.green.requests
        return self.side(colour).requests / both if both else None


def lately(ticks: Sequence[Tick], moved: float) -> Lately | None:
    """Of the ticks of a log, oldest first; `moved`: when the split became as it is, unix time. None: no tick since."""
    minute = [tick for tick in ticks if ticks[-1].at - SPAN < tick.at <= ticks[-1].at]  # the clock may be set back
    since = [tick for tick in minute if tick.at >= moved]
    if not since:
        return None
    span = since[-1].at + TICK - since[0].at
    counted = sum(tick.sampled for tick in since) / len(since)
    before = len(minute) - len(since)
    blue, green = [tick.blue for tick in minute], [tick.green for tick in minute]
    return Lately(blue=_side(blue, before, span * counted), green=_side(green, before, span * counted))


def _side(minute: list[Tally], before: int, span: Seconds) -> Side:
    tallies = minute[before:]
    requests = sum(tally.requests for tally in tallies)
    times = _times(tallies)
    return Side(
        requests=requests,
        per_second=requests / span,
        bad=sum(tally.bad_attempts for tally in tallies) / requests if requests else 0.0,
        median=quantile(times, 0.5),
        p95=quantile(times, WORST),
        trend=tuple(quantile(_times([tally]), WORST) for tally in minute),
    )


def _times(tallies: list[Tally]) -> list[int]:
    """Of all routes, one count for each bucket."""
    known = [route.times for tally in tallies for route in tally.routes if route.times]
    return [sum(counts) for counts in zip(*known, strict=True)]


def quantile(times: Sequence[int], part: float) -> Seconds | None:
    """What this part of the answers, 0 to 1, were not slower than, to the upper edge of its bucket."""
    sums = list(accumulate(times))
    if not sums or not sums[-1]:
        return None
    found = next(index for index, at_most in enumerate(sums) if at_most >= part * sums[-1])
    return EDGES[min(found, len(EDGES) - 1)]
