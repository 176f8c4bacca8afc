"""In front of the real Docker engine: a unix socket that fails where it is told, or TLS. Start at relay()."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

LIES = {
    "an error": b'HTTP/1.1 500 Internal Server Error\r\nContent-Length: 16\r\n\r\n{"message":"no"}',
    "half of it": b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"Id": "a',
    "another shape": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]",
    "nothing": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "noise": bytes(range(32)) + b"\r\n\r\n",
}

Accept = Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]

ENGINE = "/var/run/docker.sock"


class Relay:
    """Passes everything on, until a request's first line contains `cut_at`: that connection breaks unanswered, once it
    was passed on; or `hang_at`: that request is never passed on nor answered; or `lie_at`: `lie` is the answer."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.cut_at = ""
        self.hang_at = ""
        self.lie_at = ""
        self.lie = b""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        engine_reader, engine_writer = await asyncio.open_unix_connection(ENGINE)
        answers = asyncio.create_task(_copy(engine_reader, writer))
        try:
            while chunk := await reader.read(65536):
                line = chunk.partition(b"\r\n")[0].decode("latin-1")
                if self.hang_at and self.hang_at in line:
                    await asyncio.Event().wait()
                if self.lie_at and self.lie_at in line:
                    writer.write(self.lie)
                    await writer.drain()
                    return
                engine_writer.write(chunk)
                if self.cut_at and self.cut_at in line:
                    answers.cancel()
                    await asyncio.sleep(0.5)  # the engine has acted by then
                    return
        except ConnectionError:
            pass
        finally:
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)
            for side in (engine_writer, writer):
                side.close()
                with suppress(ConnectionError):
                    await side.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def relay(folder: Path) -> AsyncIterator[Relay]:
    made = Relay(f"unix://{folder}/docker.sock")
    async with _accepting(made, lambda accept: asyncio.start_unix_server(accept, folder / "docker.sock")):
        yield made


@asynccontextmanager
async def tls_relay(certificate: Path, key: Path) -> AsyncIterator[Relay]:
    """By TCP on localhost; a client shows the same certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificate))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
    made = Relay("")
    async with _accepting(made, lambda accept: asyncio.start_server(accept, "localhost", 0, ssl=context)) as server:
        made.host = f"tcp://localhost:{server.sockets[0].getsockname()[1]}"
        yield made


@asynccontextmanager
async def _accepting(
    made: Relay, listening: Callable[[Accept], Awaitable[asyncio.Server]]
) -> AsyncIterator[asyncio.Server]:
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(made(reader, writer)))

    server = await listening(accept)
    try:
        yield server
    finally:
        server.close()
        await asyncio.sleep(0.05)  # one that was accepted just now has its task by then
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
