"""The nginx program itself: its version, its verdict on a configuration, its start. Never touches a running nginx."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from proxyctl.domain.model import Seconds
from proxyctl.errors import NginxUnavailable

# A silent name server makes nginx -t wait 10 s for each name; our configurations hold addresses only.
PATIENCE: Seconds = 10.0
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # not on the PATH of everyone
# nginx writes its process title over the room that its environment takes.
ENVIRONMENT = {"PATH": ":".join((*SBIN, "/usr/bin", "/bin"))}


class Verdict(NamedTuple):
    """What nginx -t says. A warning is an objection."""

    objections: tuple[str, ...]
    took: Seconds


class Directive(StrEnum):
    """What not every nginx knows; each is tried, no version number is trusted."""

    KEEPALIVE_MIN_TIMEOUT = "keepalive_min_timeout"  # 1.27.4: a reload waits for the next request of idle clients
    HTTP2 = "http2"  # 1.25.1: no part of listen any more, which is warned of


_TRIED = {
    Directive.KEEPALIVE_MIN_TIMEOUT: "http { keepalive_min_timeout 1s; }",
    Directive.HTTP2: "http { http2 on; }",
}


class Ended(NamedTuple):
    code: int
    said: str


class NginxBinary:
    """Raises NginxUnavailable when there is no such program, or when it hangs."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def version(self) -> str:
        """ "1.22.1"."""
        said = (await self._run("-v")).said
        return said.rpartition("/")[2].split()[0] if "/" in said else ""

    async def workers_group(self) -> str | None:
        """That it was built to give to workers of no named user; None where it goes by the user."""
        found = re.search(r"--group=(\S+)", (await self._run("-V")).said)
        return found[1] if found else None

    async def knows(self) -> frozenset[Directive]:
        return frozenset([directive for directive, text in _TRIED.items() if await self._takes(directive, text)])

    async def _takes(self, directive: Directive, text: str) -> bool:
        with tempfile.NamedTemporaryFile("w", prefix="proxyctl-", suffix=".conf") as config:
            config.write(f"events {{}} {text}")
            config.flush()
            ended = await self._run("-e", "stderr", "-t", "-c", config.name)
        return f'unknown directive "{directive}"' not in ended.said

    async def test(self, config: Path) -> Verdict:
        begun = time.monotonic()
        ended = await self._run("-e", "stderr", "-t", "-c", str(config))
        return Verdict(_objections(ended, config), time.monotonic() - begun)

    async def start(self, config: Path, error_log: Path) -> Ended:
        """Returns when the master has its ports and went into the background, or has given up."""
        return await self._run("-e", str(error_log), "-c", str(config))

    async def _run(self, *arguments: str) -> Ended:
        """Nothing of ours is inherited: no descriptor, no environment, no working directory, no terminal."""
        with _all_open_files():
            child = await asyncio.create_subprocess_exec(
                self._path(),
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                cwd="/",
                env=ENVIRONMENT,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(PATIENCE):
                _, said = await child.communicate()
        except TimeoutError:
            child.kill()
            await child.wait()
            raise NginxUnavailable(
                f"`{self._name} {' '.join(arguments)}` did not end within {PATIENCE:g} s and was killed"
            ) from None
        return Ended(child.returncode or 0, said.decode("utf-8", "replace").strip())

    def _path(self) -> str:
        found = shutil.which(self._name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *SBIN)))
        if found is None:
            raise NginxUnavailable(
                f"there is no program {self._name!r} on this machine",
                next_step="install nginx, or set proxy.binary in proxyctl.yml",
            )
        return found


@contextmanager
def _all_open_files() -> Iterator[None]:
    """A child gets every open file that the limits allow: shells give 1024, and each request needs two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _objections(ended: Ended, config: Path) -> tuple[str, ...]:
    """All but the two lines of a clean test."""
    lines = [line.removeprefix("nginx: ") for line in ended.said.splitlines()]
    clean = (f"the configuration file {config} syntax is ok", f"configuration file {config} test is successful")
    objections = tuple(line for line in lines if line not in clean and not line.endswith("test failed"))
    if not objections and ended.code != 0:
        return (f"nginx -t exited with {ended.code}",)
    return objections
