"""Probe HTTP, HTTPS and TCP with aiohttp: the gate's and the bake's prober. Never raises for what the application does.

No redirects, no decompression, no proxy from the environment; one deadline for all of a probe, 64 KiB of body at most.
"""

from __future__ import annotations

import asyncio
import time

import aiohttp
from yarl import URL

from proxyctl.adapters.answers import body, why
from proxyctl.adapters.trust import context, server_name
from proxyctl.domain.model import HealthCheck, HealthKind
from proxyctl.domain.probe import BODY_LIMIT, HEAD_LIMIT, accepts, unexpected
from proxyctl.ports import Endpoint, ProbeResult


class AiohttpProber:
    """Implements `Prober` for HealthKind.HTTP and TCP. Every probe opens a connection of its own: a reused one proves
    less."""

    async def probe(self, endpoint: Endpoint, check: HealthCheck) -> ProbeResult:
        started = time.monotonic()
        try:
            async with asyncio.timeout(check.timeout):
                passed, reason = await _look(endpoint, check)
        except TimeoutError:
            passed, reason = False, f"no answer in {check.timeout:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            passed, reason = False, why(error)
        return ProbeResult(passed=passed, reason=reason, elapsed=time.monotonic() - started)

    async def close(self) -> None: ...


async def _look(endpoint: Endpoint, check: HealthCheck) -> tuple[bool, str]:
    if check.kind is HealthKind.TCP:
        return await _connects(endpoint)
    async with (
        aiohttp.ClientSession(
            connector=_connector(endpoint),
            trust_env=False,
            auto_decompress=False,
            max_line_size=HEAD_LIMIT,
            max_field_size=HEAD_LIMIT,
            timeout=aiohttp.ClientTimeout(total=None),
        ) as session,
        session.request(
            check.method,
            _url(endpoint, check),
            headers=_headers(endpoint, check),
            allow_redirects=False,
            ssl=context(endpoint, check) if _encrypted(endpoint, check) else True,
            server_hostname=server_name(endpoint, check) if _encrypted(endpoint, check) else None,
        ) as answer,
    ):
        return await _judge(answer, check)


async def _connects(endpoint: Endpoint) -> tuple[bool, str]:
    host, _, port = endpoint.address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.close()
    return True, "connected"


def _connector(endpoint: Endpoint) -> aiohttp.BaseConnector:
    if endpoint.socket:
        return aiohttp.UnixConnector(path=endpoint.socket, force_close=True)
    return aiohttp.TCPConnector(force_close=True)


def _url(endpoint: Endpoint, check: HealthCheck) -> URL:
    """Literal: a path is sent as it was written."""
    scheme = "https" if _encrypted(endpoint, check) else "http"
    authority = "localhost" if endpoint.socket else endpoint.address
    return URL(f"{scheme}://{authority}{endpoint.prefix}{check.path}", encoded=True)


def _headers(endpoint: Endpoint, check: HealthCheck) -> dict[str, str]:
    name = check.host or endpoint.host
    own = {"User-Agent": "proxyctl", "Accept-Encoding": "identity"} | ({"Host": name} if name else {})
    return own | dict(check.headers)


def _encrypted(endpoint: Endpoint, check: HealthCheck) -> bool:
    """nginx is asked in plain HTTP over its own socket, and speaks TLS to the replica itself."""
    return check.scheme == "https" and not endpoint.socket


async def _judge(answer: aiohttp.ClientResponse, check: HealthCheck) -> tuple[bool, str]:
    status = answer.status
    if sum(len(name) + len(value) for name, value in answer.raw_headers) > HEAD_LIMIT:
        return False, f"headers over {HEAD_LIMIT // 1024} KiB"  # aiohttp's own limit is for each line
    if not accepts(check, status):
        return False, unexpected(check, status, answer.headers.get("Location", ""))
    if check.body and check.body.encode() not in await body(answer, BODY_LIMIT):
        return False, f"{status}, but the body lacks {check.body!r}"
    return True, str(status)
