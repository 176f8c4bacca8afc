"""Write the first `proxyctl.yml`: short, commented, and right as it stands. Never writes to disk.

Start at commented_file().
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from proxyctl.config import grammar
from proxyctl.config.compose import services_of
from proxyctl.config.compose_keys import REFUSED
from proxyctl.config.document import Value
from proxyctl.config.mounts import is_written_to, source_of
from proxyctl.config.places import NAME, RESERVED
from proxyctl.config.problems import shown
from proxyctl.config.source import Unreadable
from proxyctl.config.stores import keeps_data
from proxyctl.domain.container import HOST_NETWORK
from proxyctl.errors import ConfigRejected

HTTP = 80  # nginx's own port, in a file that says no other

_PORT = re.compile(r"(?:.*:)?([1-9][0-9]{0,4})(?:/tcp)?", re.ASCII)


class _Found(NamedTuple):
    """What can be told of a service from a Compose file."""

    name: str
    port: int
    has_image: bool
    has_healthcheck: bool
    allow: tuple[str, ...]
    on_the_host: bool


def commented_file(project: str, compose: Path | None = None) -> str:
    """A file that loads without a problem; its services are those of the Compose file that clients reach by a port.
    Raises ConfigRejected for a project that cannot be called so and a Compose file that has nothing to take."""
    _refuse_name(project)
    head = _HEAD.format(project=project)
    if compose is None:
        return head + _PROXY + _EXAMPLE
    found = _found(compose)
    head += f"compose: {json.dumps(str(compose))}  # services inherit their container definition by name\n"
    services = "".join(_service(project, each, alone=len(found) == 1) for each in found)
    return head + _PROXY + services + "".join(f"# {line}\n" for line in _left(compose, found))


def file_of(project: str, services: str) -> str:
    """A file with these services, in YAML as it stands below `services`. Raises ConfigRejected as commented_file()."""
    _refuse_name(project)
    return _HEAD.format(project=project) + _PROXY + services


def _refuse_name(project: str) -> None:
    try:
        grammar.name(project)
    except ValueError as error:
        raise ConfigRejected(f"project {shown(project)}: {error}", next_step="proxyctl init --project NAME") from None


def _found(compose: Path) -> list[_Found]:
    services = _services(compose)
    routed = ((name, service, _port(service)) for name, service in services.items() if isinstance(service, dict))
    found = [
        _Found(name, port, "image" in service, "healthcheck" in service, tuple(_allow(service)), _on_the_host(service))
        for name, service, port in routed
        if port is not None and _may_run(name, service) and not (port == HTTP and _on_the_host(service))
    ]
    if not found:
        raise ConfigRejected(
            f"{compose} has no service that clients reach by a port" if services else f"{compose} has no services",
            tuple(_left(compose, found)),
            next_step="name a Compose file in which one has ports or expose, or proxyctl init for an example",
        )
    return found


def _services(compose: Path) -> Mapping[str, Value]:
    try:
        return services_of(compose)
    except Unreadable as error:
        raise ConfigRejected(f"{compose} cannot be used", (str(error.problem),)) from error


def _may_run(name: str, service: Mapping[str, Value]) -> bool:
    image = service.get("image")
    is_store = isinstance(image, str) and keeps_data(image)
    mode = service.get("network_mode", "bridge")
    needs_compose = any(key in service for key in REFUSED) or mode not in ("bridge", HOST_NETWORK)
    return NAME.fullmatch(name) is not None and name not in RESERVED and not is_store and not needs_compose


def _allow(service: Mapping[str, Value]) -> Iterator[str]:
    """The words without which the service would be refused."""
    volumes, deploy = service.get("volumes"), service.get("deploy")
    if _on_the_host(service):
        yield "host-network"
    elif any(map(_is_shared, volumes if isinstance(volumes, list) else ())):
        yield "shared-volumes"
    if isinstance(deploy, dict) and ("placement" in deploy or deploy.get("mode", "replicated") != "replicated"):
        yield "swarm"


def _on_the_host(service: Mapping[str, Value]) -> bool:
    return service.get("network_mode") == HOST_NETWORK


def _is_shared(volume: Value) -> bool:
    if isinstance(volume, dict):
        return "source" in volume and volume.get("read_only") is not True
    return isinstance(volume, str) and bool(source_of(volume)) and is_written_to(volume)


def _port(service: Mapping[str, Value]) -> int | None:
    """The first port that the container is published or exposed by."""
    for key in ("ports", "expose"):
        written = service.get(key)
        for entry in written if isinstance(written, list) else ():
            target = entry.get("target") if isinstance(entry, dict) else entry
            match = _PORT.fullmatch(str(target))
            if match and int(match[1]) <= 65535:
                return int(match[1])
    return None


def _service(project: str, found: _Found, alone: bool) -> str:
    """Two services cannot both catch all hosts, so only one alone may go without."""
    image = "" if found.has_image else _BUILT.format(image=f"{project}/{found.name}:latest")
    hosts = ("    # " if alone else "    ") + _HOSTS.format(host=f"{found.name}.example.com")
    check = _BY_DOCKER if found.has_healthcheck else _BY_CONNECTION
    allow = _ALLOW.format(words=", ".join(found.allow)) if found.allow else ""
    more = _ONE_AT_A_TIME if found.on_the_host else _MORE
    return f"  {found.name}:\n{image}{allow}    port: {found.port}  # where a replica listens\n{hosts}{check}{more}"


def _left(compose: Path, found: list[_Found]) -> Iterator[str]:
    taken = {each.name for each in found}
    left = {name: service for name, service in _services(compose).items() if name not in taken}
    return (f"{json.dumps(name)} stays with Compose{_instead(service)}" for name, service in left.items())


def _instead(service: Value) -> str:
    """A service on the host's network publishes no port, which would tell that clients reach it."""
    if isinstance(service, dict) and _on_the_host(service) and _port(service) is None:
        return ", or write its port with strategy: recreate and allow: [host-network]"
    return ""


