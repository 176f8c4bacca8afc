"""From a topology to a configuration that nginx took, by number of services: where the time goes, and how it grows.

Each service has a name of words, a host of its own and one replica per colour. Needs nginx, no Docker. Other sizes:
`python -m bench.scale 10 500`.
"""

from __future__ import annotations

import itertools
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.arena import Row, report
from proxyctl.adapters.nginx.control import own_address
from proxyctl.adapters.nginx.readback.refusals import refusals
from proxyctl.adapters.nginx.rendering.render import render
from proxyctl.adapters.places import Places
from proxyctl.domain.model import ProxySettings, Route, ServiceName, Topology

SIZES = (100, 1000, 2000, 5000)
ROUNDS = 3
WORDS = "api auth blog cart chat data feed geo help job lang log mail order pay price rate search ship stock tax web"


def topology_of(count: int) -> Topology:
    addresses = (f"172.16.{number >> 8}.{number & 255}:8000" for number in itertools.count(2))
    routes = [
        Route(
            service=ServiceName(name),
            hosts=(f"{name}.example.com",),
            blue=(next(addresses),),
            green=(next(addresses),),
        )
        for name in names(count)
    ]
    return Topology(project="scale", settings=ProxySettings(http=("127.0.0.1:18080",)), routes=tuple(routes))


def names(count: int) -> list[str]:
    """As people name services. It matters: nginx compares names of one length letter by letter."""
    chosen, found = random.Random(7), set[str]()
    while len(found) < count:
        found.add("-".join(chosen.sample(WORDS.split(), chosen.randint(1, 4))))
    return sorted(found)


def measured(count: int) -> Row:
    topology = topology_of(count)
    with tempfile.TemporaryDirectory(prefix="proxyctl-scale-") as folder:
        places, config = Places(Path(folder) / "state"), Path(folder) / "nginx.conf"
        places.create()
        control = own_address(places)
        text = render(topology, 1, places, frozenset(), control)
        config.write_text(text)
        took = {
            "render": best(lambda: render(topology, 1, places, frozenset(), control)),
            "read back": best(lambda: refusals(text, topology, 1, places, control)),
            "nginx -t": best(lambda: subprocess.run(["nginx", "-q", "-t", "-c", config], check=True)),
        }
    return {"services": count, "KiB": len(text) >> 10, **took, "in all": round(sum(took.values()), 1)}


def best(act: Callable[[], object]) -> float:
    """Milliseconds of processor: each step has one thread, and others may be at work beside it."""
    took = []
    for _ in range(ROUNDS):
        began = processor()
        act()
        took.append(processor() - began)
    return round(1000 * min(took), 1)


def processor() -> float:
    """Seconds, of this process and of its children that ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def growth(rows: list[Row]) -> list[Row]:
    """1.0 is linear."""
    few = rows[0]
    steps = ("render", "read back", "nginx -t", "in all")
    return [
        {"services": row["services"]}
        | {step: round(row[step] / row["services"] / (few[step] / few["services"]), 2) for step in steps}
        for row in rows
    ]


def main() -> None:
    sizes = [int(word) for word in sys.argv[1:] if word.isdecimal()] or SIZES
    rows = [measured(count) for count in sizes]
    report(f"From a topology to what nginx took, milliseconds of processor, best of {ROUNDS}", rows)
    report(f"The share of one service, by its share among {sizes[0]}", growth(rows))


if __name__ == "__main__":
    main()
