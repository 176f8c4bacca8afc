"""Containers by docker-py: the `Runtime` port. SDK types never leave this package.

Containers are found by name and held to our label; one without it is never touched. Start at DockerRuntime.start().
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from http.client import CONFLICT
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, ImageNotFound, NotFound

from proxyctl.adapters.docker import namespace
from proxyctl.adapters.docker.address import SERVING
from proxyctl.adapters.docker.calls import (
    ACT_LIMIT,
    ENGINE_ERRORS,
    FOREVER,
    EngineCalls,
    address_taken,
)
from proxyctl.adapters.docker.definition import carried, copied, named_volumes, options, restart_policy
from proxyctl.adapters.docker.execs import Execs, HookEnd
from proxyctl.adapters.docker.inspected import replica_state
from proxyctl.adapters.docker.networks import ProjectNetworks
from proxyctl.adapters.docker.pull import pull
from proxyctl.adapters.docker.reach import await_answer, is_here, refuse_a_stranger, refuse_way
from proxyctl.adapters.docker.removal import remove
from proxyctl.domain.container import Container, Hook, Pull
from proxyctl.domain.model import LOOPBACK, Colour, Incarnation, Release, Replica, Seconds, ServiceName
from proxyctl.errors import AddressTaken, ImageUnavailable, NameTaken, OutcomeUnknown, Unavailable
from proxyctl.ports import Image, Life, Network, ReplicaState, Traffic

START_LIMIT: Seconds = 60.0
HOOK_LIMIT: Seconds = 600.0  # for all hooks after a start
LOG_LINES = 20
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # names that the engine takes for others
LEAST_GRACE: Seconds = 1.0  # after the stop signal, when hooks took all of it


class DockerRuntime:
    """Implements `Runtime` for one project."""

    def __init__(self, project: str, state_root: Path) -> None:
        self._project = project
        self._networks = ProjectNetworks(project, state_root)
        self._engine = EngineCalls()
        self._execs = Execs(self._engine)

    async def check(self) -> None:
        """Raises DockerUnavailable where the engine does not answer, or nginx here cannot reach its containers."""
        await self._engine.look(self._networks.found, "looking at the slot network")

    async def resolve(self, definition: Container, progress: Callable[[str], None]) -> Image:
        await self.check()
        image = definition.image
        found = None if definition.pull_policy is Pull.ALWAYS else await self._local(definition)
        if found is None and definition.pull_policy is Pull.NEVER:
            raise ImageUnavailable(
                f"{image} is not on this host, and pull_policy is never",
                serving=SERVING,
                next_step=f"docker pull {image}, or build it",
            )
        if found is None:
            await pull(self._engine, image, definition.platform, progress)
            found = await self._local(definition)
        if found is None:
            wrong = f"is not for {definition.platform}" if definition.platform else "is gone again"
            raise ImageUnavailable(f"{image} is pulled and {wrong}", serving=SERVING, next_step="docker images")
        return Image(reference=image, digest=found)

    async def require_image(self, release: Release) -> None:
        def work(client: docker.DockerClient) -> None:
            try:
                client.images.get(release.digest)
            except ImageNotFound as error:
                raise _image_gone(release) from error

        await self._engine.look(work, f"looking up the image of {release.id}")

    async def require(self, definition: Container, names: Sequence[str]) -> None:
        def work(client: docker.DockerClient) -> None:
            wanted = definition if is_here(client) else carried(definition)
            _ = options(wanted), copied(wanted)  # which read what they refer to
            for network in definition.networks:
                _require_network(client, network)
            for name in names:
                self._found(client, name)

        await self._engine.look(work, f"looking for what {definition.image} needs")

    async def network(self) -> Network:
        return await self._engine.act(self._networks.made, "making the slot network")

    async def network_so_far(self) -> Network | None:
        """None where it is still to be made."""
        return await self._engine.look(self._networks.found, "looking at the slot network")

    async def start(self, release: Release, replica: Replica, colour: Colour, rollout: str) -> Replica:
        labels = self._labels(release, replica, colour, rollout)

        def work(client: docker.DockerClient) -> tuple[Incarnation, Sequence[Hook]]:
            self._networks.made(client)
            if standing := self._standing(client, release, replica):
                return standing, ()
            _refuse_taken_ports(release, replica)
            return self._made(client, release, replica, labels), release.service.container.post_start

        incarnation, hooks = await self._engine.act(work, f"starting {replica.name}", START_LIMIT)
        await self._after_start(replica.name, incarnation, hooks)
        return replica.replace(incarnation=incarnation)

    async def adopt_restart_policy(self, release: Release, names: Sequence[str]) -> None:
        policy = restart_policy(release.service.container.restart)

        def work(client: docker.DockerClient) -> None:
            for name in names:
                container = self._ours(client, name)
                if container is not None:
                    container.update(restart_policy=policy)

        await self._engine.act(work, f"updating {', '.join(names)}")

    async def stop(self, name: str, grace: Seconds, pre_stop: Sequence[Hook] = ()) -> str:
        failed, left = await self._before_stop(name, grace, pre_stop) if pre_stop else ("", grace)

        def work(client: docker.DockerClient) -> None:
            container = self._ours(client, name)
            if container is not None:
                _stop(container, left)
                remove(container)

        await self._engine.act(work, f"stopping {name}", ACT_LIMIT + left)
        return failed

    async def put_back(self, replicas: Sequence[Replica]) -> list[str]:
        """All leave before any comes: they may have each other's."""

        def work(client: docker.DockerClient) -> list[str]:
            seen = [(replica, self._state(client, replica.name)) for replica in replicas]
            astray = [(r, s) for r, s in seen if s.life is Life.RUNNING and s.address != r.ip]
            slots = client.networks.get(self._networks.slots)
            for replica, state in astray:
                if state.address:
                    slots.disconnect(replica.name)
            kept_out = [why for replica, _ in astray if (why := self._kept_out(client, slots, replica))]
            if kept_out:
                raise kept_out[0]
            return [replica.name for replica, _ in astray]

        return await self._engine.act(work, "putting containers back at their addresses")

    async def inspect(self, names: Sequence[str]) -> list[ReplicaState]:
        def work(client: docker.DockerClient) -> list[ReplicaState]:
            return [self._state(client, name) for name in names]

        return await self._engine.look(work, "inspecting containers")

    async def owned(self, service: ServiceName | None = None) -> list[ReplicaState]:
        labels = [f"proxyctl.project={self._project}"] + ([f"proxyctl.service={service}"] if service else [])

        def work(client: docker.DockerClient) -> list[ReplicaState]:
            listed = client.api.containers(all=True, filters={"label": labels})
            names = sorted(item["Names"][0].lstrip("/") for item in listed if item["Names"])
            states = [self._state(client, name) for name in names]
            return [state for state in states if state.life is not Life.ABSENT]

        return await self._engine.look(work, "listing containers")

    async def logs(self, name: str, tail: int) -> str:
        def work(client: docker.DockerClient) -> str:
            container = self._ours(client, name)
            return "" if container is None else container.logs(tail=tail).decode("utf-8", "replace")

        return await self._engine.look(work, f"reading the output of {name}")

    async def follow(self, name: str, tail: int) -> AsyncIterator[str]:
        """Lines as they come, until the container ends."""

        def chunks(client: docker.DockerClient) -> Iterable[bytes]:
            container = self._ours(client, name)
            if container is None:
                return ()
            stream: Iterable[bytes] = container.logs(stream=True, follow=True, tail=tail)
            return stream

        unfinished = b""
        async for chunk in self._engine.stream(chunks, f"following {name}", FOREVER):
            *lines, unfinished = (unfinished + chunk).split(b"\n")
            for line in lines:
                yield line.decode("utf-8", "replace")
        if unfinished:
            yield unfinished.decode("utf-8", "replace")

    async def traffic(self, name: str, port: int) -> Traffic:
        def work(client: docker.DockerClient) -> Traffic:
            container = self._ours(client, name)
            if container is None or container.status != "running":
                return Traffic(connections=0, quiet_for=math.inf)
            if self._networks.are_here(client):
                return namespace.traffic(container.id, container.attrs["State"]["Pid"], port)
            return namespace.traffic_from_here(self._state(client, name).address, port)

        return await self._engine.look(work, f"looking at the connections of {name}")

    async def stranger(self, port: int, containers: Sequence[str]) -> str:
        await self._engine.look(_refuse_elsewhere, "looking where the engine is")
        return await asyncio.to_thread(namespace.stranger, port, containers)

    async def run_in(self, name: str, command: Sequence[str]) -> int:
        """The exit code of a command inside a container of ours. Cancelled, the command is killed."""
        return await self._execs.exit_code(
            lambda client: self._run_of(client, name, command), f"running {command[0]} in {name}"
        )

    async def end_in(self, name: str, command: Hook) -> HookEnd:
        """How a command inside a container of ours ended, and what it wrote. Cancelled, it is killed. Raises
        Unavailable."""
        (seen,) = await self.inspect([name])
        if seen.life is not Life.RUNNING or seen.incarnation is None:
            raise Unavailable(f"{name} is {seen.life.value}")
        return await self._execs.end_of(command, seen.incarnation.container, f"running {command.command[0]} in {name}")

    async def remove_networks(self) -> None:
        """Both networks of the project; one that still has containers stays."""
        await self._engine.act(self._networks.remove, "removing networks")

    async def close(self) -> None:
        await self._engine.close()

    # --- images -----------------------------------------------------------------------------------------------

    async def _local(self, definition: Container) -> str | None:
        what = f"looking up {definition.image}"
        return await self._engine.look(lambda client: _local_image(client, definition), what)

    # --- hooks ------------------------------------------------------------------------------------------------

    async def _after_start(self, name: str, incarnation: Incarnation, hooks: Sequence[Hook]) -> None:
        """A hook that fails refuses the replica, and nothing of it is left."""
        try:
            async with asyncio.timeout(HOOK_LIMIT):
                for hook in hooks:
                    await self._hook(hook, "post_start", name, incarnation.container)
        except TimeoutError as late:
            await self.stop(name, 0.0)
            raise Unavailable(f"post_start of {name} took more than {HOOK_LIMIT / 60:g} min", serving=SERVING) from late
        except Unavailable as failed:
            failed.detail = failed.detail or await self.logs(name, LOG_LINES)
            await self.stop(name, 0.0)
            raise

    async def _before_stop(self, name: str, grace: Seconds, hooks: Sequence[Hook]) -> tuple[str, Seconds]:
        """Why a hook failed, which keeps no container from its end; and what is left of the grace period. A container
        that does not run has nothing to do before."""
        (seen,) = await self.inspect([name])
        if seen.life is not Life.RUNNING or seen.incarnation is None:
            return "", grace
        failed, deadline = "", asyncio.get_running_loop().time() + grace
        try:
            async with asyncio.timeout_at(deadline):
                for hook in hooks:
                    await self._hook(hook, "pre_stop", name, seen.incarnation.container)
        except TimeoutError:
            failed = f"pre_stop of {name} took more than the grace period of {grace:g} s"
        except Unavailable as error:
            failed = str(error)
        return failed, max(LEAST_GRACE, deadline - asyncio.get_running_loop().time())

    async def _hook(self, hook: Hook, kind: str, name: str, container: str) -> None:
        """Raises Unavailable, with its last words."""
        end = await self._execs.end_of(hook, container, f"running {kind} of {name}")
        if end.exit_code != 0:
            raise Unavailable(
                f"{kind} of {name}: {hook.command[0]} exited with code {end.exit_code}",
                detail=end.output,
                serving=SERVING,
                next_step=f"mend container.{kind}, or the image",
            )

    # --- one container ----------------------------------------------------------------------------------------

    def _ours(self, client: docker.DockerClient, name: str) -> Any | None:
        """Our container of that name; None when there is none. A stranger's is none of ours."""
        try:
            container = client.containers.get(name)
        except NotFound:
            return None
        return container if container.labels.get("proxyctl.project") == self._project else None

    def _state(self, client: docker.DockerClient, name: str) -> ReplicaState:
        try:
            return replica_state(name, client.api.inspect_container(name), self._project)
        except NotFound:
            return ReplicaState(name=name, life=Life.ABSENT)

    def _found(self, client: docker.DockerClient, name: str) -> Any | None:
        """Our container of that name; None where nobody has it. Raises NameTaken."""
        try:
            found = client.containers.get(name)
        except NotFound:
            return None
        if found.labels.get("proxyctl.project") != self._project:
            raise _name_taken(name)
        return found

    def _standing(self, client: docker.DockerClient, release: Release, replica: Replica) -> Incarnation | None:
        """The replica when it runs already; what is left of an earlier try is removed. Raises NameTaken."""
        found = self._found(client, replica.name)
        if found is None:
            return None
        seen = self._state(client, replica.name)
        same_release = (found.labels.get("proxyctl.release"), found.attrs["Image"]) == (release.id, release.digest)
        if seen.life is Life.RUNNING and same_release and seen.address == replica.ip:
            return seen.incarnation
        remove(found)
        return None

    def _made(
        self, client: docker.DockerClient, release: Release, replica: Replica, labels: dict[str, str]
    ) -> Incarnation:
        here = self._networks.are_here(client)
        definition = release.service.container if here else carried(release.service.container)
        container = self._create(client, release, definition, replica.name, labels)
        try:
            self._join(client, container, release, replica)
            if here or not release.service.routed:
                container.start()
            else:
                self._start_elsewhere(client, container, replica)
            return self._verified(client, replica)
        except BaseException as failure:
            _undo(container, failure)
            if address_taken(failure):
                raise self._taken(client, replica) from failure
            raise

    def _start_elsewhere(self, client: docker.DockerClient, container: Any, replica: Replica) -> None:
        """It, and nobody else, is what nginx here will meet at its address."""
        refuse_way(self._networks.subnet(client), replica.ip)
        refuse_a_stranger(replica.address, replica.name)
        container.start()
        await_answer(replica.address, replica.name, lambda: self._lives(client, replica.name))

    def _lives(self, client: docker.DockerClient, name: str) -> bool:
        return self._state(client, name).life is Life.RUNNING

    def _create(
        self,
        client: docker.DockerClient,
        release: Release,
        definition: Container,
        name: str,
        labels: dict[str, str],
    ) -> Any:
        given, files = options(definition), copied(definition)  # before anything is made: a secret may be missing
        network = self._own_networks(release)[0]
        host = given.pop("host_config") | {"NetworkMode": network, "RestartPolicy": restart_policy("no")}
        for volume in named_volumes(definition):
            client.volumes.create(
                volume, labels={"proxyctl.project": self._project}
            )  # one that is there stays as it is
        try:
            made = client.api.create_container(
                release.digest,
                name=name,
                labels=labels,
                detach=True,
                host_config=host,
                networking_config={"EndpointsConfig": {network: {}}},
                **given,
            )
        except ImageNotFound as error:
            raise _image_gone(release) from error
        except APIError as error:
            if error.status_code != CONFLICT:
                raise
            raise self._conflict(client, name) from error
        container = client.containers.get(made["Id"])
        if files:
            _put(container, files)
        return container

    def _join(self, client: docker.DockerClient, container: Any, release: Release, replica: Replica) -> None:
        """The slot network last: an internal one changes no default route."""
        if release.service.container.on_the_host:
            return
        for network in self._own_networks(release)[1:]:
            client.networks.get(network).connect(container)
        client.networks.get(self._networks.slots).connect(container, ipv4_address=replica.ip)

    def _kept_out(self, client: docker.DockerClient, slots: Any, replica: Replica) -> AddressTaken | None:
        """By whom; None where it has its address."""
        try:
            slots.connect(replica.name, ipv4_address=replica.ip)
        except APIError as error:
            if not address_taken(error):
                raise
            return self._taken(client, replica)
        return None

    def _verified(self, client: docker.DockerClient, replica: Replica) -> Incarnation:
        """It exists where it should; whether it lives on is the gate's question."""
        seen = self._state(client, replica.name)
        if seen.incarnation is None:
            raise Unavailable(f"{replica.name} is gone right after its start")
        if seen.life is Life.RUNNING and seen.address != replica.ip:
            raise AddressTaken(f"{replica.name} started at {seen.address or 'no address'} instead of {replica.ip}")
        return seen.incarnation

    def _conflict(self, client: docker.DockerClient, name: str) -> Unavailable:
        """Somebody made it since we looked: a stranger, or an earlier call of ours that was late."""
        if self._ours(client, name) is None:
            return _name_taken(name)
        return OutcomeUnknown(f"{name} is being started already", serving=SERVING, next_step="proxyctl recover")

    def _own_networks(self, release: Release) -> tuple[str, ...]:
        return release.service.container.networks or (self._networks.common,)

    def _labels(self, release: Release, replica: Replica, colour: Colour, rollout: str) -> dict[str, str]:
        return dict(release.service.container.labels) | {
            "proxyctl.project": self._project,
            "proxyctl.service": release.service.name,
            "proxyctl.release": release.id,
            "proxyctl.colour": colour.value,
            "proxyctl.replica": replica.name.rpartition("-")[2],
            "proxyctl.rollout": rollout,
        }

    def _taken(self, client: docker.DockerClient, replica: Replica) -> AddressTaken:
        holder = self._networks.holder(client, replica.ip) or "another container"
        return AddressTaken(
            f"{replica.name} cannot have {replica.ip}: {holder} has it",
            serving=SERVING,
            next_step=f"docker network disconnect {self._networks.slots} {holder}",
        )

    def _run_of(self, client: docker.DockerClient, name: str, command: Sequence[str]) -> str:
        container = self._ours(client, name)
        if container is None:
            raise Unavailable(f"{name} is gone")
        run: str = client.api.exec_create(container.id, list(command))["Id"]
        return run


