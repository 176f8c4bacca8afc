"""What the benchmarks share: a warm pair of releases, a command run as a user runs it, a table at the end."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import docker

from proxyctl.demo.images import build_all
from proxyctl.demo.stage import Stage, stage

Row = Mapping[str, Any]


async def command(scene: Stage, *words: str) -> float:
    """Seconds of the whole process. Raises when it does not exit 0."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "proxyctl",
        *words,
        *scene.options,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"proxyctl {' '.join(words)}: {said.decode()}")
    return time.monotonic() - began


@asynccontextmanager
async def warm_pair(bake: str = "0s", says: str = "") -> AsyncIterator[Stage]:
    """Release 2 is live, release 1 stands warm; two replicas each. The file `says` more of the service."""
    await asyncio.to_thread(lambda: build_all(docker.from_env()))
    async with stage(bake) as scene:
        file = scene.folder / "proxyctl.yml"
        file.write_text(file.read_text() + (f"    {says}\n" if says else ""))
        await command(scene, "deploy", "web")
        await command(scene, "deploy", "web", "--image", "proxyctl-demo:2")
        yield scene


def generation(scene: Stage) -> str:
    """The name of the nginx configuration in force; it changes with every reload."""
    return str((scene.folder / "state/public/current").readlink())


def median_ms(seconds: Sequence[float]) -> float:
    return round(statistics.median(seconds) * 1000, 1)


def report(title: str, rows: Sequence[Row]) -> None:
    """A table for people, or with --json a line for programs."""
    if "--json" in sys.argv:
        print(json.dumps({"title": title, "rows": rows}))
        return
    print(f"\n{title}")
    columns = list(rows[0])
    table: list[Row] = [dict(zip(columns, columns, strict=True)), *rows]
    widths = [max(len(str(row[column])) for row in table) for column in columns]
    for row in table:
        print("  " + "  ".join(str(row[c]).ljust(width) for c, width in zip(columns, widths, strict=True)))
