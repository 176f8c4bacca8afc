"""One log out of many files: whatever is done to them between two readings, every line comes once and in order."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import count
from math import inf
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxyctl.adapters.nginx.log.files import BLOCK, START, Spot, Trail, spot_of
from tests.log_writer import NOON, line


class Nginx:
    """What writes: into the file that it has open, whatever that is called by now."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "access.log"
        self.written: list[bytes] = []
        self._numbers = count()
        self._fd = -1
        self.open()

    def open(self) -> None:
        """At USR1."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)

    def write(self, lines: int = 3) -> None:
        for _ in range(lines):
            self.written.append(line(NOON + next(self._numbers)))
            self.put(self.written[-1] + b"\n")

    def put(self, raw: bytes) -> None:
        os.write(self._fd, raw)

    def has_open(self, file: os.stat_result) -> bool:
        return self._fd >= 0 and os.path.samestat(os.fstat(self._fd), file)

    def close(self) -> None:
        os.close(self._fd)
        self._fd = -1

    # --- what is done to its log ---

    def rename(self) -> None:
        """Half a rotation: nginx was not told yet."""
        self.path.rename(self._first_old())

    def _first_old(self) -> Path:
        """access.log.1, after the other old ones have moved on."""
        numbers = [int(path.suffix[1:]) for path in self.path.parent.glob("access.log.*[0-9]")]
        for number in sorted(numbers, reverse=True):
            self._old(number).rename(self._old(number + 1))
        return self._old(1)

    def _old(self, number: int) -> Path:
        return self.path.with_name(f"access.log.{number}")

    def rotate(self) -> None:
        self.rename()
        self.open()

    def rotate_and_create(self) -> None:
        """As our own `proxy rotate` does, and logrotate's `create`: the new file is there before nginx opens it."""
        self.rename()
        self.path.touch()
        self.open()

    def copy_and_cut(self) -> None:
        """logrotate's `copytruncate`."""
        shutil.copy(self.path, self._first_old())
        os.truncate(self.path, 0)

    def delete(self) -> None:
        self.path.unlink()
        self.open()


KINDS: dict[str, Callable[[Nginx], None]] = {
    "rename and USR1": Nginx.rotate,
    "logrotate's create": Nginx.rotate_and_create,
    "copytruncate": Nginx.copy_and_cut,
    "deletion and USR1": Nginx.delete,
}


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    nginx = Nginx(tmp_path)
    yield nginx
    if nginx._fd >= 0:
        nginx.close()


@pytest.fixture
def trail(nginx: Nginx) -> Iterator[Trail]:
    trail = Trail(nginx.path, START, nginx.has_open)
    yield trail
    trail.close()


def read(trail: Trail) -> list[bytes]:
    """All that there is."""
    return [text for stretch in iter(trail.read, None) for text in stretch.lines()]


@pytest.mark.parametrize("kind", KINDS)
def test_a_rotation_between_two_readings_loses_nothing(nginx: Nginx, trail: Trail, kind: str) -> None:
    lines = []
    for _ in range(4):
        nginx.write()
        lines += read(trail)
        KINDS[kind](nginx)
        nginx.write(2)
    lines += read(trail)
    assert lines == nginx.written
    assert trail.gaps == 0


def files_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def strangers(nginx: Nginx) -> None:
    """What else may be called access.log and something, beside the logs."""
    text = b"".join(line(NOON + number) + b"\n" for number in range(5000))
    nginx.path.with_name("access.log.9.gz").write_bytes(gzip.compress(text))
    nginx.path.with_name("access.log.sum").write_text("a" * 32 + "  access.log.9.gz\n")
    nginx.path.with_name("access.log.d").mkdir()
    os.mkfifo(nginx.path.with_name("access.log.pipe"))


def test_what_is_only_called_like_a_log_is_none(nginx: Nginx, trail: Trail) -> None:
    strangers(nginx)
    nginx.write()
    nginx.rotate()
    nginx.write()
    open_before = files_open()
    assert spot_of(nginx.path, NOON - 60).begun == NOON
    assert read(trail) == nginx.written
    trail.close()
    assert trail.gaps == 0
    assert files_open() == open_before


