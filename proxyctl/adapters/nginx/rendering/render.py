"""Turn a topology into the text of an nginx configuration. Pure: same topology, same bytes. Start at render().

Decisions are made here, in service_view.py and in servers.py; the templates loop and print. Nothing but Trusted text,
which only this package and the templates write, reaches the configuration unless it is plain: letters, digits and a
few signs that mean nothing to nginx.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from jinja2 import BaseLoader, Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup as Trusted

from proxyctl.adapters.nginx import flags
from proxyctl.adapters.nginx.control import Address
from proxyctl.adapters.nginx.flags import NOBODY
from proxyctl.adapters.nginx.names import (
    MATCH,
    SPLIT,
    cookie_name,
    files_from,
    seen_from,
    variables_prefix,
)
from proxyctl.adapters.nginx.process.binary import Directive
from proxyctl.adapters.nginx.rendering.buckets import buckets_of, percents
from proxyctl.adapters.nginx.rendering.log_formats import log_formats, log_options
from proxyctl.adapters.nginx.rendering.servers import redirects, refusing_listens, servers
from proxyctl.adapters.nginx.rendering.service_view import (
    Question,
    found,
    nginx_time,
    questions,
    service_view,
)
from proxyctl.adapters.nginx.rendering.tokens import plain
from proxyctl.adapters.nginx.rendering.tracing import Print
from proxyctl.adapters.nginx.traffic.shares import NOBODY_SERVES, Shares
from proxyctl.adapters.places import SPLIT_IN_FORCE, Places
from proxyctl.domain.model import (
    Cutover,
    Logged,
    Protocol,
    ProxySettings,
    Sticky,
    Topology,
)

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
        route.service: service_view(route, shares.get(route.service), topology, places) for route in topology.routes
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
        "beside": found(files_from(settings, places)),
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
        "logged_if": settings.access_log is Logged.ROLLOUTS,
        "request_id": Trusted(f"${px}_request_id" if settings.access_log is Logged.ROLLOUTS else "$request_id"),
        "waits": Directive.KEEPALIVE_MIN_TIMEOUT in known,
        "closing": f"{seen_from(settings, places)}{flags.CLOSING}",
        "last_round": "." * (flags.ROUNDS - 1),
        "log_formats": list(log_formats(topology)),
        "log_options": log_options(topology),
        "by_split": SPLIT,
        "by_match": MATCH,
        "stood_in": any(view.stand_ins for view in services.values()),
        "buckets": buckets_of(topology, px),
        "percents": percents(),
        "control": _control(topology, places, control),
        "services": list(services.values()),
        "encrypted": any(route.tls for route in topology.routes),
        "grpc": any(Protocol.GRPC in route.protocols for route in topology.routes),
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


def _control(topology: Topology, places: Places, address: Address) -> ControlView:
    """The same questions for literal buckets, of any service."""
    return ControlView(
        listen=address.listen,
        prefix=found(address.prefix),
        folder=found(seen_from(topology.settings, places)) + Trusted(f"${{px_service}}/{SPLIT_IN_FORCE}"),
        questions=questions(flags.AT_REST + flags.IN_SPLIT, "$arg_b1", "$arg_b2"),
        previewed=questions(flags.PREVIEWED) if any(route.previews for route in topology.routes) else [],
        nobody=NOBODY,
    )


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
