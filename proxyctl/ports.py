"""Every port on one page: what the engine asks of the world. Adapters answer in domain types and named errors.

An unhealthy application is a result, never an exception. Every call that can wait has a deadline of its own and
raises `OutcomeUnknown` (or the error named) when it passes. Every effect is idempotent: asked again, it observes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from proxyctl.domain.model import (
    Colour,
    Incarnation,
    Mode,
    ProxySettings,
    Release,
    Replica,
    Route,
    Seconds,
    ServiceName,
    Topology,
    UpstreamTls,
)
from proxyctl.domain.record import Record
from proxyctl.domain.source import Measurement, Source
from proxyctl.domain.split import Split
from proxyctl.domain.tally import Position, Tick
from proxyctl.domain.units import Pairs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from proxyctl.domain.container import Container, Hook
    from proxyctl.domain.events import Event, ProjectEvent
    from proxyctl.domain.model import HealthCheck
    from proxyctl.domain.progress import Progress
    from proxyctl.domain.simulation import Stretch
    from proxyctl.domain.state import ServiceState


# --- what is remembered ------------------------------------------------------------------------------------------


class Entry(Record):
    """One line of the journal."""

    seq: int  # rises over all services
    service: ServiceName
    rollout: str  # id of the rollout it belongs to, "" outside of one
    at: float  # unix time, displayed only
    fence: int
    event: Event


class Note(Record):
    """One line of the journal that is of the whole project."""

    seq: int
    at: float
    event: ProjectEvent


class Store(Protocol):
    """The journal and its snapshots. Calls block until the commit is on disk: nothing may be done before (ADR 0004).
    Every call raises StateUnusable when the file cannot be read or written."""

    def services(self) -> list[ServiceName]: ...

    def load(self, service: ServiceName) -> ServiceState:
        """The snapshot; a fresh state for a service never seen."""
        ...

    def raise_fence(self, service: ServiceName) -> int:
        """A token higher than every one before; older ones are refused from now on."""
        ...

    def append(self, events: Sequence[Event], state: ServiceState, rollout: str, fence: int, at: float) -> None:
        """All events of one rollout and the state that they lead to, in one commit. Raises Fenced."""
        ...

    def keep(self, service: ServiceName, progress: Progress, fence: int) -> None:
        """In the place of what was kept before. Raises Fenced."""
        ...

    def kept(self, service: ServiceName) -> Progress | None: ...

    def entries(self, service: ServiceName | None = None, after: int = 0, limit: int = -1) -> list[Entry]:
        """In order of their seq, the oldest first."""
        ...

    def note(self, event: ProjectEvent, at: float) -> None:
        """Of the whole project."""
        ...

    def told(self, service: ServiceName | None = None, after: int = 0) -> list[Entry | Note]:
        """The entries with the notes among them, in order of their seq."""
        ...

    def last_seq(self) -> int: ...

    def claim_generation(self) -> int:
        """A number never given before, higher than all."""
        ...

    def burn_generations(self, upto: int) -> None:
        """No number up to this one is given again."""
        ...

    def lease_slots(self, service: ServiceName, colour: Colour, count: int, free: Sequence[str]) -> tuple[str, ...]:
        """The first `count` addresses of this slot, the same ones every time; new ones are taken from `free`. Raises
        AddressTaken when it runs out."""
        ...

    def ask(self, service: ServiceName, rollout: str, event: Event) -> int:
        """Leave a request: what the driver of this rollout shall note. Returns its id."""
        ...

    def take(self, service: ServiceName, rollout: str) -> list[Event]:
        """The open requests to this rollout, oldest first. From now on all of the service's are taken: what was asked
        of a rollout that is over concerns no other."""
        ...

    def taken(self, request: int) -> bool: ...


# --- containers -------------------------------------------------------------------------------------------------


class Image(Record):
    reference: str
    digest: str  # the id that containers are created from: "sha256:..."


class Network(Record):
    """The slot network: slots are numbered addresses of its lower half."""

    name: str
    gateway: str
    slots: tuple[str, ...]  # addresses free to be leased, in order, never the gateway


class Life(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    EXITED = "exited"
    ABSENT = "absent"


class ReplicaState(Record):
    """What the engine says of one container, now."""

    name: str
    life: Life
    incarnation: Incarnation | None = None  # None only when absent
    address: str = ""  # on the slot network, or LOOPBACK on the host's
    exit_code: int | None = None
    oom_killed: bool = False
    restarts: int = 0
    health: str = ""  # the engine's own HEALTHCHECK: "", "starting", "healthy", "unhealthy"


class Traffic(Record):
    """Established connections to a replica's port, seen from inside its network namespace; where the replica is on
    another host, those of nginx, seen from here."""

    connections: int
    quiet_for: Seconds  # since the youngest byte on any of them, 0 while an answer is owed; infinite when there is none


class Inspector(Protocol):
    """The read-only slice of the engine that the hot path needs."""

    async def inspect(self, names: Sequence[str]) -> list[ReplicaState]:
        """One state per name, in order; ABSENT where there is none of ours. Raises DockerUnavailable."""
        ...


class Runtime(Inspector, Protocol):
    """Containers of this project, found by label, never by parsing names."""

    async def resolve(self, definition: Container, progress: Callable[[str], None]) -> Image:
        """Its image pinned to the local digest; pulled as its pull policy says, `progress` is told. Raises
        ImageUnavailable."""
        ...

    async def require_image(self, release: Release) -> None:
        """Raises ImageUnavailable when the image that the release was made of is gone."""
        ...

    async def require(self, definition: Container, names: Sequence[str]) -> None:
        """Raises Unavailable or NameTaken for what is known beforehand to keep containers of these names from starting:
        a variable, a file or a network that is missing, a name that somebody else has. Makes nothing."""
        ...

    async def network(self) -> Network:
        """The slot network, created when missing. Raises StateUnusable when another state folder owns it."""
        ...

    async def start(self, release: Release, replica: Replica, colour: Colour, rollout: str) -> Replica:
        """Create, start and verify one replica at its address, restart policy `no`, then run its post_start hooks; a
        replica that runs already is only observed. On failure nothing is left behind. Raises NameTaken, AddressTaken,
        ImageUnavailable, NoSpace, Unavailable when a hook fails."""
        ...

    async def adopt_restart_policy(self, release: Release, names: Sequence[str]) -> None:
        """Give promoted replicas the restart policy of their definition."""
        ...

    async def stop(self, name: str, grace: Seconds, pre_stop: Sequence[Hook] = ()) -> str:
        """Run the hooks, stop and remove our container of that name, all within the grace period; absent is done.
        Returns why a hook failed: it keeps no container from its end."""
        ...

    async def owned(self, service: ServiceName | None = None) -> list[ReplicaState]:
        """Every container with this project's label."""
        ...

    async def logs(self, name: str, tail: int) -> str: ...

    def follow(self, name: str, tail: int) -> AsyncIterator[str]: ...

    async def traffic(self, name: str, port: int) -> Traffic:
        """Raises Unavailable when the namespace cannot be looked into (not root): then only the deadline drains."""
        ...

    async def put_back(self, replicas: Sequence[Replica]) -> list[str]:
        """Those that run have their addresses again, which a hand took from them; who had to be moved. Raises
        AddressTaken for one that a stranger has, once all others are back."""
        ...

    async def stranger(self, port: int, containers: Sequence[str]) -> str:
        """Who else than these containers, by their full ids, answers at this port of the host's loopback address, in
        words; empty where nobody does. Who cannot be seen from here is a stranger."""
        ...

    async def close(self) -> None: ...


