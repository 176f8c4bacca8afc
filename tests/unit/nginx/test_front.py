"""The side that clients meet: both families of addresses, real addresses behind a balancer, redirects, limits."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxyctl.adapters.nginx import listens
from tests.certificates import a_pair
from tests.nginx_bed import BLUE, DEBIAN, MAINLINE, WEB, Bed, a_bed, all_to, free_port

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
    assert listens.obstacle("[::]:80") == "[::]:80: this machine has no IPv6"
