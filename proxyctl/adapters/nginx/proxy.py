"""The nginx of one project: publish generations to it, start it, stop it. Start at NginxProxy.publish().

A publish changes what nginx knows (services, hosts, addresses); who gets traffic stays as it is. It ends observed, or
with the last good content observed again, or in Degraded. What a generation is made of is in contents.py, how it comes
into force in activation.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from math import inf

from proxyctl.adapters.durable import told_in_words
from proxyctl.adapters.nginx.control import address_in_force
from proxyctl.adapters.nginx.generations.activation import Activation
from proxyctl.adapters.nginx.generations.closing import HAND_OVER
from proxyctl.adapters.nginx.generations.contents import Contents, copies_of, fit_for_a_socket
from proxyctl.adapters.nginx.generations.copies import looked_at
from proxyctl.adapters.nginx.generations.disk import Generation
from proxyctl.adapters.nginx.generations.running import ProgramOf, RunningNginx
from proxyctl.adapters.nginx.generations.upgrade import HandOver
from proxyctl.adapters.nginx.look import NOTHING_KNOWN, NginxLook
from proxyctl.adapters.nginx.names import prober_prefix
from proxyctl.adapters.nginx.process.binary import Directive, NginxBinary
from proxyctl.adapters.nginx.process.workers import blindness, group_named, group_of_workers, refuse_the_blind
from proxyctl.adapters.nginx.refused import LAST_GOOD_SERVES
from proxyctl.adapters.nginx.rehearsal import Rehearsal
from proxyctl.adapters.nginx.traffic.cutover import flags_in_force, shares_in_force
from proxyctl.adapters.nginx.traffic.shares import Shares
from proxyctl.adapters.places import Places
from proxyctl.domain.model import Colour, ProxySettings, Route, Seconds, ServiceName, Topology
from proxyctl.errors import NginxUnavailable, PublishRefused, StateUnusable
from proxyctl.ports import Endpoint, ProxyStatus

# Each old generation holds all its memory as long as a stream lasts: 45 MiB with 1,000 services.
MOST_OLD = 8
QUITS_WITHIN: Seconds = 5.0  # beyond the workers' shutdown timeout


class NginxProxy(NginxLook):
    """Implements `Proxy`."""

    def __init__(self, places: Places, project: str, program: ProgramOf) -> None:
        super().__init__(places, program)
        self._project = project
        self._contents = Contents(places, program)
        self._running = RunningNginx(places, program)
        self._hand_over = HandOver(places, program, self._running)
        self._activation = Activation(places, program, self._running)
        self._rehearsal = Rehearsal(places, program)

    # --- publish ---------------------------------------------------------------------------------------------------

    async def publish(self, topology: Topology, fence: int, claim: Callable[[], int]) -> int:
        shares = shares_in_force(self._places, topology)
        return await self._publish(topology, shares, fence, claim, MOST_OLD)

    async def replace(self, topology: Topology, splits: Shares, fence: int, claim: Callable[[], int]) -> int:
        return await self._publish(topology, splits, fence, claim, inf)

    async def shift(self, moved: Shares, claim: Callable[[], int]) -> int:
        """What is current, with these splits: how traffic moves with cutover reload. The caller holds the publishing
        lock. Raises like publish(), but never because of old workers where a service goes to one colour whole: the way
        to the safe side is always open."""
        current = self._generations.current()
        if current is None:
            raise NginxUnavailable("there is no configuration yet to tell a split", next_step="proxyctl deploy")
        shares = {**shares_in_force(self._places, current.topology), **moved}
        most_old = inf if any(flags is None or flags.split.sole for flags in moved.values()) else MOST_OLD
        return await self._publish(current.topology, shares, current.fence, claim, most_old)

    async def _publish(
        self,
        topology: Topology,
        shares: Shares,
        fence: int,
        claim: Callable[[], int],
        most_old: float,
        known: frozenset[Directive] | None = None,
    ) -> int:
        """`known`: directives that may be used; None: those of the nginx at hand."""
        fit_for_a_socket(self._places)
        with told_in_words(self._places.root):
            self._places.create()
        current = self._last_good()
        self._refuse_another_project(current)
        self._refuse_another_mode(current, topology)
        refuse_the_blind(self._places, topology)
        await self._hand_over.settle(current)
        await self._running.find(topology.settings)
        await self._activation.let_stay(current)
        if known is None:
            known = await self._contents.known(topology.settings)
        copies = copies_of(topology, current)
        self._contents.keep_control_address(topology.settings)
        files_of = partial(self._contents.files, topology, shares, known=known, copies=copies)
        if current is not None and _holds(current, await files_of(current.number), topology.settings.image):
            await self.start()
            await self._activation.let_workers_read(current)  # an upgrade may have died
            await asyncio.sleep(HAND_OVER)  # whoever published it may have died before its old workers were sent away
            return current.number
        self._refuse_beside(most_old)
        flags_in_force(self._places, topology)
        number = claim()
        files = copies.left | await files_of(number)
        group = await self._readers(topology.settings)
        candidate = self._generations.stage(number, fence, topology, files, copies.ends, group)
        await self._activation.bring(candidate, current, claim)
        self._generations.prune()
        return number

    async def reload(self, claim: Callable[[], int]) -> int:
        current = self._generations.current()
        if current is None:
            raise NginxUnavailable("there is no configuration yet to reload", next_step="proxyctl deploy")
        number = await self.publish(current.topology, current.fence, claim)
        if objections := looked_at(current.topology).objections:
            raise PublishRefused(
                "; ".join(objections),
                serving=f"generation {number}: these files as they were when last sound, all others as they are",
                next_step="mend the file, then proxyctl proxy reload",
            )
        return number

    async def upgrade(self, settings: ProxySettings, claim: Callable[[], int], progress: Callable[[str], None]) -> None:
        current = self._generations.current()
        if current is None:
            raise NginxUnavailable("nginx does not run", next_step="proxyctl proxy start")
        renewed = current.topology.settings.replace(image=settings.image)
        program = self._program(renewed).renewed()
        await self._hand_over.settle(current)
        await program.fetch(progress)
        known = await NginxBinary(program).knows()
        if any(f" {directive} " in current.text for directive in Directive if directive not in known):
            current = await self._in_words_of_both(known, current, claim)
        async with self._activation.readable_by_newcomers(current):
            await self._hand_over.to(program, current)
        # The new one may know more directives.
        await self.publish(current.topology.replace(settings=renewed), current.fence, claim)

    async def _in_words_of_both(
        self, known: frozenset[Directive], current: Generation, claim: Callable[[], int]
    ) -> Generation:
        """What is in force, for an older nginx to read too, which knows less."""
        ours = await self._contents.known(current.topology.settings)
        shares = shares_in_force(self._places, current.topology)
        await self._publish(current.topology, shares, current.fence, claim, inf, known & ours)
        return self._generations.current() or current

    async def _readers(self, settings: ProxySettings) -> int | None:
        """The group of those who read what is for nginx alone."""
        return group_named(settings) or await group_of_workers(self._places, self._running.master())

    def _last_good(self) -> Generation | None:
        """None too when it is damaged: then the publish replaces it."""
        return self._in_force()[0]

    def _refuse_another_project(self, current: Generation | None) -> None:
        if current is not None and current.topology.project != self._project:
            raise StateUnusable(
                f"the state folder {self._places.root} belongs to project {current.topology.project}",
                serving="unchanged",
                next_step="use another --state for this project",
            )

    def _refuse_another_mode(self, current: Generation | None, topology: Topology) -> None:
        if other := self._runs_in_another_mode(current, topology):
            raise NginxUnavailable(
                other,
                serving=LAST_GOOD_SERVES,
                next_step="proxyctl proxy stop, then deploy; nothing is served in between",
            )

    def _refuse_beside(self, most_old: float) -> None:
        if (old := self._running.old_generations()) >= most_old:
            raise PublishRefused(
                f"workers of {old} older generations still serve open streams, and each holds all its memory",
                serving=LAST_GOOD_SERVES,
                next_step="wait for them: proxyctl proxy status; proxy.timeouts.worker_shutdown is when they end",
            )

    def _runs_in_another_mode(self, current: Generation | None, topology: Topology) -> str:
        if current is None or self._running.master() is None:
            return ""
        runs, wanted = current.topology.settings.mode, topology.settings.mode
        return "" if runs is wanted else f"nginx runs in mode {runs}, and proxyctl.yml asks for mode {wanted}"

    # --- start, stop, status ---------------------------------------------------------------------------------------

    async def fetch(self, settings: ProxySettings, progress: Callable[[str], None]) -> None:
        await self._program(settings).fetch(progress)

    async def start(self) -> ProxyStatus:
        current = self._generations.current()
        if current is None:
            raise NginxUnavailable("there is no configuration yet to start nginx with", next_step="proxyctl deploy")
        await self._hand_over.settle(current)
        master = self._running.master()
        observed = await self._running.generation_of(master) if master else None
        if master is None or observed is None:
            refuse_the_blind(self._places, current.topology)
            await self._activation.start(current)
        elif observed < current.number:
            await self._activation.catch_up(current, master)
        return await self.status()

    async def stop(self) -> None:
        current = self._last_good()
        topology = current.topology if current else NOTHING_KNOWN
        drains = [route.drain for route in topology.routes]
        patience = max([topology.settings.worker_shutdown_timeout, *drains]) + QUITS_WITHIN
        await self._running.stop(topology.settings, patience)

    async def rotate_logs(self, limit: int) -> list[str]:
        return [path.name for path in await self._running.begin_logs_anew(limit)]

    # --- look without touching -------------------------------------------------------------------------------------

    async def check(self, topology: Topology, changed: ServiceName | None = None) -> list[str]:
        current = self._last_good()
        try:
            objections = await self._rehearsal.objections(topology, current, changed)
        except (PublishRefused, NginxUnavailable) as error:
            return [str(error), *(line for line in error.detail.splitlines() if line not in str(error))]
        hindrances = (blindness(self._places, topology), self._runs_in_another_mode(current, topology))
        return [*objections, *filter(None, hindrances), *self._rehearsal.taken(topology, self._claims())]

    def _claims(self) -> tuple[str, ...]:
        """Addresses that our nginx holds."""
        current = self.topology() if self._running.master() or self._running.orphans() else None
        return current.claims if current else ()

    async def diff(self, topology: Topology) -> str:
        return await self._rehearsal.difference(topology, self._generations.current())

    def endpoint(self, route: Route, colour: Colour) -> Endpoint:
        control = address_in_force(self._places)
        return Endpoint(
            replica=f"{route.service} {colour} through nginx",
            address="" if control.socket else control.listen,
            socket=control.socket,
            prefix=f"{control.prefix}{prober_prefix(route.service, colour)}",
            host=route.hosts[0] if route.hosts else "",
        )


def _holds(current: Generation, files: dict[str, str], image: str) -> bool:
    """Whether it is this configuration, for this image; what it holds beside that, no configuration names any more."""
    return files.items() <= current.files.items() and image == current.topology.settings.image
