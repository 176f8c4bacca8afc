"""Programs that this benchmark starts, and ends by their process id. Start at Child."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

STARTS_WITHIN = 10.0
ENDS_WITHIN = 5.0
NOTHING_MORE: Mapping[str, str] = MappingProxyType({})


class Child:
    """A program that serves 127.0.0.1:`port` from start() to stop(); what it says goes to a file in `folder`.

    stop() is right at any time, also after a start that failed.
    """

    def __init__(self, folder: Path, port: int, *command: str, environment: Mapping[str, str] = NOTHING_MORE) -> None:
        self.pid = 0
        self._log = folder / f"{port}.log"
        self._port = port
        self._command = command
        self._environment = os.environ | environment
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Raises when the port is somebody else's, or with the program's own words when it does not serve."""
        if await answers(self._port):
            raise RuntimeError(f"something else serves port {self._port}")
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: what we started ends in order
            )
        self.pid = self._process.pid
        with suppress(TimeoutError):
            async with asyncio.timeout(STARTS_WITHIN):
                while self._process.returncode is None:
                    if await answers(self._port):
                        return
                    await asyncio.sleep(0.02)
        raise RuntimeError(f"{self._command[0]} does not serve port {self._port}: {self._log.read_text()[-2000:]}")

    async def stop(self) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(ENDS_WITHIN):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


async def answers(port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def said(*command: str) -> str:
    """What a program that ends at once prints. Raises when it does not exit 0."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {out.decode()}")
    return out.decode()
