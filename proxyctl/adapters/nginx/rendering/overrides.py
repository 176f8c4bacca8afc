"""Templates of an operator, laid over ours by name (proxy.templates). Start at read() and render_confined().

They are programs, so they are read only where nobody else can write, and run in a process of their own (confined.py)
that ends in time, has little memory, no file and no user's rights, and answers with text. What they wrote is held to
the same rules as what ours write.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from proxyctl.adapters.nginx.control import Address
from proxyctl.adapters.nginx.process.binary import Directive
from proxyctl.adapters.nginx.rendering.servers import servers
from proxyctl.adapters.nginx.rendering.tracing import Print
from proxyctl.adapters.nginx.traffic.shares import Shares, written
from proxyctl.adapters.places import Places
from proxyctl.domain.codec import encode
from proxyctl.domain.model import Seconds, Topology

ENDING = ".j2"
LARGEST = 256 << 10  # bytes of one template
MOST = 64  # templates in a folder
REFUSED = 3  # exit code of a child that says why, instead of a configuration

Templates = Mapping[str, str]  # by file name


class TemplateRefused(ValueError):
    """`server.conf.j2:12: why`."""


class Limits(NamedTuple):
    """Of one rendering. They grow with what there is to write: ours take 6 KiB and 0.4 ms for a service."""

    seconds: Seconds
    memory: int
    output: int

    @classmethod
    def of(cls, topology: Topology) -> Limits:
        unknown = dict.fromkeys((route.service for route in topology.routes), None)
        places = sum(len(server.services) for server in servers(topology, unknown, ""))
        return cls(5 + 0.002 * places, (512 << 20) + (64 << 10) * places, (1 << 20) + (32 << 10) * places)


# --- read --------------------------------------------------------------------------------------------------------


def read(folder: Path) -> Templates:
    """Every template in it. Raises TemplateRefused for one that somebody else could have written."""
    with _opened(folder, folder, os.O_DIRECTORY) as descriptor:
        names = sorted(name for name in os.listdir(descriptor) if name.endswith(ENDING))  # noqa: PTH208
        if len(names) > MOST:
            raise TemplateRefused(f"{folder} holds {len(names)} templates; that is more than {MOST}")
        return {name: _text(folder / name, name, descriptor) for name in names}


def _text(path: Path, name: str, folder: int) -> str:
    with _opened(path, name, os.O_NONBLOCK, folder) as descriptor:  # a FIFO without a writer would wait for ever
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise TemplateRefused(f"{path} is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            raw = file.read(LARGEST + 1)
    if len(raw) > LARGEST:
        raise TemplateRefused(f"{path} is larger than {LARGEST >> 10} KiB")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise TemplateRefused(f"{path}:{line}: byte 0x{raw[error.start]:02x} is not UTF-8") from None


@contextmanager
def _opened(path: Path, name: Path | str, flags: int, folder: int | None = None) -> Iterator[int]:
    """What stands there itself, of root or of ourselves, and writable by nobody else."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=folder)
    except OSError as error:
        link = path.is_symlink()
        raise TemplateRefused(f"{path} {'is a symlink' if link else f'cannot be read: {error.strerror}'}") from error
    try:
        found = os.fstat(descriptor)
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise TemplateRefused(f"{path} (mode {found.st_mode & 0o777:04o}) may be written by others; chmod go-w")
        if found.st_uid not in (0, os.geteuid()):
            raise TemplateRefused(f"{path} belongs to user {found.st_uid}, neither to root nor to who runs proxyctl")
        yield descriptor
    finally:
        os.close(descriptor)


# --- render ------------------------------------------------------------------------------------------------------


async def render_confined(
    topology: Topology,
    number: int,
    places: Places,
    known: frozenset[Directive],
    control: Address,
    shares: Shares,
    templates: Templates,
    print_: Print,
) -> str:
    """The text of the configuration. Raises TemplateRefused."""
    limits = Limits.of(topology)
    order = {
        "topology": encode(topology),
        "number": number,
        "places": str(places.root),
        "known": sorted(known),
        "control": control,
        "shares": written(shares, topology),
        "templates": dict(templates),
        "print": print_,
        "limits": limits,
    }
    code, said = await _ask_child(json.dumps(order).encode(), limits)
    if code == REFUSED:
        raise TemplateRefused(said.decode(errors="replace"))
    if code != 0:
        raise TemplateRefused(f"the templates ended without a word (code {code}); they may need too much memory")
    return said.decode()


async def _ask_child(order: bytes, limits: Limits) -> tuple[int, bytes]:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", "proxyctl.adapters.nginx.rendering.confined"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd="/",
        env={},
    )
    try:
        async with asyncio.timeout(limits.seconds):
            said = await _exchanged(child, order, limits.output)
            return await child.wait(), said
    except TimeoutError:
        raise TemplateRefused(f"the templates were not done after {limits.seconds:.1f} s") from None
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()  # asyncio takes it for ended only once its output was read to the end


async def _exchanged(child: asyncio.subprocess.Process, order: bytes, most: int) -> bytes:
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(order)
    child.stdin.close()
    said = bytearray()
    while chunk := await child.stdout.read(1 << 16):
        said += chunk
        if len(said) > most:
            raise TemplateRefused(f"the templates write more than {most >> 10} KiB")
    return bytes(said)
