"""Speak to an engine by the ssh client of this system: its keys, agents, known hosts and configuration. Light.

Not by a library for Python: it would be one more to keep safe, and reads less of a user's configuration. ssh is never
let ask anybody anything. Start at called() and reached().
"""

from __future__ import annotations

import shlex
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from tempfile import TemporaryFile
from typing import IO

from proxyctl.adapters.docker.address import EngineAddress
from proxyctl.domain.model import Seconds

OPTIONS = ("BatchMode=yes", "ConnectTimeout=8", "ServerAliveInterval=5", "ServerAliveCountMax=3", "ForwardAgent=no")
PING = b"HEAD /_ping HTTP/1.1\r\nHost: docker\r\n\r\n"
HEAD_ENDS = b"\r\n\r\n"
WORDS_ARRIVE: Seconds = 0.5
HEARD_WITHIN: Seconds = 10.0


@contextmanager
def called(engine: EngineAddress) -> Iterator[socket.socket]:
    """A line that ends at the engine, to hear something on; whoever closes it ends ssh. What breaks meanwhile raises
    ConnectionRefusedError with ssh's own words."""
    line, its = socket.socketpair()
    with TemporaryFile() as words:
        try:
            with its:
                ssh = _started(engine, its, words)
        except OSError as error:
            line.close()
            raise ConnectionRefusedError(f"ssh cannot be started: {error.strerror}") from error
        try:
            yield line
        except OSError as error:
            line.close()
            raise ConnectionRefusedError(_last(ssh, words) or f"nothing was heard by ssh: {error}") from error


def _started(engine: EngineAddress, its: socket.socket, words: IO[bytes]) -> subprocess.Popen[bytes]:
    """In a session of its own it has no terminal to ask at, and no Ctrl-C that is meant for us reaches it."""
    ssh = subprocess.Popen(
        command(engine), stdin=its.fileno(), stdout=its.fileno(), stderr=words, start_new_session=True
    )
    threading.Thread(target=ssh.wait, daemon=True).start()  # or it would stay a zombie
    return ssh


def _last(ssh: subprocess.Popen[bytes], words: IO[bytes]) -> str:
    """What ssh wrote, or Docker's command on the other side."""
    with suppress(subprocess.TimeoutExpired):
        ssh.wait(WORDS_ARRIVE)
    words.seek(0)
    return words.read().decode("utf-8", "replace").strip()


def command(engine: EngineAddress) -> list[str]:
    """As `docker` itself calls it; a path after the host is the engine's socket there."""
    path = engine.split.path
    words = ["docker", *(("--host", f"unix://{path}") if path.strip("/") else ()), "system", "dial-stdio"]
    return ["ssh", "-T", *_with(OPTIONS), *_to(engine), shlex.join(words)]


def trial(engine: EngineAddress) -> str:
    """What a person types to see whether it works, and whether ssh asks for anything."""
    return shlex.join(["ssh", *_with(OPTIONS[:1]), *_to(engine), "docker", "version"])


def _with(options: Sequence[str]) -> list[str]:
    return [word for option in options for word in ("-o", option)]


def _to(engine: EngineAddress) -> list[str]:
    """The host as it was written: ssh's own configuration may know it by this name."""
    there = engine.split
    place = there.netloc.rpartition("@")[2]
    host = str(there.hostname) if place.startswith("[") else place.partition(":")[0]
    user = ("-l", there.username) if there.username else ()
    port = ("-p", str(there.port)) if there.port else ()
    return [*user, *port, "--", host]


def reached(engine: EngineAddress, limit: Seconds) -> socket.socket:
    """A line on which the engine was heard. Raises ConnectionRefusedError: then nothing was asked."""
    with called(engine) as line:
        line.settimeout(limit)
        line.sendall(PING)
        _read_head(line)
    return line


def _read_head(line: socket.socket) -> None:
    head = b""
    while HEAD_ENDS not in head:
        chunk = line.recv(4096)
        if not chunk:
            raise ConnectionResetError("it hung up")
        head += chunk
