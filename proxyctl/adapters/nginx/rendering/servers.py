"""Which server answers to which host, where it listens, and with which certificate. Pure; a part of render.py.

A host has one server, which knows every service of the host. Start at servers() and redirects().
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

from markupsafe import Markup as Trusted

from proxyctl.adapters.nginx.names import tls_files
from proxyctl.adapters.nginx.process.listens import parse
from proxyctl.adapters.nginx.rendering.tokens import plain, quoted
from proxyctl.domain.model import Mode, ProxySettings, Redirect, Route, ServiceName, Topology

View = TypeVar("View")

PERMANENT = 308  # and the method stays
DEFAULT = " default_server"
NO_NAME = ("_",)  # no host is called so: the server is reached as the default one only


class Certificate(NamedTuple):
    """Files in the generation's folder; nginx takes them from beside its configuration."""

    chain: str
    key: str


class Location(NamedTuple, Generic[View]):
    match: Trusted
    service: View


class Moved(NamedTuple):
    """A location that sends its requests elsewhere."""

    match: Trusted
    status: int
    rest: Trusted  # finds in the address what follows the path; empty: it is left out
    to_rest: Trusted
    to: Trusted


class Server(NamedTuple, Generic[View]):
    names: tuple[str, ...]
    listens: list[Trusted]
    certificate: Certificate | None
    rooted: bool  # some service has the path /
    locations: list[Location[View]]
    moved: list[Moved]
    services: list[View]


class Elsewhere(NamedTuple):
    """A server that sends every request elsewhere."""

    names: tuple[str, ...]
    listens: list[Trusted]
    certificate: Certificate | None
    status: int
    to: Trusted


class Site(NamedTuple):
    """Hosts that have the same services."""

    names: tuple[str, ...]
    routes: tuple[Route, ...]  # those that name the host first

    @property
    def end(self) -> str:
        return DEFAULT if self.names == NO_NAME else ""

    @property
    def encrypted(self) -> Route | None:
        """The route whose certificate the hosts have."""
        return next((route for route in self.routes if route.tls), None)

    @property
    def sent_to_https(self) -> bool:
        return bool(self.encrypted and self.encrypted.tls and self.encrypted.tls.redirect)


def servers(topology: Topology, services: Mapping[ServiceName, View], http2: str) -> list[Server[View]]:
    """The default server, where nginx has no site but ours; then one for each site. `http2` is what a listen says for
    it, if it has to."""
    settings = topology.settings
    sites = _sites(topology.routes) if settings.mode.ours else _sites(topology.routes)[1:]
    return [_server(site, settings, services, http2) for site in sites]


def redirects(topology: Topology, http2: str) -> list[Elsewhere]:
    return [*_to_https(topology), *_to_the_first_host(topology, http2), *_to_other_hosts(topology, http2)]


def refusing_listens(topology: Topology, http2: str) -> list[Trusted]:
    """Where HTTPS is spoken, and clients that name no host of ours are to be turned away."""
    sites = _sites(topology.routes)
    if not topology.settings.mode.ours or sites[0].encrypted or not any(site.encrypted for site in sites):
        return []
    return _https(topology.settings, http2, DEFAULT)


def _sites(routes: tuple[Route, ...]) -> list[Site]:
    rest = tuple(route for route in routes if not route.hosts)
    by_host: dict[str, list[Route]] = {}
    for route in routes:
        for host in (*route.hosts, *route.preview_hosts):
            by_host.setdefault(host, []).append(route)
    named: dict[tuple[ServiceName, ...], Site] = {}
    for host, own in sorted(by_host.items()):
        chosen = _chosen(own, rest)
        site = named.get(services := tuple(route.service for route in chosen), Site((), chosen))
        named[services] = site._replace(names=(*site.names, host))
    return [Site(NO_NAME, rest), *named.values()]


def _chosen(own: list[Route], rest: tuple[Route, ...]) -> tuple[Route, ...]:
    """Those that name the host, and those that catch all hosts where no named one has the path."""
    taken = {route.path for route in own}
    return (*own, *(route for route in rest if route.path not in taken))


def _server(site: Site, settings: ProxySettings, services: Mapping[ServiceName, View], http2: str) -> Server[View]:
    moved = list(_moved(site.routes))
    return Server(
        names=site.names,
        listens=[
            *([] if site.sent_to_https else _http(settings, site.end)),
            *(_https(settings, http2, site.end) if site.encrypted else []),
        ],
        certificate=_certificate(site.encrypted),
        rooted=any(route.path == "/" for route in site.routes) or any(each.match == "/" for each in moved),
        locations=[Location(match, services[route.service]) for route in site.routes for match in _matches(route.path)],
        moved=moved,
        services=[services[route.service] for route in site.routes],
    )


