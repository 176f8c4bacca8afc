"""Every port in memory: for tests of the engine, held to the same contract suites as the real adapters.

A MemoryWorld is what the adapters see: containers, the published topology, the flags, the clock. A test breaks it by
hand: `world.kill("shop-web-2-1")`, `world.sick.add(image)`, `world.engine_hangs = True`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import count

from proxyctl.domain.container import Container, Hook
from proxyctl.domain.events import Event, ProjectEvent
from proxyctl.domain.model import (
    LOOPBACK,
    Colour,
    HealthCheck,
    Incarnation,
    Mode,
    ProxySettings,
    Release,
    Replica,
    Route,
    Seconds,
    ServiceName,
    Topology,
)
from proxyctl.domain.progress import Progress
from proxyctl.domain.source import Measurement, Source
from proxyctl.domain.split import WHOLE
from proxyctl.domain.state import ServiceState
from proxyctl.domain.tally import TICK, Position, Tally, Tick
from proxyctl.errors import (
    AddressTaken,
    DockerUnavailable,
    Fenced,
    ImageUnavailable,
    Locked,
    NameTaken,
    NginxUnavailable,
    PublishRefused,
    Unavailable,
)
from proxyctl.ports import (
    Endpoint,
    Entry,
    Flags,
    Holder,
    Image,
    Life,
    Lock,
    Network,
    Note,
    ProbeResult,
    ProxyState,
    ProxyStatus,
    Reading,
    ReplicaState,
    Subject,
    Traffic,
)


class MemoryWorld:
    def __init__(self) -> None:
        self.time = 1000.0
        self.ahead = 0.0  # the wall clock, of the time that passed
        self.containers: dict[str, ReplicaState] = {}
        self.owner: dict[str, ServiceName] = {}
        self.image_of: dict[str, str] = {}
        self.policies: dict[str, str] = {}
        self.missing_images: set[str] = set()
        self.foreign_names: set[str] = set()
        self.sick: set[str] = set()  # images that never pass a probe
        self.dies_at_start: set[str] = set()  # images that exit as soon as they run
        self.refused_hosts: set[str] = set()  # a topology with this host is refused by nginx
        self.host_ports: dict[str, tuple[int, ...]] = {}  # that a container listens on
        self.strangers: dict[int, str] = {}  # who holds a port of the host
        self.engine_hangs = False
        self.nginx_down = False
        self.old_workers_end = 0.0  # when
        self.published: list[tuple[int, Topology]] = []
        self.flags: dict[ServiceName, Flags] = {}
        self.moves: list[tuple[ServiceName, Flags | None]] = []
        self.logged: set[ServiceName] = set()
        self._lives = count(1)

    def run(self, name: str, address: str, image: str, service: ServiceName) -> ReplicaState:
        life = Life.EXITED if image in self.dies_at_start else Life.RUNNING
        incarnation = Incarnation(container=f"c-{name}", started_at=str(next(self._lives)))
        state = ReplicaState(
            name=name,
            life=life,
            incarnation=incarnation,
            address=address,
            exit_code=3 if life is Life.EXITED else None,
            health="healthy",
        )
        self.containers[name], self.image_of[name], self.owner[name] = state, image, service
        return state

    def kill(self, name: str, *, oom: bool = False) -> None:
        self.containers[name] = self.containers[name].replace(life=Life.EXITED, exit_code=137, oom_killed=oom)

    def restart(self, name: str) -> None:
        old = self.containers[name]
        self.run(name, old.address, self.image_of[name], self.owner[name])

    def engine(self) -> None:
        if self.engine_hangs:
            raise DockerUnavailable("the engine did not answer", next_step="start the engine")


class MemoryInspector:
    def __init__(self, world: MemoryWorld) -> None:
        self._world = world

    async def inspect(self, names: Sequence[str]) -> list[ReplicaState]:
        self._world.engine()
        return [self._world.containers.get(name, ReplicaState(name=name, life=Life.ABSENT)) for name in names]


class MemoryRuntime(MemoryInspector):
    async def resolve(self, definition: Container, progress: Callable[[str], None]) -> Image:
        self._world.engine()
        image = definition.image
        if image in self._world.missing_images:
            raise ImageUnavailable(f"no image {image}", next_step="build or push it")
        progress(f"{image} is here")
        return Image(reference=image, digest=f"sha256:{image}")

    async def require_image(self, release: Release) -> None:
        self._world.engine()
        if release.image in self._world.missing_images:
            raise ImageUnavailable(f"{release.id}: its image {release.image} is gone")

    async def require(self, definition: Container, names: Sequence[str]) -> None:
        self._world.engine()
        if taken := self._world.foreign_names.intersection(names):
            raise NameTaken(f"{min(taken)} is not ours")

    async def network(self) -> Network:
        self._world.engine()
        slots = tuple(f"172.30.0.{n}" for n in range(2, 128))
        return Network(name="slots", gateway="172.30.0.1", slots=slots)

    async def start(self, release: Release, replica: Replica, colour: Colour, rollout: str) -> Replica:
        world = self._world
        world.engine()
        if release.image in world.missing_images:
            raise ImageUnavailable(f"no image {release.image}")
        if replica.name in world.foreign_names:
            raise NameTaken(f"{replica.name} is not ours")
        running = world.containers.get(replica.name)
        if running is None or running.life is not Life.RUNNING:
            for port in release.service.host_ports:
                if holder := await self.stranger(port, ()):
                    raise AddressTaken(f"{replica.name} cannot have {LOOPBACK}:{port}: {holder} has it")
            for other in world.containers.values():
                if other.address == replica.ip != LOOPBACK and other.life is Life.RUNNING:
                    raise AddressTaken(f"{other.name} has {replica.ip}")
            _run_hooks("post_start", replica.name, release.service.container.post_start)
            running = world.run(replica.name, replica.ip, release.image, release.service.name)
            world.host_ports[replica.name] = release.service.host_ports
            world.policies[replica.name] = "no"
        return replica.replace(incarnation=running.incarnation)

    async def adopt_restart_policy(self, release: Release, names: Sequence[str]) -> None:
        self._world.engine()
        self._world.policies.update(dict.fromkeys(names, release.service.container.restart))

    async def stop(self, name: str, grace: Seconds, pre_stop: Sequence[Hook] = ()) -> str:
        self._world.engine()
        if self._world.containers.pop(name, None) is None:
            return ""
        try:
            _run_hooks("pre_stop", name, pre_stop)
        except Unavailable as failed:
            return str(failed)
        return ""

    async def owned(self, service: ServiceName | None = None) -> list[ReplicaState]:
        self._world.engine()
        return [s for n, s in self._world.containers.items() if service in (None, self._world.owner[n])]

    async def logs(self, name: str, tail: int) -> str:
        self._world.engine()
        return f"last words of {name}"

    async def follow(self, name: str, tail: int) -> AsyncIterator[str]:
        yield await self.logs(name, tail)

    async def traffic(self, name: str, port: int) -> Traffic:
        return Traffic(connections=0, quiet_for=float("inf"))

    async def put_back(self, replicas: Sequence[Replica]) -> list[str]:
        return []  # no hand reaches into this engine

    async def stranger(self, port: int, containers: Sequence[str]) -> str:
        listening = (s for n, s in self._world.containers.items() if port in self._world.host_ports.get(n, ()))
        ours = {s.incarnation.container for s in listening if s.life is Life.RUNNING and s.incarnation}
        return self._world.strangers.get(port, "") or ", ".join(sorted(ours - set(containers)))

    async def close(self) -> None: ...


def _run_hooks(kind: str, name: str, hooks: Sequence[Hook]) -> None:
    """Every command passes but `false`."""
    for hook in hooks:
        if hook.command[0] == "false":
            raise Unavailable(f"{kind} of {name}: false exited with code 1")


class MemoryProber:
    """A replica passes when its container runs and its image is not sick."""

    def __init__(self, world: MemoryWorld) -> None:
        self._world = world

    async def probe(self, endpoint: Endpoint, check: HealthCheck) -> ProbeResult:
        await asyncio.sleep(0)
        if endpoint.socket:
            return ProbeResult(passed=not self._world.nginx_down, reason="200", elapsed=0.0)
        state = self._world.containers.get(endpoint.replica)
        if state is None or state.life is not Life.RUNNING:
            return ProbeResult(passed=False, reason="connection refused", elapsed=0.0)
        if self._world.image_of[endpoint.replica] in self._world.sick:
            return ProbeResult(passed=False, reason="503 instead of 200-299", elapsed=0.0)
        return ProbeResult(passed=True, reason="200", elapsed=0.0)

    async def close(self) -> None: ...


class MemoryProxy:
    def __init__(self, world: MemoryWorld) -> None:
        self._world = world

    async def fetch(self, settings: ProxySettings, progress: Callable[[str], None]) -> None:
        """It is here."""

    async def start(self) -> ProxyStatus:
        self._world.nginx_down = False
        return await self.status()

    async def stop(self) -> None:
        self._world.nginx_down = True

    async def publish(self, topology: Topology, fence: int, claim: Callable[[], int]) -> int:
        world = self._world
        if world.published and world.published[-1][1] == topology:
            return world.published[-1][0]
        if any(host in world.refused_hosts for route in topology.routes for host in route.hosts):
            raise PublishRefused("nginx refused the new generation", detail="[emerg] no")
        world.published.append((claim(), topology))
        world.nginx_down = False
        return world.published[-1][0]

    def damage(self) -> str:
        return ""

    async def replace(
        self, topology: Topology, splits: Mapping[ServiceName, Flags | None], fence: int, claim: Callable[[], int]
    ) -> int:
        return await self.publish(topology, fence, claim)

    async def reload(self, claim: Callable[[], int]) -> int:
        if not self._world.published:
            raise NginxUnavailable("there is no configuration yet to reload", next_step="proxyctl deploy")
        return self._world.published[-1][0]

    async def upgrade(self, settings: ProxySettings, claim: Callable[[], int], progress: Callable[[str], None]) -> None:
        """There is one program only."""

    async def rotate_logs(self, limit: int) -> list[str]:
        return []

    async def check(self, topology: Topology, changed: ServiceName | None = None) -> list[str]:
        return []

    async def diff(self, topology: Topology) -> str:
        return "" if self.topology() == topology else "+ a new topology"

    def topology(self) -> Topology | None:
        return self._world.published[-1][1] if self._world.published else None

    async def status(self) -> ProxyStatus:
        number = self._world.published[-1][0] if self._world.published else None
        down = self._world.nginx_down
        state = ProxyState.STOPPED if down or number is None else ProxyState.RUNNING
        observed = None if down else number
        draining = int(self._world.time < self._world.old_workers_end)
        return ProxyStatus(
            state=state,
            mode=Mode.PROCESS,
            version="0",
            pid=None,
            generation=number,
            observed=observed,
            draining=draining,
        )

    def endpoint(self, route: Route, colour: Colour) -> Endpoint:
        return Endpoint(replica=f"nginx {colour}", socket="memory", prefix=f"/upstream/{route.service}/{colour}")


class MemorySplits:
    def __init__(self, world: MemoryWorld) -> None:
        self._world = world

    def read(self, service: ServiceName) -> Flags | None:
        return self._world.flags.get(service)

    async def move(self, service: ServiceName, flags: Flags | None) -> None:
        self._world.flags.pop(service, None)
        if flags is not None:
            self._world.flags[service] = flags
        self._world.moves.append((service, flags))
        await self.reach()

    async def doubt(self, service: ServiceName) -> str:
        return ""  # this nginx never fails to see

    async def reach(self) -> None:
        if self._world.nginx_down:
            raise NginxUnavailable("nginx does not answer", next_step="proxyctl proxy status")

    @contextmanager
    def logged(self, service: ServiceName) -> Iterator[None]:
        self._world.logged.add(service)
        yield
        self._world.logged.discard(service)


class MemoryStore:
    def __init__(self) -> None:
        self.journal: list[Entry] = []
        self._notes: list[Note] = []
        self._states: dict[ServiceName, ServiceState] = {}
        self._fences: dict[ServiceName, int] = {}
        self._progress: dict[ServiceName, Progress] = {}
        self._generation = 0
        self._slots: dict[tuple[ServiceName, Colour], list[str]] = {}
        self._requests: list[tuple[ServiceName, str, Event]] = []
        self._taken: set[int] = set()

    def services(self) -> list[ServiceName]:
        return sorted(self._states)

    def load(self, service: ServiceName) -> ServiceState:
        return self._states.get(service) or ServiceState(service=service)

    def raise_fence(self, service: ServiceName) -> int:
        self._fences[service] = self._fences.get(service, 0) + 1
        return self._fences[service]

    def append(self, events: Sequence[Event], state: ServiceState, rollout: str, fence: int, at: float) -> None:
        self._check_fence(state.service, fence)
        for event in events:
            seq = self.last_seq() + 1
            entry = Entry(seq=seq, service=state.service, rollout=rollout, at=at, fence=fence, event=event)
            self.journal.append(entry)
        self._states[state.service] = state

    def keep(self, service: ServiceName, progress: Progress, fence: int) -> None:
        self._check_fence(service, fence)
        self._progress[service] = progress

    def kept(self, service: ServiceName) -> Progress | None:
        return self._progress.get(service)

    def _check_fence(self, service: ServiceName, fence: int) -> None:
        if self._fences.get(service) != fence:
            raise Fenced(f"another process took over {service}")

    def entries(self, service: ServiceName | None = None, after: int = 0, limit: int = -1) -> list[Entry]:
        found = [e for e in self.journal if e.seq > after and service in (None, e.service)]
        return found if limit < 0 else found[:limit]

    def note(self, event: ProjectEvent, at: float) -> None:
        self._notes.append(Note(seq=self.last_seq() + 1, at=at, event=event))

    def told(self, service: ServiceName | None = None, after: int = 0) -> list[Entry | Note]:
        notes = [note for note in self._notes if note.seq > after]
        return sorted([*self.entries(service, after), *notes], key=lambda line: line.seq)

    def last_seq(self) -> int:
        return len(self.journal) + len(self._notes)

    def claim_generation(self) -> int:
        self._generation += 1
        return self._generation

    def burn_generations(self, upto: int) -> None:
        self._generation = max(self._generation, upto)

    def lease_slots(self, service: ServiceName, colour: Colour, count: int, free: Sequence[str]) -> tuple[str, ...]:
        mine = self._slots.setdefault((service, colour), [])
        mine[:] = mine if all(address in free for address in mine) else []
        used = {address for leased in self._slots.values() for address in leased}
        left = [address for address in free if address not in used]
        if len(mine) + len(left) < count:
            raise AddressTaken(f"no address left for {service} {colour}")
        mine += left[: max(0, count - len(mine))]
        return tuple(mine[:count])

    def ask(self, service: ServiceName, rollout: str, event: Event) -> int:
        self._requests.append((service, rollout, event))
        return len(self._requests)

    def take(self, service: ServiceName, rollout: str) -> list[Event]:
        open_ = {n: asked for n, asked in enumerate(self._requests, 1) if asked[0] == service and n not in self._taken}
        self._taken |= set(open_)
        return [event for _, asked_of, event in open_.values() if asked_of == rollout]

    def taken(self, request: int) -> bool:
        return request in self._taken

    def close(self) -> None: ...


class MemoryLock:
    def __init__(self, locks: MemoryLocks, service: ServiceName) -> None:
        self._locks, self._service = locks, service

    def fileno(self) -> int:
        return -1

    def release(self) -> None:
        self._locks.held.pop(self._service, None)


class MemoryLocks:
    def __init__(self) -> None:
        self.held: dict[ServiceName, Holder] = {}
        self._one = asyncio.Lock()

    def acquire(self, service: ServiceName, purpose: str) -> Lock:
        if service in self.held:
            raise Locked(f"{service} is being driven by {self.held[service].purpose}")
        self.held[service] = Holder(pid=1, started="0", purpose=purpose, since=0.0)
        return MemoryLock(self, service)

    def holder(self, service: ServiceName) -> Holder | None:
        return self.held.get(service)

    def end_holder(self, service: ServiceName) -> None:
        self.held.pop(service, None)

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        async with self._one:
            yield


class ManualClock:
    """Time passes when somebody sleeps, and only then."""

    boot = "memory"

    def __init__(self, world: MemoryWorld) -> None:
        self._world = world

    def now(self) -> Seconds:
        return self._world.time

    def wall(self) -> float:
        return self._world.time + self._world.ahead

    async def sleep(self, seconds: Seconds) -> None:
        self._world.time += max(seconds, 0.001)
        await asyncio.sleep(0)


class MemoryHooks:
    """Each runs and succeeds but those of `failing`."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, Mapping[str, str]]] = []
        self.failing: set[str] = set()

    async def run(self, name: str, told: Mapping[str, str]) -> None:
        self.ran.append((name, told))
        if name in self.failing:
            raise Unavailable(f"hook {name} ended with code 1")