def _refuse_elsewhere(client: docker.DockerClient) -> None:
    """Who is on the network of another host cannot be told from here. Raises DockerUnavailable."""
    if not is_here(client):
        refuse_way("", LOOPBACK)


def _refuse_taken_ports(release: Release, replica: Replica) -> None:
    for port in release.service.host_ports:
        if holder := namespace.stranger(port, ()):
            raise AddressTaken(
                f"{replica.name} cannot have {LOOPBACK}:{port}: {holder} has it",
                serving=SERVING,
                next_step="end that process, or have the service listen on another port",
            )


def _require_network(client: docker.DockerClient, name: str) -> None:
    try:
        client.networks.get(name)
    except NotFound as error:
        raise Unavailable(
            f"its container joins the network {name}, which is not there",
            serving=SERVING,
            next_step=f"docker compose up, if that makes it; else docker network create {name}",
        ) from error


def _image_gone(release: Release) -> ImageUnavailable:
    image = f"{release.image} ({release.digest[:19]})"
    return ImageUnavailable(
        f"{release.id} cannot be started: its image {image} is not on this host any more",
        serving=SERVING,
        next_step=f"docker pull {release.image} and repeat, if that name still means it;"
        f" else proxyctl deploy {release.service.name} --image REF",
    )


def _local_image(client: docker.DockerClient, definition: Container) -> str | None:
    try:
        found = client.images.get(definition.image)
    except ImageNotFound:
        return None
    return str(found.id) if _is_for(definition.platform, found.attrs) else None


