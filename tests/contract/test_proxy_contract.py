"""What every `Proxy` promises, on nginx and in memory."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from itertools import count

import pytest

from proxyctl.adapters.memory import MemoryProxy, MemoryWorld
from proxyctl.domain.model import Colour, Topology
from proxyctl.errors import NginxUnavailable, PublishRefused
from proxyctl.ports import Proxy, ProxyState
from tests.nginx_bed import DEBIAN, IN_A_CONTAINER, PROJECT, WEB, Bed, a_bed

REFUSED = "refused.example.com"


class Stage:
    """A proxy, lawful topologies for it, and one that it must refuse."""

    def __init__(self, proxy: Proxy, bed: Bed) -> None:
        self.proxy = proxy
        self.bed = bed
        self.refused = bed.topology(bed.route(hosts=(REFUSED,), blue=("127.0.0.2:99999",)))  # no such port
        self.claim: Callable[[], int] = count(1).__next__

    def with_host(self, host: str) -> Topology:
        return self.bed.topology(self.bed.route(hosts=(host,)))

    async def publish(self, topology: Topology) -> int:
        return await self.proxy.publish(topology, 1, self.claim)


@pytest.fixture(params=["memory", DEBIAN, pytest.param(IN_A_CONTAINER, marks=pytest.mark.docker)])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    if request.param != "memory":
        async with a_bed(request.param) as bed:
            yield Stage(bed.proxy, bed)
        return
    async with a_bed() as bed:
        world = MemoryWorld()
        world.refused_hosts.add(REFUSED)
        yield Stage(MemoryProxy(world), bed)


async def test_nothing_runs_before_the_first_publish(stage: Stage) -> None:
    status = await stage.proxy.status()
    assert (status.state, status.generation, status.observed) == (ProxyState.STOPPED, None, None)
    assert stage.proxy.topology() is None


async def test_a_publish_starts_the_proxy_and_is_observed(stage: Stage) -> None:
    number = await stage.publish(stage.with_host("a.example.com"))
    status = await stage.proxy.status()
    assert (status.state, status.generation, status.observed) == (ProxyState.RUNNING, number, number)


async def test_every_publish_of_something_new_has_a_higher_number(stage: Stage) -> None:
    numbers = [await stage.publish(stage.with_host(f"{name}.example.com")) for name in "abc"]
    assert numbers == sorted(set(numbers))
    assert (await stage.proxy.status()).observed == numbers[-1]


async def test_what_is_current_already_is_only_observed(stage: Stage) -> None:
    topology = stage.with_host("a.example.com")
    assert await stage.publish(topology) == await stage.publish(topology)


async def test_what_was_published_is_sound_and_stays_when_replaced_by_itself(stage: Stage) -> None:
    assert stage.proxy.damage() == ""
    topology = stage.with_host("a.example.com")
    number = await stage.publish(topology)
    assert stage.proxy.damage() == ""
    assert await stage.proxy.replace(topology, {}, 1, stage.claim) == number


async def test_the_current_topology_can_be_read_back(stage: Stage) -> None:
    topology = stage.with_host("a.example.com")
    await stage.publish(topology)
    assert stage.proxy.topology() == topology


async def test_a_refused_topology_leaves_the_last_one_in_force(stage: Stage) -> None:
    good = stage.with_host("a.example.com")
    number = await stage.publish(good)
    with pytest.raises(PublishRefused) as refusal:
        await stage.publish(stage.refused)
    assert refusal.value.detail
    assert stage.proxy.topology() == good
    assert (await stage.proxy.status()).observed == number


async def test_a_reload_of_what_did_not_change_is_done_already(stage: Stage) -> None:
    with pytest.raises(NginxUnavailable):
        await stage.proxy.reload(stage.claim)
    number = await stage.publish(stage.with_host("a.example.com"))
    assert await stage.proxy.reload(stage.claim) == number


async def test_a_difference_is_shown_only_where_there_is_one(stage: Stage) -> None:
    topology = stage.with_host("a.example.com")
    await stage.publish(topology)
    assert await stage.proxy.diff(topology) == ""
    assert "+" in await stage.proxy.diff(stage.with_host("b.example.com"))


async def test_a_check_has_no_effect(stage: Stage) -> None:
    assert await stage.proxy.check(stage.with_host("a.example.com")) == []
    assert (await stage.proxy.status()).state is ProxyState.STOPPED


async def test_a_stopped_proxy_starts_again_with_what_it_had(stage: Stage) -> None:
    number = await stage.publish(stage.with_host("a.example.com"))
    await stage.proxy.stop()
    assert (await stage.proxy.status()).state is ProxyState.STOPPED
    assert (await stage.proxy.start()).observed == number


async def test_starting_what_runs_and_stopping_what_does_not_is_done_already(stage: Stage) -> None:
    number = await stage.publish(stage.with_host("a.example.com"))
    assert (await stage.proxy.start()).observed == number
    for _ in range(2):
        await stage.proxy.stop()
    assert (await stage.proxy.status()).state is ProxyState.STOPPED


async def test_a_colour_is_reached_through_the_proxy_by_the_name_of_its_service(stage: Stage) -> None:
    endpoint = stage.proxy.endpoint(stage.bed.route(), Colour.GREEN)
    assert endpoint.socket
    assert endpoint.prefix == f"/upstream/{WEB}/green"
    assert PROJECT not in endpoint.host


@pytest.mark.docker
async def test_a_port_that_the_kernel_would_share_with_another_nginx_is_refused() -> None:
    async with a_bed(IN_A_CONTAINER) as bed:
        number = await bed.publish()
        with socket.create_server(("127.0.0.1", 0), reuse_port=True) as another:
            taken = f"127.0.0.1:{another.getsockname()[1]}"
            with pytest.raises(PublishRefused, match=f"{taken} is taken by pid"):
                await bed.publish(bed.topology(http=(*bed.settings.http, taken)))
        assert (await bed.proxy.status()).observed == number
