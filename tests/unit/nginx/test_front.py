"""The side that clients meet: both families of addresses, real addresses behind a balancer, redirects, limits."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxyctl.adapters.nginx.process import listens
from proxyctl.domain.model import HeaderLimits, Redirect
from proxyctl.errors import PublishRefused
from tests.certificates import a_pair
from tests.nginx_bed import BLUE, DEBIAN, MAINLINE, WEB, Bed, Client, a_bed, all_to, free_port

pytestmark = pytest.mark.nginx


@pytest.fixture(params=[DEBIAN, MAINLINE], ids=["debian", "mainline"])
async def bed(request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    async with a_bed(request.param) as bed:
        await bed.serve_both()
        await bed.publish()
        await bed.splits.move(WEB, all_to(BLUE))
        yield bed


# --- IPv6 --------------------------------------------------------------------------------------------------------


async def seen_from(bed: Bed, host: str) -> dict[str, str]:
    """What the application learns of a client that connects there."""
    client = await bed.client(host)
    headers: dict[str, str] = json.loads((await client.ask("GET", "/seen")).body)["headers"]
    return headers


async def test_one_port_serves_both_families_and_each_client_keeps_its_address(bed: Bed) -> None:
    bed.port = free_port()
    await bed.publish(bed.topology(http=(str(bed.port), f"[::]:{bed.port}")))
    assert (await seen_from(bed, "127.0.0.1"))["x-real-ip"] == "127.0.0.1"
    assert (await seen_from(bed, "::1"))["x-real-ip"] == "::1"


async def test_a_client_of_ipv6_is_sent_to_https_and_served_there(bed: Bed, tmp_path: Path) -> None:
    secure, shop = free_port(), "shop.example.com"
    addresses = {"http": (f"[::1]:{bed.port}",), "https": (f"[::1]:{secure}",)}
    await bed.publish(bed.topology(bed.route(hosts=(shop,), tls=a_pair(tmp_path, "shop", shop)), **addresses))
    answer = await (await bed.client("::1")).ask("GET", "/x", {"Host": shop})
    assert (answer.status, answer.headers["location"]) == (308, f"https://{shop}:{secure}/x")


async def test_a_taken_address_of_ipv6_is_named_with_its_holder_and_its_twin_of_ipv4_is_free(bed: Bed) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as holder:
        port = holder.getsockname()[1]
        twins = (f"127.0.0.1:{port}", f"[::1]:{port}")
        (objection,) = await bed.proxy.check(bed.topology(http=twins))
    assert f"[::1]:{port} is taken by pid" in objection


async def test_a_taken_port_for_https_is_named_too(bed: Bed, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = f"127.0.0.1:{holder.getsockname()[1]}"
        topology = bed.topology(bed.route(tls=a_pair(tmp_path, "shop")), https=(taken,))
        (objection,) = await bed.proxy.check(topology)
    assert f"{taken} is taken by pid" in objection


def test_a_machine_without_ipv6_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_ipv6(*_: object) -> socket.socket:
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", without_ipv6)
    assert str(listens.obstacle("[::]:80")) == "[::]:80: this machine has no IPv6"


# --- the PROXY protocol ------------------------------------------------------------------------------------------

PREFACE = b"PROXY TCP4 203.0.113.9 192.0.2.1 56324 80\r\n"


async def seen_behind_a_balancer(bed: Bed, **claims: str) -> dict[str, str]:
    client = await bed.client()
    client.writer.write(PREFACE)
    headers: dict[str, str] = json.loads((await client.ask("GET", "/seen", claims)).body)["headers"]
    return headers


async def test_a_balancer_that_is_trusted_says_who_the_client_is(bed: Bed) -> None:
    await bed.publish(bed.topology(trusted=("127.0.0.0/8",), proxy_protocol=True))
    headers = await seen_behind_a_balancer(bed)
    assert headers["x-real-ip"] == headers["x-forwarded-for"] == "203.0.113.9"


async def test_what_the_client_says_of_itself_through_a_balancer_is_not_believed(bed: Bed) -> None:
    await bed.publish(bed.topology(trusted=("127.0.0.0/8",), proxy_protocol=True))
    headers = await seen_behind_a_balancer(bed, X_Forwarded_For="10.1.2.3", X_Forwarded_Proto="https")
    assert headers["x-real-ip"] == headers["x-forwarded-for"] == "203.0.113.9"
    assert headers["x-forwarded-proto"] == "http"


async def test_a_stranger_cannot_say_who_the_client_is(bed: Bed) -> None:
    await bed.publish(bed.topology(trusted=("10.0.0.0/8",), proxy_protocol=True))
    headers = await seen_behind_a_balancer(bed)
    assert headers["x-real-ip"] == headers["x-forwarded-for"] == "127.0.0.1"


async def test_a_connection_that_does_not_begin_with_the_protocol_is_closed(bed: Bed) -> None:
    await bed.publish(bed.topology(trusted=("127.0.0.0/8",), proxy_protocol=True))
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await bed.get()


async def test_the_protocol_comes_before_the_handshake_of_https(bed: Bed, tmp_path: Path) -> None:
    secure, shop = free_port(), "shop.example.com"
    tls = a_pair(tmp_path, "shop", shop)
    balanced = {"https": (f"127.0.0.1:{secure}",), "trusted": ("127.0.0.0/8",), "proxy_protocol": True}
    await bed.publish(bed.topology(bed.route(hosts=(shop,), tls=tls), **balanced))
    reader, writer = await asyncio.open_connection("127.0.0.1", secure)
    writer.write(PREFACE)
    await writer.start_tls(ssl.create_default_context(cafile=tls.cert), server_hostname=shop)
    seen = json.loads((await Client(reader, writer).ask("GET", "/seen", {"Host": shop})).body)
    assert seen["headers"]["x-real-ip"] == "203.0.113.9"
    writer.close()


# --- limits ------------------------------------------------------------------------------------------------------


async def test_a_cookie_may_be_as_long_as_the_limit_says(bed: Bed) -> None:
    async def answered(length: int) -> int:
        return (await bed.get(Cookie="c" * length)).status

    assert [await answered(7 << 10), await answered(20 << 10)] == [200, 400]
    await bed.publish(bed.topology(header_limits=HeaderLimits(line=32 << 10, lines=2)))
    assert [await answered(20 << 10), await answered(40 << 10)] == [200, 400]


# --- redirects ---------------------------------------------------------------------------------------------------


async def publish_redirects(bed: Bed, *redirects: Redirect) -> None:
    await bed.publish(bed.topology(bed.route(hosts=("shop.example.com",), redirects=redirects)))


async def led(bed: Bed, path: str, host: str = "shop.example.com") -> tuple[int, str]:
    answer = await bed.get(path, Host=host)
    return answer.status, answer.headers.get("location", answer.text)


async def test_a_path_is_sent_to_another_with_its_query_and_its_status(bed: Bed) -> None:
    await publish_redirects(
        bed,
        Redirect(path="/old", to="/new", status=301),
        Redirect(path="/", to="/welcome?from=root", status=302),
        Redirect(path="/docs", to="https://docs.example.com/start", status=307),
    )
    assert await led(bed, "/old?a=1&b=%20") == (301, "/new?a=1&b=%20")
    assert await led(bed, "/?a=1") == (302, "/welcome?from=root")
    assert await led(bed, "/docs") == (307, "https://docs.example.com/start")
    assert await led(bed, "/older") == await led(bed, "/old/x") == (200, "blue")


async def test_all_below_a_path_moves_with_what_follows_it(bed: Bed) -> None:
    await publish_redirects(bed, Redirect(path="/old/*", to="/new/*"), Redirect(path="/gone/*", to="/"))
    assert await led(bed, "/old/a%2Fb%20c?d=$e") == (308, "/new/a%2Fb%20c?d=$e")
    assert await led(bed, "/old") == await led(bed, "/old/") == (308, "/new/")
    assert await led(bed, "/gone/with/all?x") == (308, "/?x")
    assert await led(bed, "/older") == (200, "blue")


async def test_what_follows_a_path_never_leads_to_another_host(bed: Bed) -> None:
    await publish_redirects(bed, Redirect(path="/old/*", to="/*"))
    for wicked in ("/old//evil.example.com", "/old/\\evil.example.com", "/old///\\/evil.example.com"):
        assert await led(bed, wicked) == (308, "/evil.example.com")
    assert await led(bed, "//old//evil.example.com") == await led(bed, "/./old//evil.example.com") == (308, "/")


async def test_a_host_is_sent_to_another_with_the_whole_address(bed: Bed) -> None:
    await publish_redirects(
        bed,
        Redirect(host="old.example.com", to="https://shop.example.com/*", status=301),
        Redirect(host="*.old.example.com", to="https://shop.example.com/closed"),
    )
    assert await led(bed, "/a%2Fb?c=d", "old.example.com") == (301, "https://shop.example.com/a%2Fb?c=d")
    assert await led(bed, "/a", "x.old.example.com") == (308, "https://shop.example.com/closed")


async def test_a_host_that_is_sent_elsewhere_is_covered_by_the_certificate(bed: Bed, tmp_path: Path) -> None:
    old = Redirect(host="old.example.com", to="https://shop.example.com/*")
    route = bed.route(hosts=("shop.example.com",), redirects=(old,), tls=a_pair(tmp_path, "shop", "shop.example.com"))
    with pytest.raises(PublishRefused, match=r"is not for old\.example\.com"):
        await bed.publish(bed.topology(route, https=(f"127.0.0.1:{free_port()}",)))
