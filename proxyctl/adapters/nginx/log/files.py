"""One log without an end, read out of files that are renamed, copied, cut and deleted under it. Start at Trail.read().

A file is known by its first line, which has the id of a request: not by its name, which moves on, nor by its inode,
which the next file may get. Reading goes on to the next file when this one is read to its end and nobody writes into it
any more; so nothing is lost however files are rotated, and nothing comes twice. Only what was deleted, compressed or
cut unread is lost, and that is told as a gap.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

from proxyctl.adapters.nginx.log.lines import TIME, time_of

BLOCK: Final = 1 << 20  # bytes read at once; a longer line is none of ours
HEAD: Final = 4 << 10  # bytes of a first line that tell it from all others
PAST: Final = 64 << 20  # bytes that are read in some seconds

Written = Callable[[os.stat_result], bool]


class Spot(NamedTuple):
    """Where a line begins."""

    log: str  # which file, by its first line; "" before all files
    begun: float  # the time of that line; 0.0 where it has none
    offset: int


START = Spot("", 0.0, 0)


class Stretch(NamedTuple):
    """Whole lines."""

    begin: Spot
    text: bytes

    def lines(self) -> list[bytes]:
        return self.text.split(b"\n")[:-1]

    def after(self, lines: int) -> Spot:
        """Where this many of them end."""
        end = 0
        for _ in range(lines):
            end = self.text.index(b"\n", end) + 1
        return self.begin._replace(offset=self.begin.offset + end)


class Trail:
    """`written` says whether anybody has this file open to write into it."""

    def __init__(self, path: Path, since: Spot, written: Written) -> None:
        self.gaps = 0  # times that lines were gone before they were read
        self._path = path
        self._written = written
        self._spot = since
        self._file: _File | None = None

    def read(self) -> Stretch | None:
        """The next lines, as many as a block has; None while there are none."""
        while (file := self._file or self._resume()) is not None:
            if (stretch := self._lines(file)) is not None:
                return stretch
            if not self._turn(file):
                return None
        return None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _lines(self, file: _File) -> Stretch | None:
        """None at the end of what is written."""
        text = os.pread(file.fd, BLOCK, self._spot.offset)
        while file.is_itself() and text:
            begin, end = self._spot, text.rfind(b"\n") + 1
            if not end and len(text) < BLOCK:
                return None
            self._spot = begin._replace(offset=begin.offset + (end or BLOCK))
            if end:
                return Stretch(begin, text[:end])
            text = os.pread(file.fd, BLOCK, self._spot.offset)
        return None

    # --- from file to file -----------------------------------------------------------------------------------------

    def _turn(self, file: _File) -> bool:
        """At the end of this file: whether there is, or may be, more to read now."""
        if not file.is_itself():  # somebody copied it and cut it off: the copy has what was not read yet
            self.close()
            return True
        if self._is_current(file):
            return False
        if file.left:
            return self._follow(file)
        file.left = not self._written(os.fstat(file.fd))
        return file.left  # read once more: what came before it was left

    def _follow(self, file: _File) -> bool:
        """On to what came after this file, once that has a line."""
        with self._files() as files:
            return self._begin([other for other in files if other.log != file.log and self._is_later(other, file.age)])

    def _resume(self) -> _File | None:
        """Where it was left, else at the beginning of what came after."""
        since = self._spot
        with self._files() as files:
            same = [file for file in files if file.log == since.log]
            if same:  # it may have been copied
                self._file = max(same, key=lambda file: (self._is_current(file), os.fstat(file.fd).st_size))
            elif self._begin([file for file in files if self._is_later(file, (since.begun, float("inf")))]):
                self.gaps += 1 if since.log else 0
        return self._file

    def _begin(self, files: list[_File]) -> bool:
        """With the first of these, if there is one. The one that nginx writes is the last, whatever the clock said."""
        first = min(files, key=lambda file: (self._is_current(file), file.age), default=None)
        if first is not None:
            self.close()
            self._file, self._spot = first, Spot(first.log, first.begun, 0)
        return first is not None

    def _is_later(self, file: _File, age: tuple[float, float]) -> bool:
        return file.age > age or self._is_current(file)

    def _is_current(self, file: _File) -> bool:
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(file.fd), self._path.stat())
        return False

    @contextmanager
    def _files(self) -> Iterator[list[_File]]:
        """All that have a line. They are closed in the end, but for the one that is read from now on."""
        opened = _all_of(self._path)
        try:
            yield opened
        finally:
            for file in opened:
                if file is not self._file:
                    file.close()


class _File:
    def __init__(self, fd: int, head: bytes) -> None:
        self.fd = fd
        self.log = blake2b(head, digest_size=16).hexdigest()
        self.begun = time_of(head[TIME]) or 0.0
        self.left = False  # by all who wrote into it
        self._head = head

    @property
    def age(self) -> tuple[float, float]:
        """Files that begin in the same second are told apart by when they were left."""
        return self.begun, os.fstat(self.fd).st_mtime_ns

    def is_itself(self) -> bool:
        """Whether it still begins with the line that it is known by."""
        return os.pread(self.fd, len(self._head), 0) == self._head

    def close(self) -> None:
        os.close(self.fd)


def _all_of(path: Path) -> list[_File]:
    """The log and those that it was renamed or copied to."""
    files: list[_File] = []
    try:
        for other in path.parent.glob(f"{path.name}*"):
            files += _opened(other, path)
    except OSError:
        for file in files:
            file.close()
        raise
    return files


def _opened(path: Path, log: Path) -> Iterator[_File]:
    """Nothing where it has gone, has no whole line yet, or is only called like the log: what is compressed begins with
    no time. The log itself is taken whatever it begins with."""
    if not path.is_file():
        return
    with suppress(FileNotFoundError), path.open("rb") as file:
        head, newline, _ = os.pread(file.fileno(), HEAD, 0).partition(b"\n")
        is_whole = newline or len(head) == HEAD
        if is_whole and (path == log or time_of(head[TIME]) is not None):
            yield _File(os.dup(file.fileno()), head + newline)


def spot_of(path: Path, at: float) -> Spot:
    """Where the lines of this unix time begin, in the log as it is now; at most about PAST bytes before its end."""
    files, spot, size = _all_of(path), START, 0
    try:
        for file in sorted(files, key=lambda file: file.age, reverse=True):
            spot, size = Spot(file.log, file.begun, _line_of(file.fd, at)), size + os.fstat(file.fd).st_size
            if file.begun <= at or size > PAST:
                break
    finally:
        for file in files:
            file.close()
    return spot


def _line_of(fd: int, at: float) -> int:
    """Where its first line of this time begins, or about there: workers write a second late. Found by halving."""
    low, high = max(0, os.fstat(fd).st_size - PAST), os.fstat(fd).st_size
    while high - low > HEAD:
        middle = _after_newline(fd, (low + high) // 2)
        time = time_of(os.pread(fd, TIME.stop, middle)[TIME])
        low, high = (middle, high) if time is not None and time < at else (low, (low + high) // 2)
    low = _after_newline(fd, low) if low else 0
    for line in os.pread(fd, 2 * HEAD, low).splitlines(keepends=True):
        if not line.endswith(b"\n") or (time_of(line[TIME]) or 0.0) >= at:
            break
        low += len(line)
    return low


def _after_newline(fd: int, offset: int) -> int:
    """The beginning of the next line."""
    text = os.pread(fd, HEAD * 16, offset)
    return offset + text.find(b"\n") + 1