def test_a_log_that_was_compressed_unread_is_a_gap(nginx: Nginx) -> None:
    nginx.write()
    since = spot_of(nginx.path, inf)
    nginx.write(5000)
    nginx.rotate()
    old = nginx.path.with_name("access.log.1")
    old.with_name("access.log.1.gz").write_bytes(gzip.compress(old.read_bytes()))
    old.unlink()
    nginx.write(2)
    trail = Trail(nginx.path, since, nginx.has_open)
    assert read(trail) == nginx.written[-2:]
    assert trail.gaps == 1
    trail.close()


def test_the_log_that_nginx_writes_is_read_whatever_it_begins_with(nginx: Nginx, trail: Trail) -> None:
    """A line that a power cut tore, say."""
    nginx.put(b"\0" * 100 + b"\n")
    nginx.write()
    assert read(trail)[1:] == nginx.written


def test_a_log_that_cannot_be_read_leaves_no_file_open(nginx: Nginx, monkeypatch: pytest.MonkeyPatch) -> None:
    nginx.write()
    nginx.rotate()
    nginx.write()
    read_, reads, open_before = os.pread, count(1), files_open()

    def failing(fd: int, size: int, offset: int) -> bytes:
        if next(reads) % 2 == 0:
            raise OSError(errno.EIO, "Input/output error")
        return read_(fd, size, offset)

    monkeypatch.setattr(os, "pread", failing)
    for _ in range(5):
        with pytest.raises(OSError, match="Input/output"):
            spot_of(nginx.path, NOON)
    assert files_open() == open_before


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "deletion and USR1"])
def test_lines_that_were_unread_at_a_rotation_are_read_after_it(nginx: Nginx, trail: Trail, kind: str) -> None:
    nginx.write()
    lines = read(trail)
    for _ in range(3):
        nginx.write(2)
        KINDS[kind](nginx)
        nginx.write(2)
    assert lines + read(trail) == nginx.written
    assert trail.gaps == 0


def test_unread_lines_of_a_deleted_file_are_read_by_who_has_it_open(nginx: Nginx, trail: Trail) -> None:
    nginx.write()
    lines = read(trail)
    nginx.write(2)
    nginx.delete()
    nginx.write(2)
    assert lines + read(trail) == nginx.written
    assert trail.gaps == 0


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "deletion and USR1"])
def test_who_comes_back_goes_on_where_it_was(nginx: Nginx, kind: str) -> None:
    nginx.write(5)
    where = second_line_of(nginx)
    for _ in range(3):
        KINDS[kind](nginx)
        nginx.write(4)
    trail = Trail(nginx.path, where, nginx.has_open)
    assert read(trail) == nginx.written[2:]
    assert trail.gaps == 0
    trail.close()


def test_a_file_that_was_deleted_unread_is_a_gap_that_is_told_once(nginx: Nginx) -> None:
    nginx.write(5)
    where = second_line_of(nginx)
    nginx.delete()
    trail = Trail(nginx.path, where, nginx.has_open)
    assert read(trail) == []
    nginx.write(4)
    assert (read(trail), trail.gaps) == (nginx.written[5:], 1)
    nginx.rotate()
    nginx.write()
    assert (read(trail), trail.gaps) == (nginx.written[9:], 1)
    trail.close()


def test_a_log_that_is_cut_and_not_copied_is_a_gap(nginx: Nginx, trail: Trail) -> None:
    nginx.write()
    read(trail)
    os.truncate(nginx.path, 0)
    assert read(trail) == []
    nginx.write(1)
    assert (read(trail), trail.gaps) == (nginx.written[-1:], 1)


def test_a_log_that_was_cut_and_has_grown_beyond_where_it_was_read_begins_anew(nginx: Nginx, trail: Trail) -> None:
    nginx.write()
    lines = read(trail)
    nginx.copy_and_cut()
    nginx.write(30)
    assert lines + read(trail) == nginx.written


