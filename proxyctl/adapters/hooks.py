"""Run the user's hooks: executables in `.proxyctl/hooks/` beside the file. Start at HookFolder.run()."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from proxyctl.adapters import programs
from proxyctl.domain.units import Seconds, lasting
from proxyctl.errors import Unavailable

PATIENCE: Seconds = 600.0


class HookFolder:
    """Implements `Hooks`. They start where the file is, two folders up."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def run(self, name: str, told: Mapping[str, str]) -> None:
        hook = self._folder / name
        try:
            ended = await programs.run([hook], self._folder.parent.parent, told, PATIENCE)
        except TimeoutError:
            raise Unavailable(f"hook {name} took longer than {lasting(PATIENCE)}") from None
        except OSError as error:
            raise Unavailable(f"hook {name}: {hook} cannot be run: {error.strerror}") from error
        if ended.code != 0:
            last = ended.words.splitlines()[-1] if ended.words else "it said nothing"
            raise Unavailable(f"hook {name} ended with code {ended.code}: {last}", detail=ended.words)
