"""The nginx of one project: start it, publish generations to it, stop it. Start at NginxProxy.publish().

Nothing is believed that was not observed: not a pid file, not an exit code, not a signal that was sent. A generation is
in force when a worker answers with its number and no older worker accepts. Splits move without any of this.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from proxyctl.adapters.nginx.control import Control
from proxyctl.adapters.nginx.generations import Generation, Generations
from proxyctl.adapters.nginx.listens import obstacle
from proxyctl.adapters.nginx.master import Process, find_master, workers_of
from proxyctl.adapters.nginx.names import CONFIG
from proxyctl.adapters.places import Places
from proxyctl.domain.model import Seconds, Topology
from proxyctl.errors import NginxUnavailable
from proxyctl.ports import ProxyStatus

LOOK_EVERY: Seconds = 0.01
OBSERVE_WITHIN: Seconds = 3.0  # and twice the time of nginx -t: a large configuration is parsed again by the master
# A master that cannot bind tries five times, half a second apart, and is deaf to signals meanwhile.
DEAF_FOR: Seconds = 0.7
LET_GO_WITHIN: Seconds = 2.0
SOCKET_PATH_LIMIT = 107  # sun_path of unix(7), without its last NUL


class Baseline(NamedTuple):
    """What was there before nginx was asked to change."""

    workers: list[Process]
    log_offset: int


class NotTaken(Exception):
    """nginx did not take a generation; in its own words."""


class NginxProxy:
    """Implements `Proxy` for `proxy.mode: process`."""

    def __init__(self, places: Places, project: str) -> None:
        self._places = places
        self._project = project
        self._generations = Generations(places)
        self._control = Control(places.control_socket)

    # --- publish ---------------------------------------------------------------------------------------------------

    async def publish(self, topology: Topology, fence: int, claim: Callable[[], int]) -> int:
        self._places.create()
        current = self._generations.current()
        if current is not None and self._render(topology, current.number) == current.text:
            await self.start()
            return current.number
        number = claim()
        candidate = self._generations.stage(number, fence, topology, self._render(topology, number))
        took = await self._validate(candidate)
        await self._put_in_force(candidate, current, took, claim)
        self._generations.prune()
        return number

    async def _validate(self, candidate: Generation) -> Seconds:
        """How long nginx takes to read it. A refused candidate leaves nothing behind."""
        try:
            verdict = await _binary(candidate.topology).test(candidate.config)
        except NginxUnavailable:
            self._generations.discard(candidate)
            raise
        if verdict.objections:
            self._generations.discard(candidate)
            raise _refused(f"nginx refuses generation {candidate.number}", "\n".join(verdict.objections))
        return verdict.took

    async def _put_in_force(
        self, candidate: Generation, current: Generation | None, took: Seconds, claim: Callable[[], int]
    ) -> None:
        master = find_master(self._places)
        if master is None:
            await self._start_with(candidate, current)
        else:
            await self._reload_to(candidate, current, master, OBSERVE_WITHIN + 2 * took, claim)

    async def _start_with(self, candidate: Generation, current: Generation | None) -> None:
        """No nginx runs, so none saw the candidate: on failure the link goes back to where it was."""
        self._generations.activate(candidate)
        try:
            await self._start_current(candidate)
        except NginxUnavailable as error:
            if current is None:
                self._generations.deactivate()
            else:
                self._generations.activate(current)
            self._generations.discard(candidate)
            raise _refused(f"nginx did not start with generation {candidate.number}: {error}", error.detail) from error

    async def _reload_to(
        self,
        candidate: Generation,
        current: Generation | None,
        master: Process,
        patience: Seconds,
        claim: Callable[[], int],
    ) -> None:
        try:
            await self._reload(candidate, master, patience)
        except NotTaken as reason:
            await self._restore(current, candidate, master, patience, claim, str(reason))
            raise _refused(f"nginx did not take generation {candidate.number}", str(reason)) from reason

    async def _restore(
        self,
        last_good: Generation | None,
        refused: Generation,
        master: Process,
        patience: Seconds,
        claim: Callable[[], int],
        reason: str,
    ) -> None:
        """The last good content, observed under a number of its own. Raises Degraded when that is not taken either."""
        from proxyctl.adapters.nginx.render import renumber

        if last_good is None:
            raise _degraded("a running nginx did not take its first generation", reason)
        number = claim()
        text = renumber(last_good.text, last_good.number, number)
        restored = self._generations.stage(number, last_good.fence, last_good.topology, text)
        try:
            await self._reload(restored, master, patience)
        except NotTaken as again:
            raise _degraded(
                f"nginx took neither generation {refused.number} nor the last good content as {number}",
                f"{reason}\n{again}",
            ) from again
        self._generations.discard(refused)

    async def _reload(self, generation: Generation, master: Process, patience: Seconds) -> None:
        """Raises NotTaken."""
        before = self._baseline(master)
        self._generations.activate(generation)
        master.send(signal.SIGHUP)
        try:
            async with asyncio.timeout(patience / 2):
                await self._until_observed(generation.number, before)
            return
        except TimeoutError:
            master.send(signal.SIGHUP)  # a master that could not fork then may be able to now
        try:
            async with asyncio.timeout(patience / 2):
                await self._until_observed(generation.number, before)
        except TimeoutError:
            raise NotTaken(f"not observed within {patience:.1f} s") from None

    # --- observe ---------------------------------------------------------------------------------------------------

    def _baseline(self, master: Process) -> Baseline:
        return Baseline([worker for worker in workers_of(master) if not worker.leaving], self._log_size())

    async def _until_observed(self, number: int, before: Baseline) -> None:
        """A new worker answers with this generation or a later one, and no old worker accepts any more."""
        old = {worker.pid for worker in before.workers}
        while True:
            await self._fail_on_emergency(before.log_offset)
            with suppress(NginxUnavailable):
                speaker = await self._control.speaker()
                answered = speaker.generation >= number and speaker.pid not in old
                if answered and all(worker.leaving for worker in before.workers):
                    return
            await asyncio.sleep(LOOK_EVERY)

    async def _fail_on_emergency(self, offset: int) -> None:
        """Raises NotTaken with the new [emerg] lines, once no more of them come."""
        words = self._emergencies(offset)
        if not words:
            return
        heard = -1
        while heard != len(words):
            heard = len(words)
            await asyncio.sleep(DEAF_FOR)
            words = self._emergencies(offset)
        raise NotTaken("\n".join(dict.fromkeys(words)))

    def _emergencies(self, offset: int) -> list[str]:
        with suppress(FileNotFoundError), self._places.error_log.open(errors="replace") as log:
            log.seek(offset)
            return [line[line.index("[emerg]") :].strip() for line in log if "[emerg]" in line]
        return []

    def _log_size(self) -> int:
        with suppress(FileNotFoundError):
            return self._places.error_log.stat().st_size
        return 0

    # --- start and stop --------------------------------------------------------------------------------------------

    async def start(self) -> ProxyStatus:
        current = self._generations.current()
        if current is None:
            raise NginxUnavailable("no generation was published yet", next_step="proxyctl deploy")
        if find_master(self._places) is None:
            await self._start_current(current)
        else:
            await self._expect(current.number, find_master)
        return await self.status()

    async def _start_current(self, current: Generation) -> None:
        await self._release_orphans()
        self._places.control_socket.unlink(missing_ok=True)
        self._places.pid_file.unlink(missing_ok=True)
        taken = [reason for reason in map(obstacle, current.topology.settings.http) if reason]
        if taken:
            raise NginxUnavailable("; ".join(taken), next_step="free the port or change proxy.http, then repeat")
        ended = await _binary(current.topology).start(self._places.current / CONFIG, self._places.error_log)
        if ended.code != 0:
            raise NginxUnavailable("nginx did not start", detail=ended.said, next_step=f"see {self._places.error_log}")
        await self._expect(current.number)
