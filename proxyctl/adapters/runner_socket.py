"""The line to the process that drives a service: it is woken here, and tells what happens right now.

One unix socket per service in the state folder. A client that connects wakes the driver and reads ticks, one JSON line
each, as long as it likes. Requests themselves lie in the store; the socket only saves polling.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from pathlib import Path

from proxyctl.adapters.sockets import reachable
from proxyctl.domain.codec import DecodeError, decode, encode
from proxyctl.domain.ticks import Tick

Listen = Callable[[], AbstractContextManager[asyncio.Queue[Tick]]]


@asynccontextmanager
async def listening(path: Path, woken: asyncio.Event, listen: Listen) -> AsyncIterator[None]:
    """Answer on this socket for as long as the block runs. A socket left by a dead driver is replaced."""

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with listen() as ticks, suppress(ConnectionError):
            while True:
                tick = await ticks.get()
                writer.write(json.dumps(encode(tick)).encode() + b"\n")
                await writer.drain()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Not serve() itself: of a task of its own that is cancelled asyncio prints a traceback."""
        woken.set()
        serving = asyncio.ensure_future(serve(reader, writer))
        serving.add_done_callback(lambda _: writer.close())
        connected.add(serving)
        serving.add_done_callback(connected.discard)

    connected = set[asyncio.Future[None]]()
    path.unlink(missing_ok=True)
    with reachable(path) as address:
        server = await asyncio.start_unix_server(begin, address)
    ours = path.stat()
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            if os.path.samestat(ours, path.stat()):  # a successor may have begun: the lock is free by now
                path.unlink()
        server.close()
        for serving in connected:
            serving.cancel()
        await asyncio.gather(*connected, return_exceptions=True)


async def ticks(path: Path) -> AsyncIterator[Tick]:
    """What the driver tells from now on; ends when it does."""
    try:
        with reachable(path) as address:
            reader, writer = await asyncio.open_unix_connection(address)
    except OSError:
        return
    try:
        while line := await _next(reader):
            with suppress(DecodeError, ValueError):
                yield decode(Tick, json.loads(line))
    finally:
        writer.close()


async def _next(reader: asyncio.StreamReader) -> bytes:
    """Nothing when the driver ended, however it did."""
    with suppress(ConnectionError):
        return await reader.readline()
    return b""
