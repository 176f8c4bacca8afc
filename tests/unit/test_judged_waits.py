"""How waits end that the clock ends: a bake with a holdback, a log that cannot be read. By the real judge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from proxyctl.domain import analysis, orders, plan
from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain.analysis import Until
from proxyctl.domain.criteria import Criteria, OnInconclusive
from proxyctl.domain.deciding import decide
from proxyctl.domain.evidence import Evidence
from proxyctl.domain.forecast import Traffic, catches, forecast_of
from proxyctl.domain.model import Colour, Route
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.plan import Plan
from proxyctl.domain.split import WHOLE
from proxyctl.domain.state import Kind, Phase, ServiceState
from proxyctl.domain.steps import Approval, Bake, Pause, Step, Weight
from proxyctl.domain.tally import Position
from proxyctl.domain.ticks import Judged, Watched
from proxyctl.domain.verdict import Verdict
from proxyctl.engine import judging
from proxyctl.engine.bus import Bus
from proxyctl.errors import StateUnusable
from proxyctl.ports import Reading
from tests.arena import SIGNED, Arena
from tests.crash.test_judged_kills import ALL, ended, judged


async def refused(*_: object) -> Reading:
    raise StateUnusable("access.log: permission denied")


async def test_a_log_that_cannot_be_read_lets_no_clock_end_a_wait() -> None:
    arena, log = await judged(0.0)
    arena.edge = {"analysis": Criteria(latency=False, on_inconclusive=OnInconclusive.ROLLBACK)}
    log.read = refused  # type: ignore[method-assign, assignment]
    began = arena.world.time
    await arena.deploy("app:2", Kind.DEPLOY, (Weight(share=1000, dwell=30.0), ALL))
    assert ended(arena) is Outcome.ROLLED_BACK
    assert arena.world.time - began >= 30.0 + 600.0, "its own time, then the deadline"
    (failed,) = [e.event for e in arena.store.entries() if isinstance(e.event, ev.CandidateFailed)]
    assert "inconclusive after 11 min at 10 %: access.log: permission denied" in failed.reason


async def baked_unread(until: float) -> tuple[Arena, float]:
    """Until then the log has lines that nobody can read: the candidate's, say, and bad; the rest is all praise."""
    arena, log = await judged(0.0)
    arena.edge = {"analysis": Criteria(latency=False, on_inconclusive=OnInconclusive.ROLLBACK), "bake": 20.0}
    read, began = log.read, arena.world.time

    async def in_other_words(since: Position, route: Route) -> Reading:
        reading = await read(since, route)
        ticks = (tick if tick.at > began + until else tick.replace(unreadable=1055) for tick in reading.ticks)
        return reading.replace(ticks=tuple(ticks))

    log.read = in_other_words  # type: ignore[method-assign]
    await arena.deploy("app:2", Kind.DEPLOY, arena.plan_of(arena.service("app:2")))
    return arena, arena.world.time - began


async def test_lines_that_cannot_be_read_let_no_clock_end_a_bake() -> None:
    arena, _ = await baked_unread(until=10_000.0)
    assert ended(arena) is Outcome.ROLLED_BACK
    (failed,) = [e.event for e in arena.store.entries() if isinstance(e.event, ev.CandidateFailed)]
    assert "inconclusive after " in failed.reason
    assert "1,055 lines of the log's last seconds cannot be read; proxyctl proxy reload has" in failed.reason


async def test_a_bake_ends_once_the_log_can_be_read_again() -> None:
    arena, lasted = await baked_unread(until=60.0)
    assert ended(arena) is Outcome.PROMOTED
    assert 60.0 < lasted < 90.0


async def baked(worse_by: float) -> tuple[list[int], Arena]:
    """The candidate's shares in a blue-green with a holdback of 5 %."""
    arena, _ = await judged(worse_by)
    arena.edge = {"analysis": Criteria(latency=False, holdback=500), "bake": 60.0}
    await arena.deploy("app:2", Kind.DEPLOY, arena.plan_of(arena.service("app:2")))
    moves = [
        e.event.split for e in arena.store.entries() if e.rollout == "web-r2" and isinstance(e.event, ev.SplitMoved)
    ]
    return [split.share(Colour.GREEN) for split in moves if split is not None], arena


