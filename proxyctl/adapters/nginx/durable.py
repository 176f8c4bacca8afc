"""Changes to folders that a power cut leaves either done or not begun. Start at repoint()."""

from __future__ import annotations

import os
from pathlib import Path


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
