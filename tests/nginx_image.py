"""An nginx image without any registry: a shell, the nginx of this host and what it links to, imported."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import docker
from docker.errors import ImageNotFound

from proxyctl.demo.images import linked

REPOSITORY = "proxyctl-test-nginx"
USERS = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\nnobody:x:{workers}:{workers}::/nonexistent:/bin/sh\n",
    "etc/group": "root:x:0:\nusers:x:100:\nnogroup:x:{workers}:\n",
}


def image_of(program: str, tag: str, workers: int = 65534) -> str:
    """The reference of an image in which `nginx` is this program, and its workers have this user and group."""
    reference = f"{REPOSITORY}:{tag}"
    client = docker.from_env()
    try:
        client.images.get(reference)
    except ImageNotFound:
        client.api.import_image_from_data(_root(Path(found(program)), workers), repository=REPOSITORY, tag=tag)
    finally:
        client.close()
    return reference


def found(program: str) -> str:
    path = shutil.which(program, path="/usr/sbin:/usr/bin:/bin")
    assert path is not None, f"{program} is missing; scripts/setup installs it"
    return path


def _root(nginx: Path, workers: int) -> bytes:
    shell = Path(found("dash"))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as tar:
        for folder in ("usr/sbin", "tmp", "run", "var/log/nginx", "var/lib/nginx", "usr/share/nginx"):
            tar.addfile(_folder(folder))
        for path in linked([nginx, shell, Path(found("rm"))]):
            tar.add(path, arcname=str(path), recursive=False)
        tar.add(nginx, "usr/sbin/nginx")
        tar.add(shell, "bin/sh")
        tar.add(found("rm"), "bin/rm")
        for name, users in USERS.items():
            content = users.format(workers=workers).encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _folder(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    return entry
