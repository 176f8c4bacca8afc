"""A registry on 127.0.0.1 with one image of one small layer, for real pulls by a real engine. Start at registry()."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import tarfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


class Registry:
    """`tiny:1` can be pulled, `locked:1` by nobody, `slow:1` is never answered; there is nothing else.
    No other registry has its images: who removes one takes it from nobody else on the engine."""

    def __init__(self) -> None:
        self.port = 0
        self.only_for = ""  # the Authorization of who logged in; empty: for everybody
        self.asked = asyncio.Event()  # what `tiny:1` is
        self.answers = asyncio.Event()  # a pull waits until then
        self.answers.set()
        self._name = uuid.uuid4().hex
        self.publish(b"hello\n")

    def publish(self, content: bytes, architecture: str = "amd64", **more: str) -> None:
        """From now on every tag names an image of this."""
        layer = _tar({"hello": content, "registry": self._name.encode()})
        rootfs = {"type": "layers", "diff_ids": [_digest(layer)]}
        config = {"architecture": architecture, "os": "linux", "rootfs": rootfs, **more}
        self._layer = gzip.compress(layer)
        self._config = json.dumps(config | {"config": {}, "history": []}).encode()
        self._manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": _described(CONFIG, self._config),
                "layers": [_described(LAYER, self._layer)],
            }
        ).encode()

    def image(self, name: str) -> str:
        return f"127.0.0.1:{self.port}/{name}"

    async def answer(self, request: web.Request) -> web.Response:
        path = request.path
        if self.only_for and request.headers.get("Authorization") != self.only_for:
            challenge = {"WWW-Authenticate": 'Basic realm="tiny"'}
            return web.json_response(_error("UNAUTHORIZED", "authentication required"), status=401, headers=challenge)
        if path == "/v2/":
            return web.Response()
        if path.startswith("/v2/locked/"):
            return web.json_response(_error("DENIED", "requested access to the resource is denied"), status=403)
        if path.startswith("/v2/slow/"):
            await asyncio.sleep(3600)
        if path.startswith("/v2/tiny/manifests/"):
            self.asked.set()
            await self.answers.wait()
            headers = {"Docker-Content-Digest": _digest(self._manifest)}
            return web.Response(body=self._manifest, content_type=MANIFEST, headers=headers)
        blobs = {_digest(blob): blob for blob in (self._config, self._layer)}
        blob = blobs.get(path.rpartition("/")[2])
        if blob is None:
            return web.json_response(_error("MANIFEST_UNKNOWN", "manifest unknown"), status=404)
        return web.Response(body=blob, content_type="application/octet-stream")


@asynccontextmanager
async def registry() -> AsyncIterator[Registry]:
    made, app = Registry(), web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        await runner.cleanup()


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _described(kind: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "size": len(content), "digest": _digest(content)}


def _error(code: str, message: str) -> dict[str, Any]:
    return {"errors": [{"code": code, "message": message}]}
