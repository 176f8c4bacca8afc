"""One project on a stage of its own, and its commands as a user types them. Start at Shop.type()."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import docker
from docker.models.containers import Container

from proxyctl.adapters.locks import WHOLE_FILE
from proxyctl.demo.images import build_all
from proxyctl.demo.load import Load, Model
from proxyctl.demo.stage import Stage, stage
from tests.e2e.invariants import broken, spoke_plainly

ONE, TWO, THREE, SICK = "proxyctl-demo:1", "proxyctl-demo:2", "proxyctl-demo:3", "proxyctl-demo:sick"
LOOK_EVERY = 0.2  # a look is a process


class Said(NamedTuple):
    code: int
    out: str
    err: str


@contextmanager
def locked_by_a_stranger(lock: Path) -> Iterator[None]:
    """Who does not sign: a driver that does not answer is ended, and that shall not be this test."""
    with lock.open("r+") as file:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, WHOLE_FILE)
        yield


async def ended(process: asyncio.subprocess.Process) -> Said:
    out, err = await process.communicate()
    return Said(process.returncode or 0, out.decode(), err.decode())


class Shop:
    """One project on a stage of its own."""

    def __init__(self, scene: Stage) -> None:
        self.scene = scene

    async def type(self, *words: str) -> Said:
        return await ended(await self.start(*words))

    @property
    def file(self) -> Path:
        return self.scene.folder / "proxyctl.yml"

    def write(self, old: str, new: str) -> None:
        """Change the file."""
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        """A command that runs on; its progress is read from `stderr`."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxyctl", *words),
            env=os.environ | {"PROXYCTL_FILE": str(self.file), "PROXYCTL_STATE": str(self.scene.folder / "state")},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((await self.type("status", "--json")).out)
        return found

    async def web(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.status())["services"][0]
        return found

    async def at_rest(self) -> dict[str, Any]:
        deadline = time.monotonic() + 30
        while (web := await self.web())["phase"] != "idle" and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_EVERY)
        return web

    async def until(self, phase: str) -> None:
        deadline = time.monotonic() + 30
        while not any(s["name"] == "web" and s["phase"] == phase for s in (await self.status())["services"]):
            assert time.monotonic() < deadline, f"never {phase}"
            await asyncio.sleep(0.05)  # some phases are short

    async def replicas(self, release: str) -> dict[str, Any]:
        """By their names, as `status` shows them."""
        web = await self.web()
        return {r["name"]: r for found in web["releases"] if found["id"] == release for r in found["replicas"]}

    async def health(self, release: str) -> set[str]:
        return {replica["health"] for replica in (await self.replicas(release)).values()}

    async def becomes(self, release: str, health: str) -> None:
        deadline = time.monotonic() + 30
        while (now := await self.health(release)) != {health}:
            assert time.monotonic() < deadline, (now, (await self.type("events", "web")).out)
            await asyncio.sleep(0.1)

    def containers(self, *labels: str) -> list[Container]:
        """All of this project, also those that do not run; of a release with `release=web-2`."""
        wanted = [f"proxyctl.{label}" for label in (f"project={self.scene.project}", *labels)]
        with closing(docker.from_env()) as engine:
            found: list[Container] = engine.containers.list(all=True, filters={"label": wanted}, ignore_removed=True)
        return found

    def driver(self) -> int:
        """The process that drives web."""
        return int(json.loads((self.scene.folder / "state/private/locks/web.lock").read_text())["pid"])

    def load(self, model: Model = Model.KEEPALIVE, clients: int = 4) -> Load:
        """As dense as the machine allows beside what is tested: without a pause it would have the processors."""
        return Load("127.0.0.1", self.scene.port, model, clients, pause=0.012)

    async def get(self, path: str, host: str = "shop") -> bytes:
        """A whole answer on a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.scene.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read(-1)
        writer.close()
        return answer


@asynccontextmanager
async def open_shop(bake: str = "1s", file: str | None = None) -> AsyncIterator[Shop]:
    """Nothing is deployed. At the end nothing may be broken. `file` instead of the stage's; PROJECT and PORT stand for
    its own."""
    await asyncio.to_thread(lambda: build_all(docker.from_env()))
    async with stage(bake=bake) as scene:
        made = Shop(scene)
        if file is not None:
            made.file.write_text(file.replace("PROJECT", scene.project).replace("PORT", str(scene.port)))
        yield made
        for service in (await made.status())["services"]:
            if service["phase"] == "paused":
                assert (await made.type("abort", service["name"])).code == 0
        await made.at_rest()
        found = await broken(scene)
        assert not found, found


async def answers(shop: Shop, within: float, code: int, command: str) -> Said:
    began = time.monotonic()
    said = await shop.type(*command.split())
    assert time.monotonic() - began < within, f"{command} took too long"
    spoke_plainly(said)
    assert said.code == code, f"{command}: {said}"
    return said


@asynccontextmanager
async def traffic_stays(shop: Shop) -> AsyncIterator[None]:
    """A hundred requests before, more meanwhile, a hundred after: none failed."""
    async with shop.load() as load:
        await _a_hundred_more(load)
        yield
        await _a_hundred_more(load)
    assert load.failed() == []


async def _a_hundred_more(load: Load) -> None:
    wanted = len(load.outcomes) + 100
    async with asyncio.timeout(30):
        while len(load.outcomes) < wanted:
            await asyncio.sleep(0.01)
