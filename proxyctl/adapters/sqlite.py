"""The journal in one SQLite file: WAL, synchronous=FULL, one commit per append. Start at SqliteStore.

Snapshots are a cache of the fold of the journal, written in the same commit. The fence is checked in that commit too,
so a writer that was replaced while it slept writes nothing.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxyctl.adapters.durable import told_in_words
from proxyctl.domain.codec import decode, encode
from proxyctl.domain.events import Event, ProjectEvent
from proxyctl.domain.model import Colour, ServiceName
from proxyctl.domain.state import ServiceState
from proxyctl.errors import AddressTaken, Fenced, StateUnusable
from proxyctl.ports import Entry, Note

if TYPE_CHECKING:
    from proxyctl.domain.progress import Progress

BUSY_TIMEOUT_S = 5.0
SYNCED = "PRAGMA synchronous = FULL"  # what a commit changed is on disk when it returns
SYNCED_LATER = "PRAGMA synchronous = NORMAL"  # with the next one that is synced

FIRST = """
CREATE TABLE journal (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, service TEXT NOT NULL, rollout TEXT NOT NULL,
    at REAL NOT NULL, fence INTEGER NOT NULL, event TEXT NOT NULL);
CREATE INDEX journal_by_service ON journal (service, seq);
CREATE TABLE snapshots (service TEXT PRIMARY KEY, seq INTEGER NOT NULL, state TEXT NOT NULL);
CREATE TABLE fences (service TEXT PRIMARY KEY, fence INTEGER NOT NULL);
CREATE TABLE generations (one INTEGER PRIMARY KEY CHECK (one = 1), last INTEGER NOT NULL);
INSERT INTO generations VALUES (1, 0);
CREATE TABLE slots (
    address TEXT PRIMARY KEY, service TEXT NOT NULL, colour TEXT NOT NULL, ordinal INTEGER NOT NULL,
    UNIQUE (service, colour, ordinal));
CREATE TABLE requests (
    id INTEGER PRIMARY KEY AUTOINCREMENT, service TEXT NOT NULL, event TEXT NOT NULL,
    taken INTEGER NOT NULL DEFAULT 0);
