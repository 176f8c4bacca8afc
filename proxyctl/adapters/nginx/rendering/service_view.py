"""What the templates see of one service. Pure. Start at service_view()."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from markupsafe import Markup as Trusted

from proxyctl.adapters.nginx import flags
from proxyctl.adapters.nginx.flags import COVERED, PLAIN
from proxyctl.adapters.nginx.names import (
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
from proxyctl.adapters.nginx.process.listens import parse
from proxyctl.adapters.nginx.rendering.buckets import EVERY_REQUEST, bucket_of
from proxyctl.adapters.nginx.rendering.dealing import DEALT, Member, dealt
from proxyctl.adapters.nginx.rendering.matches import Condition, as_asked, conditions, matched, mirrored, sampled
from proxyctl.adapters.nginx.rendering.pools import (
    Apart,
    Copy,
    Page,
    PlainPool,
    StandIn,
    Way,
    answer,
    answers,
    apart,
    copies,
    cover,
    plain_pools,
    stand_ins,
    way,
)
from proxyctl.adapters.nginx.rendering.tokens import plain, quoted, variable
from proxyctl.adapters.places import SPLIT_IN_FORCE, Places
from proxyctl.domain.model import (
    Balance,
    Colour,
    Cutover,
    Hash,
    HashKey,
    ProxySettings,
    Route,
    Seconds,
    Sticky,
    Topology,
)
from proxyctl.ports import Flags

ALT_SVC_AGE = 86400  # seconds for which a browser may remember that HTTP/3 is spoken


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


class ServiceView(NamedTuple):
    name: str
    answers: Mapping[str, Trusted]  # how a request goes on to each pool
    dealt: Trusted  # how it goes on where nginx was told the split
    split: str
    stand_ins: list[StandIn]
    apart: Apart | None
    way: Way
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
    logged: str
    conditions: list[Condition]
    matched: Trusted | None
    mirror: MirrorView | None
    previewed: list[Question]
    upstreams: list[Upstream]
    colours: list[PlainPool]


def service_view(route: Route, told: Flags | None, topology: Topology, places: Places) -> ServiceView:
    """`told`: what nginx itself is told of the split, with cutover reload."""
    route = as_asked(route, topology.settings)
    px = variables_prefix(topology)
    bucket = bucket_of(route, px)
    pools = pools_prefix(topology.project, route.service)
    beside = found(files_from(topology.settings, places))
    pages = {page.status: page for page in _pages(route, topology)}
    return ServiceView(
        name=route.service,
        answers=answers(route, pools, pages.values()),
        dealt=_way(route, told, pools, pages.values()),
        split=flags.folder_name(told),
        stand_ins=stand_ins(route, pools),
        apart=apart(route, pools, beside),
        way=way(route, beside),
        auth=_auth(route),
        pages=list(pages.values()),
        nothing_serves=pages[503].uri if 503 in pages else "@px_nothing_serves",
        headers=list(_headers(route, topology.settings)),
        folder=f"{seen_from(topology.settings, places)}{route.service}/{SPLIT_IN_FORCE}",
        at_rest=questions(flags.AT_REST),
        in_split=questions(flags.IN_SPLIT, f"${px}_b1_{bucket.name}", f"${px}_b2_{bucket.name}"),
        times=Times(*map(nginx_time, (route.timeouts.connect, route.timeouts.read, route.timeouts.send))),
        body_limit=route.body_limit,
        sets_cookie=route.sticky is Sticky.COOKIE,
        log_format=log_format(px, route.service),
        conditions=conditions(route, px),
        matched=matched(route, px),
        mirror=_mirror(route, px, pools, beside),
        previewed=questions(flags.PREVIEWED) if route.previews else [],
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


def questions(asked: Iterable[flags.Question], b1: str = "", b2: str = "") -> list[Question]:
    return [Question(Trusted(flag.format(b1=b1, b2=b2)), pool) for flag, pool in asked]


def found(path: str) -> Trusted:
    """What leads somewhere; nothing leads to where nginx stands."""
    return plain(path) if path else Trusted()


def nginx_time(seconds: Seconds) -> str:
    """In whole milliseconds, the finest that nginx knows."""
    milliseconds = round(seconds * 1000)
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"
