"""Our live cutover beside others, before the same backends: plain nginx, HAProxy, Caddy, Traefik and proxyctl.

    python -m bench.peers [--quick] [--rounds 4] [--switches 5] [--seconds 1] [--seed 1] [--json]

All of them run from the start to the end and take turns, in an order drawn anew each time, so that a noisy machine is
noisy for all: requests per second and the 99th percentile on kept connections without a switch (wrk), then switches
between blue and green, under each of four kinds of clients, which retry nothing. Ratios are to plain nginx. A proxy
whose program is not on this machine is named as missing: `scripts/setup bench` brings all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.arena import Row, report
from bench.peers.backends import backends
from bench.peers.cutover import CLIENTS, Segment, under
from bench.peers.proxies import PEERS, PLAIN, PROGRAMS, Peer
from bench.throughput import wrk

CONNECTIONS = 32
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Flow(NamedTuple):
    """Throughput of one proxy in one round."""

    requests_per_second: float
    p99_ms: float
    cpu_us: float  # of the proxy, per request


class Results:
    def __init__(self) -> None:
        self.flows: dict[str, list[Flow]] = defaultdict(list)  # by name of the proxy
        self.segments: dict[str, dict[str, list[Segment]]] = defaultdict(lambda: defaultdict(list))  # by clients, proxy


async def main() -> None:
    options = arguments()
    for program in (PLAIN.program, "wrk"):
        if shutil.which(program, path=PROGRAMS) is None:
            sys.exit(f"nothing can be measured without {program}: scripts/setup bench")
    dice = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="proxyctl-bench-", dir="/tmp"))
    folder.chmod(0o755)  # the workers of nginx stat the flags in it
    try:
        await introduce(options)
        async with backends(folder), started(folder) as peers:
            results = await measure(peers, options, dice)
    finally:
        shutil.rmtree(folder)
    show(results)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--switches", type=int, default=5, help="of each proxy under each kind of clients in a round")
    parser.add_argument("--seconds", type=int, default=1, help="of wrk for each proxy before each kind of clients")
    parser.add_argument("--seed", type=int, default=1, help="of the order of the proxies and the pauses")
    parser.add_argument("--quick", action="store_true", help="one round of two switches")
    parser.add_argument("--json", action="store_true", help="a line per table, for programs")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.switches = 1, 2
    return options


# --- the run -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def started(folder: Path) -> AsyncIterator[list[Peer]]:
    peers = [peer(folder) for peer in PEERS if peer.found()]
    async with AsyncExitStack() as stack:
        for peer in peers:
            stack.push_async_callback(peer.stop)
            await peer.start()
        yield peers


async def measure(peers: Sequence[Peer], options: argparse.Namespace, dice: random.Random) -> Results:
    results = Results()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(time.monotonic).result()  # starting the clients' process is not part of the load
        for _ in range(options.rounds):
            for clients in CLIENTS:
                for peer in dice.sample(peers, len(peers)):
                    results.flows[peer.name].append(await flow(peer, options.seconds))
                for peer in dice.sample(peers, len(peers)):
                    segment = await under(clients, peer, pool, options.switches, dice)
                    results.segments[clients.title][peer.name].append(segment)
    return results


async def flow(peer: Peer, seconds: int) -> Flow:
    before = cpu_seconds(peer.pid)
    seen = await wrk(peer.port, CONNECTIONS, seconds)
    spent = cpu_seconds(peer.pid) - before
    return Flow(seen.requests_per_second, seen.p99_ms, 1e6 * spent / seen.requests)


def cpu_seconds(pid: int) -> float:
    """Of all threads of a process and of its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(map(own_cpu_seconds, (str(pid), *children)))


def own_cpu_seconds(pid: str) -> float:
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = after_name[11:13]
    return (int(user) + int(system)) / TICKS_PER_SECOND


# --- the tables --------------------------------------------------------------------------------------------------


async def introduce(options: argparse.Namespace) -> None:
    rows = [
        {
            "proxy": peer.name,
            "version": await peer.version() if peer.found() else f"missing: no program {peer.program}",
            "switched by": peer.switched_by,
        }
        for peer in PEERS
    ]
    asked = f"in each of {options.rounds} rounds {options.switches} switches and {options.seconds} s of wrk"
    report(f"Side by side on {os.cpu_count()} cores: {asked} per kind of clients; seed {options.seed}", rows)


def show(results: Results) -> None:
    flows = {name: flow_row(of, results.flows[PLAIN.name]) for name, of in results.flows.items()}
    report(f"GET, {CONNECTIONS} kept connections, no switch: medians", with_the_missing(flows))
    for clients in CLIENTS:
        segments = results.segments[clients.title]
        rows = {name: cutover_row(of, segments[PLAIN.name]) for name, of in segments.items()}
        title = f"Switches under load: {clients.number} x {clients.title}; ms from the start of the command"
        report(title, with_the_missing(rows))


def with_the_missing(rows: Mapping[str, Row]) -> list[Row]:
    missing = dict.fromkeys(next(iter(rows.values())), "missing")
    return [{"proxy": peer.name} | dict(rows.get(peer.name, missing)) for peer in PEERS]


def flow_row(flows: Sequence[Flow], plain: Sequence[Flow]) -> Row:
    beside = list(zip(flows, plain, strict=True))
    return {
        "req/s": round(median(f.requests_per_second for f in flows)),
        "x nginx": round(median(f.requests_per_second / p.requests_per_second for f, p in beside), 2),
        "p99 ms": round(median(f.p99_ms for f in flows), 2),
        "p99 x nginx": round(median(f.p99_ms / p.p99_ms for f, p in beside), 2),
        "CPU us": round(median(f.cpu_us for f in flows), 1),
        "CPU x nginx": round(median(f.cpu_us / p.cpu_us for f, p in beside), 2),
    }


def cutover_row(segments: Sequence[Segment], plain: Sequence[Segment]) -> Row:
    seen = [each for segment in segments for each in segment.seen]
    first_new, last_old = [s.first_new for s in seen], [s.last_old for s in seen]
    problems = Counter(problem for segment in segments for problem in segment.problems)
    return {
        "switches": len(seen),
        "requests": sum(segment.requests for segment in segments),
        "failed": problems.total(),
        "first new": milliseconds(median(first_new)),
        "first new, max": milliseconds(max(first_new)),
        "last old": milliseconds(median(last_old)),
        "last old, max": milliseconds(max(last_old)),
        "x nginx": round(median(last_old) / median(s.last_old for segment in plain for s in segment.seen), 3),
        "old after return": sum(s.old_after_return for s in seen),
        "how they failed": ", ".join(f"{number} {problem}" for problem, number in problems.most_common(2)) or "-",
    }


def milliseconds(seconds: float) -> float | str:
    return "never" if math.isinf(seconds) else round(seconds * 1000, 1)


if __name__ == "__main__":
    asyncio.run(main())
