"""What every `Locks` promises, on files and in memory; then what only the kernel can."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxyctl.adapters import locks as file_locks
from proxyctl.adapters.durable import put_once
from proxyctl.adapters.lives import start_time
from proxyctl.adapters.locks import FileLocks
from proxyctl.adapters.memory import MemoryLocks
from proxyctl.adapters.nginx.generations import passing_on
from proxyctl.adapters.places import Places
from proxyctl.domain.model import ServiceName
from proxyctl.errors import Locked
from proxyctl.ports import Locks

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
WEB, API = ServiceName("web"), ServiceName("api")


@pytest.fixture(params=["files", "memory"])
def locks(request: pytest.FixtureRequest, tmp_path: Path) -> Locks:
    return locks_in(tmp_path) if request.param == "files" else MemoryLocks()


def locks_in(folder: Path) -> FileLocks:
    places = Places(folder)
    places.create()
    return FileLocks(places)


def test_a_service_has_one_driver_and_the_refusal_names_it(locks: Locks) -> None:
    held = locks.acquire(WEB, "rollout of web")
    with pytest.raises(Locked, match=r"web is being driven by rollout of web"):
        locks.acquire(WEB, "rollback")
    holder = locks.holder(WEB)
    assert holder is not None
    assert holder.purpose == "rollout of web"
    held.release()
    assert locks.holder(WEB) is None
    locks.acquire(WEB, "rollback").release()


def test_services_do_not_wait_for_each_other(locks: Locks) -> None:
    web, api = locks.acquire(WEB, "one"), locks.acquire(API, "two")
    web.release()
    assert locks.holder(API) is not None
    api.release()


def test_nobody_drives_a_service_that_was_never_seen(locks: Locks) -> None:
    assert locks.holder(WEB) is None
    locks.end_holder(WEB)


async def test_one_publishes_at_a_time(locks: Locks) -> None:
    inside: list[str] = []

    async def publish(name: str) -> None:
        async with locks.publishing():
            inside.append(name)
            await asyncio.sleep(0.02)
            assert inside[-1] == name, "another one came in meanwhile"

    await asyncio.gather(*(publish(name) for name in "abc"))
    assert sorted(inside) == ["a", "b", "c"]


async def test_a_failed_publisher_lets_the_next_one_in(locks: Locks) -> None:
    with pytest.raises(RuntimeError):
        async with locks.publishing():
            raise RuntimeError
    async with asyncio.timeout(1), locks.publishing():
        pass


# --- the kernel's locks ------------------------------------------------------------------------------------------

HOLD = "import sys; from pathlib import Path; from proxyctl.adapters.locks import FileLocks\n"
HOLD += "from proxyctl.adapters.places import Places\n"
HOLD += (
    "FileLocks(Places(Path(sys.argv[1]))).acquire('web', 'a stuck driver'); print('held', flush=True); sys.stdin.read()"
)


def a_holder(folder: Path) -> subprocess.Popen[bytes]:
    """Another process that holds the lock until its stdin is closed, or until it dies."""
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    return child


def ended(child: subprocess.Popen[bytes]) -> None:
    for pipe in (child.stdin, child.stdout):
        assert pipe is not None
        pipe.close()
    child.wait()


def soon(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not true() and time.monotonic() < deadline:
        time.sleep(0.005)
    return true()


def test_the_kernel_frees_the_lock_of_a_process_that_was_killed(tmp_path: Path) -> None:
    locks, child = locks_in(tmp_path), a_holder(tmp_path)
    with pytest.raises(Locked, match=rf"a stuck driver \(pid {child.pid}\)"):
        locks.acquire(WEB, "rollback")
    os.kill(child.pid, signal.SIGKILL)
    assert soon(lambda: locks.holder(WEB) is None)
    locks.acquire(WEB, "rollback").release()
    ended(child)


def test_a_holder_that_is_stuck_can_be_ended(tmp_path: Path) -> None:
    locks, child = locks_in(tmp_path), a_holder(tmp_path)
    os.kill(child.pid, signal.SIGSTOP)
    locks.end_holder(WEB)
    assert soon(lambda: locks.holder(WEB) is None)
    ended(child)
    assert child.returncode == -signal.SIGKILL


def test_a_process_that_only_has_the_number_of_the_holder_is_left_alone(tmp_path: Path) -> None:
    locks = locks_in(tmp_path)
    held = locks.acquire(WEB, "rollout")
    bystander = subprocess.Popen(["sleep", "60"])
    file = Places(tmp_path).locks / "web.lock"
    ours, theirs = f'"pid": {os.getpid()}', f'"pid": {bystander.pid}'
    file.write_text(file.read_text().replace(ours, theirs))
    assert locks.holder(WEB) is not None
    locks.end_holder(WEB)
    assert start_time(bystander.pid), "it lives"
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()
    held.release()


def test_a_child_that_inherits_the_lock_holds_it_without_a_gap(tmp_path: Path) -> None:
    locks = locks_in(tmp_path)
    held = locks.acquire(WEB, "deploy")
    child = subprocess.Popen(["sleep", "60"], pass_fds=(held.fileno(),))
    held.release()
    with pytest.raises(Locked):
        locks.acquire(WEB, "rollback")
    child.kill()
    child.wait()
    assert locks.holder(WEB) is None


def test_a_child_that_does_not_inherit_the_lock_does_not_hold_it(tmp_path: Path) -> None:
    locks = locks_in(tmp_path)
    held = locks.acquire(WEB, "deploy")
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    held.release()
    assert locks.holder(WEB) is None
    child.kill()
    child.wait()


@pytest.mark.parametrize("signature", ["", "{", "\0" * 100])
def test_a_lock_that_is_being_signed_is_held(tmp_path: Path, signature: str) -> None:
    locks, child = locks_in(tmp_path), a_holder(tmp_path)
    (Places(tmp_path).locks / "web.lock").write_text(signature)
    assert locks.holder(WEB) is not None
    locks.end_holder(WEB)
    assert child.poll() is None, "nobody is killed on a guess"
    ended(child)


def test_a_lock_file_with_nonsense_in_it_is_a_lock_all_the_same(tmp_path: Path) -> None:
    locks, child = locks_in(tmp_path), a_holder(tmp_path)
    (Places(tmp_path).locks / "web.lock").write_text("\0\xff{")
    with pytest.raises(Locked, match="driven by another process"):
        locks.acquire(WEB, "rollback")
    ended(child)


# --- the lock of all who publish here ----------------------------------------------------------------------------


@pytest.fixture
def host_lock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One of this test, in a folder like /run."""
    with tempfile.TemporaryDirectory(prefix="proxyctl-run-") as folder:
        Path(folder).chmod(0o755)
        path = Path(folder, "proxyctl.lock")
        monkeypatch.setattr(file_locks, "HOST_LOCK", path)
        monkeypatch.setattr(file_locks, "PUBLISH_WAIT", 0.3)
        yield path