_HEAD = """\
# What proxyctl runs and where traffic goes. Every key: docs/configuration.md; for editors: proxyctl schema
project: {project}  # keep this line first: rollback reads no further
"""

_PROXY = """
proxy:
  mode: process       # an nginx of our own, from this machine's binary
  http: 80            # or a list: [80, "[::]:80"]
  # trusted: [10.0.0.0/8]  # load balancers whose X-Forwarded-For is believed

services:
"""

_EXAMPLE = """\
  web:
    container:
      image: shop/web:1.4
      # environment: {DATABASE_URL: "env:DATABASE_URL"}  # taken from the environment at the start
    port: 8000        # where a replica listens
    # hosts: [shop.example.com]  # left out: this service catches all hosts
    health: {path: /healthz, interval: 1s, timeout: 2s, deadline: 60s}
    replicas: 1
    bake: 60s         # watched after the cutover; a failure rolls back
    standby: 15m      # how long the old release stays warm
    drain: 30s        # for open requests of a stopping replica
"""

_BUILT = """\
    container: {{image: "{image}"}}  # to be built before a deploy
"""

_ALLOW = """\
    allow: [{words}]  # refused without: is it meant so? docs/configuration.md
"""

_HOSTS = """\
hosts: [{host}]  # left out: this service catches all hosts
"""

_BY_DOCKER = """\
    health: {docker: true}  # the healthcheck of the Compose file
"""

_BY_CONNECTION = """\
    health: {tcp: true}  # better: {path: /healthz}, which proves that the application answers
"""

_MORE = """\
    # replicas: 2
    # bake: 60s       # watched after the cutover; a failure rolls back
    # standby: 15m    # how long the old release stays warm
"""

_ONE_AT_A_TIME = """\
    strategy: recreate  # on the host's network two releases would want the same port
    # drain: 30s      # for open requests of a stopping replica
"""
