"""Somebody's hand moves containers to each other's addresses, or a stranger's to one of ours: what answers there is
not what passed the gate, and nobody calls it so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import docker
import pytest
from docker.models.containers import Container

from tests.e2e.invariants import spoke_plainly
from tests.e2e.pair import file_says, standing_pair
from tests.e2e.shop import ONE, THREE, TWO, Shop, ended

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("addresses")]  # one project for the file

SAYS = {ONE: b"1", TWO: b"2", THREE: b"3"}
SETTLES_WITHIN = 15.0  # the kernel forgets where an address was, and nginx who did not answer


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with standing_pair() as made:
        yield made


async def answering(shop: Shop) -> set[bytes]:
    """The releases that users get."""
    return {(await shop.get("/")).rpartition(b"\r\n\r\n")[2].strip() for _ in range(8)}


async def only_the_live_release_answers(shop: Shop) -> None:
    deadline, said = time.monotonic() + SETTLES_WITHIN, {SAYS[(await the(shop, "live"))["image"]]}
    while (now := await answering(shop)) != said:
        assert time.monotonic() < deadline, (now, said)


async def the(shop: Shop, role: str) -> dict[str, str]:
    found: dict[str, str] = next(release for release in (await shop.web())["releases"] if release["role"] == role)
    return found


async def swap(shop: Shop, one: str, other: str) -> None:
    """Each replica of one release gets the address of a replica of the other."""

    def each() -> None:
        with closing(docker.from_env()) as engine:
            slots = engine.networks.get(f"proxyctl-{shop.scene.project}-slots")
            pair = [shop.containers(f"release={release}") for release in (one, other)]
            addresses = [[c.attrs["NetworkSettings"]["Networks"][slots.name]["IPAddress"] for c in cs] for cs in pair]
            for container in (*pair[0], *pair[1]):
                slots.disconnect(container)
            for containers, others in zip(pair, reversed(addresses), strict=True):
                for container, address in zip(containers, others, strict=True):
                    slots.connect(container, ipv4_address=address)

    await asyncio.to_thread(each)


@pytest.mark.parametrize("mended", ["recover", f"deploy web --image {THREE}"])
async def test_releases_that_have_each_others_addresses_are_not_called_healthy_and_are_put_back(
    shop: Shop, mended: str
) -> None:
    pair = [(await the(shop, role)) for role in ("live", "standby")]
    await swap(shop, pair[0]["id"], pair[1]["id"])
    assert SAYS[pair[1]["image"]] in await answering(shop), "the fault happened"
    for release in pair:
        assert await shop.health(release["id"]) == {"misplaced"}
    assert "where another may answer for it; proxyctl recover" in (await shop.type("status")).out
    back = await shop.type("rollback", "web")
    spoke_plainly(back)
    assert (back.code, "proxyctl recover web, which puts it back" in back.err) == (5, True), back
    said = await shop.type(*mended.split())
    assert (said.code, "back at their addresses" in said.err) == (0, True), said
    await only_the_live_release_answers(shop)
    assert (await shop.type("rollback", "web")).code == 0
    await only_the_live_release_answers(shop)
    assert (await shop.web())["drift"] == []


async def test_a_candidate_at_another_address_is_taken_back_while_it_bakes(shop: Shop) -> None:
    """Its probes would pass: somebody healthy answers them."""
    before = await the(shop, "live")
    with file_says(shop, "bake: 0s", "bake: 60s"):
        deploying = await shop.start("deploy", "web", "--image", TWO)
        await shop.until("baking")
        candidate = next(r["id"] for r in (await shop.web())["releases"] if r["id"] != before["id"])
        await swap(shop, before["id"], candidate)
        said = await ended(deploying)
    assert (said.code, "instead of" in said.err) == (5, True), said
    await shop.at_rest()
    assert (await shop.type("recover")).code == 0
    assert (await the(shop, "live"))["id"] == before["id"]
    await only_the_live_release_answers(shop)


async def test_a_stranger_at_one_address_keeps_no_other_replica_from_its_own(shop: Shop) -> None:
    live = await the(shop, "live")
    first, second = (str(container.name) for container in shop.containers(f"release={live['id']}"))
    address = (await shop.replicas(live["id"]))[first]["address"].partition(":")[0]
    for name in (first, second):
        await asyncio.to_thread(leave, shop, name)
    with a_stranger(shop, ONE, address):
        said = await shop.type("recover")
        spoke_plainly(said)
        assert (said.code, f"{first} cannot have {address}" in said.err) == (6, True), said
        health = {name: replica["health"] for name, replica in (await shop.replicas(live["id"])).items()}
        assert health == {first: "misplaced", second: "healthy"}
    said = await shop.type("recover")
    assert (said.code, f"back at their addresses, from which somebody moved them: {first}" in said.err) == (0, True), (
        said
    )
    await only_the_live_release_answers(shop)


def leave(shop: Shop, name: str) -> None:
    with closing(docker.from_env()) as engine:
        engine.networks.get(f"proxyctl-{shop.scene.project}-slots").disconnect(name)


async def test_a_stranger_at_the_address_of_a_replica_that_died_is_not_called_ours(shop: Shop) -> None:
    live = await the(shop, "live")
    victim = shop.containers(f"release={live['id']}")[0]
    address = (await shop.replicas(live["id"]))[str(victim.name)]["address"].partition(":")[0]
    await asyncio.to_thread(victim.stop, timeout=1)
    with a_stranger(shop, TWO if live["image"] != TWO else ONE, address) as stranger:
        deadline = time.monotonic() + SETTLES_WITHIN
        while len(await answering(shop)) == 1:
            assert time.monotonic() < deadline, "the fault happened"
        assert (await shop.replicas(live["id"]))[str(victim.name)]["health"] == "exited"
        assert f"{victim.name} is exited" in (await shop.type("recover")).err
        said = await shop.type("deploy", "web", "--image", THREE)
        assert said.code == 0, said
        await only_the_live_release_answers(shop)
        stranger.reload()
        assert stranger.status == "running"


@contextmanager
def a_stranger(shop: Shop, image: str, address: str) -> Iterator[Container]:
    """A container without our label, on our network, that answers there."""
    with closing(docker.from_env()) as engine:
        slots = engine.networks.get(f"proxyctl-{shop.scene.project}-slots")
        made = engine.containers.create(image, name=f"{shop.scene.project}-stranger")
        try:
            slots.connect(made, ipv4_address=address)
            made.start()
            yield made
        finally:
            made.remove(force=True)
