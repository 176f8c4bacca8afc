"""Read YAML into a tree that knows where everything stands. Never guesses what a value means.

The events of libyaml are composed here instead of by PyYAML, because its loaders take the last of two equal keys, run
out of stack at a few hundred brackets, expand alias bombs and read `yes`, `010` and `1:30` as YAML 1.1 does. Start at
parse(), or at documents() where a file may hold several; place_of() finds a line and column again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import NamedTuple

import yaml
import yaml._yaml
from yaml import events

from proxyctl.config.problems import Place, Problem, shown
from proxyctl.config.source import Unreadable, text_of

MOST_EXPANSIONS = 100
MOST_NODES = 200_000  # once aliases are expanded; a file of 256 KiB has at most some 130,000 without
DEEPEST = 32

Location = tuple[str | int, ...]
Value = bool | int | float | str | list["Value"] | dict[str, "Value"] | None


class Doubtful(str):
    """Plain text that YAML readers disagree on: `yes`, `010`, `1:30`, `2024-01-02`, `1.10`, `1e3`. Never taken silently
    for a value of any type: where text is meant it is to be quoted."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Scalar:
    place: Place
    value: bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class Sequence:
    place: Place
    items: tuple[Node, ...]


class Entry(NamedTuple):
    place: Place  # of the key
    node: Node


@dataclass(frozen=True, slots=True)
class Mapping:
    place: Place
    entries: dict[str, Entry]


Node = Scalar | Sequence | Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    path: Path
    root: Mapping
    problems: tuple[Problem, ...] = ()  # what could be read around: duplicate keys, tags


def parse(path: Path) -> Document:
    """The file as a mapping. Raises Unreadable where nothing after the problem can be trusted."""
    composer = _Composer(path, text_of(path))
    root = composer.document()
    if not isinstance(root, Mapping):
        what = "the file is empty" if isinstance(root, Scalar) and root.value is None else "the file is not a mapping"
        raise Unreadable(Problem(path, root.place, "", f"{what}; write keys such as project: shop"))
    return Document(path=path, root=root, problems=tuple(composer.problems))


def documents(path: Path) -> Iterator[Document]:
    """Each document of the file that is not empty. Raises Unreadable, when it comes to it."""
    composer = _Composer(path, text_of(path))
    for root in composer.documents():
        if not isinstance(root, Mapping) and value_of(root) is not None:
            raise Unreadable(
                Problem(path, root.place, "", "the document is not a mapping; write keys such as kind: Rollout")
            )
        problems, composer.problems = tuple(composer.problems), []
        if isinstance(root, Mapping):
            yield Document(path=path, root=root, problems=problems)


def value_of(node: Node) -> Value:
    """The tree as plain values; doubtful text stays Doubtful."""
    match node:
        case Scalar():
            return node.value
        case Sequence():
            return [value_of(item) for item in node.items]
        case Mapping():
            return {key: value_of(entry.node) for key, entry in node.entries.items()}


def place_of(root: Node, location: Location) -> Place:
    """Where the value at this location stands, else the nearest thing around it."""
    return _nearest(root, location).node.place


def place_of_key(root: Node, location: Location) -> Place:
    """Where the last key of this location stands, else the nearest thing around it."""
    return _nearest(root, location).place


def written_at(root: Node, location: Location) -> Value:
    """What stands at this location, else in the nearest thing around it."""
    return value_of(_nearest(root, location).node)


def _nearest(root: Node, location: Location) -> Entry:
    entry = Entry(root.place, root)
    for part in location:
        match entry.node:
            case Mapping(entries=entries) if isinstance(part, str) and part in entries:
                entry = entries[part]
            case Sequence(items=items) if isinstance(part, int) and part < len(items):
                entry = Entry(items[part].place, items[part])
            case _:
                break
    return entry


class _Cost(NamedTuple):
    """What a part of the file amounts to when its aliases are expanded."""

    nodes: int
    expansions: int

    def and_(self, other: _Cost) -> _Cost:
        return _Cost(self.nodes + other.nodes, self.expansions + other.expansions)

    def since(self, before: _Cost) -> _Cost:
        return _Cost(self.nodes - before.nodes, self.expansions - before.expansions)


