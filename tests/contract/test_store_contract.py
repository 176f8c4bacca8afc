"""What every `Store` promises, on SQLite and in memory; then what only a file can."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from proxyctl.adapters.memory import MemoryStore
from proxyctl.adapters.sqlite import SCHEMA, SCHEMA_VERSION, SqliteStore
from proxyctl.domain import events as ev
from proxyctl.domain.codec import encode
from proxyctl.domain.model import Colour, ServiceName
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.state import Phase, ServiceState
from proxyctl.errors import AddressTaken, Fenced, StateUnusable
from proxyctl.ports import Store

WEB, API = ServiceName("web"), ServiceName("api")
BLUE, GREEN = Colour.BLUE, Colour.GREEN
FREE = tuple(f"172.30.0.{n}" for n in range(2, 8))


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
        return
    made = SqliteStore(tmp_path / "proxyctl.db")
    yield made
    made.close()


def a_state(service: ServiceName = WEB, **changes: object) -> ServiceState:
    return ServiceState(service=service).replace(**changes)


def lost(reason: str = "gone") -> ev.Event:
    return ev.StandbyLost(reason=reason)


def note(store: Store, *events: ev.Event, service: ServiceName = WEB) -> None:
    store.append(events, a_state(service), "web-r1", store.raise_fence(service), 1.5)


# --- journal and snapshots ---------------------------------------------------------------------------------------


def test_a_service_that_was_never_seen_is_idle(store: Store) -> None:
    assert store.services() == []
    assert store.load(WEB) == a_state()
    assert store.last_seq() == 0


def test_what_was_appended_is_read_back_with_its_circumstances(store: Store) -> None:
    fence = store.raise_fence(WEB)
    state = a_state(phase=Phase.DEGRADED, trouble="nginx is silent")
    store.append([lost("one"), lost("two")], state, "web-r7", fence, 12.5)
    assert store.load(WEB) == state
    assert store.services() == [WEB]
    assert [(e.service, e.rollout, e.at, e.fence, e.event) for e in store.entries()] == [
        (WEB, "web-r7", 12.5, fence, lost("one")),
        (WEB, "web-r7", 12.5, fence, lost("two")),
    ]


def test_entries_come_in_order_by_service_and_from_where_one_left_off(store: Store) -> None:
    note(store, lost("one"))
    note(store, lost("two"), service=API)
    note(store, lost("three"), lost("four"))
    every = store.entries()
    assert [e.seq for e in every] == sorted({e.seq for e in every})
    assert [e.event for e in store.entries(WEB)] == [lost("one"), lost("three"), lost("four")]
    assert store.entries(after=every[1].seq) == every[2:]
    assert store.entries(limit=2) == every[:2]
    assert store.last_seq() == every[-1].seq


def test_a_note_of_the_project_stands_among_the_entries_of_every_service_and_is_none_of_them(store: Store) -> None:
    note(store, lost("one"))
    store.note(ev.Froze(actor="ann", reason="sale"), 7.5)
    note(store, lost("two"), service=API)
    assert [line.event for line in store.told()] == [lost("one"), ev.Froze(actor="ann", reason="sale"), lost("two")]
    web = store.told(WEB)
    assert [(line.seq, line.at) for line in web] == [(1, 1.5), (2, 7.5)]
    assert store.told(API, after=2) == store.entries(API)
    assert [entry.event for entry in store.entries()] == [lost("one"), lost("two")]
    assert store.services() == [API, WEB]


# --- one writer --------------------------------------------------------------------------------------------------


def test_a_fence_only_rises_and_each_service_has_its_own(store: Store) -> None:
    assert store.raise_fence(WEB) < store.raise_fence(WEB) < store.raise_fence(WEB)
    assert store.raise_fence(API) == 1


@pytest.mark.parametrize("late_by", [-1, 1])
def test_a_writer_with_another_fence_writes_nothing(store: Store, late_by: int) -> None:
    fence = store.raise_fence(WEB) + late_by
    with pytest.raises(Fenced):
        store.append([lost()], a_state(phase=Phase.DEGRADED), "web-r1", fence, 1.0)
    assert store.entries() == []
    assert store.load(WEB) == a_state()


def test_a_writer_without_any_fence_writes_nothing(store: Store) -> None:
    with pytest.raises(Fenced):
        store.append([lost()], a_state(), "web-r1", 0, 1.0)
    assert store.last_seq() == 0


# --- numbers and addresses ---------------------------------------------------------------------------------------


def test_a_generation_number_is_given_once_and_a_burnt_one_never(store: Store) -> None:
    first, second = store.claim_generation(), store.claim_generation()
    assert first < second
    store.burn_generations(second + 10)
    assert store.claim_generation() == second + 11
    store.burn_generations(3)
    assert store.claim_generation() == second + 12


def test_a_slot_keeps_its_addresses(store: Store) -> None:
    blue = store.lease_slots(WEB, BLUE, 2, FREE)
    assert store.lease_slots(WEB, BLUE, 2, FREE) == blue == FREE[:2]
    assert store.lease_slots(WEB, BLUE, 1, FREE) == blue[:1]
    assert store.lease_slots(WEB, BLUE, 2, FREE) == blue


def test_a_slot_that_grows_keeps_what_it_had(store: Store) -> None:
    blue = store.lease_slots(WEB, BLUE, 1, FREE)
    green = store.lease_slots(WEB, GREEN, 1, FREE)
    grown = store.lease_slots(WEB, BLUE, 3, FREE)
    assert grown[:1] == blue
    assert len(set(grown + green)) == 4


def test_no_address_is_given_to_two_slots(store: Store) -> None:
    leased = [store.lease_slots(service, colour, 1, FREE) for service in (WEB, API) for colour in Colour]
    assert len(set(leased)) == 4


def test_too_few_addresses_are_refused_and_nothing_is_leased(store: Store) -> None:
    store.lease_slots(WEB, BLUE, 4, FREE)
    with pytest.raises(AddressTaken):
        store.lease_slots(WEB, GREEN, 3, FREE)
    assert store.lease_slots(API, BLUE, 2, FREE) == FREE[4:]


def test_another_network_gives_other_addresses(store: Store) -> None:
    store.lease_slots(WEB, BLUE, 2, FREE)
    others = ("10.0.0.2", "10.0.0.3")
    assert store.lease_slots(WEB, BLUE, 2, others) == others


# --- requests ----------------------------------------------------------------------------------------------------


def test_a_request_is_taken_once_in_its_turn_and_only_by_its_service(store: Store) -> None:
    abort = ev.AbortRequested(actor="ann", reason="", outcome=Outcome.ABORTED)
    first, second = store.ask(WEB, "web-r1", lost("one")), store.ask(WEB, "web-r1", abort)
    other = store.ask(API, "web-r1", lost("other"))
    assert not store.taken(first)
    assert store.take(WEB, "web-r1") == [lost("one"), abort]
    assert store.take(WEB, "web-r1") == []
    assert (store.taken(first), store.taken(second), store.taken(other)) == (True, True, False)


def test_what_was_asked_of_another_rollout_is_taken_and_given_to_nobody(store: Store) -> None:
    late, asked = store.ask(WEB, "web-r1", lost("late")), store.ask(WEB, "web-r2", lost("asked"))
    assert store.take(WEB, "web-r2") == [lost("asked")]
    assert store.taken(late)
    assert store.taken(asked)
    assert store.take(WEB, "web-r1") == []


# --- a file ------------------------------------------------------------------------------------------------------


def test_what_one_process_commits_another_reads(tmp_path: Path) -> None:
    one, other = SqliteStore(tmp_path / "db"), SqliteStore(tmp_path / "db")
    note(one, lost())
    assert [entry.event for entry in other.entries()] == [lost()]
    assert other.raise_fence(WEB) == 2
    with pytest.raises(Fenced, match=r"fence 2, ours is 1"):
        one.append([lost()], a_state(), "web-r1", 1, 1.0)
    one.close()
    other.close()


def test_processes_that_open_a_new_file_at_once_all_can(tmp_path: Path) -> None:
    opening = "import sys; from pathlib import Path; from proxyctl.adapters.sqlite import SqliteStore\n"
    opening += "sys.stdin.read(); SqliteStore(Path(sys.argv[1])).claim_generation()"
    command = [sys.executable, "-c", opening, str(tmp_path / "db")]
    openers = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(6)]
    time.sleep(0.5)  # all have started, and wait
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.close()
        opener.stdin = None
    assert [opener.communicate()[1].decode() for opener in openers] == [""] * 6
    made = SqliteStore(tmp_path / "db")
    assert made.claim_generation() == 7
    made.close()


def test_everything_survives_a_reopening(tmp_path: Path) -> None:
    first = SqliteStore(tmp_path / "db")
    note(first, lost())
    first.claim_generation()
    leased = first.lease_slots(WEB, BLUE, 2, FREE)
    request = first.ask(WEB, "web-r1", lost("asked"))
    first.close()
    again = SqliteStore(tmp_path / "db")
    assert again.last_seq() == 1
    assert again.claim_generation() == 2
    assert again.lease_slots(WEB, BLUE, 2, FREE) == leased
    assert not again.taken(request)
    assert again.raise_fence(WEB) == 2
    again.close()


def test_a_scratch_copy_knows_everything_and_changes_nothing(tmp_path: Path) -> None:
    made = SqliteStore(tmp_path / "db")
    note(made, lost())
    copy = made.scratch()
    assert copy.entries() == made.entries()
    assert copy.lease_slots(WEB, BLUE, 2, FREE) == FREE[:2]
    assert made.lease_slots(API, GREEN, 2, FREE) == FREE[:2]
    copy.close()
    made.close()


def test_a_commit_is_on_disk_when_it_returns(tmp_path: Path) -> None:
    made = SqliteStore(tmp_path / "db")
    assert made._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert made._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    made.close()


def test_what_the_version_before_wrote_is_read_as_it_is_and_written_on(tmp_path: Path) -> None:
    """Its requests named no rollout: they are given to nobody."""
    path = tmp_path / "db"
    with closing(sqlite3.connect(path)) as old:
        old.executescript("".join(SCHEMA[:2]) + "PRAGMA user_version = 2; PRAGMA journal_mode = WAL;")
        state, event = (json.dumps(encode(each)) for each in (a_state(phase=Phase.DEGRADED), lost("asked")))
        old.execute("INSERT INTO snapshots VALUES ('web', 1, ?)", (state,))
        old.execute("INSERT INTO requests (service, event) VALUES ('web', ?)", (event,))
        old.commit()
    before = path.read_bytes()
    look = SqliteStore.to_read(path)
    assert look.load(WEB).phase is Phase.DEGRADED
    look.close()
    assert path.read_bytes() == before
    made = SqliteStore(path)
    assert made.load(WEB).phase is Phase.DEGRADED
    made.ask(WEB, "web-r1", lost("anew"))
    assert made.take(WEB, "web-r1") == [lost("anew")]
    made.close()


def damaged(path: Path) -> None:
    path.write_bytes(b"this is no database, it only lies where one should be" * 100)


def a_folder(path: Path) -> None:
    path.mkdir()


def from_the_future(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()


@pytest.mark.parametrize(
    ("made", "words"),
    [(damaged, "cannot be used"), (a_folder, "cannot be used"), (from_the_future, "was written by a newer proxyctl")],
)
def test_a_file_that_cannot_be_used_is_named_and_left_alone(tmp_path: Path, made: object, words: str) -> None:
    path = tmp_path / "proxyctl.db"
    made(path)  # type: ignore[operator]
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StateUnusable, match=words) as refusal:
        SqliteStore(path)
    assert str(path) in str(refusal.value)
    assert refusal.value.next_step
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_journal_of_another_version_is_refused_in_words(tmp_path: Path) -> None:
    made = SqliteStore(tmp_path / "db")
    note(made, lost())
    made._db.execute("""UPDATE journal SET event = '{"@": "OfTheFuture"}'""")
    with pytest.raises(StateUnusable, match="what this version cannot read"):
        made.entries()
    made.close()


def test_a_file_that_another_holds_for_long_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxyctl.adapters.sqlite.BUSY_TIMEOUT_S", 0.05)
    made = SqliteStore(tmp_path / "db")
    other = sqlite3.connect(tmp_path / "db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateUnusable, match="database is locked"):
        made.raise_fence(WEB)
    other.execute("ROLLBACK")
    assert made.raise_fence(WEB) == 1
    other.close()
    made.close()
