"""Other proxyctl processes: detached drivers and guards, woken by their socket, ended by verified pid."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from proxyctl.adapters.durable import told_in_words
from proxyctl.adapters.places import Places
from proxyctl.adapters.sockets import reachable
from proxyctl.domain.model import ServiceName
from proxyctl.errors import Locked
from proxyctl.ports import Lock, Locks


class DetachedProcesses:
    """`project_options` name the same project to the child: its file and its state folder."""

    def __init__(self, places: Places, locks: Locks, project_options: Sequence[str]) -> None:
        self._places = places
        self._locks = locks
        self._project_options = project_options

    def drive(self, service: ServiceName, lock: Lock) -> None:
        self._spawn("_drive", service, lock)

    def guard(self, service: ServiceName) -> None:
        with suppress(Locked):  # one stands already
            lock = self._locks.acquire(_guard_of(service), "guard")
            self._spawn("_guard", service, lock)
            lock.release()

    async def wake(self, service: ServiceName) -> None:
        with suppress(OSError), reachable(self._places.driver_socket(service)) as address:
            _, writer = await asyncio.open_unix_connection(address)
            writer.close()

    def _spawn(self, verb: str, service: ServiceName, lock: Lock) -> None:
        fd = lock.fileno()
        command = [sys.executable, "-P", "-m", "proxyctl", verb, service, "--lock-fd", str(fd), *self._project_options]
        with told_in_words(self._places.root), self._log(service).open("ab") as log:
            subprocess.Popen(
                command,
                pass_fds=(fd,),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _log(self, service: ServiceName) -> Path:
        return self._places.logs / f"driver-{service}.log"


def _guard_of(service: ServiceName) -> ServiceName:
    """Names the lock of the guard; no service can have this name."""
    return ServiceName(f"{service}.guard")
