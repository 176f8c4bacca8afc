"""An ssh server of a test's own on 127.0.0.1, and a client that knows it. Start at ssh_server()."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

STARTS_WITHIN = 10.0
APART = Path("/run/sshd")  # sshd does not start without this folder


class SshServer:
    """Who has `programs` before the others in PATH has an `ssh` with a key that the server believes."""

    def __init__(self, folder: Path, port: int) -> None:
        self.host = f"ssh://root@127.0.0.1:{port}"
        self.programs = folder / "bin"
        self.known = folder / "known_hosts"
        self.key = folder / "key"
        self._folder, self._port = folder, port

    def prepare(self) -> list[str]:
        """Keys and files; how the server is started."""
        self.programs.mkdir(parents=True)
        for name in ("key", "host_key"):
            new = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._folder / name))
            subprocess.run(new, check=True)
        host = (self._folder / "host_key.pub").read_text()
        self.known.write_text(f"[127.0.0.1]:{self._port} {host}")
        client = self._folder / "client"
        client.write_text(f"IdentityFile {self.key}\nIdentitiesOnly yes\nUserKnownHostsFile {self.known}\n")
        program = self.programs / "ssh"
        program.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {client} "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        settings = (
            *("-o", f"ListenAddress=127.0.0.1:{self._port}", "-o", f"HostKey={self._folder / 'host_key'}"),
            *("-o", f"AuthorizedKeysFile={self._folder / 'key.pub'}", "-o", "StrictModes=no", "-o", "UsePAM=no"),
            *("-o", "PasswordAuthentication=no", "-o", "PermitRootLogin=yes", "-o", "PidFile=none"),
        )
        return ["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", *settings]


@contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    APART.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    made = SshServer(folder, port)
    command = made.prepare()
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stderr=log, env=os.environ) as server:
        try:
            _await(port, folder / "log")
            yield made
        finally:
            server.terminate()


def _await(port: int, log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.02)
    raise AssertionError(log.read_text())