# --- health -----------------------------------------------------------------------------------------------------


class Endpoint(Record):
    """Where a probe goes: a replica's address, or through nginx by its control socket."""

    replica: str  # the container's name, for exec and docker checks and for messages
    address: str = ""  # "172.18.0.2:8000"
    socket: str = ""  # path of a unix socket; then `prefix` goes before the check's path
    prefix: str = ""
    host: str = ""  # Host header when the check names none
    tls: UpstreamTls | None = None  # for a check by https


class ProbeResult(Record):
    passed: bool
    reason: str  # "200", "503 instead of 200-299", "connection refused", "no answer in 2 s"
    elapsed: Seconds


class Prober(Protocol):
    async def probe(self, endpoint: Endpoint, check: HealthCheck) -> ProbeResult:
        """One probe within `check.timeout` in total: connect, headers and at most 64 KiB of body. Never raises for
        what the application does."""
        ...

    async def close(self) -> None: ...


# --- nginx ------------------------------------------------------------------------------------------------------


class Hooks(Protocol):
    async def run(self, name: str, told: Mapping[str, str]) -> None:
        """The user's hook of this name, to its end, with these variables in its environment. Raises Unavailable with
        its last words when it is missing, fails or takes too long; then nothing of it runs any more."""
        ...


class ProxyState(StrEnum):
    RUNNING = "running"
    STOPPED = "stopped"
    ORPHANED = "orphaned"  # the master died, workers serve on


