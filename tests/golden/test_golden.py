"""Rendered configurations, byte for byte, each one read by the real nginx.

After a wanted change: `PROXYCTL_GOLDEN=write pytest tests/golden`, then read the diff before you commit it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxyctl.adapters.nginx.control import Address, own_address
from proxyctl.adapters.nginx.process.binary import Directive, HostProgram, NginxBinary
from proxyctl.adapters.nginx.readback.refusals import refusals
from proxyctl.adapters.nginx.rendering.render import render
from proxyctl.adapters.places import Places
from proxyctl.domain.model import (
    Apart,
    Balance,
    BasicAuth,
    Colour,
    Cutover,
    Hash,
    HashKey,
    HeaderLimits,
    Logged,
    Match,
    Mirror,
    Mode,
    Protocol,
    ProxySettings,
    Redirect,
    Route,
    ServiceName,
    Sticky,
    Timeouts,
    Tls,
    Topology,
    UpstreamTls,
)
from proxyctl.domain.split import Split
from proxyctl.ports import Flags
from tests.certificates import a_pair
from tests.nginx_bed import DEBIAN, MAINLINE

EXPECTED = Path(__file__).parent / "expected"
STATE = Path("/var/lib/proxyctl/shop")
ADDRESS = own_address(Places(STATE))


def a_route(name: str = "web", **changes: object) -> Route:
    route = Route(
        service=ServiceName(name),
        hosts=(),
        path="/",
        blue=("172.30.0.2:8000", "172.30.0.3:8000"),
        green=("172.30.0.4:8000", "172.30.0.5:8000"),
    )
    return route.replace(**changes)


def a_topology(*routes: Route, **settings: object) -> Topology:
    return Topology(
        project="shop", settings=ProxySettings(http=("127.0.0.1:18080",)).replace(**settings), routes=routes
    )


SHOP = ("shop.example.com", "www.shop.example.com")
CERTIFIED = Tls(cert="/etc/shop.crt", key="/etc/shop.key", hsts=86400.0)
HTTPS = a_topology(
    a_route("api", hosts=SHOP[:1], path="/api", strip_path=True),
    a_route("both", hosts=("b.example.com",), tls=CERTIFIED.replace(redirect=False)),
    a_route("calls", hosts=("grpc.example.com",), tls=CERTIFIED, protocol=Protocol.GRPC),
    a_route("plain", hosts=("c.example.com",), response_headers=(("X-Frame-Options", 'say "no" \\'),)),
    a_route("web", hosts=SHOP[:1], aliases=SHOP[1:], tls=CERTIFIED),
    https=("127.0.0.1:18443", "[::1]:18443"),
)
BALANCED = a_topology(
    a_route(hosts=SHOP[:1], tls=CERTIFIED.replace(redirect=False)),
    http=("127.0.0.1:18080", "[::1]:18080"),
    https=("127.0.0.1:18443",),
    trusted=("10.0.0.0/8", "fd00::/8"),
    proxy_protocol=True,
)
REDIRECTED = a_topology(
    a_route("api", hosts=SHOP[:1], path="/api", redirects=(Redirect(path="/old/*", to="/taken"),)),
    a_route(
        hosts=SHOP[:1],
        aliases=SHOP[1:],
        tls=CERTIFIED.replace(redirect=False),
        redirects=(
            Redirect(path="/", to="/welcome?from=/", status=302),
            Redirect(path="/old/*", to="/new/*", status=301),
            Redirect(path="/api/*", to="/never"),
            Redirect(path="/one/*", to="https://b.example.com:8443/all", status=307),
            Redirect(host="a.example.com", to="https://shop.example.com/*"),
            Redirect(host="*.example.com", to="https://shop.example.com/closed"),
        ),
    ),
    https=("127.0.0.1:18443",),
)
GUARDED = a_topology(a_route(basic_auth=BasicAuth(file="/etc/htpasswd", realm="Staging area")))
PAGED = a_topology(
    a_route(error_pages=((503, "/etc/shop/maintenance.html"),)), error_pages=((502, "/etc/502.html"), (503, "/etc/503"))
)
HASHED = a_topology(
    a_route("by-cookie", path="/cart", strip_path=True, balance=Hash(key=HashKey.COOKIE, name="cart")),
    a_route("by-tenant", path="/tenant", balance=Hash(key=HashKey.HEADER, name="X-Tenant")),
    a_route("calls", path="/calls", tls=CERTIFIED, protocol=Protocol.GRPC, balance=Hash(key=HashKey.ADDRESS)),
    a_route("old-ways", balance=Balance.IP_HASH, error_pages=((413, "/etc/413"), (502, "/etc/502"))),
    https=("127.0.0.1:18443",),
)
KNOWN_TO_REPLICAS = UpstreamTls(ca="/etc/ca", cert="/etc/us.crt", key="/etc/us.key", server_name="replica.internal")
ENCRYPTED = a_topology(
    a_route(
        "calls",
        path="/calls",
        tls=CERTIFIED,
        protocol=Protocol.GRPC,
        upstream_tls=UpstreamTls(verify=False),
        apart=Apart(colour=Colour.BLUE, tls=KNOWN_TO_REPLICAS),
    ),
    a_route(
        "changing",
        path="/changing",
        tls=CERTIFIED,
        protocol=Protocol.GRPC,
        apart=Apart(colour=Colour.BLUE, tls=None, protocol=Protocol.HTTP),
    ),
    a_route(
        "copied",
        path="/copied",
        mirror=Mirror(share=10_000),
        apart=Apart(colour=Colour.BLUE, tls=None, protocol=Protocol.GRPC),
    ),
    a_route("web", upstream_tls=UpstreamTls(verify=False), apart=Apart(colour=Colour.GREEN, tls=None)),
    https=("127.0.0.1:18443",),
)
RULED = a_topology(
    a_route("api", path="/api", strip_path=True, mirror=Mirror(share=10_000, methods=("GET", "HEAD", "OPTIONS"))),
    a_route(
        "calls",
        path="/calls",
        tls=CERTIFIED,
        protocol=Protocol.GRPC,
        balance=Hash(key=HashKey.ADDRESS),
        matches=(Match(headers=(("x-tenant", "big"),)),),
    ),
    a_route("old-ways", hosts=SHOP[:1], balance=Balance.IP_HASH, matches=(Match(host="preview.shop.example.com"),)),
    a_route(
        matches=(
            Match(headers=(("X-Canary", "yes"), ("X-Canary", 'say "\\"'), ("X-Team", "a.b")), cookies=(("who", "me"),)),
            Match(cookies=(("canary", "1"), ("canary", "2"))),
            Match(networks=("10.0.0.0/8", "fd00::/8"), host="next.shop.example.com"),
        ),
        mirror=Mirror(share=1234),
    ),
    https=("127.0.0.1:18443",),
)
DEALT = a_topology(
    a_route(
        "api", path="/api", strip_path=True, balance=Hash(key=HashKey.COOKIE, name="cart"), green=("172.30.0.6:80",)
    ),
    a_route("calls", path="/calls", upstream_tls=UpstreamTls(verify=False), apart=Apart(colour=Colour.GREEN, tls=None)),
    a_route("nobody", path="/nobody"),
    a_route("stood-in", path="/stood-in", balance=Balance.IP_HASH, error_pages=((502, "/etc/502"),)),
    a_route("web", green=("172.30.0.7:8000",)),
    cutover=Cutover.RELOAD,
)
SHARES = {
    ServiceName("api"): Flags(split=Split.of(Colour.GREEN, "0.01"), cover=True),
    ServiceName("calls"): Flags(split=Split.all_to(Colour.GREEN), cover=False),
    ServiceName("stood-in"): Flags(split=Split.all_to(Colour.GREEN), cover=True),
    ServiceName("web"): Flags(split=Split.of(Colour.GREEN, 5), cover=True),
}
CASES = {
    "one-service": a_topology(a_route()),
    "contained": HTTPS.replace(settings=HTTPS.settings.replace(mode=Mode.CONTAINER)),
    "nothing": a_topology(),
    "hosts-and-paths": a_topology(
        a_route("api", hosts=SHOP[:1], path="/api", body_limit=0),
        a_route("rest", path="/rest/"),
        a_route("web", hosts=SHOP),
        a_route("wild", hosts=("*.example.org",)),
    ),
    "sticky": a_topology(
        a_route("by-address", hosts=("a.example.com",), sticky=Sticky.IP),
        a_route("by-cookie", hosts=("b.example.com",), sticky=Sticky.COOKIE),
        a_route("by-nothing", hosts=("c.example.com",)),
    ).replace(project="my-shop"),
    "every-setting": a_topology(
        a_route(
            balance=Balance.ROUND_ROBIN,
            timeouts=Timeouts(connect=0.25, read=3600.0, send=90.0),
            body_limit=50 << 20,
            drain=120.0,
        ),
        http=("127.0.0.1:18080", "[::1]:18080"),
        trusted=("10.0.0.0/8", "fd00::/8"),
        user="www-data",
        workers=3,
        header_limits=HeaderLimits(buffer=2 << 10, line=32 << 10, lines=8),
        client_header_timeout=5.0,
        client_body_timeout=30.0,
        keepalive_timeout=15.5,
        upstream_keepalive_timeout=2.0,
        worker_shutdown_timeout=45.0,
        access_log=Logged.ROLLOUTS,
    ),
    "balanced": BALANCED,
    "balanced-mainline": BALANCED,
    "redirected": REDIRECTED,
    "ruled": RULED,
    "ruled-mainline": RULED,
    "reload": DEALT,
    "reload-mainline": DEALT,
    "reload-logged": a_topology(a_route(), cutover=Cutover.RELOAD, access_log=Logged.ROLLOUTS),
    "nothing-logged": a_topology(access_log=Logged.ROLLOUTS),
    "encrypted": ENCRYPTED,
    "guarded": GUARDED,
    "hashed": HASHED,
    "paged": PAGED,
    "mainline": a_topology(a_route()),
    "https": HTTPS,
    "https-mainline": HTTPS,
    "long-names": a_topology(a_route(hosts=tuple(f"{'a' * 63}.{'b' * 63}.{n}.example.com" for n in range(3)))),
}

KNOWN = dict.fromkeys(
    ("mainline", "https-mainline", "balanced-mainline", "reload-mainline", "ruled-mainline"), frozenset(Directive)
)


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A state folder that may be written, as long as the one of the expected files."""
    root = Path(tempfile.mkdtemp(prefix="golden-", dir="/tmp"))
    yield root
    shutil.rmtree(root)


