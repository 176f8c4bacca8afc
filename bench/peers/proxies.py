"""The proxies that are measured side by side: how each starts with blue, is switched, and stops. Start at PEERS.

Each has the plain configuration of a reverse proxy before one of two addresses: it keeps connections on both sides,
tells the application host and address of the client, logs no request, and has two threads or workers where it asks.
switch() is what its documentation offers for a change while it serves, and returns when that says that it is done.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from abc import ABC, abstractmethod
from functools import partial
from itertools import count
from pathlib import Path
from typing import ClassVar

import aiohttp

from bench.peers.backends import PORTS
from bench.peers.children import Child, said
from bench.throughput import HEADERS, WORKERS, proxying
from proxyctl import __version__
from proxyctl.adapters.nginx.process.binary import on_host
from proxyctl.adapters.nginx.process.master import find_master
from proxyctl.adapters.nginx.proxy import NginxProxy
from proxyctl.adapters.nginx.traffic.splits import NginxSplits
from proxyctl.adapters.places import Places
from proxyctl.domain.model import Colour, Logged, ProxySettings, Route, ServiceName, Topology
from proxyctl.domain.split import Split
from proxyctl.ports import Flags

PROGRAMS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
ADDRESSES = {colour: f"127.0.0.1:{port}" for colour, port in PORTS.items()}


class Peer(ABC):
    """One proxy. It writes below `folder` only, and start() has it serve blue."""

    name: ClassVar[str]
    program: ClassVar[str]
    asks_version: ClassVar[str]
    switched_by: ClassVar[str]
    port: ClassVar[int]

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def found(cls) -> str | None:
        """Where its program is on this machine."""
        return shutil.which(cls.program, path=PROGRAMS)

    @classmethod
    def command(cls) -> str:
        return cls.found() or cls.program

    @classmethod
    async def version(cls) -> str:
        match = re.search(r"\d+\.\d+\.\d+[^\s,]*", await said(cls.command(), cls.asks_version))
        return match[0] if match else "unknown"

    @abstractmethod
    async def start(self) -> None: ...

    @abstractmethod
    async def switch(self, colour: Colour) -> None: ...

    @abstractmethod
    async def stop(self) -> None: ...

    @property
    @abstractmethod
    def pid(self) -> int:
        """The process that it works in, or that its workers are children of."""


class ByHand(Peer):
    """A proxy that runs as a child of this process, with a configuration written by hand."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        homes = {"XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
        self._child = Child(folder, self.port, self.command(), *self.arguments(), environment=homes)

    async def start(self) -> None:
        self.configure(Colour.BLUE)
        await self._child.start()

    async def stop(self) -> None:
        await self._child.stop()

    @property
    def pid(self) -> int:
        return self._child.pid

    @abstractmethod
    def configure(self, colour: Colour) -> None:
        """Write the file that sends everything to this colour."""

    @abstractmethod
    def arguments(self) -> tuple[str, ...]: ...


class Nginx(ByHand):
    name, program, asks_version, port = "nginx", "nginx", "-v", 18820
    switched_by = "the other address, nginx -s reload"

    def configure(self, colour: Colour) -> None:
        text = proxying(self.folder, "nginx", self.port, PORTS[colour], HEADERS)
        (self.folder / "nginx.conf").write_text(text)

    def arguments(self) -> tuple[str, ...]:
        return "-e", str(self.folder / "nginx-error.log"), "-c", str(self.folder / "nginx.conf")

    async def switch(self, colour: Colour) -> None:
        self.configure(colour)
        await said(self.command(), *self.arguments(), "-s", "reload")


class HAProxy(ByHand):
    name, program, asks_version, port = "HAProxy", "haproxy", "-v", 18821
    switched_by = "runtime API: both weights in one line"

    def configure(self, colour: Colour) -> None:
        (self.folder / "haproxy.cfg").write_text(
            f"""
global
    nbthread {WORKERS}
    stats socket {self.folder}/haproxy.sock mode 600 level admin
defaults
    mode http
    option forwardfor
    timeout connect 5s
    timeout client 75s
    timeout server 60s
frontend web
    bind 127.0.0.1:{self.port}
    http-request set-header X-Forwarded-Proto http
    default_backend app
backend app
    server blue {ADDRESSES[Colour.BLUE]}
    server green {ADDRESSES[Colour.GREEN]} weight 0
"""
        )

    def arguments(self) -> tuple[str, ...]:
        return "-db", "-f", str(self.folder / "haproxy.cfg")

    async def switch(self, colour: Colour) -> None:
        reader, writer = await asyncio.open_unix_connection(self.folder / "haproxy.sock")
        writer.write(f"set server app/{colour} weight 100; set server app/{colour.other} weight 0\n".encode())
        answer = (await reader.read()).decode().strip()
        writer.close()
        if answer:
            raise RuntimeError(f"haproxy: {answer}")


