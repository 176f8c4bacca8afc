"""An engine on another host: nginx here, replicas there, and a route between them; or why it is refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from ipaddress import IPv4Network

import docker
import pytest

from tests.e2e.invariants import spoke_plainly
from tests.e2e.shop import TWO, Said, Shop, open_shop, traffic_stays
from tests.far_host import FarHost, far_host, ip

pytestmark = pytest.mark.docker


FILE = """\
project: PROJECT
proxy: {http: "127.0.0.1:PORT"}
services:
  web:
    container: {image: "proxyctl-demo:1", stop_grace_period: 1s}
    port: 8000
    health: {path: /healthz, interval: 100ms, healthy: 2, deadline: 6s}
    bake: 0s
    standby: 10m
    drain: 500ms
"""


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarHost]:
    with far_host(tmp_path_factory.mktemp("far")) as made:
        yield made


@pytest.fixture
async def shop(far: FarHost, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    for name, value in far.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # would go over the engine's own in docker.from_env()
        monkeypatch.delenv(name, raising=False)
    try:
        async with open_shop(file=FILE) as made:
            yield made
    finally:
        ip(f"route flush root {far.pool}")


def slots(shop: Shop) -> str:
    """The subnet of its slot network."""
    with closing(docker.from_env()) as engine:
        network = engine.networks.get(f"proxyctl-{shop.scene.project}-slots")
        return str(network.attrs["IPAM"]["Config"][0]["Subnet"])


@contextmanager
def here(done: str, undone: str) -> Iterator[None]:
    ip(done)
    try:
        yield
    finally:
        ip(undone)


@contextmanager
def there(far: FarHost, done: str, undone: str) -> Iterator[None]:
    far.run(done)
    try:
        yield
    finally:
        far.run(undone)


def route(shop: Shop, far: FarHost) -> None:
    """From here to its slots, for the rest of the test."""
    ip(f"route add {slots(shop)} via {far.address}")


async def refused(shop: Shop, command: str, code: int, *words: str) -> Said:
    said = await shop.type(*command.split())
    spoke_plainly(said)
    assert said.code == code, said
    for word in words:
        assert word in said.err, said.err
    return said


async def addresses(shop: Shop) -> list[str]:
    """Of the replicas that the next deploy would start, without their port."""
    (planned,) = json.loads((await shop.type("plan", "web", "--json")).out)
    return [replica["address"].partition(":")[0] for replica in planned["replicas"]]


async def test_releases_come_and_go_once_a_route_leads_there(shop: Shop, far: FarHost) -> None:
    await refused(shop, "deploy", 6, "is not on this host", "route leads to")
    await refused(shop, "check", 3, f"ip route add {slots(shop)} via")
    assert shop.containers() == []
    shop.write("proxy: {", "proxy: {mode: container, ")
    await refused(shop, "check", 3, "proxy.mode: container cannot work here: the engine is another machine's")
    shop.write("mode: container, ", "")
    route(shop, far)
    assert (await shop.type("check")).code == 0
    assert (await shop.type("deploy")).code == 0
    async with traffic_stays(shop):
        assert (await shop.type("deploy", "web", "--image", TWO)).code == 0
        assert (await shop.get("/")).endswith(b"2\n")
        back = await shop.type("rollback", "web")
        assert (back.code, back.err) == (0, "live: web: web-1 (blue) 100 %\n")
    assert (await shop.get("/")).endswith(b"1\n")
    assert (await shop.type("deploy", "web", "--image", TWO)).code == 0
    told = (await shop.type("events", "web")).out
    assert "web-2 drained and removed" in told
    assert "could not be seen" not in told


async def test_who_is_not_the_replica_never_passes_for_it(shop: Shop, far: FarHost) -> None:
    """At the address of the next replica is, in turn: this host, a third one, and nobody."""
    await refused(shop, "deploy", 6, "route leads to")
    route(shop, far)
    assert (await shop.type("deploy")).code == 0
    (taken,) = await addresses(shop)
    async with traffic_stays(shop):
        with here(f"address add {taken}/32 dev lo", f"address delete {taken}/32 dev lo"):
            await refused(shop, f"deploy web --image {TWO}", 5, "is a network of this host too (lo)")
        with there(far, f"ip address add {taken}/32 dev lo", f"ip address delete {taken}/32 dev lo"):
            await refused(shop, f"deploy web --image {TWO}", 5, "something refuses connections there before")
        closed = f"DOCKER-USER -d {taken} -j DROP"
        with there(far, f"iptables -I {closed}", f"iptables -D {closed}"):
            await refused(shop, f"deploy web --image {TWO}", 5, f"runs, and nothing answers at {taken}")
    assert {container.labels["proxyctl.release"] for container in shop.containers()} == {"web-1"}
    assert (await shop.type("deploy", "web", "--image", TWO)).code == 0


async def test_a_forgotten_docker_host_does_not_begin_anew_on_the_engine_here(
    shop: Shop, far: FarHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    await refused(shop, "deploy", 6, "route leads to")
    route(shop, far)
    assert (await shop.type("deploy")).code == 0
    with monkeypatch.context() as forgotten:
        for name in far.environment:
            forgotten.delenv(name)
        for command, code in (("check", 3), ("deploy", 6)):
            await refused(shop, command, code, f"on the engine at {far.engine}", f"export DOCKER_HOST={far.engine}")
    assert (await shop.get("/")).endswith(b"1\n")


async def test_a_network_of_the_same_addresses_here_is_avoided_and_else_refused(shop: Shop, far: FarHost) -> None:
    """Whatever has such an address here would be taken for a replica there."""
    bridge, first = far.name.replace("far", "same"), far.pool.replace("/24", "/27")
    with here(f"link add {bridge} type bridge", f"link delete {bridge}"):
        ip(f"link set {bridge} up")
        ip(f"address add {last_of(first)} dev {bridge}")
        await refused(shop, "deploy", 6, "route leads to")
        assert slots(shop) != first, "Docker picked it first"
        ip(f"address add {last_of(slots(shop))} dev {bridge}")
        why = f"{slots(shop)} is a network of this host too ({bridge})"
        await refused(shop, "check", 3, why)
        await refused(shop, "deploy", 6, why, "give its slot network another subnet")
    assert shop.containers() == []
    route(shop, far)
    assert (await shop.type("deploy")).code == 0


def last_of(subnet: str) -> str:
    network = IPv4Network(subnet)
    return f"{network[-2]}/{network.prefixlen}"
