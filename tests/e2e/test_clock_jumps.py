"""The machine's clock is set hours ahead and back while a release comes: for every command and its driver, by
libfaketime (nginx forgets the environment by which that works). Waits go by the time that passes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.shop import TWO, Shop, ended, open_shop

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("clock")]

HOURS = 3600


class Clock:
    """Of every process that is started with its environment. What is monotonic stays, and so do times of files."""

    def __init__(self, folder: Path) -> None:
        self._told = folder / "clock"
        libraries = [str(path) for path in Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")]
        if not libraries:
            pytest.fail("these tests need Debian's faketime", pytrace=False)
        self.environment = {
            "LD_PRELOAD": libraries[0],
            "FAKETIME_TIMESTAMP_FILE": str(self._told),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",
            "NO_FAKE_STAT": "1",
        }
        self.set(0)

    def set(self, ahead: int) -> None:
        """So many seconds ahead of the machine's."""
        new = self._told.with_suffix(".new")
        new.write_text(f"{ahead:+d}\n")
        new.rename(self._told)


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with open_shop(bake="2s") as made:
        yield made


@pytest.fixture
def clock(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """From here on it is every process's."""
    made = Clock(shop.scene.folder)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


async def at_share(shop: Shop, percent: float) -> None:
    async with asyncio.timeout(20):
        while min((await shop.web())["split"].values()) != percent:
            await asyncio.sleep(0.05)


async def hours_told(shop: Shop) -> set[int]:
    """Ahead of the machine's clock, of what the journal says of the last rollout."""
    events = [json.loads(line) for line in (await shop.type("events", "web", "--json")).out.splitlines()]
    return {round((event["at"] - time.time()) / HOURS) for event in events if event["rollout"] == "web-r2"}


async def test_steps_and_bakes_take_their_time_and_a_recovery_goes_on_with_what_is_left(
    shop: Shop, clock: Clock
) -> None:
    steps = "{canary: {steps: [{weight: 25, for: 6s}, {weight: 50, for: 2s}], analysis: off}}"
    shop.write("drain: 5s", f"drain: 500ms\n    strategy: {steps}")
    assert (await shop.type("deploy", "web")).code == 0
    deploying = await shop.start("deploy", "web", "--image", TWO)
    await at_share(shop, 25.0)
    began = time.monotonic()
    clock.set(5 * HOURS)
    await asyncio.sleep(1.5)
    assert (await shop.web())["split"]["green"] == 25.0, "five hours are no six seconds"
    os.kill(shop.driver(), signal.SIGKILL)
    clock.set(-5 * HOURS)
    await ended(deploying)
    said = await shop.type("recover")
    assert said.code == 0, said
    await at_share(shop, 50.0)
    assert 4.0 < time.monotonic() - began < 11.0, "it had four seconds left, and needs some to be killed in"
    clock.set(0)
    web = await shop.at_rest()
    assert [(r["role"], r["id"]) for r in web["releases"]] == [("standby", "web-1"), ("live", "web-2")]
    assert await hours_told(shop) >= {0, -5}, "the clock was set"
    back = await shop.type("rollback", "web")
    assert back.code == 0, back
