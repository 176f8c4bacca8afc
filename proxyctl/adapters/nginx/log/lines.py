"""Lines of the compact log become ticks. Pure: the same lines in the same order give the same ticks, however many come
at once. Start at Ticks.take().

The fields of a line, as rendering/log_formats.py has nginx write them, apart by tabs:

    time  id  client  status  seconds  pool  seconds to first bytes  seconds to ends    what one request is known by
    service  reason  addresses of attempts  statuses of attempts  method  path         what many requests share

nginx writes whatever is not plain ASCII, and so every tab and newline of a client, as \\x09: no client can forge a
field. Workers write what they hold once a second, so lines come out of order by about as much. A tick is therefore a
stretch of the log: it ends before the first line of a later time, and a line that comes late counts in the tick that it
comes in. Both colours are late alike, so neither gains by it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from itertools import chain, repeat
from typing import NamedTuple

from proxyctl.adapters.nginx.flags import COVERED, PLAIN
from proxyctl.adapters.nginx.names import SPLIT, upstream_name
from proxyctl.domain.model import Colour, Route
from proxyctl.domain.tally import EDGES, LATEST, TICK, RouteTally, Tally, Tick, bucket

TIME = slice(0, 25)  # "2026-11-21T11:07:38+00:00"
CHANCE = slice(26, 27)  # the first digit of the id, which is random
ID, CLIENT, ANSWERED, ENDED = 1, 2, 6, 7
OWN_FIELDS = 8

MOST_LINES = 20_000 * int(TICK)  # of one tick; where there were more, the next is sampled
DIGITS = b"0123456789abcdef"

CLIENTS_TOLD, SAMPLES_TOLD, ROUTES_TOLD = 64, 3, 32
ROUTES_KNOWN = 1000  # in one tick; a scan of random paths shall not fill the memory
ROUTE_LENGTH = 80
OTHER = "other"

ATTEMPTS = re.compile(rb", | : ")  # what stands between them
_TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d")
_UNTIMED = -1


class Charge(NamedTuple):
    """Whose attempt it is: by its address, or by the pool where nginx knew no live replica to ask."""

    service: bytes
    colours: Mapping[bytes, Colour]
    salt: bytes


def charge(project: str, route: Route, salt: bytes) -> Charge:
    slots = {slot: colour for colour in Colour for slot in route.slots(colour)}
    pools = {
        upstream_name(project, route.service, pool): colour
        for pools in (PLAIN, COVERED)
        for colour, pool in zip(Colour, pools, strict=True)
    }
    return Charge(route.service.encode(), {name.encode(): colour for name, colour in (slots | pools).items()}, salt)


class End(NamedTuple):
    """Of a tick: it has the lines before this one."""

    line: int
    tick: Tick


class Ticks:
    """`share` of the lines, in sixteenths, is counted until the first tick has ended."""

    def __init__(self, charge: Charge, share: int = len(DIGITS)) -> None:
        self.share = share
        self._charge = charge
        self._open: _OpenTick | None = None

    def take(self, lines: Sequence[bytes]) -> Iterator[End]:
        """Counts these lines, without their newlines. Yields every tick that ended among them."""
        first = 0
        while (beyond := self._beyond(lines, first)) < len(lines):
            self._count(lines[first:beyond])
            if self._open is not None:
                yield End(beyond, self._end(self._open))
            self._open = _OpenTick(time_of(lines[beyond][TIME]) or 0.0, self.share, self._charge)
            first = beyond
        self._count(lines[first:])

    def _beyond(self, lines: Sequence[bytes], first: int) -> int:
        """The line with which another tick begins; as many as there are where none does."""
        times = {text: at for text in {line[TIME] for line in lines[first:]} if (at := time_of(text)) is not None}
        beyond = {text for text, at in times.items() if self._open is None or at not in self._open}
        if not beyond:
            return len(lines)
        return next(number for number in range(first, len(lines)) if lines[number][TIME] in beyond)

    def _count(self, lines: Sequence[bytes]) -> None:
        if self._open is not None:
            self._open.count(lines)

    def _end(self, open_: _OpenTick) -> Tick:
        self.share = max(1, min(len(DIGITS), len(DIGITS) * MOST_LINES // open_.seen))
        return open_.tick()


def counts_in(tick: float, time: float) -> bool:
    """Whether a line of this time that comes while this tick is open does not end it."""
    return tick - LATEST <= time < tick + TICK


def tick_of(lines: Sequence[bytes], charge: Charge) -> Tick:
    """All these as one tick, at the time of the first."""
    tick = _OpenTick(time_of(lines[0][TIME]) or 0.0, len(DIGITS), charge)
    tick.count(lines)
    return tick.tick()


class _OpenTick:
    def __init__(self, first: float, share: int, charge: Charge) -> None:
        self.seen = self._unreadable = 0
        self._at = first // TICK * TICK
        self._share = share
        self._charge = charge
        self._sides = {colour: _Side() for colour in Colour}
        self._first_bad: dict[str, tuple[bytes, Colour]] = {}  # of each client

    def __contains__(self, time: float) -> bool:
        return counts_in(self._at, time)

    def count(self, lines: Sequence[bytes]) -> None:
        self.seen += len(lines)
        if self._share < len(DIGITS):
            counted = DIGITS[: self._share]
            lines = [line for line in lines if line[CHANCE] in counted]
        for (shared, part), requests in _alike(lines).items():
            self._count_alike(shared.split(b"\t"), part, requests)

    def _count_alike(self, shared: list[bytes], part: bytes, requests: list[list[bytes]]) -> None:
        """Requests that differ in their own fields only."""
        if len(shared) != 6:
            self._unreadable += len(requests)
            return
        service, reason, addresses, statuses, method, _ = shared
        if service != self._charge.service or reason != SPLIT.encode():
            return
        route = b"%b /%b" % (method, part)
        times_of_attempts = chain(_by_attempt(requests), repeat(()))
        attempts = zip(ATTEMPTS.split(addresses), ATTEMPTS.split(statuses), times_of_attempts, strict=False)
        for address, status, times in attempts:
            if colour := self._charge.colours.get(address):
                self._sides[colour].count(route, len(requests), times)
                if status.startswith(b"5"):
                    self._count_bad(colour, route, requests)

    def _count_bad(self, colour: Colour, route: bytes, requests: list[list[bytes]]) -> None:
        """Of a client's bad answers one counts, by the lot that its random id is, for whichever colour gave it: else a
        client that fails everywhere would count for both, and often for the one with few requests."""
        clients = [_hashed(fields[CLIENT], self._charge.salt) for fields in requests]
        self._sides[colour].count_bad(route, requests, clients)
        for client, fields in zip(clients, requests, strict=True):
            known = self._first_bad.get(client)
            if known is None or fields[ID] < known[0]:
                self._first_bad[client] = fields[ID], colour

    def tick(self) -> Tick:
        bad = Counter(colour for _, colour in self._first_bad.values())
        tallies = {colour: side.tally(bad[colour]) for colour, side in self._sides.items()}
        sampled = self._share / len(DIGITS)
        return Tick(
            at=self._at,
            blue=tallies[Colour.BLUE],
            green=tallies[Colour.GREEN],
            sampled=sampled,
            unreadable=self._unreadable,
        )


def _alike(lines: Sequence[bytes]) -> dict[tuple[bytes, bytes], list[list[bytes]]]:
    """Lines by what they share, up to the first part of the path. Nearly all the time goes here."""
    alike: defaultdict[tuple[bytes, bytes], list[list[bytes]]] = defaultdict(list)
    for line in lines:
        fields = line.split(b"\t", OWN_FIELDS)
        shared, _, path = fields[-1].partition(b"/")
        alike[shared, path.partition(b"/")[0]].append(fields)
    return alike


def _by_attempt(requests: list[list[bytes]]) -> Iterable[Sequence[bytes]]:
    """How long each request's first attempt took, then each one's second."""
    if b" " not in requests[0][ENDED]:
        return [[_waited(fields[ANSWERED], fields[ENDED]) for fields in requests]]
    return zip(*map(_waits, requests), strict=False)


def _waits(fields: list[bytes]) -> Iterator[bytes]:
    return map(_waited, ATTEMPTS.split(fields[ANSWERED]), ATTEMPTS.split(fields[ENDED]))


def _waited(answered: bytes, ended: bytes) -> bytes:
    """The end of a download or a WebSocket is the client's affair; who never answered was waited for to the end."""
    return ended if answered == b"-" else answered


