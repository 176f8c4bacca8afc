"""How nginx writes the log of requests. Pure. log/lines.py reads it, readback/ holds templates to it: start at
log_formats()."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from markupsafe import Markup as Trusted

from proxyctl.adapters.nginx.names import MIRROR, SPLIT, log_format, mirror_format, variables_prefix
from proxyctl.adapters.nginx.rendering.matches import as_asked
from proxyctl.domain.model import Logged, Route, Topology


class LogFormat(NamedTuple):
    """Its fields are apart by tabs."""

    name: str
    fields: tuple[str, ...]

    @property
    def written(self) -> Trusted:
        return Trusted('"' + r"\t".join(self.fields) + '"')


def log_formats(topology: Topology) -> Iterator[LogFormat]:
    """Of requests that no service was asked for, then of each service."""
    px = variables_prefix(topology)
    yield LogFormat(px, _fields(px, "-", SPLIT))
    for route in topology.routes:
        yield from formats_of(route, topology)


def formats_of(route: Route, topology: Topology) -> Iterator[LogFormat]:
    px, route = variables_prefix(topology), as_asked(route, topology.settings)
    by_rule = f"${px}_reason" if route.matches else SPLIT
    yield LogFormat(log_format(px, route.service), _fields(px, route.service, by_rule))
    if route.mirror:
        yield LogFormat(mirror_format(px, route.service), _fields(px, route.service, MIRROR))


def log_options(topology: Topology) -> Trusted:
    """What stands behind the format wherever it is used. Ticks close on lines that are a second late, not an hour."""
    only_if = f" if=${variables_prefix(topology)}_logged"
    return Trusted("buffer=64k flush=1s" + (only_if if topology.settings.access_log is Logged.ROLLOUTS else ""))


def _fields(px: str, service: str, reason: str) -> tuple[str, ...]:
    """`reason`: why a request went where it went."""
    return (
        "$time_iso8601",
        "$request_id",
        f"$remote_addr ${px}_agent",
        "$status",
        "$request_time",
        "$proxy_host",
        "$upstream_header_time",
        "$upstream_response_time",
        service,
        reason,
        "$upstream_addr",
        "$upstream_status",
        "$request_method",
        "$uri",
    )