async def test_a_holdback_stays_with_the_live_release_until_the_bake_is_over() -> None:
    shares, arena = await baked(0.0)
    assert [share for share in dict.fromkeys(shares) if share] == [9500, 10_000]
    assert ended(arena) is Outcome.PROMOTED


async def test_what_the_bake_shows_is_held_against_the_holdback() -> None:
    shares, arena = await baked(0.05)
    assert (max(shares), shares[-1], ended(arena)) == (9500, 0, Outcome.ROLLED_BACK)
    (failed,) = [e.event for e in arena.store.entries() if isinstance(e.event, ev.CandidateFailed)]
    assert "rolled back at 95 %" in failed.reason and "of 200 needed" in failed.reason, "each test has half the chance"


async def test_a_log_that_is_still_being_read_lets_no_clock_end_a_wait() -> None:
    """A driver that was away for long has more to read than one reading gives; what it missed may be what matters."""
    arena, log = await judged(0.2)
    arena.edge = {"analysis": Criteria(latency=False), "bake": 20.0}
    read, readings = log.read, 0

    async def in_parts(since: Position, route: Route) -> Reading:
        """At first nothing, and the time of the bake is over."""
        nonlocal readings
        readings += 1
        if readings == 2:  # the first one says what was usual
            arena.world.time += 60.0
            return Reading(ticks=(), position=since, more=True, gaps=0)
        return await read(since, route)

    log.read = in_parts  # type: ignore[method-assign]
    await arena.deploy("app:2", Kind.DEPLOY, arena.plan_of(arena.service("app:2")))
    assert ended(arena) is Outcome.ROLLED_BACK


@pytest.mark.parametrize("ahead", [-18_000.0, 18_000.0])
async def test_a_clock_that_is_set_hides_no_bad_candidate_and_ends_no_wait(ahead: float) -> None:
    arena, log = await judged(0.0)
    arena.edge = {"analysis": Criteria(latency=False)}
    read, readings = log.read, 0

    async def amid(since: Position, route: Route) -> Reading:
        """Some ticks into the step somebody sets the clock, and the candidate turns bad."""
        nonlocal readings
        readings += 1
        if readings == 20:
            arena.world.ahead, log.bad_part[Colour.GREEN] = ahead, 0.2
        return await read(since, route)

    log.read = amid  # type: ignore[method-assign]
    began = arena.world.time
    await arena.deploy("app:2", Kind.DEPLOY, (Weight(share=1000, dwell=300.0), ALL))
    assert ended(arena) is Outcome.ROLLED_BACK
    assert 20.0 < arena.world.time - began < 120.0


async def test_a_way_back_waits_for_no_log_that_cannot_be_read() -> None:
    arena, log = await judged(0.0)
    arena.edge = {"analysis": Criteria(latency=False, on_inconclusive=OnInconclusive.ROLLBACK)}
    log.read = refused  # type: ignore[method-assign, assignment]
    began = arena.world.time
    await arena.deploy("app:2", Kind.ROLLBACK, plan.gradual())
    assert ended(arena) is Outcome.PROMOTED
    assert arena.world.time - began < 120.0


async def test_a_candidate_that_nginx_knows_nothing_of_is_judged_by_no_log() -> None:
    """Its first release was to be routed and failed; what becomes of it now is a worker."""
    arena = Arena()
    arena.world.sick.add("app:1")
    await arena.deploy("app:1")
    assert (arena.state.route, arena.state.settings is None) == (None, False)
    arena.edge = {"analysis": Criteria(latency=False), "port": None}
    await arena.deploy("app:2", Kind.DEPLOY, plan.blue_green(20.0))
    assert ended(arena) is Outcome.PROMOTED


