"""The machine refuses nginx something: processes, or room on its disk. What served serves on, or again."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from proxyctl.errors import Degraded, StateUnusable
from proxyctl.ports import ProxyState
from tests.nginx_bed import BLUE, DEBIAN, GREEN, WEB, Bed, a_bed, all_to
from tests.prove.disk import Disk

CGROUPS = Path("/sys/fs/cgroup")


class Pen:
    """A control group for nginx, in which no more than so many processes may live."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def holds(self, bed: Bed) -> None:
        for process in bed.processes():
            (self._folder / "cgroup.procs").write_text(str(process.pid))

    def allow(self, processes: int | str) -> None:
        (self._folder / "pids.max").write_text(str(processes))

    @property
    def inmates(self) -> int:
        return int((self._folder / "pids.current").read_text())


@contextmanager
def a_pen() -> Iterator[Pen]:
    root = CGROUPS / "pids" if (CGROUPS / "pids").is_dir() else CGROUPS
    folder = root / f"proxyctl-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir()
        pen = Pen(folder)
        pen.allow("max")
    except OSError as error:
        pytest.fail(f"these tests need root and the pids controller of cgroups: {error}", pytrace=False)
    try:
        yield pen
    finally:
        for pid in (folder / "cgroup.procs").read_text().split():
            with suppress(OSError):
                (root / "cgroup.procs").write_text(pid)
        folder.rmdir()


@pytest.fixture
def pen() -> Iterator[Pen]:
    with a_pen() as made:
        yield made


@pytest.fixture
async def serving(pen: Pen) -> AsyncIterator[Bed]:
    async with a_bed(DEBIAN) as bed:
        await bed.serve_both()
        await bed.publish()
        await bed.splits.move(WEB, all_to(BLUE))
        pen.holds(bed)
        yield bed


def forks_refused(bed: Bed) -> int:
    return bed.places.error_log.read_text().count("fork() failed")


async def test_a_reload_whose_fork_is_refused_is_asked_for_again(serving: Bed, pen: Pen) -> None:
    """The old workers leave all the same, and make room for the new ones."""
    pen.allow(pen.inmates)
    number = await serving.publish(serving.topology(serving.route(hosts=("bed.example.com",))))
    assert forks_refused(serving)
    status = await serving.proxy.status()
    assert (status.state, status.observed) == (ProxyState.RUNNING, number)
    assert (await serving.get()).text == "blue"


@pytest.mark.long
async def test_an_nginx_that_may_not_fork_at_all_is_degraded_and_serves_again_once_it_may(
    serving: Bed, pen: Pen
) -> None:
    pen.allow(1)
    with pytest.raises(Degraded) as degraded:
        await serving.publish(serving.topology(serving.route(hosts=("bed.example.com",))))
    assert forks_refused(serving)
    assert "fork() failed" in degraded.value.detail
    status = await serving.proxy.status()
    assert (status.state, status.observed) == (ProxyState.RUNNING, None)
    pen.allow("max")
    assert (await serving.proxy.start()).observed == status.generation
    assert (await serving.get()).text == "blue"


# --- a full disk ------------------------------------------------------------------------------------------------


@contextmanager
def full(folder: Path) -> Iterator[None]:
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(65536))
    with ballast.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1))
    try:
        yield
    finally:
        ballast.unlink()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """pytest's own folders are closed to nginx's workers."""
    with tempfile.TemporaryDirectory(prefix="proxyctl-disk-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def test_on_a_full_disk_nothing_changes_and_what_served_serves(open_folder: Path) -> None:
    with Disk(open_folder).new() as mounted:
        bed = Bed(mounted / "bed", DEBIAN)
        try:
            await bed.serve_both()
            await bed.publish()
            await bed.splits.move(WEB, all_to(BLUE))
            with full(mounted):
                with pytest.raises(OSError, match="No space left"):
                    (mounted / "more").write_bytes(bytes(8192))
                with pytest.raises(StateUnusable, match="no space left on device"):
                    await bed.publish(bed.topology(bed.route(hosts=("bed.example.com",))))
                with pytest.raises(StateUnusable, match="no space left on device"):
                    await bed.splits.move(WEB, all_to(GREEN))
                assert (await bed.get()).text == "blue"
                status = await bed.proxy.status()
                assert status.generation == status.observed == 1
            assert await bed.publish(bed.topology(bed.route(hosts=("bed.example.com",)))) == 3
            await bed.splits.move(WEB, all_to(GREEN))
            assert (await bed.get()).text == "green"
        finally:
            await bed.end()
