"""The nouns: what a service, a release, a replica and a route are.

Pure and frozen: nothing here does I/O, reads a clock or validates a file. The file is validated in
`config/`; what reaches these classes is already lawful. Everything is JSON-able through `domain.codec`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NewType

from proxyctl.domain.container import Container as Container  # the nouns are found here, wherever they are written
from proxyctl.domain.container import DockerHealth as DockerHealth
from proxyctl.domain.criteria import Criteria
from proxyctl.domain.record import Record
from proxyctl.domain.rolling import Rolling
from proxyctl.domain.steps import Step
from proxyctl.domain.units import Pairs as Pairs
from proxyctl.domain.units import Seconds as Seconds

ServiceName = NewType("ServiceName", str)
ReleaseId = NewType("ReleaseId", str)  # "web-3": service, then a number that only rises
RolloutId = NewType("RolloutId", str)  # "web-r7"
LOOPBACK = "127.0.0.1"  # where a replica answers that has the host's network
Pages = tuple[tuple[int, str], ...]  # a status that nginx answers with, and the absolute path of its page


class Colour(StrEnum):
    """A slot. Says nothing about age; roles move, colours stay."""

    BLUE = "blue"
    GREEN = "green"

    @property
    def other(self) -> Colour:
        return Colour.GREEN if self is Colour.BLUE else Colour.BLUE


class Role(StrEnum):
    LIVE = "live"  # the release that the service stands for
    CANDIDATE = "candidate"  # the release that a rollout tries to make live
    STANDBY = "standby"  # the release that was live, still warm


class HealthKind(StrEnum):
    HTTP = "http"
    TCP = "tcp"
    EXEC = "exec"  # a command inside the container exits 0
    DOCKER = "docker"  # the image's own HEALTHCHECK says healthy
    NONE = "none"  # written by the user: no check wanted; running is enough


class Balance(StrEnum):
    """Which replica of a colour gets a request."""

    LEAST_CONN = "least_conn"
    ROUND_ROBIN = "round_robin"
    IP_HASH = "ip_hash"  # the same one for an address, as nginx has always done it


class HashKey(StrEnum):
    ADDRESS = "address"
    URI = "uri"
    COOKIE = "cookie"
    HEADER = "header"


class Hash(Record):
    """The same replica for the same key; where the replicas change, few keys move."""

    key: HashKey
    name: str = ""  # of the cookie or header


class Sticky(StrEnum):
    """What keeps a client on its side of a split."""

    NONE = "none"  # every request is dealt anew
    COOKIE = "cookie"
    IP = "ip"


class Strategy(StrEnum):
    BLUE_GREEN = "blue-green"  # all traffic at once
    CANARY = "canary"  # share by share
    ROLLING = "rolling"  # replica by replica
    RECREATE = "recreate"  # the old release leaves, then the new one comes


class HealthCheck(Record):
    """How one replica is asked whether it is healthy."""

    kind: HealthKind
    path: str = "/"
    method: str = "GET"
    statuses: tuple[tuple[int, int], ...] = ((200, 299),)  # inclusive ranges
    headers: Pairs = ()
    host: str = ""  # Host header; empty: the service's first host
    body: str = ""  # text the first 64 KiB of the answer must contain
    scheme: str = "http"  # http | https
    verify: bool = True  # with https: verify the certificate
    port: int | None = None  # None: the service's port
    command: tuple[str, ...] = ()
    interval: Seconds = 1.0
    timeout: Seconds = 2.0
    healthy: int = 3  # consecutive passes that make a replica healthy
    unhealthy: int = 3  # consecutive failures that make a watched replica sick
    deadline: Seconds = 60.0


class Timeouts(Record):
    connect: Seconds = 1.0
    read: Seconds = 60.0
    send: Seconds = 60.0


class Protocol(StrEnum):
    """What a service's replicas speak."""

    HTTP = "http"  # and WebSocket
    GRPC = "grpc"


class Tls(Record):
    """The certificate of a service's hosts, and what plain HTTP does beside it."""

    cert: str  # absolute path; PEM, the host's certificate first
    key: str  # absolute path; PEM
    redirect: bool = True  # plain HTTP is sent to HTTPS
    hsts: Seconds = 0.0  # for how long browsers shall not try plain HTTP; 0: unsaid


class UpstreamTls(Record):
    """How nginx, and a probe by HTTPS, speak TLS to a service's replicas. Paths are absolute, files PEM."""

    ca: str = ""  # whose certificates are believed
    cert: str = ""  # our own, which replicas may demand; its issuers after it
    key: str = ""
    verify: bool = True  # the replica's certificate, and that it is for server_name
    server_name: str = ""


class BasicAuth(Record):
    """Clients must name a user and a password."""

    file: str  # absolute path; lines of htpasswd
    realm: str = "Restricted"  # shown by browsers when they ask


class Redirect(Record):
    """Requests for one path, or for one whole host, that are answered with another address."""

    path: str = ""  # "/old", or "/old/*": itself and all below it
    host: str = ""
    to: str  # "/new" or "https://shop.example.com/new"; a * at its end is what follows the path, or the host
    status: int = 308