@pytest.mark.parametrize("name", CASES)
def test_a_topology_renders_to_the_same_bytes_as_ever(name: str) -> None:
    expected = EXPECTED / f"{name}.conf"
    text = render(CASES[name], 7, Places(STATE), KNOWN.get(name, frozenset()), ADDRESS, SHARES)
    if os.environ.get("PROXYCTL_GOLDEN") == "write":
        expected.write_text(text)
    assert text == expected.read_text()


def test_what_an_nginx_with_other_sites_includes_is_the_same_as_ever() -> None:
    topology = HTTPS.replace(project="my-shop", settings=HTTPS.settings.replace(mode=Mode.INCLUDE))
    address = Address("127.0.0.1:20123", "/secret")
    text = render(topology, 7, Places(STATE), frozenset(), address)
    expected = EXPECTED / "include.conf"
    if os.environ.get("PROXYCTL_GOLDEN") == "write":
        expected.write_text(text)
    assert text == expected.read_text()
    assert refusals(text, topology, 7, Places(STATE), address) == []


def test_what_is_written_for_http3_is_the_same_as_ever() -> None:
    """No nginx of this machine's packages was built with it."""
    topology = HTTPS.replace(settings=HTTPS.settings.replace(http3=True))
    text = render(topology, 7, Places(STATE), frozenset(Directive), ADDRESS)
    expected = EXPECTED / "http3.conf"
    if os.environ.get("PROXYCTL_GOLDEN") == "write":
        expected.write_text(text)
    assert text == expected.read_text()
    assert refusals(text, topology, 7, Places(STATE), ADDRESS) == []


