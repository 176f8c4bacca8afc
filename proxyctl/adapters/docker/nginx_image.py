"""An image with nginx in it: brought to this host, and its program run to its end. Start at NginxImage.run()."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

import docker
from docker.errors import ImageNotFound, NotFound

from proxyctl.adapters.docker.calls import EngineCalls, Work
from proxyctl.adapters.docker.pull import pull
from proxyctl.adapters.docker.reach import is_here
from proxyctl.adapters.docker.removal import remove
from proxyctl.adapters.lives import is_over, this_life
from proxyctl.domain.model import Seconds
from proxyctl.errors import NginxUnavailable, OutcomeUnknown, Unavailable
from proxyctl.ports import Ended

T = TypeVar("T")

ERRAND = "proxyctl.errand"  # its value is the project: a container that runs to its end and is removed at once
WAITING = "proxyctl.errand.for"  # the process that waits for that
RUN_LIMIT: Seconds = 20.0
INSTEAD = "install nginx on this host and write mode: process under proxy"


class NginxImage:
    """Raises NginxUnavailable where this engine cannot have an nginx of ours, or not this one."""

    def __init__(self, project: str, reference: str, binary: str, engine: EngineCalls) -> None:
        self.reference = reference
        self._project = project
        self._binary = binary
        self._engine = engine

    async def fetch(self, progress: Callable[[str], None]) -> None:
        """It is on this host; `progress` is told while it is pulled."""
        if await self.asked(self._is_here, f"looking for {self.reference}"):
            return
        try:
            await pull(self._engine, self.reference, None, progress)
        except Unavailable as error:
            raise _of_nginx(error) from error

    async def run(
        self, image: str, arguments: Sequence[str], mounts: Sequence[str], scratch: Path | None = None
    ) -> Ended:
        """Out of this image, with the addresses that it would serve; what it writes to `scratch` is gone with it. It
        changes nothing, so a late one simply did not end."""

        def work(client: docker.DockerClient) -> Ended:
            self._clear_forgotten(client)
            container = client.containers.create(
                image,
                list(arguments),
                entrypoint=[self._binary],
                network_mode="host",
                volumes=list(mounts),
                tmpfs={str(scratch): ""} if scratch else None,
                labels={ERRAND: self._project, WAITING: this_life()},
            )
            try:
                container.start()
                return ended(container)
            finally:
                remove(container)

        try:
            return await self.asked(work, f"running {self._binary} out of {self.reference}")
        except OutcomeUnknown as late:
            raise NginxUnavailable(str(late), next_step=late.next_step) from late

    async def asked(self, work: Work[T], what: str) -> T:
        """Of the engine. Raises NginxUnavailable, and OutcomeUnknown when it may have happened."""
        try:
            return await self._engine.act(work, what, RUN_LIMIT)
        except (NginxUnavailable, OutcomeUnknown):
            raise
        except Unavailable as error:
            raise _of_nginx(error) from error

    def _is_here(self, client: docker.DockerClient) -> bool:
        if why := hindrance(client):
            raise NginxUnavailable(f"proxy.mode: container cannot work here: {why}", next_step=INSTEAD)
        try:
            client.images.get(self.reference)
        except ImageNotFound:
            return False
        return True

    def _clear_forgotten(self, client: docker.DockerClient) -> None:
        """Errands of a proxyctl that was killed: nobody waits for them."""
        for each in client.api.containers(all=True, filters={"label": f"{ERRAND}={self._project}"}):
            if is_over(each["Labels"].get(WAITING, "")):
                with suppress(NotFound):
                    remove(client.containers.get(each["Id"]))


def hindrance(client: docker.DockerClient) -> str:
    """Why an nginx in a container of this engine could not be on the host's network and watched from here."""
    if os.geteuid() != 0:
        return "only root may watch and signal an nginx that a container runs"
    if not is_here(client):
        return "the engine is another machine's"
    told = client.info()
    if "Docker Desktop" in told["OperatingSystem"]:
        return "Docker Desktop runs containers in a machine of its own"
    if any(option.startswith(("name=rootless", "name=userns")) for option in told.get("SecurityOptions") or ()):
        return "this engine gives no container the host's network (rootless, or userns-remap)"
    return ""


def mount(folder: Path, mode: str, at: Path | None = None) -> str:
    return f"{folder}:{at or folder}:{mode}"


def ended(container: Any) -> Ended:
    code = container.wait()["StatusCode"]
    return Ended(code=code, said=said(container))


def said(container: Any, tail: int | Literal["all"] = "all") -> str:
    text: str = container.logs(tail=tail).decode("utf-8", "replace")
    return text.strip()


def _of_nginx(error: Unavailable) -> NginxUnavailable:
    """What hinders the engine, hinders this nginx."""
    return NginxUnavailable(str(error), detail=error.detail, next_step=error.next_step)
