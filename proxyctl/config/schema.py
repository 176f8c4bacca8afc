"""What `proxyctl.yml` may hold, key by key. Mirrors the file; what the keys mean together is for rules.py.

Defaults stand here as a user would write them; a test holds them to those of the domain. Start at ProjectFile;
json_schema() is the same for editors.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, Tag

from proxyctl.config import fields, grammar
from proxyctl.config.container import ContainerFile
from proxyctl.config.fields import ALONE, MAPPED, Read, Strict, counted, forms, lasting, one_of, sized, written
from proxyctl.config.rolling import MOST_REPLICAS
from proxyctl.config.strategy import AnyStrategy
from proxyctl.config.windows import window
from proxyctl.domain.windows import Window

LATER = ("accessories", "jobs", "needs")  # keys of a later version, refused in words
ALLOWED = ("shared-volumes", "database", "host-network", "swarm")
MOST_SERVICES = 5000
MOST_HOSTS = 64
MOST_REDIRECTS = 256
REDIRECTS = (301, 302, 307, 308)

_Timeout = Annotated[float, lasting("1ms", "1h")]


def _no_check(value: Any) -> str:
    if value != "none":
        raise ValueError("give a path such as health: {path: /healthz}, or the word none for no check")
    return "none"


def _is_true(value: Any) -> bool:
    if value is not True:
        raise ValueError("write true, or leave the key out")
    return value


def _tcp(value: Any) -> int | bool:
    return value if value is True else grammar.port(value)


def _redirect_status(value: Any) -> int:
    if isinstance(value, bool) or value not in REDIRECTS:
        raise ValueError("write 301, 302, 307 or 308")
    return int(value)


def _workers(value: Any) -> int | None:
    return None if value == "auto" else grammar.whole(1, 512)(value)


def _program(value: Any) -> str:
    text = grammar.file(value)
    if text.startswith("-"):
        raise ValueError("not a program; write nginx, or a path such as /usr/sbin/nginx")
    return text


class HealthFile(Strict):
    """How a replica is asked whether it is healthy. One of path, tcp, exec and docker says how."""

    path: fields.ProbePath | None = written(None, "Ask for this by HTTP.")
    tcp: Annotated[int | bool, Read(_tcp, {"type": ["boolean", "integer"]})] | None = written(
        None, "A connection is enough: true for the service's port, or another port."
    )
    exec: fields.Command | None = written(None, "A command inside the container that exits 0.")
    docker: Annotated[bool, Read(_is_true, {"const": True})] | None = written(
        None, "The HEALTHCHECK of the image or of container.healthcheck."
    )

    port: fields.Port | None = written(None, "Another port than the service's.")
    scheme: Annotated[str, one_of("http", "https")] | None = written(
        None, "http or https; else https where upstream_tls says that the port speaks it."
    )
    verify: fields.Truth = written(True, description="With https: verify the certificate.")
    method: fields.Method = "GET"
    status: fields.Statuses = written("200-299", "What a healthy replica answers: 204, 200-299 or a list.")
    headers: Annotated[dict[fields.HeaderName, fields.HeaderValue], Field(max_length=64)] = written({})
    host: fields.PlainHost | None = written(None, "The Host header; else the service's first host.")
    body: Annotated[fields.Line, Field(max_length=1024)] = written("", "Text that the answer must contain.")

    interval: Annotated[float, lasting("50ms", "1h")] = written("1s", "From one probe to the next.")
    timeout: Annotated[float, lasting("50ms", "1h")] = written("2s", "For one probe, in all.")
    healthy: Annotated[int, counted(1, 100)] = written(3, description="Passes in a row that make a replica healthy.")
    unhealthy: Annotated[int, counted(1, 100)] = written(3, description="Failures in a row that make it sick.")
    deadline: Annotated[float, lasting("100ms", "1h")] = written("60s", "For a candidate's whole gate.")


class TimeoutsFile(Strict):
    """Between nginx and a replica."""

    connect: _Timeout = written("1s")
    read: _Timeout = written("60s", "Between two reads of an answer.")
    send: _Timeout = written("60s", "Between two writes of a request.")


class TlsFile(Strict):
    """HTTPS for the service's hosts. The files are checked, then copied: nginx never sees half a renewal."""

    cert: fields.FileReference | None = written(None, "file:PATH of the certificate in PEM, followed by its issuers.")
    key: fields.FileReference | None = written(None, "file:PATH of its private key in PEM, without a passphrase.")
    redirect: fields.Truth = written(True, description="Plain HTTP is sent to HTTPS.")
    hsts: Annotated[float, lasting("0s", "20000h")] = written(
        "0s", "For how long browsers shall not try plain HTTP; 0s leaves it unsaid."
    )


class UpstreamTlsFile(Strict):
    """TLS from nginx to the replicas. The files are checked, then copied."""

    ca: fields.FileReference | None = written(None, "file:PATH in PEM: whose certificates are believed.")
    cert: fields.FileReference | None = written(None, "file:PATH of our own certificate, where replicas demand one.")
    key: fields.FileReference | None = written(None, "file:PATH of its private key, without a passphrase.")
    verify: fields.Truth = written(True, description="Verify the replicas' certificates and their name.")
    server_name: fields.PlainHost | None = written(None, "Whom they are to be for; else the service's first host.")


