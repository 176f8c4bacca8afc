"""How a request goes on once its pool is known, and where it goes when that pool fails it. Pure; a part of render.py.

Most services need one statement for each pool. Where nginx can have no backup servers, cover is an error_page; where
the two colours are asked in different ways, one of them has a location of its own. Start at answers().
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from markupsafe import Markup as Trusted

from proxyctl.adapters.nginx.flags import COVERED, PLAIN
from proxyctl.adapters.nginx.names import UpstreamFiles, upstream_tls_files, upstream_tls_files_before
from proxyctl.adapters.nginx.rendering.tokens import plain
from proxyctl.domain.model import Colour, Protocol, Route, UpstreamTls

MIRRORED_TO = (424, 425)  # of blue and green; no client sees them


class Page(NamedTuple):
    status: int
    uri: str  # where no client can ask for it
    file: str


class StandIn(NamedTuple):
    """Where a request goes when its own colour failed it and nginx knows no backup."""

    location: str
    answer: Trusted


class Way(NamedTuple):
    """How replicas are asked."""

    name: str  # with which what nginx says of it begins: proxy or grpc
    tls: list[Trusted]  # what follows proxy_ssl_ or grpc_ssl_


class Apart(NamedTuple):
    """The colour that is asked in a way of its own."""

    location: str
    way: Way
    answer: Trusted


class Copy(NamedTuple):
    """Where the copy of a request goes that is mirrored to this colour."""

    colour: str
    location: str  # of the requests that are copied
    uri: str  # of their copies; no client can ask for it
    status: int  # with which nginx sends a request to the first
    tls: list[Trusted]
    answer: Trusted


class PlainPool(NamedTuple):
    """A colour's own pool, for the prober."""

    name: str
    address: Trusted
    way: Way


def answers(route: Route, pools: str, pages: Iterable[Page]) -> dict[str, Trusted]:
    """What is said for each pool. `pools`: how the names of all begin."""
    return {
        pool: answer(route, pools, colour, pool, cover(route, colour, pages) if pool in COVERED else Trusted())
        for names in (PLAIN, COVERED)
        for colour, pool in zip(Colour, names, strict=True)
    }


def answer(route: Route, pools: str, colour: Colour, pool: str, cover: Trusted) -> Trusted:
    """How a request goes on to this pool of the colour."""
    if speaks_apart(route, colour):
        return Trusted("return 420;")
    return cover + _stripping(route) + _passing(route, pools, colour, pool)


def cover(route: Route, colour: Colour, pages: Iterable[Page]) -> Trusted:
    """What makes the other colour stand in where nginx has no backup. Stands where no error_page of the location counts
    any more."""
    if not _stands_in(route):
        return Trusted()
    kept = "".join(f"error_page {page.status} {page.uri}; " for page in pages if page.status == 413)
    return Trusted(f"{kept}error_page 502 504 = {_stand_in(route, colour.other)}; ")


def _stripping(route: Route) -> Trusted:
    if not route.strip_path:
        return Trusted()
    bare = re.escape(plain(route.path.rstrip("/")))
    return Trusted(f"rewrite ^{bare}(?:/(.*))?$ /$1 break; ")


def _passing(route: Route, pools: str, colour: Colour, pool: str) -> Trusted:
    to = _named(route.protocol_of(colour))
    return Trusted(f"{to}_pass {_address(route, pools, colour, pool)}; break;")


def _named(protocol: Protocol) -> str:
    return "grpc" if protocol is Protocol.GRPC else "proxy"


def _address(route: Route, pools: str, colour: Colour, pool: str) -> Trusted:
    scheme = route.protocol_of(colour) + ("s" if route.tls_of(colour) else "")
    return Trusted(f"{scheme}://{plain(pools)}_{plain(pool)}")


def plain_pools(route: Route, pools: str, beside: Trusted) -> list[PlainPool]:
    """`beside`, here and below: what leads from nginx to the files of the generation."""
    return [
        PlainPool(colour, _address(route, pools, colour, colour), _way_of(route, colour, beside)) for colour in Colour
    ]


