"""Our nginx as the kernel shows it: its master, its workers, orphans of a dead master.

Reads /proc and sends signals; never trusts a pid file or an exit code, nor what a process may choose to be called. One
is ours when it writes our logs, and a master only when root runs it, or whoever owns them; it is signalled through a
descriptor of that very process. Start at find_master().
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from stat import S_IWUSR
from typing import NamedTuple

from proxyctl.adapters.nginx.names import CONFIG
from proxyctl.adapters.places import Places
from proxyctl.adapters.sockets import PROC, all_pids

NGINX = "nginx: "
MASTER = "nginx: master process"
WORKER = "nginx: worker process"
LEAVING = "nginx: worker process is shutting down"
TOGETHER = 5  # ticks of 10 ms: the master forks its workers at once, and sleeps 100 ms in each reload
ENOUGH = 1 << 16  # bytes of what is read here
ROOT = 0


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
        known = _status(self.pid, "NSpid")
        return int(known[-1]) if known else self.pid

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
    return next((successor_of(master, places) or master for master in asked), None)


def find_masters(places: Places) -> list[Process]:
    """All that write our logs: one, but while another nginx takes over."""
    return [process_of(pid) for pid in all_pids() if _is_master(pid, places)]


def is_asked(master: Process, places: Places) -> bool:
    """Whether what it has for its control socket is what we ask. A container has folders of its own."""
    with suppress(OSError):
        return Path(f"/proc/{master.pid}/root{places.control_socket}").samefile(places.control_socket)
    return False


def _is_master(pid: int, places: Places) -> bool:
    logs = places.nginx_logs
    titled = title_of(pid).startswith(MASTER) and not _is_newborn(pid)
    return titled and is_run_by(_owner_of(logs), pid) and _writes_below(pid, logs)


def is_run_by(user: int, pid: int) -> bool:
    """Or by root. A program that lends its user (setuid) has two, and the title that its caller gave it."""
    return {*_status(pid, "Uid")} in ({str(ROOT)}, {str(user)})


def _owner_of(folder: Path) -> int:
    with suppress(OSError):
        return folder.stat().st_uid
    return ROOT


def has_our_root(pid: int) -> bool:
    """Whether paths mean to it what they mean to us: not in a container."""
    with suppress(OSError):
        return PROC.joinpath(str(pid), "root").samefile("/")
    return False


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


def successor_of(master: Process, places: Places) -> Process | None:
    """The master of another program, which this one started to give it its ports."""
    return next((child for child in _children_of(master.pid) if _is_master(child.pid, places)), None)


def find_orphans(places: Places) -> list[Process]:
    """Workers of ours whose master died: they go on serving, and hold the ports."""
    return [
        process_of(pid)
        for pid in all_pids()
        if title_of(pid).startswith(WORKER)
        and not title_of(_parent_of(pid)).startswith(MASTER)
        and _writes_below(pid, places.nginx_logs)
    ]


def state_of(pid: int) -> Path | None:
    """The state folder of the project whose own nginx this is, master or worker; None for an nginx of somebody else,
    also where it includes us."""
    for title in map(title_of, (pid, _parent_of(pid))):
        config = Path("/", title.rpartition(" -c ")[2])
        for root in config.parents:
            if Places(root).current / CONFIG == config:
                return root
    return None


def error_log_of(master: Process) -> Path | None:
    """Where it writes why a reload failed: nginx has its standard error there."""
    with suppress(OSError):
        path = PROC.joinpath(f"{master.pid}/fd/2").readlink()
        return path if path.is_file() else None
    return None


def is_written(file: os.stat_result) -> bool:
    """Whether an nginx, of any master, has this file open to write into it."""
    return any(_writes(pid, file) for pid in all_pids() if title_of(pid).startswith(NGINX))


def _writes(pid: int, file: os.stat_result) -> bool:
    with suppress(OSError):
        for fd in _open_to_write(pid):
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
    """In bare calls: every process of the machine is looked at."""
    try:
        fd = os.open(f"{PROC}/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, ENOUGH).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)


def _noted_pid(file: Path) -> list[int]:
    with suppress(OSError, ValueError):
        return [int(file.read_text())]
    return []


def _status(pid: int, field: str) -> list[str]:
    for line in _read(pid, "status").splitlines():
        if line.startswith(f"{field}:"):
            return line.split()[1:]
    return []


def _writes_below(pid: int, folder: Path) -> bool:
    return any(_is_below(fd, folder) and (has_our_root(pid) or _is_as_named(fd)) for fd in _open_to_write(pid))


def _is_below(fd: Path, folder: Path) -> bool:
    with suppress(OSError):
        return folder in fd.readlink().parents
    return False


def _is_as_named(fd: Path) -> bool:
    """A container may call another file by this path."""
    with suppress(OSError):
        return fd.samefile(fd.readlink())
    return False


def _open_to_write(pid: int) -> Iterator[Path]:
    """Links to what it opened: whoever may only come by a file may open it too, for nothing (O_PATH)."""
    with suppress(OSError):
        for fd in PROC.joinpath(str(pid), "fd").iterdir():
            with suppress(OSError):
                if fd.lstat().st_mode & S_IWUSR:
                    yield fd