class _Side:
    """One colour in the open tick."""

    def __init__(self) -> None:
        self._routes: dict[bytes, _Route] = {}
        self._clients: set[str] = set()
        self._samples: list[str] = []

    def count(self, route: bytes, requests: int, times: Sequence[bytes]) -> None:
        self._route(route).count(requests, times)

    def count_bad(self, route: bytes, requests: list[list[bytes]], clients: list[str]) -> None:
        self._route(route).bad += len(requests)
        self._clients.update(clients)
        missing = SAMPLES_TOLD - len(self._samples)
        self._samples += [_text(fields[ID]) for fields in requests[:missing]]

    def _route(self, name: bytes) -> _Route:
        full = len(self._routes) >= ROUTES_KNOWN and name not in self._routes
        return self._routes.setdefault(OTHER.encode() if full else name, _Route())

    def tally(self, bad: int) -> Tally:
        return Tally(
            requests=sum(route.requests for route in self._routes.values()),
            bad=bad,
            bad_attempts=sum(route.bad for route in self._routes.values()),
            clients=tuple(sorted(self._clients)[:CLIENTS_TOLD]),
            samples=tuple(self._samples),
            routes=_told(self._routes),
        )


class _Route:
    def __init__(self) -> None:
        self.requests = self.bad = 0
        self.buckets: Counter[int] = Counter()

    def count(self, requests: int, times: Sequence[bytes]) -> None:
        self.requests += requests
        self.buckets.update(map(_bucket_of, times))

    def add(self, other: _Route) -> None:
        self.requests += other.requests
        self.bad += other.bad
        self.buckets.update(other.buckets)

    def told(self, name: str) -> RouteTally:
        histogram = tuple(self.buckets[number] for number in range(len(EDGES) + 1))
        return RouteTally(route=name, requests=self.requests, bad=self.bad, times=histogram if any(histogram) else ())


def _told(routes: Mapping[bytes, _Route]) -> tuple[RouteTally, ...]:
    """Those asked most by name, the rest as one."""
    told: defaultdict[str, _Route] = defaultdict(_Route)
    by_requests = sorted(routes.items(), key=lambda item: (-item[1].requests, item[0]))
    for number, (name, route) in enumerate(by_requests):
        told[_text(name)[:ROUTE_LENGTH] if number < ROUTES_TOLD else OTHER].add(route)
    return tuple(route.told(name) for name, route in sorted(told.items()))


# --- words of a line ---------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def time_of(text: bytes) -> float | None:
    """None when it is none."""
    if not _TIME.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text.decode("ascii")).timestamp()
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=1 << 14)
def _bucket_of(seconds: bytes) -> int:
    try:
        return bucket(float(seconds))
    except ValueError:  # "-": it never got to asking
        return _UNTIMED


def _hashed(client: bytes, salt: bytes) -> str:
    return blake2b(client, key=salt, digest_size=8).hexdigest()


def _text(field: bytes) -> str:
    return field.decode("ascii", "backslashreplace")
