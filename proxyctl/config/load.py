"""Read `proxyctl.yml` whole: domain objects, or every problem at once. Changes nothing, asks neither Docker nor nginx.

    parse (document.py)      YAML with a place for everything
    shape (shape.py)         each key by its own grammar (schema.py, fields.py, grammar.py)
    inherit (compose.py)     container definitions from a Compose file
    rules (rules.py)         what the keys mean together
    bridge (bridge.py)       domain objects, with warnings of what was perhaps not meant (doubts.py)

Start at load(). The hot commands come in by places.py instead and import nothing of this.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from proxyctl.config.bridge import service_of, settings_of
from proxyctl.config.compose import Inherited, Wanted, inherited
from proxyctl.config.definition import Definition, defined
from proxyctl.config.document import Document, parse, value_of
from proxyctl.config.doubts import doubts
from proxyctl.config.places import HOOKS
from proxyctl.config.problems import Problem, displayed, shown
from proxyctl.config.rules import held
from proxyctl.config.schema import ProjectFile
from proxyctl.config.shape import Findings, shaped
from proxyctl.config.source import Unreadable, bytes_of
from proxyctl.config.strategy import StrategyFile
from proxyctl.domain.codec import encode
from proxyctl.domain.model import ProxySettings, Service
from proxyctl.domain.steps import Hook
from proxyctl.domain.windows import Window
from proxyctl.errors import ConfigRejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """One `proxyctl.yml` in the words of the domain."""

    project: str
    path: Path  # of the file, absolute
    settings: ProxySettings
    services: tuple[Service, ...]  # in the order of the file
    windows: tuple[Window, ...] = ()  # when releases may be started; none: always
    warnings: tuple[str, ...] = ()  # one line each, as problems are


def load(path: Path, environment: Mapping[str, str] = os.environ) -> Project:
    """Raises ConfigRejected with every problem of the file, and of the Compose file that it names."""
    path = path.absolute()
    try:
        return _Loading(parse(path), environment).project()
    except Unreadable as error:
        raise _rejected(path, [error.problem]) from error


def config_digest(service: Service) -> str:
    """Of the definition and the contents of its env_files: equal exactly when a new release would be the same but for
    its image. Raises ConfigRejected when an env_file cannot be read."""
    digest = hashlib.sha256(json.dumps(encode(service), sort_keys=True, separators=(",", ":")).encode())
    for name in service.container.env_file:
        try:
            digest.update(hashlib.sha256(bytes_of(Path(name))).digest())
        except Unreadable as error:
            raise _rejected(Path(name), [error.problem]) from error
    return f"sha256:{digest.hexdigest()}"


class _Loading:
    """One file being read."""

    def __init__(self, document: Document, environment: Mapping[str, str]) -> None:
        self._document = document
        self._environment = environment
        self._findings = Findings(document)
        value = value_of(document.root)
        assert isinstance(value, dict)
        self._file = shaped(ProjectFile, value, self._findings)

    def project(self) -> Project:
        from_compose = self._inherited()
        self._file = _completed(self._file, from_compose)
        definitions = dict(self._definitions(from_compose))
        held(self._file, definitions, self._findings)
        templates_digest = self._templates_digest()
        self._hooks_are_there()
        self._refuse(from_compose.findings)
        return Project(
            project=str(self._file.project),
            path=self._document.path,
            settings=settings_of(self._file, self._folder, templates_digest),
            services=tuple(
                service_of(name, file, definitions[name], self._folder) for name, file in self._file.services.items()
            ),
            windows=self._file.windows or (),
            warnings=tuple(
                str(warning) for warning in (*from_compose.warnings, *doubts(self._file, definitions, self._document))
            ),
        )

    def _inherited(self) -> Inherited:
        if self._file.compose is None:
            return Inherited()
        try:
            wanted = {
                name: Wanted(frozenset(service.allow), frozenset(service.model_fields_set))
                for name, service in self._file.services.items()
            }
            return inherited(self._folder / self._file.compose, wanted, self._environment)
        except Unreadable as error:
            self._findings.value(("compose",), f"{shown(self._file.compose)}: {error.problem}")
            return Inherited()

    def _templates_digest(self) -> str:
        """Of the folder's templates, so that a changed one is a changed setting. What is in them is not judged here."""
        if self._file.proxy.templates is None:
            return ""
        folder, digest = self._folder / self._file.proxy.templates, hashlib.sha256()
        if not folder.is_dir():
            self._findings.value(("proxy", "templates"), f"{displayed(folder)} is not a folder; make it")
        for path in sorted(folder.glob("*.j2")):
            try:
                digest.update(hashlib.sha256(path.name.encode() + b"\0" + bytes_of(path)).digest())
            except Unreadable as error:
                self._findings.value(("proxy", "templates"), f"{displayed(path)} {error.problem.wrong}")
        return f"sha256:{digest.hexdigest()}"

    def _hooks_are_there(self) -> None:
        for name, service in self._file.services.items():
            for step in service.strategy.steps:
                path = self._folder / HOOKS / step.name if isinstance(step, Hook) else None
                if path is not None and not os.access(path, os.X_OK):
                    wrong = f"there is no executable {displayed(path)}; make it, and chmod +x it"
                    self._findings.value(("services", name, "strategy"), wrong)

    def _definitions(self, from_compose: Inherited) -> Iterator[tuple[str, Definition]]:
        """Of each service whose Compose part, if it has one, is right."""
        for name, service in self._file.services.items():
            if from_compose.findings is None or not from_compose.findings.touch(("services", name)):
                base = from_compose.definitions.get(name, Definition({}))
                yield name, defined(service.container, self._folder).over(base)

    def _refuse(self, of_compose: Findings | None) -> None:
        problems = self._findings.problems + (of_compose.problems if of_compose else [])
        if problems:
            raise _rejected(self._document.path, problems)

    @property
    def _folder(self) -> Path:
        return self._document.path.parent


def _completed(file: ProjectFile, from_compose: Inherited) -> ProjectFile:
    """With the strategies and the numbers of replicas that the Compose file has."""
    services = dict(file.services)
    for name, replicas in from_compose.replicas.items():
        services[name] = services[name].model_copy(update={"replicas": replicas})
    for name, rolling in from_compose.rolling.items():
        strategy = StrategyFile.model_validate({"rolling": rolling})
        services[name] = services[name].model_copy(update={"strategy": strategy})
    return file.model_copy(update={"services": services})


def _rejected(path: Path, problems: list[Problem]) -> ConfigRejected:
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    words = tuple(str(problem) for problem in problems)
    return ConfigRejected(f"{displayed(path)} has {count}", words, next_step="mend them, then proxyctl check")
