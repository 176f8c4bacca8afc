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
    "etc/passwd": b"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/sh\n",
    "etc/group": b"root:x:0:\nusers:x:100:\nnogroup:x:65534:\n",
}


def image_of(program: str, tag: str) -> str:
    """The reference of an image in which `nginx` is this program."""
    reference = f"{REPOSITORY}:{tag}"
    client = docker.from_env()
    try:
        client.images.get(reference)
    except ImageNotFound:
        client.api.import_image_from_data(_root(Path(found(program))), repository=REPOSITORY, tag=tag)
    finally:
        client.close()
    return reference


def found(program: str) -> str:
    path = shutil.which(program, path="/usr/sbin:/usr/bin:/bin")
    assert path is not None, f"{program} is missing; scripts/setup installs it"
    return path


def _root(nginx: Path) -> bytes:
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
        for name, content in USERS.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _folder(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    return entry
