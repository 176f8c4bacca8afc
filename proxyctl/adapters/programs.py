"""Run a program of this host to its end: the user's hooks, and what they measure by. Start at run()."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO

from proxyctl.adapters.last_words import ARRIVE, LastWords
from proxyctl.domain.record import Record
from proxyctl.domain.units import Seconds


class Ended(Record):
    code: int  # of its exit; of the signal that ended it, negative
    words: str  # the last that it wrote, to either output


async def run(command: Sequence[str | Path], folder: Path, told: Mapping[str, str], limit: Seconds) -> Ended:
    """In this folder, with nothing to read, and `told` beside our environment. However it ends, its process group is
    killed: what it started ends with it. Raises OSError for what cannot be started, TimeoutError beyond the limit."""
    async with _output() as (output, writing):
        child = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            env=os.environ | dict(told),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=writing,
            stderr=writing,
            start_new_session=True,
        )
        writing.close()
        try:
            async with asyncio.timeout(limit):
                code = await child.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
        await output.ended()
        return Ended(code=code, words=str(output.words))


class _Output(asyncio.Protocol):
    def __init__(self) -> None:
        self.words = LastWords()
        self._closed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.words.add(data)

    def connection_lost(self, _error: Exception | None) -> None:
        self._closed.set()

    async def ended(self) -> None:
        """Returns when nobody writes any more, or when patience is at its end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ARRIVE):
                await self._closed.wait()


@asynccontextmanager
async def _output() -> AsyncIterator[tuple[_Output, IO[bytes]]]:
    """A pipe of our own: asyncio takes a program for ended only when all that left its group has closed its pipe."""
    reading, writing = (os.fdopen(end, mode, buffering=0) for end, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
    transport, output = await asyncio.get_running_loop().connect_read_pipe(_Output, reading)
    try:
        yield output, writing
    finally:
        writing.close()
        transport.close()
