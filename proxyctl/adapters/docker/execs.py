"""Run commands inside running containers: checks, and the hooks of a definition.

The engine has no call that ends a command, so one that nobody waits for any more is killed from the host; on another
host it runs on. Start at exit_code() and end_of().
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import docker

from proxyctl.adapters.docker import namespace
from proxyctl.adapters.docker.calls import ACT_LIMIT, EngineCalls, Work
from proxyctl.adapters.docker.definition import hook_options
from proxyctl.adapters.last_words import ARRIVE, LastWords
from proxyctl.domain.container import Hook
from proxyctl.domain.model import Seconds
from proxyctl.domain.record import Record
from proxyctl.errors import OutcomeUnknown

LOOK_EVERY: Seconds = 0.05
KILLED_WITHIN: Seconds = 1.0  # is waited for
SILENCE: Seconds = 3600.0


class HookEnd(Record):
    exit_code: int
    output: str  # the end of it


class Execs:
    def __init__(self, engine: EngineCalls) -> None:
        self._engine = engine

    async def exit_code(self, create: Work[str], what: str) -> int:
        """Of the run that `create` makes, started detached: no thread waits for it. Cancelled, it is killed."""
        run = await self._engine.act(create, what)
        async with self._killed_when_left(run, what):
            await self._engine.act(lambda client: client.api.exec_start(run, detach=True), what)
            return await self._ended(run, what)

    async def end_of(self, hook: Hook, container: str, what: str) -> HookEnd:
        """Run a hook to its end. Cancelled, it is killed. Raises Unavailable for one that cannot be run."""
        given = hook_options(hook)
        run = await self._engine.act(lambda client: str(client.api.exec_create(container, **given)["Id"]), what)
        output = _Output(run)
        reading = asyncio.ensure_future(self._read(output, what))
        ending = asyncio.ensure_future(self._ended(run, what))
        try:
            async with self._killed_when_left(run, what):
                await asyncio.wait({reading, ending}, return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    reading.result()  # what could not be started never ends
                code = await ending
            await asyncio.wait({reading}, timeout=ARRIVE)
            return HookEnd(exit_code=code, output=str(output))
        finally:
            output.close()
            for task in (reading, ending):
                task.cancel()
            await asyncio.gather(reading, ending, return_exceptions=True)

    async def _read(self, output: _Output, what: str) -> None:
        async for chunk in self._engine.stream(output.started, what, SILENCE):
            output.add(chunk)

    async def _ended(self, run: str, what: str) -> int:
        while (code := _exit_code(await self._state(run, what))) is None:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY)
        return code

    @asynccontextmanager
    async def _killed_when_left(self, run: str, what: str) -> AsyncIterator[None]:
        try:
            yield
        except (asyncio.CancelledError, OutcomeUnknown):
            killing = asyncio.ensure_future(self._kill(run, what))
            killing.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody waits for its outcome
            await asyncio.wait({killing}, timeout=KILLED_WITHIN)  # whoever cancels may be taking traffic away
            raise

    async def _kill(self, run: str, what: str) -> None:
        """Returns when it is seen ended. Its start may still be on the way to the engine, and is waited for."""
        async with asyncio.timeout(ACT_LIMIT):
            while _exit_code(seen := await self._state(run, what)) is None:
                if seen["Running"]:
                    namespace.kill(seen["ContainerID"], seen["Pid"])
                await asyncio.sleep(LOOK_EVERY)

    async def _state(self, run: str, what: str) -> dict[str, Any]:
        def inspect(client: docker.DockerClient) -> dict[str, Any]:
            seen: dict[str, Any] = client.api.exec_inspect(run)
            return seen

        return await self._engine.look(inspect, what)


class _Output(LastWords):
    """Whoever waits no more closes it."""

    def __init__(self, run: str) -> None:
        super().__init__()
        self._run = run
        self._stream: Any = None

    def started(self, client: docker.DockerClient) -> Iterator[bytes]:
        """The engine starts a command when its output is asked for."""
        self._stream = client.api.exec_start(self._run, stream=True)
        try:
            yield from self._stream
        finally:
            self._stream._response.close()  # docker-py gives no other way to it

    def close(self) -> None:
        """Wakes the thread that reads, which then closes the connection."""
        with suppress(OSError):  # it has ended
            if self._stream is not None:
                self._stream.close()


def _exit_code(seen: dict[str, Any]) -> int | None:
    """None for one that runs, and for one that is not started yet."""
    return None if seen["Running"] else seen["ExitCode"]
