"""Every checker of a journal finds what it is for: a sound journal with one thing bent."""

from __future__ import annotations

from typing import Any

import pytest

from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain.model import Colour, ServiceName
from proxyctl.domain.split import Split
from proxyctl.ports import Entry
from tests.arena import Arena
from tests.journal_checks import broken_journal, states_of

Journal = list[Entry]
API = ServiceName("api")


@pytest.fixture
async def journal() -> Journal:
    """Release 1, in blue, is live and alone: release 2, in green, was deployed, rolled back, and its standby ended."""
    arena = Arena()
    await arena.deploy("app:1")
    await arena.deploy("app:2")
    await arena.rollback()
    await arena.end_standby()
    return arena.store.entries()


def last(journal: Journal, kind: type[Any], command: type[Any] = object) -> int:
    """Where the last entry of this kind stands; of intents, that of this command."""
    found = (n for n, e in enumerate(journal) if isinstance(e.event, kind))
    return max(n for n in found if isinstance(getattr(journal[n].event, "command", None), command))


def bent(journal: Journal, at: int, **changes: object) -> Journal:
    """The same journal, one event of which says something else."""
    entry = journal[at]
    return [*journal[:at], entry.replace(event=entry.event.replace(**changes)), *journal[at + 1 :]]


def first_words(found: list[str]) -> set[str]:
    return {line.partition(":")[0] for line in found}


def test_a_sound_journal_breaks_nothing(journal: Journal) -> None:
    assert broken_journal(journal) == []
    assert broken_journal([]) == []


def test_a_journal_folds_to_the_state_of_every_service(journal: Journal) -> None:
    states = states_of(journal)
    assert [(name, state.live.release.id) for name, state in states.items() if state.live] == [("web", "web-1")]


def test_an_event_that_the_table_does_not_list_is_found(journal: Journal) -> None:
    found = broken_journal([journal[last(journal, ev.RolloutEnded)]])
    assert found == ["the journal holds what no table lists: RolloutEnded in phase idle"]


def test_traffic_to_containers_that_did_not_pass_the_gate_is_found(journal: Journal) -> None:
    gates = [n for n, entry in enumerate(journal) if isinstance(entry.event, ev.GatePassed)]
    found = broken_journal(bent(journal, gates[1], incarnations=journal[gates[0]].event.incarnations))  # type: ignore[union-attr]
    assert first_words(found) == {"1"}
    assert "sends traffic to green of web, that passed no gate" in found[0]


def test_cover_by_a_colour_where_nothing_stands_is_found(journal: Journal) -> None:
    first_move = next(n for n, entry in enumerate(journal) if isinstance(entry.event, ev.SplitMoved))
    found = broken_journal(bent(journal, first_move, cover=True))
    assert found == [f"1: {first_move + 1} sends traffic to green of web, that passed no gate"]


def test_a_writer_that_writes_after_its_successor_is_found(journal: Journal) -> None:
    late = [*journal[:-1], journal[-1].replace(fence=1)]
    assert "10: 43 of web was written under fence 1 after a higher one" in broken_journal(late)


def test_the_fence_of_one_service_says_nothing_about_another(journal: Journal) -> None:
    other = [entry.replace(service=API, fence=1) for entry in journal]
    assert broken_journal([*journal, *other]) == []


def test_a_generation_lower_than_one_before_is_found(journal: Journal) -> None:
    other = [entry.replace(fence=9) for entry in journal[15:18]]
    published = last(journal, ev.RoutePublished)
    later = journal[published].event.replace(generation=0)
    tail = [other[0], journal[published - 1].replace(fence=9), journal[published].replace(fence=9, event=later)]
    found = broken_journal([*journal, *tail])
    assert found == [f"4: {published + 1} of web publishes generation 0 after a higher one"]


def test_a_release_stopped_while_it_has_traffic_is_found(journal: Journal) -> None:
    move = last(journal, ev.SplitMoved)
    still_served = bent(journal, move, split=Split(Colour.BLUE, 9_500))
    assert "8: 42 stops web-2 while the split is blue 95 % green 5 %" in broken_journal(still_served)


def test_a_release_stopped_while_it_may_cover_is_found(journal: Journal) -> None:
    covered = bent(journal, last(journal, ev.SplitMoved), cover=True)
    assert broken_journal(covered) == ["8: 42 stops web-2 while it may cover the other colour"]


def test_a_release_stopped_while_rules_lead_to_it_is_found(journal: Journal) -> None:
    previewed = bent(journal, last(journal, ev.SplitMoved), preview=Colour.GREEN)
    assert broken_journal(previewed) == ["8: 42 stops web-2 while rules lead to it"]


def test_rules_that_lead_to_a_colour_where_nothing_stands_are_found(journal: Journal) -> None:
    first_move = next(n for n, entry in enumerate(journal) if isinstance(entry.event, ev.SplitMoved))
    found = broken_journal(bent(journal, first_move, preview=Colour.GREEN))
    assert found == [f"1: {first_move + 1} sends traffic to green of web, that passed no gate"]


@pytest.mark.parametrize("cut", [3, -1])
def test_connections_cut_before_the_drain_deadline_are_found(journal: Journal, cut: int) -> None:
    hasty = bent(journal, last(journal, ev.Retired), cut=cut)
    assert broken_journal(hasty) == [f"8: 43 cut {cut} connections of web-2 after 0 s of 2 s"]


def test_connections_cut_after_the_drain_deadline_are_told_and_right(journal: Journal) -> None:
    cut = bent(journal, last(journal, ev.Retired), cut=3)
    assert broken_journal([*cut[:-1], cut[-1].replace(at=cut[-1].at + 2)]) == []


def test_an_outcome_that_nobody_announced_is_found(journal: Journal) -> None:
    intent = last(journal, ev.Intended, do.Retire)
    found = broken_journal([*journal[:intent], *journal[intent + 1 :]])
    assert found == ["10: 43 of web is a Retired that nobody announced"]


def test_an_outcome_of_what_another_writer_announced_is_found(journal: Journal) -> None:
    taken_over = [*journal[:-1], journal[-1].replace(fence=99)]
    assert broken_journal(taken_over) == ["10: 43 of web is a Retired that another writer announced"]
