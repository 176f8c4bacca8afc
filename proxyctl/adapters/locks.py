"""Kernel file locks: one driver per service, one publisher per host. Start at FileLocks.

An "open file description" lock (fcntl(2)) belongs to the open file, not to the process: a child that inherits the
descriptor holds the same lock, so it can be handed over without a gap. Unlike flock's it can be looked at without being
taken. What is written into the file only explains who holds it.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from proxyctl.adapters.durable import told_in_words
from proxyctl.adapters.lives import start_time
from proxyctl.adapters.places import Places
from proxyctl.domain.codec import DecodeError, decode, encode
from proxyctl.domain.model import Seconds, ServiceName
from proxyctl.errors import Locked
from proxyctl.ports import Holder

PUBLISH_WAIT: Seconds = 30.0  # for one holder; how many are before us, nobody knows
ENOUGH = 1 << 12  # bytes of a signature
UNSIGNED = Holder(pid=0, started="", purpose="another process", since=0.0)
HOST_LOCK = Path("/run/proxyctl.lock")  # root's, who alone may write there: nobody else can hold it, or hold it up
FLOCK = "hhqqi0q"  # struct flock of 64-bit Linux: type, whence, start, length, pid, padding
WHOLE_FILE = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


class FileLock:
    """Held until released, or until the last process that has the descriptor dies."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def release(self) -> None:
        os.close(self._fd)

    def sign(self, purpose: str) -> None:
        holder = Holder(pid=os.getpid(), started=start_time(os.getpid()), purpose=purpose, since=time.time())
        text = json.dumps(encode(holder)).encode()
        os.pwrite(self._fd, text, 0)
        os.ftruncate(self._fd, len(text))


class FileLocks:
    def __init__(self, places: Places) -> None:
        self._state = places.root
        self._folder = places.locks

    def acquire(self, service: ServiceName, purpose: str) -> FileLock:
        with told_in_words(self._state):
            fd = os.open(self._path(service), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _try_lock(fd):
            holder = _holder_of(_signature(fd))
            os.close(fd)
            raise Locked(
                f"{service} is being driven by {_named(holder)}",
                serving="unchanged by this command",
                next_step=f"proxyctl status {service} --watch",
            )
        lock = FileLock(fd)
        with told_in_words(self._state):
            lock.sign(purpose)
        return lock

    def adopt(self, fd: int, purpose: str) -> FileLock:
        """The lock that a parent process handed over."""
        os.set_inheritable(fd, False)
        lock = FileLock(fd)
        lock.sign(purpose)
        return lock

    def holder(self, service: ServiceName) -> Holder | None:
        with told_in_words(self._state):
            try:
                fd = os.open(self._path(service), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
        try:
            return _holder_of(_signature(fd)) if _is_locked(fd) else None
        finally:
            os.close(fd)

    def end_holder(self, service: ServiceName) -> None:
        holder = self.holder(service)
        if holder is not None and holder is not UNSIGNED and start_time(holder.pid) == holder.started:
            with suppress(ProcessLookupError):
                os.kill(holder.pid, signal.SIGKILL)

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        fd = self._open_host_lock()
        try:
            await _take(fd)
            with suppress(OSError):  # it only explains
                FileLock(fd).sign(f"proxyctl for {self._state}")
            yield
        finally:
            os.close(fd)

    def _open_host_lock(self) -> int:
        """Of all that root publishes; of this state folder alone, where somebody else does."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        with suppress(OSError):
            return os.open(HOST_LOCK, flags, 0o600)
        with told_in_words(self._state):
            return os.open(self._folder / "publishing", flags, 0o600)

    def _path(self, service: ServiceName) -> Path:
        return self._folder / f"{service}.lock"


async def _take(fd: int) -> None:
    """Whoever waits behind many that are quick waits on. Raises Locked where one and the same is too slow."""
    before: bytes | None = None
    while not _try_lock(fd):
        if (signature := _signature(fd)) != before:
            before, deadline = signature, time.monotonic() + PUBLISH_WAIT
        elif time.monotonic() > deadline:
            raise _too_slow(_holder_of(signature))
        await asyncio.sleep(0.02)


def _too_slow(holder: Holder) -> Locked:
    instead = "" if holder is UNSIGNED else f"; if it hangs: kill {holder.pid}, then proxyctl recover for its project"
    return Locked(
        f"{_named(holder)} has been publishing on this host for over {PUBLISH_WAIT:g} s",
        serving="unchanged by this command",
        next_step=f"wait for it and repeat{instead}",
    )


def _named(holder: Holder) -> str:
    return holder.purpose if holder is UNSIGNED else f"{holder.purpose} (pid {holder.pid})"


def _signature(fd: int) -> bytes:
    return os.pread(fd, ENOUGH, 0)


def _holder_of(signature: bytes) -> Holder:
    """Whoever holds a lock signs it a moment later."""
    with suppress(ValueError, DecodeError):
        holder: Holder = decode(Holder, json.loads(signature))
        return holder
    return UNSIGNED


def _try_lock(fd: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, WHOLE_FILE)
    except BlockingIOError:
        return False
    return True


def _is_locked(fd: int) -> bool:
    kind, *_ = struct.unpack(FLOCK, fcntl.fcntl(fd, fcntl.F_OFD_GETLK, WHOLE_FILE))
    return bool(kind != fcntl.F_UNLCK)
