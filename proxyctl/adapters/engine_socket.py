"""The hot path's view of containers and health: bare sockets and the standard library. Nothing here changes anything.

`SocketInspector` asks the engine over its unix socket; `RawProber` probes HTTP and TCP. Both keep to the promises of
the heavy adapters, and to the same contract suites.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from proxyctl.domain.model import HealthCheck, HealthKind, Incarnation, Seconds
from proxyctl.domain.probe import BODY_LIMIT, HEAD_LIMIT, accepts, unexpected
from proxyctl.errors import DockerUnavailable
from proxyctl.ports import Endpoint, Life, ProbeResult, ReplicaState

ENGINE_LIMIT: Seconds = 1.0
DEFAULT_HOST = "unix:///var/run/docker.sock"


class SocketInspector:
    """Implements `Inspector` for an engine on a unix socket, one GET per name, all at once."""

    def __init__(self, project: str, docker_host: str = "") -> None:
        self._project = project
        self._host = docker_host or os.environ.get("DOCKER_HOST") or DEFAULT_HOST

    async def inspect(self, names: Sequence[str]) -> list[ReplicaState]:
        if not self._host.startswith("unix://"):
            raise DockerUnavailable(f"{self._host} is not a local engine", next_step="unset DOCKER_HOST")
        try:
            async with asyncio.timeout(ENGINE_LIMIT):
                return list(await asyncio.gather(*(self._inspect(name) for name in names)))
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
            raise DockerUnavailable(
                f"the Docker engine at {self._host} did not answer within {ENGINE_LIMIT:g} s",
                serving="traffic stays as it is",
                next_step="docker version",
            ) from error

    async def _inspect(self, name: str) -> ReplicaState:
        reader, writer = await asyncio.open_unix_connection(self._host.removeprefix("unix://"))
        try:
            request = f"GET /v1.41/containers/{name}/json HTTP/1.0\r\nHost: docker\r\n\r\n"
            writer.write(request.encode())
            answer = await reader.read(-1)
        finally:
            writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if status == 404:
            return ReplicaState(name=name, life=Life.ABSENT)
        if status != 200:
            raise ValueError(f"status {status}")
        return replica_state(name, json.loads(body), self._project)


def replica_state(name: str, found: dict[str, Any], project: str) -> ReplicaState:
    """One container as `docker inspect` shows it; what does not carry our label is none of ours."""
    labels = found["Config"]["Labels"] or {}
    if labels.get("proxyctl.project") != project:
        return ReplicaState(name=name, life=Life.ABSENT)
    state = found["State"]
    networks = found["NetworkSettings"]["Networks"] or {}
    slots = networks.get(f"proxyctl-{project}-slots") or {}
    return ReplicaState(
        name=name,
        life=_life(state["Status"]),
        incarnation=Incarnation(container=found["Id"], started_at=state["StartedAt"]),
        address=slots.get("IPAddress") or "",
        exit_code=state["ExitCode"],
        oom_killed=state["OOMKilled"],
        restarts=found.get("RestartCount", 0),
        health=(state.get("Health") or {}).get("Status", ""),
    )


def _life(status: str) -> Life:
    match status:
        case "running" | "paused" | "restarting":
            return Life(status)
        case _:
            return Life.EXITED


class RawProber:
    """Implements `Prober` for HTTP, HTTPS and TCP."""

    async def probe(self, endpoint: Endpoint, check: HealthCheck) -> ProbeResult:
        started = time.monotonic()
        try:
            async with asyncio.timeout(check.timeout):
                reason, passed = await self._look(endpoint, check)
        except TimeoutError:
            reason, passed = f"no answer in {check.timeout:g} s", False
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            reason, passed = why(error), False
        return ProbeResult(passed=passed, reason=reason, elapsed=time.monotonic() - started)

    async def close(self) -> None: ...

    async def _look(self, endpoint: Endpoint, check: HealthCheck) -> tuple[str, bool]:
        reader, writer = await _connect(endpoint, check)
        try:
            if check.kind is HealthKind.TCP:
                return "connected", True
            writer.write(_request(endpoint, check))
            return await _judge(reader, check)
        finally:
            writer.close()


async def _connect(endpoint: Endpoint, check: HealthCheck) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if endpoint.socket:
        return await asyncio.open_unix_connection(endpoint.socket, limit=HEAD_LIMIT)
    host, _, port = endpoint.address.rpartition(":")
    if check.scheme == "http" or check.kind is HealthKind.TCP:
        return await asyncio.open_connection(host, int(port), limit=HEAD_LIMIT)
    import ssl

    trust = ssl.create_default_context()
    if not check.verify:
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    name = check.host or endpoint.host or host
    return await asyncio.open_connection(host, int(port), limit=HEAD_LIMIT, ssl=trust, server_hostname=name)


def _request(endpoint: Endpoint, check: HealthCheck) -> bytes:
    headers = {"Host": check.host or endpoint.host or endpoint.address or "localhost", "Connection": "close"}
    headers |= {"User-Agent": "proxyctl", "Accept": "*/*"} | dict(check.headers)
    lines = [f"{check.method} {endpoint.prefix}{check.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


async def _judge(reader: asyncio.StreamReader, check: HealthCheck) -> tuple[str, bool]:
    head = await reader.readuntil(b"\r\n\r\n")
    line, _, rest = head.partition(b"\r\n")
    version, _, code = line.partition(b" ")
    if not version.startswith(b"HTTP/1."):
        return "not an HTTP answer", False
    status = int(code[:3])
    if not accepts(check, status):
        return unexpected(check, status, _header(rest, b"location")), False
    if check.body and check.body.encode() not in await _body(reader):
        return f"{status}, but the body lacks {check.body!r}", False
    return str(status), True


async def _body(reader: asyncio.StreamReader) -> bytes:
    """At most 64 KiB, as they come on the wire."""
    received = bytearray()
    while len(received) < BODY_LIMIT and (chunk := await reader.read(BODY_LIMIT - len(received))):
        received += chunk
    return bytes(received)


def _header(head: bytes, name: bytes) -> str:
    for line in head.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip().decode("ascii", "replace")
    return ""


def why(error: BaseException) -> str:
    """A failed connection in few words."""
    match error:
        case ConnectionRefusedError():
            return "connection refused"
        case ConnectionResetError() | BrokenPipeError():
            return "connection reset"
        case asyncio.IncompleteReadError():
            return "closed without an answer"
        case asyncio.LimitOverrunError():
            return f"headers over {HEAD_LIMIT // 1024} KiB"
        case OSError():
            with suppress(TypeError, ValueError):
                return os.strerror(error.errno or 0).lower()
    return f"not an HTTP answer: {error}"