class HashFile(Strict):
    """The same replica for the same key."""

    hash: fields.HashKey = written("address", "address, uri, cookie:NAME or header:NAME.")


class BasicAuthFile(Strict):
    """Clients must name a user and a password."""

    file: fields.FileReference | None = written(None, "file:PATH of lines as htpasswd writes them.")
    realm: fields.Realm = written("Restricted", "What browsers show when they ask.")


def _password_file(value: Any) -> BasicAuthFile:
    grammar.file_reference(value)
    return BasicAuthFile(file=value)


class RedirectFile(Strict):
    """Requests that are answered with another address."""

    path: fields.RedirectedPath | None = written(None, "This path; /old/* is /old and all below it.")
    host: fields.Host | None = written(None, "All of this host, which serves nothing else.")
    to: fields.Target | None = written(None, "A path, or the address of another host; a * last stands for the rest.")
    status: Annotated[int, Read(_redirect_status, {"enum": list(REDIRECTS)})] = written(
        308, description="301 and 302 let a client turn POST into GET; 301 and 308 are remembered."
    )


class ServiceFile(Strict):
    """What clients address, and the containers behind it."""

    container: ContainerFile = written(
        ContainerFile(), "As in a Compose file, laid over the service of that name in `compose`."
    )
    allow: Annotated[tuple[Annotated[str, one_of(*ALLOWED)], ...], Field(max_length=len(ALLOWED))] = written(
        (), "What is else refused: two releases would share it, or everything on this host."
    )
    port: fields.Port | None = written(None, "Where a replica listens. Without it the service is not routed.")
    replicas: Annotated[int, counted(1, MOST_REPLICAS)] = 1
    hosts: Annotated[tuple[fields.Host, ...], Field(min_length=1, max_length=MOST_HOSTS)] | None = written(
        None, "Left out: the service catches all hosts."
    )
    aliases: Annotated[tuple[fields.PlainHost, ...], Field(min_length=1, max_length=MOST_HOSTS)] | None = written(
        None, "Hosts that are sent to the first of hosts, such as www.shop.example.com."
    )
    redirects: Annotated[tuple[RedirectFile, ...], Field(min_length=1, max_length=MOST_REDIRECTS)] | None = written(
        None, "Paths and hosts that are sent elsewhere."
    )
    path: fields.UrlPath = written("/", "This path and all below it.")
    strip_path: fields.Truth = written(False, description="Replicas are asked without the path.")
    protocol: Annotated[str, one_of("http", "grpc")] = written("http", "What the replicas speak; grpc needs tls.")
    tls: TlsFile | None = written(None, "HTTPS for the hosts of this service.")
    upstream_tls: UpstreamTlsFile | None = written(None, "Replicas speak TLS: https, or grpcs.")
    basic_auth: (
        Annotated[
            Annotated[BasicAuthFile, Tag(MAPPED)]
            | Annotated[BasicAuthFile, Read(_password_file, {"type": "string", "pattern": "^file:.+"}), Tag(ALONE)],
            forms("file:PATH of an htpasswd file, or a mapping such as {file: file:htpasswd, realm: Staging}"),
        ]
        | None
    ) = written(None, "Clients must name a user and a password of this file.")
    response_headers: Annotated[dict[fields.ResponseHeaderName, fields.ResponseHeaderValue], Field(max_length=64)] = (
        written({}, "Added to every answer.")
    )
    health: (
        Annotated[
            Annotated[HealthFile, Tag(MAPPED)] | Annotated[str, Read(_no_check, {"const": "none"}), Tag(ALONE)],
            forms("a mapping such as {path: /healthz}, or the word none"),
        ]
        | None
    ) = None
    strategy: AnyStrategy = written("blue-green", "How a release comes to its traffic.")
    bake: Annotated[float, lasting("0s", "24h")] = written("60s", "Watched after the cutover; without port it is 0s.")
    standby: Annotated[float, lasting("0s", "168h")] = written("15m", "How long the old release stays warm.")
    drain: Annotated[float, lasting("0s", "1h")] = written("30s", "For open requests of a stopping replica.")
    readiness_delay: Annotated[float, lasting("0s", "1h")] = written(
        "0s", "Without a health check: running this long is the gate."
    )
    error_pages: fields.ErrorPages = written({}, "Pages instead of nginx's own words, by status: 413, 502, 503, 504.")
    balance: Annotated[
        Annotated[HashFile, Tag(MAPPED)] | Annotated[str, one_of("least_conn", "round_robin", "ip_hash"), Tag(ALONE)],
        forms("least_conn, round_robin, ip_hash, or a mapping such as {hash: cookie:cart}"),
    ] = written("least_conn", "Which replica gets a request.")
    sticky: Annotated[str, one_of("none", "cookie", "ip")] = written(
        "none", "What keeps a client on its side of a split."
    )
    timeouts: TimeoutsFile = TimeoutsFile()
    body_limit: fields.Size = written("1m", "Of a request; 0 is unlimited.")

    @property
    def bakes_for(self) -> float:
        """While a worker bakes, the release before it goes on working: only where that was asked for."""
        asked = self.port is not None or "bake" in self.model_fields_set
        return self.bake if asked else 0.0


