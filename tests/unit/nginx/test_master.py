"""Whom the kernel's words make a master of ours: processes with nginx's titles and open files, forked as it does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxyctl.adapters.nginx.process.binary import ServingProgram
from proxyctl.adapters.nginx.process.included import IncludedProgram
from proxyctl.adapters.nginx.process.master import MASTER, find_master, find_masters, is_written
from proxyctl.adapters.places import Places
from proxyctl.domain.model import Mode, ProxySettings

NOBODY = 65534

FORKS = """
import os, signal, sys
open_log = open(sys.argv[1], "a")
for _ in range(int(sys.argv[2])):  # each is forked by the one before, and has its title
    if (child := os.fork()):
        break
if not child:
    print("forked", flush=True)
signal.pause()
"""

# A worker that somebody took over keeps the log, and can have a child of its own.
TURNED = """
import os, signal, sys
open_log = open(sys.argv[1], "a")
if not os.fork():
    os.setuid(int(sys.argv[2]))
    if not os.fork():
        print("turned", flush=True)
signal.pause()
"""

# Opens the log as whoever may pass its folder can; with real user ids of its own, or with root's effective one, as a
# program that lends it has.
POSES = """
import os, signal, sys
log, real, effective = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
opened = os.open(log, int(sys.argv[4]))
os.setresuid(real, effective, effective)
print("poses", flush=True)
signal.pause()
"""

WAITS = "import signal; print('waits', flush=True); signal.pause()"

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")


@pytest.fixture
def places() -> Iterator[Places]:
    """Where everybody may come by, as in /var/lib."""
    with tempfile.TemporaryDirectory(prefix="proxyctl-master-") as folder:
        made = Places(Path(folder))
        made.root.chmod(0o755)
        made.create()
        yield made


@contextmanager
def a_process(title: str, script: str, *arguments: object) -> Iterator[int]:
    """Its pid, once it said a word."""
    with subprocess.Popen(
        [title, "-c", script, *map(str, arguments)],
        executable=sys.executable,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline()
            yield process.pid
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def a_master(places: Places, descendants: int) -> Iterator[int]:
    """Its pid; every descendant has its title."""
    with a_process(MASTER, FORKS, places.error_log, descendants) as pid:
        yield pid


@contextmanager
def a_poser(
    places: Places, *, title: str = MASTER, real: int = NOBODY, effective: int = NOBODY, way: int = os.O_PATH
) -> Iterator[int]:
    with a_process(title, POSES, places.access_log, real, effective, way) as pid:
        yield pid


def test_a_worker_that_was_just_forked_is_no_master_although_it_has_the_title(places: Places) -> None:
    with a_master(places, descendants=1) as pid:
        assert [master.pid for master in find_masters(places)] == [pid]
        found = find_master(places)
        assert found is not None and found.pid == pid


def test_a_masters_child_that_has_workers_is_its_successor(places: Places) -> None:
    with a_master(places, descendants=2) as pid:
        assert len(find_masters(places)) == 2
        found = find_master(places)
        assert found is not None and found.pid != pid


def test_a_master_whose_logs_were_deleted_is_ours_still(places: Places) -> None:
    with a_master(places, descendants=1) as pid:
        for log in places.nginx_logs.iterdir():
            log.unlink()
        assert [master.pid for master in find_masters(places)] == [pid]


@root_only
@pytest.mark.parametrize("way", [os.O_PATH, os.O_WRONLY], ids=["passes by the log", "writes the log"])
@pytest.mark.parametrize("effective", [NOBODY, 0], ids=["as itself", "in a program that lends it root"])
def test_what_another_user_calls_a_master_is_none(places: Places, effective: int, way: int) -> None:
    """Else we would run its program as root. Workers write our logs too, and are another user's."""
    with a_poser(places, effective=effective, way=way) as pid:
        places.pid_file.write_text(f"{pid}\n")
        assert find_master(places) is None
        assert not ServingProgram(places, "nginx").tried().startswith("/proc/")


@root_only
def test_a_worker_that_calls_itself_a_master_is_not_its_masters_successor(places: Places) -> None:
    with a_process(MASTER, TURNED, places.error_log, NOBODY) as pid:
        found = find_master(places)
        assert found is not None and found.pid == pid


@root_only
async def test_the_users_own_master_is_roots(places: Places) -> None:
    noted = places.root / "nginx.pid"
    config = places.root / "nginx.conf"
    config.write_text(f"pid {noted}; events {{}}")
    program = IncludedProgram(places, ProxySettings(mode=Mode.INCLUDE, config=str(config)))
    with a_process(MASTER, WAITS) as master, a_poser(places) as poser:
        noted.write_text(f"{master}\n")
        assert await program.master() == master
        noted.write_text(f"{poser}\n")
        assert await program.master() is None


@root_only
def test_a_log_that_somebody_only_holds_is_not_written(places: Places) -> None:
    log = places.access_log.stat()
    with a_poser(places, title="nginx: anything"):
        assert not is_written(log)
    with a_poser(places, title="nginx: worker process", way=os.O_WRONLY):
        assert is_written(log)