class ProxyStatus(Record):
    state: ProxyState
    mode: Mode
    version: str  # "1.22.1", "" when the binary cannot be asked
    pid: int | None
    generation: int | None  # what `current` names
    observed: int | None  # what a worker answered just now
    draining: int  # old workers still alive
    certificates: Mapping[ServiceName, float] = {}  # when those in force end, unix time
    damage: str = ""  # why what `current` names is not what was published


class Ended(Record):
    code: int
    said: str  # on stderr


class NginxProgram(Protocol):
    """The nginx of `proxy.mode`: its program, and how a master of it comes to be. Raises NginxUnavailable when there is
    no such program, when it hangs, and for what this mode leaves to the user; OutcomeUnknown for an effect that is
    late."""

    async def run(self, *arguments: str, sees: Path | None = None) -> Ended:
        """The program with these arguments, to its end. It can read and write the folder `sees`, as far as its user
        may."""
        ...

    async def test(self, config: Path) -> Ended:
        """What nginx says of this configuration. It is of a generation, or all its files are in its folder."""
        ...

    async def master(self) -> int | None:
        """The pid of a master that runs without anything of ours."""
        ...

    async def start(self, config: Path, error_log: Path) -> Ended:
        """Returns when the master has its ports, or has given up."""
        ...

    async def fetch(self, progress: Callable[[str], None]) -> None:
        """The program is on this host; where it had to be brought there, `progress` was told."""
        ...

    def renewed(self) -> NginxProgram:
        """As it is installed now, where another one may run."""
        ...

    async def start_beside(self, old: int, config: Path, error_log: Path) -> Ended:
        """A second master comes to be beside the one with this pid, on the same ports."""
        ...

    async def keep(self, master: int) -> None:
        """The master with this pid, seen to serve, is the one in force: from now on it is asked, and it alone is
        started again after a death and a reboot, where this mode sees to that."""
        ...

    async def let_end(self) -> None:
        """Nobody starts the master again once it ends."""
        ...

    async def clear_away(self) -> None:
        """Nothing is left of a master that has ended."""
        ...


