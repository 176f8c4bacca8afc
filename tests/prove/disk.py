"""A disk of its own whose power can be cut: ext4 in a file. Start at Disk.

What was never synced is in the kernel's memory only, so a copy of the file holds what a power cut would leave. As root,
and where the kernel has loop devices; else the tests fail and say so.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SIZE = 24 << 20
# Nothing gets onto the disk by itself within a test, and no rename is synced as a favour.
OPTIONS = "loop,noauto_da_alloc,commit=600"


class Disk:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.mounted = folder / "disk"
        self.mounted.mkdir()
        self._blank = folder / "blank.img"
        self._image = folder / "running.img"
        self._cut = folder / "cut.img"
        with self._blank.open("wb") as image:
            image.truncate(SIZE)
        _run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0", str(self._blank))

    @contextmanager
    def new(self) -> Iterator[Path]:
        """An empty disk, with power until the block ends."""
        _copy(self._blank, self._image)
        with self._mount(self._image):
            yield self.mounted
            _copy(self._image, self._cut)

    @contextmanager
    def after_the_cut(self) -> Iterator[Path]:
        """What was on the last new one when its power was cut, in the same place."""
        with self._mount(self._cut):
            yield self.mounted

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """As the kernel makes it when the disk fails."""
        _run("mount", "-o", "remount,ro", str(self.mounted))
        try:
            yield
        finally:
            _run("mount", "-o", "remount,rw", str(self.mounted))

    @contextmanager
    def _mount(self, image: Path) -> Iterator[None]:
        _run("mount", "-t", "ext4", "-o", OPTIONS, str(image), str(self.mounted))
        try:
            yield
        finally:
            _run("umount", "--lazy", str(self.mounted))  # a test that failed may hold a file of it open


def _copy(image: Path, to: Path) -> None:
    """Under another inode: the kernel may hold the loop device of the old one a moment longer, and would reuse it."""
    to.unlink(missing_ok=True)
    _run("cp", "--sparse=always", str(image), str(to))


def _run(*command: str) -> None:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    ended = subprocess.run(command, capture_output=True, text=True, env={"PATH": path})
    if ended.returncode != 0:
        pytest.fail(f"power cuts need root and loop devices: {' '.join(command)}: {ended.stderr}", pytrace=False)
