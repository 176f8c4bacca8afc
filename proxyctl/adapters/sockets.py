"""Sockets of this host as the kernel shows them: who listens, who is connected, and the way to one with a long path.
Reads /proc, changes nothing."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
ESTABLISHED, LISTENING = "01", "0A"  # as /proc/net/tcp has them
HEARING = "07"  # anybody, as /proc/net/udp has it
HELD = {socket.SOCK_STREAM: ("tcp", LISTENING), socket.SOCK_DGRAM: ("udp", HEARING)}

_LOOPBACK = f"{int.from_bytes(socket.inet_aton('127.0.0.1'), sys.byteorder):08X}"
_MAPPED = f"{0:016X}{socket.htonl(0xFFFF):08X}"  # an address of IPv4 in one of IPv6, as a socket for both has it
ANSWERS_LOOPBACK = frozenset((f"{0:08X}", f"{0:032X}", _LOOPBACK, _MAPPED + _LOOPBACK))


class Holder(NamedTuple):
    pid: int
    program: str  # as the kernel calls it, at most 15 bytes

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.program})"


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """An address of this unix socket: a path has 107 bytes in one, so it leads through its folder, which is open
    meanwhile. Raises OSError."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"{PROC}/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def holder_of(port: int, kind: socket.SocketKind) -> Holder | None:
    """Who listens on this port of TCP or UDP; None where it cannot be seen from here."""
    return holder_among({each.inode for each in _sockets(*HELD[kind], port)})


def holder_among(sockets: set[str]) -> Holder | None:
    """A process that has one of them open; None where it cannot be seen from here."""
    for pid in all_pids():
        if any(link in sockets for link in open_files(pid)):
            return Holder(pid, _name_of(pid))
    return None


def answering(port: int) -> set[str]:
    """The sockets of which one gets whoever asks 127.0.0.1 at this port."""
    return {each.inode for each in _sockets("tcp", LISTENING, port) if each.address in ANSWERS_LOOPBACK}


def open_in(pids: Iterable[int], sockets: set[str]) -> set[str]:
    """Those of the sockets that one of these processes has open."""
    return {link for pid in pids for link in open_files(pid)} & sockets


def has_clients(port: int) -> bool:
    """Whether anybody is connected to this TCP port."""
    return any(_sockets("tcp", ESTABLISHED, port))


def listening(pids: Iterable[int]) -> set[str]:
    """The sockets of TCP that these processes listen on."""
    return open_in(pids, _all_listening())


def still_listening(sockets: set[str]) -> bool:
    """Whether anybody has one of them open yet."""
    return bool(sockets & _all_listening())


def all_pids() -> list[int]:
    with os.scandir(PROC) as entries:
        return [int(entry.name) for entry in entries if entry.name.isdigit()]


def open_files(pid: int) -> Iterator[str]:
    """Paths of what the process has open; of a renamed file its present one."""
    with suppress(OSError):
        for fd in PROC.joinpath(str(pid), "fd").iterdir():
            with suppress(OSError):
                yield str(fd.readlink())


def _name_of(pid: int) -> str:
    with suppress(OSError):
        return PROC.joinpath(str(pid), "comm").read_text(errors="replace").strip()
    return ""


class _Socket(NamedTuple):
    address: str  # its own, in hexadecimal, as the machine orders its bytes
    port: int
    state: str
    inode: str  # as links to it are called


def _sockets(protocol: str, state: str, port: int) -> Iterator[_Socket]:
    """Those in this state whose own port it is."""
    return (each for each in _all_sockets(protocol) if (each.port, each.state) == (port, state))


def _all_listening() -> set[str]:
    return {each.inode for each in _all_sockets("tcp") if each.state == LISTENING}


def _all_sockets(protocol: str) -> Iterator[_Socket]:
    """Of both families."""
    for table in (protocol, f"{protocol}6"):
        with suppress(OSError):
            for line in PROC.joinpath("net", table).read_text().splitlines()[1:]:
                fields = line.split()
                address, _, port = fields[1].rpartition(":")
                yield _Socket(address, int(port, 16), fields[3], f"socket:[{fields[9]}]")
