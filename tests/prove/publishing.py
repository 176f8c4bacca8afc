"""Publish one topology to the nginx that runs in a folder: a program of its own, so that it can be killed anywhere."""

from __future__ import annotations

import asyncio
import json
import sys
from functools import partial
from itertools import count
from pathlib import Path

from proxyctl.adapters.nginx.process.binary import on_host
from proxyctl.adapters.nginx.proxy import NginxProxy
from proxyctl.adapters.places import Places
from proxyctl.domain.codec import decode
from proxyctl.domain.model import Topology


async def publish(root: Path, first_number: int, topology: Topology) -> int:
    numbers, places = count(first_number), Places(root)
    proxy = NginxProxy(places, topology.project, partial(on_host, places))
    return await proxy.publish(topology, 1, lambda: next(numbers))


if __name__ == "__main__":
    _, root, number, written = sys.argv
    asyncio.run(publish(Path(root), int(number), decode(Topology, json.loads(written))))
