"""The invariants of the design that a journal shows by itself. Pure; start at broken_journal()."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain import standing
from proxyctl.domain.model import Colour, Role, ServiceName
from proxyctl.domain.rollout import advance
from proxyctl.domain.state import Placement, ServiceState, UnlawfulState, must
from proxyctl.ports import Entry

Journal = Sequence[Entry]

# An outcome is journaled by whoever intended it; running replicas are also merely observed.
INTENT_OF: Final[dict[type[Any], type[Any]]] = {
    ev.RoutePublished: do.Publish,
    ev.SplitMoved: do.Move,
    ev.PolicyAdopted: do.AdoptPolicy,
    ev.Retired: do.Retire,
    ev.Grown: do.Grow,
    ev.Shrunk: do.Shrink,
}
CLOCKS_MAY_DIFFER = 0.1


def broken_journal(journal: Journal) -> list[str]:
    """What a whole journal, from its first entry on, does not keep; empty when it keeps all."""
    if unlawful := list(unlawful_entries(journal)):
        return unlawful
    return [
        *served_without_a_gate(journal),
        *fences_that_fell(journal),
        *generations_that_fell(journal),
        *retired_while_served(journal),
        *cut_before_the_deadline(journal),
        *outcomes_nobody_intended(journal),
    ]


def states_of(journal: Journal) -> dict[ServiceName, ServiceState]:
    """What the journal folds to, by service."""
    states: dict[ServiceName, ServiceState] = {}
    for before, entry in _told(journal):
        states[entry.service] = advance(before, entry.event)
    return states


def unlawful_entries(journal: Journal) -> Iterator[str]:
    try:
        states_of(journal)
    except UnlawfulState as error:
        yield f"the journal holds what no table lists: {error}"


def served_without_a_gate(journal: Journal) -> Iterator[str]:
    """1: traffic, cover and preview only for a release whose present containers passed the gate."""
    for before, entry in _told(journal):
        match entry.event:
            case ev.SplitMoved(split=split, cover=cover, preview=preview):
                for colour in Colour:
                    reached = cover or preview is colour or (split is not None and split.serves(colour))
                    if reached and not _gated_as_it_runs(before.at(colour)):
                        yield f"1: {entry.seq} sends traffic to {colour} of {entry.service}, that passed no gate"


def fences_that_fell(journal: Journal) -> Iterator[str]:
    """4, 10: once a later writer wrote, no earlier one does; so the acts of two never interleave."""
    highest: dict[ServiceName, int] = {}
    for entry in journal:
        if entry.fence < highest.get(entry.service, 0):
            yield f"10: {entry.seq} of {entry.service} was written under fence {entry.fence} after a higher one"
        highest[entry.service] = max(entry.fence, highest.get(entry.service, 0))


def generations_that_fell(journal: Journal) -> Iterator[str]:
    """4: of one service; two services may journal in another order than they published."""
    highest: dict[ServiceName, int] = {}
    for entry in journal:
        match entry.event:
            case ev.RoutePublished(generation=generation):
                if generation < highest.get(entry.service, 0):
                    yield f"4: {entry.seq} of {entry.service} publishes generation {generation} after a higher one"
                highest[entry.service] = generation


def retired_while_served(journal: Journal) -> Iterator[str]:
    """8: traffic had left, nobody was covered by it, and no rule led to it, before it was decided to stop it."""
    for before, entry in _told(journal):
        match entry.event:
            case ev.Intended(command=do.Shrink(colour=colour, to=to)):
                leaving = standing.shrunk(before, colour, to)
                if before.route != standing.route(leaving):
                    yield f"8: {entry.seq} stops replicas of {colour} that nginx could still ask"
                serves = before.split is not None and before.split.serves(colour)
                if serves and not must(leaving.at(colour)).replicas:
                    yield f"8: {entry.seq} stops the last replica of {colour} while the split is {before.split}"
            case ev.Intended(command=do.Retire(release=release, colour=colour)):
                if before.split is not None and before.split.serves(colour):
                    yield f"8: {entry.seq} stops {release} while the split is {before.split}"
                if before.cover:
                    yield f"8: {entry.seq} stops {release} while it may cover the other colour"
                if before.preview is colour:
                    yield f"8: {entry.seq} stops {release} while rules lead to it"


def cut_before_the_deadline(journal: Journal) -> Iterator[str]:
    """8: connections are cut, and their number told, only once the drain deadline passed."""
    intended = 0.0
    for before, entry in _told(journal):
        match entry.event:
            case ev.Intended():
                intended = entry.at
            case ev.Retired(release=release, colour=colour, cut=cut) if cut:
                placed = before.at(colour)
                drain = placed.release.service.drain if placed else 0.0
                waited = entry.at - intended
                if waited < drain - CLOCKS_MAY_DIFFER:
                    yield f"8: {entry.seq} cut {cut} connections of {release} after {waited:g} s of {drain:g} s"


def outcomes_nobody_intended(journal: Journal) -> Iterator[str]:
    """10: what came of an act is journaled by the writer that announced it, right after."""
    fence: dict[ServiceName, int] = {}
    for before, entry in _told(journal):
        wanted = INTENT_OF.get(type(entry.event))
        told = type(entry.event).__name__
        if wanted and not isinstance(before.intent, wanted):
            yield f"10: {entry.seq} of {entry.service} is a {told} that nobody announced"
        elif wanted and fence[entry.service] != entry.fence:
            yield f"10: {entry.seq} of {entry.service} is a {told} that another writer announced"
        fence[entry.service] = entry.fence


def _told(journal: Journal) -> Iterator[tuple[ServiceState, Entry]]:
    """Every entry with the state of its service just before it."""
    states: dict[ServiceName, ServiceState] = {}
    for entry in journal:
        before = states.get(entry.service) or ServiceState(service=entry.service)
        yield before, entry
        states[entry.service] = advance(before, entry.event)


def _gated_as_it_runs(placed: Placement | None) -> bool:
    """A live release that the engine restarted serves on, whatever its next verdict is."""
    if placed is None:
        return False
    return placed.gated_as_it_runs or (placed.role is Role.LIVE and bool(placed.gated))
