"""A Docker engine of a test's own, to be stopped, killed, frozen and started again. Start at own_engine().

It stands beside the engine of this machine, which never notices: its socket, folders, containerd and bridge are its
own, and it leaves the packet filter alone. Nothing of it is left at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import docker

T = TypeVar("T")

STARTS_WITHIN = 60.0
ANSWERS_WITHIN = 5.0
ENDS_WITHIN = 30.0
CGROUPS = Path("/sys/fs/cgroup")
CLASS_NET = Path("/sys/class/net")
BRIDGE_ADDRESS = "198.19.0.1/24"  # for measurements between networks (RFC 2544): no host has it


class OwnEngine:
    def __init__(self, folder: Path, inside: Sequence[str] = (), options: Sequence[str] = ()) -> None:
        """`inside` goes before each command that is to run where the engine is."""
        self.host = f"unix://{folder}/docker.sock"
        self._inside = inside
        self._options = options
        self._folder = folder
        self._runtime = folder / "exec"
        self._bridge = f"px-{folder.name[-8:]}"
        self._settings = folder / "daemon.json"
        self._settings.write_text("{}")
        self._dockerd: subprocess.Popen[bytes] | None = None

    # --- its life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Returns once it answers; by then it has started again what is to be."""
        if not CLASS_NET.joinpath(self._bridge).exists():
            subprocess.run([*self._inside, "ip", "link", "add", self._bridge, "type", "bridge"], check=True)
            subprocess.run([*self._inside, "ip", "address", "add", BRIDGE_ADDRESS, "dev", self._bridge], check=True)
        with self._log.open("ab") as log:
            self._dockerd = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        _await(self.answers, STARTS_WITHIN, self._last_words)

    def stop(self) -> None:
        """As an administrator does: its containers are stopped first."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As the kernel does for want of memory: containerd ends with it, containers and their shims run on."""
        self._end(signal.SIGKILL)
        # Where nobody reaps the dead, the next one takes it for a containerd that lives.
        self._runtime.joinpath("containerd/containerd.pid").unlink()

    def cut_power(self) -> None:
        """As the host does: no process, mount, interface or file of /run outlives it."""
        self._vanish()
        shutil.rmtree(self._runtime)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        os.kill(self._pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._pid, signal.SIGCONT)

    @contextmanager
    def keeping_containers(self) -> Iterator[None]:
        """Its containers outlive it for a while, as `live-restore` has it."""
        self._set_live_restore(True)
        try:
            yield
        finally:
            self._set_live_restore(False)

    # --- what is seen of it ----------------------------------------------------------------------------------------

    def answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as asked, suppress(OSError):
            asked.settimeout(ANSWERS_WITHIN)
            asked.connect(self.host.removeprefix("unix://"))
            asked.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in asked.recv(64)
        return False

    def lives(self) -> dict[str, str]:
        """When each container that runs was started, by its name."""
        running = self._asked(lambda client: client.containers.list(ignore_removed=True))
        return {container.attrs["Name"]: container.attrs["State"]["StartedAt"] for container in running}

    def processes(self) -> list[int]:
        """It, its containerd, the shims, and all that runs in containers."""
        found = [pid for pid in _processes() if str(self._folder) in _command_line(pid)]
        return [*found, *_descendants(found)]

    # --- its end ---------------------------------------------------------------------------------------------------

    def strike(self) -> None:
        """Processes, mounts, interfaces, files: all of it goes, whatever state it was left in."""
        self._vanish()
        shutil.rmtree(self._folder)

    def _vanish(self) -> None:
        self._end(signal.SIGKILL)
        self._end_all()
        self._unmount_all()
        for bridge in self._bridges():
            subprocess.run(["ip", "link", "delete", bridge], check=True)
        _await(self._without_cgroups, ENDS_WITHIN, lambda: f"cgroups of {self._folder.name} do not end")

    def _end(self, number: signal.Signals) -> None:
        dockerd, self._dockerd = self._dockerd, None
        if dockerd is not None:
            dockerd.send_signal(number)
            dockerd.wait(ENDS_WITHIN)

    def _end_all(self) -> None:
        """Top first, so that nobody starts what was ended."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _await(lambda: not self.processes(), ENDS_WITHIN, lambda: f"processes {self.processes()} do not end")

    def _unmount_all(self) -> None:
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for mount in reversed([mount for mount in mounts if Path(mount).is_relative_to(self._folder)]):
            subprocess.run(["umount", "--lazy", mount], check=True)

    def _bridges(self) -> list[str]:
        """Those of its networks. It need not answer: what it keeps of them names them."""
        networks = self._folder / "data/network/files/local-kv.db"
        kept = networks.read_bytes() if networks.exists() else b""
        names = [name for _, name in socket.if_nameindex()]
        return [
            n for n in names if n == self._bridge or (n.startswith("br-") and n.removeprefix("br-").encode() in kept)
        ]

    def _without_cgroups(self) -> bool:
        """Whether they are gone, each below the one named for it; of version 1 there is one for each controller."""
        mine = [*CGROUPS.glob(self._folder.name), *CGROUPS.glob(f"*/{self._folder.name}")]
        with suppress(OSError):  # the kernel counts its dead for a moment
            for group in mine:
                for folder, _, _ in os.walk(group, topdown=False):
                    Path(folder).rmdir()
            return True
        return False

    # --- how it is spoken to ---------------------------------------------------------------------------------------

    def _command(self) -> list[str]:
        return [
            *(*self._inside, "dockerd", "--config-file", str(self._settings), "--host", self.host),
            *("--data-root", str(self._folder / "data"), "--exec-root", str(self._runtime)),
            *("--pidfile", str(self._folder / "pid")),
            *("--containerd-namespace", "own", "--containerd-plugins-namespace", "own-plugins"),
            *("--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", f"/{self._folder.name}"),
            # Without a default bridge, or with pools of its own, it would delete docker0, which is the other engine's.
            *("--bridge", self._bridge, "--iptables=false", "--ip6tables=false", "--ip-masq=false"),
            *self._options,
        ]

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    @property
    def _pid(self) -> int:
        assert self._dockerd is not None
        return self._dockerd.pid

    def _last_words(self) -> str:
        return "".join(self._log.read_text(errors="replace").splitlines(keepends=True)[-20:])

    def _client(self) -> docker.DockerClient:
        return docker.DockerClient(base_url=self.host, version="1.41", timeout=10)

    def _asked(self, work: Callable[[docker.DockerClient], T]) -> T:
        with closing(self._client()) as client:
            return work(client)

    def _set_live_restore(self, wanted: bool) -> None:
        """It reads its settings anew and goes on."""
        self._settings.write_text(json.dumps({"live-restore": wanted}))
        os.kill(self._pid, signal.SIGHUP)
        _await(
            lambda: self._asked(lambda client: client.info())["LiveRestoreEnabled"] is wanted,
            ENDS_WITHIN,
            self._last_words,
        )


@contextmanager
def own_engine(inside: Sequence[str] = (), options: Sequence[str] = ()) -> Iterator[OwnEngine]:
    made = OwnEngine(Path(tempfile.mkdtemp(prefix="proxyctl-engine-")), inside, options)
    beside = CLASS_NET.joinpath("docker0").exists()
    try:
        made.start()
        yield made
    finally:
        made.strike()
    assert CLASS_NET.joinpath("docker0").exists() == beside, "it took the bridge of the engine beside it"


def _await(true: Callable[[], bool], within: float, why_not: Callable[[], str]) -> None:
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline, why_not()
        time.sleep(0.02)


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def _descendants(pids: Iterable[int]) -> Iterator[int]:
    for pid in pids:
        with suppress(OSError):
            children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            yield from children
            yield from _descendants(children)
