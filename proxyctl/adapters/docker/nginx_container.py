"""nginx out of an image, on the host's network: the program of `proxy.mode: container`. Start at ContainerProgram.

The state's public folder is mounted read-only at its own path, so nginx finds in the container what is written on the
host, and an nginx that Docker starts again after a reboot starts with what is in force. Its master is a process of this
host like any other: it is watched and signalled as one.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

import docker
from docker.errors import APIError, ImageNotFound, NotFound

from proxyctl.adapters.docker.calls import SILENCE, EngineCalls, Work
from proxyctl.adapters.docker.definition import restart_policy
from proxyctl.adapters.docker.pull import PullProgress, layers
from proxyctl.adapters.places import Places
from proxyctl.domain.model import ProxySettings, Seconds
from proxyctl.errors import NginxUnavailable, OutcomeUnknown, Unavailable
from proxyctl.ports import Ended

T = TypeVar("T")

LABEL = "proxyctl.proxy"  # its value is the project; replicas carry other labels
ERRAND = "proxyctl.errand"  # the same, of what runs to its end and is removed at once
PULL_LIMIT: Seconds = 1800.0
RUN_LIMIT: Seconds = 20.0
FORGOTTEN_AFTER: Seconds = 3 * RUN_LIMIT
STARTS_WITHIN: Seconds = 10.0
LOOK_EVERY: Seconds = 0.02
LAST_WORDS = 20  # lines of its log
INSTEAD = "install nginx on this host and write mode: process under proxy"
# Docker may start it again after an unclean end, which leaves a socket that no nginx could listen on. And each request
# needs two open files.
SCRIPT = 'ulimit -n "$(ulimit -H -n)"; rm -f "$1"; exec "$2" -g "daemon off;" -e "$3" -c "$4"'
STARTED = Ended(code=0, said="")
GONE = Ended(code=1, said="its container is gone right after its start")


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
        """In a container of its own, without a network. It changes nothing, so a late one simply did not end."""
        await self.fetch(_to_nobody)
        mounts = [_mount(sees, "rw")] if sees else []

        def work(client: docker.DockerClient) -> Ended:
            self._clear_forgotten(client)
            container = client.containers.create(
                self._image,
                list(arguments),
                entrypoint=[self._binary],
                network_mode="none",
                volumes=mounts,
                labels={ERRAND: self._project},
            )
            try:
                container.start()
                return _ended(container)
            finally:
                container.remove(force=True, v=True)

        what = f"running {self._binary} out of {self._image}"
        try:
            return await self._asked(work, what)
        except OutcomeUnknown as late:
            raise NginxUnavailable(str(late), next_step=late.next_step) from late

    async def test(self, config: Path, sees: Path) -> Ended:
        return await self.run("-e", "stderr", "-t", "-c", str(config), sees=sees)

    async def master(self) -> int | None:
        """A master of ours has our files."""

    async def start(self, config: Path, error_log: Path) -> Ended:
        await self.fetch(_to_nobody)
        words = [SCRIPT, "sh", str(self._places.control_socket), self._binary, str(error_log), str(config)]
        try:
            await self._asked(lambda client: self._made(client, words), f"starting {self.name}")
        except OutcomeUnknown as late:
            return await self._start_seen(late)
        return await self._start_seen()

    async def keep(self) -> None:
        await self._again_after_a_reboot("unless-stopped")

    async def let_end(self) -> None:
        await self._again_after_a_reboot("no")

    async def clear_away(self) -> None:
        await self._asked(self._remove, f"removing {self.name}")

    async def fetch(self, progress: Callable[[str], None]) -> None:
        if not await self._asked(self._is_here, f"looking for {self._image}"):
            try:
                async with asyncio.timeout(PULL_LIMIT):
                    await self._pull(progress)
            except TimeoutError as late:
                raise NginxUnavailable(f"{self._image} was not there after {PULL_LIMIT / 60:g} min") from late
            except Unavailable as error:
                raise _of_nginx(error) from error

    async def _pull(self, progress: Callable[[str], None]) -> None:
        told = PullProgress(self._image)
        progress(f"pulling {self._image}")
        events = self._engine.stream(lambda client: layers(client, self._image), f"pulling {self._image}", SILENCE)
        async for event in events:
            if line := told.after(event):
                progress(line)

    def _is_here(self, client: docker.DockerClient) -> bool:
        if why := hindrance(client):
            raise NginxUnavailable(f"proxy.mode: container cannot work here: {why}", next_step=INSTEAD)
        try:
            client.images.get(self._image)
        except ImageNotFound:
            return False
        return True

    async def _again_after_a_reboot(self, policy: str) -> None:
        def work(client: docker.DockerClient) -> None:
            if container := self._ours(client):
                container.update(restart_policy=restart_policy(policy))

        await self._asked(work, f"updating {self.name}")

    async def _start_seen(self, late: OutcomeUnknown | None = None) -> Ended:
        """What came of a start. A container that is not there may still come of one that is `late`: raises it where
        nothing was seen in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + STARTS_WITHIN
        while loop.time() < deadline:
            seen = await self._asked(self._come_of_it, f"looking at {self.name}")
            if seen is not None and not (late and seen is GONE):
                return seen
            await asyncio.sleep(LOOK_EVERY)
        if late:
            raise late
        said = await self._asked(self._last_words, f"reading the output of {self.name}")
        return Ended(code=1, said=f"it has no control socket after {STARTS_WITHIN:g} s\n{said}".strip())

    def _come_of_it(self, client: docker.DockerClient) -> Ended | None:
        """How the start ended; None while it goes on."""
        container = self._ours(client)
        if container is None:
            return GONE
        if container.status not in ("created", "running"):
            return _ended(container)
        return STARTED if self._places.control_socket.exists() else None

    def _last_words(self, client: docker.DockerClient) -> str:
        container = self._ours(client)
        return _said(container, LAST_WORDS) if container else ""

    async def _asked(self, work: Work[T], what: str) -> T:
        """Raises NginxUnavailable, and OutcomeUnknown when it may have happened."""
        try:
            return await self._engine.act(work, what, RUN_LIMIT)
        except (NginxUnavailable, OutcomeUnknown):
            raise
        except Unavailable as error:
            raise _of_nginx(error) from error

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

    def _clear_forgotten(self, client: docker.DockerClient) -> None:
        """Errands of a proxyctl that was killed: nobody waits so long for one."""
        before = time.time() - FORGOTTEN_AFTER
        for each in client.api.containers(all=True, filters={"label": f"{ERRAND}={self._project}"}):
            if each["Created"] < before:
                with suppress(NotFound):
                    client.api.remove_container(each["Id"], force=True, v=True)

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
    return Ended(code=code, said=_said(container))


def _said(container: Any, tail: int | Literal["all"] = "all") -> str:
    text: str = container.logs(tail=tail).decode("utf-8", "replace")
    return text.strip()


def _of_nginx(error: Unavailable) -> NginxUnavailable:
    """What hinders the engine, hinders this nginx."""
    return NginxUnavailable(str(error), detail=error.detail, next_step=error.next_step)


def _to_nobody(_line: str) -> None:
    """Progress that nobody waits for."""
