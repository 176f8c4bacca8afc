"""A project in a folder of its own, with the demo images: for the demo and for the benchmarks. Start at stage()."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from proxyctl.domain.model import ServiceName
from proxyctl.errors import ProxyctlError
from proxyctl.wiring import Workshop

FILE = """\
project: {project}
proxy:
  http: "127.0.0.1:{port}"
services:
  web:
    container: {{image: "proxyctl-demo:1", stop_grace_period: 2s}}
    port: 8000
    replicas: 2
    health: {{path: /healthz, interval: 200ms, healthy: 2, deadline: 6s}}
    bake: {bake}
    standby: 10m
    drain: 5s
"""


class Stage:
    def __init__(self, folder: Path, bake: str) -> None:
        self.folder = folder
        self.port = _free_port()
        self.project = f"demo-{os.getpid()}"
        (folder / "proxyctl.yml").write_text(FILE.format(project=self.project, port=self.port, bake=bake))

    @property
    def options(self) -> tuple[str, ...]:
        """What names this project on a command line."""
        return ("--file", str(self.folder / "proxyctl.yml"), "--state", str(self.folder / "state"))

    async def strike(self) -> None:
        """Drivers, containers, networks, nginx, files: all of it goes."""
        shop = Workshop(self.options[1], self.options[3])
        try:
            for lock in shop.places.locks.glob("*.lock"):
                shop.locks.end_holder(ServiceName(lock.stem))
            with suppress(ProxyctlError):
                for seen in await shop.runtime.owned():
                    await shop.runtime.stop(seen.name, 0)
                await shop.runtime.remove_networks()
            with suppress(ProxyctlError):
                await shop.proxy.stop()
        finally:
            await shop.close()
            shutil.rmtree(self.folder, ignore_errors=True)


@asynccontextmanager
async def stage(bake: str) -> AsyncIterator[Stage]:
    folder = Path(tempfile.mkdtemp(prefix="proxyctl-demo-"))
    folder.chmod(0o755)  # nginx's workers stat the flags in it
    made = Stage(folder, bake)
    try:
        yield made
    finally:
        await made.strike()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
