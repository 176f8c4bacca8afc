"""The invariants of the design that can be seen from outside a project at rest. Start at broken()."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker

from proxyctl.adapters.nginx.flags import flag_names, parse_folder_name
from proxyctl.demo.stage import Stage
from proxyctl.domain.model import Colour


async def broken(scene: Stage) -> list[str]:
    """What does not hold; empty when all of it does."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxyctl", "status", "--json", *scene.options, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    status = json.loads(out)
    public = scene.folder / "state/public"
    return [
        *_somebody_gated_serves(status),
        *_the_generation_is_whole(public),
        *_numbers_only_rise(public),
        *_nothing_is_left_open(status, scene),
        *_what_is_reported_is_so(status, public),
    ]


def _somebody_gated_serves(status: dict[str, Any]) -> Iterator[str]:
    for service in status["services"]:
        for release in service["releases"]:
            share = service["split"][release["colour"]]
            healthy = [replica for replica in release["replicas"] if replica["health"] == "healthy"]
            if share and not healthy:
                yield f"1, 2: {release['id']} has {share} % and nobody healthy"
        if not any(service["split"].values()):
            yield f"2: nobody serves {service['name']}"


def _the_generation_is_whole(public: Path) -> Iterator[str]:
    current = public / "current"
    manifest = json.loads((current / "manifest.json").read_text())
    for name, digest in manifest["files"].items():
        if hashlib.sha256((current / name).read_bytes()).hexdigest() != digest:
            yield f"3: {name} is not what the manifest says"


def _numbers_only_rise(public: Path) -> Iterator[str]:
    current = (public / "current").resolve().name
    numbers = [int(path.name.partition("-")[0]) for path in (public / "generations").iterdir()]
    if int(current.partition("-")[0]) != max(numbers):
        yield f"4: {current} is current and not the newest"


def _nothing_is_left_open(status: dict[str, Any], scene: Stage) -> Iterator[str]:
    known = {r["name"] for s in status["services"] for release in s["releases"] for r in release["replicas"]}
    for service in status["services"]:
        if service["rollout"] is not None or service["drift"]:
            yield f"5: {service['name']} is not at rest: {service}"
    filters: dict[str, Any] = {"label": f"proxyctl.project={scene.project}"}
    for container in docker.from_env().containers.list(all=True, filters=filters):
        if container.name not in known:
            yield f"5: {container.name} belongs to nothing"


def _what_is_reported_is_so(status: dict[str, Any], public: Path) -> Iterator[str]:
    if status["proxy"]["generation"] != status["proxy"]["observed"]:
        yield f"7: nginx answers generation {status['proxy']['observed']}"
    for service in status["services"]:
        folder = (public / "splits" / service["name"] / "current").resolve()
        flags = parse_folder_name(folder.name)
        if {path.name for path in folder.iterdir()} != flag_names(flags):
            yield f"7: the flags of {service['name']} do not say what their folder says"
        said = {colour.value: flags.split.percent(colour) for colour in Colour} if flags else None
        if said != service["split"]:
            yield f"7: {service['name']} is reported as {service['split']} and its flags say {folder.name}"
