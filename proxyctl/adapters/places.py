"""Where everything of one project lies on disk. The one home of the state folder's layout. Start at Places.

    public/    0755  what nginx's workers reach: generations/, the symlink current, splits/, temp/, logs/ (0711)
    private/   0700  the store, locks, sockets, pid file and logs

Knows names and modes, never contents.
"""

from __future__ import annotations

import os
from pathlib import Path

from proxyctl.domain.record import Record

SPLIT_IN_FORCE = "current"  # in a service's folder below splits/: the symlink that nginx follows
PUBLIC_MODE = 0o755
PRIVATE_MODE = 0o700
LOG_MODE = 0o640
PASSED_MODE = 0o711  # workers open their logs anew by name; nobody else may list them


class Places(Record):
    """The layout below one state folder."""

    root: Path

    def __init__(self, root: Path) -> None:
        super().__init__(root=root)

    @property
    def public(self) -> Path:
        return self.root / "public"

    @property
    def generations(self) -> Path:
        return self.public / "generations"

    @property
    def current(self) -> Path:
        """The symlink that names the generation in force."""
        return self.public / "current"

    @property
    def splits(self) -> Path:
        return self.public / "splits"

    @property
    def private(self) -> Path:
        return self.root / "private"

    @property
    def store(self) -> Path:
        return self.private / "proxyctl.db"

    @property
    def owner(self) -> Path:
        """Names the project whose state this is."""
        return self.private / "project"

    @property
    def engine(self) -> Path:
        """Names the engine on which the slot network was last seen."""
        return self.private / "engine"

    @property
    def frozen(self) -> Path:
        """Is there while the project is frozen."""
        return self.private / "frozen"

    @property
    def salt(self) -> Path:
        """Of the hashes by which clients are told apart."""
        return self.private / "salt"

    @property
    def locks(self) -> Path:
        return self.private / "locks"

    def split_lock(self, service: str) -> Path:
        """Held for the instant in which a service's flags change."""
        return self.locks / f"{service}.split.lock"

    @property
    def run(self) -> Path:
        """Sockets of the processes that drive a service."""
        return self.private / "run"

    def driver_socket(self, service: str) -> Path:
        return self.run / f"{service}.sock"

    @property
    def logs(self) -> Path:
        """Of our own processes."""
        return self.private / "logs"

    @property
    def nginx_logs(self) -> Path:
        return self.public / "logs"

    @property
    def access_log(self) -> Path:
        return self.nginx_logs / "access.log"

    @property
    def error_log(self) -> Path:
        return self.nginx_logs / "error.log"

    @property
    def nginx(self) -> Path:
        """What a master of ours makes for itself, where its workers do not come."""
        return self.private / "nginx"

    @property
    def rooms(self) -> Path:
        """A folder for each container of nginx, which stands for `nginx` in it: two never share a socket."""
        return self.private / "rooms"

    @property
    def control_socket(self) -> Path:
        """Where the nginx in force listens for us; for one in a container, a link into its room."""
        return self.nginx / "control.sock"

    @property
    def control_address(self) -> Path:
        """Where the control server listens in an nginx that is not ours: a TCP port, and a path that nobody guesses."""
        return self.nginx / "control.address"

    @property
    def pid_file(self) -> Path:
        return self.nginx / "nginx.pid"

    @property
    def temp(self) -> Path:
        """Where workers put bodies that do not fit into memory, in folders of their own user."""
        return self.public / "temp"

    def create(self) -> None:
        """Make every folder, with its mode whatever the umask. May be repeated; a root that stands keeps its own."""
        for folder in reversed([path for path in (self.root, *self.root.parents) if not path.exists()]):
            make_folder(folder, PUBLIC_MODE)
        for folder in (self.public, self.generations, self.splits, self.temp):
            make_folder(folder, PUBLIC_MODE)
        make_folder(self.nginx_logs, PASSED_MODE)
        for log in (self.access_log, self.error_log):
            make_log(log)
        for folder in (self.private, self.locks, self.run, self.logs, self.nginx, self.rooms):
            make_folder(folder, PRIVATE_MODE)


def make_log(path: Path) -> None:
    """nginx would let everybody read it, and it names clients. One that is there stays as it is."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, LOG_MODE))


def make_folder(path: Path, mode: int) -> None:
    """Left untouched where it is right already: a change would have to reach the disk."""
    path.mkdir(exist_ok=True)
    if path.stat().st_mode & 0o777 != mode:
        path.chmod(mode)
