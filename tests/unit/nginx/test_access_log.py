"""A real nginx writes its log under load, somebody rotates it, and the follower counts what the clients counted."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from proxyctl.adapters.nginx.log.access_log import NginxAccessLog
from proxyctl.adapters.nginx.process.master import workers_of
from proxyctl.adapters.places import Places
from proxyctl.domain.codec import decode, encode
from proxyctl.domain.model import Colour
from proxyctl.domain.tally import Position, RouteTally, Tally, Tick, bucket
from tests.log_writer import BLUE as ONE
from tests.log_writer import GREEN as OTHER
from tests.log_writer import NOON, ROUTE, line
from tests.nginx_bed import (
    BLUE,
    DEBIAN,
    GREEN,
    MAINLINE,
    PROJECT,
    WEB,
    Application,
    Bed,
    a_bed,
    all_to,
    free_port,
    share,
)

pytestmark = pytest.mark.nginx


@pytest.fixture(params=[DEBIAN, MAINLINE], ids=["debian", "mainline"])
async def any_bed(request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    """Both colours serve, a quarter goes to green."""
    async with a_serving(request.param) as bed:
        yield bed


@pytest.fixture
async def bed() -> AsyncIterator[Bed]:
    async with a_serving(DEBIAN) as bed:
        yield bed


@asynccontextmanager
async def a_serving(binary: str) -> AsyncIterator[Bed]:
    async with a_bed(binary) as bed:
        await bed.serve_both()
        await bed.publish()
        await bed.splits.move(WEB, share(GREEN, 25))
        yield bed


class Follower:
    """What a driver does: keeps the position with what it concluded, and goes on from there."""

    def __init__(self, bed: Bed) -> None:
        self.ticks: list[Tick] = []
        self.gaps = 0
        self._bed = bed
        self._log = NginxAccessLog(bed.places, PROJECT)
        self._kept = json.dumps(encode(Position()))

    async def begin(self) -> Follower:
        self._kept = json.dumps(encode(await self._log.since(float("inf"))))
        return self

    async def read(self) -> None:
        more = True
        while more:
            reading = await self._log.read(decode(Position, json.loads(self._kept)), self._bed.route())
            self.ticks += reading.ticks
            self.gaps += reading.gaps
            self._kept, more = json.dumps(encode(reading.position)), reading.more

    async def catch_up(self) -> None:
        """It has found the log that is written now: one that is taken away before that is a gap, and another story."""
        while not self._has_open(self._bed.places.access_log):
            await asyncio.sleep(0.05)
            await self.read()

    def _has_open(self, log: Path) -> bool:
        known, opened = log.stat(), Path("/proc/self/fd")
        return any(fd.exists() and os.path.samestat(fd.stat(), known) for fd in opened.iterdir())

    async def read_all(self) -> None:
        """Workers write what they hold within a second; a line of tomorrow ends the last tick."""
        written = -1
        while written != (written := self._bed.places.access_log.stat().st_size):  # noqa: ASYNC110
            await asyncio.sleep(1.3)
        with self._bed.places.access_log.open("ab") as log:
            log.write(line(time.time() + 86_400) + b"\n")
        await self.read()
        self._log.close()

    def die(self) -> None:
        """All that it had in memory is gone."""
        self._log.close()
        self._log = NginxAccessLog(self._bed.places, PROJECT)

    def sum(self, what: str) -> tuple[int, int]:
        """Of blue and of green."""
        blue, green = (sum(getattr(getattr(tick, colour), what) for tick in self.ticks) for colour in Colour)
        return blue, green

    def last(self, colour: Colour) -> Tally:
        tally: Tally = getattr(self.ticks[-1], colour)
        return tally


class Load:
    """Clients that note who answered them; too few requests for a log of which a sample is read."""

    def __init__(self, bed: Bed, clients: int = 4) -> None:
        self.answers: Counter[str] = Counter()
        self._bed = bed
        self._over = asyncio.Event()
        self._clients = [asyncio.create_task(self._ask()) for _ in range(clients)]

    async def _ask(self) -> None:
        while not self._over.is_set():
            client = await self._bed.client()
            for _ in range(200):
                self.answers[(await client.ask("GET", "/cart/7")).text] += 1
                await asyncio.sleep(0.0005)
                if self._over.is_set():
                    break
            client.close()

    async def end(self) -> tuple[int, int]:
        """What blue answered, and green."""
        self._over.set()
        await asyncio.gather(*self._clients)
        return self.answers["blue"], self.answers["green"]


# --- rotation ----------------------------------------------------------------------------------------------------


async def proxy_rotate(bed: Bed) -> None:
    assert await bed.proxy.rotate_logs(0)


async def rename_and_usr1(bed: Bed) -> None:
    old(bed).unlink(missing_ok=True)
    bed.places.access_log.rename(old(bed))
    bed.master.send(signal.SIGUSR1)
    await begun_anew(bed)


async def logrotate_create(bed: Bed) -> None:
    """The new file is there, and it takes a while until nginx is told."""
    bed.places.access_log.rename(old(bed))
    bed.places.access_log.touch(0o640)
    shutil.chown(bed.places.access_log, old(bed).stat().st_uid)
    await asyncio.sleep(0.2)
    bed.master.send(signal.SIGUSR1)


async def copytruncate(bed: Bed) -> None:
    """What is written between the copy and the cut is lost by the one who cuts; so nothing is written."""
    workers = workers_of(bed.master)
    for worker in workers:
        worker.send(signal.SIGSTOP)
    await asyncio.sleep(0.05)
    shutil.copy(bed.places.access_log, old(bed))
    os.truncate(bed.places.access_log, 0)
    for worker in workers:
        worker.send(signal.SIGCONT)


async def delete_and_usr1(bed: Bed) -> None:
    bed.places.access_log.unlink()
    bed.master.send(signal.SIGUSR1)
    await begun_anew(bed)


async def begun_anew(bed: Bed) -> None:
    while not bed.places.access_log.exists():  # noqa: ASYNC110 - nginx tells nobody
        await asyncio.sleep(0.01)


def old(bed: Bed) -> Path:
    return bed.places.access_log.with_name("access.log.old")


ROTATIONS = [proxy_rotate, rename_and_usr1, logrotate_create, copytruncate, delete_and_usr1]
Rotate = Callable[[Bed], Awaitable[None]]


@pytest.mark.parametrize("rotate", ROTATIONS)
async def test_a_rotation_under_load_loses_no_request_and_counts_none_twice(any_bed: Bed, rotate: Rotate) -> None:
    bed = any_bed
    follower = await Follower(bed).begin()
    load = Load(bed)
    for _ in range(3):
        for _ in range(3):
            await asyncio.sleep(0.3)
            await follower.read()
        await follower.catch_up()
        await rotate(bed)
    answered = await load.end()
    await follower.read_all()
    assert follower.sum("requests") == answered
    assert min(answered) > 50, "both colours were asked"
    assert (follower.gaps, follower.sum("bad_attempts")) == (0, (0, 0))


@pytest.mark.parametrize("rotate", [proxy_rotate, logrotate_create, copytruncate])
async def test_a_rotation_while_the_follower_is_dead_loses_nothing(bed: Bed, rotate: Rotate) -> None:
    follower = await Follower(bed).begin()
    load = Load(bed)
    await asyncio.sleep(1.2)
    await follower.read()
    follower.die()
    await asyncio.sleep(1.2)
    await rotate(bed)
    await asyncio.sleep(1.2)
    await follower.read()
    follower.die()
    answered = await load.end()
    await follower.read_all()
    assert (follower.sum("requests"), follower.gaps) == (answered, 0)


async def test_a_log_deleted_while_the_follower_is_dead_is_a_gap_that_is_told(bed: Bed) -> None:
    await bed.get("/")
    await asyncio.sleep(1.3)
    follower = await Follower(bed).begin()
    follower.die()
    await delete_and_usr1(bed)
    await bed.get("/")
    await follower.read_all()
    assert (sum(follower.sum("requests")), follower.gaps) == (1, 1)


async def test_lines_of_old_workers_count_after_a_reload_and_a_rotation(bed: Bed) -> None:
    """By the address of the replica, whichever worker writes the line and however late."""
    follower = await Follower(bed).begin()
    slow = [asyncio.create_task(bed.get("/slow")) for _ in range(8)]
    await asyncio.sleep(0.1)
    await bed.publish(bed.topology(bed.route(body_limit=1)))
    await proxy_rotate(bed)
    answers = Counter([(await each).text for each in slow])
    await follower.read_all()
    assert follower.sum("requests") == (answers["blue"], answers["green"])


@pytest.mark.parametrize("rotated", [False, True])
async def test_killed_at_any_byte_of_the_log_it_goes_on_with_the_same_ticks(tmp_path: Path, rotated: bool) -> None:
    """The log grows to there; it is read, and the reader dies; the rest is written, and somebody else goes on."""
    places = Places(tmp_path)
    places.create()
    text = b"".join(line(NOON + 2 * number, address=(ONE, OTHER)[number % 2]) + b"\n" for number in range(12))
    places.access_log.write_bytes(text)
    (whole, _) = await read_from(places, Position())
    assert [tick.blue.requests + tick.green.requests for tick in whole] == [3, 2, 3, 2]
    for killed_at in range(0, len(text), 7):
        places.access_log.write_bytes(text[:killed_at])
        before, kept = await read_from(places, Position())
        places.access_log.write_bytes(text)
        if rotated:
            places.access_log.rename(places.access_log.with_name("access.log.1"))
            places.access_log.touch()
        after, _ = await read_from(places, kept)
        assert before + after == whole, killed_at


async def read_from(places: Places, since: Position) -> tuple[tuple[Tick, ...], Position]:
    log = NginxAccessLog(places, "shop")
    reading = await log.read(since, ROUTE)
    log.close()
    return reading.ticks, reading.position


async def test_asked_again_from_an_older_position_it_gives_the_same_ticks_again(tmp_path: Path) -> None:
    places = Places(tmp_path)
    places.create()
    places.access_log.write_bytes(b"".join(line(NOON + second) + b"\n" for second in range(30)))
    log = NginxAccessLog(places, "shop")
    first = await log.read(Position(), ROUTE)
    assert len(first.ticks) == 5
    assert (await log.read(first.position, ROUTE)).ticks == ()
    assert (await log.read(Position(), ROUTE)).ticks == first.ticks
    await log.read(first.position, ROUTE)
    with places.access_log.open("ab") as file:
        file.write(line(NOON + 30) + b"\n")
    (other,) = (await log.read(first.position, ROUTE.replace(blue=("127.0.0.9:80",)))).ticks
    assert other.blue.requests == 0, "what was counted for the replicas of before is forgotten"
    assert places.salt.stat().st_mode & 0o777 == 0o600
    log.close()


# --- attempts ----------------------------------------------------------------------------------------------------


async def test_a_failing_colour_is_charged_though_the_other_covers_it(bed: Bed) -> None:
    dead = f"127.0.0.4:{free_port('127.0.0.4')}"
    await bed.withdraw(bed.green)
    bed.green = dead
    await bed.publish()
    await bed.splits.move(WEB, all_to(GREEN, cover=True))
    follower = await Follower(bed).begin()
    for number in range(3):
        assert (await bed.get("/", User_Agent=f"agent {number}")).text == "blue"
    await follower.read_all()
    assert (follower.sum("requests"), follower.sum("bad_attempts")) == ((3, 3), (0, 3))
    assert follower.sum("bad") == (0, 3)


async def test_a_covered_colour_with_nobody_alive_is_charged_all_the_same(bed: Bed) -> None:
    """After five failures nginx tries the replica no more: the line names the pool."""
    await bed.splits.move(WEB, all_to(GREEN, cover=True))
    for address in (bed.blue, bed.green):
        await bed.withdraw(address)
    follower = await Follower(bed).begin()
    statuses = [(await bed.get("/")).status for _ in range(20)]
    await follower.read_all()
    (_, green) = follower.sum("bad_attempts")
    assert (set(statuses), green >= 20) == ({502}, True)


async def test_a_client_that_gave_up_and_one_that_was_refused_by_nginx_are_no_errors(bed: Bed) -> None:
    await bed.splits.move(WEB, all_to(GREEN))
    follower = await Follower(bed).begin()
    client = await bed.client()
    with suppress(TimeoutError):
        async with asyncio.timeout(0.15):
            await client.ask("GET", "/slow")
    client.close()
    refused = await bed.client()
    refused.writer.write(b"GET /\0 HTTP/1.1\r\n\r\n")
    await refused.head()
    await follower.read_all()
    assert (follower.sum("requests"), follower.sum("bad")) == ((0, 1), (0, 0))
    (waited,) = [number for number, n in enumerate(follower.last(GREEN).routes[0].times) if n]
    assert bucket(0.12) <= waited <= bucket(0.25)


async def test_the_time_of_an_attempt_is_that_to_its_first_byte(bed: Bed) -> None:
    """How long a client keeps a stream open says nothing of the replica."""
    await bed.splits.move(WEB, all_to(BLUE))
    follower = await Follower(bed).begin()
    client = await bed.client()
    client.writer.write(b"GET /events HTTP/1.1\r\nHost: bed.example.com\r\n\r\n")
    await client.head()
    await asyncio.sleep(0.6)
    client.close()
    await bed.get("/slow")
    await follower.read_all()
    events, slow = (route for tick in follower.ticks for route in tick.blue.routes)  # a tick may end between them
    assert (events.route, slow.route) == ("GET /events", "GET /slow")
    assert sum(events.times[: bucket(0.2)]) == 1, f"within 0.2 s: {shown(events)}"
    assert sum(slow.times[bucket(0.29) : bucket(0.6)]) == 1, shown(slow)


async def test_a_replica_that_hangs_up_or_answers_badly_is_charged(bed: Bed) -> None:
    await bed.withdraw(bed.green)
    await bed.run(bed.green, HangsUp("green"))
    await bed.splits.move(WEB, all_to(GREEN))
    follower = await Follower(bed).begin()
    assert (await bed.get("/")).status == 502
    assert (await bed.get("/busy")).status == 503
    await follower.read_all()
    assert (follower.sum("requests"), follower.sum("bad_attempts"), follower.sum("bad")) == ((0, 2), (0, 2), (0, 1))


class HangsUp(Application):
    def _write(self, client: object, body: bytes, status: bytes = b"200 OK") -> None:
        if status == b"200 OK":
            raise ConnectionResetError
        super()._write(client, body, status)  # type: ignore[arg-type]


def shown(route: RouteTally) -> dict[int, int]:
    return {number: n for number, n in enumerate(route.times) if n}
