"""Look into a container from its host: its connections, its processes, what they listen on. Of one on another host,
only nginx's connections are seen, from here.

A process id that the engine names is believed only when that process's cgroup names the container: behind a remote
engine, or after the process ended, the same number is somebody else.
"""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from proxyctl.adapters.sockets import all_pids, answering, holder_among, open_in
from proxyctl.domain.model import Seconds
from proxyctl.errors import Unavailable
from proxyctl.ports import Traffic

SS_LIMIT: Seconds = 5.0


def traffic(container: str, pid: int, port: int) -> Traffic:
    """Established connections to this port, as `ss` sees them in the container's network namespace."""
    if not _is_process_of(container, pid):
        raise Unavailable(f"the processes of container {container[:12]} cannot be seen from here")
    return read_ss(_ss(("nsenter", f"--net=/proc/{pid}/ns/net"), f"sport = :{port}"))


def traffic_from_here(ip: str, port: int) -> Traffic:
    """Connections of this host to a replica of another one: those of nginx, seen from their other end."""
    return read_ss(_ss((), f"dst {ip} and dport = :{port}"), request="snd", answer="rcv")


def _ss(inside: Sequence[str], which: str) -> str:
    command = [*inside, "ss", "-Htin", "state", "established", which]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=SS_LIMIT, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"the connections cannot be seen ({which}): {error}") from error


def read_ss(seen: str, request: str = "rcv", answer: str = "snd") -> Traffic:
    """Two lines per connection: the addresses, then, indented, what the kernel knows of it. A replica receives requests
    and sends answers."""
    quiet = [_quiet_for(line, request, answer) for line in seen.splitlines() if line[:1].isspace()]
    return Traffic(connections=len(quiet), quiet_for=min(quiet, default=math.inf))


def stranger(port: int, containers: Sequence[str]) -> str:
    """Who else than a process of these containers gets what is asked of 127.0.0.1 at this port; empty where nobody
    does. Looked at twice: a listener that is closed meanwhile is nobody's."""
    sockets = _of_others(answering(port), containers)
    if sockets and (sockets := _of_others(sockets & answering(port), containers)):
        return str(holder_among(sockets) or "a process that only root can see")
    return ""


def _of_others(sockets: set[str], containers: Sequence[str]) -> set[str]:
    if not sockets:
        return sockets
    pids = (pid for pid in all_pids() if any(_is_process_of(container, pid) for container in containers))
    return sockets - open_in(pids, sockets)


def kill(container: str, pid: int) -> None:
    """End one process of a container; gone, or not to be seen from here, is done."""
    with suppress(OSError):
        fd = os.pidfd_open(pid)
        try:
            if _is_process_of(container, pid):  # looked at after it was pinned: the number cannot change hands
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        finally:
            os.close(fd)


def _quiet_for(line: str, request: str, answer: str) -> Seconds:
    """Since the last byte in either direction; a field that `ss` leaves out is zero. Where the last one was of a
    request, an answer is owed, and a slow one is no silence."""
    ages = {name: int(ms) for name, ms in re.findall(r"\blast(snd|rcv):(\d+)", line)}
    answered, asked = ages.get(answer, 0), ages.get(request, 0)
    # The same moment may be a fast answer as well as a request on a new connection. If it was an answer, nginx ends the
    # connection by itself.
    return answered / 1000 if answered < asked else 0.0


def _is_process_of(container: str, pid: int) -> bool:
    try:
        return container in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False