class MemoryAccessLog:
    """200 requests a second, dealt as the flags say; each colour answers a part of them badly."""

    PER_TICK = int(200 * TICK)

    def __init__(self, world: MemoryWorld) -> None:
        self.ticks: list[Tick] = []
        self.bad_part: dict[Colour, float] = {}
        self._next = world.time // TICK * TICK
        self._world = world

    async def since(self, at: float) -> Position:
        return Position(offset=sum(tick.at < at for tick in self.ticks))

    async def read(self, since: Position, route: Route) -> Reading:
        self.write(route.service)
        ticks = self.ticks[since.offset :]
        position = since.replace(offset=len(self.ticks))
        return Reading(ticks=tuple(ticks), position=position, more=False, gaps=0)

    def write(self, service: ServiceName) -> None:
        """What was asked since it was written last. It stays as it is written."""
        flags = self._world.flags.get(service)
        while flags is not None and self._next + TICK <= self._world.time:
            blue, green = (self._tally(colour, flags.split.share(colour) / WHOLE) for colour in Colour)
            self.ticks.append(Tick(at=self._next + self._world.ahead, blue=blue, green=green))
            self._next += TICK

    def _tally(self, colour: Colour, part: float) -> Tally:
        requests = round(self.PER_TICK * part)
        bad = round(requests * self.bad_part.get(colour, 0.0))
        return Tally(requests=requests, bad=bad, clients=tuple(f"client-{n}" for n in range(bad)))


class MemoryMeasurer:
    """Every source answers as `answers` says; one that is not in it cannot be measured."""

    def __init__(self) -> None:
        self.answers: dict[str, Measurement] = {}

    async def measure(self, source: Source, subject: Subject) -> Measurement:
        return self.answers.get(source.name, Measurement(error="nobody answers"))
