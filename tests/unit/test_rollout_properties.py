"""Properties of the pure core: splits, the transition table, folding and resuming."""

from __future__ import annotations

import typing
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from proxyctl.domain import events as ev
from proxyctl.domain import orders, plan
from proxyctl.domain.codec import decode, encode
from proxyctl.domain.deciding import decide
from proxyctl.domain.model import Colour, ProxySettings
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.record import Record
from proxyctl.domain.rollout import MOVES, advance, fold
from proxyctl.domain.split import WHOLE, Split
from proxyctl.domain.state import Kind, Phase, ServiceState, UnlawfulState
from tests.arena import SIGNED, WEB, Arena

splits = st.builds(Split, st.sampled_from(Colour), st.integers(0, WHOLE))


@given(splits)
def test_a_split_always_sums_to_all_traffic_and_never_leaves_nobody_serving(split: Split) -> None:
    assert sum(split.share(colour) for colour in Colour) == WHOLE
    assert any(split.serves(colour) for colour in Colour)


@given(st.sampled_from(Colour), st.integers(0, WHOLE), st.integers(0, WHOLE), st.integers(0, WHOLE - 1))
def test_no_client_leaves_the_canary_while_its_weight_grows(lead: Colour, a: int, b: int, bucket: int) -> None:
    smaller, larger = Split(lead, min(a, b)), Split(lead, max(a, b))
    if smaller.pool(bucket) is lead:
        assert larger.pool(bucket) is lead


@given(st.integers(0, WHOLE))
def test_a_share_is_the_number_of_its_buckets(share: int) -> None:
    split = Split(Colour.GREEN, share)
    assert sum(split.pool(bucket) is Colour.GREEN for bucket in range(WHOLE)) == share


def test_the_table_knows_every_event_and_only_phases_that_it_leads_out_of_again() -> None:
    listed = {event for moves in MOVES.values() for event in moves}
    assert listed | {ev.Intended} == set(typing.get_args(ev.Event))
    assert {phase for moves in MOVES.values() for phase in moves.values()} <= set(MOVES)


async def a_story(*, sick: bool) -> list[ev.Event]:
    """The journal of a service that was deployed, staged, weighted, aborted, deployed again and rolled back."""
    arena = Arena()
    await arena.deploy("app:1")
    await arena.deploy("app:2", Kind.STAGE, plan.at(1234, plan.at_once()))
    await arena.order(lambda s: orders.change_plan(s, plan.at(5000, plan.at_once()), SIGNED))
    await arena.order(lambda s: orders.abort(s, Outcome.ABORTED, SIGNED))
    if sick:
        arena.world.sick.add("app:3")
    await arena.deploy("app:3")
    if not sick:
        await arena.rollback()
        await arena.end_standby()
    assert not arena.broken_promises()
    return [entry.event for entry in arena.store.journal]


async def test_every_state_of_a_story_is_lawful_and_says_what_comes_next() -> None:
    for sick in (False, True):
        state = ServiceState(service=WEB)
        for event in await a_story(sick=sick):
            state = advance(state, event)
            command = decide(state)
            assert command is not None or state.phase in (Phase.IDLE, Phase.DEGRADED)


async def test_a_journal_folds_to_the_stored_snapshot_through_its_json() -> None:
    arena = Arena()
    await arena.deploy("app:1")
    await arena.deploy("app:2")
    read_back = [decode(ev.Event, encode(entry.event)) for entry in arena.store.journal]
    assert fold(ServiceState(service=WEB), read_back) == arena.state
    assert decode(ServiceState, encode(arena.state)) == arena.state


async def test_resuming_from_any_prefix_of_a_deploy_reaches_the_same_end() -> None:
    whole = Arena()
    await whole.deploy("app:1")
    commits = len(whole.store.journal)
    await whole.deploy("app:2")
    for survived in range(1, len(whole.store.journal) - commits):
        arena = Arena()
        await arena.deploy("app:1")
        if not await died_after(arena, survived):
            return
        runner = arena.runner()
        await runner.run()
        assert end(runner.state) == end(whole.state), f"after {survived} commits"
        assert not arena.broken_promises()
    raise AssertionError("the deploy never outlived its killer")


async def died_after(arena: Arena, commits: int) -> bool:
    """Deploy, and die after so many commits; whether it came to that."""
    append, left = arena.store.append, commits

    def last_append(*args: Any) -> None:
        nonlocal left
        append(*args)
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    arena.store.append = last_append  # type: ignore[method-assign, assignment]
    try:
        await arena.deploy("app:2")
    except KeyboardInterrupt:
        return True
    finally:
        arena.store.append = append  # type: ignore[method-assign]
    return False


def end(state: ServiceState) -> object:
    """All of a state but the lives of its containers and the instants."""
    roles = [(p.release.id, p.role, bool(p.gated)) for p in (state.blue, state.green) if p is not None]
    return state.phase, state.split, state.cover, roles, state.rollout


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_sequence_of_events_ends_in_a_lawful_phase_or_is_refused(data: st.DataObject) -> None:
    state = ServiceState(service=WEB)
    for _ in range(data.draw(st.integers(1, 12))):
        kind = data.draw(st.sampled_from(sorted(MOVES[state.phase], key=lambda k: k.__name__)))
        try:
            state = advance(state, data.draw(of(typing.cast(Any, kind))))
        except UnlawfulState:
            return
        assert state.phase in MOVES


@cache
def of(hint: Any) -> st.SearchStrategy[Any]:
    """Values of an annotation."""
    if isinstance(hint, type) and issubclass(hint, Record):
        hints = typing.get_type_hints(hint)
        return st.builds(hint, **{name: of(hints[name]) for name in hint._fields})
    if hint is Split:
        return splits
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and args[-1] is Ellipsis:
        return st.lists(of(args[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(of, args))
    if args:
        return st.one_of(*(of(arg) for arg in args))
    if not isinstance(hint, type):
        return of(hint.__supertype__)
    return {
        str: st.text("ab-1", max_size=3).map(lambda text: f"{text}-1"),
        int: st.integers(0, 100),
        float: st.floats(0, 100),
        bool: st.booleans(),
        type(None): st.none(),
    }.get(hint, st.sampled_from(tuple(getattr(hint, "__members__", {}).values())))


@settings(max_examples=300, deadline=None)
@given(of(typing.cast(Any, ev.Event)))
def test_every_event_survives_its_journey_through_json(event: ev.Event) -> None:
    assert decode(ev.Event, encode(event)) == event


def test_settings_that_a_newer_version_wrote_are_refused() -> None:
    written = encode(ProxySettings()) | {"quic": True}
    try:
        decode(ProxySettings, written)
    except ValueError as error:
        assert "quic" in str(error)
    else:
        raise AssertionError("an unknown field was accepted")
