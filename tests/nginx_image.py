"""nginx images without any registry: a shell, the nginx of this host and what it links to, imported; or the nginx of
another Debian, with all that it runs on. Start at image_of() and image_with_http3().
"""

from __future__ import annotations

import io
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import docker
from docker.errors import ImageNotFound

from proxyctl.demo.images import linked

REPOSITORY = "proxyctl-test-nginx"
FETCHED = Path(sys.prefix) / "trixie"
# A Debian keeps them in usr since it is one folder, and programs ask for them here; the shell is BusyBox.
LINKS = {
    "bin": "usr/bin",
    "lib": "usr/lib",
    "lib64": "usr/lib64",
    "usr/bin/sh": "busybox",
    "usr/bin/rm": "busybox",
}
FOLDERS = ("tmp", "run", "var/log/nginx", "var/lib/nginx", "usr/share/nginx")
USERS = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\nnobody:x:{workers}:{workers}::/nonexistent:/bin/sh\n",
    "etc/group": "root:x:0:\nusers:x:100:\nnogroup:x:{workers}:\n",
}


def image_of(program: str, tag: str, workers: int = 65534) -> str:
    """The reference of an image in which `nginx` is this program, and its workers have this user and group."""
    return _imported(tag, lambda tar: _add_host(tar, Path(found(program)), workers))


def image_with_http3() -> str:
    """The reference of an image with nginx 1.26 of Debian trixie, which was built with HTTP/3."""
    assert FETCHED.is_dir(), f"{FETCHED} is missing; `scripts/setup tests` fetches it"
    return _imported("trixie", _add_fetched)


def found(program: str) -> str:
    path = shutil.which(program, path="/usr/sbin:/usr/bin:/bin")
    assert path is not None, f"{program} is missing; scripts/setup installs it"
    return path


def _imported(tag: str, add: Callable[[tarfile.TarFile], None]) -> str:
    reference = f"{REPOSITORY}:{tag}"
    client = docker.from_env()
    try:
        client.images.get(reference)
    except ImageNotFound:
        client.api.import_image_from_data(_root(add), repository=REPOSITORY, tag=tag)
    finally:
        client.close()
    return reference


def _root(add: Callable[[tarfile.TarFile], None]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        add(tar)
    return buffer.getvalue()


def _add_host(tar: tarfile.TarFile, nginx: Path, workers: int) -> None:
    tar.dereference = True
    shell = Path(found("dash"))
    _add_around(tar, workers)
    tar.addfile(_entry("usr/sbin", tarfile.DIRTYPE))
    for path in linked([nginx, shell, Path(found("rm"))]):
        tar.add(path, arcname=str(path), recursive=False)
    tar.add(nginx, "usr/sbin/nginx")
    tar.add(shell, "bin/sh")
    tar.add(found("rm"), "bin/rm")


def _add_fetched(tar: tarfile.TarFile) -> None:
    tar.add(FETCHED, ".")
    _add_around(tar)
    for name, target in LINKS.items():
        link = _entry(name, tarfile.SYMTYPE)
        link.linkname = target
        tar.addfile(link)


def _add_around(tar: tarfile.TarFile, workers: int = 65534) -> None:
    """What nginx needs beside its program: folders to write to, and users."""
    for folder in FOLDERS:
        tar.addfile(_entry(folder, tarfile.DIRTYPE))
    for name, users in USERS.items():
        content = users.format(workers=workers).encode()
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))


def _entry(name: str, kind: bytes) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = kind, 0o755
    return entry
