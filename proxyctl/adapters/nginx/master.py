"""Our nginx as the kernel shows it: its master, its workers, orphans of a dead master, holders of a port.

Reads /proc and sends signals; never trusts a pid file or an exit code. A process is ours when its command line or its
open files say so, and is signalled through a descriptor of that very process. Start at find_master().
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from proxyctl.adapters.places import Places

PROC = Path("/proc")
NGINX = "nginx: "
MASTER = "nginx: master process"
WORKER = "nginx: worker process"
LEAVING = "nginx: worker process is shutting down"
TOGETHER = 5  # ticks of 10 ms: the master forks its workers at once, and sleeps 100 ms in each reload
ESTABLISHED, LISTENING = "01", "0A"  # as /proc/net/tcp has them
HEARING = "07"  # anybody, as /proc/net/udp has it
HELD = {socket.SOCK_STREAM: ("tcp", LISTENING), socket.SOCK_DGRAM: ("udp", HEARING)}


class Process(NamedTuple):
    """One life of one process: a pid alone may be somebody else's by now."""

    pid: int
    started: str

    @property
    def title(self) -> str:
        """Empty when this life is over."""
        return title_of(self.pid) if started_of(self.pid) == self.started else ""

    @property
    def own_pid(self) -> int:
        """As it knows itself: in a container, pids are others."""
        for line in _read(self.pid, "status").splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
        return self.pid

    @property
    def leaving(self) -> bool:
        """It accepts no new request: the title is set before the listening sockets close, and then it is gone."""
        return self.title in ("", LEAVING)

    def send(self, number: signal.Signals) -> None:
        """To this life only; nothing happens when it is over."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if started_of(self.pid) == self.started:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, number)
        finally:
            os.close(fd)


def find_master(places: Places) -> Process | None:
    """The master that writes our logs. Where two stand side by side, the one whose control server is asked; of two that
    share it, the younger. The pid file is only where to look first."""
    noted = filter(lambda pid: _is_master(pid, places), _noted_pid(places.pid_file))
    masters = [*map(process_of, noted)] or find_masters(places)
    asked = [master for master in masters if is_asked(master, places)] or masters
    return next((successor_of(master) or master for master in asked), None)


def find_masters(places: Places) -> list[Process]:
    """All that write our logs: one, but while another nginx takes over."""
    return [process_of(pid) for pid in _all_pids() if _is_master(pid, places)]


def is_asked(master: Process, places: Places) -> bool:
    """Whether what it has for its control socket is what we ask. A container has folders of its own."""
    with suppress(OSError):
        return Path(f"/proc/{master.pid}/root{places.control_socket}").samefile(places.control_socket)
    return False


def _is_master(pid: int, places: Places) -> bool:
    return title_of(pid).startswith(MASTER) and not _is_newborn(pid) and _writes_below(pid, places.nginx_logs)


def _is_newborn(pid: int) -> bool:
    """A worker that was just forked has its master's title until it takes its own; a master's child that is a master
    itself has workers."""
    return title_of(_parent_of(pid)).startswith(MASTER) and not _children_of(pid)


def _children_of(pid: int) -> list[Process]:
    with suppress(OSError):
        children = PROC.joinpath(f"{pid}/task/{pid}/children").read_text().split()
        return [*map(process_of, map(int, children))]
    return []


def workers_of(master: Process) -> list[Process]:
    """Those that serve and those that are leaving."""
    return [child for child in _children_of(master.pid) if child.title.startswith(WORKER)]


def generations_of(workers: list[Process]) -> int:
    """How many reloads these workers come from: those of one are as old as each other."""
    starts = sorted(int(worker.started) for worker in workers if worker.started)
    return bool(starts) + sum(later - earlier > TOGETHER for earlier, later in pairwise(starts))


def speaking_worker(places: Places, own_pid: int) -> Process:
    """The worker that knows itself by this pid."""
    master = find_master(places)
    known = {worker.own_pid: worker for worker in (workers_of(master) if master else find_orphans(places))}
    return known.get(own_pid) or process_of(own_pid)


def successor_of(master: Process) -> Process | None:
    """The master of another program, which this one started to give it its ports."""
    masters = (child for child in _children_of(master.pid) if child.title.startswith(MASTER))
    return next((child for child in masters if not _is_newborn(child.pid)), None)


def find_orphans(places: Places) -> list[Process]:
    """Workers of ours whose master died: they go on serving, and hold the ports."""
    return [
        process
        for process in map(process_of, _all_pids())
        if process.title.startswith(WORKER)
        and not title_of(_parent_of(process.pid)).startswith(MASTER)
        and _writes_below(process.pid, places.nginx_logs)
    ]


class Holder(NamedTuple):
    pid: int
    program: str  # as the kernel calls it, at most 15 bytes


def holder_of(port: int, kind: socket.SocketKind) -> Holder | None:
    """Who listens on this port of TCP or UDP; None where it cannot be seen from here."""
    sockets = {f"socket:[{inode}]" for inode in _sockets(*HELD[kind], port)}
    for pid in _all_pids():
        if any(link in sockets for link in open_files(pid)):
            return Holder(pid, _read(pid, "comm").strip())
    return None


def has_clients(port: int) -> bool:
    """Whether anybody is connected to this TCP port."""
    return any(_sockets("tcp", ESTABLISHED, port))


def listening(process: Process) -> set[str]:
    """The sockets of TCP that it listens on."""
    return set(open_files(process.pid)) & _all_listening()


def still_listening(sockets: set[str]) -> bool:
    """Whether anybody has one of them open yet."""
    return bool(sockets & _all_listening())


def error_log_of(master: Process) -> Path | None:
    """Where it writes why a reload failed: nginx has its standard error there."""
    with suppress(OSError):
        path = PROC.joinpath(f"{master.pid}/fd/2").readlink()
        return path if path.is_file() else None
    return None


def open_files(pid: int) -> Iterator[str]:
    """Paths of what the process has open; of a renamed file its present one."""
    with suppress(OSError):
        for fd in PROC.joinpath(str(pid), "fd").iterdir():
            with suppress(OSError):
                yield str(fd.readlink())


def is_written(file: os.stat_result) -> bool:
    """Whether an nginx, of any master, has this file open."""
    return any(_has_open(pid, file) for pid in _all_pids() if title_of(pid).startswith(NGINX))


def _has_open(pid: int, file: os.stat_result) -> bool:
    with suppress(OSError):
        for fd in PROC.joinpath(str(pid), "fd").iterdir():
            with suppress(OSError):
                if os.path.samestat(fd.stat(), file):
                    return True
    return False


def title_of(pid: int) -> str:
    return _read(pid, "cmdline").replace("\0", " ").strip()


def started_of(pid: int) -> str:
    """In ticks since boot (proc(5), field 22); empty when there is no such process, or it is a zombie."""
    fields = _stat(pid)
    return fields[19] if fields and fields[0] != "Z" else ""


def _parent_of(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _stat(pid: int) -> list[str]:
    return _read(pid, "stat").rpartition(")")[2].split()


def process_of(pid: int) -> Process:
    return Process(pid, started_of(pid))


def _read(pid: int, name: str) -> str:
    with suppress(OSError):
        return PROC.joinpath(str(pid), name).read_text(errors="replace")
    return ""


def _noted_pid(file: Path) -> list[int]:
    with suppress(OSError, ValueError):
        return [int(file.read_text())]
    return []


def _all_pids() -> list[int]:
    return [int(path.name) for path in PROC.iterdir() if path.name.isdigit()]


def _writes_below(pid: int, folder: Path) -> bool:
    return any(link.startswith(f"{folder}/") for link in open_files(pid))


def _sockets(protocol: str, state: str, port: int) -> Iterator[str]:
    """Inodes of the sockets in this state whose own port it is."""
    for fields in _table(protocol):
        if fields[3] == state and int(fields[1].rpartition(":")[2], 16) == port:
            yield fields[9]


def _all_listening() -> set[str]:
    return {f"socket:[{fields[9]}]" for fields in _table("tcp") if fields[3] == LISTENING}


def _table(protocol: str) -> Iterator[list[str]]:
    """One line for each socket, both families."""
    for table in (protocol, f"{protocol}6"):
        with suppress(OSError):
            yield from (line.split() for line in PROC.joinpath("net", table).read_text().splitlines()[1:])
