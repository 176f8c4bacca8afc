"""What an nginx program says: its version, what it knows, its verdict on a configuration. Start at NginxBinary.

HostProgram is one of this host, ServingProgram the one that `proxy.mode: process` runs. Touches no running nginx, but
for the upgrade that it is asked for.
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from proxyctl.adapters.nginx.process.master import find_master, has_our_root, process_of
from proxyctl.adapters.places import Places
from proxyctl.domain.model import ProxySettings, Seconds
from proxyctl.errors import NginxUnavailable
from proxyctl.ports import Ended, NginxProgram

# A silent name server makes nginx -t wait 10 s for each name; our configurations hold addresses only.
PATIENCE: Seconds = 10.0
# nginx looks through all its pools for each proxy_pass: 0.4 s for 6.5 MiB, 8 s for 32, on a processor of its own.
PATIENCE_PER_MEBIBYTE: Seconds = 1.0
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # not on the PATH of everyone
# nginx writes its process title over the room that its environment takes.
ENVIRONMENT = {"PATH": ":".join((*SBIN, "/usr/bin", "/bin"))}
CLEAN = re.compile(r"(?:the )?configuration file \S+ (?:syntax is ok|test is successful)")


class Verdict(NamedTuple):
    """What nginx -t says. A warning is an objection."""

    objections: tuple[str, ...]
    took: Seconds


class Directive(StrEnum):
    """What not every nginx knows; each is tried, no version number is trusted."""

    KEEPALIVE_MIN_TIMEOUT = "keepalive_min_timeout"  # 1.27.4: a reload waits for the next request of idle clients
    HTTP3 = "http3"  # 1.25.0, where it was built with it
    HTTP2 = "http2"  # 1.25.1: no part of listen any more, which is warned of


_TRIED = {
    Directive.KEEPALIVE_MIN_TIMEOUT: "http { keepalive_min_timeout 1s; }",
    Directive.HTTP3: "http { http3 on; }",
    Directive.HTTP2: "http { http2 on; }",
}


def patience_for(config: Path) -> Seconds:
    """To read a configuration of this size."""
    return PATIENCE + PATIENCE_PER_MEBIBYTE * config.stat().st_size / (1 << 20)


class NginxBinary:
    """Raises NginxUnavailable when there is no such program, or when it hangs."""

    def __init__(self, program: NginxProgram) -> None:
        self._program = program

    async def version(self) -> str:
        """ "1.22.1"."""
        said = (await self._program.run("-v")).said
        return said.rpartition("/")[2].split()[0] if "/" in said else ""

    async def knows(self) -> frozenset[Directive]:
        tries = (self._takes(directive, text) for directive, text in _TRIED.items())
        ends = await asyncio.gather(*tries, return_exceptions=True)  # each clears away what it made
        for end in ends:
            if isinstance(end, BaseException):
                raise end
        return frozenset(directive for directive, taken in zip(_TRIED, ends, strict=True) if taken)

    async def _takes(self, directive: Directive, text: str) -> bool:
        with tempfile.TemporaryDirectory(prefix="proxyctl-try-") as folder:
            config = Path(folder, "nginx.conf")
            config.write_text(f"events {{}} {text}")
            ended = await self._program.run("-e", "stderr", "-t", "-c", str(config), sees=config.parent)
        return f'unknown directive "{directive}"' not in ended.said

    async def test(self, config: Path) -> Verdict:
        begun = time.monotonic()
        ended = await self._program.test(config)
        return Verdict(_objections(ended), time.monotonic() - begun)


class HostProgram:
    """Implements `NginxProgram` with a program of this host as it is on disk, whose master goes into the background."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def test(self, config: Path) -> Ended:
        words = (self.tried(), "-e", "stderr", "-t", "-c", str(config))
        return await self.execute(words, patience=patience_for(config))

    async def master(self) -> int | None:
        """A master of ours has our files."""

    async def start(self, config: Path, error_log: Path) -> Ended:
        return await self.execute((self.path(), "-e", str(error_log), "-c", str(config)), patience=patience_for(config))

    async def fetch(self, progress: Callable[[str], None]) -> None:
        """Whoever installs programs here brings it."""

    def renewed(self) -> NginxProgram:
        return self

    async def start_beside(self, old: int, config: Path, error_log: Path) -> Ended:
        """nginx does it itself, and hands its ports over."""
        process_of(old).send(signal.SIGUSR2)
        return Ended(code=0, said="")

    async def keep(self, master: int) -> None:
        """systemd does, after `setup`."""

    async def let_end(self) -> None:
        """Nobody starts it but us."""

    async def clear_away(self) -> None:
        """A process leaves nothing."""

    async def run(self, *arguments: str, sees: Path | None = None) -> Ended:
        return await self.execute((self.tried(), *arguments))

    async def execute(
        self, words: tuple[str, ...], *, keeps_output: bool = False, patience: Seconds | None = None
    ) -> Ended:
        """Nothing of ours is inherited: no descriptor, no environment, no working directory, no terminal. Where its
        output is kept, it follows what is said on stderr."""
        try:
            with _all_open_files():
                child = await asyncio.create_subprocess_exec(
                    *words,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE if keeps_output else asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE,
                    cwd="/",
                    env=ENVIRONMENT,
                    start_new_session=True,
                )
        except OSError as error:
            raise NginxUnavailable(f"{words[0]} cannot be run: {(error.strerror or str(error)).lower()}") from error
        patience = patience or PATIENCE
        try:
            async with asyncio.timeout(patience):
                printed, said = await child.communicate()
        except TimeoutError:
            child.kill()
            await child.communicate()  # asyncio takes it for ended only once its output was read to the end
            raise NginxUnavailable(f"`{' '.join(words)}` did not end within {patience:.3g} s and was killed") from None
        return Ended(code=child.returncode or 0, said=(said + (printed or b"")).decode("utf-8", "replace").strip())

    def tried(self) -> str:
        """What stands for the program where something is only tried."""
        return self.path()

    def path(self) -> str:
        """Of the program. Raises NginxUnavailable."""
        found = shutil.which(self._name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *SBIN)))
        if found is None:
            raise NginxUnavailable(
                f"there is no program {self._name!r} on this machine",
                next_step="install nginx, or set proxy.binary in proxyctl.yml",
            )
        return found


class ServingProgram(HostProgram):
    """What is tried is tried with the nginx that runs, where one does: a package may have put another in its place."""

    def __init__(self, places: Places, name: str) -> None:
        super().__init__(name)
        self._places = places

    def renewed(self) -> NginxProgram:
        return HostProgram(self._name)

    def tried(self) -> str:
        master = find_master(self._places)
        return f"/proc/{master.pid}/exe" if master and has_our_root(master.pid) else super().tried()


def on_host(places: Places, settings: ProxySettings) -> NginxProgram:
    return ServingProgram(places, settings.binary)


@contextmanager
def _all_open_files() -> Iterator[None]:
    """A child gets every open file that the limits allow: shells give 1024, and each request needs two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _objections(ended: Ended) -> tuple[str, ...]:
    """All but the two lines of a clean test."""
    lines = [line.removeprefix("nginx: ") for line in ended.said.splitlines()]
    objections = tuple(line for line in lines if not CLEAN.fullmatch(line) and not line.endswith("test failed"))
    if not objections and ended.code != 0:
        return (f"nginx -t exited with {ended.code}",)
    return objections
