"""A client that speaks HTTP/3, and load by it: every request has one outcome, and nothing is retried. Start at
speaking_http3() and Http3Load."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self, cast

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, FrameType, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamReset

from proxyctl.demo.load import Outcome
from tests.nginx_bed import Answer

TIMEOUT = 10.0


class Door(NamedTuple):
    """Where HTTP/3 is spoken, the host to ask for, and the certificate to trust."""

    address: str
    port: int
    host: str
    trusted: str


class Lost(Exception):
    """The request got no whole answer."""


@asynccontextmanager
async def speaking_http3(door: Door) -> AsyncIterator[Http3]:
    """A connection of its own."""
    told = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name=door.host)
    told.load_verify_locations(cafile=door.trusted)
    async with connect(door.address, door.port, configuration=told, create_protocol=Http3) as client:
        yield cast(Http3, client)


class Http3(QuicConnectionProtocol):
    """One connection. A request on it is answered, or Lost."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._http = _Connection(self._quic)
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        self._heard: dict[int, Answer] = {}
        self._ended = False

    @property
    def takes_more(self) -> bool:
        """A client whose server lets it go sends its next request elsewhere."""
        return not (self._ended or self._http.let_go)

    async def get(self, authority: str, path: str = "/") -> Answer:
        stream = self._quic.get_next_available_stream_id()
        fields = {":method": "GET", ":scheme": "https", ":authority": authority, ":path": path}
        self._http.send_headers(stream, [(k.encode(), v.encode()) for k, v in fields.items()], end_stream=True)
        self._answers[stream] = asyncio.get_running_loop().create_future()
        self.transmit()
        try:
            return await self._answers[stream]
        finally:
            del self._answers[stream]

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ConnectionTerminated):
            self._ended = True
            for stream in self._answers:
                self._lose(stream, f"connection closed: {event.error_code:#x} {event.reason_phrase}")
        elif isinstance(event, StreamReset):
            self._lose(event.stream_id, f"stream reset: {event.error_code:#x}")
        for part in self._http.handle_event(event):
            if isinstance(part, HeadersReceived | DataReceived):
                self._hear(part)

    def _hear(self, part: HeadersReceived | DataReceived) -> None:
        heard = self._heard.pop(part.stream_id, Answer(0, {}, b""))
        if isinstance(part, HeadersReceived):
            fields = {name.decode(): value.decode() for name, value in part.headers}
            heard = Answer(int(fields.pop(":status")), fields, b"")
        else:
            heard = heard._replace(body=heard.body + part.data)
        if not part.stream_ended:
            self._heard[part.stream_id] = heard
        elif (waiting := self._answers.get(part.stream_id)) and not waiting.done():
            waiting.set_result(heard)

    def _lose(self, stream: int, why: str) -> None:
        if (waiting := self._answers.get(stream)) and not waiting.done():
            waiting.set_exception(Lost(why))


class _Connection(H3Connection):
    """aioquic overhears that the server lets its clients go."""

    let_go = False

    def _check_control_frame_type(self, frame_type: int) -> None:
        super()._check_control_frame_type(frame_type)
        self.let_go |= frame_type == FrameType.GOAWAY


class Http3Load:
    """As proxyctl.demo.load, over HTTP/3: clients that ask from `async with` to its end, each on a connection that it
    keeps for as long as the server does."""

    def __init__(self, door: Door, clients: int = 4, pause: float = 0.004) -> None:
        self.outcomes: list[Outcome] = []
        self._door, self._clients, self._pause = door, clients, pause
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._client()) for _ in range(self._clients)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Requests in flight end before it returns."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    def failed(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.problem]

    async def _client(self) -> None:
        client: Http3 | None = None
        async with AsyncExitStack() as connections:
            while not self._stopping:
                started, release, problem = time.monotonic(), "", ""
                try:
                    async with asyncio.timeout(TIMEOUT):
                        if client is None or not client.takes_more:
                            client = await connections.enter_async_context(speaking_http3(self._door))
                        answer = await client.get(self._door.host)
                    release = answer.headers.get("x-release", "")
                    problem = "" if answer.status == 200 else f"status {answer.status}"
                except (Lost, OSError) as error:  # TimeoutError is an OSError
                    client, problem = None, f"{type(error).__name__}: {error}"
                self.outcomes.append(Outcome(started, time.monotonic(), release, problem))
                await asyncio.sleep(self._pause)
