"""Dependencies point one way, and no file is named for nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2] / "proxyctl"

# room: the rooms that it may import from
ARROWS = {
    "domain": {"domain", "errors"},
    "engine": {"engine", "domain", "ports", "errors"},
    "adapters": {"adapters", "domain", "ports", "errors"},
    "config": {"config", "domain", "errors"},
    "cli": {"cli", "engine", "domain", "ports", "errors", "config", "wiring", "demo"},
    "demo": {"demo", "domain", "errors", "wiring"},
    "ports": {"domain"},
    "errors": set(),
    "wiring": {"adapters", "engine", "domain", "ports", "errors", "config"},
    "__main__": {"cli"},
}
NGINX = "proxyctl.adapters.nginx."
ROOMS = ("process", "traffic", "rendering", "readback", "generations")  # each may import from those before it
LENT = "places lives trust durable secrets answers unanswered last_words programs sockets"
SHARED = tuple(f"proxyctl.adapters.{name}" for name in LENT.split())


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(("proxyctl", *(part for part in parts if part != "__init__"))), path


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def own(module: str) -> str:
    """`docker` and `nginx` are one adapter each, whatever the number of their files."""
    return ".".join(module.split(".")[:3]) + "."


def wrong_arrows() -> Iterator[str]:
    for module, path in modules():
        for target in imported(path):
            if not target.startswith("proxyctl.") or not room(module):
                continue
            if room(target) == "__version__":
                continue
            if room(target) not in ARROWS[room(module)]:
                yield f"{module} -> {target}"
            elif room(module) == "adapters" == room(target) and not target.startswith((*SHARED, own(module))):
                yield f"{module} -> {target}: no adapter imports another"


def test_every_import_goes_the_allowed_way() -> None:
    assert list(wrong_arrows()) == []


def test_the_rooms_of_nginx_stand_in_an_order() -> None:
    backwards = [
        f"{module} -> {target}"
        for module, path in modules()
        for target in imported(path)
        if module.startswith(NGINX) and target.startswith(NGINX)
        for mine, its in [(module.split(".")[3], target.split(".")[3])]
        if mine in ROOMS and its in (*ROOMS, "proxy", "look", "rehearsal") and its not in ROOMS[: ROOMS.index(mine) + 1]
    ]
    assert backwards == []


def test_the_walk_sees_the_imports() -> None:
    assert any(target.startswith("proxyctl.domain") for target in imported(ROOT / "wiring.py"))


def test_no_file_and_no_class_is_named_for_nothing() -> None:
    empty = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}
    assert [path for _, path in modules() if path.stem in empty] == []
    classes = [
        node.name
        for _, path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    assert [name for name in classes if name.endswith("Manager")] == []


def test_nobody_waits_by_wait_for() -> None:
    """Before Python 3.12 it swallows a cancellation that comes together with the result: a gate hung for ever."""
    assert [path for _, path in modules() if "wait_for(" in path.read_text()] == []
