"""Break our own code in twelve ways, each a promise forgotten: the test that stands for the promise must fail.

A mutant lives in a copy of the repository. Its test passes there before the copy is broken, or its failure would mean
nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.prove.conftest import Depth, Tell
from tests.prove.tracing import REPOSITORY

pytestmark = pytest.mark.timeout(1200)

TRIED_IN_SHORT = 3
TAKEN_ALONG = ("proxyctl", "templates", "tests", "pyproject.toml")


class Mutant(NamedTuple):
    promise: str  # as it is broken
    file: str
    text: str
    broken: str
    caught_by: str
    quick: bool = True  # its test takes a second or two, and needs no Docker


CRASHES = "tests/crash/test_memory_crashes.py"
STORE = "tests/contract/test_store_contract.py"

MUTANTS = (
    Mutant(
        "a file of a generation is not synced",
        "proxyctl/adapters/durable.py",
        "        os.fchmod(fd, mode)\n        os.fsync(fd)\n",
        "        os.fchmod(fd, mode)\n",
        "tests/prove/test_power_cuts.py::test_a_power_cut_at_any_system_call_loses_nothing_that_was_done",
        quick=False,
    ),
    Mutant(
        "a commit is not synced",
        "proxyctl/adapters/sqlite.py",
        'SYNCED = "PRAGMA synchronous = FULL"',
        'SYNCED = "PRAGMA synchronous = NORMAL"',
        f"{STORE}::test_a_commit_is_on_disk_when_it_returns",
    ),
    Mutant(
        "the intent is journaled with the outcome, after the effect",
        "proxyctl/engine/runner.py",
        "            self.note(ev.Intended(command=command))\n            self.commit()\n",
        "            self.note(ev.Intended(command=command))\n",
        f"{CRASHES}::test_a_kill_at_any_boundary_breaks_no_promise",
    ),
    Mutant(
        "a writer that was replaced goes on writing",
        "proxyctl/adapters/sqlite.py",
        "            self._check_fence(db, state.service, fence)\n",
        "",
        f"{STORE}::test_a_writer_with_another_fence_writes_nothing",
    ),
    Mutant(
        "a generation number is given twice",
        "proxyctl/adapters/sqlite.py",
        "UPDATE generations SET last = last + 1",
        "UPDATE generations SET last = last",
        f"{STORE}::test_a_generation_number_is_given_once_and_a_burnt_one_never",
    ),
    Mutant(
        "a reload is believed because nginx was told to",
        "proxyctl/adapters/nginx/generations/running.py",
        "        return new and all(worker.leaving for worker in before.workers)\n",
        "        return True\n",
        "tests/unit/nginx/test_publish.py::test_a_publish_that_died_before_its_reload_is_finished_by_the_next",
    ),
    Mutant(
        "the cover is up before the gate is passed",
        "proxyctl/domain/deciding.py",
        "(placed.gated_as_it_runs or (placed.role is Role.LIVE and bool(placed.gated)))",
        "True",
        f"{CRASHES}::test_a_kill_at_any_boundary_breaks_no_promise",
    ),
    Mutant(
        "a release is stopped while requests are on their way to it",
        "proxyctl/engine/replicas.py",
        "            if left <= 0:\n",
        "            if left <= math.inf:\n",
        "tests/unit/test_replicas.py::test_a_release_is_stopped_only_once_nobody_talks_to_it",
    ),
    Mutant(
        "a rollback goes to a release that restarted since its gate",
        "proxyctl/domain/deciding.py",
        "    if candidate.gated_as_it_runs:\n",
        "    if candidate.gated:\n",
        "tests/unit/test_gate.py::test_a_warm_release_that_restarted_meets_the_whole_gate_again",
    ),
    Mutant(
        "a lock is taken without asking the kernel",
        "proxyctl/adapters/locks.py",
        "        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, WHOLE_FILE)\n",
        "        pass\n",
        "tests/contract/test_locks_contract.py::test_a_service_has_one_driver_and_the_refusal_names_it",
    ),
    Mutant(
        "a container is made from a tag, which moves",
        "proxyctl/adapters/docker/runtime.py",
        "                release.digest,\n                name=name,\n",
        "                release.image,\n                name=name,\n",
        "tests/contract/test_docker.py::test_an_image_removed_since_it_was_resolved_is_named",
        quick=False,
    ),
    Mutant(
        "a path is valid when it begins like one",
        "proxyctl/config/web_grammar.py",
        '    if not grammar.fullmatch(text):\n        raise ValueError(f"give a path',
        '    if not grammar.match(text):\n        raise ValueError(f"give a path',
        "tests/unit/test_config_bad_inputs.py",
    ),
)


def test_there_are_twelve_of_them_and_each_is_of_another_promise() -> None:
    assert len({mutant.promise for mutant in MUTANTS}) == len(MUTANTS) == 12


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in TAKEN_ALONG:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path)
    return tmp_path


def outcome_of(copy: Path, test: str, seed: int) -> subprocess.CompletedProcess[str]:
    """The seed is the same before and after: so is what the test looks at."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "PROXYCTL_SEED": str(seed)}
    environment.pop("PROXYCTL_PROVE", None)
    command = (sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", test)
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)


@contextmanager
def broken(copy: Path, mutant: Mutant) -> Iterator[None]:
    path = copy / mutant.file
    text = path.read_text()
    assert text.count(mutant.text) == 1, f"{mutant.file} does not say this once any more: {mutant.text!r}"
    path.write_text(text.replace(mutant.text, mutant.broken))
    yield
    path.write_text(text)


def test_every_mutant_fits_the_code(copy: Path) -> None:
    for mutant in MUTANTS:
        with broken(copy, mutant):
            compile((copy / mutant.file).read_text(), mutant.file, "exec")


def test_every_promise_that_is_forgotten_is_caught(copy: Path, depth: Depth, figure: Tell) -> None:
    for mutant in MUTANTS if depth.full else depth.of([quick for quick in MUTANTS if quick.quick], TRIED_IN_SHORT):
        sound = outcome_of(copy, mutant.caught_by, depth.seed)
        assert sound.returncode == 0, f"{mutant.caught_by} fails before anything is broken: {sound.stdout}"
        with broken(copy, mutant):
            ended = outcome_of(copy, mutant.caught_by, depth.seed)
        assert ended.returncode == 1, f"nobody noticed that {mutant.promise}: {ended.stdout}{ended.stderr}"
        assert " failed" in ended.stdout
        figure(f"mutant: {mutant.promise}: caught by {mutant.caught_by}")
