"""Demo images without any registry: Python out of the host's own files, imported; each release one layer above it.

Nothing is downloaded. `build_all()` is idempotent and takes about two seconds the first time.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

import docker
from docker.errors import ImageNotFound

REPOSITORY = "proxyctl-demo"
LABEL = "proxyctl.demo"
LEFT_OUT = (
    "test",
    "idlelib",
    "tkinter",
    "turtledemo",
    "site-packages",
    "ensurepip",
    "lib2to3",
    "config-",
)

RELEASES: dict[str, dict[str, str]] = {
    "1": {},
    "2": {},
    "3": {},
    "sick": {"SICK": "1"},
    "exits": {"EXIT_AFTER_MS": "0"},
    "dies": {"EXIT_AFTER_MS": "4000"},
    "flawed": {"ERROR_RATE": "0.2"},
}


def build_all(client: docker.DockerClient) -> dict[str, str]:
    """Image reference per release name."""
    base = _base(client)
    return {name: _release(client, base, name, environment) for name, environment in RELEASES.items()}


def _base(client: docker.DockerClient) -> str:
    """The host's Python and what it links to, named by their content."""
    paths = sorted(set(_python_files()))
    stamp = hashlib.sha256("\n".join(f"{p} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in paths).encode())
    reference = f"{REPOSITORY}-base:{stamp.hexdigest()[:12]}"
    try:
        client.images.get(reference)
    except ImageNotFound:
        name, _, tag = reference.partition(":")
        client.api.import_image_from_data(_tar(paths), repository=name, tag=tag)
    return reference


def _release(client: docker.DockerClient, base: str, name: str, environment: dict[str, str]) -> str:
    reference = f"{REPOSITORY}:{name}"
    code = files("proxyctl.demo").joinpath("app.py").read_bytes()
    variables = environment | {"RELEASE": name, "PYTHONHOME": sys.base_prefix, "PYTHONUNBUFFERED": "1"}
    lines = [f"FROM {base}", "COPY app.py /app.py", *(f"ENV {k}={v}" for k, v in variables.items())]
    lines += [f"LABEL {LABEL}=1", f'CMD ["{_interpreter()}", "-S", "/app.py"]']
    content = "\n".join(lines).encode()
    stamp = hashlib.sha256(content + code).hexdigest()
    try:
        if (client.images.get(reference).labels or {}).get(f"{LABEL}.content") == stamp:
            return reference
    except ImageNotFound:
        pass
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        _add(tar, "Dockerfile", content)
        _add(tar, "app.py", code)
    context.seek(0)
    client.images.build(
        fileobj=context, custom_context=True, tag=reference, labels={f"{LABEL}.content": stamp}, rm=True
    )
    return reference


def _interpreter() -> Path:
    return Path(sys.executable).resolve()


def _python_files() -> Iterable[Path]:
    """The interpreter, its standard library, and every shared library that one of them links to."""
    library = Path(sysconfig.get_paths()["stdlib"]).resolve()
    own = [path for path in library.rglob("*") if path.is_file() and not _left_out(path.relative_to(library))]
    binaries = [_interpreter(), *(path for path in own if path.suffix == ".so")]
    yield _interpreter()
    yield from own
    yield from linked(binaries)


def _left_out(path: Path) -> bool:
    """What is compiled already is kept: every replica would compile it anew, in half a second of a processor."""
    return any(part.startswith(LEFT_OUT) for part in path.parts) or ".opt-" in path.name


def linked(binaries: list[Path]) -> set[Path]:
    listed = subprocess.run(["ldd", *map(str, binaries)], capture_output=True, text=True, check=False).stdout
    words = (word for line in listed.splitlines() if "=>" in line or "/ld-" in line for word in line.split())
    return {Path(word) for word in words if word.startswith("/") and not word.endswith(":")}


def _tar(paths: list[Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as tar:
        for path in paths:
            tar.add(path, arcname=str(path), recursive=False)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
