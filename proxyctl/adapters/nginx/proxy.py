"""The nginx of one project: publish generations to it, start it, stop it, say how it is. Start at NginxProxy.publish().

A publish changes what nginx knows (services, hosts, addresses), never who gets traffic: splits move without it. It ends
observed, or with the last good content observed again, or in Degraded.
"""

from __future__ import annotations

import asyncio
import grp
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from pathlib import Path

from proxyctl.adapters.durable import put_once, told_in_words
from proxyctl.adapters.nginx.binary import Directive, NginxBinary
from proxyctl.adapters.nginx.closing import LEAD, connections_closing, lets_go, letting_go, stay_open
from proxyctl.adapters.nginx.control import Address, Control, address_in_force, guarded_address, own_address
from proxyctl.adapters.nginx.copies import Copies, copied, looked_at
from proxyctl.adapters.nginx.difference import difference
from proxyctl.adapters.nginx.generations import Generation, Generations
from proxyctl.adapters.nginx.listens import parse
from proxyctl.adapters.nginx.master import Process, has_clients, speaking_worker, workers_of
from proxyctl.adapters.nginx.names import CONFIG, include_line, prober_prefix
from proxyctl.adapters.nginx.running import NotTaken, ProgramOf, RunningNginx, obstacles
from proxyctl.adapters.nginx.sight import OTHERS, group_of, refused_part, worker_user
from proxyctl.adapters.nginx.sources import FileRefused
from proxyctl.adapters.places import Places
from proxyctl.domain.model import Colour, Mode, ProxySettings, Route, Seconds, ServiceName, Topology
from proxyctl.errors import Degraded, NginxUnavailable, PublishRefused, StateUnusable
from proxyctl.ports import Endpoint, ProxyState, ProxyStatus

SOCKET_PATH_LIMIT = 107  # bytes of sun_path in unix(7), without its last NUL
HAND_OVER: Seconds = 0.2  # nginx lets 100 ms pass between its new workers and the end of the old ones
QUITS_WITHIN: Seconds = 5.0  # beyond the workers' shutdown timeout
NOTHING_KNOWN = Topology(project="", settings=ProxySettings(), routes=())
MEND = "mend the template, then proxyctl check"
LAST_GOOD_SERVES = "the last good configuration, unchanged"


