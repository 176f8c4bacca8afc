"""The nginx of one project: publish generations to it, start it, stop it, say how it is. Start at NginxProxy.publish().

A publish changes what nginx knows (services, hosts, addresses), never who gets traffic: splits move without it. It ends
observed, or with the last good content observed again, or in Degraded.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from proxyctl.adapters.nginx.binary import Directive, NginxBinary
from proxyctl.adapters.nginx.closing import connections_closing, lets_go, stay_open
from proxyctl.adapters.nginx.control import Control
from proxyctl.adapters.nginx.difference import difference
from proxyctl.adapters.nginx.generations import Generation, Generations
from proxyctl.adapters.nginx.listens import obstacle, parse
from proxyctl.adapters.nginx.master import Process, has_clients, workers_of
from proxyctl.adapters.nginx.names import CONFIG, TLS_FOLDER, prober_prefix, tls_files
from proxyctl.adapters.nginx.running import NotTaken, RunningNginx
from proxyctl.adapters.nginx.sight import refused_part, worker_user
from proxyctl.adapters.places import Places
from proxyctl.domain.model import Colour, ProxySettings, Route, Seconds, ServiceName, Topology
from proxyctl.errors import Degraded, NginxUnavailable, PublishRefused, StateUnusable
from proxyctl.ports import Endpoint, ProxyState, ProxyStatus

SOCKET_PATH_LIMIT = 107  # bytes of sun_path in unix(7), without its last NUL
QUITS_WITHIN: Seconds = 5.0  # beyond the workers' shutdown timeout
NOTHING_KNOWN = Topology(project="", settings=ProxySettings(), routes=())
MEND = "mend the template, then proxyctl check"
LAST_GOOD_SERVES = "the last good configuration, unchanged"


class Certificates(NamedTuple):
    files: dict[str, str]  # of a generation
    ends: dict[ServiceName, float]  # unix time


class NginxProxy:
    """Implements `Proxy` for `proxy.mode: process`."""

    def __init__(self, places: Places, project: str) -> None:
        self._places = places
        self._project = project
        self._generations = Generations(places)
        self._control = Control(places.control_socket)
        self._running = RunningNginx(places)

    # --- publish ---------------------------------------------------------------------------------------------------

    async def publish(self, topology: Topology, fence: int, claim: Callable[[], int]) -> int:
        _fit_for_a_socket(self._places)
        self._places.create()
        current = self._last_good()
        self._refuse_another_project(current)
        stay_open(self._places)  # a publisher may have died while clients were let go
        self._workers_may_enter(topology)
        known = await NginxBinary(topology.settings.binary).knows()
        certificates = _certificates(topology, current)
        if current is not None and await self._files(topology, current.number, known, certificates) == current.files:
            await self.start()
            return current.number
        number = claim()
        files = await self._files(topology, number, known, certificates)
        candidate = self._generations.stage(number, fence, topology, files, certificates.ends)
        took = await self._validate(candidate)
        master = self._running.master()
        if master is None:
            await self._start_with(candidate, current)
        else:
            await self._reload_to(candidate, current, master, took, claim)
        self._generations.prune()
        return number

    async def reload(self, claim: Callable[[], int]) -> int:
        current = self._generations.current()
        if current is None:
            raise NginxUnavailable("there is no configuration yet to reload", next_step="proxyctl deploy")
        return await self.publish(current.topology, current.fence, claim)

    async def _files(
        self, topology: Topology, number: int, known: frozenset[Directive], certificates: Certificates
    ) -> dict[str, str]:
        return {CONFIG: await _configuration(topology, number, self._places, known), **certificates.files}

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
            verdict = await NginxBinary(candidate.topology.settings.binary).test(candidate.config)
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
            await self._running.start(candidate)
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
            restored = await self._restore(current, master, took, claim, str(reason))
            self._generations.discard(candidate)
            what = f"nginx did not take generation {candidate.number}; the content before it serves as {restored}"
            raise _refused(what, str(reason)) from reason

    async def _reload(self, in_force: Generation | None, number: int, master: Process, took: Seconds) -> None:
        """Clients are let go first where that can spare them a lost request. Raises NotTaken."""
        settings = in_force.topology.settings if in_force else NOTHING_KNOWN.settings
        ports = {parse(listen).port for listen in (*settings.http, *settings.https)}
        helps = in_force is not None and lets_go(in_force.text) and any(map(has_clients, ports))
        async with connections_closing(self._places) if helps else nullcontext():
            await self._running.reload(number, master, took)

    async def _restore(
        self, last_good: Generation | None, master: Process, took: Seconds, claim: Callable[[], int], reason: str
    ) -> int:
        """The last good content, observed under a number of its own, for numbers only rise."""
        from proxyctl.adapters.nginx.render import renumber

        if last_good is None:
            raise _degraded("nginx runs, but what it runs with is not known", reason)
        number = claim()
        files = {**last_good.files, CONFIG: renumber(last_good.text, last_good.number, number)}
        restored = self._generations.stage(number, last_good.fence, last_good.topology, files, last_good.ends)
        self._generations.activate(restored)
        try:
            await self._reload(last_good, number, master, took)
        except NotTaken as again:
            raise _degraded(
                f"nginx did not take the last good content either, as {number}", f"{reason}\n{again}"
            ) from again
        return number

    # --- start, stop, status ---------------------------------------------------------------------------------------

    async def start(self) -> ProxyStatus:
        current = self._generations.current()
        if current is None:
            raise NginxUnavailable("there is no configuration yet to start nginx with", next_step="proxyctl deploy")
        master = self._running.master()
        observed = await self._running.generation_of(master) if master else None
        if master is None or observed is None:
            self._workers_may_enter(current.topology)
            await self._running.start(current)
        elif observed < current.number:
            await self._catch_up(current, master)
        return await self.status()

    async def _catch_up(self, current: Generation, master: Process) -> None:
        """A publisher died between its rename and its HUP."""
        verdict = await NginxBinary(current.topology.settings.binary).test(current.config)
        self._workers_may_enter(current.topology)
        try:
            await self._reload(current, current.number, master, verdict.took)
        except NotTaken as reason:
            what = f"nginx does not take generation {current.number}, which an interrupted publish left"
            raise NginxUnavailable(what, detail=str(reason), serving=LAST_GOOD_SERVES) from reason

    async def stop(self) -> None:
        current = self._last_good()
        topology = current.topology if current else NOTHING_KNOWN
        drains = [route.drain for route in topology.routes]
        await self._running.stop(max([topology.settings.worker_shutdown_timeout, *drains]) + QUITS_WITHIN)

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
            return await NginxBinary(topology.settings.binary).version()
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
        return [*objections, *filter(None, [_blindness(self._places, topology)]), *self._taken(topology)]

    async def _test_in(self, folder: Path, topology: Topology, changed: ServiceName | None) -> list[str]:
        certificates, objections = _read_certificates(topology)
        if changed is not None:
            certificates = _certificates(topology, self._last_good())
        elif objections:
            return list(objections.values())
        elsewhere = Places(folder / "state")
        elsewhere.create()
        config = folder / CONFIG
        folder.joinpath(TLS_FOLDER).mkdir()
        for name, text in certificates.files.items():
            folder.joinpath(name).write_text(text)
        binary = NginxBinary(topology.settings.binary)
        config.write_text(await _configuration(topology, 1, elsewhere, await binary.knows()))
        _fit_for_a_socket(self._places)
        verdict = await binary.test(config)
        return [line.replace(str(elsewhere.root), str(self._places.root)) for line in verdict.objections]

    def _taken(self, topology: Topology) -> list[str]:
        """Addresses that somebody other than our nginx holds."""
        current = self.topology() if self._running.master() or self._running.orphans() else None
        ours = current.settings.http if current else ()
        return [
            reason for reason in (obstacle(listen) for listen in topology.settings.http if listen not in ours) if reason
        ]

    async def diff(self, topology: Topology) -> str:
        known = await NginxBinary(topology.settings.binary).knows()
        current = self._generations.current()
        before = current.text if current else ""
        after = await _configuration(topology, current.number if current else 1, self._places, known)
        name = str(self._places.current / CONFIG)
        return difference(before, after, name, f"{name} (planned)")

    def topology(self) -> Topology | None:
        current = self._generations.current()
        return current.topology if current else None

    def endpoint(self, route: Route, colour: Colour) -> Endpoint:
        return Endpoint(
            replica=f"{route.service} {colour} through nginx",
            socket=str(self._places.control_socket),
            prefix=prober_prefix(route.service, colour),
            host=route.hosts[0] if route.hosts else "",
        )


def _certificates(topology: Topology, current: Generation | None) -> Certificates:
    """Of every service that has one. What cannot be used any more stays as it is in force: the certificate of one
    service does not hinder another's deploy. Raises PublishRefused for a new one."""
    found, objections = _read_certificates(topology)
    for service, objection in objections.items():
        if current is None or service not in current.ends:
            raise _refused(objection)
        found.files.update({name: current.files[name] for name in tls_files(service)})
        found.ends[service] = current.ends[service]
    return found


