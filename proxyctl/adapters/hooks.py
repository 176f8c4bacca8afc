"""Run the user's hooks: executables in `.proxyctl/hooks/` beside the file. Start at HookFolder.run()."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from proxyctl.domain.units import Seconds, lasting
from proxyctl.errors import Unavailable

PATIENCE: Seconds = 600.0
WORDS = 4096  # the last bytes of what it said


class HookFolder:
    """Implements `Hooks`. They start where the file is, two folders up."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def run(self, name: str, told: Mapping[str, str]) -> None:
        hook = self._folder / name
        try:
            process = await asyncio.create_subprocess_exec(
                hook,
                cwd=self._folder.parent.parent,
                env=os.environ | dict(told),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise Unavailable(f"hook {name}: {hook} cannot be run: {error.strerror}") from error
        try:
            async with asyncio.timeout(PATIENCE):
                said, _ = await process.communicate()
        except TimeoutError:
            raise Unavailable(f"hook {name} took longer than {lasting(PATIENCE)}") from None
        finally:
            with suppress(ProcessLookupError):  # whatever it left behind
                os.killpg(process.pid, signal.SIGKILL)
            await process.communicate()
        if process.returncode != 0:
            words = said[-WORDS:].decode(errors="backslashreplace").strip()
            last = words.splitlines()[-1] if words else "it said nothing"
            raise Unavailable(f"hook {name} ended with code {process.returncode}: {last}", detail=words)
