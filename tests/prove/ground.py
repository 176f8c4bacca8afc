"""The state of one project on a real disk, under the engine in memory: the store, the locks, the generations and the
flags are real, containers and nginx are not. It is small enough to be killed at every system call.

As a program, `python -m tests.prove.ground ROOT`, it carries out STORY and says after each order that it is done: what
was said must outlive whatever happens next. It is what strace kills and what loses its disk. Start at Ground.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from proxyctl.adapters import sqlite
from proxyctl.adapters.locks import FileLocks
from proxyctl.adapters.memory import MemoryProxy, MemoryWorld
from proxyctl.adapters.nginx.generations.disk import Generations
from proxyctl.adapters.nginx.names import CONFIG
from proxyctl.adapters.nginx.traffic.splits import NginxSplits
from proxyctl.adapters.sqlite import SqliteStore
from proxyctl.domain import orders, plan
from proxyctl.domain.model import Service, ServiceName, Topology
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.state import Kind, Phase, ServiceState
from proxyctl.errors import ProxyctlError
from proxyctl.ports import Flags, Life, ReplicaState
from proxyctl.wiring import Workshop
from tests.arena import SIGNED, WEB, Arena
from tests.e2e.invariants import every_generation_was_given_out, the_generation_is_whole, the_journal_holds

PROJECT = "ground"
FILE = f"project: {PROJECT}\nservices:\n  web:\n    container: {{image: app}}\n    port: 8000\n"


class GenerationsOnly(MemoryProxy):
    """Publishes into the real folder of generations; that nginx takes each of them is taken for granted."""

    def __init__(self, world: MemoryWorld, generations: Generations) -> None:
        super().__init__(world)
        self._generations = generations

    async def publish(self, topology: Topology, fence: int, claim: Callable[[], int]) -> int:
        current = self._generations.current()
        if current is not None and current.topology == topology:
            return current.number
        number = claim()
        staged = self._generations.stage(number, fence, topology, {CONFIG: f"# {number}: {topology}\n"}, {})
        self._generations.activate(staged)
        self._generations.prune()
        return number

    def topology(self) -> Topology | None:
        current = self._generations.current()
        return current.topology if current else None


class FlagsOnly(NginxSplits):
    """Moves the real flags; nginx is not asked what it does then."""

    async def _see(self, service: ServiceName, flags: Flags | None) -> None: ...


class Traffic(NamedTuple):
    """What an order that is done has brought about, and everybody may rely on."""

    live: str
    share: float  # percent that the live release has


class Rising(NamedTuple):
    generation: int
    fence: int


class Ground(Arena):
    """Made like every command is made: by the workshop of a project in this folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        file = folder / "proxyctl.yml"
        if not file.exists() or file.read_text() != FILE:  # none of ours to lose
            file.write_text(FILE)
        self.workshop = Workshop(str(file), str(folder / "state"))
        self.places = self.workshop.places
        self.store: SqliteStore = self.workshop.store  # type: ignore[assignment]
        self.locks: FileLocks = self.workshop.locks  # type: ignore[assignment]
        self.generations = Generations(self.places)
        self.proxy = GenerationsOnly(self.world, self.generations)
        self.splits = FlagsOnly(self.places)  # type: ignore[assignment]
        self._remember_containers()

    def service(self, image: str) -> Service:
        """Every deploy has a configuration of its own, so each publishes a generation."""
        return super().service(image).replace(hosts=(f"{image.replace(':', '-')}.example.com",))

    def _remember_containers(self) -> None:
        """Those that the journal has seen running have outlived us: the engine is another process."""
        for placed in filter(None, (self.state.blue, self.state.green)):
            for replica in placed.replicas:
                name, incarnation = replica.name, replica.incarnation
                if incarnation is not None:
                    self.world.containers[name] = ReplicaState(
                        name=name, life=Life.RUNNING, incarnation=incarnation, address=replica.ip
                    )
                    self.world.image_of[name], self.world.owner[name] = placed.release.image, WEB

    @property
    def traffic(self) -> Traffic:
        state = self.state
        live = state.live
        share = state.split.percent(live.colour) if live and state.split else 0.0
        return Traffic(str(live.release.id) if live else "", share)

    def look(self) -> None:
        """The world in memory is shown what the files say, for the checks of the arena."""
        flags = self.splits.read(WEB)
        self.world.flags = {} if flags is None else {WEB: flags}

    @property
    def rising(self) -> Rising:
        """The numbers that only rise."""
        return Rising(
            self.generations.current_number() or 0, max((entry.fence for entry in self.store.entries()), default=0)
        )

    @contextmanager
    def driven(self) -> Iterator[None]:
        lock = self.locks.acquire(WEB, "story")
        try:
            yield
        finally:
            lock.release()

    def close(self) -> None:
        self.store.close()