async def test_whoever_waits_behind_many_that_are_quick_gets_its_turn(tmp_path: Path, host_lock: Path) -> None:
    turns: list[int] = []

    async def publish(number: int) -> None:
        async with locks_in(tmp_path / str(number)).publishing():
            turns.append(number)
            await asyncio.sleep(0.2)

    await asyncio.gather(*map(publish, range(6)))
    assert sorted(turns) == [*range(6)]


async def test_one_that_publishes_for_too_long_is_named_with_its_project(tmp_path: Path, host_lock: Path) -> None:
    async with locks_in(tmp_path / "slow").publishing():
        with pytest.raises(Locked) as refusal:
            async with locks_in(tmp_path / "other").publishing():
                raise AssertionError("two publish")
    assert str(refusal.value).startswith(f"proxyctl for {tmp_path / 'slow'} (pid {os.getpid()}) has been publishing")
    assert f"kill {os.getpid()}" in refusal.value.next_step


@pytest.mark.parametrize("signature", ["", "\0\xff{"])
async def test_a_publisher_that_did_not_sign_is_nobody_to_be_killed(
    tmp_path: Path, host_lock: Path, signature: str
) -> None:
    async with locks_in(tmp_path / "slow").publishing():
        host_lock.write_text(signature)
        with pytest.raises(Locked, match="another process has been publishing") as refusal:
            async with locks_in(tmp_path / "other").publishing():
                raise AssertionError("two publish")
    assert "kill" not in refusal.value.next_step


READS = """
import fcntl, os, struct, sys
os.setuid(65534)
try:
    lock = os.open(sys.argv[1], os.O_RDONLY)
except PermissionError:
    sys.exit("refused")
fcntl.fcntl(lock, fcntl.F_OFD_SETLK, struct.pack("hhqqi0q", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0))
print("held", flush=True)
sys.stdin.read()
"""


@root_only
async def test_nobody_but_root_can_hold_up_what_root_publishes(tmp_path: Path, host_lock: Path) -> None:
    locks = locks_in(tmp_path)
    async with locks.publishing():
        pass
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", READS, host_lock, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    await child.stdout.readline()
    async with locks.publishing():
        pass
    await child.communicate()


@root_only
def test_a_hand_over_of_roots_is_not_in_the_way_of_another_user(
    tmp_path: Path, host_lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = host_lock.with_name("before")
    put_once(before, "0")
    monkeypatch.setattr(passing_on, "BEFORE", before)
    os.seteuid(65534)
    try:
        passing_on.put_back()
    finally:
        os.seteuid(0)
    assert before.read_text() == "0"
