"""Take container definitions from a Compose file. Never writes to it, never starts what it describes.

Only the services that `proxyctl.yml` names are looked at. What plainly matters to Compose alone is left out with a
warning; any other key that we do not carry is a problem. Start at inherited().
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from proxyctl.config import document as tree
from proxyctl.config.container import ContainerFile, Definition, defined
from proxyctl.config.document import Document, Entry, Location, Node, Scalar, Sequence, Value, dotted, parse, value_of
from proxyctl.config.interpolate import dotenv, replaced
from proxyctl.config.problems import Problem, shown
from proxyctl.config.shape import Findings, shaped
from proxyctl.config.source import text_of

ONLY_COMPOSE = (
    "attach",
    "build",
    "container_name",
    "depends_on",
    "develop",
    "expose",
    "ports",
    "profiles",
    "pull_policy",
    "scale",
)

_NOT_IN_PROJECT = re.compile(r"[^a-z0-9_-]", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """By service, what a Compose file says of its container."""

    definitions: Mapping[str, Definition] = field(default_factory=dict)
    findings: Findings | None = None
    warnings: tuple[Problem, ...] = ()


def inherited(path: Path, wanted: Iterable[str], environment: Mapping[str, str]) -> Inherited:
    """The definitions of the wanted services that the file has. Raises Unreadable."""
    document = parse(path)
    reading = _Reading(document, _variables(path, environment), frozenset(wanted))
    definitions = {name: reading.definition(name) for name in reading.taken}
    return Inherited(definitions=definitions, findings=reading.findings, warnings=tuple(reading.warnings))


def services_of(path: Path) -> Mapping[str, Value]:
    """Every service as it is written, variables unreplaced. Raises Unreadable."""
    return {name: value_of(entry.node) for name, entry in _below(parse(path).root, "services").items()}


def _variables(path: Path, environment: Mapping[str, str]) -> Mapping[str, str]:
    """The environment, then the `.env` beside the file, as Compose has it. Raises Unreadable."""
    beside = path.parent / ".env"
    return (dotenv(text_of(beside)) if beside.exists() else {}) | dict(environment)


class _Reading:
    """One Compose file being read."""

    def __init__(self, document: Document, variables: Mapping[str, str], wanted: frozenset[str]) -> None:
        self._document = document
        self._variables = variables
        self._services = _below(document.root, "services")
        self.taken = tuple(name for name in self._services if name in wanted)
        self._left = tuple(name for name in self._services if name not in wanted)
        self.findings = Findings(document)
        self.warnings: list[Problem] = []
        if "include" in document.root.entries:
            self.findings.key(("include",), "not carried; name the file that has the services")

    def definition(self, name: str) -> Definition:
        location: Location = ("services", name)
        node = self._services[name].node
        if not isinstance(node, tree.Mapping):
            self.findings.value(location, "write a mapping, such as image: shop/web")
            return Definition({})
        value = value_of(self._replaced(self._carried(node, location), location))
        assert isinstance(value, dict)
        file = shaped(ContainerFile, value, self.findings, location)
        return self._renamed(defined(file, self._document.path.parent), location)

    # --- keys that matter to Compose alone ---

    def _carried(self, node: tree.Mapping, location: Location) -> tree.Mapping:
        """The service without what we may leave out."""
        left_out = {key: words for key in node.entries if (words := _reason_to_leave_out(key, node.entries[key].node))}
        for key, words in left_out.items():
            self._warn((*location, key), f"left out: {words}")
        kept = {key: entry for key, entry in node.entries.items() if key not in left_out and not key.startswith("x-")}
        return tree.Mapping(node.place, kept)

    def _warn(self, location: Location, words: str) -> None:
        place = tree.place_of_key(self._document.root, location)
        self.warnings.append(Problem(self._document.path, place, dotted(location), words))

    # --- variables ---

    def _replaced(self, node: Node, location: Location) -> Node:
        """The node with its variables replaced. What a variable gives is text, as it is to Compose."""
        match node:
            case Scalar():
                return self._replaced_text(node, location)
            case Sequence():
                items = (self._replaced(item, (*location, at)) for at, item in enumerate(node.items))
                return Sequence(node.place, tuple(items))
            case tree.Mapping():
                entries = {
                    key: Entry(entry.place, self._replaced(entry.node, (*location, key)))
                    for key, entry in node.entries.items()
                }
                return tree.Mapping(node.place, entries)

    def _replaced_text(self, node: Scalar, location: Location) -> Scalar:
        if not isinstance(node.value, str) or "$" not in node.value:
            return node
        try:
            return Scalar(node.place, replaced(node.value, self._variables))
        except ValueError as error:
            self.findings.value(location, str(error))
            return Scalar(node.place, "")

    # --- networks and volumes, which Docker knows by other names than the file does ---

    def _renamed(self, definition: Definition, location: Location) -> Definition:
        given = dict(definition.given)
        if networks := self._networks(given.get("networks"), location):
            given["networks"] = networks
        if "volumes" in given:
            given["volumes"] = tuple(self._volume(each, location) for each in given["volumes"])
        return Definition(given)

    def _networks(self, written: tuple[str, ...] | None, location: Location) -> tuple[str, ...]:
        """Those written; else Compose's default network, when services are on it that stay with Compose."""
        if written is not None:
            return tuple(self._real("networks", each, (*location, "networks")) for each in written)
        if not self._left:
            return ()
        default = self._real("networks", "default", location)
        self._warn(location, f"joins the network {default}, to reach what stays with Compose: {', '.join(self._left)}")
        return (default,)

    def _volume(self, volume: str, location: Location) -> str:
        source, _, rest = volume.partition(":")
        if source.startswith("/"):
            return volume
        return f"{self._real('volumes', source, (*location, 'volumes'))}:{rest}"

    def _real(self, kind: str, key: str, user: Location) -> str:
        """What Docker calls the network or volume that the file calls `key`."""
        declared = _below(self._document.root, kind)
        if key not in declared and key != "default":
            self.findings.value(user, f"{shown(key)} is not declared under {kind}; declare it there")
        settings = self._plain(declared[key], (kind, key)) if key in declared else None
        options = settings if isinstance(settings, dict) else {}
        if isinstance(name := options.get("name"), str):
            return name
        return key if options.get("external") is True else f"{self._project}_{key}"

    @cached_property
    def _project(self) -> str:
        """The Compose project's name, by Compose's own rules."""
        if stated := self._variables.get("COMPOSE_PROJECT_NAME"):
            return stated
        if "name" in self._document.root.entries:
            return str(self._plain(self._document.root.entries["name"], ("name",)))
        return _NOT_IN_PROJECT.sub("", self._document.path.absolute().parent.name.lower()).lstrip("_-")

    def _plain(self, entry: Entry, location: Location) -> Value:
        return value_of(self._replaced(entry.node, location))


def _reason_to_leave_out(key: str, node: Node) -> str:
    """Empty for a key that is not to be left out."""
    if key in ONLY_COMPOSE:
        return "it matters to Compose alone"
    if key == "deploy" and isinstance(node, tree.Mapping) and set(node.entries) <= {"replicas"}:
        return "write replicas in proxyctl.yml"
    return ""


def _below(root: tree.Mapping, key: str) -> Mapping[str, Entry]:
    """The entries of a mapping at the top level, none where it is not there."""
    entry = root.entries.get(key)
    return entry.node.entries if entry is not None and isinstance(entry.node, tree.Mapping) else {}