def test_a_renamed_file_is_read_as_long_as_nginx_writes_into_it(nginx: Nginx, trail: Trail) -> None:
    """Nobody sent USR1; and when somebody does, the last lines come before those of the new file."""
    nginx.write()
    nginx.rename()
    nginx.path.touch()
    lines = read(trail)
    nginx.write()
    lines += read(trail)
    nginx.write()
    nginx.open()
    nginx.write()
    assert lines + read(trail) == nginx.written


def test_a_worker_that_opens_its_log_late_loses_nothing(nginx: Nginx) -> None:
    """The new file has lines already when the last ones come into the old file."""
    late = Nginx(nginx.path.parent)
    nginx.write()
    nginx.rotate()
    nginx.write()
    trail = Trail(nginx.path, START, lambda file: nginx.has_open(file) or late.has_open(file))
    lines = read(trail)
    assert lines == nginx.written[:3], "the old file is not done"
    late.write(1)
    lines += read(trail)
    late.close()
    assert lines + read(trail) == [*nginx.written[:3], *late.written, *nginx.written[3:]]
    trail.close()


def test_what_is_written_just_before_the_writer_leaves_is_read(nginx: Nginx) -> None:
    def leaves(_: os.stat_result) -> bool:
        nginx.write()
        nginx.open()
        nginx.write()
        return False

    nginx.write()
    nginx.rename()
    trail = Trail(nginx.path, START, leaves)
    assert read(trail) == nginx.written
    trail.close()


def test_a_copy_that_somebody_made_is_not_read(nginx: Nginx, trail: Trail) -> None:
    nginx.write()
    lines = read(trail)
    shutil.copy(nginx.path, nginx.path.with_name("access.log.bak"))
    nginx.write()
    nginx.rotate()
    lines += read(trail)
    shutil.copy(nginx.path.with_name("access.log.1"), nginx.path.with_name("access.log.1.bak"))
    nginx.write()
    assert lines + read(trail) == nginx.written


@pytest.mark.parametrize("name", ["access.log.0", "access.log.zzz"])
def test_who_comes_back_reads_the_log_and_not_a_copy_of_its_beginning(nginx: Nginx, name: str) -> None:
    nginx.write()
    where = second_line_of(nginx)
    shutil.copy(nginx.path, nginx.path.with_name(name))
    nginx.write()
    trail = Trail(nginx.path, where, nginx.has_open)
    assert read(trail) == nginx.written[2:]
    trail.close()


def test_a_compressed_log_is_no_log(nginx: Nginx, trail: Trail) -> None:
    nginx.path.with_name("access.log.2.gz").write_bytes(b"\x1f\x8b\x08" + bytes(range(11, 250)) + b"\n" * 9)
    nginx.write()
    lines = read(trail)
    nginx.rotate()
    nginx.write()
    assert lines + read(trail) == nginx.written


def test_an_inode_given_anew_is_another_file(nginx: Nginx, trail: Trail) -> None:
    """On tmpfs and ext4 the next file mostly gets the inode of the one deleted before."""
    nginx.write()
    assert read(trail) == nginx.written
    where = trail._spot
    trail.close()
    nginx.close()
    for _ in range(5):
        nginx.path.unlink()
        nginx.open()
        nginx.write(6)
    later = Trail(nginx.path, where, nginx.has_open)
    assert (read(later), later.gaps) == (nginx.written[-6:], 1)
    later.close()


# --- what is in them ---------------------------------------------------------------------------------------------


def test_a_line_is_read_when_it_is_whole(nginx: Nginx, trail: Trail) -> None:
    nginx.write(1)
    whole = line(NOON)
    nginx.put(whole[:40])
    assert read(trail) == nginx.written
    assert read(trail) == []
    nginx.put(whole[40:] + b"\n")
    assert read(trail) == [whole]


def test_a_file_begins_with_its_first_whole_line(nginx: Nginx, trail: Trail) -> None:
    whole = line(NOON)
    nginx.put(whole[:40])
    assert read(trail) == []
    nginx.put(whole[40:] + b"\n")
    assert read(trail) == [whole]


