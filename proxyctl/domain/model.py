"""The nouns: what a service, a release, a replica and a route are.

Pure and frozen: nothing here does I/O, reads a clock or validates a file. The file is validated in
`config/`; what reaches these classes is already lawful. Everything is JSON-able through `domain.codec`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NewType

from proxyctl.domain.record import Record

ServiceName = NewType("ServiceName", str)
ReleaseId = NewType("ReleaseId", str)  # "web-3": service, then a number that only rises
RolloutId = NewType("RolloutId", str)  # "web-r7"
Seconds = float
Pairs = tuple[tuple[str, str], ...]  # an ordered, hashable mapping


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
    LEAST_CONN = "least_conn"
    ROUND_ROBIN = "round_robin"


class Sticky(StrEnum):
    """What keeps a client on its side of a split."""

    NONE = "none"  # every request is dealt anew
    COOKIE = "cookie"
    IP = "ip"


class Strategy(StrEnum):
    BLUE_GREEN = "blue-green"


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


class DockerHealth(Record):
    """The `healthcheck` of a Compose service, given to the engine as it stands."""

    test: tuple[str, ...] = ()  # ("CMD", ...), ("CMD-SHELL", text) or ("NONE",)
    interval: Seconds | None = None
    timeout: Seconds | None = None
    start_period: Seconds | None = None
    retries: int | None = None


class Container(Record):
    """A container definition. Values may be secret references (`env:NAME`, `file:PATH`), never secrets."""

    image: str
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: Pairs = ()
    env_file: tuple[str, ...] = ()  # absolute paths, read when a container is created
    volumes: tuple[str, ...] = ()  # "source:target[:ro]", source absolute or a volume's name
    networks: tuple[str, ...] = ()  # names of existing Docker networks, joined in this order
    labels: Pairs = ()
    healthcheck: DockerHealth | None = None
    user: str | None = None
    working_dir: str | None = None
    stop_signal: str | None = None
    stop_grace_period: Seconds = 10.0
    init: bool | None = None
    restart: str = "unless-stopped"  # given at promotion; a candidate runs with "no"


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


class Edge(Record):
    """How clients reach a service and nginx its replicas: what a service says and nginx must know."""

    hosts: tuple[str, ...] = ()  # empty: all hosts
    aliases: tuple[str, ...] = ()  # hosts whose requests are sent to the first of `hosts`
    path: str = "/"
    strip_path: bool = False  # the replicas are asked without `path`
    protocol: Protocol = Protocol.HTTP
    tls: Tls | None = None
    response_headers: Pairs = ()  # added to every answer
    balance: Balance = Balance.LEAST_CONN
    sticky: Sticky = Sticky.NONE
    timeouts: Timeouts = Timeouts()
    body_limit: int = 1 << 20  # bytes of a request body, 0: unlimited
    drain: Seconds = 30.0


class Service(Edge):
    """What clients address, as the file defines it. Part of every release, so a release can be started again."""

    name: ServiceName
    container: Container
    health: HealthCheck
    port: int | None = None  # None: not routed
    replicas: int = 1
    strategy: Strategy = Strategy.BLUE_GREEN
    bake: Seconds = 60.0
    standby: Seconds = 900.0
    readiness_delay: Seconds = 0.0  # health `none`: running this long is the gate

    @property
    def routed(self) -> bool:
        return self.port is not None


class ProxySettings(Record):
    """What all services of one nginx share."""

    http: tuple[str, ...] = ("80",)  # "80", "127.0.0.1:8080", "[::]:80"
    https: tuple[str, ...] = ("443",)  # listened on when a service has TLS
    trusted: tuple[str, ...] = ()  # networks whose X-Forwarded-For is believed
    binary: str = "nginx"
    user: str | None = None  # worker user when started as root; None: nginx's own default
    workers: int | None = None  # None: auto
    client_header_timeout: Seconds = 10.0
    client_body_timeout: Seconds = 60.0
    keepalive_timeout: Seconds = 75.0  # client side
    upstream_keepalive_timeout: Seconds = 5.0
    worker_shutdown_timeout: Seconds = 60.0
    access_log: bool = True
    log_size: int = 100 << 20  # bytes, at which a log begins anew
    templates: str | None = None  # absolute path of a folder whose templates shadow ours
    templates_digest: str = ""  # of what is in it: a changed template is a changed setting


class Route(Edge):
    """What nginx must know of one service: its edge and the fixed addresses of both colours."""

    service: ServiceName
    blue: tuple[str, ...]  # "172.18.0.2:8000", one per slot, never empty
    green: tuple[str, ...]

    def slots(self, colour: Colour) -> tuple[str, ...]:
        return self.blue if colour is Colour.BLUE else self.green


class Topology(Record):
    """All that a generation of nginx configuration is rendered from. Holds no split: that moves without one."""

    project: str
    settings: ProxySettings
    routes: tuple[Route, ...]  # sorted by service name


class Incarnation(Record):
    """One life of one container. A restart makes another, which has passed no gate."""

    container: str  # full id
    started_at: str  # the engine's own text, compared for equality only


class Replica(Record):
    """One container of a release: name and address are chosen before it exists."""

    name: str  # "shop-web-3-1"
    address: str  # "172.18.0.2:8000"; "172.18.0.2" without a port where the service is not routed
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