class _Composer:
    """Turns the event stream of one file into nodes. Anchors are shared, never copied."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._events = _events(path, text)
        self._anchors: dict[str, tuple[Node, _Cost]] = {}
        self._cost = _Cost(0, 0)  # of all that was read so far
        self.problems: list[Problem] = []

    def document(self) -> Node:
        next(self._events)  # stream start
        started = next(self._events)
        if isinstance(started, events.StreamEndEvent):
            return Scalar(Place(1, 1), None)
        root = self._node(next(self._events), ())
        next(self._events)  # document end
        following = next(self._events)
        if not isinstance(following, events.StreamEndEvent):
            raise self._fatal(_place(following), "a second document; keep one document in a file")
        return root

    def documents(self) -> Iterator[Node]:
        """Anchors are those of one document."""
        next(self._events)  # stream start
        while isinstance(next(self._events), events.DocumentStartEvent):
            self._anchors.clear()
            yield self._node(next(self._events), ())
            next(self._events)  # document end

    def _node(self, event: events.Event, trail: Location) -> Node:
        if isinstance(event, events.AliasEvent):
            return self._expanded(event)
        assert isinstance(event, events.NodeEvent)
        if len(trail) > DEEPEST:
            raise self._fatal(_place(event), f"more than {DEEPEST} levels of nesting")
        self._refuse_tag(event, trail)
        before = self._cost
        self._pay(event, _Cost(nodes=1, expansions=0))
        node = self._content(event, trail)
        if event.anchor is not None:
            self._anchors[event.anchor] = (node, self._cost.since(before))
        return node

    def _content(self, event: events.NodeEvent, trail: Location) -> Node:
        match event:
            case events.ScalarEvent():
                plain = event.style is None or event.style == ""
                return Scalar(_place(event), resolved(event.value) if plain else event.value)
            case events.SequenceStartEvent():
                return Sequence(_place(event), tuple(self._items(trail)))
            case _:
                return self._mapping(event, trail)

    def _items(self, trail: Location) -> Iterator[Node]:
        for index in count():
            event = next(self._events)
            if isinstance(event, events.SequenceEndEvent):
                return
            yield self._node(event, (*trail, index))

    def _mapping(self, start: events.Event, trail: Location) -> Mapping:
        own: dict[str, Entry] = {}
        merged: dict[str, Entry] = {}
        while not isinstance(event := next(self._events), events.MappingEndEvent):
            if isinstance(event, events.ScalarEvent) and event.value == "<<" and not event.style:
                source = self._node(next(self._events), (*trail, "<<"))
                merged = self._merged(_place(event), source, trail) | merged
            else:
                key = self._key(event, trail)
                self._add(own, key, Entry(_place(event), self._node(next(self._events), (*trail, key))), trail)
        return Mapping(_place(start), merged | own)

    def _key(self, event: events.Event, trail: Location) -> str:
        """The key as text; noted when it is not written as text."""
        node = self._node(event, (*trail, ""))
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(value, str) and not isinstance(value, Doubtful):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)  # a status as a key, which every YAML reader reads alike
        what = shown(value) if isinstance(node, Scalar) else "a list or mapping"
        self._note(_place(event), trail, f"{what} as a key is not text; write it in double quotes")
        return str(value)

    def _add(self, entries: dict[str, Entry], key: str, entry: Entry, trail: Location) -> None:
        first = entries.setdefault(key, entry)
        if first is not entry:
            self._note(entry.place, (*trail, key), f"written twice, first at line {first.place.line}; keep one")

    def _merged(self, place: Place, source: Node, trail: Location) -> dict[str, Entry]:
        sources = source.items if isinstance(source, Sequence) else (source,)
        entries: dict[str, Entry] = {}
        for each in sources:
            if isinstance(each, Mapping):
                entries = each.entries | entries  # the first of several wins
            else:
                self._note(place, (*trail, "<<"), "takes a mapping or a list of mappings, such as <<: *common")
        return entries

    def _expanded(self, alias: events.AliasEvent) -> Node:
        if alias.anchor is None or alias.anchor not in self._anchors:
            raise self._fatal(_place(alias), f"*{str(alias.anchor)[:40]} names no anchor that is complete before it")
        node, inside = self._anchors[alias.anchor]
        self._pay(alias, _Cost(nodes=inside.nodes, expansions=1 + inside.expansions))
        return node

    def _pay(self, event: events.Event, cost: _Cost) -> None:
        self._cost = self._cost.and_(cost)
        if self._cost.expansions > MOST_EXPANSIONS:
            raise self._fatal(_place(event), f"more than {MOST_EXPANSIONS} alias expansions; write the values out")
        if self._cost.nodes > MOST_NODES:
            raise self._fatal(_place(event), f"more than {MOST_NODES} values; write less, or alias less")

    def _refuse_tag(self, event: events.NodeEvent, trail: Location) -> None:
        tag: str | None = getattr(event, "tag", None)
        if tag is not None:
            self._note(_place(event), trail, f"YAML tag {shown(tag)} is not taken; remove it")

    def _note(self, place: Place, trail: Location, wrong: str) -> None:
        self.problems.append(Problem(self._path, place, dotted(trail), wrong))

    def _fatal(self, place: Place, wrong: str) -> Unreadable:
        return Unreadable(Problem(self._path, place, "", wrong))


def dotted(location: Location) -> str:
    return ".".join(str(part) for part in location)


def _events(path: Path, text: str) -> Iterator[events.Event]:
    try:
        yield from yaml.parse(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        words = " ".join(part for part in (error.context, error.problem) if part)
        raise Unreadable(
            Problem(path, _place_at(error.problem_mark, error.context_mark), "", f"not YAML: {words}")
        ) from None
    except yaml.YAMLError as error:
        raise Unreadable(Problem(path, Place(1, 1), "", f"not YAML: {shown(str(error))}")) from None


def _place(event: events.Event) -> Place:
    return _place_at(event.start_mark)


def _place_at(*marks: yaml.Mark | yaml._yaml.Mark | None) -> Place:
    return next((Place(mark.line + 1, mark.column + 1) for mark in marks if mark is not None), Place(1, 1))


_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,11})\.([0-9]{0,2}[1-9]|0)", re.ASCII)
_CONSTANTS: dict[str, bool | None] = {"": None, "~": None, "null": None, "true": True, "false": False}


def resolved(text: str) -> bool | int | float | str | None:
    """What a plain scalar means where every YAML reader agrees; Doubtful where they do not."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        return float(text)
    return text if _is_text_to_all(text) else Doubtful(text)


def _is_text_to_all(text: str) -> bool:
    tag: str = _yaml_1_1().resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    return tag == "tag:yaml.org,2002:str" and not _NUMBER_TO_SOME.fullmatch(text)


# Numbers in YAML 1.2 that YAML 1.1 reads as text.
_NUMBER_TO_SOME = re.compile(r"[-+]?([0-9]+|0o[0-7]+|0x[0-9a-fA-F]+|[0-9]*\.?[0-9]+[eE][-+]?[0-9]+)", re.ASCII)


@cache
def _yaml_1_1() -> yaml.resolver.Resolver:
    return yaml.resolver.Resolver()
