"""Bring the running nginx to a generation, and observe that it is there. Start at RunningNginx.start() and reload().

Nothing is believed that was not seen: not a pid file, not an exit code, not a signal that was sent. A generation is in
force when a worker answers with its number and no older worker accepts any more.
"""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

from proxyctl.adapters.durable import told_in_words
from proxyctl.adapters.nginx.control import Control, address_of
from proxyctl.adapters.nginx.generations.disk import Generation
from proxyctl.adapters.nginx.generations.passing_on import passed_on
from proxyctl.adapters.nginx.log.rotation import Logs
from proxyctl.adapters.nginx.names import CONFIG
from proxyctl.adapters.nginx.process.listens import obstacles
from proxyctl.adapters.nginx.process.master import (
    Process,
    error_log_of,
    find_master,
    find_masters,
    find_orphans,
    generations_of,
    process_of,
    workers_of,
)
from proxyctl.adapters.places import Places
from proxyctl.adapters.sockets import listening, still_listening
from proxyctl.domain.model import ProxySettings, Seconds
from proxyctl.errors import NginxUnavailable
from proxyctl.ports import NginxProgram

LOOK_EVERY: Seconds = 0.01
# A master that cannot bind a port tries five times, half a second apart, and is deaf to signals meanwhile.
TRIES_EVERY: Seconds = 0.5
OBSERVED_WITHIN: Seconds = 3.0
LETS_GO_WITHIN: Seconds = 1.0
EMERGENCY = "emerg"  # a configuration that is not taken
ALERT = "alert"  # the machine: no process, no file
DEATH = "exited on signal"  # of a worker, in an alert
LINGERS: Seconds = 0.2  # a master tells old workers to leave a tenth of a second after it forked new ones


ProgramOf = Callable[[ProxySettings], NginxProgram]
Condition = Callable[[], Awaitable[bool]]


class NotTaken(Exception):
    """nginx runs on with what it had; in its own words."""


class Baseline(NamedTuple):
    """What was there before nginx was asked to change."""

    workers: list[Process]
    pids: set[int]  # as the workers know themselves
    master: int  # as it knows itself
    log: Path
    log_size: int


