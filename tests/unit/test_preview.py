"""Whom rules lead to, beside the split: a gated candidate while its rollout runs, and nobody else."""

from __future__ import annotations

import pytest

from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain import obeyed, orders, plan
from proxyctl.domain.deciding import decide
from proxyctl.domain.model import Colour, Match, Mirror
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.rollout import advance
from proxyctl.domain.state import Kind, Phase, ServiceState
from proxyctl.domain.steps import Approval, Hook, Weight
from proxyctl.engine.history import sentence
from tests.arena import SIGNED, WEB, Arena
from tests.journal_checks import broken_journal

BLUE, GREEN = Colour.BLUE, Colour.GREEN
BY_HEADER: dict[str, object] = {"matches": (Match(headers=(("X-Canary", "yes"),)),)}
BY_MIRROR: dict[str, object] = {"mirror": Mirror(share=1000)}


async def a_live_release(**edge: object) -> Arena:
    """Release 1, in blue."""
    arena = Arena()
    arena.edge = edge
    await arena.deploy("app:1")
    return arena


def moves(arena: Arena) -> list[tuple[float, bool, Colour | None]]:
    """Green's share, the cover and the preview, move by move."""
    events = (entry.event for entry in arena.store.entries())
    return [(e.split.percent(GREEN), e.cover, e.preview) for e in events if isinstance(e, ev.SplitMoved) and e.split]


@pytest.mark.parametrize("edge", [BY_HEADER, BY_MIRROR])
async def test_rules_lead_to_a_candidate_without_traffic_once_it_passed_its_gate(edge: dict[str, object]) -> None:
    arena = await a_live_release(**edge)
    state = await arena.deploy("app:2", Kind.STAGE, plan.hold(plan.at_once()))
    assert moves(arena)[-1] == (0.0, True, GREEN)
    entries = [entry.event for entry in arena.store.entries()]
    gate = max(n for n, event in enumerate(entries) if isinstance(event, ev.GatePassed))
    assert gate < next(n for n, event in enumerate(entries) if isinstance(event, ev.SplitMoved) and event.preview)
    assert state.phase is Phase.PAUSED
    assert not arena.broken_promises()


async def test_a_service_without_rules_has_no_move_for_them() -> None:
    arena = await a_live_release()
    before = moves(arena)
    await arena.deploy("app:2", Kind.STAGE, plan.hold(plan.at_once()))
    assert moves(arena) == before


async def test_a_hook_before_the_first_weight_finds_the_preview_up() -> None:
    arena = await a_live_release(**BY_HEADER)
    up: list[Colour | None] = []

    def look(command: do.Command) -> None:
        if isinstance(command, do.RunHook):
            up.append(arena.world.flags[WEB].preview)

    arena.before_effect = look
    await arena.deploy("app:2", Kind.DEPLOY, (Hook(name="smoke"), Weight(share=500)))
    assert up == [GREEN]


async def test_the_preview_goes_with_the_move_that_gives_the_candidate_all_traffic() -> None:
    arena = await a_live_release(**BY_HEADER)
    state = await arena.deploy("app:2", Kind.DEPLOY, (Weight(share=500), Weight(share=5000), *plan.blue_green(1.0)))
    *_, covered, five, half, everything = moves(arena)
    assert (covered, five, half) == ((0.0, True, GREEN), (5.0, True, GREEN), (50.0, True, GREEN))
    assert everything == (100.0, True, None)
    assert state.phase is Phase.IDLE


async def test_an_instant_rollback_stays_one_move() -> None:
    arena = await a_live_release(**BY_HEADER)
    await arena.deploy("app:2")
    before = moves(arena)
    await arena.rollback()
    assert moves(arena) == [*before, (0.0, True, None)]


@pytest.mark.parametrize("share", [0, 500])
async def test_an_abort_takes_the_preview_back_with_the_traffic_and_before_the_candidate_leaves(share: int) -> None:
    arena = await a_live_release(**BY_HEADER)
    await arena.deploy("app:2", Kind.STAGE, plan.at(share, plan.at_once()))
    aborting = advance(arena.state, orders.abort(arena.state, Outcome.ABORTED, SIGNED))
    assert not obeyed.carried_out(aborting, orders.abort(arena.state, Outcome.ABORTED, SIGNED))
    move = decide(aborting)
    assert isinstance(move, do.Move)
    assert (move.cover, move.preview) == (False, None)
    state = await arena.order(lambda s: orders.abort(s, Outcome.ABORTED, SIGNED))
    assert moves(arena)[-1] == (0.0, False, None)
    assert state.at(GREEN) is None
    assert broken_journal(arena.store.entries()) == []


async def test_a_candidate_that_fails_is_led_to_no_more() -> None:
    arena = await a_live_release(**BY_HEADER)
    await arena.deploy("app:2", Kind.STAGE, plan.hold(plan.at_once()))
    failed = advance(arena.state, ev.CandidateFailed(reason="it died"))
    move = decide(failed)
    assert isinstance(move, do.Move) and move.preview is None


async def test_a_move_of_unknown_outcome_counts_as_one_that_raised_the_preview() -> None:
    arena = await a_live_release(**BY_HEADER)
    await arena.deploy("app:2", Kind.STAGE, plan.hold(plan.at_once()))
    up = do.Move(split=arena.state.split, cover=True, preview=GREEN)
    shifting = arena.state.replace(phase=Phase.SHIFTING, preview=None, cover=False, intent=up)
    died = advance(shifting, ev.Interrupted(reason="killed"))
    assert (died.preview, died.unsure) == (GREEN, True)
    move = decide(died)
    assert isinstance(move, do.Move) and move.preview is None


async def test_before_anything_serves_rules_lead_nowhere() -> None:
    arena = Arena()
    arena.edge = BY_HEADER
    state = await arena.deploy("app:1", Kind.STAGE, (Approval(),))
    assert (state.phase, state.split, state.preview) == (Phase.HELD, None, None)


async def test_a_state_of_an_older_version_previews_nobody() -> None:
    assert ServiceState(service=WEB).preview is None
    assert ev.SplitMoved(split=None, cover=False).preview is None


def test_a_move_says_whom_rules_lead_to() -> None:
    said = sentence(ev.SplitMoved(split=None, cover=False, preview=GREEN))
    assert said == "live: nobody serves, rules lead to green"
