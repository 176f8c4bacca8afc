"""Which engine is meant, as the `docker` command finds it. Light: the hot path reads it too. Start at meant().

DOCKER_HOST goes before DOCKER_CONTEXT, that before the context that `docker context use` chose, that before the usual
socket.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from proxyctl.domain.record import Record
from proxyctl.errors import DockerUnavailable

USUAL = "unix:///var/run/docker.sock"
SERVING = "traffic stays as it is"  # whatever happens to the engine, nginx goes on
VARIABLES = ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_CONTEXT", "DOCKER_CONFIG")
PLAIN_PORT, TLS_PORT = 2375, 2376


class Certificates(Record):
    """Files of a folder, called as Docker calls them."""

    folder: Path
    verify: bool  # whether the engine must show that it is the one

    @property
    def ca(self) -> str:
        return str(self.folder / "ca.pem")

    @property
    def own(self) -> tuple[str, str]:
        return str(self.folder / "cert.pem"), str(self.folder / "key.pem")

    def require(self) -> None:
        """Raises DockerUnavailable that names the file which cannot be read."""
        for path in (self.ca, *self.own):
            try:
                Path(path).read_bytes()
            except OSError as error:
                raise DockerUnavailable(
                    f"the engine is spoken to by TLS, and {path} cannot be read: {error.strerror}",
                    serving=SERVING,
                    next_step=f"put ca.pem, cert.pem and key.pem into {self.folder}, or set DOCKER_CERT_PATH",
                ) from error


class EngineAddress(Record):
    host: str
    certificates: Certificates | None = None  # none: without TLS

    @property
    def way(self) -> str:
        """`unix`, `tcp` or `ssh`."""
        return self.split.scheme

    @property
    def split(self) -> SplitResult:
        return urlsplit(self.host)

    @property
    def socket(self) -> str:
        """Of an engine by its unix socket."""
        return self.host.removeprefix("unix://")


def to_try(engine: EngineAddress) -> str:
    """What a person does about an engine that does not answer."""
    if engine.way == "ssh":
        from proxyctl.adapters.docker.ssh import trial

        return f"{trial(engine)}: mend what it says"
    return "docker version; start the engine, join its group, or set DOCKER_HOST"


def meant(environment: Mapping[str, str] = os.environ) -> EngineAddress:
    """Raises DockerUnavailable for one that nobody here can speak to."""
    folder = Path(environment.get("DOCKER_CONFIG") or Path.home() / ".docker")
    if host := environment.get("DOCKER_HOST", ""):
        found = EngineAddress(host=host, certificates=_of_environment(host, folder, environment))
    elif name := _context(folder, environment):
        found = _of_context(folder / "contexts", name)
    else:
        found = EngineAddress(host=USUAL)
    return _spoken(found)


def _of_environment(host: str, folder: Path, environment: Mapping[str, str]) -> Certificates | None:
    verify, path = bool(environment.get("DOCKER_TLS_VERIFY")), environment.get("DOCKER_CERT_PATH", "")
    if not host.startswith("tcp:") or not (verify or path):
        return None
    return Certificates(folder=Path(path) if path else folder, verify=verify)


def _context(folder: Path, environment: Mapping[str, str]) -> str:
    """Its name; empty for the default one."""
    name = environment.get("DOCKER_CONTEXT") or _read(folder / "config.json").get("currentContext", "")
    return "" if name == "default" else str(name)


def _of_context(folder: Path, name: str) -> EngineAddress:
    """`docker` keeps them in folders that are named by the digest of the name."""
    from hashlib import sha256  # most have no context

    key = sha256(name.encode()).hexdigest()
    meta = folder / "meta" / key / "meta.json"
    try:
        endpoint = _read(meta)["Endpoints"]["docker"]
        host = str(endpoint["Host"])
    except (LookupError, TypeError) as error:
        raise DockerUnavailable(
            f"the Docker context {name} is not there: {meta} names no engine",
            serving=SERVING,
            next_step="docker context ls; docker context use default, or set DOCKER_HOST",
        ) from error
    files = folder / "tls" / key / "docker"
    verify = not endpoint.get("SkipTLSVerify")
    return EngineAddress(host=host, certificates=Certificates(folder=files, verify=verify) if files.is_dir() else None)


def _read(path: Path) -> dict[str, Any]:
    """What is not there, or no JSON object, says nothing."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _spoken(found: EngineAddress) -> EngineAddress:
    """With its port, where it is one of tcp."""
    try:
        split = found.split
        if found.way == "unix" or (found.way == "ssh" and split.hostname and split.port != 0):
            return found
        if found.way == "tcp" and split.hostname:
            port = split.port or (TLS_PORT if found.certificates else PLAIN_PORT)
            host = f"[{split.hostname}]" if ":" in split.hostname else split.hostname
            return found.replace(host=f"tcp://{host}:{port}")
        why = "it is none of unix://PATH, tcp://HOST:PORT and ssh://USER@HOST"
    except ValueError as error:
        why = str(error)
    raise DockerUnavailable(
        f"{found.host} is no address of a Docker engine: {why}", serving=SERVING, next_step="set DOCKER_HOST"
    )
