"""What our configuration costs a request, against a minimal proxy configuration written by hand, on the same binary.

    python bench/throughput.py [--rounds 5] [--seconds 2] [--connections 32] [--rows WORD ...]

Needs nginx and wrk. The client model is wrk's closed loop on kept connections; the application is an nginx that answers
"ok" from memory, so everything measured is overhead. Each measurement of a row stands beside one of both hand-written
configurations, taken just before it, because other work on the machine comes and goes; a row shows medians. `minimal`
forwards nothing but the request; `forwarding` tells the application what ours does: host and addresses.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import NamedTuple

from proxyctl.adapters.nginx.process.binary import on_host
from proxyctl.adapters.nginx.process.master import Process, find_master, started_of, workers_of
from proxyctl.adapters.nginx.proxy import NginxProxy
from proxyctl.adapters.nginx.traffic.splits import NginxSplits
from proxyctl.adapters.places import Places
from proxyctl.domain.model import Colour, Logged, Match, Mirror, ProxySettings, Route, ServiceName, Topology
from proxyctl.domain.split import Split
from proxyctl.ports import Flags

WEB = ServiceName("web")
WORKERS = 2
BACKEND, MINIMAL, FORWARDING, OURS = 18800, 18801, 18802, 18803

STRANGERS = Match(headers=(("X-Canary", "yes"),))
EVERYBODY = Match(networks=("127.0.0.0/8",))
TENTH = Mirror(share=1000)

HEAD = """
worker_processes {workers}; daemon off; pid {folder}/{name}.pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{ access_log off; client_body_temp_path {folder}/{name}-body; proxy_temp_path {folder}/{name}-proxy;
"""
ANSWERING = HEAD + 'server {{ listen 127.0.0.1:18800; location / {{ return 200 "ok\\n"; }} }} }}'
PROXYING = (
    HEAD
    + """
upstream app {{ server 127.0.0.1:{backend}; keepalive 32; }}
server {{ listen 127.0.0.1:{port}; location / {{
    proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; {headers}
}} }} }}"""
)
HEADERS = """
    proxy_set_header Host $http_host; proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $http_host;"""


class Seen(NamedTuple):
    requests: int
    requests_per_second: float
    p99_ms: float


class Measured(NamedTuple):
    requests_per_second: float
    cpu_us: float  # of the workers, per request
    p99_ms: float


class Beside(NamedTuple):
    minimal: Measured
    forwarding: Measured
    row: Measured


class Row(NamedTuple):
    name: str
    port: int
    master: Callable[[], Process]
    prepare: Callable[[], Awaitable[None]]


async def main() -> None:
    options = arguments()
    folder = Path(tempfile.mkdtemp(prefix="proxyctl-bench-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        async with rows(folder) as measured_rows:
            results = await measure(measured_rows, options)
        show(results)
    finally:
        shutil.rmtree(folder)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rows", nargs="*", default=[], help="words that stand in the names of rows; else all rows")
    return parser.parse_args()


# --- the rows ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def rows(folder: Path) -> AsyncIterator[list[Row]]:
    hand_written = {
        "backend": ANSWERING.format(folder=folder, name="backend", workers=1),
        "minimal": proxying(folder, "minimal", MINIMAL, BACKEND, ""),
        "forwarding": proxying(folder, "forwarding", FORWARDING, BACKEND, HEADERS),
    }
    children = {name: await launched(folder, name, text) for name, text in hand_written.items()}
    places = Places(folder / "state")
    try:
        await asyncio.sleep(0.5)
        yield [
            Row("minimal", MINIMAL, lambda: process(children["minimal"]), nothing),
            Row("forwarding", FORWARDING, lambda: process(children["forwarding"]), nothing),
            *our_rows(places),
        ]
    finally:
        ours = find_master(places)
        for running in [*map(process, children.values()), *([ours] if ours else [])]:
            running.send(signal.SIGTERM)
        await asyncio.gather(*(child.wait() for child in children.values()))
        await asyncio.sleep(0.2)


def our_rows(places: Places) -> list[Row]:
    proxy, splits, numbers = NginxProxy(places, "bench", partial(on_host, places)), NginxSplits(places), count(1)

    def row(
        name: str,
        split: Split,
        *,
        cover: bool,
        log: Logged = Logged.OFF,
        preview: Colour | None = None,
        **rules: object,
    ) -> Row:
        async def prepare() -> None:
            await proxy.publish(topology(log, **rules), 1, numbers.__next__)
            await splits.move(WEB, Flags(split=split, cover=cover, preview=preview))
            await asyncio.sleep(0.2)  # old workers leave

        def master() -> Process:
            found = find_master(places)
            assert found is not None, "our nginx does not run"
            return found

        return Row(name, OURS, master, prepare)

    blue, green = Split.all_to(Colour.BLUE), Split.all_to(Colour.GREEN)
    return [
        row("100/0, blue", blue, cover=False),
        row("100/0, green", green, cover=False),
        row("100/0, blue, cover", blue, cover=True),
        row("100/0, green, cover", green, cover=True),
        row("split 12.34 %, cover", Split.of(Colour.GREEN, "12.34"), cover=True),
        row("100/0, blue, access log", blue, cover=False, log=Logged.ON),
        row("100/0, blue, log: rollouts, none", blue, cover=False, log=Logged.ROLLOUTS),
        row("split, access log", Split.of(Colour.GREEN, "12.34"), cover=True, log=Logged.ON),
        row("a rule that matches nobody", blue, cover=False, matches=(STRANGERS,)),
        row("four of them", blue, cover=False, matches=(STRANGERS,) * 4),
        row("a rule that matches all", blue, cover=True, preview=Colour.GREEN, matches=(EVERYBODY,)),
        row("mirror 10 %, no candidate", blue, cover=False, mirror=TENTH),
        row("mirror 10 %", blue, cover=True, preview=Colour.GREEN, mirror=TENTH),
    ]


def topology(log: Logged, **rules: object) -> Topology:
    address = (f"127.0.0.1:{BACKEND}",)
    settings = ProxySettings(http=(f"127.0.0.1:{OURS}",), workers=WORKERS, access_log=log)
    route = Route(service=WEB, hosts=(), path="/", blue=address, green=address).replace(**rules)
    return Topology(project="bench", settings=settings, routes=(route,))


def proxying(folder: Path, name: str, port: int, backend: int, headers: str) -> str:
    """A proxy configuration written by hand."""
    return PROXYING.format(folder=folder, name=name, workers=WORKERS, port=port, backend=backend, headers=headers)


async def nothing() -> None:
    """A hand-written configuration needs no preparation."""


async def launched(folder: Path, name: str, text: str) -> asyncio.subprocess.Process:
    config = folder / f"{name}.conf"
    config.write_text(text)
    return await asyncio.create_subprocess_exec("nginx", "-e", str(folder / "error.log"), "-c", str(config))


def process(child: asyncio.subprocess.Process) -> Process:
    return Process(child.pid, started_of(child.pid))


# --- measuring ---------------------------------------------------------------------------------------------------


async def measure(measured_rows: list[Row], options: argparse.Namespace) -> dict[str, list[Beside]]:
    minimal, forwarding, *ours = measured_rows
    ours = [row for row in ours if not options.rows or any(word in row.name for word in options.rows)]
    results: dict[str, list[Beside]] = {row.name: [] for row in ours}
    for _ in range(options.rounds):
        for row in ours:
            await row.prepare()
            results[row.name].append(Beside(*[await measured(each, options) for each in (minimal, forwarding, row)]))
    return results


async def measured(row: Row, options: argparse.Namespace) -> Measured:
    workers = workers_of(row.master())
    before = sum(map(cpu_seconds, workers))
    seen = await wrk(row.port, options.connections, options.seconds)
    spent = sum(map(cpu_seconds, workers)) - before
    return Measured(seen.requests_per_second, 1e6 * spent / seen.requests, seen.p99_ms)


async def wrk(port: int, connections: int, seconds: int) -> Seen:
    """What a closed loop on kept connections gets. Every answer was 200, or it raises."""
    said = await output_of(
        *("wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--latency"), f"http://127.0.0.1:{port}/"
    )
    assert "Non-2xx" not in said and "Socket errors" not in said, said
    return Seen(
        requests=int(said.partition(" requests in")[0].split()[-1]),
        requests_per_second=float(said.partition("Requests/sec:")[2].split()[0]),
        p99_ms=milliseconds(said.partition("Latency Distribution")[2].partition("99%")[2].split()[0]),
    )


async def output_of(*command: str) -> str:
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await child.communicate()
    return said.decode()


def cpu_seconds(worker: Process) -> float:
    return int(Path(f"/proc/{worker.pid}/schedstat").read_text().split()[0]) / 1e9


def milliseconds(text: str) -> float:
    """ "431.00us", "1.20ms" or "1.02s"."""
    for unit, factor in (("us", 1e-3), ("ms", 1.0), ("s", 1e3)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(text)


def show(results: dict[str, list[Beside]]) -> None:
    print(f"{'':26}{'req/s':>8}{'/ minimal':>11}{'/ forwarding':>14}", end="")
    print(f"{'CPU us':>8}{'minimal':>9}{'p99 ms':>8}{'minimal':>9}")
    for name, all_beside in results.items():
        rate, rate_minimal, rate_forwarding = rates(all_beside)
        cpu, cpu_minimal = (median(getattr(b, side).cpu_us for b in all_beside) for side in ("row", "minimal"))
        p99, p99_minimal = (median(getattr(b, side).p99_ms for b in all_beside) for side in ("row", "minimal"))
        print(f"{name:26}{rate:8.0f}{rate_minimal:11.2f}{rate_forwarding:14.2f}", end="")
        print(f"{cpu:8.1f}{cpu_minimal:9.1f}{p99:8.2f}{p99_minimal:9.2f}")


def rates(all_beside: list[Beside]) -> tuple[float, float, float]:
    """Requests per second, then as a part of what each hand-written configuration did just before."""
    return (
        median(b.row.requests_per_second for b in all_beside),
        median(b.row.requests_per_second / b.minimal.requests_per_second for b in all_beside),
        median(b.row.requests_per_second / b.forwarding.requests_per_second for b in all_beside),
    )


if __name__ == "__main__":
    asyncio.run(main())