class Proxy(Protocol):
    async def fetch(self, settings: ProxySettings, progress: Callable[[str], None]) -> None:
        """The nginx that these settings name is on this host; `progress` is told while it comes. Raises
        NginxUnavailable."""
        ...

    async def start(self) -> ProxyStatus:
        """nginx with what `current` names, observed; running already is done. Raises NginxUnavailable."""
        ...

    async def stop(self) -> None:
        """Graceful; open requests end or are cut at the shutdown timeout."""
        ...

    async def publish(self, topology: Topology, fence: int, claim: Callable[[], int]) -> int:
        """Render under a claimed number, validate, rename, HUP (or start), observe; returns the generation, only once
        observed. What is current already is only observed. The caller holds the publishing lock. Raises PublishRefused
        (the last good content serves again, observed, under the next number if need be) or Degraded."""
        ...

    def damage(self) -> str:
        """Why what `current` names is not what was published; empty when it is, and before the first."""
        ...

    async def replace(
        self, topology: Topology, splits: Mapping[ServiceName, Flags | None], fence: int, claim: Callable[[], int]
    ) -> int:
        """Like publish(), where what is current cannot be believed: these splits are told with it, where splits are
        told by reloads."""
        ...

    async def reload(self, claim: Callable[[], int]) -> int:
        """What is current, with the operator's files as they are now; nothing changed is done. Raises like publish(),
        and PublishRefused for files that are not sound, once all others are taken."""
        ...

    async def upgrade(self, settings: ProxySettings, claim: Callable[[], int], progress: Callable[[str], None]) -> None:
        """The program as it is on disk now, or the image that the settings name, takes the place of the one that runs,
        and no request is lost. Raises NginxUnavailable; then one of them serves on. Raises like publish() too."""
        ...

    async def rotate_logs(self, limit: int) -> list[str]:
        """Logs larger than this many bytes begin anew; their names. No line is lost. Raises NginxUnavailable."""
        ...

    async def check(self, topology: Topology, changed: ServiceName | None = None) -> list[str]:
        """What is to be said against this topology; no effect. Empty: nothing. Where one service changed, only what
        would hinder its publish."""
        ...

    async def diff(self, topology: Topology) -> str:
        """Unified diff from the current generation's text to what this topology renders."""
        ...

    def topology(self) -> Topology | None:
        """What the current generation was rendered from; None before the first."""
        ...

    async def status(self) -> ProxyStatus: ...

    def endpoint(self, route: Route, colour: Colour) -> Endpoint:
        """Through nginx, over the control server, to this colour's plain upstream."""
        ...


class Flags(Record):
    """What the flag files of one service say."""

    split: Split
    cover: bool
    preview: Colour | None = None  # whom matches and mirrors reach; None: nobody, they go by the split like any other


class Splits(Protocol):
    """Who gets traffic. One rename per move, for every worker from its very next request."""

    def read(self, service: ServiceName) -> Flags | None:
        """As the files say; None where nothing serves."""
        ...

    async def move(self, service: ServiceName, flags: Flags | None) -> None:
        """Rename, fsync, then ask nginx which pool a set of buckets gets. Returns only when it answers as the flags
        say. Raises SplitNotSeen with the first refused path component, NginxUnavailable when nothing answers."""
        ...

    async def doubt(self, service: ServiceName) -> str:
        """In one clause, what nginx does instead of what the files say; empty where it does as they say, and where it
        does not answer. One question: what a move asks is more. Raises StateUnusable."""
        ...

    async def reach(self) -> None:
        """nginx answers, so that a move would be seen. One question. Raises NginxUnavailable."""
        ...

    def logged(self, service: ServiceName) -> AbstractContextManager[None]:
        """While it lasts, requests of the service are logged where only those of rollouts are. Never raises: a disk
        that takes no flag hinders no rollout."""
        ...


class Reading(Record):
    """What was read of the log since a position."""

    ticks: tuple[Tick, ...]  # in the order of the log
    position: Position  # where the last of them ended
    more: bool  # there is more to read at once
    gaps: int  # until these ticks ended, times that lines were gone before they were read: deleted, compressed or cut


class AccessLog(Protocol):
    """nginx's log of requests, counted. It follows the log's own times, and files however they are rotated."""

    async def since(self, at: float) -> Position:
        """Where the log of this unix time begins, or as far back as can soon be read. Raises StateUnusable."""
        ...

    async def read(self, since: Position, route: Route) -> Reading:
        """The ticks of this service that ended after a position, as far as they are written now. Asked again with the
        same position, by whomever, it gives the same ticks: nothing is lost, nothing is counted twice. Raises
        StateUnusable."""
        ...