def _read_certificates(topology: Topology) -> tuple[Certificates, dict[ServiceName, str]]:
    """Those that can be used, and by service, why the others cannot."""
    found, objections = Certificates({}, {}), dict[ServiceName, str]()
    encrypted = [(route, route.tls) for route in topology.routes if route.tls is not None]
    if not encrypted:
        return found, objections
    from proxyctl.adapters.nginx.certificates import CertificateRefused, read

    for route, tls in encrypted:
        try:
            certificate = read(tls, (*route.hosts, *route.aliases), datetime.now(UTC))
        except CertificateRefused as refused:
            objections[route.service] = f"{route.service}: {refused}"
        else:
            found.files.update(zip(tls_files(route.service), (certificate.chain, certificate.key), strict=True))
            found.ends[route.service] = certificate.ends.timestamp()
    return found, objections


async def _configuration(topology: Topology, number: int, places: Places, known: frozenset[Directive]) -> str:
    """Raises PublishRefused for what cannot be written, or must not be."""
    # Jinja costs 80 ms, and `status` renders nothing.
    from proxyctl.adapters.nginx.configuration import ConfigurationRefused, TemplateRefused, configuration

    try:
        return await configuration(_for_this_user(topology), number, places, known)
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
        user = worker_user(topology.settings.user)
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
