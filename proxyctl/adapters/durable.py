"""Changes to folders that a power cut leaves either done or not begun; a disk that refuses one says so in words.
Start at repoint() and told_in_words()."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from proxyctl.errors import StateUnusable


@contextmanager
def told_in_words(state: Path) -> Iterator[None]:
    """Raises StateUnusable for what the disk refuses within the block."""
    try:
        yield
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        raise StateUnusable(
            f"the state folder {state} cannot be used: {str(error.strerror).lower()}{where}",
            serving="traffic stays as it is",
            next_step="make room, or repeat as the user who owns it; another folder: --state DIR",
        ) from error


def put_once(path: Path, text: str) -> None:
    """A file that whoever comes first writes, for ever: there with its whole text, or not at all."""
    if path.exists():
        return
    temp = path.with_name(f".{path.name}.{os.getpid()}")
    temp.unlink(missing_ok=True)
    write_synced(temp, text, 0o600)
    with suppress(FileExistsError):
        path.hardlink_to(temp)
    temp.unlink()
    sync_folder(path.parent)


def put(path: Path, text: str) -> None:
    """A file with this text, in one rename; on disk when this returns."""
    temp = path.with_name(f".{path.name}.{os.getpid()}")
    temp.unlink(missing_ok=True)
    write_synced(temp, text, 0o600)
    temp.rename(path)
    sync_folder(path.parent)


def repoint(link: Path, target: str) -> None:
    """Make a symlink name `target`, in one rename; on disk when this returns."""
    temp = link.with_name(f".{link.name}.{os.getpid()}")
    temp.unlink(missing_ok=True)
    temp.symlink_to(target)
    temp.rename(link)
    sync_folder(link.parent)


def sync_folder(folder: Path) -> None:
    """The names in this folder are on disk when this returns."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_synced(path: Path, text: str, mode: int, group: int = -1) -> None:
    """A new file with this text and mode, and of this group unless it is -1; all is on disk when this returns."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fchown(fd, -1, group)
        os.fchmod(fd, mode)
        os.fsync(fd)
