"""What people read of the past: who began what and why, who ended it, and what became of it."""

from __future__ import annotations

from proxyctl.domain import events as ev
from proxyctl.domain import orders
from proxyctl.domain.orders import Signed
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.state import Kind
from proxyctl.domain.steps import Approval, Pause, Weight
from proxyctl.engine.history import Chapter, chapters, sentence
from tests.arena import Arena

BOB = Signed(actor="bob", reason="wrong branch", wall=2.0)


async def a_canary() -> Arena:
    """Release 1 is live, and release 2 waits for a yes."""
    arena = Arena()
    await arena.deploy("app:1")
    await arena.deploy("app:2", Kind.DEPLOY, (Weight(share=500), Approval()))
    return arena


async def test_a_chapter_says_who_began_a_rollout_and_who_ended_it() -> None:
    arena = await a_canary()
    await arena.order(lambda state: orders.abort(state, Outcome.ABORTED, BOB))
    _, canary = chapters(arena.store.told())
    assert canary.actor == "tester"
    assert (canary.outcome, canary.ended_by, canary.reason) == ("aborted", "bob", "wrong branch")
    assert (canary.replaces, canary.release) == ("web-1", "web-2")


async def test_nobody_ended_what_came_to_its_end_by_itself() -> None:
    arena = await a_canary()
    await arena.order(lambda state: orders.approve(state, BOB))
    _, canary = chapters(arena.store.told())
    assert (canary.outcome, canary.ended_by, canary.reason) == ("promoted", "", "")


async def test_a_freeze_is_a_chapter_of_all_services() -> None:
    arena = await a_canary()
    arena.store.note(ev.Froze(actor="ann", reason="sale"), 10.0)
    arena.store.note(ev.Froze(actor="ann", reason="sale"), 11.0)  # a crash left the first one without its file
    arena.store.note(ev.Thawed(actor="bob", reason="over"), 25.0)
    arena.store.note(ev.Froze(actor="ann", reason=""), 40.0)
    whole = Chapter(kind="freeze", actor="ann", asked="sale", started=10.0, outcome="frozen")
    thawed = whole.replace(finished=25.0, outcome="thawed", ended_by="bob", reason="over")
    assert chapters(arena.store.told())[2:] == [thawed, whole.replace(asked="", started=40.0)]


async def test_a_freeze_by_hand_has_no_beginning_and_its_end_no_chapter() -> None:
    arena = await a_canary()
    arena.store.note(ev.Thawed(actor="bob", reason=""), 25.0)
    assert [chapter.kind for chapter in chapters(arena.store.told())] == ["deploy", "deploy"]


async def test_a_sentence_has_its_reason_and_what_was_told() -> None:
    arena = await a_canary()
    opened = next(e.event for e in arena.store.entries() if isinstance(e.event, ev.RolloutOpened))
    asked = opened.replace(rollout=opened.rollout.replace(reason="hotfix"))
    assert sentence(asked) == "deploy web-r1: web-1 into blue, by tester: hotfix"
    plan = (Weight(share=3000), Pause())
    assert sentence(ev.PlanChanged(plan=plan, actor="bob", reason="graphs")) == (
        "goes on by weight 30 %, pause until told; told by bob: graphs"
    )
    superseded = ev.AbortRequested(actor="bob", reason="hotfix", outcome=Outcome.SUPERSEDED)
    assert sentence(superseded) == "another deploy asked by bob: hotfix"