class Match(Record):
    """Requests that always go to the candidate, whatever its share. All that is said must hold."""

    headers: Pairs = ()  # a name that stands here twice may have either value
    cookies: Pairs = ()  # the same
    networks: tuple[str, ...] = ()  # one of which the client is in; empty: any
    host: str = ""  # that is asked for; it belongs to the service. Empty: any


class Mirror(Record):
    """Requests that the candidate gets too, and whose answers nobody waits for."""

    share: int  # hundredths of a percent
    methods: tuple[str, ...] = ("GET", "HEAD")


class Edge(Record):
    """How clients reach a service and nginx its replicas: what a service says and nginx must know."""

    hosts: tuple[str, ...] = ()  # empty: all hosts
    aliases: tuple[str, ...] = ()  # hosts whose requests are sent to the first of `hosts`
    redirects: tuple[Redirect, ...] = ()
    path: str = "/"
    strip_path: bool = False  # the replicas are asked without `path`
    protocol: Protocol = Protocol.HTTP
    tls: Tls | None = None
    upstream_tls: UpstreamTls | None = None
    basic_auth: BasicAuth | None = None
    response_headers: Pairs = ()  # added to every answer
    error_pages: Pages = ()
    balance: Balance | Hash = Balance.LEAST_CONN
    sticky: Sticky = Sticky.NONE
    matches: tuple[Match, ...] = ()  # one of them is enough
    mirror: Mirror | None = None
    timeouts: Timeouts = Timeouts()
    body_limit: int = 1 << 20  # bytes of a request body, 0: unlimited
    drain: Seconds = 30.0

    @property
    def previews(self) -> bool:
        """Some requests reach a candidate that has no share of traffic."""
        return bool(self.matches) or self.mirror is not None

    @property
    def preview_hosts(self) -> tuple[str, ...]:
        """Those that only a match names."""
        named = (match.host for match in self.matches if match.host and match.host not in self.hosts)
        return tuple(dict.fromkeys(named))


class Service(Edge):
    """What clients address, as the file defines it. Part of every release, so a release can be started again."""

    name: ServiceName
    container: Container
    health: HealthCheck
    port: int | None = None  # None: not routed
    replicas: int = 1
    strategy: Strategy = Strategy.BLUE_GREEN
    steps: tuple[Step, ...] = ()  # before all traffic is the candidate's
    rolling: Rolling | None = None  # how replicas change places; None: a release stands whole beside the live one
    analysis: Criteria | None = Criteria()  # None: candidates are not judged by the log
    bake: Seconds = 60.0
    standby: Seconds = 900.0
    readiness_delay: Seconds = 0.0  # health `none`: running this long is the gate

    @property
    def routed(self) -> bool:
        return self.port is not None

    @property
    def host_ports(self) -> tuple[int, ...]:
        """Those of the host that its replicas are asked at; none where they have addresses of their own."""
        asked = self.health.port if self.health.kind in (HealthKind.HTTP, HealthKind.TCP) else None
        ports = {port for port in (self.port, asked) if port is not None}
        return tuple(sorted(ports)) if self.container.on_the_host else ()


class Mode(StrEnum):
    """Whose nginx it is."""

    PROCESS = "process"  # a program of this host, started by us
    CONTAINER = "container"  # an image's, on the host's network, started by us
    INCLUDE = "include"  # the user's own, which includes what we write

    @property
    def ours(self) -> bool:
        """We start and stop it, and nobody else's site is in it."""
        return self is not Mode.INCLUDE


class Cutover(StrEnum):
    """How traffic moves."""

    LIVE = "live"  # nginx asks for flags at every request, and nothing is reloaded
    RELOAD = "reload"  # nginx is told shares with its configuration


class Logged(StrEnum):
    """Which requests nginx writes a line of."""

    ON = "on"
    ROLLOUTS = "rollouts"  # those of a service while a rollout of it runs
    OFF = "off"

    @classmethod
    def _missing_(cls, value: object) -> Logged | None:
        """As the first version wrote it."""
        return {True: cls.ON, False: cls.OFF}.get(value) if isinstance(value, bool) else None


class HeaderLimits(Record):
    """How much a request may say before its body, in bytes."""

    buffer: int = 1 << 10  # the room that every request has; what is longer gets lines
    line: int = 8 << 10  # the longest request line or header
    lines: int = 4  # so long, in one request