def _is_for(platform: str | None, attrs: dict[str, Any]) -> bool:
    """As the engine has it: a part that is not said, by either, equals any."""
    os, architecture, variant = (*(platform or "").split("/"), "", "")[:3]
    wanted = (os, ARCHITECTURES.get(architecture, architecture), variant)
    own = (attrs["Os"], attrs["Architecture"], attrs.get("Variant"))
    return all(not want or not has or want == has for want, has in zip(wanted, own, strict=True))


def _put(container: Any, files: bytes) -> None:
    try:
        container.put_archive("/", files)
    except BaseException as failure:
        _undo(container, failure)
        raise


def _stop(container: Any, grace: Seconds) -> None:
    with suppress(NotFound):
        container.stop(timeout=math.ceil(grace))


def _undo(container: Any, failure: BaseException) -> None:
    try:
        remove(container)
    except ENGINE_ERRORS:
        raise OutcomeUnknown(
            f"{container.name} could not be started, and what was made of it may still be there",
            detail=str(failure),
            serving=SERVING,
            next_step="proxyctl recover",
        ) from failure


def _name_taken(name: str) -> NameTaken:
    return NameTaken(
        f"a container named {name} exists and is not proxyctl's",
        serving=SERVING,
        next_step=f"docker rename {name} ANOTHER-NAME, or docker rm {name}",
    )
