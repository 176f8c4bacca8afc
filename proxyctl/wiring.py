"""The composition root: the only file that names concrete adapters.

Light things first: what `rollback`, `switch`, `weight` and `status` need is the standard library and click. Whatever
imports docker, aiohttp, jinja2 or pydantic is imported inside the function that needs it; a test watches sys.modules.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from proxyctl.adapters.clock import SystemClock
from proxyctl.adapters.docker.inspector import SocketInspector
from proxyctl.adapters.durable import put_once, told_in_words
from proxyctl.adapters.freeze import FreezeFile
from proxyctl.adapters.locks import FileLocks
from proxyctl.adapters.nginx.traffic.cutover import SplitsInForce
from proxyctl.adapters.places import Places
from proxyctl.adapters.processes import DetachedProcesses
from proxyctl.adapters.raw_prober import RawProber
from proxyctl.adapters.sqlite import SqliteStore
from proxyctl.config.places import find_file, project_name, state_dir
from proxyctl.domain.model import HealthCheck, HealthKind, Mode, Replica, ServiceName
from proxyctl.engine.bus import Bus
from proxyctl.engine.runner import Hands
from proxyctl.engine.steering import Steering
from proxyctl.engine.traffic import TrafficHands
from proxyctl.errors import StateUnusable
from proxyctl.ports import Endpoint, ProbeResult

if TYPE_CHECKING:
    from proxyctl.adapters.docker.calls import EngineCalls
    from proxyctl.adapters.docker.runtime import DockerRuntime
    from proxyctl.adapters.nginx.log.access_log import NginxAccessLog
    from proxyctl.adapters.nginx.look import NginxLook
    from proxyctl.adapters.nginx.proxy import NginxProxy
    from proxyctl.adapters.nginx.traffic.reloaded import Wishes
    from proxyctl.config.load import Project
    from proxyctl.domain.model import ProxySettings
    from proxyctl.domain.source import Measurement, Source
    from proxyctl.domain.ticks import Tick
    from proxyctl.engine.releases import Opening, TellNetwork
    from proxyctl.engine.supervisor import Supervisor
    from proxyctl.ports import Measurer, NginxProgram, Prober, Recording, Store, Subject


class Workshop:
    """Everything of one project, made when first asked for."""

    def __init__(self, file: str | None, state: str | None, environment: Mapping[str, str] = os.environ) -> None:
        self.file = find_file(file, environment, Path.cwd())
        self.name = project_name(self.file)
        self.places = Places(root=state_dir(self.name, state, environment))
        self._enter()
        self.clock = SystemClock()
        self.bus = Bus()

    def _enter(self) -> None:
        """The state folder is there, and ours."""
        with told_in_words(self.places.root):
            self.places.create()
            put_once(self.places.owner, self.name)
        _refuse_what_is_of_another(self.places, self.name)

    # --- light ---

    @cached_property
    def store(self) -> SqliteStore:
        self._refuse_without_its_journal()
        return SqliteStore(self.places.store)

    def _refuse_without_its_journal(self) -> None:
        if self.places.current.is_symlink() and not self.places.store.exists():
            raise StateUnusable(
                f"the journal {self.places.store} is gone, and nginx serves what it told of",
                serving="traffic stays as it is",
                next_step=f"bring {self.places.store} back from a backup; else end all of this project (its containers"
                f" carry the label proxyctl.project={self.name}), remove {self.places.root} and deploy anew",
            )

    @cached_property
    def freeze(self) -> FreezeFile:
        return FreezeFile(self.places)

    @cached_property
    def locks(self) -> FileLocks:
        return FileLocks(self.places)

    @cached_property
    def splits(self) -> SplitsInForce:
        return SplitsInForce(self.places, self._shift)

    @cached_property
    def inspector(self) -> SocketInspector:
        return SocketInspector(self.name)

    @cached_property
    def processes(self) -> DetachedProcesses:
        options = ("-f", str(self.file), "--state", str(self.places.root))
        return DetachedProcesses(self.places, self.locks, options)

    @cached_property
    def steering(self) -> Steering:
        return Steering(
            store=self.store,
            locks=self.locks,
            clock=self.clock,
            splits=self.splits,
            inspector=self.inspector,
            processes=self.processes,
            hands=self.light_hands,
            put_back=self._put_back,
        )

    async def _put_back(self, replicas: Sequence[Replica]) -> None:
        await self.runtime.put_back(replicas)

    def light_hands(self, _fence: int) -> Hands:
        traffic = TrafficHands(
            inspector=self.inspector, prober=_WarmProbers(self), splits=self.splits, clock=self.clock
        )
        return traffic.hands()

    # --- what only a driver needs, and what is heavy ---

    def supervisor(self, woken: asyncio.Event) -> Supervisor:
        from proxyctl.engine.supervisor import Supervisor

        return Supervisor(
            store=self.store,
            locks=self.locks,
            clock=self.clock,
            splits=self.splits,
            inspector=self.inspector,
            hands=self.all_hands,
            bus=self.bus,
            woken=woken,
        )

    def listening(self, service: ServiceName, woken: asyncio.Event) -> AbstractAsyncContextManager[None]:
        """This process drives the service: it can be woken, and tells its ticks."""
        from proxyctl.adapters.runner_socket import listening

        return listening(self.places.driver_socket(service), woken, self.bus.listen)

    def ticks(self, service: ServiceName) -> AsyncIterator[Tick]:
        """What the process that drives the service tells, until it ends."""
        from proxyctl.adapters.runner_socket import ticks

        return ticks(self.places.driver_socket(service))

    @cached_property
    def config(self) -> Project:
        from proxyctl.config.load import load

        return load(self.file)

    async def _shift(self, wishes: Wishes) -> None:
        """One publisher per host at a time, as with every generation."""
        async with self.locks.publishing():
            await self._mend_generation()
            await self.proxy.shift(wishes(), self.store.claim_generation)

    async def mend_generation(self) -> int | None:
        """nginx starts with what was published, also after somebody's hand was in it: the generation that took its
        place, or None. Raises like publish()."""
        if not self.look.damage():
            return None  # at once, whoever publishes on this host meanwhile
        async with self.locks.publishing():
            return await self._mend_generation()

    async def _mend_generation(self) -> int | None:
        from proxyctl.engine.published import mend

        return await mend(self.name, self.store, self.proxy)

    @cached_property
    def runtime(self) -> DockerRuntime:
        from proxyctl.adapters.docker.runtime import DockerRuntime

        return DockerRuntime(self.name, self.places.root)

    @cached_property
    def look(self) -> NginxLook:
        from proxyctl.adapters.nginx.look import NginxLook

        return NginxLook(self.places, self._program)

    @cached_property
    def proxy(self) -> NginxProxy:
        from proxyctl.adapters.nginx.proxy import NginxProxy

        return NginxProxy(self.places, self.name, self._program)

    def _program(self, settings: ProxySettings) -> NginxProgram:
        if settings.mode is Mode.CONTAINER:
            from proxyctl.adapters.docker.nginx_container import ContainerProgram

            return ContainerProgram(self.name, self.places, settings, self._engine)
        if settings.mode is Mode.INCLUDE:
            from proxyctl.adapters.nginx.process.included import IncludedProgram

            return IncludedProgram(self.places, settings)
        from proxyctl.adapters.nginx.process.binary import on_host

        return on_host(self.places, settings)

    @cached_property
    def _engine(self) -> EngineCalls:
        from proxyctl.adapters.docker.calls import EngineCalls

        return EngineCalls()

    @cached_property
    def prober(self) -> Prober:
        from proxyctl.adapters.docker.prober import DockerProber
        from proxyctl.adapters.prober import AiohttpProber
        from proxyctl.engine.probers import ProberByKind

        network, engine = AiohttpProber(), DockerProber(self.runtime)
        return ProberByKind(
            {
                HealthKind.HTTP: network,
                HealthKind.TCP: network,
                HealthKind.EXEC: engine,
                HealthKind.DOCKER: engine,
                HealthKind.NONE: engine,
            }
        )

    @cached_property
    def measurer(self) -> Measurer:
        from proxyctl.adapters.docker.measurer import CandidateMeasurer
        from proxyctl.adapters.host_measurer import HostMeasurer
        from proxyctl.adapters.http_measurer import HttpMeasurer
        from proxyctl.domain.source import CandidateCommand, HostCommand, JsonNumber, PromQuery
        from proxyctl.engine.measurers import MeasurerByQuestion

        http = HttpMeasurer()
        return MeasurerByQuestion(
            {
                PromQuery: http,
                JsonNumber: http,
                HostCommand: HostMeasurer(),
                CandidateCommand: CandidateMeasurer(self.runtime),
            }
        )

    @cached_property
    def opening(self) -> Opening:
        return self.opening_in(self.store, self.runtime.network)

    def opening_in(self, store: Store, network: TellNetwork) -> Opening:
        from proxyctl.engine.releases import Opening

        return Opening(
            runtime=self.runtime, network=network, store=store, project=self.name, settings=self.config.settings
        )

    @cached_property
    def access_log(self) -> NginxAccessLog:
        from proxyctl.adapters.nginx.log.access_log import NginxAccessLog

        return NginxAccessLog(self.places, self.name)

    def all_hands(self, fence: int) -> Hands:
        from proxyctl.adapters.hooks import HookFolder
        from proxyctl.config.places import HOOKS
        from proxyctl.engine.replicas import ReplicaHands

        replicas = ReplicaHands(
            project=self.name,
            runtime=self.runtime,
            prober=_LateProber(self),
            proxy=self.proxy,
            store=self.store,
            locks=self.locks,
            clock=self.clock,
            bus=self.bus,
            fence=fence,
            hooks=HookFolder(self.file.parent / HOOKS),
            log=self.access_log,
            measurer=_LateMeasurer(self),
        )
        return self.light_hands(fence) | replicas.hands()

    def start_at_boot(self) -> list[Path]:
        """The systemd units that do it, with the engine that is meant now. Raises Unavailable."""
        from proxyctl.adapters.docker.address import VARIABLES
        from proxyctl.adapters.systemd import install, units

        mode, engine = self.config.settings.mode, {name: os.environ[name] for name in VARIABLES if name in os.environ}
        return install(units(self.name, self.file, self.places.root, self.places.pid_file, mode, engine))

    def known_services(self) -> list[ServiceName]:
        return self.store.services()

    async def close(self) -> None:
        """Closes what was made; nothing is made to be closed."""
        for made in ("prober", "runtime", "_engine"):
            if made in self.__dict__:
                await self.__dict__[made].close()
        if "store" in self.__dict__:
            self.store.close()


class Showroom(Workshop):
    """All of it to be looked at: makes and changes nothing, and needs no folder that may be written, or any."""

    def _enter(self) -> None:
        _refuse_what_is_of_another(self.places, self.name)

    @cached_property
    def store(self) -> SqliteStore:
        self._refuse_without_its_journal()
        return SqliteStore.to_read(self.places.store)

    @cached_property
    def access_log(self) -> NginxAccessLog:
        from proxyctl.adapters.nginx.log.access_log import NginxAccessLog

        return NginxAccessLog(self.places, self.name, salt=b"of this look")


def _refuse_what_is_of_another(places: Places, project: str) -> None:
    """One state folder is of one project, for ever; what is not there is nobody's. Raises StateUnusable."""
    owner = project
    with told_in_words(places.root), suppress(FileNotFoundError):
        owner = places.owner.read_text(errors="backslashreplace")
    if owner != project:
        raise StateUnusable(
            f"the state folder {places.root} is of project {owner}, and {project} is not it",
            serving="unchanged by this command",
            next_step="name another folder: --state DIR, or PROXYCTL_STATE",
        )


