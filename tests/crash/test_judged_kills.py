"""Kill the driver of a judged canary at every boundary: the verdict is the same, and its evidence is neither lost nor
counted twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from proxyctl.adapters.memory import MemoryAccessLog
from proxyctl.domain import events as ev
from proxyctl.domain.criteria import Criteria
from proxyctl.domain.evidence import Count
from proxyctl.domain.model import Colour
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.progress import Progress
from proxyctl.domain.state import Kind, ServiceState
from proxyctl.domain.steps import Weight
from tests.arena import WEB, Arena
from tests.crash.test_memory_crashes import Killed, broken, crash_at, live_again

STEPS = (Weight(share=1000, dwell=None), Weight(share=2500, dwell=30.0), Weight(share=5000, dwell=None))
ALL = Weight(share=10_000)


async def judged(worse_by: float) -> tuple[Arena, MemoryAccessLog]:
    """Release 1 is live for two minutes; what comes next answers so much of its requests badly."""
    arena = Arena()
    log = arena.log
    arena.edge = {"analysis": Criteria(bake=10.0, latency=False)}
    await arena.deploy("app:1", Kind.DEPLOY, (ALL,))
    log.bad_part = {Colour.BLUE: 0.005, Colour.GREEN: 0.005 + worse_by}
    arena.world.time += 120
    log.write(WEB)
    return arena, log


async def canary(arena: Arena) -> ServiceState:
    return await arena.deploy("app:2", Kind.DEPLOY, (*STEPS, ALL))


def ended(arena: Arena) -> Outcome | None:
    """How the canary ended; None where it never began."""
    entries = [e for e in arena.store.entries() if e.rollout == "web-r2"]
    return next((e.event.outcome for e in entries if isinstance(e.event, ev.RolloutEnded)), None)


def counted(arena: Arena) -> tuple[Count, Progress]:
    """Of the candidate, since the rollout's first tick."""
    kept = arena.store.kept(WEB)
    assert kept is not None and kept.evidence is not None
    return kept.evidence.errors.whole.counts.candidate, kept


def written(log: MemoryAccessLog, kept: Progress) -> int:
    """What the log has of the candidate until the last tick that was counted."""
    assert kept.evidence is not None and kept.evidence.last is not None
    return sum(tick.green.requests for tick in log.ticks if tick.at <= kept.evidence.last)


Story = Callable[[Arena], Awaitable[ServiceState]]


@pytest.mark.parametrize(
    ("worse_by", "outcome", "verdicts"), [(0.0, Outcome.PROMOTED, 3), (0.2, Outcome.ROLLED_BACK, 0)]
)
async def test_a_killed_and_resumed_canary_comes_to_the_same_verdict_by_the_same_evidence(
    worse_by: float, outcome: Outcome, verdicts: int
) -> None:
    arena, log = await judged(worse_by)
    await canary(arena)
    assert ended(arena) is outcome
    assert counted(arena)[0].requests == written(log, counted(arena)[1]) > 0
    boundary = survived = 0
    while survived == 0:
        boundary += 1
        arena, log = await judged(worse_by)
        crash_at(arena, boundary)
        try:
            await canary(arena)
            survived = boundary
        except Killed:
            live_again(arena)
            await arena.resume()
        live_again(arena)
        assert not broken(arena), f"killed at boundary {boundary}"
        if ended(arena) in (None, Outcome.FAILED):
            kept = arena.store.kept(WEB)
            assert kept is None or kept.rollout != "web-r2", "it had no traffic yet"
            continue
        assert ended(arena) is outcome, f"killed at boundary {boundary}"
        said = [e.event.reason for e in arena.store.entries() if isinstance(e.event, ev.StepPassed)]
        assert sum(reason.startswith("passed at") for reason in said) == verdicts, f"killed at boundary {boundary}"
        count, progress = counted(arena)
        assert count.requests == written(log, progress), f"killed at boundary {boundary}"
    assert survived > 20


async def test_a_rebooted_machine_waits_only_for_what_was_left() -> None:
    arena, _ = await judged(0.0)
    boundaries = 0

    def killed_in_the_dwell(*_: object) -> None:
        nonlocal boundaries
        rollout = arena.state.rollout
        if rollout is not None and rollout.step == STEPS[1] and rollout.since is not None:
            boundaries += 1
            if boundaries == 20:
                raise Killed

    sleep = arena.clock.sleep

    async def watched(seconds: float) -> None:
        killed_in_the_dwell()
        await sleep(seconds)

    arena.clock.sleep = watched  # type: ignore[method-assign]
    with pytest.raises(Killed):
        await canary(arena)
    _, kept = counted(arena)
    assert 0 < kept.spent < 30.0
    arena.clock.boot = "the next"
    arena.world.time += 3600
    await arena.resume()
    (lost,) = [e.event for e in arena.store.entries() if isinstance(e.event, ev.ClockLost)]
    assert lost.spent == kept.spent
    assert ended(arena) is Outcome.PROMOTED
