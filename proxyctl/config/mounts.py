"""What is mounted into a container, as Compose writes it: volumes, memory, secrets and configs. Never reads a file."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Tag, model_validator

from proxyctl.config import engine_grammar as engine
from proxyctl.config import fields, grammar
from proxyctl.config.fields import ALONE, LISTED, MAPPED, Read, Strict, alone, forms
from proxyctl.config.limits import Size, number
from proxyctl.domain.container import GrantedFile, Tmpfs

Truth = Annotated[bool, Read(engine.truth, {"type": ["boolean", "string"]})]
FileMode = Annotated[int, Read(engine.file_mode, {"type": ["integer", "string"], "examples": ["0440"]})]

_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_CONSISTENCIES = ("consistent", "cached", "delegated")
_MODES = ("ro", "rw", "z", "Z", "nocopy", *_PROPAGATIONS, *_CONSISTENCIES)


# --- volumes ------------------------------------------------------------------------------------------------------


class BindFile(Strict):
    propagation: Annotated[str, fields.one_of(*_PROPAGATIONS)] | None = None
    selinux: Annotated[str, fields.one_of("z", "Z")] | None = None
    create_host_path: Annotated[bool, Read(engine.made_by_the_engine, {"type": "boolean"})] = True


class NamedFile(Strict):
    nocopy: Truth = False


class MemoryFile(Strict):
    size: Size | None = None
    mode: FileMode | None = None


class Mount(Strict):
    """A volume in Compose's long form."""

    type: Annotated[str, fields.one_of("bind", "volume", "tmpfs", later=("npipe", "cluster", "image"))]
    source: fields.File | None = None
    target: fields.Inside
    read_only: Truth = False
    consistency: Annotated[str, fields.one_of(*_CONSISTENCIES)] | None = None
    bind: BindFile = BindFile()
    volume: NamedFile = NamedFile()
    tmpfs: MemoryFile = MemoryFile()

    @model_validator(mode="after")
    def _as_in_short(self) -> Self:
        """Both forms keep the same rules."""
        if self.type == "tmpfs":
            if self.source is not None:
                raise ValueError("a tmpfs has no source; remove it")
        elif self.type == "bind" and self.source is None:
            raise ValueError("a bind needs a source; write the folder of the host")
        else:
            self.short()
        return self

    def short(self) -> str:
        modes = ("ro" if self.read_only else "", self.bind.selinux, self.bind.propagation, self.consistency)
        written = [mode for mode in (*modes, "nocopy" if self.volume.nocopy else "") if mode]
        return volume(":".join([*self._source(), self.target, *([",".join(written)] if written else [])]))

    def in_memory(self) -> Tmpfs:
        options = ("ro",) if self.read_only else ()
        return Tmpfs(target=self.target, size=self.tmpfs.size, mode=self.tmpfs.mode, options=options)

    def _source(self) -> tuple[str, ...]:
        if self.source is None:
            return ()
        return (self.source if self.type == "volume" or is_path(self.source) else f"./{self.source}",)


def volume(value: Any) -> str:
    """`source:target[:mode]`, or a target alone: a volume without a name. Raises ValueError."""
    source, _, rest = grammar.line(value).partition(":")
    if source.startswith("/") and not rest:
        return grammar.inside(source)
    target, _, mode = rest.partition(":")
    if not source or not target:
        raise ValueError("a volume needs a name or a folder; write source:target, such as data:/data")
    return ":".join([_source(source), grammar.inside(target), *_mode(mode)])


def _mode(written: str) -> list[str]:
    modes = [mode for mode in written.split(",") if mode not in ("", "rw")]
    for mode in modes:
        if mode not in _MODES:
            raise ValueError(f"the mode {mode} is not carried; write ro or nothing after the target")
    return [",".join(modes)] if modes else []


def _source(text: str) -> str:
    if not is_path(text):
        return grammar.docker_name(text)
    path = grammar.file(text)
    if path.startswith("/") and any(part in (".", "..") for part in path.split("/")):
        raise ValueError("an absolute path has no . or .. parts")
    return path


def is_path(source: str) -> bool:
    return source.startswith(("/", ".", "~"))


def source_of(volume: str) -> str:
    """Empty for a volume without a name."""
    source, colon, _ = volume.partition(":")
    return source if colon else ""


def mounted_at(volume: str) -> str:
    source, _, rest = volume.partition(":")
    return rest.partition(":")[0] or source


def is_written_to(volume: str) -> bool:
    return "ro" not in volume.partition(":")[2].partition(":")[2].split(",")


Volume = Annotated[
    Annotated[str, Read(volume, {"type": "string", "examples": ["data:/data", "./site:/site:ro"]}), Tag(ALONE)]
    | Annotated[Mount, Tag(MAPPED)],
    forms("source:target[:mode], or a mapping with type, source and target"),
]

_TMPFS: dict[str, Any] = {"type": "string", "examples": ["/run:size=64m"]}
Tmpfses = Annotated[
    Annotated[tuple[Annotated[Tmpfs, Read(engine.tmpfs, _TMPFS)], ...], Tag(LISTED)]
    | Annotated[tuple[Tmpfs, ...], alone(engine.tmpfs, _TMPFS), Tag(ALONE)],
    forms("a path such as /run:size=64m, or a list of them"),
]


# --- secrets and configs ------------------------------------------------------------------------------------------

_SOURCE: dict[str, Any] = {"type": "string", "examples": ["file:secrets/db", "env:DB_PASSWORD"]}


class Granted(Strict):
    """A secret or config in the long form."""

    source: Annotated[str, Read(engine.granted, _SOURCE)]
    target: Annotated[str, Read(engine.granted_target, {"type": "string"})]
    uid: Annotated[int, number(0, 1 << 31)] = 0
    gid: Annotated[int, number(0, 1 << 31)] = 0
    mode: FileMode = fields.written("0444")


Grants = tuple[
    Annotated[
        Annotated[str, Read(engine.granted_alone, _SOURCE), Tag(ALONE)] | Annotated[Granted, Tag(MAPPED)],
        forms("file:PATH or env:NAME, or a mapping with source and target"),
    ],
    ...,
]


def granted_file(written: str | Granted, folder: str) -> GrantedFile:
    """Its target is taken below this folder of the container."""
    if isinstance(written, str):
        named = written.partition(":")[2].rpartition("/")[2]
        return GrantedFile(target=f"{folder}/{named}", content=written)
    return GrantedFile(
        target=written.target if written.target.startswith("/") else f"{folder}/{written.target}",
        content=written.source,
        uid=written.uid,
        gid=written.gid,
        mode=written.mode,
    )
