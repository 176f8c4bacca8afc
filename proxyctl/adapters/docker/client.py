"""docker-py's client for an engine, by whatever way it is spoken to. Start at connected()."""

from __future__ import annotations

from functools import partial
from typing import Any

import docker
from docker.constants import MINIMUM_DOCKER_API_VERSION
from docker.tls import TLSConfig
from docker.transport.basehttpadapter import BaseHTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from proxyctl.adapters.docker import ssh
from proxyctl.adapters.docker.address import EngineAddress
from proxyctl.domain.model import Seconds

LOCAL = "http+docker://"  # how docker-py calls what is not spoken to by tcp


def connected(engine: EngineAddress, limit: int) -> docker.DockerClient:
    """It was heard when this returns. Raises what docker-py raises, or DockerUnavailable for a file of its TLS."""
    match engine.way:
        case "unix":
            return docker.DockerClient(base_url=engine.host, timeout=limit)
        case "ssh":
            return _by_ssh(engine, limit)
        case _:
            return _by_tcp(engine, limit)


def _by_tcp(engine: EngineAddress, limit: int) -> docker.DockerClient:
    """What the environment says of proxies and of certificates of the web is not meant for an engine."""

    def speaking(version: str) -> docker.DockerClient:
        client = docker.DockerClient(base_url=engine.host, tls=_tls(engine), version=version, timeout=limit)
        client.api.trust_env = False
        return client

    return speaking(_version(speaking(MINIMUM_DOCKER_API_VERSION)))


def _tls(engine: EngineAddress) -> TLSConfig | bool:
    files = engine.certificates
    if files is None:
        return False
    files.require()
    return TLSConfig(client_cert=files.own, ca_cert=files.ca, verify=files.verify)


def _by_ssh(engine: EngineAddress, limit: int) -> docker.DockerClient:
    lines = _Lines(engine, limit)

    def speaking(version: str) -> docker.DockerClient:
        client = docker.DockerClient(base_url="unix://", version=version, timeout=limit)
        client.api.mount(LOCAL, lines)
        return client

    return speaking(_version(speaking(MINIMUM_DOCKER_API_VERSION)))


def _version(client: docker.DockerClient) -> str:
    """Of the engine's own API: docker-py would ask for it before it could be told how."""
    return str(client.version(api_version=False)["ApiVersion"])


class _Lines(BaseHTTPAdapter):
    """Each connection is an ssh of its own."""

    def __init__(self, engine: EngineAddress, limit: Seconds) -> None:
        super().__init__()
        self._pool = HTTPConnectionPool("localhost", timeout=limit)
        self._pool.ConnectionCls = partial(_Line, engine)  # type: ignore[assignment]

    def get_connection(self, _url: str | bytes, _proxies: object = None) -> HTTPConnectionPool:
        return self._pool

    def request_url(self, request: Any, _proxies: object) -> str:
        return str(request.path_url)

    def close(self) -> None:
        self._pool.close()
        super().close()


class _Line(HTTPConnection):
    def __init__(self, engine: EngineAddress, **given: Any) -> None:
        super().__init__(**given)
        self._engine = engine

    def connect(self) -> None:
        limit = self.timeout if isinstance(self.timeout, int | float) else ssh.HEARD_WITHIN
        self.sock = ssh.reached(self._engine, limit)
