"""Turn a topology into the text of an nginx configuration. Pure: same topology, same bytes. Start at render().

Decisions are made here; the templates loop and print. Nothing but Trusted text, which only this file and the templates
write, reaches the configuration unless it is plain: letters, digits and a few signs that mean nothing to nginx.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from jinja2 import BaseLoader, Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup as Trusted

from proxyctl.adapters.nginx import flags
from proxyctl.adapters.nginx.binary import Directive
from proxyctl.adapters.nginx.control import Address
from proxyctl.adapters.nginx.dealing import DEALT, Member, dealt
from proxyctl.adapters.nginx.flags import COVERED, NOBODY, PLAIN
from proxyctl.adapters.nginx.listens import parse
from proxyctl.adapters.nginx.matches import Condition, conditions, matched, mirrored, sampled
from proxyctl.adapters.nginx.names import (
    MATCH,
    MIRROR,
    SPLIT,
    cookie_name,
    error_page,
    files_from,
    log_format,
    mirror_format,
    password_file,
    pools_prefix,
    seen_from,
    upstream_name,
    variables_prefix,
)
from proxyctl.adapters.nginx.pools import (
    Apart,
    Copy,
    Page,
    PlainPool,
    StandIn,
    answer,
    answers,
    apart,
    copies,
    cover,
    plain_pools,
    stand_ins,
    upstream_tls,
)
from proxyctl.adapters.nginx.servers import redirects, refusing_listens, servers
from proxyctl.adapters.nginx.shares import NOBODY_SERVES, Shares
from proxyctl.adapters.nginx.tokens import plain, quoted, variable
from proxyctl.adapters.nginx.tracing import Print
from proxyctl.adapters.places import SPLIT_IN_FORCE, Places
from proxyctl.domain.model import (
    Balance,
    Colour,
    Cutover,
    Hash,
    HashKey,
    Logged,
    Protocol,
    ProxySettings,
    Route,
    Seconds,
    Sticky,
    Topology,
)
from proxyctl.ports import Flags

ALT_SVC_AGE = 86400  # seconds for which a browser may remember that HTTP/3 is spoken
EVERY_REQUEST = Trusted("$connection/$connection_requests/$msec")  # unique; $request_id costs five times as much
SALTS = 4  # a fixed number: each one costs variables that nginx makes room for in every request
NAME_OVERHEAD = 18  # bytes that a name takes in nginx's hash beside its own
LEAST_BUCKET = 128
LEAST_TABLE = 1024


def render(
    topology: Topology,
    number: int,
    places: Places,
    known: frozenset[Directive],
    control: Address,
    shares: Shares = NOBODY_SERVES,
    templates: Environment | None = None,
) -> str:
    """For an nginx that knows these directives. `shares`: of cutover reload. `templates`: others than ours. Raises
    Unprintable (tokens.py)."""
    settings = topology.settings
    services = {
        route.service: _service(_asked(route, settings), shares.get(route.service), topology, places)
        for route in topology.routes
    }
    px = variables_prefix(topology)
    http2 = "" if Directive.HTTP2 in known else " http2"
    values = {
        "number": number,
        "project": topology.project,
        "places": _paths(places),
        "px": px,
        "included": not settings.mode.ours,
        "deals": settings.cutover is Cutover.RELOAD,
        "beside": _found(files_from(settings, places)),
        "user": settings.user,
        "workers": settings.workers or "auto",
        "header_limits": settings.header_limits,
        "times": _proxy_times(topology),
        "hashes": _hashes({host for route in topology.routes for host in route.names}),
        "trusted": settings.trusted,
        "proxy_protocol": settings.proxy_protocol,
        "forwarded": _forwarded(settings, px),
        "cookie": cookie_name(topology.project) if _uses(topology, Sticky.COOKIE) else None,
        "access_log": settings.access_log is not Logged.OFF,
        "logged_if": Trusted(f" if=${px}_logged" if settings.access_log is Logged.ROLLOUTS else ""),
        "request_id": Trusted(f"${px}_request_id" if settings.access_log is Logged.ROLLOUTS else "$request_id"),
        "waits": Directive.KEEPALIVE_MIN_TIMEOUT in known,
        "closing": f"{seen_from(settings, places)}{flags.CLOSING}",
        "last_round": "." * (flags.ROUNDS - 1),
        "log_formats": [LogFormat(px), *(each for view in services.values() for each in view.log_formats)],
        "by_split": SPLIT,
        "by_match": MATCH,
        "stood_in": any(view.stand_ins for view in services.values()),
        "buckets": _buckets(topology, px),
        "percents": _percents(),
        "control": _control(topology, places, control),
        "services": list(services.values()),
        "encrypted": any(route.tls for route in topology.routes),
        "grpc": any(route.protocol is Protocol.GRPC for route in topology.routes),
        "http2": Directive.HTTP2 in known,
        "http3": settings.http3,
        "refusing": refusing_listens(topology, http2),
        "servers": servers(topology, services, http2),
        "redirects": redirects(topology, http2),
    }
    template = "nginx.conf.j2" if settings.mode.ours else "include.conf.j2"
    return (templates or built_in()).get_template(template).render(values)


def renumber(text: str, old: int, new: int) -> str:
    """The same configuration under another number, whichever version of the templates wrote it."""
    return text.replace(f'return 200 "{old} $pid', f'return 200 "{new} $pid').replace(
        f"# Generation {old} ", f"# Generation {new} ", 1
    )


# --- what the templates see --------------------------------------------------------------------------------------


class Paths(NamedTuple):
    """As text: a Path could be told to read or to remove what it names."""

    splits: str
    temp: str
    access_log: str
    error_log: str
    pid_file: str
    current: str


class Question(NamedTuple):
    """Is this flag there? Then this pool answers."""

    flag: Trusted
    pool: str


class Times(NamedTuple):
    connect: str
    read: str
    send: str


class Upstream(NamedTuple):
    name: str
    servers: tuple[Trusted, ...]  # with their weights
    backups: tuple[str, ...]
    balance: Trusted


class Header(NamedTuple):
    name: str
    value: Trusted


class Auth(NamedTuple):
    realm: Trusted
    file: str


class ServiceView(NamedTuple):
    name: str
    answers: Mapping[str, Trusted]  # how a request goes on to each pool
    dealt: Trusted  # how it goes on where nginx was told the split
    split: str
    stand_ins: list[StandIn]
    apart: Apart | None
    grpc: bool
    upstream_tls: list[Trusted]
    auth: Auth | None
    pages: list[Page]
    nothing_serves: str  # who answers then
    headers: list[Header]
    folder: str  # from the workers' working directory
    at_rest: list[Question]
    in_split: list[Question]
    times: Times
    body_limit: int
    sets_cookie: bool
    log_format: str
    log_formats: list[LogFormat]
    logged: str
    conditions: list[Condition]
    matched: Trusted | None
    mirror: MirrorView | None
    previewed: list[Question]
    upstreams: list[Upstream]
    colours: list[PlainPool]


class Bucket(NamedTuple):
    name: str
    salt: int
    key: Trusted


class MirrorView(NamedTuple):
    mirrored: Trusted
    sampled: Trusted
    key: Trusted
    percent: str
    methods: tuple[str, ...]
    log_format: str
    copies: list[Copy]
    statuses: Mapping[str, int]  # for each pool of a preview, the one that sends a request to be copied
    keeps_uri: bool  # for its copies: they have another


class LogFormat(NamedTuple):
    name: str
    service: str = "-"
    reason: str | Trusted = SPLIT  # why a request went where it went


class ControlView(NamedTuple):
    listen: str
    prefix: Trusted
    folder: Trusted
    questions: list[Question]
    previewed: list[Question]  # none where no service has a rule
    nobody: str


class Forwarded(NamedTuple):
    """What the application is told of the client."""

    address: Trusted
    proto: Trusted
    host: Trusted


class ProxyTimes(NamedTuple):
    client_header: str
    client_body: str
    keepalive: str
    upstream_keepalive: str
    worker_shutdown: str


class Hashes(NamedTuple):
    names_max: int
    names_bucket: int


# --- services ----------------------------------------------------------------------------------------------------


def _asked(route: Route, settings: ProxySettings) -> Route:
    """Rules are asked for at every request, like the flags."""
    return route if settings.cutover is Cutover.LIVE else route.replace(matches=(), mirror=None)


def _service(route: Route, told: Flags | None, topology: Topology, places: Places) -> ServiceView:
    px = variables_prefix(topology)
    bucket = _bucket(route, px)
    pools = pools_prefix(topology.project, route.service)
    beside = _found(files_from(topology.settings, places))
    pages = {page.status: page for page in _pages(route, topology)}
    return ServiceView(
        name=route.service,
        answers=answers(route, pools, pages.values()),
        dealt=_way(route, told, pools, pages.values()),
        split=flags.folder_name(told),
        stand_ins=stand_ins(route, pools),
        apart=apart(route, pools, beside),
        grpc=route.protocol is Protocol.GRPC,
        upstream_tls=upstream_tls(route, beside),
        auth=_auth(route),
        pages=list(pages.values()),
        nothing_serves=pages[503].uri if 503 in pages else "@px_nothing_serves",
        headers=list(_headers(route, topology.settings)),
        folder=f"{seen_from(topology.settings, places)}{route.service}/{SPLIT_IN_FORCE}",
        at_rest=_questions(flags.AT_REST),
        in_split=_questions(flags.IN_SPLIT, f"${px}_b1_{bucket.name}", f"${px}_b2_{bucket.name}"),
        times=Times(*map(nginx_time, (route.timeouts.connect, route.timeouts.read, route.timeouts.send))),
        body_limit=route.body_limit,
        sets_cookie=route.sticky is Sticky.COOKIE,
        log_format=log_format(px, route.service),
        log_formats=list(_log_formats(route, px)),
        conditions=conditions(route, px),
        matched=matched(route, px),
        mirror=_mirror(route, px, pools, beside),
        previewed=_questions(flags.PREVIEWED) if route.previews else [],
        logged=f"{seen_from(topology.settings, places)}{route.service}/{flags.LOGGED}",
        upstreams=list(_upstreams(route, told, topology)),
        colours=plain_pools(route, pools, beside),
    )


def _balance(balance: Balance | Hash) -> Trusted:
    """An empty key is dealt in turn."""
    match balance:
        case Balance.ROUND_ROBIN:
            return Trusted()
        case Balance():
            return Trusted(balance)
        case Hash(key=HashKey.ADDRESS):
            return Trusted("hash $remote_addr consistent")
        case Hash(key=HashKey.URI):
            return Trusted("hash $request_uri consistent")
        case Hash(key=HashKey.COOKIE):
            return Trusted(f"hash $cookie_{variable(balance.name)} consistent")
        case Hash(key=HashKey.HEADER):
            return Trusted(f"hash $http_{variable(balance.name.lower().replace('-', '_'))} consistent")
    raise ValueError(balance)


def _auth(route: Route) -> Auth | None:
    return Auth(quoted(route.basic_auth.realm), password_file(route.service)) if route.basic_auth else None


def _pages(route: Route, topology: Topology) -> Iterator[Page]:
    for status in sorted(topology.error_pages(route)):
        yield Page(status, f"/.proxyctl/{route.service}/{status}.html", error_page(route.service, status))


def _headers(route: Route, settings: ProxySettings) -> Iterator[Header]:
    if route.tls and route.tls.hsts:
        yield Header("Strict-Transport-Security", quoted(f"max-age={int(route.tls.hsts)}"))
    if route.tls and settings.http3:
        yield Header("Alt-Svc", quoted(f'h3=":{parse(settings.https[0]).port}"; ma={ALT_SVC_AGE}'))
    for name, value in route.response_headers:
        yield Header(name, quoted(value))


def _log_formats(route: Route, px: str) -> Iterator[LogFormat]:
    by_rule = Trusted(f"${px}_reason") if route.matches else SPLIT
    yield LogFormat(log_format(px, route.service), route.service, by_rule)
    if route.mirror:
        yield LogFormat(mirror_format(px, route.service), route.service, MIRROR)


def _mirror(route: Route, px: str, pools: str, beside: Trusted) -> MirrorView | None:
    if route.mirror is None:
        return None
    copied = copies(route, pools, beside)
    return MirrorView(
        mirrored=mirrored(route, px),
        sampled=sampled(route, px),
        key=EVERY_REQUEST,
        percent=f"{route.mirror.share / 100:.2f}%",
        methods=route.mirror.methods,
        log_format=mirror_format(px, route.service),
        copies=copied,
        statuses={name: copy.status for names in (PLAIN, COVERED) for name, copy in zip(names, copied, strict=True)},
        keeps_uri=route.strip_path,
    )


def _way(route: Route, told: Flags | None, pools: str, pages: Iterable[Page]) -> Trusted:
    """A request of a colour that has all of them goes on as to a pool of its own."""
    if told is None:
        return Trusted("return 503;")
    sole = told.split.sole or told.split.lead
    stands_in = cover(route, sole, pages) if told.split.sole and told.cover else Trusted()
    return answer(route, pools, sole, DEALT, stands_in)


def _upstreams(route: Route, told: Flags | None, topology: Topology) -> Iterator[Upstream]:
    own = partial(upstream_name, topology.project, route.service)
    balance = _balance(route.balance)
    for colour, name in zip(Colour, PLAIN, strict=True):
        yield Upstream(own(name), _even(route.slots(colour)), (), balance)
    if topology.settings.cutover is Cutover.LIVE:
        for colour, name in zip(Colour, COVERED, strict=True):
            backups = route.slots(colour.other) if route.backed else ()
            yield Upstream(own(name), _even(route.slots(colour)), backups, balance)
    elif pool := dealt(route, told):
        members = tuple(plain(member.address) + _weight(member) for member in pool.members)
        yield Upstream(own(DEALT), members, pool.backups, _balance(pool.balance))


def _weight(member: Member) -> Trusted:
    return Trusted(f" weight={member.weight}") if member.weight > 1 else Trusted()


def _even(addresses: tuple[str, ...]) -> tuple[Trusted, ...]:
    return tuple(map(plain, addresses))


def _questions(asked: Iterable[flags.Question], b1: str = "", b2: str = "") -> list[Question]:
    return [Question(Trusted(flag.format(b1=b1, b2=b2)), pool) for flag, pool in asked]


def _found(path: str) -> Trusted:
    """What leads somewhere; nothing leads to where nginx stands."""
    return plain(path) if path else Trusted()


def _control(topology: Topology, places: Places, address: Address) -> ControlView:
    """The same questions for literal buckets, of any service."""
    return ControlView(
        listen=address.listen,
        prefix=_found(address.prefix),
        folder=_found(seen_from(topology.settings, places)) + Trusted(f"${{px_service}}/{SPLIT_IN_FORCE}"),
        questions=_questions(flags.AT_REST + flags.IN_SPLIT, "$arg_b1", "$arg_b2"),
        previewed=_questions(flags.PREVIEWED) if any(route.previews for route in topology.routes) else [],
        nobody=NOBODY,
    )


# --- buckets -----------------------------------------------------------------------------------------------------


def _buckets(topology: Topology, px: str) -> list[Bucket]:
    """Those in use; nginx works a bucket out only for a request that asks for it."""
    if topology.settings.cutover is Cutover.RELOAD:
        return []
    return sorted({_bucket(route, px) for route in topology.routes})


def _bucket(route: Route, px: str) -> Bucket:
    """Services differ in their salt, so that the same clients are not everybody's guinea pigs."""
    salt = 0 if route.sticky is Sticky.NONE else crc32(route.service.encode()) % SALTS
    return Bucket(f"{route.sticky}_{salt}", salt, _key(route.sticky, px))


