"""Hand over from the nginx that runs to the program as it is on disk now. Start at HandOver.to().

For a moment two masters serve the same ports with the same configuration. The new one is in force once it was seen to
answer; whatever serves beside the one in force is let go. So a hand-over that was broken off anywhere is finished, or
taken back, by settle(), which every command that changes nginx does first.
"""

from __future__ import annotations

from proxyctl.adapters.nginx.generations.closing import clients_let_go
from proxyctl.adapters.nginx.generations.disk import Generation
from proxyctl.adapters.nginx.generations.passing_on import put_back, refuse_where_it_cannot_be
from proxyctl.adapters.nginx.generations.running import ProgramOf, RunningNginx
from proxyctl.adapters.nginx.names import CONFIG
from proxyctl.adapters.nginx.process.master import Process, find_masters, is_asked, workers_of
from proxyctl.adapters.places import Places
from proxyctl.domain.model import Mode
from proxyctl.errors import NginxUnavailable
from proxyctl.ports import NginxProgram

STILL_SERVES = "the nginx that ran before, unchanged"


class HandOver:
    """Of the nginx of one state folder. The caller holds the publishing lock."""

    def __init__(self, places: Places, program: ProgramOf, running: RunningNginx) -> None:
        self._places = places
        self._program = program
        self._running = running

    async def to(self, program: NginxProgram, current: Generation) -> None:
        """Raises NginxUnavailable; then the one that ran serves on."""
        old = self._running.master()
        if old is None:
            raise NginxUnavailable("nginx does not run", next_step="proxyctl proxy start")
        if current.topology.settings.mode is Mode.CONTAINER:
            refuse_where_it_cannot_be()  # its sockets are its own; from a program of this host they are inherited
        await self._refuse_one_that_cannot_read(program, current)
        new = await self._start_beside(program, old, current)
        await program.keep(new.pid)
        await self._leave_only(new, current)

    async def settle(self, current: Generation | None) -> None:
        """One nginx serves, and it is the one that we ask. Raises NginxUnavailable."""
        if current is None or not current.topology.settings.mode.ours:
            return
        put_back()
        masters, in_force = self._serving(), self._running.master()
        if len(masters) == 1 and is_asked(masters[0], self._places):
            return
        for chosen in sorted(masters, key=lambda master: master != in_force):
            if await self._running.answered_by(chosen):
                await self._program(current.topology.settings).keep(chosen.pid)
                await self._leave_only(chosen, current)
                return
        if len(masters) > 1:
            raise NginxUnavailable(
                f"nginx runs as {', '.join(str(master.pid) for master in masters)}, and none of them answers",
                next_step="proxyctl proxy stop, then proxyctl proxy start",
            )

    def _serving(self) -> list[Process]:
        """Masters that were not let go yet."""
        return [
            master for master in find_masters(self._places) if any(not worker.leaving for worker in workers_of(master))
        ]

    async def _leave_only(self, chosen: Process, current: Generation) -> None:
        """Clients of every other one are let go, and what waits for it goes on to the chosen one."""
        if others := [master for master in self._serving() if master != chosen]:
            async with clients_let_go(self._places, current):
                await self._running.let_go(others, chosen)
        await self._program(current.topology.settings).clear_away()

    async def _start_beside(self, program: NginxProgram, old: Process, current: Generation) -> Process:
        """A second master, which answers. On failure there is none."""
        before = find_masters(self._places)
        ended = await program.start_beside(old.pid, self._places.current / CONFIG, self._places.error_log)
        new = await self._running.newcomer(before) if ended.code == 0 else None
        if new is not None:
            return new
        failed = [master for master in find_masters(self._places) if master not in before]
        await self._running.let_go(failed, old)
        await program.clear_away()
        raise NginxUnavailable(
            "the new nginx did not take over the ports",
            detail=ended.said,
            serving=STILL_SERVES,
            next_step=f"look at the end of {self._places.error_log}",
        )

    async def _refuse_one_that_cannot_read(self, program: NginxProgram, current: Generation) -> None:
        """What the new one only warns of is written anew for it afterwards."""
        verdict = await program.test(current.config)
        if verdict.code != 0:
            raise NginxUnavailable(
                "the new nginx does not take the configuration in force",
                detail=verdict.said,
                serving=STILL_SERVES,
                next_step="install another nginx, or mend proxyctl.yml and deploy",
            )
