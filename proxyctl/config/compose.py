"""Take container definitions from a Compose file, and how replicas change places. Never writes to it, never starts what
it describes.

Only the services that `proxyctl.yml` names are looked at. What is left out is told in a warning each, and what cannot
be had without Compose is a problem (compose_keys.py). Start at inherited().
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from proxyctl.config import document as tree
from proxyctl.config import engine_grammar
from proxyctl.config.compose_keys import (
    BESIDE,
    REPLICAS,
    UPDATE_CONFIG,
    entries_at,
    is_label_of_another_proxy,
    is_variable_of_another_proxy,
    sifted,
)
from proxyctl.config.container import ContainerFile
from proxyctl.config.definition import Definition, defined
from proxyctl.config.document import Document, Entry, Location, Node, Scalar, Sequence, Value, dotted, parse, value_of
from proxyctl.config.interpolate import replaced
from proxyctl.config.mounts import is_path, source_of
from proxyctl.config.problems import Problem, shown
from proxyctl.config.rolling import MOST_REPLICAS, UpdateConfigFile
from proxyctl.config.shape import Findings, shaped
from proxyctl.config.source import text_of
from proxyctl.domain import env_file
from proxyctl.domain.container import HOST_NETWORK

_OF_OTHER_PROXIES = {"labels": is_label_of_another_proxy, "environment": is_variable_of_another_proxy}
_NOT_IN_PROJECT = re.compile(r"[^a-z0-9_-]", re.ASCII)


class Wanted(NamedTuple):
    """What `proxyctl.yml` says of a service that is to inherit."""

    allow: frozenset[str]
    written: frozenset[str]  # its keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """By service, what a Compose file says of its container, and of what is not written beside it."""

    definitions: Mapping[str, Definition] = field(default_factory=dict)
    rolling: Mapping[str, UpdateConfigFile] = field(default_factory=dict)
    replicas: Mapping[str, int] = field(default_factory=dict)
    findings: Findings | None = None
    warnings: tuple[Problem, ...] = ()


def inherited(path: Path, wanted: Mapping[str, Wanted], environment: Mapping[str, str]) -> Inherited:
    """What the file has of the wanted services. Raises Unreadable."""
    document = parse(path)
    reading = _Reading(document, _variables(path, environment), wanted)
    definitions = {name: reading.definition(name) for name in reading.taken}
    rolling = {name: reading.rolling(name) for name in reading.taken if reading.takes(name, UPDATE_CONFIG)}
    replicas = {
        name: reading.replicas(name, at) for at in REPLICAS for name in reading.taken if reading.takes(name, at)
    }
    warnings = tuple(sorted(reading.warnings, key=lambda warning: warning.place))
    return Inherited(
        definitions=definitions, rolling=rolling, replicas=replicas, findings=reading.findings, warnings=warnings
    )


def services_of(path: Path) -> Mapping[str, Value]:
    """Every service as it is written, variables unreplaced. Raises Unreadable."""
    return {name: value_of(entry.node) for name, entry in _below(parse(path).root, "services").items()}


def _variables(path: Path, environment: Mapping[str, str]) -> Mapping[str, str]:
    """The environment, then the `.env` beside the file, as Compose has it. Raises Unreadable."""
    beside = path.parent / ".env"
    return (env_file.variables(text_of(beside)) if beside.exists() else {}) | dict(environment)


class _Reading:
    """One Compose file being read."""

    def __init__(self, document: Document, variables: Mapping[str, str], wanted: Mapping[str, Wanted]) -> None:
        self._document = document
        self._variables = variables
        self._wanted = wanted
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
        service = self._replaced(self._carried(node, name), location)
        assert isinstance(service, tree.Mapping)
        value = value_of(self._granted(self._granted(service, "secrets", location), "configs", location))
        assert isinstance(value, dict)
        file = shaped(ContainerFile, value, self.findings, location)
        definition = self._without_other_proxies(defined(file, self._document.path.parent), location)
        return self._renamed(definition, location)

    def takes(self, name: str, below: Location) -> bool:
        """Whether what stands there counts for the service, that has no key of its own for it."""
        if BESIDE[below] in self._wanted[name].written:
            return False
        alike = [location for location, key in BESIDE.items() if key == BESIDE[below]]
        return below == next((location for location in alike if self._stands(name, location)), None)

    def rolling(self, name: str) -> UpdateConfigFile:
        """As the file takes it from update_config."""
        location: Location = ("services", name, *UPDATE_CONFIG)
        value = self._value(name, UPDATE_CONFIG)
        if isinstance(value, dict):
            return shaped(UpdateConfigFile, value, self.findings, location)
        self.findings.value(location, "write a mapping, such as order: start-first")
        return UpdateConfigFile()

    def replicas(self, name: str, below: Location) -> int:
        try:
            return engine_grammar.count(1, MOST_REPLICAS)(self._value(name, below))
        except ValueError as error:
            self.findings.value(("services", name, *below), f"{error}, or replicas beside container")
            return 1

    def _stands(self, name: str, below: Location) -> bool:
        return below[-1] in entries_at(self._services[name].node, below[:-1])

    def _value(self, name: str, below: Location) -> Value:
        """What stands there."""
        written = entries_at(self._services[name].node, below[:-1])[str(below[-1])]
        return value_of(self._replaced(written.node, ("services", name, *below)))

    # --- what is not for us ---

    def _carried(self, node: tree.Mapping, name: str) -> tree.Mapping:
        """The service without what is left out or refused."""
        service = sifted(node, self._wanted[name].allow)
        for below, why in service.left_out.items():
            self._warn(("services", name, *below), self._becomes_of(name, below) or f"left out: {why}")
        for below, why in service.refused.items():
            self.findings.key(("services", name, *below), f"not carried; {why}")
        return service.kept

    def _becomes_of(self, name: str, below: Location) -> str:
        """Of what has a key of its own beside container; empty for all else."""
        own = BESIDE.get(below, "")
        if own and self.takes(name, below):
            taken = "strategy: rolling" if below == UPDATE_CONFIG else f"replicas: {self._value(name, below)}"
            return f"taken as {taken}; {own} beside container would go before it"
        return f"left out: {own} beside container goes before it" if own in self._wanted[name].written else ""

    def _without_other_proxies(self, definition: Definition, location: Location) -> Definition:
        """What makes another proxy on this host route a container: it would route candidates, past the gate."""
        given = dict(definition.given)
        for key, is_theirs in _OF_OTHER_PROXIES.items():
            theirs = [name for name, _ in given.get(key, ()) if is_theirs(name)]
            if theirs:
                given[key] = tuple(pair for pair in given[key] if pair[0] not in theirs)
                self._warn((*location, key), f"left out, or another proxy would route candidates: {', '.join(theirs)}")
        return Definition(given)

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

    # --- secrets and configs, which the file declares apart ---

    def _granted(self, service: tree.Mapping, kind: str, location: Location) -> tree.Mapping:
        """The service with what each of its secrets or configs is, in the place of its name."""
        entry = service.entries.get(kind)
        if entry is None or not isinstance(entry.node, Sequence):
            return service
        items = (self._grant(item, kind, (*location, kind, at)) for at, item in enumerate(entry.node.items))
        granted = Entry(entry.place, Sequence(entry.node.place, tuple(items)))
        return tree.Mapping(service.place, service.entries | {kind: granted})

    def _grant(self, item: Node, kind: str, location: Location) -> Node:
        """One of them in the long form."""
        written = dict(item.entries) if isinstance(item, tree.Mapping) else {"source": Entry(item.place, item)}
        name = value_of(written["source"].node) if "source" in written else None
        if not isinstance(name, str):
            return item
        reference = self._reference(kind, name, location)
        for key in ("uid", "gid", "mode") if reference.startswith("file:") else ():
            if written.pop(key, None):
                self._warn((*location, key), "left out: a file is mounted as it is; change the file itself")
        written["source"] = Entry(item.place, Scalar(item.place, reference))
        written.setdefault("target", Entry(item.place, Scalar(item.place, name)))
        return tree.Mapping(item.place, written)

    def _reference(self, kind: str, name: str, user: Location) -> str:
        """What is declared by that name, as `proxyctl.yml` would have it."""
        declared = _below(self._document.root, kind)
        if name not in declared:
            self.findings.value(user, f"{shown(name)} is not declared under {kind}; declare it there")
            return "text:"
        settings = self._plain(declared[name], (kind, name))
        options = settings if isinstance(settings, dict) else {}
        for key, reference in (("file", "file"), ("environment", "env"), ("content", "text")):
            if isinstance(options.get(key), str):
                return f"{reference}:{options[key]}"
        self.findings.key((kind, name), "not carried: it lives outside of the file; write file or environment")
        return "text:"

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
        if written == (HOST_NETWORK,):
            return written
        if written is not None:
            return tuple(self._real("networks", each, (*location, "networks")) for each in written)
        if not self._left:
            return ()
        default = self._real("networks", "default", location)
        self._warn(location, f"joins the network {default}, to reach what stays with Compose: {', '.join(self._left)}")
        return (default,)

    def _volume(self, volume: str, location: Location) -> str:
        source = source_of(volume)
        if not source or is_path(source):
            return volume
        self._warn_of_driver(source)
        return self._real("volumes", source, (*location, "volumes")) + volume.removeprefix(source)

    def _warn_of_driver(self, source: str) -> None:
        """Compose makes such a volume; we would make one of the engine's own kind where it is missing."""
        settings = _below(self._document.root, "volumes").get(source)
        written = settings.node.entries if settings and isinstance(settings.node, tree.Mapping) else {}
        for key in ("driver", "driver_opts"):
            if key in written and value_of(written[key].node) != "local":
                self._warn(("volumes", source, key), "matters only to who makes the volume; docker volume create it")

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


def _below(root: tree.Mapping, key: str) -> Mapping[str, Entry]:
    """The entries of the mapping that stands there, none where it is not there."""
    entry = root.entries.get(key)
    return entry.node.entries if entry is not None and isinstance(entry.node, tree.Mapping) else {}
