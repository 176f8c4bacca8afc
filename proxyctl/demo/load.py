"""A strict load client: every request has exactly one outcome, and nothing is retried. Start at Load.

    async with Load("127.0.0.1", 8080, Model.KEEPALIVE, clients=8) as load:
        ...
    assert not load.failed()

Each client is a closed loop: the next request leaves when the answer to the last one is whole. A request on a kept
connection that gets no byte is a failure, as it is for a client that cannot know whether its POST was executed.
"""

from __future__ import annotations

import asyncio
import time
from enum import StrEnum
from types import TracebackType
from typing import NamedTuple, Self

TIMEOUT = 10.0
BODY = b"x" * 200


class Model(StrEnum):
    NEW_CONNECTION = "GET, new connection each"
    KEEPALIVE = "GET, kept connections"
    POST = "POST of 200 bytes, kept connections"
    POST_NEW = "POST of 200 bytes, new connection each"

    @property
    def keeps(self) -> bool:
        return self in (Model.KEEPALIVE, Model.POST)


class Outcome(NamedTuple):
    started: float  # time.monotonic()
    ended: float
    release: str  # of the answer's X-Release; empty when there was none
    problem: str  # empty: 200, whole


class Load:
    """Runs from `async with` to its end.

    `pause` seconds lie between two requests of one client; the clients start within `spread` seconds, evenly.
    """

    def __init__(
        self,
        host: str,
        port: int,
        model: Model,
        clients: int,
        pause: float = 0.0,
        *,
        target: str = "/",
        spread: float = 0.0,
    ) -> None:
        self.outcomes: list[Outcome] = []
        self._host, self._port, self._model, self._pause = host, port, model, pause
        self._waits = [n * spread / clients for n in range(clients)]
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._requests = [_request(host, model, target, agent=f"load/{n}") for n in range(clients)]

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._client(wait, request))
            for wait, request in zip(self._waits, self._requests, strict=True)
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Requests in flight end before it returns."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    def failed(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.problem]

    def releases_since(self, moment: float) -> set[str]:
        """Which releases answered requests that were sent after this moment."""
        return {o.release for o in self.outcomes if o.started > moment and not o.problem}

    async def _client(self, wait: float, request: bytes) -> None:
        await asyncio.sleep(wait)
        connection: _Connection | None = None
        while not self._stopping:
            started, release, problem = time.monotonic(), "", ""
            try:
                async with asyncio.timeout(TIMEOUT):
                    connection = connection or await _Connection.open(self._host, self._port)
                    status, release = await connection.exchange(request)
                    problem = "" if status == 200 else f"status {status}"
            except TimeoutError:
                problem = f"no answer in {TIMEOUT:g} s"
            except asyncio.IncompleteReadError as error:
                problem = f"cut after {len(error.partial)} bytes" if error.partial else "closed without an answer"
            except (OSError, ValueError, asyncio.LimitOverrunError) as error:
                problem = f"{type(error).__name__}: {error}"
            self.outcomes.append(Outcome(started, time.monotonic(), release, problem))
            if connection is not None and (problem or not self._model.keeps or connection.ends):
                connection.close()
                connection = None
            await asyncio.sleep(self._pause)
        if connection is not None:
            connection.close()


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.ends = False  # the server said that it closes after this answer

    @classmethod
    async def open(cls, host: str, port: int) -> Self:
        return cls(*await asyncio.open_connection(host, port))

    async def exchange(self, request: bytes) -> tuple[int, str]:
        """Status and release of a whole answer."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        lower = head.lower()
        self.ends = b"connection: close" in lower
        await self._reader.readexactly(int(_field(lower, b"content-length:") or 0))
        return int(head[9:12]), _field(lower, b"x-release:").decode()

    def close(self) -> None:
        self._writer.close()


def _field(head: bytes, name: bytes) -> bytes:
    at = head.find(b"\r\n" + name)
    if at < 0:
        return b""
    begin = at + 2 + len(name)
    return head[begin : head.index(b"\r\n", begin)].strip()


def _request(host: str, model: Model, target: str, agent: str) -> bytes:
    post = model in (Model.POST, Model.POST_NEW)
    lines = [f"{'POST' if post else 'GET'} {target} HTTP/1.1", f"Host: {host}", f"User-Agent: {agent}"]
    lines += [] if model.keeps else ["Connection: close"]
    lines += [f"Content-Length: {len(BODY)}"] if post else []
    return "\r\n".join([*lines, "", ""]).encode() + (BODY if post else b"")
