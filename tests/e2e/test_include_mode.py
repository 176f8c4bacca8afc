"""The same story in an nginx that the user runs already, with a site of its own."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxyctl.adapters.nginx.process.master import MASTER, process_of, title_of
from tests.e2e.shop import SICK, TWO, Shop, open_shop
from tests.nginx_bed import DEBIAN, free_port

pytestmark = pytest.mark.docker

FILE = """\
project: PROJECT
proxy: {mode: include, config: CONFIG, http: "127.0.0.1:PORT"}
services:
  web:
    container: {image: "proxyctl-demo:1", stop_grace_period: 2s}
    port: 8000
    replicas: 2
    hosts: [shop]
    health: {path: /healthz, interval: 200ms, healthy: 2, deadline: 6s}
    bake: 0s
    drain: 500ms
"""
NGINX = """
pid {users}/nginx.pid;
error_log {users}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {users}/bodies;
    server {{ listen 127.0.0.1:{port}; server_name own; location / {{ return 200 "a site of its own"; }} }}
}}
"""


class Users:
    """Their nginx."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.config = folder / "nginx.conf"
        self.config.write_text(NGINX.format(users=folder, port=self.port))

    async def get(self) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return answer

    async def start(self) -> None:
        child = await asyncio.create_subprocess_exec(DEBIAN, "-e", f"{self.folder}/error.log", "-c", str(self.config))
        assert await child.wait() == 0
        while not self.runs():
            await asyncio.sleep(0.01)

    def runs(self) -> bool:
        """Its pid file and its title come a moment later."""
        pid = self.pid_file.read_text() if self.pid_file.exists() else ""
        return bool(pid) and title_of(int(pid)).startswith(MASTER)

    async def end(self) -> None:
        master = process_of(int(self.pid_file.read_text()))
        master.send(signal.SIGTERM)
        while master.title:
            await asyncio.sleep(0.01)

    def include(self, line: str) -> None:
        self.config.write_text(self.config.read_text().replace("http {", f"http {{\n    {line}"))

    @property
    def pid_file(self) -> Path:
        return self.folder / "nginx.pid"


@pytest.fixture
async def users() -> AsyncIterator[Users]:
    folder = Path(tempfile.mkdtemp(prefix="proxyctl-users-", dir="/tmp"))
    folder.chmod(0o755)
    made = Users(folder)
    await made.start()
    yield made
    await made.end()
    shutil.rmtree(folder)


@pytest.fixture
async def shop(users: Users) -> AsyncIterator[Shop]:
    async with open_shop(file=FILE.replace("CONFIG", str(users.config))) as made:
        yield made


async def test_a_first_deploy_says_which_line_is_missing_and_then_all_goes_as_ever(shop: Shop, users: Users) -> None:
    refused = await shop.type("deploy", "web")
    assert refused.code != 0
    line = f"include {shop.scene.folder}/state/public/current/*.conf;"
    assert f"write `{line}` into the http part of {users.config}" in refused.err
    assert (await users.get()).endswith(b"a site of its own")
    users.include(line)
    first = await shop.type("deploy", "web")
    assert first.code == 0, first.err
    async with shop.load() as load:
        assert (await shop.type("deploy", "web", "--image", TWO)).code == 0
        assert (await shop.get("/")).endswith(b"2\n")
        assert (await shop.type("rollback", "web")).code == 0
        assert (await shop.get("/")).endswith(b"1\n")
        assert (await shop.type("deploy", "web", "--image", SICK)).code == 5
    assert load.failed() == []
    assert (await users.get()).endswith(b"a site of its own")
    stop = await shop.type("proxy", "stop", "--yes")
    assert stop.code == 6
    assert "this nginx is yours" in stop.err
    await users.end()
    gone = await shop.type("proxy", "start")
    assert gone.code == 6
    assert "systemctl start nginx" in gone.err
    await users.start()
    assert (await shop.get("/")).endswith(b"1\n")
