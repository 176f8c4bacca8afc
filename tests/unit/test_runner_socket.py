"""The line to the process that drives a service, over real sockets."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import pytest

from proxyctl.adapters.locks import FileLocks
from proxyctl.adapters.places import Places
from proxyctl.adapters.processes import DetachedProcesses
from proxyctl.adapters.runner_socket import listening, ticks
from proxyctl.domain.model import ServiceName
from proxyctl.domain.ticks import Waiting
from proxyctl.engine.bus import Bus

SERVICE = ServiceName("service-with-a-name-of-forty-characters-")
LIMIT = 107  # bytes in the address of a unix socket


@pytest.fixture
def short_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="line-", dir="/tmp") as folder:
        yield Path(folder)


class Line:
    """To one service of one state folder."""

    def __init__(self, root: Path) -> None:
        places = Places(root)
        places.create()
        self.path = places.driver_socket(SERVICE)
        self.processes = DetachedProcesses(places, FileLocks(places), ())
        self.bus = Bus()

    def driver(self, woken: asyncio.Event | None = None) -> AbstractAsyncContextManager[None]:
        return listening(self.path, woken or asyncio.Event(), self.bus.listen)

    async def hears(self, reason: str) -> bool:
        """Whether who looks on is told what the driver tells."""
        found = asyncio.ensure_future(anext(ticks(self.path), None))
        while not found.done():
            self.bus.tell(Waiting(reason=reason))
            await asyncio.sleep(0.01)
        return await found == Waiting(reason=reason)


def deep(folder: Path) -> Path:
    """As long as a state folder can be with an nginx that listens in it."""
    own = os.fsencode(Places(folder / "x").control_socket)
    return folder / ("x" * (1 + LIMIT - len(own)))


async def test_a_driver_is_woken_and_tells_wherever_the_state_folder_is(short_path: Path) -> None:
    line = Line(deep(short_path))
    assert len(os.fsencode(line.path)) > LIMIT
    woken = asyncio.Event()
    async with line.driver(woken):
        await line.processes.wake(SERVICE)
        async with asyncio.timeout(5):
            await woken.wait()
            assert await line.hears("so it is")
    assert not line.path.exists()
    await line.processes.wake(SERVICE)  # nobody is there, and that is nothing to fail of
    assert [tick async for tick in ticks(line.path)] == []


async def test_the_socket_has_the_name_by_which_other_versions_know_it(short_path: Path) -> None:
    """Over an upgrade of proxyctl drivers of the one are woken by commands of the other."""
    line, woken = Line(short_path), asyncio.Event()
    async with line.driver(woken):
        _, writer = await asyncio.open_unix_connection(line.path)
        async with asyncio.timeout(5):
            await woken.wait()
        writer.close()

    def begin(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        woken.set()

    woken.clear()
    async with await asyncio.start_unix_server(begin, line.path):
        await line.processes.wake(SERVICE)
        async with asyncio.timeout(5):
            await woken.wait()


async def test_a_driver_that_ends_late_leaves_its_successors_socket_alone(short_path: Path) -> None:
    """The service's lock is free before its driver is gone, and the next one may begin."""
    line, woken = Line(short_path), asyncio.Event()
    async with AsyncExitStack() as successor:
        async with line.driver():
            await successor.enter_async_context(line.driver(woken))
        await line.processes.wake(SERVICE)
        async with asyncio.timeout(5):
            await woken.wait()
    assert not line.path.exists()


async def test_a_socket_that_a_killed_driver_left_is_replaced(short_path: Path) -> None:
    line = Line(short_path)
    killed = await asyncio.start_unix_server(lambda *_: None, line.path)
    killed.close()
    assert line.path.is_socket()
    async with line.driver():
        assert await line.hears("I am another")