"""
SECOND = """
CREATE TABLE progress (service TEXT PRIMARY KEY, progress TEXT NOT NULL);
"""
THIRD = """
ALTER TABLE requests ADD COLUMN rollout TEXT NOT NULL DEFAULT '';
"""
COLUMNS = "seq, service, rollout, at, fence, event"
OF_PROJECT = ""  # in the place of a service
SCHEMA = (FIRST, SECOND, THIRD)  # each version is the one before and this
SCHEMA_VERSION = len(SCHEMA)


class SqliteStore:
    """Implements `Store`. Safe to open from many processes; each service has one writer, held to it by its fence."""

    def __init__(self, path: Path, db: sqlite3.Connection | None = None) -> None:
        self._path = path
        with _named_errors(path):
            self._db = db or _open(path)

    @classmethod
    def to_read(cls, path: Path) -> SqliteStore:
        """What is there, which may be nothing yet, also on a disk that cannot be written. Makes no store."""
        with _named_errors(path):
            return cls(path, _open_to_read(path))

    def scratch(self) -> SqliteStore:
        """A copy in memory: what is written into it is never seen by anybody else."""
        copy = sqlite3.connect(":memory:", isolation_level=None)
        with _named_errors(self._path):
            self._db.backup(copy)
        return SqliteStore(self._path, copy)

    def close(self) -> None:
        self._db.close()

    def services(self) -> list[ServiceName]:
        return [ServiceName(row[0]) for row in self._rows("SELECT service FROM snapshots ORDER BY service")]

    def load(self, service: ServiceName) -> ServiceState:
        rows = self._rows("SELECT state FROM snapshots WHERE service = ?", service)
        if not rows:
            return ServiceState(service=service)
        state: ServiceState = self._decoded(ServiceState, rows[0][0])
        return state

    def raise_fence(self, service: ServiceName) -> int:
        """On disk no later than what is appended under it; a power cut before that ends whoever had the one before."""
        with self._unsynced(), self._commit() as db:
            db.execute(
                "INSERT INTO fences VALUES (?, 1) ON CONFLICT (service) DO UPDATE SET fence = fence + 1", (service,)
            )
            return int(db.execute("SELECT fence FROM fences WHERE service = ?", (service,)).fetchone()[0])

    def append(self, events: Sequence[Event], state: ServiceState, rollout: str, fence: int, at: float) -> None:
        with self._commit() as db:
            self._check_fence(db, state.service, fence)
            for event in events:
                db.execute(
                    "INSERT INTO journal (service, rollout, at, fence, event) VALUES (?, ?, ?, ?, ?)",
                    (state.service, rollout, at, fence, _json(event)),
                )
            db.execute(
                "INSERT INTO snapshots VALUES (?, last_insert_rowid(), ?)"
                " ON CONFLICT (service) DO UPDATE SET seq = excluded.seq, state = excluded.state",
                (state.service, _json(state)),
            )

    def keep(self, service: ServiceName, progress: Progress, fence: int) -> None:
        with self._commit() as db:
            self._check_fence(db, service, fence)
            db.execute("INSERT OR REPLACE INTO progress VALUES (?, ?)", (service, _json(progress)))

    def kept(self, service: ServiceName) -> Progress | None:
        from proxyctl.domain.progress import Progress  # whoever only moves traffic reads none

        rows = self._rows("SELECT progress FROM progress WHERE service = ?", service)
        return self._decoded(Progress, rows[0][0]) if rows else None

    def entries(self, service: ServiceName | None = None, after: int = 0, limit: int = -1) -> list[Entry]:
        which, value = ("=", service) if service else ("!=", OF_PROJECT)
        rows = self._rows(
            f"SELECT {COLUMNS} FROM journal WHERE seq > ? AND service {which} ? ORDER BY seq LIMIT ?",
            *(after, value, limit),
        )
        return [self._entry(row) for row in rows]

    def note(self, event: ProjectEvent, at: float) -> None:
        with self._commit() as db:
            db.execute(
                "INSERT INTO journal (service, rollout, at, fence, event) VALUES (?, '', ?, 0, ?)",
                (OF_PROJECT, at, _json(event)),
            )

    def told(self, service: ServiceName | None = None, after: int = 0) -> list[Entry | Note]:
        which, values = ("AND service IN (?, ?)", [service, OF_PROJECT]) if service else ("", [])
        rows = self._rows(f"SELECT {COLUMNS} FROM journal WHERE seq > ? {which} ORDER BY seq", after, *values)
        return [self._entry(row) if row[1] else self._note(row) for row in rows]

    def last_seq(self) -> int:
        return int(self._rows("SELECT coalesce(max(seq), 0) FROM journal")[0][0])

    def claim_generation(self) -> int:
        with self._commit() as db:
            db.execute("UPDATE generations SET last = last + 1")
            return int(db.execute("SELECT last FROM generations").fetchone()[0])

    def burn_generations(self, upto: int) -> None:
        with self._commit() as db:
            db.execute("UPDATE generations SET last = max(last, ?)", (upto,))

    def lease_slots(self, service: ServiceName, colour: Colour, count: int, free: Sequence[str]) -> tuple[str, ...]:
        with self._commit() as db:
            held = db.execute(
                "SELECT address FROM slots WHERE service = ? AND colour = ? ORDER BY ordinal", (service, colour)
            ).fetchall()
            addresses = [str(row[0]) for row in held if row[0] in free][:count]
            if len(held) > len(addresses) < count:  # the network was made anew with another subnet
                db.execute("DELETE FROM slots WHERE service = ? AND colour = ?", (service, colour))
                addresses = []
            used = {row[0] for row in db.execute("SELECT address FROM slots")}
            left = (address for address in free if address not in used)
            while len(addresses) < count:
                address = next(left, None)
                if address is None:
                    raise AddressTaken(
                        f"the slot network has no address left for {service} {colour}",
                        next_step="lower `replicas`, or remove services that are gone with `proxyctl prune`",
                    )
                db.execute("INSERT INTO slots VALUES (?, ?, ?, ?)", (address, service, colour, len(addresses)))
                addresses.append(address)
        return tuple(addresses)

    def ask(self, service: ServiceName, rollout: str, event: Event) -> int:
        asked = (service, rollout, _json(event))
        with self._commit() as db:
            cursor = db.execute("INSERT INTO requests (service, rollout, event) VALUES (?, ?, ?)", asked)
            return int(cursor.lastrowid or 0)

    def take(self, service: ServiceName, rollout: str) -> list[Event]:
        query = "SELECT rollout, event FROM requests WHERE service = ? AND taken = 0 ORDER BY id"
        if not self._rows(query, service):
            return []
        with self._commit() as db:
            rows = db.execute(query, (service,)).fetchall()
            db.execute("UPDATE requests SET taken = 1 WHERE service = ? AND taken = 0", (service,))
        return [self._decoded(Event, text) for asked_of, text in rows if asked_of == rollout]

    def taken(self, request: int) -> bool:
        return bool(self._rows("SELECT taken FROM requests WHERE id = ?", request)[0][0])

    def _entry(self, row: tuple[Any, ...]) -> Entry:
        seq, service, rollout, at, fence, event = row
        return Entry(seq=seq, service=service, rollout=rollout, at=at, fence=fence, event=self._decoded(Event, event))

    def _note(self, row: tuple[Any, ...]) -> Note:
        seq, _, _, at, _, event = row
        return Note(seq=seq, at=at, event=self._decoded(ProjectEvent, event))

    # --- inside -------------------------------------------------------------------------------------------------

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with _named_errors(self._path):
            return self._db.execute(query, values).fetchall()

    @contextmanager
    def _commit(self) -> Iterator[sqlite3.Connection]:
        with _named_errors(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _unsynced(self) -> Iterator[None]:
        """What is committed within."""
        with _named_errors(self._path):
            self._db.execute(SYNCED_LATER)
            try:
                yield
            finally:
                self._db.execute(SYNCED)

    def _check_fence(self, db: sqlite3.Connection, service: ServiceName, fence: int) -> None:
        row = db.execute("SELECT fence FROM fences WHERE service = ?", (service,)).fetchone()
        if row is None or row[0] != fence:
            raise Fenced(
                f"another process took over {service} (fence {row[0] if row else 0}, ours is {fence})",
                serving="unchanged by this process",
                next_step=f"proxyctl status {service}",
            )

    def _decoded(self, hint: Any, text: str) -> Any:
        try:
            return decode(hint, json.loads(text))
        except (ValueError, TypeError) as error:  # another version's words, or damaged ones
            raise StateUnusable(
                f"the state file {self._path} holds what this version cannot read: {error}",
                serving="traffic stays as it is",
                next_step="use the version of proxyctl that wrote it; else bring the file back from a backup",
            ) from error


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StateUnusable(
            f"the state file {path} cannot be used: {error}",
            serving="traffic stays as it is",
            next_step="check the file's folder: free space, owner, read-only mount",
        ) from error


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    version = _version(db, path)
    db.execute(SYNCED)
    if version != SCHEMA_VERSION:
        _create(db, path)
    return db


def _open_to_read(path: Path) -> sqlite3.Connection:
    """What an older version wrote is read as a copy; one that this version opens to write is brought up to date."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    if path.exists():
        db = _opened_where_it_may_be(path)
        if _version(db, path) == SCHEMA_VERSION:
            return db
        db.backup(copy)
        db.close()
    copy.executescript("".join(SCHEMA[_version(copy, path) :]))
    return copy