class Caddy(ByHand):
    name, program, asks_version, port = "Caddy", "caddy", "version", 18822
    switched_by = "admin API: PATCH of the upstreams"
    admin = "127.0.0.1:18823"

    def configure(self, colour: Colour) -> None:
        proxy = {"@id": "app", "handler": "reverse_proxy", "upstreams": [{"dial": ADDRESSES[colour]}]}
        server = {
            "listen": [f"127.0.0.1:{self.port}"],
            "automatic_https": {"disable": True},
            "routes": [{"handle": [proxy]}],
        }
        document = {
            "admin": {"listen": self.admin, "config": {"persist": False}},
            "logging": {"logs": {"default": {"level": "ERROR"}}},
            "apps": {"http": {"servers": {"web": server}}},
        }
        (self.folder / "caddy.json").write_text(json.dumps(document))

    def arguments(self) -> tuple[str, ...]:
        return "run", "--config", str(self.folder / "caddy.json")

    async def switch(self, colour: Colour) -> None:
        async with aiohttp.ClientSession(f"http://{self.admin}", raise_for_status=True) as session:
            await session.patch("/id/app/upstreams", json=[{"dial": ADDRESSES[colour]}])


class Traefik(ByHand):
    """Its throttle of 2 s between two changes is set to 100 ms, or every switch would wait for it."""

    name, program, asks_version, port = "Traefik", "traefik", "version", 18824
    switched_by = "file provider, throttle 100 ms"

    def configure(self, colour: Colour) -> None:
        service = {"loadBalancer": {"servers": [{"url": f"http://{ADDRESSES[colour]}"}]}}
        router = {"rule": "PathPrefix(`/`)", "service": "app"}
        document = {"http": {"routers": {"web": router}, "services": {"app": service}}}
        staged = self.folder / "routes.staged"
        staged.write_text(json.dumps(document))  # YAML too
        staged.rename(self.folder / "routes.yml")

    def arguments(self) -> tuple[str, ...]:
        return (
            f"--entrypoints.web.address=127.0.0.1:{self.port}",
            f"--providers.file.filename={self.folder}/routes.yml",
            "--providers.providersthrottleduration=100ms",
            "--global.checknewversion=false",
            "--global.sendanonymoususage=false",
            "--log.level=ERROR",
        )

    async def switch(self, colour: Colour) -> None:
        self.configure(colour)


class Proxyctl(Peer):
    """Our proxy and our flags as the commands use them; starting Python and writing the journal are not part of it."""

    name, program, asks_version, port = "proxyctl", "nginx", "-v", 18825
    switched_by = "the flags, then the workers' answer"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._places = Places(folder / "state")
        self._proxy = NginxProxy(self._places, "bench", partial(on_host, self._places))
        self._splits = NginxSplits(self._places)

    @classmethod
    async def version(cls) -> str:
        return f"{__version__} on nginx {await super().version()}"

    async def start(self) -> None:
        settings = ProxySettings(http=(f"127.0.0.1:{self.port}",), workers=WORKERS, access_log=Logged.OFF)
        blue, green = ((ADDRESSES[colour],) for colour in (Colour.BLUE, Colour.GREEN))
        route = Route(service=ServiceName("web"), hosts=(), path="/", blue=blue, green=green)
        await self._proxy.publish(Topology(project="bench", settings=settings, routes=(route,)), 1, count(1).__next__)
        await self.switch(Colour.BLUE)

    async def switch(self, colour: Colour) -> None:
        await self._splits.move(ServiceName("web"), Flags(split=Split.all_to(colour), cover=True))

    async def stop(self) -> None:
        await self._proxy.stop()

    @property
    def pid(self) -> int:
        master = find_master(self._places)
        assert master is not None, "our nginx does not run"
        return master.pid


PLAIN = Nginx  # what the others are compared with
PEERS: tuple[type[Peer], ...] = (PLAIN, HAProxy, Caddy, Traefik, Proxyctl)
