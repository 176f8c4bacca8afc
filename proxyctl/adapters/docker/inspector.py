"""The hot path's view of containers: the engine's unix socket and the standard library. Nothing here changes anything.

Keeps to the promises of DockerRuntime.inspect(), and to the same contract suite.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence

from proxyctl.adapters.docker.inspected import replica_state
from proxyctl.domain.model import Seconds
from proxyctl.errors import DockerUnavailable
from proxyctl.ports import Life, ReplicaState

ENGINE_LIMIT: Seconds = 1.0
DEFAULT_HOST = "unix:///var/run/docker.sock"


class SocketInspector:
    """Implements `Inspector` for an engine on a unix socket, one GET per name, all at once."""

    def __init__(self, project: str, docker_host: str = "") -> None:
        self._project = project
        self._host = docker_host or os.environ.get("DOCKER_HOST") or DEFAULT_HOST

    async def inspect(self, names: Sequence[str]) -> list[ReplicaState]:
        if not self._host.startswith("unix://"):
            raise DockerUnavailable(f"{self._host} is not an engine on this host", next_step="unset DOCKER_HOST")
        try:
            async with asyncio.timeout(ENGINE_LIMIT):
                return list(await asyncio.gather(*(self._inspect(name) for name in names)))
        except TimeoutError as error:
            raise self._unavailable(f"no answer in {ENGINE_LIMIT:g} s") from error
        except OSError as error:
            raise self._unavailable((error.strerror or str(error)).lower()) from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:  # no JSON, or of another shape
            raise self._unavailable("not an engine's answer") from error

    async def _inspect(self, name: str) -> ReplicaState:
        reader, writer = await asyncio.open_unix_connection(self._host.removeprefix("unix://"))
        try:
            # HTTP/1.0: the engine answers in one piece and closes.
            writer.write(f"GET /v1.41/containers/{name}/json HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
            head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        finally:
            writer.close()
        match int(head.split(b" ", 2)[1]):
            case 200:
                return replica_state(name, json.loads(body), self._project)
            case 404:
                return ReplicaState(name=name, life=Life.ABSENT)
            case status:
                raise ValueError(f"status {status}")

    def _unavailable(self, why: str) -> DockerUnavailable:
        return DockerUnavailable(
            f"the Docker engine at {self._host}: {why}",
            serving="traffic stays as it is",
            next_step="docker version",
        )
