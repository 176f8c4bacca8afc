"""What is taken, but perhaps not meant: one warning for each. Refuses nothing. Start at doubts()."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from proxyctl.config.compose_keys import is_label_of_another_proxy
from proxyctl.config.definition import Definition
from proxyctl.config.document import Document, Location, dotted, place_of, written_at
from proxyctl.config.problems import Problem, shown
from proxyctl.config.schema import HashFile, ProjectFile, ServiceFile

_SECRET = re.compile(r"(?:^|_)(?:PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|PRIVATE_KEY|SECRET_KEY)$", re.ASCII)
_VARIABLE = re.compile(r"\$\{[A-Za-z_]", re.ASCII)
_UNCOVERED = {
    "http": "of requests that reach no replica of a colour, the other answers GET, HEAD and OPTIONS only; least_conn "
    "covers all",
    "grpc": "no colour stands in for calls that reach no replica of the other; least_conn covers them",
}
_LOST_OVER_HTTP3 = {
    "live": "a reload and an upgrade lose requests of HTTP/3, a limit of nginx; moves of traffic lose none",
    "reload": "every move reloads nginx, and a reload loses requests of HTTP/3, a limit of nginx; write cutover: live",
}


def doubts(file: ProjectFile, definitions: Mapping[str, Definition], document: Document) -> Iterator[Problem]:
    """In the order of the file's keys, each with its place."""
    for location, words in _of_project(file, definitions, document):
        yield Problem(document.path, place_of(document.root, location), dotted(location), words)


def _of_project(
    file: ProjectFile, definitions: Mapping[str, Definition], document: Document
) -> Iterator[tuple[Location, str]]:
    if file.proxy.cutover == "reload":
        yield (
            ("proxy", "cutover"),
            "every move reloads nginx, no client stays on its side of a split, and retries mix colours",
        )
    if file.proxy.http3:
        yield ("proxy", "http3"), _LOST_OVER_HTTP3[file.proxy.cutover]
    for at, network in enumerate(file.proxy.trusted):
        if network.endswith("/0"):
            yield ("proxy", "trusted", at), f"{network} lets every client claim any address"
    for name, service in file.services.items():
        if service.balance == "ip_hash" or isinstance(service.balance, HashFile):
            yield ("services", name, "balance"), _UNCOVERED[service.protocol]
        if service.basic_auth and not service.tls and not file.proxy.trusted:
            yield ("services", name, "basic_auth"), "passwords travel readable without HTTPS; write tls"
        yield from _of_hosts(service, ("services", name, "hosts"), document)
        yield from _of_environment(service.container.environment, ("services", name, "container", "environment"))
        yield from _of_container(definitions[name], ("services", name, "container"))


def _of_hosts(service: ServiceFile, location: Location, document: Document) -> Iterator[tuple[Location, str]]:
    for at, host in enumerate(service.hosts or ()):
        written = written_at(document.root, (*location, at))
        if isinstance(written, str) and not written.isascii():
            yield (*location, at), f"{shown(written)} is {host} to nginx and to clients"


def _of_container(definition: Definition, location: Location) -> Iterator[tuple[Location, str]]:
    if definition.given.get("privileged"):
        yield (*location, "privileged"), "a privileged container is as good as root on the host"
    if definition.given.get("restart") == "unless-stopped":
        yield (*location, "restart"), "Docker leaves it stopped once dockerd itself was killed; always brings it back"
    for label, _ in definition.given.get("labels", ()):
        if is_label_of_another_proxy(label):
            yield (*location, "labels"), f"{shown(label)} has another proxy route candidates, past the gate"


def _of_environment(environment: Any, location: Location) -> Iterator[tuple[Location, str]]:
    pairs = environment.items() if isinstance(environment, dict) else environment
    for at, (name, value) in enumerate(pairs):
        here = (*location, name if isinstance(environment, dict) else at)
        if value and _SECRET.search(name.upper()) and not value.startswith(("env:", "file:")):
            yield here, f"{name} looks like a secret; write env:NAME or file:PATH, which is read at the start"
        if value and _VARIABLE.search(value):
            yield here, "${...} is not replaced in this file; write env:NAME for a variable of the environment"
