"""Measure by the exit code of a program of this host. What outlives its time is killed, and all that it started."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import IO

from proxyctl.domain.source import HostCommand, Measurement, Source, of_exit
from proxyctl.domain.units import Seconds
from proxyctl.ports import Subject

MOST_WORDS = 4096  # bytes, the end of its output
LAST_WORDS: Seconds = 0.5  # for the rest of it to arrive; what a command left running may write on


class HostMeasurer:
    """Implements `Measurer` for HostCommand."""

    async def measure(self, source: Source, subject: Subject) -> Measurement:
        assert isinstance(source.question, HostCommand)
        try:
            return await _run(source.question, subject, source.timeout)
        except TimeoutError:
            return Measurement(error=f"the command did not end in {source.timeout:g} s")
        except OSError as error:
            return Measurement(error=f"{error.filename}: {(error.strerror or str(error)).lower()}")


async def _run(command: HostCommand, subject: Subject, timeout: Seconds) -> Measurement:
    """Raises TimeoutError when it did not end in time."""
    async with _pipe() as (output, writing):
        child = await asyncio.create_subprocess_exec(
            *command.words,
            cwd=command.folder,
            env=os.environ | dict(subject.variables),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=writing,
            stderr=writing,
            start_new_session=True,
        )
        writing.close()
        try:
            async with asyncio.timeout(timeout):
                code = await child.wait()
        finally:
            if child.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                await child.wait()
        await output.ended(LAST_WORDS)
        return of_exit(code, str(output))


class _Output(asyncio.Protocol):
    """What a command writes, the end of it."""

    def __init__(self) -> None:
        self._end = bytearray()
        self._closed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self._end += data
        del self._end[:-MOST_WORDS]

    def connection_lost(self, _error: Exception | None) -> None:
        self._closed.set()

    async def ended(self, patience: Seconds) -> None:
        """Returns when nobody writes any more, or when patience is at its end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._closed.wait()

    def __str__(self) -> str:
        return self._end.decode("utf-8", "replace").strip()


@asynccontextmanager
async def _pipe() -> AsyncIterator[tuple[_Output, IO[bytes]]]:
    """A pipe of our own: asyncio takes a command for ended only when all that it left running has closed its pipe."""
    reading, writing = (os.fdopen(end, mode, buffering=0) for end, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
    transport, output = await asyncio.get_running_loop().connect_read_pipe(_Output, reading)
    try:
        yield output, writing
    finally:
        writing.close()
        transport.close()