class RunningNginx:
    """The master and the workers of one state folder, whoever started them."""

    def __init__(self, places: Places, program: ProgramOf) -> None:
        self._program = program
        self._foreign: Process | None = None
        self._places = places
        self._control = Control(places)
        self._logs = Logs(places)

    def master(self) -> Process | None:
        return find_master(self._places) or self._foreign

    async def find(self, settings: ProxySettings) -> None:
        """The user's own master has nothing of ours before our first publish. Raises NginxUnavailable."""
        if self.master() is None and (pid := await self._program(settings).master()) is not None:
            self._foreign = process_of(pid)

    def orphans(self) -> list[Process]:
        return find_orphans(self._places)

    # --- start and stop --------------------------------------------------------------------------------------------

    async def start(self, current: Generation) -> None:
        """With what `current` names, observed. Raises NginxUnavailable."""
        if current.topology.settings.mode.ours:
            await self._make_room(current.topology.listens)
        program = self._program(current.topology.settings)
        ended = await program.start(self._places.current / CONFIG, self._places.error_log)
        if ended.code != 0:
            raise NginxUnavailable("nginx did not start", detail=ended.said)
        if not await _until(self._answers(current.number), OBSERVED_WITHIN):
            raise NginxUnavailable(f"nginx started, but generation {current.number} does not answer")
        if (master := self.master()) is not None:
            await program.keep(master.pid)

    async def _make_room(self, listens: tuple[str, ...]) -> None:
        await self._release_orphans()
        await _until(_free(listens), LETS_GO_WITHIN)  # what was told to quit has its sockets a moment longer
        self._places.control_socket.unlink(missing_ok=True)  # an unclean death leaves it, and then no start succeeds
        self._places.pid_file.unlink(missing_ok=True)
        if taken := obstacles(listens):
            raise NginxUnavailable(
                "; ".join(map(str, taken)), next_step="free the port or take another one, then repeat"
            )

    async def stop(self, settings: ProxySettings, patience: Seconds) -> None:
        """Graceful: nothing new is accepted, and the workers cut what lasts longer than their shutdown timeout."""
        program = self._program(settings)
        await program.let_end()
        masters = find_masters(self._places)
        ours = [*masters, *(worker for master in masters for worker in workers_of(master))] or self.orphans()
        for process in masters or ours:
            process.send(signal.SIGQUIT)
        if not await _until(_all(ours, lambda process: not process.title), patience):
            left = ", ".join(str(process.pid) for process in ours if process.title)
            raise NginxUnavailable(
                f"nginx did not end within {patience:g} s; still there: {left}",
                serving="open requests only; nothing new is accepted",
            )
        await program.clear_away()

    async def _release_orphans(self) -> None:
        """Workers of a dead master hold the ports. They let go at once, and finish what they have open."""
        orphans = self.orphans()
        let_go = _all(orphans, lambda orphan: orphan.leaving)
        for request in (signal.SIGQUIT, signal.SIGKILL):
            for orphan in orphans:
                if not orphan.leaving:
                    orphan.send(request)
            if await _until(let_go, LETS_GO_WITHIN):
                break

    # --- hand over -------------------------------------------------------------------------------------------------

    async def newcomer(self, before: list[Process]) -> Process | None:
        """A master that was not there before, and answers; None when none did in time."""
        deadline = time.monotonic() + OBSERVED_WITHIN
        while time.monotonic() < deadline:
            for new in (master for master in find_masters(self._places) if master not in before):
                if await self._answered_once_by(new):
                    return new
            await asyncio.sleep(LOOK_EVERY)
        return None

    async def answered_by(self, master: Process) -> bool:
        """Two that share a socket answer by turns."""

        async def answered() -> bool:
            return await self._answered_once_by(master)

        return await _until(answered, OBSERVED_WITHIN)

    async def _answered_once_by(self, master: Process) -> bool:
        with suppress(NginxUnavailable, OSError), address_of(master.pid, self._places) as address:
            speaker = await Control(self._places, address).speaker()
            return speaker.pid in {worker.own_pid for worker in workers_of(master)}
        return False

    async def let_go(self, masters: list[Process], staying: Process) -> None:
        """They accept nothing any more, and end once they have finished what they have open. What waits at sockets of
        their own goes on to the one that stays. Raises NginxUnavailable when they go on accepting."""
        workers = [worker for master in masters for worker in workers_of(master)]
        own = listening(master.pid for master in masters) - listening([staying.pid])
        with passed_on() if own else nullcontext():
            for master in masters:
                master.send(signal.SIGQUIT)
            if not await _until(_closed(workers, own), LETS_GO_WITHIN + OBSERVED_WITHIN):
                pids = " ".join(str(master.pid) for master in masters)
                raise NginxUnavailable(
                    f"the nginx that ran before ({pids}) was told to end and still accepts connections",
                    serving="both, with the same configuration",
                    next_step=f"kill -QUIT {pids}, then proxyctl proxy reload",
                )
        await _until(_all(masters, lambda master: not master.title), LETS_GO_WITHIN)

    # --- reload ----------------------------------------------------------------------------------------------------

    async def generation_of(self, master: Process) -> int | None:
        """What its workers answer with; 0 when it has none, None when it died meanwhile. Raises NginxUnavailable when
        they are silent."""
        deadline = time.monotonic() + OBSERVED_WITHIN
        while master.title:
            try:
                speaker = await self._control.speaker()
            except NginxUnavailable:
                if master.title and all(worker.leaving for worker in workers_of(master)):
                    return 0
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(LOOK_EVERY)
            else:
                return speaker.generation if master.title else None
        return None

    async def reload(self, number: int, master: Process, parse: Seconds) -> None:
        """HUP, then observe; `parse` is how long nginx takes to read the configuration. Raises NotTaken."""
        workers = [worker for worker in workers_of(master) if not worker.leaving]
        log = error_log_of(master) or self._places.error_log
        before = Baseline(workers, {worker.own_pid for worker in workers}, master.own_pid, log, _size(log))
        patience = OBSERVED_WITHIN / 2 + parse
        for _ in ("first", "again"):  # a master that could not fork the first time may be able to now
            master.send(signal.SIGHUP)
            if await _until(self._settled(number, before), patience):
                break
        words = await self._last_words(before)
        if words and not await self._observed(number, before):
            raise NotTaken(words)
        if not await _until(self._sees(number, before), LETS_GO_WITHIN):
            late = f"generation {number} was not observed within {2 * patience:.1f} s"
            raise NotTaken("\n".join([late, *dict.fromkeys(_said(ALERT, before))]))
        if any(DEATH in line for line in _said(ALERT, before)):
            # It may have been followed by one of the old configuration, that nobody looked for.
            await asyncio.sleep(LINGERS)

    def old_generations(self) -> int:
        """Those whose workers only finish what they have open."""
        master = self.master()
        return generations_of([worker for worker in workers_of(master) if worker.leaving]) if master else 0

    async def begin_logs_anew(self, limit: int) -> list[Path]:
        """Those larger than the limit, in bytes. Nobody writes into old files any more, also where their renaming was
        broken off. Raises NginxUnavailable."""
        with told_in_words(self._places.root):
            due = self._logs.set_aside(limit)
        master = self.master()
        if master is not None and (left := self._written_aside(master)):
            master.send(signal.SIGUSR1)
            if not await _until(self._let_go_of_logs(master), OBSERVED_WITHIN):
                raise NginxUnavailable(
                    f"nginx still writes into {', '.join(map(str, left))} and was told to open its logs anew",
                    serving="unchanged",
                    next_step="proxyctl proxy status",
                )
        return due

    def _written_aside(self, master: Process) -> list[Path]:
        return self._logs.written_aside([master, *workers_of(master)])

    def _let_go_of_logs(self, master: Process) -> Condition:
        async def let_go() -> bool:
            return not self._written_aside(master)

        return let_go

    def _sees(self, number: int, before: Baseline) -> Condition:
        async def sees() -> bool:
            return await self._observed(number, before)

        return sees

    def _settled(self, number: int, before: Baseline) -> Condition:
        async def settled() -> bool:
            return bool(_said(EMERGENCY, before)) or await self._observed(number, before)

        return settled

    def _answers(self, number: int) -> Condition:
        async def answers() -> bool:
            with suppress(NginxUnavailable):
                return (await self._control.speaker()).generation >= number
            return False

        return answers

    async def _observed(self, number: int, before: Baseline) -> bool:
        """A new worker answers with this generation or a later one, and no old worker accepts any more."""
        try:
            speaker = await self._control.speaker()
        except NginxUnavailable:
            return False
        new = speaker.generation >= number and speaker.pid not in before.pids
        return new and all(worker.leaving for worker in before.workers)

    async def _last_words(self, before: Baseline) -> str:
        """The new [emerg] lines, once no more of them come; those of so long where they never end."""
        words, heard = _said(EMERGENCY, before), 0
        deadline = time.monotonic() + OBSERVED_WITHIN
        while heard < len(words) and time.monotonic() < deadline:
            heard = len(words)
            await asyncio.sleep(1.4 * TRIES_EVERY)
            words = _said(EMERGENCY, before)
        return "\n".join(dict.fromkeys(words))


def _said(level: str, before: Baseline) -> list[str]:
    """What the master wrote at this level since, without its time. Clients are quoted further on in a line, and by
    workers."""
    line_of = re.compile(rf"\d{{4}}/\d\d/\d\d \d\d:\d\d:\d\d (\[{level}\] {before.master}#.*)")
    with suppress(FileNotFoundError), before.log.open(errors="replace") as log:
        log.seek(before.log_size)
        return [said[1] for line in log if (said := line_of.match(line))]
    return []


def _size(log: Path) -> int:
    with suppress(FileNotFoundError):
        return log.stat().st_size
    return 0


def _all(processes: list[Process], holds: Callable[[Process], bool]) -> Condition:
    async def condition() -> bool:
        return all(map(holds, processes))

    return condition


def _closed(workers: list[Process], sockets: set[str]) -> Condition:
    """Workers say that they leave an instant before they close their sockets."""

    async def closed() -> bool:
        return all(worker.leaving for worker in workers) and not still_listening(sockets)

    return closed


def _free(listens: tuple[str, ...]) -> Condition:
    async def condition() -> bool:
        return not obstacles(listens)

    return condition


async def _until(condition: Condition, patience: Seconds) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + patience
    while not await condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(LOOK_EVERY)
    return True