def _opened_where_it_may_be(path: Path) -> sqlite3.Connection:
    """A WAL is made by whoever opens the file. Where it cannot be made, and lies not beside it, nobody writes the file:
    then it can be read without."""
    db = _opened_as(path, "mode=rw")
    try:
        _version(db, path)
    except sqlite3.OperationalError as error:
        db.close()
        if error.sqlite_errorcode != sqlite3.SQLITE_CANTOPEN or path.with_name(f"{path.name}-wal").exists():
            raise
        return _opened_as(path, "mode=ro&immutable=1")
    return db


def _opened_as(path: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?{how}", timeout=BUSY_TIMEOUT_S, isolation_level=None, uri=True)


def _version(db: sqlite3.Connection, path: Path) -> int:
    """Of its schema; 0 where it has none yet. Raises StateUnusable for one that a newer proxyctl wrote."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        db.close()
        raise StateUnusable(
            f"the state file {path} was written by a newer proxyctl (schema {version}, not {SCHEMA_VERSION})",
            serving="traffic stays as it is",
            next_step="use the newer proxyctl",
        )
    return version


def _create(db: sqlite3.Connection, path: Path) -> None:
    """Two processes may come here at once: the second finds the work done. SQLite itself does not wait for its turn to
    change the journal mode."""
    with told_in_words(path.parent), path.with_name(f"{path.name}.creating").open("a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("BEGIN IMMEDIATE")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        for statement in "".join(SCHEMA[version:]).split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")


def _json(value: Any) -> str:
    return json.dumps(encode(value), separators=(",", ":"))
