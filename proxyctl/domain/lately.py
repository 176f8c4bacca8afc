"""How a colour did in the last minute of nginx's log, for people who watch. Pure; nothing is decided by it.

Start at lately().
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from proxyctl.domain.evidence import RECENT
from proxyctl.domain.model import Colour
from proxyctl.domain.tally import EDGES, TICK, Histogram, Tally, Tick
from proxyctl.domain.ticks import Lately
from proxyctl.domain.units import Seconds


def lately(ticks: Sequence[Tick]) -> tuple[Lately, ...]:
    """Of both colours, by the last minute of these ticks; none where nobody was asked."""
    recent = ticks[-RECENT:]
    asked = {colour: sum(_of(tick, colour).requests / tick.sampled for tick in recent) for colour in Colour}
    whole = sum(asked.values())
    if not whole:
        return ()
    seconds = recent[-1].at + TICK - recent[0].at
    return tuple(
        _lately(colour, [_of(tick, colour) for tick in recent], asked[colour] / whole, asked[colour] / seconds)
        for colour in Colour
    )


def _lately(colour: Colour, tallies: Sequence[Tally], share: float, per_second: float) -> Lately:
    requests, bad = sum(tally.requests for tally in tallies), sum(tally.bad_attempts for tally in tallies)
    times = [route.times for tally in tallies for route in tally.routes if route.times]
    whole = tuple(sum(counts) for counts in zip(*times, strict=True))
    return Lately(
        colour=colour,
        share=share,
        per_second=per_second,
        bad=bad / requests if requests else 0.0,
        half=_within(whole, 0.5),
        most=_within(whole, 0.95),
    )


def _of(tick: Tick, colour: Colour) -> Tally:
    return tick.blue if colour is Colour.BLUE else tick.green


def _within(times: Histogram, part: float) -> Seconds | None:
    """In which time this part of the answers came, to the edge of a bucket."""
    sums = list(accumulate(times))
    if not sums or not sums[-1]:
        return None
    bucket = next(index for index, at_most in enumerate(sums) if at_most >= part * sums[-1])
    return EDGES[min(bucket, len(EDGES) - 1)]
