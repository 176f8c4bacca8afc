"""Whom the kernel's words make a master of ours: processes with nginx's titles and open files, forked as it does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proxyctl.adapters.nginx.process.master import find_master, find_masters
from proxyctl.adapters.places import Places

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


@contextmanager
def a_master(places: Places, descendants: int) -> Iterator[int]:
    """Its pid; every descendant has its title."""
    places.nginx_logs.mkdir(parents=True, exist_ok=True)
    log = places.nginx_logs / "error.log"
    command = ("nginx: master process", "-c", FORKS, str(log), str(descendants))
    with subprocess.Popen(
        command, executable=sys.executable, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "forked\n"
            yield process.pid
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_a_worker_that_was_just_forked_is_no_master_although_it_has_the_title(tmp_path: Path) -> None:
    places = Places(tmp_path)
    with a_master(places, descendants=1) as pid:
        assert [master.pid for master in find_masters(places)] == [pid]
        found = find_master(places)
        assert found is not None and found.pid == pid


def test_a_masters_child_that_has_workers_is_its_successor(tmp_path: Path) -> None:
    places = Places(tmp_path)
    with a_master(places, descendants=2) as pid:
        assert len(find_masters(places)) == 2
        found = find_master(places)
        assert found is not None and found.pid != pid