@pytest.mark.nginx
@pytest.mark.parametrize("name", CASES)
async def test_nginx_has_no_objection_to_it(name: str, elsewhere: Path) -> None:
    text = (EXPECTED / f"{name}.conf").read_text().replace(str(STATE), str(elsewhere))
    assert await objections(MAINLINE if KNOWN.get(name) else DEBIAN, text, elsewhere) == ()


@pytest.mark.nginx
@pytest.mark.parametrize("name", [name for name in CASES if name not in KNOWN])
async def test_the_newest_nginx_has_no_objection_to_what_is_written_for_it(name: str, elsewhere: Path) -> None:
    known = await NginxBinary(HostProgram(MAINLINE)).knows()
    places = Places(elsewhere)
    assert (
        await objections(MAINLINE, render(CASES[name], 7, places, known, own_address(places), SHARES), elsewhere) == ()
    )


async def objections(binary: str, text: str, folder: Path) -> tuple[str, ...]:
    """Beside the text lie the files that it names."""
    Places(folder).create()
    for name in ("tls", "upstream"):
        folder.joinpath(name).mkdir()
    for service in ("both", "calls", "web"):
        a_pair(folder / "tls", service, "shop.example.com")
    shutil.copy(a_pair(folder / "upstream", "calls.before").cert, folder / "upstream" / "calls.before.ca")
    config = folder / "nginx.conf"
    config.write_text(text)
    return (await NginxBinary(HostProgram(binary)).test(config)).objections
