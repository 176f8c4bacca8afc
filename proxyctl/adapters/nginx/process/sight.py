"""Why a worker cannot see a folder: the first refused component of its path. Only looks.

refused_part() says it of a user before nginx starts, blind_spot() of a worker that runs.
"""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

TRAVERSE_ALL = 0o001
WORKER_USER = "nobody"  # what nginx is built with unless its packager chose another


class User(NamedTuple):
    uid: int
    groups: frozenset[int]

    @property
    def name(self) -> str:
        if self == OTHERS:
            return "in the container"
        with suppress(KeyError):
            return pwd.getpwuid(self.uid).pw_name
        return f"uid {self.uid}"


OTHERS = User(-1, frozenset())  # somebody of whom nothing is known


def worker_user(name: str | None) -> User:
    """Whom workers will be: the user named, else nginx's own; ourselves where the master is not root."""
    if os.geteuid() != 0:
        return User(os.geteuid(), frozenset({os.getegid(), *os.getgroups()}))
    known = pwd.getpwnam(name or WORKER_USER)
    return User(known.pw_uid, frozenset(os.getgrouplist(known.pw_name, known.pw_gid)))


def user_of(pid: int) -> User:
    """Raises OSError when the process is gone."""
    fields = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    gids = {int(fields["Gid"].split()[1]), *map(int, fields["Groups"].split())}
    return User(int(fields["Uid"].split()[1]), frozenset(gids))


def group_of(pid: int) -> int:
    """Raises OSError when the process is gone."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("Gid:"))
    return int(line.split()[2])


def blind_spot(folder: Path, pid: int) -> str:
    """In one clause, what keeps this process from the folder."""
    try:
        user = user_of(pid)
    except OSError:
        return f"worker {pid} died since it said so"
    if refused := refused_part(folder, user):
        return refused
    if not _same_folder(folder, pid):
        return f"{folder} is another folder, or none, in its mount namespace (ProtectHome=, PrivateTmp=)"
    return f"modes allow its user {user.name} to enter {folder}; look at SELinux or AppArmor"


def refused_part(folder: Path, user: User) -> str:
    """In one clause, the first folder of the path that this user may not enter; empty when all that exist may be."""
    for part in filter(Path.exists, reversed([folder, *folder.parents])):
        if not may_enter(part, user):
            return f"{part} (mode {part.stat().st_mode & 0o777:04o}) may not be entered by its user {user.name}"
    return ""


def may_enter(folder: Path, user: User) -> bool:
    """By the mode bits. Access lists and security modules are not asked."""
    found = folder.stat()
    if user.uid == 0:
        return True
    if user.uid == found.st_uid:
        return bool(found.st_mode & TRAVERSE_ALL << 6)
    if found.st_gid in user.groups:
        return bool(found.st_mode & TRAVERSE_ALL << 3)
    return bool(found.st_mode & TRAVERSE_ALL)


def _same_folder(folder: Path, pid: int) -> bool:
    with suppress(OSError):
        return os.path.samestat(folder.stat(), Path(f"/proc/{pid}/root{folder}").stat())
    return False
