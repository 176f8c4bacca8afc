"""Publish one topology to the nginx that runs in a folder: a program of its own, so that it can be killed anywhere."""

from __future__ import annotations

import asyncio
import json
import sys
from itertools import count
from pathlib import Path

from proxyctl.adapters.nginx.binary import on_host
from proxyctl.adapters.nginx.proxy import NginxProxy
from proxyctl.adapters.places import Places
from proxyctl.domain.codec import decode
from proxyctl.domain.model import Topology


async def publish(root: Path, first_number: int, topology: Topology) -> int:
    numbers = count(first_number)
    return await NginxProxy(Places(root), topology.project, on_host).publish(topology, 1, lambda: next(numbers))


if __name__ == "__main__":
    _, root, number, written = sys.argv
    asyncio.run(publish(Path(root), int(number), decode(Topology, json.loads(written))))
