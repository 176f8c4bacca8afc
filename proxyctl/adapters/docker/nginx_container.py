"""nginx out of an image, on the host's network: the program of `proxy.mode: container`. Start at ContainerProgram.

The state's public folder is mounted read-only at its own path, so nginx finds in the container what is written on the
host, and an nginx that Docker starts again after a reboot starts with what is in force. Its master is a process of this
host like any other: it is watched and signalled as one. Each container has a room of its own for its socket; a link
names the one that we ask. So two can stand side by side while one takes over.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, NotFound

from proxyctl.adapters.docker.calls import EngineCalls
from proxyctl.adapters.docker.definition import restart_policy
from proxyctl.adapters.docker.nginx_image import NginxImage, ended, mount, said
from proxyctl.adapters.docker.removal import remove
from proxyctl.adapters.durable import repoint, told_in_words
from proxyctl.adapters.places import PRIVATE_MODE, Places, make_folder
from proxyctl.domain.model import ProxySettings, Seconds
from proxyctl.errors import NginxUnavailable, OutcomeUnknown
from proxyctl.ports import Ended

LABEL = "proxyctl.proxy"  # its value is the project; replicas carry other labels
ROOM = "proxyctl.room"
ROOMS = ("a", "b", "c")  # of the nginx in force, of the next one, and of one that finishes its last requests
STARTS_WITHIN: Seconds = 10.0
LOOK_EVERY: Seconds = 0.02
LAST_WORDS = 20  # lines of its log
# Docker may start it again after an unclean end, which leaves a socket that no nginx could listen on. And each request
# needs two open files.
SCRIPT = 'ulimit -n "$(ulimit -H -n)"; rm -f "$1"; exec "$2" -g "daemon off;" -e "$3" -c "$4"'
STARTED = Ended(code=0, said="")
GONE = Ended(code=1, said="its container is gone right after its start")


class ContainerProgram:
    """Implements `NginxProgram` for one project. What is tried is tried with the nginx that runs, where one does."""

    def __init__(self, project: str, places: Places, settings: ProxySettings, engine: EngineCalls) -> None:
        self._project = project
        self._places = places
        self._settings = settings
        self._engine = engine
        self._image = NginxImage(project, settings.image, settings.binary, engine)

    @property
    def name(self) -> str:
        """Of the container in force; any other one has its room behind it."""
        return f"{self._project}-nginx"

    def renewed(self) -> ContainerProgram:
        return _Renewed(self._project, self._places, self._settings, self._engine)

    async def fetch(self, progress: Callable[[str], None]) -> None:
        await self._image.fetch(progress)

    async def run(self, *arguments: str, sees: Path | None = None) -> Ended:
        return await self._tried(*arguments, mounts=[mount(sees, "rw")] if sees else [])

    async def test(self, config: Path) -> Ended:
        """It sees what it will see when it serves, and makes its socket and its pid file for itself."""
        words = ("-e", "stderr", "-t", "-c", str(config))
        if not config.is_relative_to(self._places.public):
            return await self.run(*words, sees=config.parent)
        return await self._tried(*words, mounts=self._seen, scratch=self._places.nginx)

    async def _tried(self, *arguments: str, mounts: Sequence[str], scratch: Path | None = None) -> Ended:
        if not (image := await self._image.asked(self._tried_with, f"looking at {self.name}")):
            await self._image.fetch(_to_nobody)
        return await self._image.run(image or self._settings.image, arguments, mounts, scratch)

    @property
    def _seen(self) -> list[str]:
        """What an nginx sees of the state, beside the room of its own."""
        own = (mount(path, "rw") for path in (self._places.nginx_logs, self._places.temp))
        return [mount(self._places.public, "ro"), *own]

    async def master(self) -> int | None:
        """A master of ours has our files."""

    async def start(self, config: Path, error_log: Path) -> Ended:
        await self._image.fetch(_to_nobody)
        room = await self._image.asked(self._free_room, f"looking for what is left of {self.name}")
        self._ask_in(room)
        return await self._start(self.name, room, config, error_log)

    async def start_beside(self, old: int, config: Path, error_log: Path) -> Ended:
        room = await self._image.asked(self._free_room, f"looking for what is left of {self.name}")
        return await self._start(self._apart(room), room, config, error_log)

    async def keep(self, master: int) -> None:
        """In an order in which, broken off anywhere, some nginx comes back after a reboot."""

        def work(client: docker.DockerClient) -> None:
            ours = self._ours(client)
            for kept in (each for each in ours if each.attrs["State"]["Pid"] == master):
                kept.update(restart_policy=restart_policy("always"))
                self._ask_in(kept.labels[ROOM])
                for other in (each for each in ours if each.id != kept.id):
                    other.update(restart_policy=restart_policy("no"))
                    self._call(other, self._apart(other.labels[ROOM]))
                self._call(kept, self.name)

        await self._image.asked(work, f"keeping {self.name}")

    async def let_end(self) -> None:
        def work(client: docker.DockerClient) -> None:
            for each in self._ours(client):
                each.update(restart_policy=restart_policy("no"))

        await self._image.asked(work, f"updating {self.name}")

    async def clear_away(self) -> None:
        await self._image.asked(self._remove_dead, f"removing what is left of {self.name}")

    # --- start -----------------------------------------------------------------------------------------------------

    async def _start(self, name: str, room: str, config: Path, error_log: Path) -> Ended:
        """Without a restart policy: one that cannot start is not to be tried for ever."""
        words = [SCRIPT, "sh", str(self._places.control_socket), self._settings.binary, str(error_log), str(config)]
        try:
            await self._image.asked(lambda client: self._made(client, name, room, words), f"starting {name}")
        except OutcomeUnknown as late:
            return await self._start_seen(name, room, late)
        return await self._start_seen(name, room)

    def _made(self, client: docker.DockerClient, name: str, room: str, words: Sequence[str]) -> None:
        self._refuse_a_stranger(client, name)
        folder = self._places.rooms / room
        with told_in_words(self._places.root):
            make_folder(folder, PRIVATE_MODE)
            folder.joinpath(self._places.control_socket.name).unlink(missing_ok=True)
        container = client.containers.create(
            self._settings.image,
            list(words),
            name=name,
            entrypoint=["/bin/sh", "-c"],
            labels={LABEL: self._project, ROOM: room},
            network_mode="host",
            volumes=[*self._seen, mount(folder, "rw", at=self._places.nginx)],
            stop_signal="SIGQUIT",
        )
        try:
            container.start()
        except APIError:
            remove(container)
            raise

    async def _start_seen(self, name: str, room: str, late: OutcomeUnknown | None = None) -> Ended:
        """What came of a start. A container that is not there may still come of one that is `late`: raises it where
        nothing was seen in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + STARTS_WITHIN
        while loop.time() < deadline:
            seen = await self._image.asked(lambda client: self._come_of(client, name, room), f"looking at {name}")
            if seen is not None and not (late and seen is GONE):
                return seen
            await asyncio.sleep(LOOK_EVERY)
        if late:
            raise late
        words = await self._image.asked(lambda client: _last_words(client, name), f"reading the output of {name}")
        return Ended(code=1, said=f"it has no control socket after {STARTS_WITHIN:g} s\n{words}".strip())

    def _come_of(self, client: docker.DockerClient, name: str, room: str) -> Ended | None:
        """How the start ended; None while it goes on."""
        try:
            container = client.containers.get(name)
        except NotFound:
            return GONE
        if container.status not in ("created", "running"):
            return ended(container)
        return STARTED if self._places.rooms.joinpath(room, self._places.control_socket.name).exists() else None

    # --- rooms and names -------------------------------------------------------------------------------------------

    def _apart(self, room: str) -> str:
        return f"{self.name}-{room}"

    def _call(self, container: Any, name: str) -> None:
        if container.name != name:
            container.rename(name)

    def _ask_in(self, room: str) -> None:
        """From now on the nginx in this room is asked."""
        link = self._places.control_socket
        with told_in_words(self._places.root):
            repoint(link, os.path.relpath(self._places.rooms / room / link.name, link.parent))

    def _free_room(self, client: docker.DockerClient) -> str:
        self._remove_dead(client)
        taken = {each.labels[ROOM] for each in self._ours(client)}
        for room in ROOMS:
            if room not in taken:
                return room
        raise NginxUnavailable(
            "those that ran before still finish their last requests",
            serving="traffic stays as it is",
            next_step="repeat when they have: proxyctl proxy status",
        )

    def _ours(self, client: docker.DockerClient) -> list[Any]:
        found: list[Any] = client.containers.list(
            all=True, filters={"label": f"{LABEL}={self._project}"}, ignore_removed=True
        )
        return found

    def _remove_dead(self, client: docker.DockerClient) -> None:
        for each in self._ours(client):
            if not _lives(each.attrs["State"]["Pid"]):
                remove(each)

    def _tried_with(self, client: docker.DockerClient) -> str:
        """The image of the nginx in force; empty where none runs."""
        running = (each for each in self._ours(client) if each.name == self.name and each.status == "running")
        return next((str(each.attrs["Image"]) for each in running), "")

    def _refuse_a_stranger(self, client: docker.DockerClient, name: str) -> None:
        try:
            container = client.containers.get(name)
        except NotFound:
            return
        if container.labels.get(LABEL) != self._project:
            raise NginxUnavailable(
                f"a container named {name} exists and is not proxyctl's",
                serving="traffic stays as it is",
                next_step=f"docker rename {name} ANOTHER-NAME, or docker rm {name}",
            )


class _Renewed(ContainerProgram):
    """The image as it is on this host now."""

    def _tried_with(self, client: docker.DockerClient) -> str:
        return ""


def _last_words(client: docker.DockerClient, name: str) -> str:
    """Nothing is left of it: an nginx without its sockets serves nobody."""
    try:
        container = client.containers.get(name)
    except NotFound:
        return ""
    words = said(container, LAST_WORDS)
    remove(container)
    return words


def _lives(pid: int) -> bool:
    """The kernel knows before the engine does that a process has ended: it has no words of its command any more."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def _to_nobody(_line: str) -> None:
    """Progress that nobody waits for."""
