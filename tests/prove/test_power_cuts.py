"""Cut the power at a system call of the story: what it said to be done is on the disk.

SIGKILL cannot show a missing fsync, for the kernel lives on. A story that forgets to sync is the control: were it to
pass, these tests would prove nothing.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.prove.conftest import Depth, Tell
from tests.prove.disk import Disk
from tests.prove.test_syscalls import verdict
from tests.prove.tracing import Call, Story

pytestmark = pytest.mark.timeout(1200)

CUTS, CUTS_IN_FULL = 16, 300
CUTS_OF_THE_CONTROL = 4


@pytest.fixture
def disk(tmp_path: Path, strace: str) -> Disk:
    assert strace
    return Disk(tmp_path)


def story_on(disk: Disk, log: Path, *words: str) -> Story:
    folder = disk.mounted / "ground"
    folder.mkdir()
    return Story(folder, log, *words)


def calls_on(disk: Disk, log: Path, *words: str) -> list[Call]:
    with disk.new():
        return story_on(disk, log, *words).calls()


async def cut_at(call: Call, disk: Disk, log: Path, *words: str) -> list[str]:
    with disk.new():
        told = story_on(disk, log, *words).killed_at(call)
    with disk.after_the_cut() as mounted:
        folder = mounted / "ground"
        folder.mkdir(exist_ok=True)
        return [f"power cut at {call}: {broken}" for broken in await verdict(folder, told)]


async def test_a_power_cut_at_any_system_call_loses_nothing_that_was_done(
    disk: Disk, depth: Depth, figure: Tell, tmp_path: Path
) -> None:
    log = tmp_path / "strace.log"
    calls = calls_on(disk, log)
    points = depth.of(calls, CUTS, CUTS_IN_FULL)
    found = [words for call in points for words in await cut_at(call, disk, log)]
    figure(f"power cut at {len(points)} of {len(calls)} system calls: {len(found)} promises broken")
    assert not found, "\n".join(found)


async def test_a_story_that_forgets_to_sync_is_caught(disk: Disk, depth: Depth, figure: Tell, tmp_path: Path) -> None:
    log = tmp_path / "strace.log"
    calls = calls_on(disk, log, "--unsynced")
    late = calls[len(calls) // 2 :]  # where orders are done, and can be lost
    points = depth.of(late, CUTS_OF_THE_CONTROL, CUTS_OF_THE_CONTROL)
    found = [words for call in points for words in await cut_at(call, disk, log, "--unsynced")]
    figure(f"the same without a sync, at {len(points)} of them: {len(found)} promises broken, as it must be")
    assert found, "the disk of these tests keeps what nobody synced"
