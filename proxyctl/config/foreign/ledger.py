"""Say of every key of somebody else's file what becomes of it. Nothing is dropped without a word.

A translator reads a Part and tells of what it read; what nobody told of is told as not carried. Start at Part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from proxyctl.config import document as tree
from proxyctl.config import grammar
from proxyctl.config.document import Document, Location, Node, Value, dotted, place_of, place_of_key
from proxyctl.config.problems import Place, Problem, shown


class Fate(StrEnum):
    CARRIED = "carried"
    NO_NEED = "no need"  # it has no meaning here, or what it asks for is so anyway
    NOT_CARRIED = "not carried"
    FILL_IN = "fill in"  # by a person, where a comment stands in the new file


class Told(NamedTuple):
    """`rollout.yml:14:11: spec.strategy.canary.steps.0.setWeight: carried: a step of weight 20`"""

    file: Path
    place: Place
    key: str
    fate: Fate
    words: str

    def __str__(self) -> str:
        return str(Problem(self.file, self.place, self.key, f"{self.fate}: {self.words}"))


class Ledger:
    """Of one document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._told: dict[Location, Told] = {}
        self._around: set[Location] = set()

    def tell(self, location: Location, fate: Fate, words: str) -> None:
        """Of all that stands there. What was said of it first stays said."""
        place = place_of_key(self._document.root, location)
        said = Told(self._document.path, place, dotted(location), fate, words)
        if self._told.setdefault(location, said) is said:
            self._around.update(location[:depth] for depth in range(len(location)))

    def is_told_below(self, location: Location) -> bool:
        return location in self._around

    def line(self, location: Location) -> int:
        return place_of(self._document.root, location).line

    def lines(self) -> list[Told]:
        """In the order of the file."""
        for location in list(self._untold(self._document.root, ())):
            self.tell(location, Fate.NOT_CARRIED, "nothing here is like it")
        return sorted(self._told.values(), key=lambda told: told.place)

    def _untold(self, node: Node, location: Location) -> Iterator[Location]:
        if location in self._told:
            return
        if location not in self._around:
            yield location
            return
        for part, below in _below(node):
            yield from self._untold(below, (*location, part))


_UP_TO_A_YEAR = grammar.duration("0s", "8760h")


def _seconds(text: str) -> float:
    if text.isdecimal():
        return float(text)
    return _UP_TO_A_YEAR(text) if grammar.DURATION.fullmatch(text) else grammar.compose_duration(text)


def _below(node: Node) -> Iterator[tuple[str | int, Node]]:
    match node:
        case tree.Mapping(entries=entries):
            yield from ((key, entry.node) for key, entry in entries.items())
        case tree.Sequence(items=items):
            yield from enumerate(items)


@dataclass(frozen=True, slots=True)
class Part:
    """A mapping of the file. Reading a key says nothing of it: that is for who knows what it becomes."""

    ledger: Ledger
    location: Location
    value: Mapping[str, Value]

    def __contains__(self, key: str) -> bool:
        return self.value.get(key) is not None

    def __getitem__(self, key: str) -> Value:
        return self.value.get(key)

    @property
    def line(self) -> int:
        return self.ledger.line(self.location)

    # --- what stands below ---

    def part(self, *keys: str) -> Part:
        """The mapping there, or an empty one."""
        if not keys:
            return self
        below = self.value.get(keys[0])
        inner = Part(self.ledger, (*self.location, keys[0]), below if isinstance(below, dict) else {})
        return inner.part(*keys[1:])

    def parts(self, key: str) -> list[Part]:
        """The mappings of a list, those that are none left out."""
        listed = self.value.get(key)
        found = enumerate(listed if isinstance(listed, list) else ())
        return [Part(self.ledger, (*self.location, key, at), each) for at, each in found if isinstance(each, dict)]

    def text(self, key: str) -> str | None:
        found = self.value.get(key)
        if isinstance(found, str) or found is None:
            return found
        self._wrong(key, "text")
        return None

    def whole(self, key: str) -> int | None:
        found = self.value.get(key)
        if found is None or (isinstance(found, int) and not isinstance(found, bool) and found >= 0):
            return found
        self._wrong(key, "a whole number")
        return None

    def number(self, key: str) -> float | None:
        found = self.value.get(key)
        if found is None or (isinstance(found, (int, float)) and not isinstance(found, bool)):
            return found
        self._wrong(key, "a number")
        return None

    def truth(self, key: str) -> bool | None:
        found = self.value.get(key)
        if isinstance(found, bool) or found is None:
            return found
        self._wrong(key, "true or false")
        return None

    def seconds(self, key: str) -> float | None:
        """Of `30`, "30", `30s` or `1h30m`."""
        found = self.value.get(key)
        try:
            if isinstance(found, int) and not isinstance(found, bool) and found >= 0:
                return float(found)
            if isinstance(found, str):
                return _seconds(found)
        except ValueError:
            pass
        if found is not None:
            self._wrong(key, "a duration such as 30s or 10m")
        return None

    def _wrong(self, key: str, expected: str) -> None:
        self.not_carried(key, f"{shown(self.value.get(key))} is not {expected}")

    # --- what becomes of it ---

    def carried(self, key: str, words: str) -> None:
        self._tell(key, Fate.CARRIED, words)

    def no_need(self, key: str, words: str) -> None:
        self._tell(key, Fate.NO_NEED, words)

    def not_carried(self, key: str, words: str) -> None:
        self._tell(key, Fate.NOT_CARRIED, words)

    def fill_in(self, key: str, words: str) -> None:
        self._tell(key, Fate.FILL_IN, words)

    def no_needs(self, words: Mapping[str, str]) -> None:
        self._tell_each(Fate.NO_NEED, words)

    def none_carried(self, words: Mapping[str, str]) -> None:
        self._tell_each(Fate.NOT_CARRIED, words)

    def _tell_each(self, fate: Fate, words: Mapping[str, str]) -> None:
        for key in self.value:
            if key in words:
                self._tell(key, fate, words[key])

    def _tell(self, key: str, fate: Fate, words: str) -> None:
        """Of a key that is not written nothing is told; "" is the part itself."""
        if not key or key in self.value:
            self.ledger.tell((*self.location, key) if key else self.location, fate, words)
