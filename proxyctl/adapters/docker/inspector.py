"""The hot path's view of containers: one connection to the engine and the standard library. It changes nothing.

Keeps to the promises of DockerRuntime.inspect(), and to the same contract suite.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cached_property

from proxyctl.adapters.docker.address import SERVING, Certificates, EngineAddress, meant, to_try
from proxyctl.adapters.docker.inspected import replica_state
from proxyctl.domain.model import Seconds
from proxyctl.errors import DockerUnavailable
from proxyctl.ports import Life, ReplicaState

ENGINE_LIMIT: Seconds = 1.0

Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class SocketInspector:
    """Implements `Inspector`: one GET per name, all sent at once on one connection."""

    def __init__(self, project: str) -> None:
        self._project = project

    @cached_property
    def _engine(self) -> EngineAddress:
        return meant()

    async def inspect(self, names: Sequence[str]) -> list[ReplicaState]:
        if not names:
            return []
        try:
            async with asyncio.timeout(ENGINE_LIMIT), _line(self._engine) as (reader, writer):
                writer.writelines(_question(name) for name in names)
                return [self._state(name, *await _answer(reader)) for name in names]
        except TimeoutError as error:
            raise self._unavailable(f"no answer in {ENGINE_LIMIT:g} s") from error
        except OSError as error:
            raise self._unavailable((error.strerror or str(error)).lower()) from error
        except (ValueError, LookupError, TypeError, AttributeError, EOFError) as error:  # no JSON, or of another shape
            raise self._unavailable("not an engine's answer") from error

    def _state(self, name: str, status: int, body: bytes) -> ReplicaState:
        match status:
            case 200:
                return replica_state(name, json.loads(body), self._project)
            case 404:
                return ReplicaState(name=name, life=Life.ABSENT)
            case _:
                raise ValueError(f"status {status}")

    def _unavailable(self, why: str) -> DockerUnavailable:
        return DockerUnavailable(
            f"the Docker engine at {self._engine.host}: {why}", serving=SERVING, next_step=to_try(self._engine)
        )


# --- one connection ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def _line(engine: EngineAddress) -> AsyncIterator[Line]:
    async with _opened(engine) as (reader, writer):
        try:
            yield reader, writer
        finally:
            writer.close()


@asynccontextmanager
async def _opened(engine: EngineAddress) -> AsyncIterator[Line]:
    match engine.way:
        case "unix":
            yield await asyncio.open_unix_connection(engine.socket)
        case "ssh":
            from proxyctl.adapters.docker.ssh import called

            with called(engine) as line:
                yield await asyncio.open_connection(sock=line)
        case _:
            tls = _context(engine.certificates) if engine.certificates else None
            yield await asyncio.open_connection(engine.split.hostname, engine.split.port, ssl=tls)


def _context(files: Certificates) -> ssl.SSLContext:
    files.require()
    made = ssl.create_default_context(cafile=files.ca)
    made.load_cert_chain(*files.own)
    if not files.verify:
        made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


# --- HTTP -------------------------------------------------------------------------------------------------------


def _question(name: str) -> bytes:
    """In the engine's own version of its API: a fixed one is too old for a newer engine."""
    return f"GET /containers/{name}/json HTTP/1.1\r\nHost: docker\r\n\r\n".encode()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Its status and body."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("it hung up") from error
    start, *lines = head.lower().splitlines()
    said = dict(line.split(":", 1) for line in lines if line)
    chunked = said.get("transfer-encoding", "").strip() == "chunked"
    body = await _chunks(reader) if chunked else await reader.readexactly(int(said["content-length"]))
    return int(start.split(" ", 2)[1]), body


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body