class ProxySettings(Record):
    """What all services of one nginx share."""

    mode: Mode = Mode.PROCESS
    cutover: Cutover = Cutover.LIVE
    http: tuple[str, ...] = ("80",)  # "80", "127.0.0.1:8080", "[::]:80"
    https: tuple[str, ...] = ("443",)  # listened on when a service has TLS
    trusted: tuple[str, ...] = ()  # networks whose word is believed on who the client is
    http3: bool = False  # where https is spoken, over QUIC too
    proxy_protocol: bool = False  # their word is the PROXY protocol's, on every connection; else X-Forwarded-For
    binary: str = "nginx"  # on this host, or in the image
    image: str = "nginx:stable"  # of mode `container`
    config: str | None = None  # of mode `include`: the user's main file; None: where the binary looks
    user: str | None = None  # worker user when started as root; None: nginx's own default
    workers: int | None = None  # None: auto
    header_limits: HeaderLimits | None = None  # None: nginx's own, which are the same
    client_header_timeout: Seconds = 10.0
    client_body_timeout: Seconds = 60.0
    keepalive_timeout: Seconds = 75.0  # client side
    upstream_keepalive_timeout: Seconds = 5.0
    worker_shutdown_timeout: Seconds = 60.0
    access_log: Logged = Logged.ON
    error_pages: Pages = ()  # of services that have none of their own
    log_size: int = 100 << 20  # bytes, at which a log begins anew
    templates: str | None = None  # absolute path of a folder whose templates shadow ours
    templates_digest: str = ""  # of what is in it: a changed template is a changed setting


class Apart(Record):
    """A colour that goes on being asked in its own way, with TLS or without, while the other's is a new one."""

    colour: Colour
    tls: UpstreamTls | None
    protocol: Protocol | None = None  # None: the other's


class Route(Edge):
    """What nginx must know of one service: its edge and the fixed addresses of both colours."""

    service: ServiceName
    blue: tuple[str, ...]  # "172.18.0.2:8000", one per slot, never empty
    green: tuple[str, ...]
    apart: Apart | None = None

    def tls_of(self, colour: Colour) -> UpstreamTls | None:
        return self.apart.tls if self.apart and self.apart.colour is colour else self.upstream_tls

    def protocol_of(self, colour: Colour) -> Protocol:
        own = self.apart.protocol if self.apart and self.apart.colour is colour else None
        return own or self.protocol

    @property
    def protocols(self) -> frozenset[Protocol]:
        return frozenset(map(self.protocol_of, Colour))

    @property
    def backed(self) -> bool:
        """Whether nginx can have the other colour as backup: not with a hash, nor where the two speak differently."""
        hashed = isinstance(self.balance, Hash) or self.balance is Balance.IP_HASH
        return not hashed and self.apart is None

    @property
    def names(self) -> tuple[str, ...]:
        """Every host that clients may ask for, also those that only send them elsewhere."""
        elsewhere = (redirect.host for redirect in self.redirects if redirect.host)
        return (*self.hosts, *self.preview_hosts, *self.aliases, *elsewhere)

    @property
    def claims(self) -> frozenset[tuple[str, str]]:
        """The hosts and paths that nobody else can have; no host is every host."""
        return frozenset((host, self.path.rstrip("/")) for host in self.hosts or ("",))

    def slots(self, colour: Colour) -> tuple[str, ...]:
        return self.blue if colour is Colour.BLUE else self.green


class Topology(Record):
    """What nginx knows of all services. Holds no split: who gets traffic is not of its making."""

    project: str
    settings: ProxySettings
    routes: tuple[Route, ...]  # sorted by service name

    def rival_of(self, route: Route) -> ServiceName | None:
        """Who has a host and path that it wants."""
        others = (other for other in self.routes if other.service != route.service)
        return next((other.service for other in others if other.claims & route.claims), None)

    def error_pages(self, route: Route) -> Mapping[int, str]:
        """The service's own, else the project's."""
        if route.protocol is Protocol.GRPC:
            return {}
        return {**dict(self.settings.error_pages), **dict(route.error_pages)}

    @property
    def listens(self) -> tuple[str, ...]:
        """Every address that nginx listens on for clients."""
        return (*self.settings.http, *self._https)

    @property
    def claims(self) -> tuple[str, ...]:
        """What nginx needs of this machine: where it listens, and for HTTP/3 the same of UDP, as "443/udp"."""
        return (*self.listens, *(f"{listen}/udp" for listen in self._https if self.settings.http3))

    @property
    def _https(self) -> tuple[str, ...]:
        return self.settings.https if any(route.tls for route in self.routes) else ()


class Incarnation(Record):
    """One life of one container. A restart makes another, which has passed no gate."""

    container: str  # full id
    started_at: str  # the engine's own text, compared for equality only


class Replica(Record):
    """One container of a release: name and address are chosen before it exists."""

    name: str  # "shop-web-3-1"
    address: str  # "172.18.0.2:8000"; "172.18.0.2" without a port where the service is not routed; or at LOOPBACK
    incarnation: Incarnation | None = None  # as last observed

    @property
    def ip(self) -> str:
        return self.address.partition(":")[0]


class Release(Record):
    """Immutable: image digest, container definition, config digest. It can be started again from this alone."""

    id: ReleaseId
    service: Service
    image: str  # as the user named it
    digest: str  # "sha256:...", what is started
    config_digest: str  # of the definition, the contents of env_files included
    created: float  # unix time, displayed only
