"""Generations on disk: complete, numbered nginx configurations, and the symlink that names the one in force.

A generation is one folder with a configuration, the certificates that it names, and a manifest. It is built aside,
synced and renamed, never changed afterwards, and checked against its manifest whenever it is read: a reader gets the
old one or the new one. Knows nothing of templates or of nginx. Start at Generations.stage() and Generations.activate().
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from proxyctl.adapters.durable import repoint, sync_folder, told_in_words, write_synced
from proxyctl.adapters.nginx.names import CONFIG
from proxyctl.adapters.places import PUBLIC_MODE, Places
from proxyctl.domain.codec import DecodeError, decode, encode
from proxyctl.domain.model import ServiceName, Topology
from proxyctl.errors import StateUnusable

MANIFEST = "manifest.json"
KEPT = 20
KEYS = (".key", CONFIG)  # nginx's master reads them, its workers never do
PASSWORDS = ".htpasswd"  # its workers read it as requests come
UNFINISHED = ".tmp-"
NAME = re.compile(r"[0-9]+-[0-9a-f]{12}", re.ASCII)  # of a generation's folder: its number and a digest


Files = Mapping[str, str]  # what nginx reads, by its path in the generation's folder


class Generation(NamedTuple):
    number: int
    fence: int
    folder: Path
    topology: Topology
    files: Files
    ends: Mapping[ServiceName, float]  # of certificates, unix time

    @property
    def config(self) -> Path:
        return self.folder / CONFIG

    @property
    def text(self) -> str:
        return self.files[CONFIG]

    @property
    def for_workers(self) -> list[str]:
        """Files that they read, and nobody else may."""
        return [name for name in self.files if name.endswith(PASSWORDS)]


class Generations:
    """All of one state folder. One writer at a time: the caller holds the publishing lock."""

    def __init__(self, places: Places) -> None:
        self._root = places.root
        self._folder = places.generations
        self._current = places.current

    def current_number(self) -> int | None:
        """What the symlink names, whether that is sound or not. Raises StateUnusable when it names no generation."""
        name = self._current_name()
        return number_of(name) if name else None

    def current(self) -> Generation | None:
        """Raises StateUnusable when it is not what its manifest says."""
        name = self._current_name()
        return self._read(self._folder / name) if name else None

    def stage(
        self,
        number: int,
        fence: int,
        topology: Topology,
        files: Files,
        ends: Mapping[ServiceName, float],
        workers: int | None = None,
    ) -> Generation:
        """A complete generation on disk, not in force. `workers`: their group; None where it is not known yet."""
        digests = {name: _digest(text) for name, text in files.items()}
        folder = self._folder / f"{number}-{_digest(json.dumps(digests, sort_keys=True))[:12]}"
        generation = Generation(number, fence, folder, topology, files, ends)
        with told_in_words(self._root):
            self._sweep()
            if not folder.exists():
                self._build(folder, {**files, MANIFEST: _manifest(generation, digests)}, workers)
        return generation

    def _build(self, folder: Path, files: Files, workers: int | None) -> None:
        """Aside, then renamed: under its name it is there whole or not at all."""
        temp = self._folder / f"{UNFINISHED}{folder.name}"
        temp.mkdir(mode=PUBLIC_MODE)
        for name, text in files.items():
            temp.joinpath(name).parent.mkdir(exist_ok=True)
            write_synced(temp / name, text, *_readers(name, workers))
        for made in {*(temp.joinpath(name).parent for name in files), temp}:
            made.chmod(0o555)
            sync_folder(made)
        temp.rename(folder)
        sync_folder(self._folder)

    def let_read(self, generation: Generation, workers: int | None) -> None:
        """Workers of this group, and nobody else, may read what is for workers."""
        for name in generation.for_workers:
            mode, group = _readers(name, workers)
            with told_in_words(self._root):
                os.chown(generation.folder / name, -1, group)
                generation.folder.joinpath(name).chmod(mode)

    def let_all_read(self, generation: Generation) -> None:
        for name in generation.for_workers:
            with told_in_words(self._root):
                generation.folder.joinpath(name).chmod(0o444)

    def activate(self, generation: Generation) -> None:
        """In force for the next nginx that reads its configuration."""
        with told_in_words(self._root):
            repoint(self._current, f"{self._folder.name}/{generation.folder.name}")

    def reactivate(self, before: Generation | None) -> None:
        """As it was before a generation that nginx never saw."""
        if before is not None:
            return self.activate(before)
        with told_in_words(self._root):
            self._current.unlink(missing_ok=True)
            return sync_folder(self._current.parent)

    def discard(self, generation: Generation) -> None:
        with told_in_words(self._root):
            _remove(generation.folder)
            sync_folder(self._folder)

    def prune(self) -> None:
        """Keep the youngest, the one in force, and what a hand put there."""
        current = self._current_name()
        names = sorted((path.name for path in self._folder.iterdir() if NAME.fullmatch(path.name)), key=number_of)
        for name in names[:-KEPT]:
            if name != current:
                with told_in_words(self._root):
                    _remove(self._folder / name)

    def _current_name(self) -> str | None:
        try:
            name = self._current.readlink().name
        except FileNotFoundError:
            return None
        except OSError as error:  # not a link
            raise _unusable(self._current, error) from error
        if not NAME.fullmatch(name):
            raise _unusable(self._current, f"it names {name!r}, which is no generation")
        return name

    def _sweep(self) -> None:
        """What a crash left half built."""
        for path in self._folder.glob(f"{UNFINISHED}*"):
            _remove(path)

    def _read(self, folder: Path) -> Generation:
        try:
            manifest = json.loads(folder.joinpath(MANIFEST).read_text("utf-8"))
            files = {name: folder.joinpath(name).read_text("utf-8") for name in manifest["files"]}
            topology: Topology = decode(Topology, manifest["topology"])
            generation = Generation(
                manifest["number"], manifest["fence"], folder, topology, files, manifest["certificates_end"]
            )
            for name, text in files.items():
                if manifest["files"][name] != _digest(text):
                    raise ValueError(f"{name} is not the file that was published")
            if CONFIG not in files:
                raise ValueError(f"{CONFIG} is missing")
        except (OSError, ValueError, KeyError, DecodeError) as error:
            raise _unusable(folder, error) from error
        return generation


def _readers(name: str, workers: int | None) -> tuple[int, int]:
    """Mode and group: who may read this file. -1 is our own group."""
    if name.endswith(PASSWORDS) and workers is not None:
        return 0o440, workers
    return (0o400 if name.endswith((*KEYS, PASSWORDS)) else 0o444), -1


def _unusable(path: Path, reason: Exception | str) -> StateUnusable:
    return StateUnusable(
        f"the generation {path} cannot be used: {reason}",
        serving="what nginx has in memory; it must not be restarted",
        next_step="proxyctl recover",
    )


def number_of(name: str) -> int:
    return int(name.partition("-")[0])


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _manifest(generation: Generation, digests: Mapping[str, str]) -> str:
    content: dict[str, Any] = {
        "number": generation.number,
        "fence": generation.fence,
        "project": generation.topology.project,
        "files": digests,
        "certificates_end": dict(generation.ends),
        "topology": encode(generation.topology),
    }
    return json.dumps(content, indent=1) + "\n"


def _remove(folder: Path) -> None:
    """Its folders are read-only, against hands; not against us."""
    import shutil  # and all that it compresses with; who only looks removes nothing

    folder.chmod(PUBLIC_MODE)
    for inner in filter(Path.is_dir, folder.iterdir()):
        inner.chmod(PUBLIC_MODE)
    shutil.rmtree(folder)