class _LateProber:
    """Imported aside while the engine starts containers: both take a tenth of a second."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._imported = asyncio.ensure_future(asyncio.to_thread(import_module, "proxyctl.adapters.prober"))

    async def probe(self, endpoint: Endpoint, check: HealthCheck) -> ProbeResult:
        await asyncio.shield(self._imported)
        return await self._workshop.prober.probe(endpoint, check)

    async def close(self) -> None: ...


class _LateMeasurer:
    """Made when the first source is asked: most services have none."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop

    async def measure(self, source: Source, subject: Subject) -> Measurement:
        return await self._workshop.measurer.measure(source, subject)


class _WarmProbers:
    """HTTP and TCP over bare sockets; a check that needs the engine makes the heavy prober."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._raw = RawProber()

    async def probe(self, endpoint: Endpoint, check: HealthCheck) -> ProbeResult:
        light = check.kind in (HealthKind.HTTP, HealthKind.TCP)
        prober = self._raw if light else self._workshop.prober
        return await prober.probe(endpoint, check)

    async def close(self) -> None: ...


def recording(log: Path, service: ServiceName, seed: int) -> Recording:
    """Needs no project. Raises UsageError where there is nothing to go by."""
    from proxyctl.adapters.nginx.log.recorded import RecordedLog

    return RecordedLog(log, service, seed)


def workshop(file: str | None, state: str | None) -> AbstractAsyncContextManager[Workshop]:
    """To act."""
    return _closed_afterwards(Workshop(file, state))


def showroom(file: str | None, state: str | None) -> AbstractAsyncContextManager[Workshop]:
    """To look."""
    return _closed_afterwards(Showroom(file, state))


@asynccontextmanager
async def _closed_afterwards(made: Workshop) -> AsyncIterator[Workshop]:
    try:
        yield made
    finally:
        await made.close()
