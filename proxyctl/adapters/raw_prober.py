"""Probe HTTP, HTTPS and TCP with bare sockets and the standard library: the hot path's prober.

Keeps to the promises of AiohttpProber, and to the same contract suite, without the half second that importing it costs.
"""

from __future__ import annotations

import asyncio
import time

from proxyctl.adapters import unanswered
from proxyctl.adapters.trust import context, server_name
from proxyctl.domain.model import HealthCheck, HealthKind
from proxyctl.domain.probe import BODY_LIMIT, HEAD_LIMIT, accepts, unexpected
from proxyctl.ports import Endpoint, ProbeResult


class RawProber:
    """Implements `Prober` for HealthKind.HTTP and TCP."""

    async def probe(self, endpoint: Endpoint, check: HealthCheck) -> ProbeResult:
        started = time.monotonic()
        try:
            async with asyncio.timeout(check.timeout):
                passed, reason = await _look(endpoint, check)
        except TimeoutError:
            passed, reason = False, f"no answer in {check.timeout:g} s"
        except (OSError, ValueError, EOFError, asyncio.LimitOverrunError) as error:
            passed, reason = False, _why(error)
        return ProbeResult(passed=passed, reason=reason, elapsed=time.monotonic() - started)

    async def close(self) -> None: ...


async def _look(endpoint: Endpoint, check: HealthCheck) -> tuple[bool, str]:
    reader, writer = await _connect(endpoint, check)
    try:
        if check.kind is HealthKind.TCP:
            return True, "connected"
        writer.write(_request(endpoint, check))
        return await _judge(reader, check)
    finally:
        writer.close()


async def _connect(endpoint: Endpoint, check: HealthCheck) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if endpoint.socket:
        return await asyncio.open_unix_connection(endpoint.socket, limit=HEAD_LIMIT)
    host, _, port = endpoint.address.rpartition(":")
    if check.kind is HealthKind.TCP or check.scheme == "http":
        return await asyncio.open_connection(host, int(port), limit=HEAD_LIMIT)
    name, trust = server_name(endpoint, check), context(endpoint, check)
    return await asyncio.open_connection(host, int(port), limit=HEAD_LIMIT, ssl=trust, server_hostname=name)


def _request(endpoint: Endpoint, check: HealthCheck) -> bytes:
    headers = {"Host": check.host or endpoint.host or endpoint.address or "localhost", "Connection": "close"}
    headers |= {"User-Agent": "proxyctl", "Accept": "*/*", "Accept-Encoding": "identity"} | dict(check.headers)
    lines = [f"{check.method} {endpoint.prefix}{check.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


async def _judge(reader: asyncio.StreamReader, check: HealthCheck) -> tuple[bool, str]:
    status, headers = await _head(reader)
    if not accepts(check, status):
        return False, unexpected(check, status, headers.get("location", ""))
    if check.body and check.body.encode() not in await _body(reader, headers):
        return False, f"{status}, but the body lacks {check.body!r}"
    return True, str(status)


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Status and headers, their names in lower case; interim answers (103 Early Hints) are passed over."""
    while True:
        line, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, _, status = line.partition(" ")
        if not version.startswith("HTTP/1.") or not status[:3].isdecimal():
            raise ValueError(line[:80])
        if not 100 <= int(status[:3]) < 200:
            fields = (field.partition(":") for field in rest)
            return int(status[:3]), {name.lower(): value.strip() for name, _, value in fields}


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    """At most 64 KiB."""
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return await _chunks(reader)
    length = headers.get("content-length", "")
    return await _up_to(reader, min(BODY_LIMIT, int(length) if length else BODY_LIMIT))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    received = b""
    while len(received) < BODY_LIMIT and (size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16)):
        received += await _up_to(reader, min(size, BODY_LIMIT - len(received)))
        if len(received) < BODY_LIMIT:
            await reader.readexactly(2)
    return received


async def _up_to(reader: asyncio.StreamReader, limit: int) -> bytes:
    received = bytearray()
    while len(received) < limit and (chunk := await reader.read(limit - len(received))):
        received += chunk
    return bytes(received)


def _why(error: Exception) -> str:
    """A probe that got no HTTP answer, in few words."""
    match error:
        case asyncio.IncompleteReadError() if not error.partial:
            return "closed without an answer"
        case asyncio.LimitOverrunError():
            return f"headers over {HEAD_LIMIT // 1024} KiB"
    return unanswered.why(error)