def _percents() -> list[Trusted]:
    """A hundred equal buckets, ten to a line. The last takes what is left: split_clients wants an end."""
    buckets = [f"1% {percent:02d};" for percent in range(99)] + ["*  99;"]
    return [Trusted(" ".join(buckets[first : first + 10])) for first in range(0, 100, 10)]


def _key(sticky: Sticky, px: str) -> Trusted:
    match sticky:
        case Sticky.NONE:
            return EVERY_REQUEST
        case Sticky.COOKIE:
            return Trusted(f"${px}_cookie_key")
        case Sticky.IP:
            return Trusted("$remote_addr")


def _uses(topology: Topology, sticky: Sticky) -> bool:
    return any(route.sticky is sticky for route in topology.routes)


# --- settings ----------------------------------------------------------------------------------------------------


def _paths(places: Places) -> Paths:
    return Paths(**{name: str(getattr(places, name)) for name in Paths._fields})


def _proxy_times(topology: Topology) -> ProxyTimes:
    settings = topology.settings
    shutdown = max(settings.worker_shutdown_timeout, *(route.drain for route in topology.routes), 0.0)
    return ProxyTimes(
        client_header=nginx_time(settings.client_header_timeout),
        client_body=nginx_time(settings.client_body_timeout),
        keepalive=nginx_time(settings.keepalive_timeout),
        upstream_keepalive=nginx_time(settings.upstream_keepalive_timeout),
        worker_shutdown=nginx_time(shutdown),
    )