class ProxyTimeoutsFile(Strict):
    """Between clients and nginx, and of nginx itself."""

    client_header: _Timeout = written("10s")
    client_body: _Timeout = written("60s")
    client_keepalive: _Timeout = written("75s")
    upstream_keepalive: _Timeout = written("5s")
    worker_shutdown: Annotated[float, lasting("1s", "24h")] | None = written(
        None, "For old workers after a reload; else 60s, or the longest drain."
    )


class HeaderLimitsFile(Strict):
    """How much a request may say before its body. What is longer is answered 400, or 414 where it is the address."""

    buffer: Annotated[int, sized("1k", "1m")] = written("1k", "Room that every request has; longer ones get lines.")
    line: Annotated[int, sized("1k", "1m")] = written("8k", "The longest request line, or header such as Cookie.")
    lines: Annotated[int, counted(1, 64)] = written(4, description="So long, in one request.")


class ProxyFile(Strict):
    """The one nginx in front of all services."""

    mode: Annotated[str, one_of("process", "container", "include")] = written(
        "process", "Whose nginx it is: a program of this host, an image's on the host's network, or your own."
    )
    http: fields.Listens = written(80, "A port, or a list of ports and addresses.")
    https: fields.Listens = written(443, "The same for services with tls.")
    http3: fields.Truth = written(
        False, description="HTTP/3 beside HTTP/2 for services with tls, where nginx was built with it."
    )
    trusted: Annotated[tuple[fields.Network, ...], Field(max_length=256)] = written(
        (), "Who is believed on who the client is, by X-Forwarded-For or the PROXY protocol."
    )
    proxy_protocol: fields.Truth = written(
        False, description="Every connection begins with the PROXY protocol, as a balancer of connections speaks it."
    )
    cutover: Annotated[str, one_of("live", "reload")] = written(
        "live", "How traffic moves: from the very next request, or by a reload of nginx."
    )
    image: fields.Image = written("nginx:stable", "With mode: container.")
    config: fields.File | None = written(None, "With mode: include: your nginx.conf; else where nginx looks for it.")
    binary: Annotated[str, Read(_program, {"type": "string"})] = "nginx"
    user: Annotated[str, Read(grammar.user, {"type": "string"})] | None = written(
        None, "Of the workers, when nginx is started as root."
    )
    workers: Annotated[int | None, Read(_workers, {"type": ["integer", "string"], "examples": ["auto", 4]})] = written(
        "auto"
    )
    timeouts: ProxyTimeoutsFile = ProxyTimeoutsFile()
    header_limits: HeaderLimitsFile | None = written(None, "Left out: nginx's own, which are the defaults below.")
    log: Annotated[str, one_of("on", "rollouts", "off")] = written(
        "on", "A line for each request: of all, of services while a rollout of theirs runs, or of none."
    )
    error_pages: fields.ErrorPages = written({}, "Those of services that have none of their own.")
    templates: fields.File | None = written(None, "A folder whose templates shadow proxyctl's own by name.")
    log_size: fields.Size = written("100m", "A log of nginx begins anew when it is larger; five old ones are kept.")


_Window = Annotated[Window, Read(window, {"type": "string", "examples": ["Mon-Fri 09:00-16:30"]})]


class ProjectFile(Strict):
    """One `proxyctl.yml`."""

    project: fields.Name | None = written(None, "Names containers, networks and the state folder.")
    compose: fields.File | None = written(None, "A Compose file whose services are inherited by name.")
    proxy: ProxyFile = ProxyFile()
    windows: Annotated[tuple[_Window, ...], Field(min_length=1, max_length=64)] | None = written(
        None, "When releases may be started, in the host's time; else always."
    )
    services: Annotated[dict[fields.Name, ServiceFile], Field(max_length=MOST_SERVICES)] = written({})


def json_schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12, for editors. Looser than the file's own checks, never stricter."""
    keys: dict[str, Any] = _without_null(ProjectFile.model_json_schema())
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect} | keys | {"title": "proxyctl.yml", "required": ["project", "services"]}


def _without_null(schema: Any) -> Any:
    """Keys that may be left out are not keys that may be null."""
    if isinstance(schema, list):
        return [_without_null(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _without_null(item) for key, item in schema.items() if (key, item) != ("default", None)}
    options = kept.get("anyOf", [])
    if {"type": "null"} in options:
        options = [option for option in options if option != {"type": "null"}]
        alone = options[0] if len(options) == 1 else {"anyOf": options}
        return {key: item for key, item in kept.items() if key != "anyOf"} | alone
    return kept
