"""The demo application as a process: the tests of everything else rely on what it promises."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxyctl import demo
from tests.nginx_bed import free_port

APP = Path(demo.__file__).with_name("app.py")


class App:
    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process, self._port = process, port

    async def connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port)

    async def get(self, path: str) -> bytes:
        return await self.send(f"GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())

    async def send(self, request: bytes) -> bytes:
        """The whole answer, until the connection is closed."""
        reader, writer = await self.connection()
        writer.write(request)
        answer = await reader.read(-1)
        writer.close()
        return answer

    async def ended(self) -> int:
        async with asyncio.timeout(5):
            return await self.process.wait()


@asynccontextmanager
async def app(**environment: str) -> AsyncIterator[App]:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-u",
        str(APP),
        env=os.environ | {"RELEASE": "7", "PORT": str(port)} | environment,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    await process.stdout.readline()  # "listens"
    try:
        yield App(process, port)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_it_says_which_release_it_is() -> None:
    async with app() as running:
        answer = await running.get("/")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\nX-Release: 7\r\n")
    assert answer.endswith(b"\r\n\r\n7\n")


async def test_a_connection_is_kept_for_the_next_request() -> None:
    async with app() as running:
        reader, writer = await running.connection()
        for _ in range(3):
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n7\n")).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_it_is_healthy_until_it_is_made_sick() -> None:
    async with app() as running:
        assert (await running.get("/healthz")).startswith(b"HTTP/1.1 200")
        await running.get("/sick")
        assert (await running.get("/healthz")).startswith(b"HTTP/1.1 503")
        assert (await running.get("/")).startswith(b"HTTP/1.1 200")


async def test_it_can_be_sick_from_the_start() -> None:
    async with app(SICK="1") as running:
        assert (await running.get("/healthz")).startswith(b"HTTP/1.1 503")


@pytest.mark.parametrize(
    "body",
    [b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000, b"Transfer-Encoding: chunked\r\n\r\n186a0\r\n%s\r\n0\r\n\r\n"],
    ids=["length", "chunked"],
)
async def test_it_counts_what_is_uploaded(body: bytes) -> None:
    body = body.replace(b"%s", b"x" * 100_000)
    async with app() as running:
        assert (await running.send(b"POST /upload HTTP/1.1\r\nConnection: close\r\n" + body)).endswith(
            b"\r\n\r\n100000\n"
        )


async def test_it_sends_events_and_echoes_a_websocket() -> None:
    async with app() as running:
        reader, events = await running.connection()
        events.write(b"GET /sse HTTP/1.1\r\n\r\n")
        await reader.readuntil(b"data: 7 1\n\n")
        reader, socket = await running.connection()
        socket.write(b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in await reader.readuntil(b"\r\n\r\n")  # the example of RFC 6455
        socket.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        events.close()
        socket.close()


async def test_asked_to_end_it_finishes_what_is_in_flight() -> None:
    async with app() as running:
        slow = asyncio.create_task(running.get("/slow?ms=500"))
        await asyncio.sleep(0.2)
        running.process.send_signal(signal.SIGTERM)
        assert (await slow).endswith(b"\r\n\r\n7\n")
        assert await running.ended() == 0


@pytest.mark.parametrize(
    ("environment", "provoke"),
    [
        ({}, lambda running: running.get("/crash")),
        ({"EXIT_AFTER_MS": "50"}, lambda running: running.process.wait()),
    ],
)
async def test_it_can_die(environment: dict[str, str], provoke: Callable[[App], Awaitable[object]]) -> None:
    async with app(**environment) as running:
        await provoke(running)
        assert await running.ended() == 3