class NginxProxy:
    """Implements `Proxy`."""

    def __init__(self, places: Places, project: str, program: ProgramOf) -> None:
        self._places = places
        self._project = project
        self._generations = Generations(places)
        self._control = Control(places)
        self._program = program
        self._running = RunningNginx(places, program)

    # --- publish ---------------------------------------------------------------------------------------------------

    async def publish(self, topology: Topology, fence: int, claim: Callable[[], int]) -> int:
        _fit_for_a_socket(self._places)
        with told_in_words(self._places.root):
            self._places.create()
        current = self._last_good()
        self._refuse_another_project(current)
        self._refuse_another_mode(current, topology)
        self._workers_may_enter(topology)
        await self._running.find(topology.settings)
        await self._clients_may_stay(current)
        known = await self._binary(topology.settings).knows()
        copies = _copies(topology, current)
        self._keep_control_address(topology.settings)
        if current is not None and _holds(current, await self._files(topology, current.number, known, copies)):
            await self.start()
            await asyncio.sleep(HAND_OVER)  # whoever published it may have died before its old workers were sent away
            return current.number
        number = claim()
        files = copies.left | await self._files(topology, number, known, copies)
        master = self._running.master()
        group = _group_named(topology.settings) or await self._workers_group(master)
        candidate = self._generations.stage(number, fence, topology, files, copies.ends, group)
        took = await self._validate(candidate)
        if master is None:
            await self._start_with(candidate, current)
        else:
            await self._reload_to(candidate, current, master, took, claim)
        self._generations.prune()
        return number

    async def _clients_may_stay(self, current: Generation | None) -> None:
        """A publisher that died as it let clients go may have sent its HUP. Until nginx is through with that, whoever
        stays loses a request; reading the configuration takes nginx as long as it takes a test of ours."""
        if letting_go(self._places) and current is not None and self._running.master() is not None:
            await self._binary(current.topology.settings).test(current.config, self._places.root)
            await asyncio.sleep(LEAD + HAND_OVER)
        stay_open(self._places)

    async def reload(self, claim: Callable[[], int]) -> int:
        current = self._generations.current()
        if current is None:
            raise NginxUnavailable("there is no configuration yet to reload", next_step="proxyctl deploy")
        return await self.publish(current.topology, current.fence, claim)

    def _binary(self, settings: ProxySettings) -> NginxBinary:
        return NginxBinary(self._program(settings))

    async def _files(
        self, topology: Topology, number: int, known: frozenset[Directive], copies: Copies
    ) -> dict[str, str]:
        address = self._control_address(topology.settings)
        return {CONFIG: await _configuration(topology, number, self._places, known, address), **copies.files}

    def _control_address(self, settings: ProxySettings) -> Address:
        """Chosen once: an nginx that is not ours may start at any time, and has to find its port free."""
        in_force = address_in_force(self._places)
        if settings.mode.ours:
            return own_address(self._places)
        return guarded_address() if in_force.socket else in_force

    def _keep_control_address(self, settings: ProxySettings) -> None:
        if settings.mode.ours:
            return self._places.control_address.unlink(missing_ok=True)
        if not self._places.control_address.exists():
            address = guarded_address()
            with told_in_words(self._places.root):
                put_once(self._places.control_address, f"{address.listen}{address.prefix}")
        return None

    def _last_good(self) -> Generation | None:
        """None too when it is damaged: then the publish replaces it."""
        with suppress(StateUnusable):
            return self._generations.current()
        return None

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

    def _runs_in_another_mode(self, current: Generation | None, topology: Topology) -> str:
        if current is None or self._running.master() is None:
            return ""
        runs, wanted = current.topology.settings.mode, topology.settings.mode
        return "" if runs is wanted else f"nginx runs in mode {runs}, and proxyctl.yml asks for mode {wanted}"

    def _workers_may_enter(self, topology: Topology) -> None:
        """A worker that may not enter its working directory ends, and nginx does not start it again."""
        if blind := _blindness(self._places, topology):
            raise NginxUnavailable(
                f"nginx could not see who gets traffic: {blind}",
                serving=LAST_GOOD_SERVES,
                next_step="let the user of nginx's workers enter it (chmod o+x), or keep the state elsewhere: --state",
            )

    async def _validate(self, candidate: Generation) -> Seconds:
        """How long nginx takes to read it. A refused candidate leaves nothing behind."""
        try:
            verdict = await self._binary(candidate.topology.settings).test(candidate.config, self._places.root)
        except NginxUnavailable:
            self._generations.discard(candidate)
            raise
        if verdict.objections:
            self._generations.discard(candidate)
            raise _refused(f"nginx refuses generation {candidate.number}", "\n".join(verdict.objections))
        return verdict.took

    async def _start_with(self, candidate: Generation, current: Generation | None) -> None:
        """No nginx runs, so none has seen the candidate: on failure the link goes back to where it was."""
        self._generations.activate(candidate)
        try:
            await self._bring_up(candidate)
        except NginxUnavailable as error:
            self._generations.reactivate(current)
            self._generations.discard(candidate)
            what = f"nginx did not start with generation {candidate.number}: {error}"
            raise PublishRefused(
                what, detail=error.detail, serving="nothing: nginx does not run", next_step=error.next_step
            ) from error

    async def _bring_up(self, generation: Generation) -> None:
        """Who its workers are is known once they run; passwords are for them alone."""
        await self._running.start(generation)
        self._generations.let_read(generation, await self._workers_group(self._running.master()))

    async def _workers_group(self, master: Process | None) -> int | None:
        """None where no worker runs, or they are who we are. One that answers is root no more."""
        if master is None or os.geteuid() != 0:
            return None
        with suppress(NginxUnavailable):
            speaker = await self._control.speaker()
            return group_of(speaking_worker(self._places, speaker.pid).pid)
        return next((group_of(worker.pid) for worker in workers_of(master)), None)

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
                raise _refused("nginx did not take what it was to include", str(reason)) from reason
            restored = await self._restore(current, master, took, claim, str(reason))
            self._generations.discard(candidate)
            what = f"nginx did not take generation {candidate.number}; the content before it serves as {restored}"
            raise _refused(what, str(reason)) from reason

    async def _reload(self, in_force: Generation | None, number: int, master: Process, took: Seconds) -> None:
        """Clients are let go first. Raises NotTaken."""
        async with self._clients_let_go(in_force):
            await self._running.reload(number, master, took)

    def _clients_let_go(self, in_force: Generation | None) -> AbstractAsyncContextManager[None]:
        """Where that can spare them a lost request."""
        topology = in_force.topology if in_force else NOTHING_KNOWN
        ports = {parse(listen).port for listen in topology.listens}
        helps = in_force is not None and lets_go(in_force.text) and any(map(has_clients, ports))
        return connections_closing(self._places) if helps else nullcontext()

    async def _restore(
        self, last_good: Generation | None, master: Process, took: Seconds, claim: Callable[[], int], reason: str
    ) -> int:
        """The last good content, observed under a number of its own, for numbers only rise."""
        from proxyctl.adapters.nginx.render import renumber

        if last_good is None:
            raise _degraded("nginx runs, but what it runs with is not known", reason)
        number = claim()
        files = {**last_good.files, CONFIG: renumber(last_good.text, last_good.number, number)}
        group = await self._workers_group(master)
        restored = self._generations.stage(number, last_good.fence, last_good.topology, files, last_good.ends, group)
        self._generations.activate(restored)
        try:
            await self._reload(last_good, number, master, took)
        except NotTaken as again:
            raise _degraded(
                f"nginx did not take the last good content either, as {number}", f"{reason}\n{again}"
            ) from again
        return number

    # --- upgrade ---------------------------------------------------------------------------------------------------

    async def upgrade(self, claim: Callable[[], int]) -> None:
        current = self._generations.current()
        master = self._running.master()
        if current is None or master is None:
            raise NginxUnavailable("nginx does not run", next_step="proxyctl proxy start")
        settings = current.topology.settings
        if settings.mode is not Mode.PROCESS:
            raise _not_upgraded(settings)
        await self._readable_by_the_new(current)
        await self._running.begin_upgrade(master)
        async with self._clients_let_go(current):
            await self._running.end_upgrade(master)
        await self.publish(current.topology, current.fence, claim)  # the new one may know more directives

    async def _readable_by_the_new(self, current: Generation) -> None:
        """What it only warns of is written anew for it afterwards."""
        verdict = await self._program(current.topology.settings).test(current.config, self._places.root)
        if verdict.code != 0:
            raise NginxUnavailable(
                "the new nginx does not take the configuration in force",
                detail=verdict.said,
                serving="the nginx that ran before, unchanged",
                next_step="install another nginx, or mend proxyctl.yml and deploy",
            )

    # --- start, stop, status ---------------------------------------------------------------------------------------

    async def start(self) -> ProxyStatus:
        current = self._generations.current()
        if current is None:
            raise NginxUnavailable("there is no configuration yet to start nginx with", next_step="proxyctl deploy")
        master = self._running.master()
        observed = await self._running.generation_of(master) if master else None
        if master is None or observed is None:
            self._workers_may_enter(current.topology)
            await self._bring_up(current)
        elif observed < current.number:
            await self._catch_up(current, master)
        return await self.status()

    async def _catch_up(self, current: Generation, master: Process) -> None:
        """A publisher died between its rename and its HUP, or the machine let the master start no workers."""
        verdict = await self._binary(current.topology.settings).test(current.config, self._places.root)
        self._workers_may_enter(current.topology)
        try:
            await self._reload(current, current.number, master, verdict.took)
        except NotTaken as reason:
            what = f"nginx does not take generation {current.number}, which it should have"
            raise NginxUnavailable(what, detail=str(reason), serving=LAST_GOOD_SERVES) from reason

    async def stop(self) -> None:
        current = self._last_good()
        topology = current.topology if current else NOTHING_KNOWN
        drains = [route.drain for route in topology.routes]
        patience = max([topology.settings.worker_shutdown_timeout, *drains]) + QUITS_WITHIN
        await self._running.stop(topology.settings, patience)

    async def status(self) -> ProxyStatus:
        master, orphans = self._running.master(), self._running.orphans()
        workers = orphans if master is None else [*orphans, *workers_of(master)]
        return ProxyStatus(
            state=_state(master, orphans),
            version=await self._version(),
            pid=master.pid if master else None,
            generation=self._generations.current_number(),
            observed=await self._observed(),
            draining=sum(1 for worker in workers if worker.leaving and worker.title),
            certificates=self._certificates_end(),
        )

    def _certificates_end(self) -> Mapping[ServiceName, float]:
        current = self._last_good()
        return current.ends if current else {}

    async def _version(self) -> str:
        current = self._last_good()
        topology = current.topology if current else NOTHING_KNOWN
        with suppress(NginxUnavailable):
            return await self._binary(topology.settings).version()
        return ""

    async def _observed(self) -> int | None:
        with suppress(NginxUnavailable):
            return (await self._control.speaker()).generation
        return None

    async def rotate_logs(self, limit: int) -> list[str]:
        return [path.name for path in await self._running.begin_logs_anew(limit)]

    # --- look without touching -------------------------------------------------------------------------------------

    async def check(self, topology: Topology, changed: ServiceName | None = None) -> list[str]:
        """nginx reads the configuration as it would be, written for a folder that is gone afterwards."""
        with tempfile.TemporaryDirectory(prefix="proxyctl-check-") as folder:
            try:
                objections = await self._test_in(Path(folder), topology, changed)
            except (PublishRefused, NginxUnavailable) as error:
                return [str(error), *error.detail.splitlines()[1:]]
        hindrances = (_blindness(self._places, topology), self._runs_in_another_mode(self._last_good(), topology))
        return [*objections, *filter(None, hindrances), *self._taken(topology)]

    async def _test_in(self, folder: Path, topology: Topology, changed: ServiceName | None) -> list[str]:
        found = looked_at(topology)
        if changed is None and found.refused:
            return found.objections
        files = found.files if changed is None else _copies(topology, self._last_good()).files
        elsewhere = Places(folder / "state")
        elsewhere.create()
        binary = self._binary(topology.settings)
        settings = topology.settings
        address = own_address(elsewhere) if settings.mode.ours else self._control_address(settings)
        state = elsewhere if settings.mode.ours else self._places  # nginx tells by its path what is ours
        files = {**files, CONFIG: await _configuration(topology, 1, state, await binary.knows(), address)}
        for name, text in files.items():
            folder.joinpath(name).parent.mkdir(exist_ok=True)
            folder.joinpath(name).write_text(text, "utf-8")
        _fit_for_a_socket(self._places)
        verdict = await binary.test(folder / CONFIG, folder)
        return [line.replace(str(elsewhere.root), str(self._places.root)) for line in verdict.objections]

    def _taken(self, topology: Topology) -> list[str]:
        """Addresses that somebody other than our nginx holds."""
        if not topology.settings.mode.ours:
            return []  # nginx itself may hold them, for the user's own sites
        current = self.topology() if self._running.master() or self._running.orphans() else None
        ours = current.listens if current else ()
        taken = obstacles(tuple(listen for listen in topology.listens if listen not in ours))
        return [f"{reason}; {self._to_share}" if "(nginx)" in reason else reason for reason in taken]

    @property
    def _to_share(self) -> str:
        return (
            f"to be served by that nginx, write mode: include under proxy, and `{include_line(self._places)}` into the"
            " http part of its configuration"
        )

    async def diff(self, topology: Topology) -> str:
        known = await self._binary(topology.settings).knows()
        current = self._generations.current()
        before = current.text if current else ""
        address = self._control_address(topology.settings)
        after = await _configuration(topology, current.number if current else 1, self._places, known, address)
        name = str(self._places.current / CONFIG)
        return difference(before, after, name, f"{name} (planned)")

    def topology(self) -> Topology | None:
        current = self._generations.current()
        return current.topology if current else None

    def endpoint(self, route: Route, colour: Colour) -> Endpoint:
        control = address_in_force(self._places)
        return Endpoint(
            replica=f"{route.service} {colour} through nginx",
            address="" if control.socket else control.listen,
            socket=control.socket,
            prefix=f"{control.prefix}{prober_prefix(route.service, colour)}",
            host=route.hosts[0] if route.hosts else "",
        )