# --- mirrors -----------------------------------------------------------------------------------------------------


def copies(route: Route, pools: str, beside: Trusted) -> list[Copy]:
    """A copy names its pool literally: what it sets, it would set for the request that clients wait for."""
    return [
        Copy(
            colour=colour,
            location=f"@px_{plain(route.service)}_mirrored_{colour}",
            uri=f"/.proxyctl/{route.service}/mirror/{colour}",
            status=status,
            tls=_way_of(route, colour, beside).tls,
            answer=_copying(route, pools, colour),
        )
        for colour, status in zip(Colour, MIRRORED_TO, strict=True)
    ]


def _copying(route: Route, pools: str, colour: Colour) -> Trusted:
    """With the address that the request had: as the client wrote it, or as it is without its path."""
    if route.protocol_of(colour) is Protocol.GRPC:
        return Trusted("return 404;")  # nobody asks: the candidate is the other colour
    to = _address(route, pools, colour, colour)
    if not route.strip_path:
        return Trusted(f"proxy_pass {to}$request_uri;")
    return Trusted(f"rewrite ^ $px_uri; {_stripping(route)}proxy_pass {to};")


# --- cover without backup servers --------------------------------------------------------------------------------


def stand_ins(route: Route, pools: str) -> list[StandIn]:
    """The path is stripped by the time that they are asked."""
    colours = Colour if _stands_in(route) else ()
    return [StandIn(_stand_in(route, colour), _passing(route, pools, colour, colour)) for colour in colours]


def _stands_in(route: Route) -> bool:
    """A call of gRPC is a POST, which is never asked twice."""
    in_one_place = not any(speaks_apart(route, colour) for colour in Colour)
    return not route.backed and in_one_place and route.protocol is Protocol.HTTP


def _stand_in(route: Route, colour: Colour) -> str:
    return f"@px_{plain(route.service)}_to_{colour}"


# --- two ways at once -------------------------------------------------------------------------------------------------


def apart(route: Route, pools: str, beside: Trusted) -> Apart | None:
    for colour in Colour:
        if speaks_apart(route, colour):
            way = _stripping(route) + _passing(route, pools, colour, colour)
            return Apart(f"@px_{plain(route.service)}_apart", _way_of(route, colour, beside), way)
    return None


def speaks_apart(route: Route, colour: Colour) -> bool:
    """One location has one protocol and one way to speak TLS, so this colour needs another."""
    if route.apart is None or route.apart.colour is not colour:
        return False
    return route.apart.tls is not None or route.protocol_of(colour) is not route.protocol


def way(route: Route, beside: Trusted) -> Way:
    """In all locations but that of a colour apart."""
    tls = _tls(route.upstream_tls, upstream_tls_files(route.service), beside)
    return Way(_named(route.protocol), list(tls))


def _way_of(route: Route, colour: Colour, beside: Trusted) -> Way:
    before = speaks_apart(route, colour)
    files = upstream_tls_files_before(route.service) if before else upstream_tls_files(route.service)
    return Way(_named(route.protocol_of(colour)), list(_tls(route.tls_of(colour), files, beside)))


def _tls(tls: UpstreamTls | None, files: UpstreamFiles, beside: Trusted) -> Iterator[Trusted]:
    if tls is None:
        return
    ca, cert, key = (beside + plain(file) for file in files)
    yield Trusted("protocols TLSv1.2 TLSv1.3")
    if tls.server_name:
        yield Trusted("server_name on")
        yield Trusted(f"name {plain(tls.server_name)}")
    if tls.verify:
        yield Trusted("verify on")
        yield Trusted("verify_depth 4")
        yield Trusted(f"trusted_certificate {ca}")
    if tls.cert:
        yield Trusted(f"certificate {cert}")
        yield Trusted(f"certificate_key {key}")
