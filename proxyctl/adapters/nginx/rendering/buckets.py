"""The buckets that requests are dealt by: which are in use, and what each is worked out from. Pure. Start at
buckets_of()."""

from __future__ import annotations

from typing import NamedTuple
from zlib import crc32

from markupsafe import Markup as Trusted

from proxyctl.domain.model import (
    Cutover,
    Route,
    Sticky,
    Topology,
)

EVERY_REQUEST = Trusted("$connection/$connection_requests/$msec")  # unique; $request_id costs five times as much
SALTS = 4  # a fixed number: each one costs variables that nginx makes room for in every request


class Bucket(NamedTuple):
    name: str
    salt: int
    key: Trusted


def buckets_of(topology: Topology, px: str) -> list[Bucket]:
    """Those in use; nginx works a bucket out only for a request that asks for it."""
    if topology.settings.cutover is Cutover.RELOAD:
        return []
    return sorted({bucket_of(route, px) for route in topology.routes})


def bucket_of(route: Route, px: str) -> Bucket:
    """Services differ in their salt, so that the same clients are not everybody's guinea pigs."""
    salt = 0 if route.sticky is Sticky.NONE else crc32(route.service.encode()) % SALTS
    return Bucket(f"{route.sticky}_{salt}", salt, _key(route.sticky, px))


def percents() -> list[Trusted]:
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