def _not_upgraded(settings: ProxySettings) -> NginxUnavailable:
    ways = {
        Mode.CONTAINER: "set proxy.image, then proxyctl proxy stop and proxyctl deploy; nothing is served in between",
        Mode.INCLUDE: "upgrade your own nginx; what it includes of proxyctl stays",
    }
    return NginxUnavailable(
        f"nginx in mode {settings.mode} is not upgraded in place", serving="unchanged", next_step=ways[settings.mode]
    )


def _holds(current: Generation, files: dict[str, str]) -> bool:
    """Whether it is this configuration; what it holds beside that, no configuration names any more."""
    return files.items() <= current.files.items()


def _copies(topology: Topology, current: Generation | None) -> Copies:
    """Raises PublishRefused."""
    try:
        return copied(topology, current)
    except FileRefused as error:
        raise _refused(str(error)) from error


def _group_named(settings: ProxySettings) -> int | None:
    """Of the workers, where the settings name their user: nginx takes the group of that name. An image has its own."""
    if os.geteuid() != 0 or settings.user is None or settings.mode is not Mode.PROCESS:
        return None
    with suppress(KeyError):  # nginx itself names one that does not exist
        return grp.getgrnam(settings.user).gr_gid
    return None


async def _configuration(
    topology: Topology, number: int, places: Places, known: frozenset[Directive], control: Address
) -> str:
    """Raises PublishRefused for what cannot be written, or must not be."""
    # Jinja costs 80 ms, and `status` renders nothing.
    from proxyctl.adapters.nginx.configuration import ConfigurationRefused, TemplateRefused, configuration

    try:
        return await configuration(_for_this_user(topology), number, places, known, control)
    except ConfigurationRefused as refused:
        raise _refused("the templates write what nginx must not get", "\n".join(refused.refusals), MEND) from refused
    except TemplateRefused as refused:
        raise _refused(f"proxy.templates: {refused}", next_step=MEND) from refused
    except ValueError as error:
        raise _refused(str(error)) from error


