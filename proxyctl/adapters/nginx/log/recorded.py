"""A log of the past, its requests dealt anew to a live release and a candidate. Start at RecordedLog.stretches().

It may be of another machine, and in nginx's `combined` format (combined.py). What becomes of a request is drawn from
its id and a seed: the same seed tells the same story, and a larger share only adds to the requests of a smaller one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Final

from proxyctl.adapters.nginx.log.combined import as_compact
from proxyctl.adapters.nginx.log.lines import ANSWERED, ATTEMPTS, ENDED, ID, TIME, Charge, counts_in, tick_of, time_of
from proxyctl.adapters.nginx.names import SPLIT
from proxyctl.domain.model import ServiceName
from proxyctl.domain.simulation import CANDIDATE, LIVE, Dealing, Stretch
from proxyctl.domain.split import WHOLE
from proxyctl.domain.tally import TICK, Tick
from proxyctl.errors import UsageError

FIELDS: Final = 14
SERVICE, REASON, ADDRESSES, STATUSES = 8, 9, 10, 11
NOBODY: Final = b"-"  # was asked: nginx answered by itself

_SECONDS = re.compile(rb"\d+\.\d+")

Fields = list[bytes]  # of a compact line


class RecordedLog:
    """Implements `Recording`. The file is read anew by whoever asks, and never held whole."""

    def __init__(self, path: Path, service: ServiceName, seed: int) -> None:
        """Raises UsageError where there is nothing to go by."""
        self._path = path
        self._service = service.encode()
        self._seed = b"%d" % seed
        self.timed = self._is_compact()
        self.first = self.last = 0.0
        self.requests = self.unreadable = 0
        self._survey()

    def stretches(self) -> Iterator[Stretch]:
        for at, requests in _by_tick(fields for fields in self._lines() if fields and self._counts(fields)):
            yield Stretch(at, _Dealer(requests, self._service, self._seed))

    def _is_compact(self) -> bool:
        with self._path.open("rb") as file:
            line = next((line for line in file if line.strip()), b"").rstrip()
        if not line:
            raise UsageError(f"{self._path} has no line", next_step="name a log with requests: --log FILE")
        if _fields(line) is None and as_compact(line, 0, self._service) is None:
            raise UsageError(
                f"{self._path} begins with a line that is neither of proxyctl's log nor in nginx's combined format",
                next_step="name another: --log FILE; one that is compressed must be unpacked",
            )
        return _fields(line) is not None

    def _survey(self) -> None:
        """Everything that is there, before anybody relies on it."""
        others = Counter[bytes]()
        for fields in self._lines():
            if fields is None:
                self.unreadable += 1
            elif self._counts(fields):
                at = time_of(fields[0]) or 0.0
                self.first, self.last = self.first or at, max(self.last, at)
                self.requests += 1
            else:
                others[fields[SERVICE]] += 1
        if not self.requests:
            del others[self._service]
            has = ", ".join(name.decode("ascii", "replace") for name, _ in others.most_common(5))
            raise UsageError(
                f"{self._path} has no request that a release of {self._service.decode()} answered"
                + (f"; it has those of {has}" if has else ""),
                next_step="name a log and a service that belong together",
            )

    def _lines(self) -> Iterator[Fields | None]:
        """None for one that cannot be read."""
        with self._path.open("rb") as file:
            for number, raw in enumerate(file):
                line = raw.rstrip(b"\r\n")
                compact = line if self.timed else as_compact(line, number, self._service)
                yield _fields(compact) if compact is not None else None

    def _counts(self, fields: Fields) -> bool:
        return fields[SERVICE] == self._service and fields[REASON] == SPLIT.encode() and fields[ADDRESSES] != NOBODY


def _fields(line: bytes) -> Fields | None:
    fields = line.split(b"\t")
    return fields if len(fields) == FIELDS and time_of(line[TIME]) is not None else None


def _by_tick(lines: Iterable[Fields]) -> Iterator[tuple[float, list[Fields]]]:
    """As the follower does: a late line counts in the tick that it comes in."""
    begun, tick = 0.0, list[Fields]()
    for fields in lines:
        at = time_of(fields[0]) or 0.0
        if tick and not counts_in(begun, at):
            yield begun, tick
            tick = []
        if not tick:
            begun = at // TICK * TICK
        tick.append(fields)
    if tick:
        yield begun, tick


class _Dealer:
    """The requests of one tick, and how they are dealt."""

    def __init__(self, requests: list[Fields], service: bytes, seed: bytes) -> None:
        self._requests = requests
        self._charge = Charge(service, {colour.encode(): colour for colour in (LIVE, CANDIDATE)}, seed)
        self._seed = seed

    def __call__(self, dealing: Dealing) -> Tick:
        return tick_of([b"\t".join(self._dealt(fields, dealing)) for fields in self._requests], self._charge)

    def _dealt(self, fields: Fields, dealing: Dealing) -> Fields:
        """All attempts of a request go to one colour. The last one's status is the answer."""
        whose, fate = _drawn(fields[ID], self._seed)
        candidate = whose * WHOLE < dealing.share
        dealt = fields.copy()
        colour = (CANDIDATE if candidate else LIVE).encode()
        dealt[ADDRESSES] = b", ".join([colour] * len(ATTEMPTS.split(fields[ADDRESSES])))
        if candidate and fate < dealing.errors:
            dealt[STATUSES] = b", ".join([*ATTEMPTS.split(fields[STATUSES])[:-1], b"500"])
        if candidate and dealing.slower != 1:
            for times in (ANSWERED, ENDED):
                dealt[times] = _SECONDS.sub(lambda found: b"%.3f" % (float(found[0]) * dealing.slower), fields[times])
        return dealt


def _drawn(id_: bytes, seed: bytes) -> tuple[float, float]:
    """Two numbers from 0 to 1, always the same for a request."""
    drawn = blake2b(id_, key=seed, digest_size=16).digest()
    return int.from_bytes(drawn[:8]) / 2**64, int.from_bytes(drawn[8:]) / 2**64
