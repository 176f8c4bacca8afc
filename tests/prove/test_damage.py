"""Damage the state folder of a finished story: whoever looks or acts gets an answer or an error with a name."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from traceback import format_exc
from typing import NamedTuple

import pytest

from proxyctl.errors import ProxyctlError
from tests.arena import WEB
from tests.prove.conftest import Depth, Tell
from tests.prove.disk import Disk
from tests.prove.ground import Ground
from tests.prove.tracing import REPOSITORY

pytestmark = pytest.mark.timeout(600)

PLACES, PLACES_IN_FULL = 24, 256
LOOKS = ("status", "status --json", "history", "events", "proxy status", "check")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the story was told to its end."""
    folder = tmp_path_factory.mktemp("finished")
    finish(folder)
    return folder


def finish(folder: Path) -> None:
    command = (sys.executable, "-B", "-m", "tests.prove.ground", str(folder))
    subprocess.run(command, check=True, capture_output=True, cwd=REPOSITORY)


class Place(NamedTuple):
    file: str  # below the folder
    offset: int

    def flip(self, folder: Path, dice: random.Random) -> None:
        path = self._writable(folder)
        content = bytearray(path.read_bytes())
        content[self.offset] ^= 1 << dice.randrange(8)
        path.write_bytes(content)

    def cut(self, folder: Path, _dice: random.Random) -> None:
        path = self._writable(folder)
        path.write_bytes(path.read_bytes()[: self.offset])

    def _writable(self, folder: Path) -> Path:
        path = folder / self.file
        path.chmod(0o600)
        return path


Damage = Callable[[Place, Path, random.Random], None]


def places_in(folder: Path, dice: random.Random, count: int) -> Iterator[Place]:
    """Half of them in the store, the others anywhere."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and path.stat().st_size]
    state = [path for path in files if path.is_relative_to(folder / "state")]
    store = folder / "state/private/proxyctl.db"
    for number in range(count):
        path = store if number % 2 else dice.choice(state)
        yield Place(str(path.relative_to(folder)), dice.randrange(path.stat().st_size))


ACTS: dict[str, Callable[[Ground], Awaitable[object]]] = {
    "recover": lambda ground: ground.resume(),
    "rollback": lambda ground: ground.rollback(),
    "deploy": lambda ground: ground.deploy("app:9"),
}


async def acted(folder: Path) -> list[str]:
    """What is neither an answer nor an error with a name."""
    found = []
    for name, act in ACTS.items():
        try:
            with closing(Ground(folder)) as ground:
                ground.splits.read(WEB)
                ground.store.entries()
                await act(ground)
        except ProxyctlError:
            continue
        except Exception:
            found.append(f"{name}: {format_exc()}")
    return found


def looked(folder: Path, *commands: str) -> Iterator[str]:
    for words in commands:
        options = ("-f", str(folder / "proxyctl.yml"), "--state", str(folder / "state"))
        command = (sys.executable, "-B", "-m", "proxyctl", *words.split(), *options)
        environment = {"DOCKER_HOST": "unix:///nowhere/docker.sock", "PATH": "/usr/sbin:/usr/bin:/bin"}
        ended = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=environment)
        if "Traceback" in ended.stderr or ended.returncode in (1, -11):
            yield f"{words}: {ended.stderr}"


@pytest.mark.parametrize("damage", [Place.flip, Place.cut])
async def test_whatever_is_damaged_is_told_in_words(
    damage: Damage, finished: Path, tmp_path: Path, depth: Depth, figure: Tell
) -> None:
    dice, found, folder = depth.dice, [], tmp_path / "damaged"
    count = depth.times(PLACES, PLACES_IN_FULL)
    for place in places_in(finished, dice, count):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(finished, folder, symlinks=True)
        damage(place, folder, dice)
        wrong = [*looked(folder, dice.choice(LOOKS)), *await acted(folder)]
        found += [f"{damage.__name__} at {place.offset} of {place.file}: {words}" for words in wrong]
    figure(f"{damage.__name__} at {count} places of the state: {len(found)} without words")
    assert not found, "\n".join(found)


# --- by hand ----------------------------------------------------------------------------------------------------


def a_folder(path: Path) -> None:
    gone(path)
    path.mkdir()


def a_file(path: Path) -> None:
    gone(path)
    path.write_text("a file")


def a_dead_link(path: Path) -> None:
    gone(path)
    path.symlink_to("nowhere/at-all")


def a_loop(path: Path) -> None:
    gone(path)
    path.symlink_to(path.name)


def nothing(path: Path) -> None:
    gone(path)


def gone(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for inner in [path, *path.rglob("*")]:
            if inner.is_dir() and not inner.is_symlink():
                inner.chmod(0o755)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


ODD = (a_folder, a_file, a_dead_link, a_loop, nothing)
ODD_PLACES = (
    "public",
    "public/current",
    "public/generations",
    "public/generations/notes",
    "public/splits/web",
    "public/splits/web/current",
    "public/splits/web/blue-10000-cover",
    "private/locks/web.lock",
    "private/locks/web.split.lock",
    "private/project",
    "private/proxyctl.db",
    "private/proxyctl.db-wal",
    "private/proxyctl.db-shm",
)


@pytest.mark.parametrize("place", ODD_PLACES)
async def test_whatever_lies_where_something_else_should_be_is_told_in_words(
    place: str, finished: Path, tmp_path: Path, depth: Depth
) -> None:
    found, folder = [], tmp_path / "damaged"
    for odd in ODD:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(finished, folder, symlinks=True)
        odd(folder / "state" / place)
        wrong = [*looked(folder, *depth.of(LOOKS, 1)), *await acted(folder)]
        found += [f"{odd.__name__} in the place of {place}: {words}" for words in wrong]
    assert not found, "\n".join(found)


async def test_a_disk_that_became_read_only_is_told_in_words(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    with disk.new() as mounted:
        folder = mounted / "ground"
        folder.mkdir()
        finish(folder)
        with disk.read_only():
            with pytest.raises(OSError, match="Read-only file system"):
                folder.joinpath("x").touch()
            assert not [*looked(folder, *LOOKS), *await acted(folder)]
