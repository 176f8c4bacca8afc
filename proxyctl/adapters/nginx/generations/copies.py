"""The operator's files that nginx reads: checked, and copied into each generation, so that nginx never reads half a
change of them. Start at copied(); looked_at() says all that is wrong with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from proxyctl.adapters.nginx.generations.disk import Generation
from proxyctl.adapters.nginx.generations.sources import FileRefused, page, passwords
from proxyctl.adapters.nginx.names import (
    UpstreamFiles,
    error_page,
    password_file,
    read_late,
    tls_files,
    upstream_tls_files,
    upstream_tls_files_before,
)
from proxyctl.domain.model import Route, ServiceName, Tls, Topology, UpstreamTls

Texts = tuple[str, ...]


class Wanted(NamedTuple):
    """Files of a generation that belong together, and what they are read from."""

    service: ServiceName
    names: tuple[str, ...]
    read: Callable[..., Texts]  # raises FileRefused
    given: tuple[object, ...]

    @property
    def source(self) -> tuple[object, ...]:
        return self.service, self.read, self.given


class Copies(NamedTuple):
    files: dict[str, str]  # of a generation, by their path in its folder
    left: dict[str, str]  # for the workers of the generation before, who read them until they are gone
    ends: Mapping[ServiceName, float]  # of certificates, unix time


class Look(NamedTuple):
    files: dict[str, str]
    refused: dict[Wanted, str]  # and why

    @property
    def objections(self) -> list[str]:
        return list(self.refused.values())


def copied(topology: Topology, current: Generation | None) -> Copies:
    """What went bad since it was published stays as it is in force: the files of one service hinder no other's deploy.
    Raises FileRefused for what is new."""
    found = looked_at(topology)
    before = {wanted.source: _texts(current, wanted) for wanted in _wanted(current.topology)} if current else {}
    for wanted, objection in found.refused.items():
        if wanted.source not in before:
            raise FileRefused(objection)
        found.files.update(zip(wanted.names, before[wanted.source].values(), strict=True))
    left = {name: text for texts in before.values() for name, text in texts.items() if read_late(name)}
    return Copies(found.files, left, _ends(topology, found.files))


def _texts(generation: Generation, wanted: Wanted) -> dict[str, str]:
    return {name: generation.files[name] for name in wanted.names}


def looked_at(topology: Topology) -> Look:
    found = Look({}, {})
    for wanted in _wanted(topology):
        try:
            found.files.update(zip(wanted.names, wanted.read(*wanted.given), strict=True))
        except FileRefused as refused:
            found.refused[wanted] = f"{wanted.service}: {refused}"
    return found


def _ends(topology: Topology, files: Mapping[str, str]) -> dict[ServiceName, float]:
    """When the first certificate of a service ends: its hosts', or ours that its replicas demand."""
    found = dict[ServiceName, float]()
    for route in topology.routes:
        chains = [files[name] for name in _chains(route.service) if name in files]
        if chains:
            from proxyctl.adapters.nginx.generations.certificates import end_of

            found[route.service] = min(end_of(chain).timestamp() for chain in chains)
    return found


def _chains(service: ServiceName) -> tuple[str, str]:
    return tls_files(service)[0], upstream_tls_files(service).cert


def _wanted(topology: Topology) -> Iterator[Wanted]:
    for route in topology.routes:
        yield from _of(route)
        for status, path in topology.error_pages(route).items():
            yield Wanted(route.service, (error_page(route.service, status),), page, (path,))


def _of(route: Route) -> Iterator[Wanted]:
    if route.tls:
        yield Wanted(route.service, tls_files(route.service), _pair, (route.tls, route.names))
    if route.upstream_tls:
        yield from _upstream(route.service, route.upstream_tls, upstream_tls_files(route.service))
    if route.apart and route.apart.tls:
        yield from _upstream(route.service, route.apart.tls, upstream_tls_files_before(route.service))
    if route.basic_auth:
        yield Wanted(route.service, (password_file(route.service),), passwords, (route.basic_auth.file,))


def _upstream(service: ServiceName, tls: UpstreamTls, files: UpstreamFiles) -> Iterator[Wanted]:
    if tls.ca:
        yield Wanted(service, (files.ca,), _issuers, (tls.ca,))
    if tls.cert:
        yield Wanted(service, (files.cert, files.key), _client_pair, (tls,))


def _pair(tls: Tls, hosts: tuple[str, ...]) -> Texts:
    from proxyctl.adapters.nginx.generations.certificates import read

    return read(tls, hosts, datetime.now(UTC))


def _issuers(path: str) -> Texts:
    from proxyctl.adapters.nginx.generations.certificates import read_issuers

    return (read_issuers(path, datetime.now(UTC)),)


def _client_pair(tls: UpstreamTls) -> Texts:
    from proxyctl.adapters.nginx.generations.certificates import read_client

    return read_client(tls, datetime.now(UTC))
