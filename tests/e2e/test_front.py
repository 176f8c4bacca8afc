"""What stands before users: a password, replicas that know their callers; deploys and rollbacks behind them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import closing

import docker
import pytest

from tests.certificates import a_pair
from tests.e2e.shop import ONE, THREE, TWO, Shop, open_shop

pytestmark = pytest.mark.docker
HASH = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="  # of the word secret
DEMANDING = """\
import asyncio, functools, runpy, ssl
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile="/inside/caller.crt")
context.load_cert_chain("/inside/replica.crt", "/inside/replica.key")
context.verify_mode = ssl.CERT_REQUIRED
asyncio.start_server = functools.partial(asyncio.start_server, ssl=context)
runpy.run_path("/app.py", run_name="__main__")
"""


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with open_shop(bake="0s") as made:
        yield made


async def typed(shop: Shop, *words: str) -> str:
    said = await shop.type(*words)
    assert said.code == 0, said.err
    return said.err


async def test_a_release_is_gated_and_served_behind_a_password(shop: Shop) -> None:
    passwords = shop.scene.folder / "htpasswd"
    passwords.write_text(f"ann:{HASH}\n")
    shop.write("    drain: 5s", "    drain: 1s\n    basic_auth: file:htpasswd")
    assert "passwords travel readable" in await typed(shop, "check")
    await typed(shop, "deploy", "web")
    assert b" 401 " in await shop.get("/")
    assert await asked_as(shop, "ann") == b"200"
    shop.write("file:htpasswd", "file:nowhere")
    assert "nowhere cannot be read" in (await shop.type("check")).err
    passwords.write_text(f"bob:{HASH}\n")
    await typed(shop, "proxy", "reload")
    assert (await asked_as(shop, "ann"), await asked_as(shop, "bob")) == (b"401", b"200")


async def asked_as(shop: Shop, user: str) -> bytes:
    """The status."""
    credentials = b64encode(f"{user}:secret".encode()).decode()
    return (await shop.get("/", f"shop\r\nAuthorization: Basic {credentials}")).split(b" ")[1]


async def test_replicas_begin_to_demand_a_certificate_and_no_request_is_lost(shop: Shop) -> None:
    await typed(shop, "deploy", "web")
    inside = shop.scene.folder / "inside"
    inside.mkdir()
    for name, host in (("replica", "web.internal"), ("caller", "nginx.internal")):
        a_pair(inside, name, host)
    (inside / "replica.py").write_text(DEMANDING)
    shop.write(
        f'image: "{ONE}"',
        f'image: "{ONE}", command: [{interpreter()}, -S, /inside/replica.py], volumes: ["./inside:/inside:ro"]',
    )
    files = "ca: file:inside/replica.crt, cert: file:inside/caller.crt, key: file:inside/caller.key"
    shop.write("    drain: 5s", f"    drain: 1s\n    upstream_tls: {{{files}, server_name: web.internal}}")
    async with shop.load() as load:
        await typed(shop, "deploy", "web", "--image", TWO)  # it is the first that speaks TLS
        assert (await shop.get("/")).endswith(b"2\n")
        await typed(shop, "rollback", "web")
        assert (await shop.get("/")).endswith(b"1\n")
        await typed(shop, "switch", "web")
        shop.write("server_name: web.internal", "server_name: nobody.internal")
        refused = await shop.type("deploy", "web", "--image", THREE)
        assert (refused.code, "TLS: Hostname mismatch" in refused.err) == (5, True), refused.err
        shop.write("server_name: nobody.internal", "server_name: web.internal")
        await typed(shop, "deploy", "web", "--image", THREE)
        await typed(shop, "rollback", "web")
        assert (await shop.get("/")).endswith(b"2\n")
    assert load.failed() == []


def interpreter() -> str:
    """Of the demo images."""
    with closing(docker.from_env()) as engine:
        command: list[str] = engine.images.get(ONE).attrs["Config"]["Cmd"]
    return command[0]
