"""What nginx's log says of one service: its requests, counted tick by tick and colour by colour. Pure data.

An attempt is one try of one replica: a request that nginx retried is several of them, each charged to the colour of its
own address. Ticks follow the times in the log, never the clock of the one who reads it.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from proxyctl.domain.record import Record
from proxyctl.domain.units import Seconds

TICK: Final[Seconds] = 5.0

# Upper edges of the buckets of a histogram, 16 to the decade, from 1 ms to 100 s: what lies between two edges differs
# by less than 15 %. One more bucket holds what took longer.
EDGES: Final[tuple[Seconds, ...]] = tuple(round(0.001 * 10 ** (step / 16), 6) for step in range(81))
Histogram = tuple[int, ...]  # one count per edge, and one more; () is empty


def bucket(seconds: Seconds) -> int:
    """Which bucket of a histogram holds this time."""
    return bisect_left(EDGES, seconds)


class RouteTally(Record):
    """Attempts of one kind of request: a method and the first part of its path, "GET /cart"; the rarest are "other"."""

    route: str
    requests: int
    bad: int  # not deduplicated: for telling which route it was
    times: Histogram  # of the attempts that have one: until the first byte, or until it was given up


class Tally(Record):
    """One colour in one tick. What a rule sent there (a match, a mirror) is no fair sample, and is not in it."""

    requests: int = 0  # attempts that reached the colour
    bad: int = 0  # 5xx, refused, timed out, broken off by the replica; of a client only the first on either colour
    bad_attempts: int = 0  # the same without that limit
    clients: tuple[str, ...] = ()  # salted hashes of the clients with a bad answer, sorted, at most 64
    samples: tuple[str, ...] = ()  # ids of the first bad requests, at most 3
    routes: tuple[RouteTally, ...] = ()  # sorted by name, at most 32 and "other"


class Tick(Record):
    """Five seconds of the log, closed: no line of it can come any more."""

    at: float  # unix time of its beginning, a multiple of TICK
    blue: Tally
    green: Tally
    sampled: float = 1.0  # the share of lines that were counted
    unreadable: int = 0  # lines that are not in the words of our log: whom they tell of is not known


LATEST: Final[Seconds] = 60.0  # no worker holds a line for so long: then its clock was set back


def comes_after(at: float, last: float | None) -> bool:
    """Whether a tick of this time is a later one than the last. Ticks come in the order of the log: one that is far
    before it was written after the clock was set back."""
    return last is None or at > last or was_set_back(at, last)


def was_set_back(at: float, last: float) -> bool:
    return at <= last - LATEST


class Position(Record):
    """How far the log was read: where a tick ended. Kept together with what was concluded from the ticks before."""

    log: str = ""  # which file, by its first line; "" before all
    begun: float = 0.0  # the time of that line, unix time
    offset: int = 0  # in that file
    share: int = 16  # sixteenths of the lines of the next tick that are counted
