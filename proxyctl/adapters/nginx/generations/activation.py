"""Bring a generation into force, observed; or what was in force before it, observed again. Start at Activation.bring().

Knows nothing of what a generation says: it is on disk already, complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from proxyctl.adapters.nginx.generations.closing import HAND_OVER, LEAD, clients_let_go, letting_go, stay_open
from proxyctl.adapters.nginx.generations.disk import Generation, Generations
from proxyctl.adapters.nginx.generations.running import NotTaken, ProgramOf, RunningNginx
from proxyctl.adapters.nginx.names import CONFIG
from proxyctl.adapters.nginx.process.binary import NginxBinary
from proxyctl.adapters.nginx.process.listens import obstacles
from proxyctl.adapters.nginx.process.master import Process
from proxyctl.adapters.nginx.process.workers import group_of_workers, refuse_the_blind
from proxyctl.adapters.nginx.refused import LAST_GOOD_SERVES, degraded, refused
from proxyctl.adapters.places import Places
from proxyctl.domain.model import Mode, Seconds
from proxyctl.errors import NginxUnavailable, PublishRefused


class Activation:
    """The caller holds the publishing lock."""

    def __init__(self, places: Places, program: ProgramOf, running: RunningNginx) -> None:
        self._places = places
        self._program = program
        self._running = running
        self._generations = Generations(places)

    async def bring(self, candidate: Generation, current: Generation | None, claim: Callable[[], int]) -> None:
        """By a reload, or a start where no nginx runs. Raises PublishRefused when `current` serves on or again,
        Degraded when it does not."""
        took = await self._validate(candidate)
        master = self._running.master()
        if master is None:
            await self._start_with(candidate, current)
        else:
            self._refuse_the_taken(candidate, current)
            await self._reload_to(candidate, current, master, took, claim)

    async def start(self, generation: Generation) -> None:
        """Raises NginxUnavailable."""
        await self._running.start(generation)
        await self.let_workers_read(generation)

    async def let_workers_read(self, generation: Generation) -> None:
        """Who they are is known once they run; passwords are for them alone."""
        if generation.for_workers:
            self._generations.let_read(generation, await group_of_workers(self._places, self._running.master()))

    @asynccontextmanager
    async def readable_by_newcomers(self, generation: Generation) -> AsyncIterator[None]:
        """While workers of another program come to stand beside those that serve, both read passwords, and with them
        everybody on this host: a file has one group."""
        self._generations.let_all_read(generation)
        try:
            yield
        finally:
            await self.let_workers_read(generation)

    async def let_stay(self, current: Generation | None) -> None:
        """A publisher that died as it let clients go may have sent its HUP. Until nginx is through with that, whoever
        stays loses a request; reading the configuration takes nginx as long as it takes a test of ours."""
        if letting_go(self._places) and current is not None and self._running.master() is not None:
            await self._binary(current).test(current.config)
            await asyncio.sleep(LEAD + HAND_OVER)
        stay_open(self._places)

    async def catch_up(self, current: Generation, master: Process) -> None:
        """A publisher died between its rename and its HUP, or the machine let the master start no workers."""
        verdict = await self._binary(current).test(current.config)
        refuse_the_blind(self._places, current.topology)
        try:
            await self._reload(current, current.number, master, verdict.took)
        except NotTaken as reason:
            what = f"nginx does not take generation {current.number}, which it should have"
            raise NginxUnavailable(what, detail=str(reason), serving=LAST_GOOD_SERVES) from reason

    def _binary(self, generation: Generation) -> NginxBinary:
        return NginxBinary(self._program(generation.topology.settings))

    async def _validate(self, candidate: Generation) -> Seconds:
        """How long nginx takes to read it. A refused candidate leaves nothing behind."""
        try:
            verdict = await self._binary(candidate).test(candidate.config)
        except NginxUnavailable:
            self._generations.discard(candidate)
            raise
        if verdict.objections:
            self._generations.discard(candidate)
            raise refused(f"nginx refuses generation {candidate.number}", "\n".join(verdict.objections))
        return verdict.took

    def _refuse_the_taken(self, candidate: Generation, current: Generation | None) -> None:
        """nginx in a container would share a port with another one of ours: the kernel lets them (reuseport)."""
        if candidate.topology.settings.mode is not Mode.CONTAINER:
            return
        ours = current.topology.claims if current else ()
        if taken := obstacles(tuple(claim for claim in candidate.topology.claims if claim not in ours)):
            self._generations.discard(candidate)
            raise refused(str(taken[0]), next_step="free the port or take another one, then repeat")

    async def _start_with(self, candidate: Generation, current: Generation | None) -> None:
        """No nginx runs, so none has seen the candidate: on failure the link goes back to where it was."""
        self._generations.activate(candidate)
        try:
            await self.start(candidate)
        except NginxUnavailable as error:
            self._generations.reactivate(current)
            self._generations.discard(candidate)
            what = f"nginx did not start with generation {candidate.number}: {error}"
            raise PublishRefused(
                what, detail=error.detail, serving="nothing: nginx does not run", next_step=error.next_step
            ) from error

    async def _reload_to(
        self,
        candidate: Generation,
        current: Generation | None,
        master: Process,
        took: Seconds,
        claim: Callable[[], int],
    ) -> None:
        self._generations.activate(candidate)
        try:
            await self._reload(current, candidate.number, master, took)
        except NotTaken as reason:
            if not master.title:  # it died meanwhile
                return await self._start_with(candidate, current)
            if current is None and not candidate.topology.settings.mode.ours:
                self._generations.reactivate(None)
                self._generations.discard(candidate)
                raise refused("nginx did not take what it was to include", str(reason)) from reason
            restored = await self._restore(current, master, took, claim, str(reason))
            self._generations.discard(candidate)
            what = f"nginx did not take generation {candidate.number}; the content before it serves as {restored}"
            raise refused(what, str(reason)) from reason

    async def _reload(self, in_force: Generation | None, number: int, master: Process, took: Seconds) -> None:
        """Clients are let go first. Raises NotTaken."""
        async with clients_let_go(self._places, in_force):
            await self._running.reload(number, master, took)

    async def _restore(
        self, last_good: Generation | None, master: Process, took: Seconds, claim: Callable[[], int], reason: str
    ) -> int:
        """The last good content, observed under a number of its own, for numbers only rise."""
        from proxyctl.adapters.nginx.rendering.render import renumber

        if last_good is None:
            raise degraded("nginx runs, but what it runs with is not known", reason)
        number = claim()
        files = {**last_good.files, CONFIG: renumber(last_good.text, last_good.number, number)}
        group = await group_of_workers(self._places, master)
        restored = self._generations.stage(number, last_good.fence, last_good.topology, files, last_good.ends, group)
        self._generations.activate(restored)
        try:
            await self._reload(last_good, number, master, took)
        except NotTaken as again:
            raise degraded(
                f"nginx did not take the last good content either, as {number}", f"{reason}\n{again}"
            ) from again
        return number
