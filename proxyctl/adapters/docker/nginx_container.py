"""nginx out of an image, on the host's network: the program of `proxy.mode: container`. Start at ContainerProgram.

The state's public folder is mounted read-only at its own path, so nginx finds in the container what is written on the
host, and an nginx that Docker starts again after a reboot starts with what is in force. Its master is a process of this
host like any other: it is watched and signalled as one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import docker
from docker.errors import APIError, ImageNotFound, NotFound

from proxyctl.adapters.docker.calls import EngineCalls, Work
from proxyctl.adapters.docker.definition import restart_policy
from proxyctl.adapters.places import Places
from proxyctl.domain.model import ProxySettings, Seconds
from proxyctl.errors import NginxUnavailable, Unavailable
from proxyctl.ports import Ended

T = TypeVar("T")

LABEL = "proxyctl.proxy"  # its value is the project; replicas carry other labels
PULL_LIMIT: Seconds = 1800.0
RUN_LIMIT: Seconds = 20.0
STARTS_WITHIN: Seconds = 10.0
LOOK_EVERY: Seconds = 0.02
INSTEAD = "install nginx on this host and write mode: process under proxy"
# Docker may start it again after an unclean end, which leaves a socket that no nginx could listen on. And each request
# needs two open files.
SCRIPT = 'ulimit -n "$(ulimit -H -n)"; rm -f "$1"; exec "$2" -g "daemon off;" -e "$3" -c "$4"'


class ContainerProgram:
    """Implements `NginxProgram` for one project."""

    def __init__(self, project: str, places: Places, settings: ProxySettings, engine: EngineCalls) -> None:
        self._project = project
        self._places = places
        self._image = settings.image
        self._binary = settings.binary
        self._engine = engine

    @property
    def name(self) -> str:
        return f"{self._project}-nginx"

    async def run(self, *arguments: str, sees: Path | None = None) -> Ended:
        """In a container of its own, without a network."""
        await self._there()
        mounts = [_mount(sees, "rw")] if sees else []

        def work(client: docker.DockerClient) -> Ended:
            labels = {LABEL: self._project}
            container = client.containers.create(
                self._image,
                list(arguments),
                entrypoint=[self._binary],
                network_mode="none",
                volumes=mounts,
                labels=labels,
            )
            try:
                container.start()
                return _ended(container)
            finally:
                container.remove(force=True, v=True)

        return await self._asked(work, f"running {self._binary} out of {self._image}", RUN_LIMIT)

    async def test(self, config: Path, sees: Path) -> Ended:
        return await self.run("-e", "stderr", "-t", "-c", str(config), sees=sees)

    async def master(self) -> int | None:
        """A master of ours has our files."""

    async def start(self, config: Path, error_log: Path) -> Ended:
        await self._there()
        socket = self._places.control_socket
        words = [SCRIPT, "sh", str(socket), self._binary, str(error_log), str(config)]
        await self._asked(lambda client: self._made(client, words), f"starting {self.name}", RUN_LIMIT)
        deadline = asyncio.get_running_loop().time() + STARTS_WITHIN
        while not socket.exists() and asyncio.get_running_loop().time() < deadline:
            if ended := await self._asked(self._given_up, f"looking at {self.name}"):
                return ended
            await asyncio.sleep(LOOK_EVERY)
        await self._again_after_a_reboot("unless-stopped")
        return Ended(code=0, said="")

    async def let_end(self) -> None:
        await self._again_after_a_reboot("no")

    async def clear_away(self) -> None:
        await self._asked(self._remove, f"removing {self.name}")

    async def _again_after_a_reboot(self, policy: str) -> None:
        def work(client: docker.DockerClient) -> None:
            if container := self._ours(client):
                container.update(restart_policy=restart_policy(policy))

        await self._asked(work, f"updating {self.name}")

    async def _there(self) -> None:
        def work(client: docker.DockerClient) -> None:
            if why := hindrance(client):
                raise NginxUnavailable(f"proxy.mode: container cannot work here: {why}", next_step=INSTEAD)
            try:
                client.images.get(self._image)
            except ImageNotFound:
                client.images.pull(self._image)

        await self._asked(work, f"pulling {self._image}", PULL_LIMIT)

    async def _asked(self, work: Work[T], what: str, limit: Seconds = RUN_LIMIT) -> T:
        try:
            return await self._engine.act(work, what, limit)
        except NginxUnavailable:
            raise
        except Unavailable as error:
            raise NginxUnavailable(str(error), detail=error.detail, next_step=error.next_step) from error

    def _made(self, client: docker.DockerClient, words: Sequence[str]) -> None:
        """Without a restart policy: one that cannot start is not to be tried for ever."""
        self._remove(client)
        container = client.containers.create(
            self._image,
            list(words),
            name=self.name,
            entrypoint=["/bin/sh", "-c"],
            labels={LABEL: self._project},
            network_mode="host",
            volumes=self._mounts(),
            stop_signal="SIGQUIT",
        )
        try:
            container.start()
        except APIError:
            container.remove(force=True, v=True)
            raise

    def _remove(self, client: docker.DockerClient) -> None:
        if left := self._ours(client):
            left.remove(force=True, v=True)

    def _mounts(self) -> list[str]:
        own = (self._places.nginx_logs, self._places.temp, self._places.nginx)
        return [_mount(self._places.public, "ro"), *(_mount(folder, "rw") for folder in own)]

    def _given_up(self, client: docker.DockerClient) -> Ended | None:
        container = self._ours(client)
        if container is None:
            return Ended(code=1, said=f"the container {self.name} is gone right after its start")
        return None if container.status in ("created", "running") else _ended(container)

    def _ours(self, client: docker.DockerClient) -> Any | None:
        try:
            container = client.containers.get(self.name)
        except NotFound:
            return None
        if container.labels.get(LABEL) != self._project:
            raise NginxUnavailable(
                f"a container named {self.name} exists and is not proxyctl's",
                serving="traffic stays as it is",
                next_step=f"docker rename {self.name} ANOTHER-NAME, or docker rm {self.name}",
            )
        return container


def hindrance(client: docker.DockerClient) -> str:
    """Why an nginx in a container of this engine could not be on the host's network and watched from here."""
    if os.geteuid() != 0:
        return "only root may watch and signal an nginx that a container runs"
    if not client.api.base_url.startswith("http+docker:"):
        return "the engine is another machine's"
    told = client.info()
    if "Docker Desktop" in told["OperatingSystem"]:
        return "Docker Desktop runs containers in a machine of its own"
    if any(option.startswith(("name=rootless", "name=userns")) for option in told.get("SecurityOptions") or ()):
        return "this engine gives no container the host's network (rootless, or userns-remap)"
    return ""


def _mount(folder: Path, mode: str) -> str:
    return f"{folder}:{folder}:{mode}"


def _ended(container: Any) -> Ended:
    code = container.wait()["StatusCode"]
    return Ended(code=code, said=container.logs().decode("utf-8", "replace").strip())