def _to_https(topology: Topology) -> Iterator[Elsewhere]:
    to = Trusted(f"https://$host{_port(topology.settings.https, 443)}$request_uri")
    for site in _sites(topology.routes):
        if site.sent_to_https:
            yield Elsewhere(site.names, _http(topology.settings, site.end), None, PERMANENT, to)


def _to_the_first_host(topology: Topology, http2: str) -> Iterator[Elsewhere]:
    settings = topology.settings
    for route in topology.routes:
        if not route.aliases:
            continue
        scheme, listens, standard = ("https", settings.https, 443) if route.tls else ("http", settings.http, 80)
        to = Trusted(f"{scheme}://{plain(route.hosts[0])}{_port(listens, standard)}$request_uri")
        yield _elsewhere(route.aliases, route, settings, http2, PERMANENT, to)


def _to_other_hosts(topology: Topology, http2: str) -> Iterator[Elsewhere]:
    for route in topology.routes:
        for redirect in filter(lambda redirect: redirect.host, route.redirects):
            to = _target(redirect.to.removesuffix("/*"), "$request_uri") if _keeps(redirect) else _once(redirect.to)
            yield _elsewhere((redirect.host,), route, topology.settings, http2, redirect.status, to)


def _elsewhere(
    names: tuple[str, ...], route: Route, settings: ProxySettings, http2: str, status: int, to: Trusted
) -> Elsewhere:
    encrypted = _https(settings, http2, "") if route.tls else []
    certificate = _certificate(route if route.tls else None)
    return Elsewhere(names, [*_http(settings, ""), *encrypted], certificate, status, to)


def _moved(routes: tuple[Route, ...]) -> Iterator[Moved]:
    """A service's own path goes before a redirect of another service, and the first redirect before a second."""
    taken = {match for route in routes for match in _matches(route.path)}
    for redirect in (redirect for route in routes for redirect in route.redirects if redirect.path):
        for match in _redirected(redirect.path):
            if match not in taken:
                taken.add(match)
                yield _move(redirect, match)


def _move(redirect: Redirect, match: Trusted) -> Moved:
    """What follows is taken as the client wrote it, but for the slashes that lead it: //host is another host's address,
    and browsers read a backslash as a slash."""
    if not _keeps(redirect):
        return Moved(match, redirect.status, Trusted(), Trusted(), _once(redirect.to))
    before = re.escape(plain(redirect.path.removesuffix("/*") or "/"))
    rest = Trusted(rf'"^{before}[/\x5c]*(?<px_rest>.*)$"')
    base = redirect.to.removesuffix("*")
    return Moved(match, redirect.status, rest, _target(base, "$px_rest"), _target(base))


def _redirected(path: str) -> list[Trusted]:
    if not path.endswith("/*"):
        return [Trusted(f"= {plain(path)}")]
    return _matches(path.removesuffix("/*") or "/")


def _keeps(redirect: Redirect) -> bool:
    return redirect.to.endswith("/*")


def _once(to: str) -> Trusted:
    """One address for all, with the query of the request where it has none of its own."""
    return _target(to, "" if "?" in to else "$is_args$args")


def _target(base: str, rest: str = "") -> Trusted:
    return quoted(base)[:-1] + Trusted(f'{rest}"')


def _certificate(route: Route | None) -> Certificate | None:
    return Certificate(*tls_files(route.service)) if route else None


def _http(settings: ProxySettings, end: str) -> list[Trusted]:
    return [plain(listen) + Trusted(f"{_preface(settings)}{end}{_beside(settings, end)}") for listen in settings.http]


def _https(settings: ProxySettings, http2: str, end: str) -> list[Trusted]:
    options = [f" ssl{http2}{_preface(settings)}{end}{_beside(settings, end)}"]
    if settings.http3:
        options.append(f" quic{end}{' reuseport' if end == DEFAULT else ''}")  # each worker has its own connections
    return [plain(listen) + Trusted(each) for each in options for listen in settings.https]


def _beside(settings: ProxySettings, end: str) -> str:
    """In a container nginx inherits no sockets, so an upgrade needs two with sockets of their own on one port. It is
    said once for each address, where every one has its default server."""
    return " reuseport" if settings.mode is Mode.CONTAINER and end == DEFAULT else ""


def _preface(settings: ProxySettings) -> str:
    return " proxy_protocol" if settings.proxy_protocol else ""


def _port(listens: tuple[str, ...], standard: int) -> str:
    port = parse(listens[0]).port
    return "" if port == standard else f":{port}"


def _matches(path: str) -> list[Trusted]:
    """`/api` is the path itself and all below it, never `/apish`. nginx takes the longest that fits."""
    plain(path)
    if path.endswith("/"):
        return [Trusted(path)]
    return [Trusted(f"= {path}"), Trusted(f"{path}/")]
