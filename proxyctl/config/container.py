"""A container definition as a file has it: Compose's forms of the keys that we carry, and no other key.

`proxyctl.yml` and the Compose file are read by the same model. defined() takes what one of them says, over() lays
one on the other, to_domain() is the way into the domain. Never reads a file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, Tag, model_validator

from proxyctl.config import fields, grammar
from proxyctl.config.fields import ALONE, LISTED, MAPPED, Read, forms
from proxyctl.domain.model import Container, DockerHealth, Pairs


class Strict(BaseModel):
    """A mapping of a file: unknown keys are problems, and what was read never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


# --- volumes ----------------------------------------------------------------------------------------------------


class Mount(Strict):
    """A volume in Compose's long form."""

    type: Annotated[str, fields.one_of("bind", "volume", later=("tmpfs", "npipe", "cluster"))]
    source: fields.File
    target: fields.Inside
    read_only: fields.Truth = False

    @model_validator(mode="after")
    def _as_in_short(self) -> Self:
        """Both forms keep the same rules."""
        self.short()
        return self

    def short(self) -> str:
        source = self.source if self.type == "volume" or _is_path(self.source) else f"./{self.source}"
        return volume(f"{source}:{self.target}" + (":ro" if self.read_only else ""))


def volume(value: Any) -> str:
    """`source:target[:ro]`; the source is a path or the name of a volume. Raises ValueError."""
    source, colon, rest = grammar.line(value).partition(":")
    target, _, mode = rest.partition(":")
    if not colon or not source:
        raise ValueError("a volume needs a name or a folder; write source:target, such as data:/data")
    if mode not in ("", "ro", "rw"):
        raise ValueError(f"the mode {mode} is not carried; write ro or nothing after the target")
    return f"{_source(source)}:{grammar.inside(target)}" + (":ro" if mode == "ro" else "")


def _source(text: str) -> str:
    if not _is_path(text):
        return grammar.docker_name(text)
    path = grammar.file(text)
    if path.startswith("/") and any(part in (".", "..") for part in path.split("/")):
        raise ValueError("an absolute path has no . or .. parts")
    return path


def _is_path(source: str) -> bool:
    return source.startswith(("/", ".", "~"))


Volume = Annotated[
    Annotated[str, Read(volume, {"type": "string", "examples": ["data:/data", "./site:/site:ro"]}), Tag(ALONE)]
    | Annotated[Mount, Tag(MAPPED)],
    forms("source:target[:ro], or a mapping with type, source and target"),
]


# --- the definition ---------------------------------------------------------------------------------------------


class Healthcheck(Strict):
    """Docker's own HEALTHCHECK, given to the engine as it stands."""

    test: Annotated[
        Annotated[tuple[fields.Word, ...], Tag(LISTED)]
        | Annotated[str, Read(grammar.block, {"type": "string"}), Tag(ALONE)],
        forms("a command line, or a list that begins with CMD, CMD-SHELL or NONE"),
    ] = ()
    interval: fields.ComposeDuration | None = None
    timeout: fields.ComposeDuration | None = None
    start_period: fields.ComposeDuration | None = None
    retries: Annotated[int, fields.counted(1, 100)] | None = None
    disable: fields.Truth = False

    def to_domain(self) -> DockerHealth:
        return DockerHealth(
            test=("NONE",) if self.disable else ("CMD-SHELL", self.test) if isinstance(self.test, str) else self.test,
            interval=self.interval,
            timeout=self.timeout,
            start_period=self.start_period,
            retries=self.retries,
        )


class ContainerFile(Strict):
    """The keys of a Compose service that we carry."""

    image: Annotated[fields.Image | None, Field(description="What the replicas run.")] = None
    command: fields.Command | None = None
    entrypoint: fields.Command | None = None
    environment: Annotated[fields.Environment, Field(description="env:NAME and file:PATH stand for secrets.")] = ()
    env_file: Annotated[fields.Files, Field(description="Read when a container is created.")] = ()
    volumes: Annotated[tuple[Volume, ...], Field(max_length=64)] = ()
    networks: Annotated[fields.Networks, Field(description="Existing Docker networks, by name.")] = ()
    labels: fields.Labels = ()
    healthcheck: Healthcheck | None = None
    user: Annotated[str, Read(grammar.user, {"type": ["string", "integer"]})] | None = None
    working_dir: fields.Inside | None = None
    stop_signal: Annotated[str, Read(grammar.stop_signal, {"type": ["string", "integer"]})] | None = None
    stop_grace_period: fields.ComposeDuration = fields.written("10s")
    init: fields.Truth | None = None
    restart: Annotated[
        str, Read(grammar.restart, {"type": "string", "examples": ["unless-stopped", "on-failure:3"]})
    ] = "unless-stopped"


# --- one form of each key ---------------------------------------------------------------------------------------


class Definition(NamedTuple):
    """A container definition in one form of each key, paths absolute. Holds only what was written."""

    given: dict[str, Any]

    def over(self, inherited: Definition) -> Definition:
        """This laid over the inherited one: variables and labels by name, volumes by target, the rest whole."""
        merged = inherited.given | self.given
        for key, name_of in _MERGED.items():
            if key in inherited.given and key in self.given:
                own = {name_of(item) for item in self.given[key]}
                kept = tuple(item for item in inherited.given[key] if name_of(item) not in own)
                merged[key] = kept + self.given[key]
        return Definition(merged)

    def to_domain(self) -> Container:
        return Container(**self.given)


def defined(file: ContainerFile, folder: Path) -> Definition:
    """What the file says, its relative paths taken from this folder."""
    return Definition({key: _ONE_FORM[key](getattr(file, key), folder) for key in sorted(file.model_fields_set)})


def mounted_at(volume: str) -> str:
    return volume.split(":")[1]


def _first(pair: tuple[str, str]) -> str:
    return pair[0]


_MERGED: dict[str, Callable[[Any], str]] = {"environment": _first, "labels": _first, "volumes": mounted_at}


def _as_it_is(value: Any, _folder: Path) -> Any:
    return value


def _pairs(value: Any, _folder: Path) -> Pairs:
    return tuple(value.items()) if isinstance(value, dict) else value


def _environment(value: Any, folder: Path) -> Pairs:
    """A variable without value is taken from the environment at the start, as Compose does."""
    pairs = _pairs(value, folder)
    return tuple((name, f"env:{name}" if text is None else _reference(text, folder)) for name, text in pairs)


def _reference(text: str, folder: Path) -> str:
    kind, _, named = text.partition(":")
    return f"file:{_absolute(named, folder)}" if kind == "file" else text


def _files(value: Any, folder: Path) -> tuple[str, ...]:
    return tuple(_absolute(each, folder) for each in value)


def _volumes(value: Any, folder: Path) -> tuple[str, ...]:
    return tuple(_bound(each if isinstance(each, str) else each.short(), folder) for each in value)


def _bound(text: str, folder: Path) -> str:
    source, _, rest = text.partition(":")
    return f"{_absolute(source, folder)}:{rest}" if _is_path(source) else text


def _absolute(path: str, folder: Path) -> str:
    return os.path.normpath(folder / path)


_ONE_FORM: dict[str, Callable[[Any, Path], Any]] = {
    **dict.fromkeys(ContainerFile.model_fields, _as_it_is),
    "command": lambda value, _: tuple(value),
    "environment": _environment,
    "env_file": _files,
    "volumes": _volumes,
    "networks": lambda value, _: tuple(value),
    "labels": _pairs,
    "healthcheck": lambda value, _: value.to_domain(),
}