@pytest.mark.parametrize("junk", [b"\0" * (3 * BLOCK), b"x" * BLOCK, b"\xff" * 5000], ids=["NUL", "1 MiB", "no UTF-8"])
@pytest.mark.parametrize("first", [True, False])
def test_a_huge_line_takes_nothing_with_it(nginx: Nginx, trail: Trail, junk: bytes, first: bool) -> None:
    if not first:
        nginx.write()
    nginx.put(junk)
    lines = read(trail)
    nginx.put(junk[:7] + b"\n")
    nginx.write()
    lines += read(trail)
    nginx.rotate()
    nginx.write()
    lines += read(trail)
    assert [text for text in lines if text[:1] == b"2"] == nginx.written
    assert len(lines) == len(nginx.written) + 1


def test_a_torn_last_line_of_a_file_is_left_behind(nginx: Nginx, trail: Trail) -> None:
    nginx.write()
    nginx.put(line(NOON)[:30])
    nginx.rotate()
    nginx.write()
    assert read(trail) == nginx.written


def test_the_end_is_behind_the_last_line_even_where_the_log_has_just_begun_anew(nginx: Nginx) -> None:
    assert spot_of(nginx.path, inf) == START
    nginx.write()
    nginx.put(b"half a")
    nginx.rotate()
    for _ in range(2):
        trail = Trail(nginx.path, spot_of(nginx.path, inf), nginx.has_open)
        assert read(trail) == []
        nginx.write()
        assert read(trail) == nginx.written[-3:]
        trail.close()


# --- anything, in any order --------------------------------------------------------------------------------------

STEPS = st.lists(st.sampled_from(["write", "read", "go and come back", *KINDS]), max_size=30)


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_whatever_happens_every_line_is_read_once_and_in_order_or_a_gap_is_told(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    nginx = Nginx(tmp_path_factory.mktemp("log"))
    trail, lines, gaps = Trail(nginx.path, START, nginx.has_open), list[bytes](), 0
    for step in [*steps, "write", "read"]:
        if step == "write":
            nginx.write(2)
        elif step == "read":
            lines += read(trail)
        elif step == "go and come back":
            gaps += trail.gaps
            where = trail._spot
            trail.close()
            trail = Trail(nginx.path, where, nginx.has_open)
        else:
            KINDS[step](nginx)
    trail.close()
    nginx.close()
    read_once = [text for text in nginx.written if text in set(lines)]
    assert lines == read_once
    if "deletion and USR1" not in steps:
        assert (lines, gaps + trail.gaps) == (nginx.written, 0)


def second_line_of(nginx: Nginx) -> Spot:
    trail = Trail(nginx.path, START, nginx.has_open)
    stretch = trail.read()
    trail.close()
    assert stretch is not None
    return stretch.after(2)


def test_the_log_of_a_time_begins_at_its_first_line(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    times = [f"2026-11-21T11:{minute:02d}:{second:02d}+00:00" for minute in range(60) for second in range(60)]
    lines = [f"{time}\t{'f' * 32}\t{'x' * 80}\n" for time in times]
    log.write_text("".join(lines))
    for wanted in (0, 1, 1799, 3598, 3599):
        spot = spot_of(log, datetime.fromisoformat(times[wanted]).timestamp())
        assert spot.offset == sum(map(len, lines[:wanted]))
    assert spot_of(log, 0.0).offset == 0
    assert spot_of(log, inf).offset == log.stat().st_size


def test_the_log_of_a_time_may_begin_in_a_file_that_was_renamed(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    line = "2026-11-21T{}:00:00+00:00\t" + "f" * 32 + "\n"
    for name, hours in (("access.log.2", (8, 9)), ("access.log.1", (10, 11)), ("access.log", (12, 13))):
        log.with_name(name).write_text("".join(line.format(f"{hour:02d}") for hour in hours))
    spot = spot_of(log, datetime.fromisoformat("2026-11-21T11:00:00+00:00").timestamp())
    text = log.with_name("access.log.1").read_text()[spot.offset :]
    assert text == line.format(11)
