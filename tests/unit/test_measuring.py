"""Every source is asked in its own time, and after a crash neither again nor too often."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxyctl.adapters.memory import ManualClock, MemoryWorld
from proxyctl.domain.model import Colour, ServiceName
from proxyctl.domain.source import Condition, JsonNumber, Measured, Measurement, Sign, Source
from proxyctl.engine.measuring import Measuring
from proxyctl.ports import Subject

SUBJECT = Subject(
    project="shop", service=ServiceName("web"), release="web-2", colour=Colour.GREEN, share=1250, replica="shop-web-2-1"
)


class Scripted:
    """Notes when it was asked for what; everything passes."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.asked = list[tuple[str, float]]()

    async def measure(self, source: Source, subject: Subject) -> Measurement:
        assert subject == SUBJECT
        self.asked.append((source.name, self._clock.now()))
        return Measurement(value=0.0)


def a_source(**given: Any) -> Source:
    question = JsonNumber(url="http://127.0.0.1/stats", path=("depth",))
    fails = Condition(sign=Sign.OVER, number=1)
    return Source(name="depth", question=question, fails=fails, interval=10.0).replace(**given)


async def asked(source: Source, known: tuple[Measured, ...] = (), elapsed: float = 0.0) -> list[float]:
    """When; the source has a count, so it comes to an end."""
    clock = ManualClock(MemoryWorld())
    measurer, began = Scripted(clock), clock.now()
    measuring = Measuring(sources=(source,), known=known, measurer=measurer, subject=SUBJECT, clock=clock)
    async with measuring.going_on(elapsed):
        await asyncio.sleep(0.02)
    assert source.count == measuring.measured[0].count
    return [at - began for _, at in measurer.asked]


ONE = Measured(source="depth", count=1, passed=1, last=0.0)


@pytest.mark.parametrize(
    ("source", "known", "elapsed", "expected"),
    [
        (a_source(count=3), (), 0.0, [0, 10, 20]),
        (a_source(count=3, delay=30.0), (), 0.0, [30, 40, 50]),
        (a_source(count=2, delay=30.0), (), 25.0, [5, 15]),
        (a_source(count=3), (ONE,), 25.0, [10, 20]),
        (a_source(count=3), (ONE.replace(count=3),), 25.0, []),
        (a_source(count=3), (ONE.replace(source="another"),), 25.0, [0, 10, 20]),
    ],
    ids=["at once", "delayed", "delayed, half of it passed", "one before a crash", "all before a crash", "another's"],
)
async def test_a_source_is_asked_when_it_is_due_and_as_often_as_wanted(
    source: Source, known: tuple[Measured, ...], elapsed: float, expected: list[float]
) -> None:
    assert await asked(source, known, elapsed) == pytest.approx(expected, abs=0.1)


async def test_a_bug_of_a_measurer_is_seen_by_whoever_waits() -> None:
    class Wrong:
        async def measure(self, source: Source, subject: Subject) -> Measurement:
            raise RuntimeError("a bug")

    measuring = Measuring(
        sources=(a_source(),), known=(), measurer=Wrong(), subject=SUBJECT, clock=ManualClock(MemoryWorld())
    )
    async with measuring.going_on(0.0):
        await asyncio.sleep(0.01)
        with pytest.raises(RuntimeError, match="a bug"):
            _ = measuring.heard


def test_a_command_is_told_about_whom_it_is() -> None:
    assert dict(SUBJECT.variables) == {
        "PROXYCTL_PROJECT": "shop",
        "PROXYCTL_SERVICE": "web",
        "PROXYCTL_RELEASE": "web-2",
        "PROXYCTL_COLOUR": "green",
        "PROXYCTL_WEIGHT": "12.5",
    }
