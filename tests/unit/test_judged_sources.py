"""Sources beside the log through the engine: what they say of a candidate ends its wait, holds it, or takes it back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from proxyctl.domain import events as ev
from proxyctl.domain import orders
from proxyctl.domain.criteria import Criteria, OnInconclusive
from proxyctl.domain.model import Logged, ProxySettings, ServiceName
from proxyctl.domain.plan import Plan
from proxyctl.domain.progress import Progress
from proxyctl.domain.source import Condition, HostCommand, JsonNumber, Measurement, Sign, Source
from proxyctl.domain.state import Kind, Phase, ServiceState
from proxyctl.domain.steps import Analysis, Bake, Pause, Step, Weight
from proxyctl.errors import StateUnusable
from proxyctl.ports import Reading, Subject
from tests.arena import SIGNED, WEB, Arena
from tests.crash.test_memory_crashes import Killed

DEPTH = Source(
    name="depth",
    question=JsonNumber(url="http://127.0.0.1/stats", path=("depth",)),
    fails=Condition(sign=Sign.OVER, number=5),
    interval=10.0,
)
SMOKE = Source(
    name="smoke", question=HostCommand(words=("smoke",), folder="/"), passes=Condition(sign=Sign.EQUAL, number=0)
)
ALL = Weight(share=10_000)
TIMED: Plan = (Weight(share=1000, dwell=30.0), ALL)
PAUSED: Plan = (Weight(share=1000), Pause(window=30.0), ALL)
BAKED: Plan = (ALL, Bake(window=30.0))


async def live(*sources: Source, settings: ProxySettings | None = None, **judged: Any) -> Arena:
    """Release 1 serves; what comes next is judged by these sources too."""
    arena = Arena(settings or ProxySettings())
    await arena.deploy("app:1", Kind.DEPLOY, (ALL,))
    arena.edge = {"analysis": Criteria(latency=False, deadline=120.0, bake=20.0, sources=sources).replace(**judged)}
    return arena


async def deploy(arena: Arena, *steps: Step) -> tuple[ServiceState, float]:
    """How it stands in the end, and how long that took."""
    began = arena.world.time
    return await arena.deploy("app:2", Kind.DEPLOY, steps), arena.world.time - began


def said(arena: Arena) -> str:
    """The last word of the judge."""
    spoken = (ev.StepPassed, ev.Inconclusive, ev.CandidateFailed)
    return [e.event.reason for e in arena.store.entries() if isinstance(e.event, spoken) and e.event.reason][-1]


@pytest.mark.parametrize("plan", [TIMED, PAUSED, BAKED], ids=["timed", "pause", "bake"])
async def test_what_was_never_measured_holds_a_wait_that_the_clock_ends_until_its_deadline(plan: Plan) -> None:
    arena = await live(DEPTH)
    state, took = await deploy(arena, *plan)
    assert state.phase is Phase.HELD
    assert took >= 30.0 + 120.0
    assert "inconclusive" in said(arena) and "depth was not measured" in said(arena) and "a person" in said(arena)


@pytest.mark.parametrize("plan", [TIMED, PAUSED, BAKED], ids=["timed", "pause", "bake"])
@pytest.mark.parametrize(
    ("policy", "release", "phase"),
    [(OnInconclusive.ROLLBACK, "web-1", Phase.IDLE), (OnInconclusive.PROMOTE, None, Phase.HELD)],
)
async def test_at_that_deadline_the_user_s_word_decides_but_nothing_unmeasured_is_promoted(
    plan: Plan, policy: OnInconclusive, release: str | None, phase: Phase
) -> None:
    arena = await live(DEPTH, on_inconclusive=policy)
    state, _ = await deploy(arena, *plan)
    assert state.phase is phase
    assert release is None or (state.live is not None and state.live.release.id == release)


@pytest.mark.parametrize("plan", [TIMED, PAUSED, BAKED], ids=["timed", "pause", "bake"])
async def test_no_data_is_no_measurement(plan: Plan) -> None:
    arena = await live(DEPTH)
    arena.measurer.answers = {"depth": Measurement()}
    state, _ = await deploy(arena, *plan)
    assert state.phase is Phase.HELD and "depth has no data" in said(arena)


@pytest.mark.parametrize("plan", [TIMED, PAUSED, BAKED], ids=["timed", "pause", "bake"])
async def test_a_source_that_passes_lets_the_clock_go_on_at_once(plan: Plan) -> None:
    arena = await live(DEPTH)
    arena.measurer.answers = {"depth": Measurement(value=3.0)}
    state, took = await deploy(arena, *plan)
    assert state.live is not None and state.live.release.id == "web-2"
    assert 30.0 <= took < 60.0
    assert "depth is 3" in said(arena)


async def test_measurements_that_take_longer_than_the_window_are_waited_for() -> None:
    arena = await live(DEPTH.replace(count=6))
    arena.measurer.answers = {"depth": Measurement(value=3.0)}
    state, took = await deploy(arena, *TIMED)
    assert state.live is not None and state.live.release.id == "web-2"
    assert 50.0 <= took < 120.0


async def test_each_step_counts_anew_and_a_crash_neither_forgets_nor_repeats() -> None:
    arena = await live(DEPTH.replace(count=4))
    asked = list[int]()

    async def dies_once(_: Source, subject: Subject) -> Measurement:
        asked.append(subject.share)
        if len(asked) == 3:
            raise Killed
        return Measurement(value=3.0)

    arena.measurer.measure = dies_once  # type: ignore[method-assign, assignment]
    with pytest.raises(Killed):
        await deploy(arena, Weight(share=1000, dwell=30.0), Pause(window=30.0), ALL)
    state = await arena.resume()
    assert state.live is not None and state.live.release.id == "web-2"
    assert asked == [1000] * (4 + 1 + 4), "what was cut off is made again"


@pytest.mark.parametrize("logged", [Logged.ON, Logged.OFF], ids=["beside the log", "alone"])
async def test_a_wait_that_a_person_resumes_counts_anew(logged: Logged) -> None:
    """The queue was too deep and nothing more was to be measured; somebody empties it, and resumes."""
    arena = await live(
        DEPTH.replace(passes=Condition(sign=Sign.UNDER, number=1), count=3), settings=ProxySettings(access_log=logged)
    )
    arena.measurer.answers = {"depth": Measurement(value=3.0)}
    state, _ = await deploy(arena, *TIMED)
    assert state.phase is Phase.HELD and "depth is 3" in said(arena)
    arena.measurer.answers = {"depth": Measurement(value=0.0)}
    state = await arena.order(lambda held: orders.resume(held, SIGNED))
    assert state.live is not None and state.live.release.id == "web-2"
    assert "depth is 0" in said(arena)


async def test_a_driver_that_dies_with_the_word_on_its_lips_holds_all_the_same() -> None:
    """What was measured is given up in the same commit that has the verdict; only then a person is asked."""
    arena = await live(
        DEPTH.replace(passes=Condition(sign=Sign.UNDER, number=1), count=3), on_inconclusive=OnInconclusive.PROMOTE
    )
    arena.measurer.answers = {"depth": Measurement(value=3.0)}
    append = arena.store.append

    def dies(events: Sequence[ev.Event], *rest: Any) -> None:
        if any(isinstance(event, ev.Inconclusive) for event in events):
            raise Killed
        append(events, *rest)

    arena.store.append = dies  # type: ignore[method-assign, assignment]
    with pytest.raises(Killed):
        await deploy(arena, *TIMED)
    arena.store.append = append  # type: ignore[method-assign]
    assert (await arena.resume()).phase is Phase.HELD


async def test_a_rollback_asks_no_source() -> None:
    arena = await live(DEPTH)
    arena.measurer.answers = {"depth": Measurement(value=9.0)}
    state = await arena.deploy("app:0", Kind.ROLLBACK, TIMED)
    assert state.live is not None and state.live.release.id == "web-2"


# --- where the log says nothing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [Analysis(), Pause(window=20.0)], ids=["analysis", "pause"])
async def test_a_candidate_without_traffic_is_judged_by_its_sources(step: Step) -> None:
    arena = await live(SMOKE)
    arena.measurer.answers = {"smoke": Measurement(value=0.0)}
    state, took = await deploy(arena, step, ALL)
    assert state.live is not None and state.live.release.id == "web-2"
    assert 20.0 <= took < 50.0
    assert re.fullmatch(r"passed at 0 %: \d\d s without a word against it; smoke exited with code 0", said(arena))


@pytest.mark.parametrize("step", [Analysis(), Pause(window=20.0)], ids=["analysis", "pause"])
async def test_a_candidate_that_its_sources_take_back_before_it_has_traffic_never_gets_any(step: Step) -> None:
    arena = await live(SMOKE)
    before = arena.world.flags[WEB].split
    moved = len(arena.world.moves)
    arena.measurer.answers = {"smoke": Measurement(value=3.0, output="the cart is empty")}
    state, _ = await deploy(arena, step, ALL)
    assert state.live is not None and state.live.release.id == "web-1"
    moves = [flags for _, flags in arena.world.moves[moved:]]
    assert all(flags is not None and flags.split.same_traffic(before) for flags in moves)
    (failed,) = [e.event for e in arena.store.entries() if isinstance(e.event, ev.CandidateFailed)]
    assert (failed.reason, failed.detail) == ("rolled back at 0 %: smoke exited with code 3", "the cart is empty")


async def test_a_dry_run_alone_judges_nobody() -> None:
    arena = await live(SMOKE.replace(dry_run=True))
    arena.measurer.answers = {"smoke": Measurement(value=0.0)}
    state, _ = await deploy(arena, Analysis(), ALL)
    assert state.phase is Phase.HELD and "nothing judges it" in said(arena)


async def test_sources_judge_where_nginx_writes_no_log() -> None:
    arena = await live(SMOKE, settings=ProxySettings(access_log=Logged.OFF))
    state, took = await deploy(arena, *BAKED)
    assert state.phase is Phase.HELD and took >= 150.0
    assert "min at 100 %: smoke was not measured" in said(arena) and " bad of " not in said(arena)


async def test_a_worker_bakes_until_its_sources_passed() -> None:
    arena = await live(SMOKE)
    arena.edge |= {"port": None}
    state, took = await deploy(arena, Bake(window=30.0))
    assert state.phase is Phase.HELD and took >= 150.0
    arena = await live(SMOKE)
    arena.edge |= {"port": None}
    arena.measurer.answers = {"smoke": Measurement(value=0.0)}
    state, took = await deploy(arena, Bake(window=30.0))
    assert state.live is not None and state.live.release.id == "web-2" and took < 60.0


# --- where the log cannot be trusted ------------------------------------------------------------------------------


async def test_a_log_that_cannot_be_read_and_a_source_that_was_not_measured_are_both_told() -> None:
    arena = await live(DEPTH, SMOKE)
    arena.measurer.answers = {"smoke": Measurement(value=0.0)}

    async def refused(*_: object) -> Reading:
        raise StateUnusable("access.log: permission denied")

    keep, measured = arena.store.keep, list[list[bool]]()

    def noted(service: ServiceName, progress: Progress, fence: int) -> None:
        measured.append([each.count > 0 for each in progress.measured])
        keep(service, progress, fence)

    arena.log.read = refused  # type: ignore[method-assign, assignment]
    arena.store.keep = noted  # type: ignore[method-assign]
    await deploy(arena, *TIMED)
    assert "at 10 %: access.log: permission denied; depth was not measured" in said(arena)
    assert said(arena).endswith("smoke exited with code 0")
    assert [False, True] in measured, "one was measured, and that was kept"


@pytest.mark.parametrize("plan", [TIMED, (*TIMED, Bake(window=30.0))], ids=["timed", "and the bake after it"])
async def test_lines_that_the_log_lost_are_told_with_the_verdict(plan: Plan) -> None:
    arena = await live()
    log = arena.log
    assert log is not None
    read, lost = log.read, [1, 1]

    async def cut(*args: Any) -> Reading:
        reading = await read(*args)
        return reading.replace(gaps=lost.pop()) if reading.ticks and lost else reading

    log.read = cut  # type: ignore[method-assign, assignment]
    await deploy(arena, *plan)
    assert said(arena).endswith("the log has 2 gaps: lines were gone before they were read"), said(arena)
