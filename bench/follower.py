"""What following the log costs beside the nginx that writes it, and whether it counts what the clients counted.

    python -m bench.follower [--seconds 10] [--connections 32] [--json]

Needs nginx and wrk. Full load is wrk's closed loop on kept connections against two colours that answer from memory; the
follower reads once a second, as a rollout does, in a process of its own. CPU is what the kernel charges nginx's workers
and the follower. The rotations happen under strict clients, each of which notes every request of its own; the sum of
the ticks is held to theirs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple

from bench.arena import Row, report
from bench.throughput import ANSWERING, BACKEND, OURS, WORKERS, cpu_seconds, launched, process, wrk
from proxyctl.adapters.nginx.log.access_log import NginxAccessLog
from proxyctl.adapters.nginx.log.lines import Ticks, charge
from proxyctl.adapters.nginx.process.binary import on_host
from proxyctl.adapters.nginx.process.master import Process, find_master, workers_of
from proxyctl.adapters.nginx.proxy import NginxProxy
from proxyctl.adapters.nginx.traffic.splits import NginxSplits
from proxyctl.adapters.places import Places
from proxyctl.demo.load import Load, Model
from proxyctl.domain.codec import decode, encode
from proxyctl.domain.model import Colour, ProxySettings, Route, ServiceName, Topology
from proxyctl.domain.split import Split
from proxyctl.domain.tally import Position
from proxyctl.ports import Flags

ROUTE = Route(
    service=ServiceName("web"), hosts=(), path="/", blue=(f"127.0.0.1:{BACKEND}",), green=(f"127.0.0.2:{BACKEND}",)
)
PROJECT = "bench"
LINES = 100_000
CLIENTS = 8
ROTATED = 3
FOLLOW = "--follow"  # this program as the follower: from a position, until its standard input ends


class Arena:
    """nginx in front of two colours, a quarter of the traffic on green."""

    def __init__(self, folder: Path) -> None:
        self.places = Places(folder / "state")
        self.proxy = NginxProxy(self.places, PROJECT, partial(on_host, self.places))

    @property
    def log(self) -> Path:
        return self.places.access_log

    @property
    def old(self) -> Path:
        return self.log.with_name("access.log.old")

    @property
    def master(self) -> Process:
        found = find_master(self.places)
        assert found is not None, "our nginx does not run"
        return found

    async def start(self) -> None:
        settings = ProxySettings(http=(f"127.0.0.1:{OURS}",), workers=WORKERS)
        topology = Topology(project=PROJECT, settings=settings, routes=(ROUTE,))
        await self.proxy.publish(topology, 1, count(1).__next__)
        quarter = Flags(split=Split.of(Colour.GREEN, 25), cover=False)
        await NginxSplits(self.places).move(ROUTE.service, quarter)

    def end_last_tick(self) -> None:
        """nginx's last line again, of tomorrow and of no service."""
        last = self.log.read_bytes().rstrip(b"\n").rpartition(b"\n")[2]
        tomorrow = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() + 86_400)).encode()
        with self.log.open("ab") as log:
            log.write(tomorrow + last[25:].replace(b"\tweb\t", b"\t-\t") + b"\n")


@asynccontextmanager
async def arena() -> AsyncIterator[Arena]:
    folder = Path(tempfile.mkdtemp(prefix="proxyctl-bench-", dir="/tmp"))
    folder.chmod(0o755)
    scene = Arena(folder)
    answering = ANSWERING.replace("127.0.0.1:18800", "18800").format(folder=folder, name="backend", workers=1)
    backend = await launched(folder, "backend", answering)
    try:
        await scene.start()
        yield scene
    finally:
        await scene.proxy.stop()
        process(backend).send(signal.SIGTERM)
        await backend.wait()
        shutil.rmtree(folder)


# --- the follower, as a process ----------------------------------------------------------------------------------


class Told(NamedTuple):
    requests: int
    sampled: float  # the least share of lines that were counted in a tick
    gaps: int


class Followed:
    """The follower's own process, and what it said in the end."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child

    def cpu(self) -> float:
        threads = Path(f"/proc/{self._child.pid}/task").glob("*/schedstat")
        return sum(int(spent.read_text().split()[0]) for spent in threads) / 1e9

    async def end(self) -> Told:
        said, _ = await self._child.communicate(b"")
        return Told(*json.loads(said))


async def following(scene: Arena) -> Followed:
    since = json.dumps(encode(await NginxAccessLog(scene.places, PROJECT).since(float("inf"))))
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.follower", FOLLOW, str(scene.places.root), since),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    await asyncio.sleep(1)  # it imports
    return Followed(child)


class Sum:
    """What a follower counted."""

    def __init__(self, log: NginxAccessLog, since: Position) -> None:
        self._log = log
        self._position = since
        self._told = Told(requests=0, sampled=1.0, gaps=0)

    async def read(self) -> Told:
        """All that is written now."""
        more = True
        while more:
            reading = await self._log.read(self._position, ROUTE)
            self._position, more = reading.position, reading.more
            self._told = Told(
                self._told.requests + sum(tick.blue.requests + tick.green.requests for tick in reading.ticks),
                min([self._told.sampled, *(tick.sampled for tick in reading.ticks)]),
                self._told.gaps + reading.gaps,
            )
        return self._told


async def follow(root: str, since: str) -> None:
    position: Position = decode(Position, json.loads(since))
    counted = Sum(NginxAccessLog(Places(Path(root)), PROJECT), position)
    ended = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    while not ended.done():
        await counted.read()
        await asyncio.wait({ended}, timeout=1)
    print(json.dumps(await counted.read()))


# --- rotations ---------------------------------------------------------------------------------------------------


async def rename_and_usr1(scene: Arena) -> None:
    """As `proxyctl proxy rotate` does it."""
    await scene.proxy.rotate_logs(0)


async def create(scene: Arena) -> None:
    """logrotate's: the new file is there a while before nginx is told."""
    scene.log.rename(scene.old)
    scene.log.touch(0o640)
    shutil.chown(scene.log, scene.old.stat().st_uid)
    await asyncio.sleep(0.2)
    scene.master.send(signal.SIGUSR1)


