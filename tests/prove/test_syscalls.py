"""Kill the story at every system call that changes the disk, and let each of them fail: what was said to be done stays
done, and what was not is undone or finished by the next command."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.prove.conftest import Depth, Tell
from tests.prove.ground import broken_ground
from tests.prove.tracing import Call, Story, Told

pytestmark = pytest.mark.timeout(1200)

KILLED, FAILED = 40, 10  # points of the short form
FAILED_IN_FULL = 250


@pytest.fixture
def folder(tmp_path: Path, strace: str) -> Path:
    assert strace
    return tmp_path / "ground"


async def swept(folder: Path, calls: list[Call], run: Callable[[Story, Call], Told]) -> list[str]:
    """What is broken after the story was disturbed at each of these calls."""
    found = []
    for call in calls:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        told = run(Story(folder, folder.parent / "strace.log"), call)
        found += [f"at {call}: {words}" for words in await verdict(folder, told)]
    return found


async def verdict(folder: Path, told: Told) -> list[str]:
    if "Traceback" in told.errors:
        return [f"12: {told.errors}"]
    return await broken_ground(folder, told.done)


def calls_of(folder: Path) -> list[Call]:
    folder.mkdir()
    return Story(folder, folder.parent / "strace.log").calls()


async def test_a_kill_at_any_system_call_loses_nothing_that_was_done(folder: Path, depth: Depth, figure: Tell) -> None:
    calls = calls_of(folder)
    assert len(calls) > 500
    points = depth.of(calls, KILLED)
    found = await swept(folder, points, Story.killed_at)
    figure(f"killed at {len(points)} of {len(calls)} system calls: {len(found)} promises broken")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("ever_after", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
async def test_a_system_call_that_fails_is_told_in_words(
    folder: Path, depth: Depth, figure: Tell, error: str, ever_after: bool
) -> None:
    calls = calls_of(folder)
    points = depth.of(calls, FAILED, FAILED_IN_FULL)
    found = await swept(folder, points, lambda story, call: story.failing_at(call, error, ever_after))
    often = "and all after it" if ever_after else "alone"
    figure(f"{error} from {len(points)} of {len(calls)} system calls, {often}: {len(found)} promises broken")
    assert not found, "\n".join(found)