# --- what was said beforehand ------------------------------------------------------------------------------------

USUAL = 0.005
LADDER: Plan = tuple(Weight(share=share, dwell=None) for share in (500, 2500, 5000))
PASSED_OVER: Plan = (Weight(share=500, dwell=None), Weight(share=1000), Weight(share=5000, dwell=None), ALL)
TIMED: Plan = (Weight(share=500, dwell=60.0), Weight(share=2500, dwell=None), ALL)
HELD_BACK: Plan = (*LADDER[:2], Weight(share=9500), Bake(window=60.0), ALL)


@pytest.mark.parametrize(
    "steps", [(*LADDER, ALL), PASSED_OVER, TIMED, HELD_BACK], ids=["ladder", "passed over", "timed", "held back"]
)
async def test_the_judge_asks_for_what_the_plan_has_said(monkeypatch: pytest.MonkeyPatch, steps: Plan) -> None:
    arena, _ = await judged(0.0)
    criteria = Criteria(latency=False)
    arena.edge = {"analysis": criteria}
    asked = dict[int, tuple[float | None, float | None]]()

    def noted(evidence: Evidence, settings: Criteria, step: analysis.Step, now: float) -> Verdict:
        """What is to be proven, and what is caught with so much evidence of so many steps."""
        verdict = analysis.judge(evidence, settings, step, now)
        window = settings.deadline if step.until is Until.PROOF else step.window
        requests, errors = int(200 * step.share / WHOLE * window), verdict.findings[0]
        caught = catches(settings, 1 / errors.needed, requests, step.share / WHOLE, evidence.steps, USUAL)
        asked[step.share] = (errors.margin, caught)
        return verdict

    monkeypatch.setattr(judging, "judge", noted)
    await arena.deploy("app:2", Kind.DEPLOY, steps)
    assert ended(arena) is Outcome.PROMOTED
    forecast = forecast_of(steps, criteria, Traffic(per_second=200.0, usual=USUAL, seconds=120.0))
    assert {step.share: (step.margin, step.catches) for step in forecast} == asked


# --- what people see meanwhile ------------------------------------------------------------------------------------


async def seen_while_it_waits(arena: Arena, looks: int) -> tuple[Judged, Watched]:
    """What a terminal is told last, after so many looks of the judge."""
    bus, wait = Bus(), decide(arena.state)
    assert isinstance(wait, do.Watch)
    judged, watched = list[Judged](), list[Watched]()
    with bus.listen() as told:
        watching = asyncio.ensure_future(arena.watch(bus).candidate(arena.state, wait))
        while len(judged) < looks:
            tick = await told.get()
            judged += [tick] if isinstance(tick, Judged) else []
            watched += [tick] if isinstance(tick, Watched) else []
        watching.cancel()
    return judged[-1], watched[-1]


def paused(state: ServiceState) -> ev.Event:
    return orders.pause(state, SIGNED)


@pytest.mark.parametrize(
    ("asks", "told", "phase"),
    [(Approval(), None, Phase.HELD), (Pause(), None, Phase.PAUSED), (Approval(), paused, Phase.PAUSED)],
    ids=["for a yes", "in the plan's pause", "in somebody's own"],
)
async def test_whoever_is_to_decide_sees_how_both_answer_and_for_how_long(
    asks: Step, told: Callable[[ServiceState], ev.Event] | None, phase: Phase
) -> None:
    arena, _ = await judged(0.0)
    arena.edge = {"analysis": Criteria(latency=False)}
    await arena.deploy("app:2", Kind.DEPLOY, (Weight(share=1000, dwell=30.0), asks, ALL))
    if told is not None:
        await arena.order(told)
    assert arena.state.phase is phase
    judged_last, watched_last = await seen_while_it_waits(arena, 120)
    assert judged_last.lately is not None and judged_last.lately.share(Colour.GREEN) == pytest.approx(0.1)
    assert watched_last.elapsed > 60.0 and watched_last.window == 0.0