async def copytruncate(scene: Arena) -> None:
    """nginx stands still between the copy and the cut: what it writes there is lost by the one who cuts."""
    workers = workers_of(scene.master)
    for worker in workers:
        worker.send(signal.SIGSTOP)
    await asyncio.sleep(0.05)
    await asyncio.to_thread(shutil.copy, scene.log, scene.old)
    os.truncate(scene.log, 0)
    for worker in workers:
        worker.send(signal.SIGCONT)


async def deletion(scene: Arena) -> None:
    scene.log.unlink()
    scene.master.send(signal.SIGUSR1)


Rotate = Callable[[Arena], Awaitable[None]]
ROTATIONS: dict[str, Rotate] = {
    "rename and USR1": rename_and_usr1,
    "logrotate's create": create,
    "copytruncate": copytruncate,
    "deletion and USR1": deletion,
}


# --- measuring ---------------------------------------------------------------------------------------------------


async def at_full_load(scene: Arena, options: argparse.Namespace) -> Row:
    followed = await following(scene)
    workers = workers_of(scene.master)
    before = sum(map(cpu_seconds, workers)), followed.cpu()
    seen = await wrk(OURS, options.connections, options.seconds)
    await asyncio.sleep(2.5)  # workers write what they hold, and the follower reads it
    nginx, follower = sum(map(cpu_seconds, workers)) - before[0], followed.cpu() - before[1]
    told = await followed.end()
    return {
        "requests/s": round(seen.requests_per_second),
        "CPU us of nginx": round(1e6 * nginx / seen.requests, 1),
        "of the follower": round(1e6 * follower / seen.requests, 2),
        "ratio": f"{follower / nginx:.1%}",
        "least sampled": told.sampled,
    }


async def rotated(scene: Arena, name: str, rotate: Rotate, seconds: int) -> Row:
    followed = await following(scene)
    async with Load("127.0.0.1", OURS, Model.KEEPALIVE, CLIENTS) as load:
        await rotations(scene, rotate, seconds)
    await written(scene)
    return row(name, load, await followed.end())


async def rotated_unread(scene: Arena, seconds: int) -> Row:
    """All is written, and rotated, before the follower goes on from where it was."""
    since = await NginxAccessLog(scene.places, PROJECT).since(float("inf"))
    async with Load("127.0.0.1", OURS, Model.KEEPALIVE, CLIENTS) as load:
        await rotations(scene, rename_and_usr1, seconds)
    await written(scene)
    return row(
        "rename and USR1, while it was dead", load, await Sum(NginxAccessLog(scene.places, PROJECT), since).read()
    )


async def rotations(scene: Arena, rotate: Rotate, seconds: int) -> None:
    for _ in range(ROTATED):
        await asyncio.sleep(seconds / (ROTATED + 1))
        await rotate(scene)
    await asyncio.sleep(seconds / (ROTATED + 1))


async def written(scene: Arena) -> None:
    """Workers have written what they held, and the last tick has ended."""
    await asyncio.sleep(1.5)
    scene.end_last_tick()


def row(name: str, load: Load, told: Told) -> Row:
    return {
        f"rotation, {ROTATED} times": name,
        "requests": len(load.outcomes),
        "failed": len(load.failed()),
        "counted": told.requests,
        "least sampled": told.sampled,
        "gaps": told.gaps,
    }


def lines_per_second() -> list[Row]:
    """In memory, one after the other: what one core can do."""
    rows: list[Row] = []
    for name, status, parts in (
        ("one route, all well", "200", ["/"]),
        ("50 routes, all well", "200", [f"/part{number}/x" for number in range(50)]),
        ("one route, all failing", "503", ["/"]),
    ):
        lines = [_line(number, status, parts[number % len(parts)]) for number in range(LINES)]
        text, ticks = b"\n".join(lines), Ticks(charge(PROJECT, ROUTE, b"salt"))
        began = time.process_time()
        list(ticks.take(text.split(b"\n")))
        took = time.process_time() - began
        rows.append({"lines": name, "lines/s": round(len(lines) / took), "us/line": round(took / len(lines) * 1e6, 2)})
    return rows


def _line(number: int, status: str, path: str) -> bytes:
    seconds = f"{number * 7919 % 1009 / 1000:.3f}"
    fields = (
        f"2026-11-21T12:00:0{number * 5 // LINES}+00:00",
        *(f"{number * 2654435761 % 2**128:032x}", f"192.0.2.{number % 250} 07", status, seconds, "px_bench_web_blue"),
        *(seconds, seconds, "web", "-", ROUTE.blue[0] if number % 4 else ROUTE.green[0], status, "GET", path),
    )
    return "\t".join(fields).encode()


async def main(options: argparse.Namespace) -> None:
    report("Counting lines in memory, one core", lines_per_second())
    async with arena() as scene:
        full = [await at_full_load(scene, options) for _ in range(3)]
        exact = [await rotated(scene, name, rotate, options.seconds) for name, rotate in ROTATIONS.items()]
        exact.append(await rotated_unread(scene, options.seconds))
    report(f"Following nginx's log at full load, {options.seconds} s each", full)
    report(f"What it counted of {CLIENTS} strict clients", exact)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(follow(*sys.argv[2:]) if FOLLOW in sys.argv else main(arguments()))
