"""What every `Runtime` promises, on Docker and in memory; and that both `Inspector`s of Docker see the same."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import docker
import pytest

from proxyctl.adapters.docker.inspector import SocketInspector
from proxyctl.adapters.docker.runtime import DockerRuntime
from proxyctl.adapters.memory import MemoryInspector, MemoryRuntime, MemoryWorld
from proxyctl.domain.container import HOST_NETWORK, Hook
from proxyctl.domain.model import LOOPBACK, Colour, Container, Release, Replica, ServiceName
from proxyctl.errors import AddressTaken, ImageUnavailable, NameTaken, Unavailable
from proxyctl.ports import Inspector, Life, ReplicaState, Runtime
from tests.nginx_bed import free_port
from tests.releases import a_release

pytestmark = pytest.mark.docker

ROLLOUT = "web-r1"
FAILS = Hook(command=("false",))  # which no image of the demo has
NOWHERE = "127.0.0.1:1/nothing:1"  # nobody listens on port 1


class Ground(ABC):
    """A runtime, and what a test must do behind its back."""

    runtime: Runtime
    inspector: Inspector
    project: str

    @abstractmethod
    async def release(self, number: int = 1, image: str = "1", service: str = "web", **container: Any) -> Release: ...

    @abstractmethod
    def a_stranger(self, name: str) -> None:
        """A container that is not proxyctl's."""

    @abstractmethod
    def stranger_stands(self, name: str) -> bool: ...

    @abstractmethod
    def listening(self, port: int) -> AbstractContextManager[str]:
        """A stranger listens there meanwhile; what he is called."""

    @abstractmethod
    def restart(self, name: str) -> None: ...

    @abstractmethod
    def policy(self, name: str) -> str: ...

    async def replica(self, release: Release, ordinal: int = 1) -> Replica:
        address = (await self.runtime.network()).slots[ordinal]
        return Replica(name=f"{self.project}-{release.id}-{ordinal}", address=f"{address}:8000")

    async def on_the_host(self, number: int, port: int, image: str = "1") -> tuple[Release, Replica]:
        """A release that answers at this port of the host, and its replica, which is still to be started."""
        variables = (("PORT", str(port)),)
        release = await self.release(number, image, networks=(HOST_NETWORK,), environment=variables)
        service = release.service.replace(port=port)
        name = f"{self.project}-{release.id}-1"
        return release.replace(service=service), Replica(name=name, address=f"{LOOPBACK}:{port}")

    async def heard(self, port: int) -> None:
        """Somebody listens there."""
        async with asyncio.timeout(10):
            while not await self.runtime.stranger(port, ()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def started(self, release: Release, ordinal: int = 1) -> Replica:
        return await self.start(release, await self.replica(release, ordinal))

    async def start(self, release: Release, replica: Replica) -> Replica:
        return await self.runtime.start(release, replica, Colour.BLUE, ROLLOUT)

    async def seen(self, name: str) -> ReplicaState:
        (state,) = await self.runtime.inspect([name])
        return state

    async def ended(self, replica: Replica) -> ReplicaState:
        """Its state, once it runs no more."""
        async with asyncio.timeout(5):
            while (seen := await self.seen(replica.name)).life is Life.RUNNING:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return seen


class DockerGround(Ground):
    def __init__(self, engine: docker.DockerClient, project: str, root: Path, images: dict[str, str]) -> None:
        self._engine, self._images = engine, images
        self.project = project
        self.runtime = DockerRuntime(project, root)
        self.inspector = SocketInspector(project)

    async def release(self, number: int = 1, image: str = "1", service: str = "web", **container: Any) -> Release:
        resolved = await self.runtime.resolve(Container(image=self._images[image]), print)
        return a_release(number, resolved.reference, resolved.digest, service=service, **container)

    def a_stranger(self, name: str) -> None:
        self._engine.containers.create(self._images["1"], name=name, labels={"stranger": self.project})

    def stranger_stands(self, name: str) -> bool:
        return self._engine.containers.get(name).labels.get("stranger") == self.project

    @contextmanager
    def listening(self, port: int) -> Iterator[str]:
        with socket.create_server((LOOPBACK, port)):
            yield f"pid {os.getpid()} "

    def restart(self, name: str) -> None:
        self._engine.containers.get(name).restart(timeout=0)

    def policy(self, name: str) -> str:
        found: str = self._engine.containers.get(name).attrs["HostConfig"]["RestartPolicy"]["Name"]
        return found

    def sweep(self) -> None:
        for container in self._engine.containers.list(all=True, filters={"label": f"stranger={self.project}"}):
            container.remove(force=True)


class MemoryGround(Ground):
    def __init__(self) -> None:
        self._world = MemoryWorld()
        self._world.missing_images.add(NOWHERE)
        self._world.dies_at_start.add("exits")
        self.project = "shop"
        self.runtime = MemoryRuntime(self._world)
        self.inspector = MemoryInspector(self._world)

    async def release(self, number: int = 1, image: str = "1", service: str = "web", **container: Any) -> Release:
        resolved = await self.runtime.resolve(Container(image=image), print)
        return a_release(number, resolved.reference, resolved.digest, service=service, **container)

    def a_stranger(self, name: str) -> None:
        self._world.foreign_names.add(name)

    def stranger_stands(self, name: str) -> bool:
        return name in self._world.foreign_names

    @contextmanager
    def listening(self, port: int) -> Iterator[str]:
        self._world.strangers[port] = name = "pid 77 (python3)"
        yield name
        del self._world.strangers[port]

    def restart(self, name: str) -> None:
        self._world.restart(name)

    def policy(self, name: str) -> str:
        return self._world.policies[name]


@pytest.fixture(params=["docker", "memory"])
async def ground(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ground]:
    if request.param == "memory":
        yield MemoryGround()
        return
    engine, images = request.getfixturevalue("docker_engine"), request.getfixturevalue("demo_images")
    on_docker = DockerGround(engine, request.getfixturevalue("unique_project"), tmp_path, images)
    try:
        yield on_docker
    finally:
        on_docker.sweep()
        await on_docker.runtime.close()


async def test_an_image_is_pinned_to_one_digest(ground: Ground) -> None:
    first, again = await ground.release(), await ground.release()
    assert first.digest.startswith("sha256:")
    assert first.digest == again.digest


async def test_an_image_that_cannot_be_had_is_named(ground: Ground) -> None:
    with pytest.raises(ImageUnavailable, match=NOWHERE):
        await ground.runtime.resolve(Container(image=NOWHERE), print)


async def test_a_release_whose_image_is_gone_is_named_with_it(ground: Ground) -> None:
    release = await ground.release()
    await ground.runtime.require_image(release)
    gone = release.replace(image=NOWHERE, digest=f"sha256:{'0' * 64}")
    with pytest.raises(ImageUnavailable, match=f"{gone.id}.* its image {NOWHERE}"):
        await ground.runtime.require_image(gone)


async def test_slots_are_addresses_of_one_network_and_never_its_gateway(ground: Ground) -> None:
    network = await ground.runtime.network()
    assert len(set(network.slots)) == len(network.slots) >= 32
    assert network.gateway not in network.slots
    assert all(ipaddress.IPv4Address(slot).is_private for slot in network.slots)


async def test_the_slot_network_is_made_once(ground: Ground) -> None:
    assert await ground.runtime.network() == await ground.runtime.network()


async def test_a_started_replica_runs_at_its_address(ground: Ground) -> None:
    replica = await ground.started(await ground.release())
    seen = await ground.seen(replica.name)
    assert (seen.life, seen.address, seen.incarnation) == (Life.RUNNING, replica.ip, replica.incarnation)
    assert seen.incarnation is not None


async def test_a_replica_that_runs_already_is_only_observed(ground: Ground) -> None:
    release = await ground.release()
    first, again = await ground.started(release), await ground.started(release)
    assert first == again


async def test_replicas_of_one_release_start_at_once(ground: Ground) -> None:
    release = await ground.release()
    replicas = await asyncio.gather(*(ground.started(release, ordinal) for ordinal in (1, 2, 3)))
    states = await ground.runtime.inspect([replica.name for replica in replicas])
    assert [state.address for state in states] == [replica.ip for replica in replicas]


async def test_states_come_in_the_order_of_the_names(ground: Ground) -> None:
    here = await ground.started(await ground.release())
    names = ["nobody-1", here.name, "nobody-2"]
    states = await ground.runtime.inspect(names)
    assert [state.name for state in states] == names
    assert [state.life for state in states] == [Life.ABSENT, Life.RUNNING, Life.ABSENT]


async def test_what_is_owned_is_found_by_service(ground: Ground) -> None:
    web = await ground.started(await ground.release(service="web"), 1)
    api = await ground.started(await ground.release(service="api"), 2)
    assert {state.name for state in await ground.runtime.owned()} == {web.name, api.name}
    assert [state.name for state in await ground.runtime.owned(ServiceName("api"))] == [api.name]


async def test_a_stopped_replica_is_gone_and_stopping_it_again_is_done(ground: Ground) -> None:
    replica = await ground.started(await ground.release())
    await ground.runtime.stop(replica.name, 1.0)
    await ground.runtime.stop(replica.name, 1.0)
    assert (await ground.seen(replica.name)).life is Life.ABSENT
    assert await ground.runtime.owned() == []


async def test_an_address_is_free_again_after_a_stop(ground: Ground) -> None:
    old = await ground.started(await ground.release(1))
    await ground.runtime.stop(old.name, 1.0)
    new = await ground.started(await ground.release(2))
    assert new.address == old.address
    assert new.incarnation != old.incarnation


async def test_a_stranger_with_the_name_is_left_alone(ground: Ground) -> None:
    release = await ground.release()
    replica = await ground.replica(release)
    ground.a_stranger(replica.name)
    with pytest.raises(NameTaken, match=replica.name):
        await ground.start(release, replica)
    await ground.runtime.stop(replica.name, 1.0)
    assert (await ground.seen(replica.name)).life is Life.ABSENT  # none of ours
    assert ground.stranger_stands(replica.name)


async def test_a_taken_address_names_its_holder_and_leaves_nothing_behind(ground: Ground) -> None:
    holder = await ground.started(await ground.release(1))
    release = await ground.release(2)
    late = Replica(name=f"{ground.project}-{release.id}-1", address=holder.address)
    with pytest.raises(AddressTaken, match=holder.name):
        await ground.start(release, late)
    assert [state.name for state in await ground.runtime.owned()] == [holder.name]


async def test_a_hook_that_fails_after_the_start_leaves_nothing_behind(ground: Ground) -> None:
    release = await ground.release(post_start=(FAILS,))
    with pytest.raises(Unavailable, match=r"post_start of .*-web-1-1"):
        await ground.started(release)
    assert await ground.runtime.owned() == []


async def test_a_hook_that_fails_before_the_stop_is_told_and_keeps_nothing(ground: Ground) -> None:
    replica = await ground.started(await ground.release())
    assert "pre_stop of" in await ground.runtime.stop(replica.name, 5.0, (FAILS,))
    assert await ground.runtime.stop(replica.name, 5.0, (FAILS,)) == ""
    assert await ground.runtime.owned() == []


async def test_a_container_that_ends_at_once_is_seen_with_its_exit_code(ground: Ground) -> None:
    replica = await ground.started(await ground.release(image="exits"))
    seen = await ground.ended(replica)
    assert (seen.life, seen.exit_code) == (Life.EXITED, 3)
    assert await ground.runtime.logs(replica.name, 20)


async def test_what_an_ended_container_left_is_replaced(ground: Ground) -> None:
    release = await ground.release(image="exits")
    first = await ground.started(release)
    await ground.ended(first)
    again = await ground.started(release)
    assert again.incarnation != first.incarnation
    assert len(await ground.runtime.owned()) == 1


async def test_a_restart_makes_another_incarnation(ground: Ground) -> None:
    replica = await ground.started(await ground.release())
    ground.restart(replica.name)
    seen = await ground.seen(replica.name)
    assert (seen.life, seen.address) == (Life.RUNNING, replica.ip)
    assert seen.incarnation != replica.incarnation


async def test_a_candidate_is_not_restarted_before_its_promotion(ground: Ground) -> None:
    release = await ground.release()
    replica = await ground.started(release)
    assert ground.policy(replica.name) == "no"
    await ground.runtime.adopt_restart_policy(release, [replica.name])
    assert ground.policy(replica.name) == "always"


async def test_a_replica_on_the_host_answers_at_a_port_of_it_and_is_no_stranger_there(ground: Ground) -> None:
    release, replica = await ground.on_the_host(1, free_port())
    (port,) = release.service.host_ports
    started = await ground.start(release, replica)
    assert (await ground.seen(replica.name)).address == LOOPBACK
    assert await ground.start(release, replica) == started
    await ground.heard(port)
    assert started.incarnation is not None
    assert await ground.runtime.stranger(port, [started.incarnation.container]) == ""


async def test_a_port_of_the_host_that_somebody_has_is_refused_and_leaves_nothing_behind(ground: Ground) -> None:
    release, replica = await ground.on_the_host(1, free_port())
    (port,) = release.service.host_ports
    with ground.listening(port) as stranger:
        with pytest.raises(AddressTaken, match=rf"cannot have {LOOPBACK}:{port}: {re.escape(stranger)}"):
            await ground.start(release, replica)
        assert await ground.runtime.owned() == []
    await ground.start(release, replica)


async def test_another_release_is_a_stranger_at_a_port_until_it_left(ground: Ground) -> None:
    port = free_port()
    (old, first), (new, second) = await ground.on_the_host(1, port), await ground.on_the_host(2, port)
    await ground.start(old, first)
    await ground.heard(port)
    with pytest.raises(AddressTaken):
        await ground.start(new, second)
    await ground.runtime.stop(first.name, 2.0)
    await ground.start(new, second)


async def test_nobody_connected_is_quiet_for_ever(ground: Ground) -> None:
    replica = await ground.started(await ground.release())
    traffic = await ground.runtime.traffic(replica.name, 8000)
    assert (traffic.connections, traffic.quiet_for) == (0, float("inf"))


async def test_the_light_inspector_sees_what_the_runtime_sees(ground: Ground) -> None:
    running = await ground.started(await ground.release(1), 1)
    ended = await ground.started(await ground.release(2, image="exits"), 2)
    ground.a_stranger(stranger := f"{ground.project}-stranger")
    names = [running.name, ended.name, "nobody", stranger]
    await ground.ended(ended)
    assert await ground.inspector.inspect(names) == await ground.runtime.inspect(names)