async def weight(ground: Arena) -> ServiceState:
    return await ground.order(
        lambda s: orders.open_warm(s, Kind.WEIGHT, plan.at(2500, plan.at_once()), orders.warm(s), SIGNED)
    )


async def abort(ground: Arena) -> ServiceState:
    return await ground.order(lambda s: orders.abort(s, Outcome.ABORTED, SIGNED))


class Order(NamedTuple):
    carry_out: Callable[[Arena], Awaitable[ServiceState]]
    brings: Traffic


STORY = (
    Order(lambda g: g.deploy("app:1"), Traffic("web-1", 100.0)),
    Order(lambda g: g.deploy("app:2"), Traffic("web-2", 100.0)),
    Order(lambda g: g.rollback(), Traffic("web-1", 100.0)),
    Order(weight, Traffic("web-1", 75.0)),
    Order(abort, Traffic("web-1", 100.0)),
    Order(lambda g: g.deploy("app:3"), Traffic("web-3", 100.0)),
)
BEFORE_ALL = Traffic("", 0.0)


# --- afterwards ---------------------------------------------------------------------------------------------------


async def broken_ground(folder: Path, done: Sequence[Sequence[int]]) -> list[str]:
    """What does not hold of a folder in which the story ended somehow, after it told that so much was `done`."""
    ground = Ground(folder)
    try:
        return [*as_it_lies(ground, done), *await once_recovered(ground, done)]
    except ProxyctlError as error:
        return [f"it cannot be used any more: {error}"]
    finally:
        ground.close()


def as_it_lies(ground: Ground, done: Sequence[Sequence[int]]) -> Iterator[str]:
    """Before anybody mends anything: a reader of these files gets the old or the new."""
    ground.look()
    if ground.generations.current() is not None:
        yield from the_generation_is_whole(ground.places.public)
    yield from every_generation_was_given_out(ground.places)
    yield from the_journal_holds(ground.places)
    if ground.state.phase is not Phase.DEGRADED:  # that says itself that safety is not what it should be
        yield from (promise for promise in ground.broken_promises() if promise[0] in "12c")
    if done:
        _, generation, fence = done[-1]
        if ground.rising < Rising(generation, fence):
            yield f"4: {ground.rising} came after {done[-1]}"


async def once_recovered(ground: Ground, done: Sequence[Sequence[int]]) -> Sequence[str]:
    """An order that was done stays done, the next one may be; and the service can be deployed again."""
    first = await ground.resume()
    if await ground.resume() != first:
        return ["5: a second recovery changes something"]
    lawful = [order.brings for order in STORY[: len(done) + 1]][-2:] if done else [BEFORE_ALL, STORY[0].brings]
    if ground.traffic not in lawful:
        return [f"4: after {len(done)} orders there is {ground.traffic}, and not one of {lawful}"]
    ground.look()
    found = ground.broken_promises()
    before = ground.rising
    if first.phase is Phase.PAUSED:
        await abort(ground)
    with ground.driven():
        await ground.deploy("app:9")
    if not ground.rising > before or ground.traffic.share != 100.0:
        found.append(f"5: the next deploy leads to {ground.traffic} and {ground.rising}")
    return [*found, *the_journal_holds(ground.places), *the_generation_is_whole(ground.places.public)]


# --- the story as a program --------------------------------------------------------------------------------------


async def tell(folder: Path, *words: str) -> None:
    ground = Ground(folder)
    if "--unsynced" in words:
        forget_to_sync(ground)
    for number, order in enumerate(STORY, 1):
        with ground.driven():
            state = await order.carry_out(ground)
        if ground.traffic != order.brings or state.phase not in (Phase.IDLE, Phase.PAUSED):
            return say(f"failed {number}")
        say(f"done {number} {ground.rising.generation} {ground.rising.fence}")
    return None


def forget_to_sync(ground: Ground) -> None:
    """From here on everything is left to the kernel."""
    os.fsync = lambda fd: None
    sqlite.SYNCED = sqlite.SYNCED_LATER = "PRAGMA synchronous = OFF"
    ground.store._db.execute(sqlite.SYNCED)


def say(words: str) -> None:
    os.write(1, f"{words}\n".encode())


def main() -> int:
    try:
        asyncio.run(tell(Path(sys.argv[1]), *sys.argv[2:]))
    except ProxyctlError as error:
        say(f"error {error.slug}: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