def nginx_time(seconds: Seconds) -> str:
    """In whole milliseconds, the finest that nginx knows."""
    milliseconds = round(seconds * 1000)
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def _forwarded(settings: ProxySettings, px: str) -> Forwarded:
    """A balancer that speaks the PROXY protocol passes on what clients write of themselves, so none of that counts."""
    if settings.trusted and not settings.proxy_protocol:
        return Forwarded(*map(Trusted, (f"${px}_forwarded_for", f"${px}_forwarded_proto", f"${px}_forwarded_host")))
    return Forwarded(*map(Trusted, ("$remote_addr", "$scheme", f"${px}_host")))


def _hashes(hosts: set[str]) -> Hashes:
    """Large enough that nginx neither warns nor refuses: the fullest of n buckets holds about log n names."""
    longest = max(map(len, hosts), default=0) + NAME_OVERHEAD
    return Hashes(
        names_max=max(LEAST_TABLE, _power_of_two(4 * len(hosts))),
        names_bucket=max(LEAST_BUCKET, _power_of_two(longest * max(2, len(hosts).bit_length()))),
    )


def _power_of_two(least: int) -> int:
    return 1 << max(least - 1, 0).bit_length()


# --- templates ---------------------------------------------------------------------------------------------------


def environment(kind: type[Environment], loader: BaseLoader, print_: Print) -> Environment:
    """Autoescape makes Trusted the type of what templates write themselves; all else passes through plain()."""
    return kind(
        loader=loader,
        extensions=print_.extensions,
        undefined=StrictUndefined,
        autoescape=True,
        finalize=plain,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


@cache
def built_in(print_: Print = Print.PLAIN) -> Environment:
    return environment(Environment, FileSystemLoader(templates_folder()), print_)


def templates_folder() -> Path:
    """Beside the package's files when installed, beside the package in a checkout."""
    package = Path(str(resources.files("proxyctl")))
    installed = package / "templates" / "nginx"
    return installed if installed.is_dir() else package.parent / "templates" / "nginx"