def _fit_for_a_socket(places: Places) -> None:
    """Raises PublishRefused when no socket can have a path this long."""
    if len(os.fsencode(places.control_socket)) > SOCKET_PATH_LIMIT:
        raise _refused(f"the path of the state folder {places.root} is too long for a unix socket in it")


def _blindness(places: Places, topology: Topology) -> str:
    try:
        user = worker_user(topology.settings.user) if topology.settings.mode is Mode.PROCESS else OTHERS
    except KeyError:
        return ""  # nginx itself names a user that does not exist
    return refused_part(places.splits, user)


def _for_this_user(topology: Topology) -> Topology:
    """nginx warns of a worker user when its master is not root, and a warning is an objection."""
    if os.geteuid() == 0:
        return topology
    return topology.replace(settings=topology.settings.replace(user=None))


def _state(master: Process | None, orphans: list[Process]) -> ProxyState:
    if master is not None:
        return ProxyState.RUNNING
    return ProxyState.ORPHANED if any(not orphan.leaving for orphan in orphans) else ProxyState.STOPPED


def _refused(
    what: str, words: str = "", next_step: str = "change proxyctl.yml as nginx asks, then proxyctl check"
) -> PublishRefused:
    return PublishRefused(
        f"{what}: {words.splitlines()[0]}" if words else what,
        detail=words,
        serving=LAST_GOOD_SERVES,
        next_step=next_step,
    )


def _degraded(what: str, words: str) -> Degraded:
    return Degraded(
        what,
        detail=words,
        serving="what nginx has in memory; it must not be restarted before its configuration is repaired",
        next_step="proxyctl proxy status",
    )
