"""Who gets traffic: folders of flag files, and one symlink per service that says which folder counts.

nginx looks for the flags at every request, so one rename moves a service for all workers from the very next request on.
The name of a folder says its split, and its files are made complete before anything points to it. Nothing here
reloads nginx or needs more than the standard library. Start at NginxSplits.move().
"""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from proxyctl.adapters.durable import repoint, sync_folder, told_in_words
from proxyctl.adapters.nginx.control import Control
from proxyctl.adapters.nginx.flags import (
    CLOSING,
    LOGGED,
    NOBODY,
    expected_pool,
    flag_names,
    folder_name,
    is_closing,
    matched_pool,
    parse_folder_name,
    telling_buckets,
)
from proxyctl.adapters.places import PUBLIC_MODE, SPLIT_IN_FORCE, Places, make_folder
from proxyctl.domain.model import ServiceName
from proxyctl.errors import NginxUnavailable, SplitNotSeen, StateUnusable
from proxyctl.ports import Flags


class NginxSplits:
    """Implements `Splits`."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._splits = places.splits
        self._control = Control(places)

    def read(self, service: ServiceName) -> Flags | None:
        """Raises StateUnusable when the files do not say what the name of their folder says."""
        link = self._splits / service / SPLIT_IN_FORCE
        try:
            name = str(link.readlink())
        except FileNotFoundError:
            return None
        except OSError as error:  # not a link
            raise _meddled(link, str(error)) from error
        try:
            flags = parse_folder_name(name)
            found = {path.name for path in link.parent.joinpath(name).iterdir()}
        except (ValueError, OSError) as error:
            raise _meddled(link, str(error)) from error
        if found != flag_names(flags, is_closing(name)):
            raise _meddled(link, f"the flags in {name} do not say what its name says")
        return flags

    async def move(self, service: ServiceName, flags: Flags | None) -> None:
        previewed = self._previews(service)
        with told_in_words(self._places.root), repointing(self._places, service):
            point(self._places, service, flags)
        await self._see(service, flags)
        if previewed or (flags and flags.preview):
            await self._see_preview(service, flags)

    def _previews(self, service: ServiceName) -> bool:
        """As the name of the folder in force says."""
        with suppress(OSError, ValueError):
            flags = parse_folder_name(str((self._splits / service / SPLIT_IN_FORCE).readlink()))
            return flags is not None and flags.preview is not None
        return False

    async def reach(self) -> None:
        await self._control.speaker()

    def logged(self, service: ServiceName) -> AbstractContextManager[None]:
        return logged(self._places, service)

    async def doubt(self, service: ServiceName) -> str:
        flags = self.read(service)
        with suppress(NginxUnavailable):
            seen, expected = await self._control.pool(service, 0), expected_pool(flags, 0)
            if seen != expected and self.read(service) == flags:  # nobody moved them meanwhile
                return str(await self._not_seen(service, f"bucket 0000 goes to {seen} instead of {expected}", seen))
        return ""

    async def _see(self, service: ServiceName, flags: Flags | None) -> None:
        """The workers decide as the flags say."""
        buckets = telling_buckets(flags)
        pools = await asyncio.gather(*(self._control.pool(service, bucket) for bucket in buckets))
        for bucket, seen in zip(buckets, pools, strict=True):
            if seen != (expected := expected_pool(flags, bucket)):
                raise await self._not_seen(service, f"bucket {bucket:04d} goes to {seen} instead of {expected}", seen)

    async def _see_preview(self, service: ServiceName, flags: Flags | None) -> None:
        """After the split was seen."""
        seen, expected = await self._control.matched_pool(service), matched_pool(flags)
        if seen != expected:
            what = f"what a rule matches goes to {seen} instead of {expected}"
            raise await self._not_seen(service, what, expected_pool(flags, 0))

    async def _not_seen(self, service: ServiceName, what: str, seen: str) -> SplitNotSeen:
        from proxyctl.adapters.nginx.process.master import speaking_worker  # only a failure pays for them
        from proxyctl.adapters.nginx.process.sight import blind_spot

        folder = self._splits / service / SPLIT_IN_FORCE
        worker = speaking_worker(self._places, (await self._control.speaker()).pid)
        why = blind_spot(folder.resolve(), worker.pid) if seen == NOBODY else f"something else changed {folder}"
        return SplitNotSeen(
            f"{service}: the flags say one thing and nginx does another: {what}; {why}",
            next_step=f"let worker {worker.pid} of nginx enter {folder}, then repeat the command",
            serving=f"{seen} serves, as nginx says" if seen != NOBODY else "nginx answers 503",
        )


@contextmanager
def repointing(places: Places, service: ServiceName) -> Iterator[None]:
    """A move and a reload that lets clients go may meet; each looks and repoints in one."""
    with places.split_lock(service).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def point(places: Places, service: ServiceName, flags: Flags | None) -> None:
    """The service's flags say this; on disk when it returns. The caller holds repointing()."""
    closing = (places.splits / CLOSING).exists()
    folder = places.splits / service / folder_name(flags, closing)
    _make(folder, flag_names(flags, closing))
    repoint(folder.parent / SPLIT_IN_FORCE, folder.name)


def _make(folder: Path, names: frozenset[str]) -> None:
    """The folder with exactly these flags, on disk. Empty files have nothing to lose but their names."""
    for path in (folder.parent, folder):
        make_folder(path, PUBLIC_MODE)
    found = {path.name for path in folder.iterdir()}
    for name in names - found:
        folder.joinpath(name).touch(mode=0o444)
    for name in found - names:
        folder.joinpath(name).unlink()
    for path in (folder, folder.parent, folder.parent.parent):
        sync_folder(path)


def _meddled(link: Path, what: str) -> StateUnusable:
    return StateUnusable(
        f"{link} was changed by something other than proxyctl: {what}",
        serving="what nginx finds there",
        next_step="proxyctl recover",
    )


@contextmanager
def logged(places: Places, service: ServiceName) -> Iterator[None]:
    """The flag by which nginx logs a service's requests where only those of rollouts are logged."""
    flag = places.splits / service / LOGGED
    with suppress(OSError):
        make_folder(flag.parent, PUBLIC_MODE)
        flag.touch(mode=0o444)
    try:
        yield
    finally:
        with suppress(OSError):
            flag.unlink(missing_ok=True)
