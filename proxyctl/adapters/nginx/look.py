"""How the nginx of one project is seen to be. Changes nothing, and is light: every `status` asks here. Start at
NginxLook.status()."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from proxyctl.adapters.nginx.control import Control, Speaker
from proxyctl.adapters.nginx.generations.disk import Generation, Generations
from proxyctl.adapters.nginx.process.master import Process, find_master, find_orphans, workers_of
from proxyctl.adapters.places import Places
from proxyctl.domain.model import ProxySettings, Topology
from proxyctl.errors import NginxUnavailable, StateUnusable
from proxyctl.ports import ProxyState, ProxyStatus

if TYPE_CHECKING:
    from proxyctl.adapters.nginx.generations.running import ProgramOf

NOTHING_KNOWN = Topology(project="", settings=ProxySettings(), routes=())


class NginxLook:
    def __init__(self, places: Places, program: ProgramOf) -> None:
        self._places = places
        self._program = program
        self._generations = Generations(places)

    async def status(self) -> ProxyStatus:
        master, orphans = find_master(self._places), find_orphans(self._places)
        workers = orphans if master is None else [*orphans, *workers_of(master)]
        current, damage = self._in_force()
        settings = (current.topology if current else NOTHING_KNOWN).settings
        speaker = await self._speaker()
        return ProxyStatus(
            state=_state(master, orphans),
            mode=settings.mode,
            version=speaker.version if speaker and speaker.version else await self._version(settings),
            pid=master.pid if master else None,
            generation=self._generations.current_number(),
            observed=speaker.generation if speaker else None,
            draining=sum(1 for worker in workers if worker.leaving and worker.title),
            certificates=current.ends if current else {},
            damage=damage,
        )

    def topology(self) -> Topology | None:
        current = self._generations.current()
        return current.topology if current else None

    def damage(self) -> str:
        return self._in_force()[1]

    def _in_force(self) -> tuple[Generation | None, str]:
        """Or why it cannot be believed."""
        try:
            return self._generations.current(), ""
        except StateUnusable as error:
            return None, str(error)

    async def _speaker(self) -> Speaker | None:
        with suppress(NginxUnavailable):
            return await Control(self._places).speaker()
        return None

    async def _version(self, settings: ProxySettings) -> str:
        """Of the program that would be started."""
        from proxyctl.adapters.nginx.process.binary import NginxBinary  # one that serves says it itself

        with suppress(NginxUnavailable):
            return await NginxBinary(self._program(settings)).version()
        return ""


def _state(master: Process | None, orphans: list[Process]) -> ProxyState:
    if master is not None:
        return ProxyState.RUNNING
    return ProxyState.ORPHANED if any(not orphan.leaving for orphan in orphans) else ProxyState.STOPPED
