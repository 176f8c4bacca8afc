"""The invariants of the design that can be seen from outside a project: at rest, broken(); around a change that is
refused, unchanged(); around everything that is none of ours, Strangers; of what a command says, spoke_plainly()."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Protocol

import docker

from proxyctl.adapters.nginx.control import Control
from proxyctl.adapters.nginx.flags import flag_names, parse_folder_name
from proxyctl.adapters.nginx.process.master import find_master, workers_of
from proxyctl.adapters.places import Places
from proxyctl.adapters.sqlite import SqliteStore
from proxyctl.demo.stage import Stage
from proxyctl.domain.model import Colour
from proxyctl.errors import NginxUnavailable
from tests.journal_checks import broken_journal, states_of

Snapshot = dict[str, Any]

# --- at rest ----------------------------------------------------------------------------------------------------


async def broken(scene: Stage) -> list[str]:
    """What does not hold; empty when all of it does."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxyctl", "status", "--json", *scene.options, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    status = json.loads(out)
    if process.returncode != 0:
        return [f"7: status itself fails: {status}"]
    places = _places(scene)
    return [
        *_somebody_gated_serves(status),
        *the_generation_is_whole(places.public),
        *_the_newest_generation_is_in_force(places),
        *every_generation_was_given_out(places),
        *_nothing_is_left_open(status, scene),
        *_what_is_reported_is_so(status, places.public),
        *the_journal_holds(places),
        *_no_process_fell_over(places),
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


def the_generation_is_whole(public: Path) -> Iterator[str]:
    current = public / "current"
    manifest = json.loads((current / "manifest.json").read_text())
    for name, digest in manifest["files"].items():
        if hashlib.sha256((current / name).read_bytes()).hexdigest() != digest:
            yield f"3: {name} is not what the manifest says"


def _the_newest_generation_is_in_force(places: Places) -> Iterator[str]:
    current = places.current.resolve().name
    if _number(current) != max(_numbers(places)):
        yield f"4: {current} is current and not the newest"


def every_generation_was_given_out(places: Places) -> Iterator[str]:
    ((claimed,),) = _rows(places, "SELECT last FROM generations")
    if claimed < (newest := max(_numbers(places), default=0)):
        yield f"4: generation {newest} is there and only {claimed} were ever given out"


def _numbers(places: Places) -> list[int]:
    return [_number(path.name) for path in places.generations.iterdir() if path.name[0] != "."]


def _number(generation: str) -> int:
    return int(generation.partition("-")[0])


def _nothing_is_left_open(status: dict[str, Any], scene: Stage) -> Iterator[str]:
    known = {r["name"] for s in status["services"] for release in s["releases"] for r in release["replicas"]}
    for service in status["services"]:
        if service["rollout"] is not None or service["drift"]:
            yield f"5: {service['name']} is not at rest: {service}"
    for container in _ours(scene)["containers"]:
        if container["Names"][0].lstrip("/") not in known:
            yield f"5: {container['Names'][0]} belongs to nothing"


def _what_is_reported_is_so(status: dict[str, Any], public: Path) -> Iterator[str]:
    if status["proxy"]["generation"] != status["proxy"]["observed"]:
        yield f"7: nginx answers generation {status['proxy']['observed']}"
    by_reload = public / "current" / "splits.json"
    names = json.loads(by_reload.read_text()) if by_reload.exists() else dict(_folders_of_flags(public / "splits"))
    for service in (service for service in status["services"] if service["name"] in names):
        name = names[service["name"]]
        flags = parse_folder_name(name)
        said = {colour.value: flags.split.percent(colour) for colour in Colour} if flags else None
        if said != service["split"]:
            yield f"7: {service['name']} is reported as {service['split']} and nginx goes by {name}"
    for service, name in names.items() if not by_reload.exists() else ():
        if {path.name for path in (public / "splits" / service / name).iterdir()} != flag_names(
            parse_folder_name(name)
        ):
            yield f"7: the flags of {service} do not say what their folder says"


def _folders_of_flags(splits: Path) -> Iterator[tuple[str, str]]:
    for link in splits.glob("*/current"):
        yield link.parent.name, link.resolve().name


def the_journal_holds(places: Places) -> Iterator[str]:
    """1, 4, 8 and 10, and the snapshots are what the journal folds to."""
    with closing(SqliteStore(places.store)) as store:
        journal = store.entries()
        found = broken_journal(journal)
        yield from found
        for service, state in states_of(journal).items() if not found else ():
            if store.load(service) != state:
                yield f"4: the snapshot of {service} is not what the journal folds to"


def _no_process_fell_over(places: Places) -> Iterator[str]:
    """12: of the detached ones nobody else sees the words."""
    for log in places.logs.glob("driver-*.log"):
        if "Traceback" in (words := log.read_text(errors="replace")):
            yield f"12: {log.name}: {words[words.index('Traceback') :]}"


# --- around a change that is refused ----------------------------------------------------------------------------


@asynccontextmanager
async def unchanged(scene: Stage, *but: str) -> AsyncIterator[None]:
    """6: files, nginx, containers and store are as they were; but those parts of a snapshot that are named."""
    before = await snapshot(scene)
    yield
    after = await snapshot(scene)
    moved = {part: (before[part], after[part]) for part in before if part not in but and before[part] != after[part]}
    assert not moved, "6: a refused change changed " + ", ".join(
        f"{part}: {_difference(*moved[part])}" for part in moved
    )


async def snapshot(scene: Stage) -> Snapshot:
    """All that a change could change, by parts; equal when nothing changed."""
    places, ours = _places(scene), _ours(scene)
    master = find_master(places)
    try:
        observed: object = (await Control(places).speaker()).generation
    except NginxUnavailable:
        observed = "nothing answers"
    return {
        "files": _files(scene.folder, left_out=(places.private, places.public)),
        "public": _files(places.public, left_out=(places.temp, places.nginx_logs)),
        "nginx": {
            "master": master,
            "workers": sorted(worker.pid for worker in workers_of(master)) if master else [],
            "generation": observed,
        },
        "containers": {c["Id"]: _life(c["Id"]) for c in ours["containers"]},
        "networks": {network["Id"]: network["Name"] for network in ours["networks"]},
        "store": _stored(places),
    }


def _stored(places: Places) -> dict[str, Any]:
    """Fences and numbers that were given out are left out: they rise, and mean nothing by themselves."""
    return {
        "states": dict(_rows(places, "SELECT service, state FROM snapshots")),
        "history": _rows(places, "SELECT seq, service, event FROM journal ORDER BY seq"),
        "slots": _rows(places, "SELECT address, service, colour, ordinal FROM slots ORDER BY address"),
    }


def _files(folder: Path, left_out: tuple[Path, ...]) -> dict[str, str]:
    """What lies below, by path: mode, and what it holds or points to."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if any(path.is_relative_to(out) for out in left_out) or path.is_socket():
            continue
        mode = f"{path.lstat().st_mode:o}"
        if path.is_symlink():
            mode += f" -> {path.readlink()}"
        elif path.is_file():
            mode += f" {hashlib.sha256(path.read_bytes()).hexdigest()}"
        found[str(path.relative_to(folder))] = mode
    return found


def _difference(before: Any, after: Any) -> str:
    if not isinstance(before, dict):
        return f"{before} became {after}"
    return "; ".join(
        f"{key}: {before.get(key)} became {after.get(key)}"
        for key in before.keys() | after.keys()
        if before.get(key) != after.get(key)
    )


# --- what is none of ours ---------------------------------------------------------------------------------------


class Strangers:
    """11: one container, network, volume, image and file of somebody else, each as near to ours as can be."""

    def __init__(self, scene: Stage, image: str) -> None:
        self._scene = scene
        self._image = image
        self._engine = docker.from_env()
        self._name = f"{scene.project}-stranger"
        self._labels = {"proxyctl.project": f"{scene.project}0", "proxyctl.service": "web"}

    def __enter__(self) -> Strangers:
        client = self._engine
        client.networks.create(self._name, labels=self._labels)
        client.volumes.create(self._name, labels=self._labels)
        client.images.get(self._image).tag(self._name, "1")
        client.containers.run(
            f"{self._name}:1", name=f"{self._scene.project}-web", labels=self._labels, network=self._name, detach=True
        )
        (self._scene.folder / "notes.txt").write_text("not yours\n")
        self._before = self._seen()
        return self

    def __exit__(self, *_: object) -> None:
        client = self._engine
        client.containers.get(f"{self._scene.project}-web").remove(force=True)
        client.networks.get(self._name).remove()
        client.volumes.get(self._name).remove()
        client.images.remove(f"{self._name}:1")
        client.close()

    def touched(self) -> list[str]:
        """What is not as it was, or came without our label; empty when all is well."""
        after = self._seen()
        changed = [f"11: {_difference(self._before, after)}"] if after != self._before else []
        return [*changed, *self._unlabelled()]

    def _seen(self) -> dict[str, Any]:
        client = self._engine
        container = client.containers.get(f"{self._scene.project}-web").attrs
        return {
            "container": [container[key] for key in ("Id", "State", "RestartCount", "HostConfig", "NetworkSettings")],
            "network": client.networks.get(self._name).attrs,
            "volume": client.volumes.get(self._name).attrs,
            "image": client.images.get(f"{self._name}:1").attrs["Id"],
            "file": (self._scene.folder / "notes.txt").read_text(),
        }

    def _unlabelled(self) -> Iterator[str]:
        """Whatever is named like ours must carry our label."""
        ours, client = _ours(self._scene), self._engine
        known = {found["Id"] for kind in ours.values() for found in kind}
        for found in (*client.api.containers(all=True), *client.api.networks()):
            names = found.get("Names") or [found["Name"]]
            if not any(self._scene.project in name for name in names) or found["Id"] in known:
                continue
            if names[0].lstrip("/") not in (self._name, f"{self._scene.project}-web"):
                yield f"11: {names[0]} is not labelled as ours"


# --- what a command says ----------------------------------------------------------------------------------------


class Words(Protocol):
    @property
    def code(self) -> int: ...

    @property
    def err(self) -> str: ...


def spoke_plainly(said: Words) -> None:
    """12: never a traceback; a failure says what happened, in one line that starts with `error`, and is no bug."""
    assert "Traceback" not in said.err, said.err
    assert said.code != 1, said.err
    if said.code:
        assert "error: " in said.err.lower(), said


# --- hands ------------------------------------------------------------------------------------------------------


def _places(scene: Stage) -> Places:
    return Places(root=scene.folder / "state")


def _rows(places: Places, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(places.store, timeout=5.0)) as db:
        return db.execute(query).fetchall()


def _ours(scene: Stage) -> dict[str, list[dict[str, Any]]]:
    """What carries the label of this project."""
    filters = {"label": f"proxyctl.project={scene.project}"}
    with closing(docker.from_env()) as client:
        return {
            "containers": client.api.containers(all=True, filters=filters),
            "networks": client.api.networks(filters=filters),
        }


def _life(container: str) -> dict[str, Any]:
    with closing(docker.from_env()) as client:
        found = client.api.inspect_container(container)
    state = found["State"]
    return {"name": found["Name"], "state": state, "restarts": found["HostConfig"]["RestartPolicy"]}