class Subject(Record):
    """The candidate that a source is asked about."""

    project: str
    service: ServiceName
    release: str
    colour: Colour
    share: int  # of traffic, hundredths of a percent
    replica: str  # the container that commands run in

    @property
    def variables(self) -> Pairs:
        """For the environment of every command that is run about it."""
        return (
            ("PROXYCTL_PROJECT", self.project),
            ("PROXYCTL_SERVICE", self.service),
            ("PROXYCTL_RELEASE", self.release),
            ("PROXYCTL_COLOUR", self.colour.value),
            ("PROXYCTL_WEIGHT", f"{self.share / 100:g}"),
        )


class Measurer(Protocol):
    async def measure(self, source: Source, subject: Subject) -> Measurement:
        """One measurement within `source.timeout` in total, and at most 64 KiB of an answer. Never raises for what is
        asked: that it could not be measured is a result. Cancelled, it leaves no command running, but where the engine
        hangs."""
        ...


class Recording(Protocol):
    """A log of the past, of one service: a file that nobody writes any more, or that may grow unseen."""

    timed: bool  # it says how long answers took: it is ours, and not in nginx's combined format
    requests: int
    unreadable: int  # lines that are neither
    first: float  # the time of its first request, unix time
    last: float

    def stretches(self) -> Iterator[Stretch]:
        """Its requests tick by tick, from the beginning; those of ticks without any are left out."""
        ...


# --- locks ------------------------------------------------------------------------------------------------------


class Holder(Record):
    """Who holds a lock; it explains, it never decides: the kernel frees the lock of a dead process."""

    pid: int
    started: str  # the kernel's start time of that process: a pid alone may be somebody else's by now
    purpose: str
    since: float  # unix time


class Lock(Protocol):
    def fileno(self) -> int:
        """To hand the lock over to a child process."""
        ...

    def release(self) -> None: ...


class Locks(Protocol):
    """Kernel locks, freed by a crash. One driver per service; one publisher per host."""

    def acquire(self, service: ServiceName, purpose: str) -> Lock:
        """Raises Locked, naming the holder."""
        ...

    def holder(self, service: ServiceName) -> Holder | None:
        """Who drives the service now; None when nobody does."""
        ...

    def end_holder(self, service: ServiceName) -> None:
        """Kill the holder, if that process still is the one that signed the lock."""
        ...

    def publishing(self) -> AbstractAsyncContextManager[None]:
        """Waits for its turn; at most 30 s for one holder, however many come before. Raises Locked, which names it."""
        ...


class Processes(Protocol):
    """Other proxyctl processes of this project."""

    def drive(self, service: ServiceName, lock: Lock) -> None:
        """A detached driver goes on with the service, holding the same lock without a gap."""
        ...

    def guard(self, service: ServiceName) -> None:
        """A detached guard stands over the standby; one that stands already is enough."""
        ...

    async def wake(self, service: ServiceName) -> None:
        """Tell the driver that there is a request in the store."""
        ...


class Frozen(Record):
    """Who said that no rollout starts, why and when."""

    actor: str
    reason: str
    since: float  # unix time


class Freeze(Protocol):
    """The freeze switch of a project."""

    def read(self) -> Frozen | None:
        """Who froze it; None when nobody did."""
        ...

    def put(self, frozen: Frozen) -> Frozen:
        """Whose freeze is in force now: the first one's."""
        ...

    def lift(self) -> Frozen | None:
        """The freeze that was in force."""
        ...


# --- time -------------------------------------------------------------------------------------------------------


class Clock(Protocol):
    boot: str  # id of this boot: a monotonic instant means nothing in another one

    def now(self) -> Seconds:
        """Monotonic, the same for every process of this boot, counting while suspended."""
        ...

    def wall(self) -> float:
        """Unix time. Displayed, never decided on."""
        ...

    async def sleep(self, seconds: Seconds) -> None: ...
