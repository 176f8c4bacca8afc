"""The two networks of a project: the slot network with its fixed addresses, and an ordinary one for what names none.

Both carry our label; a network without it is left alone. Start at made().
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, NotFound
from docker.types import IPAMConfig, IPAMPool

from proxyctl.adapters.docker.address import SERVING, meant
from proxyctl.adapters.docker.inspected import slot_network_name
from proxyctl.adapters.docker.reach import has_its_bridge_here, is_network_here, refuse_way
from proxyctl.adapters.durable import put, told_in_words
from proxyctl.adapters.places import PRIVATE_MODE, Places, make_folder
from proxyctl.errors import DockerUnavailable, NameTaken, StateUnusable
from proxyctl.ports import Network

MOST_SLOTS = 4096

MOST_PICKS = 16
TRIES = 3  # another program may take the subnet while it is given back


class ProjectNetworks:
    def __init__(self, project: str, state_root: Path) -> None:
        self._project = project
        self._state_root = state_root
        self._places = Places(state_root)
        self.slots = slot_network_name(project)
        self.common = f"proxyctl-{project}"  # for containers whose definition names no network

    def made(self, client: docker.DockerClient) -> Network:
        """The slot network, both being there. Raises NameTaken, StateUnusable when another state folder owns it, or
        DockerUnavailable when nginx here cannot reach it."""
        with _alone_in(self._state_root):
            found = self._ours(client, self.slots)
            if found is None:
                self._refuse_to_move()
            if found is None or not _complete(found):
                found = self._make_slots(client, found)
            self._check_owner(found)
            slots = _reached(found)
            self._remember_engine()
            if self._ours(client, self.common) is None:
                client.networks.create(self.common, labels=self._labels, check_duplicate=True)
        return slots

    def found(self, client: docker.DockerClient) -> Network | None:
        """The slot network as it is; None where it is still to be made. Raises like made()."""
        found = self._ours(client, self.slots)
        if found is None:
            self._refuse_to_move()
        if found is None or not _complete(found):
            return None
        self._check_owner(found)
        return _reached(found)

    def are_here(self, client: docker.DockerClient) -> bool:
        """Or on another host. The slot network is there."""
        return has_its_bridge_here(client.networks.get(self.slots).attrs)

    def subnet(self, client: docker.DockerClient) -> str:
        """Of the slots."""
        return _pool(client.networks.get(self.slots))["Subnet"]

    def remove(self, client: docker.DockerClient) -> None:
        """One that still has containers stays."""
        for network in client.networks.list(filters={"label": f"proxyctl.project={self._project}"}):
            with suppress(APIError):
                network.remove()
                if network.name == self.slots:
                    self._places.engine.unlink(missing_ok=True)

    def holder(self, client: docker.DockerClient, ip: str) -> str:
        """The running container that has this address on the slot network; empty when none is seen."""
        members = client.networks.get(self.slots).attrs["Containers"] or {}
        return next((m["Name"] for m in members.values() if m["IPv4Address"].partition("/")[0] == ip), "")

    @property
    def _labels(self) -> dict[str, str]:
        return {"proxyctl.project": self._project, "proxyctl.state": str(self._state_root)}

    def _ours(self, client: docker.DockerClient, name: str) -> Any | None:
        try:
            network = client.networks.get(name)
        except NotFound:
            return None
        if (network.attrs["Labels"] or {}).get("proxyctl.project") != self._project:
            raise NameTaken(
                f"a network named {name} exists and is not proxyctl's",
                serving="nothing was changed",
                next_step=f"docker network rm {name}, or another project name",
            )
        return network

    def _check_owner(self, network: Any) -> None:
        owner = network.attrs["Labels"].get("proxyctl.state")
        if owner != str(self._state_root):
            raise StateUnusable(
                f"project {self._project} has its state in {owner}, not in {self._state_root}",
                serving="unchanged",
                next_step=f"proxyctl --state {owner} ..., or another project name",
            )

    def _remember_engine(self) -> None:
        with told_in_words(self._state_root):
            make_folder(self._places.private, PRIVATE_MODE)
            if self._engine_before() != meant().host:
                put(self._places.engine, meant().host)

    def _engine_before(self) -> str:
        with told_in_words(self._state_root), suppress(FileNotFoundError):
            return self._places.engine.read_text()
        return ""

    def _refuse_to_move(self) -> None:
        """The slot network is not on the engine that is meant: then it is another one than before, unless somebody took
        the network away."""
        before = self._engine_before()
        if before not in ("", meant().host):
            raise DockerUnavailable(
                f"the containers of project {self._project} are on the engine at {before},"
                f" and {meant().host} is meant now",
                serving=SERVING,
                next_step=f"export DOCKER_HOST={before}; or give up what is there: rm {self._places.engine}",
            )

    def _make_slots(self, client: docker.DockerClient, unfinished: Any | None) -> Any:
        """Docker picks a free subnet; then the network is made again with that subnet, so that addresses may be chosen.
        Dynamic addresses come from the upper half and never meet a slot."""
        for tries_left in reversed(range(TRIES)):
            pool = self._picked(client, unfinished)
            unfinished = None
            try:
                return self._make_with(client, pool)
            except APIError:
                if not tries_left:
                    raise
        raise AssertionError("the last try returns or raises")

    def _picked(self, client: docker.DockerClient, unfinished: Any | None) -> dict[str, str]:
        """An engine on another host does not know the networks of this one: while it picks one of them, it keeps that
        and picks again."""
        for left in client.networks.list(filters={"label": f"proxyctl.project={self._project}"}):
            if str(left.name).startswith(f"{self.slots}-"):  # of a command that was killed while it picked
                left.remove()
        picked = [unfinished or client.networks.create(self.slots, internal=True, labels=self._labels)]
        try:
            picked[0].reload()
            self._check_owner(picked[0])
            while _means_another_here(picked[-1]) and len(picked) < MOST_PICKS:
                name = f"{self.slots}-{len(picked)}"
                picked.append(client.networks.create(name, internal=True, labels=self._labels))
                picked[-1].reload()
            return _pool(picked[-1])
        finally:
            for network in picked:
                network.remove()

    def _make_with(self, client: docker.DockerClient, picked: dict[str, str]) -> Any:
        subnet = ipaddress.IPv4Network(picked["Subnet"])
        _, upper = subnet.subnets()
        pool = IPAMPool(subnet=str(subnet), iprange=str(upper), gateway=picked["Gateway"])
        ipam = IPAMConfig(pool_configs=[pool])
        network = client.networks.create(
            self.slots, internal=True, ipam=ipam, labels=self._labels, check_duplicate=True
        )
        network.reload()
        return network


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One thread of one process at a time: the engine allows two networks of one name."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _reached(network: Any) -> Network:
    """Raises DockerUnavailable where nginx here cannot reach it."""
    slots = _as_slots(network)
    if not has_its_bridge_here(network.attrs):
        refuse_way(_pool(network)["Subnet"], slots.slots[0])
    return slots


def _means_another_here(network: Any) -> bool:
    return not has_its_bridge_here(network.attrs) and is_network_here(_pool(network)["Gateway"])


def _pool(network: Any) -> dict[str, str]:
    pools: list[dict[str, str]] = network.attrs["IPAM"]["Config"]
    return next(pool for pool in pools if ":" not in pool["Subnet"])


def _complete(network: Any) -> bool:
    """Not the leftover of a crash between picking the subnet and making the network with it."""
    return "IPRange" in _pool(network)


def _as_slots(network: Any) -> Network:
    pool = _pool(network)
    lower, _ = ipaddress.IPv4Network(pool["Subnet"]).subnets()
    gateway = pool["Gateway"]
    hosts = (str(ip) for ip in islice(lower.hosts(), MOST_SLOTS + 1))
    return Network(name=network.name, gateway=gateway, slots=tuple(ip for ip in hosts if ip != gateway))
