"""`network_mode: host` with real containers and nginx: one release at a time, and no stranger is taken for it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.e2e.shop import ONE, SICK, TWO, Shop, open_shop

pytestmark = pytest.mark.docker

CHECK = "health: {path: /healthz, interval: 50ms, timeout: 250ms, healthy: 2, deadline: 2s}"
FILE = f"""\
project: PROJECT
proxy:
  http: "127.0.0.1:PORT"
  timeouts: {{upstream_keepalive: 100ms}}
services:
  web:
    allow: [host-network]
    strategy: {{recreate: {{monitor: 1s}}}}
    container: {{image: "proxyctl-demo:1", network_mode: host, environment: {{ITS_OWN: "@"}}, stop_grace_period: 2s}}
    port: @
    {CHECK}
    drain: 1s
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def a_stranger(port: int) -> AsyncIterator[None]:
    """Who answers everything with 200."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nX-Release: stranger\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def a_shop() -> AsyncIterator[tuple[Shop, int]]:
    """Release 1 is live, at this port of the host."""
    port = free_port()
    async with open_shop(file=FILE.replace("@", str(port))) as shop:
        shop.write("ITS_OWN", "PORT")  # which stands for nginx's in the file that a shop is opened with
        first = await shop.type("deploy", "web")
        assert first.code == 0, first.err
        yield shop, port


async def serving(shop: Shop) -> bytes:
    head, _, _ = (await shop.get("/")).partition(b"\r\n\r\n")
    return head.partition(b"X-Release: ")[2].partition(b"\r\n")[0]


async def killed_in_the_gap(shop: Shop, deploy: asyncio.subprocess.Process) -> None:
    """When neither release stands."""
    while shop.containers("release=web-2"):
        await asyncio.sleep(0.02)
    os.kill(shop.driver(), signal.SIGKILL)
    await deploy.communicate()


async def test_releases_follow_each_other_at_one_port_of_the_host_whatever_happens_to_them() -> None:
    async with a_shop() as (shop, _):
        (live,) = shop.containers()
        host = live.attrs["HostConfig"]
        assert (host["NetworkMode"], host["RestartPolicy"]["Name"]) == ("host", "always")
        second = await shop.type("deploy", "web", "--image", TWO)
        assert second.code == 0 and "nobody answered for " in second.err, second.err
        assert await serving(shop) == b"2"
        await killed_in_the_gap(shop, await shop.start("deploy", "web", "--image", ONE))
        assert (await shop.type("recover")).code == 0
        await shop.at_rest()
        assert await serving(shop) == b"2"
        sick = await shop.type("deploy", "web", "--image", SICK)
        assert sick.code == 5 and "was not healthy within 2 s" in sick.err, sick.err
        assert await serving(shop) == b"2"
        back = await shop.type("rollback", "web", "--to", "web-1")
        assert back.code == 0, back.err
        assert await serving(shop) == b"1" and len(shop.containers()) == 1


async def test_a_port_that_a_stranger_holds_is_told_before_anything_is_done_and_he_never_serves() -> None:
    async with a_shop() as (shop, port):
        other = free_port()
        shop.write(f"    port: {port}", f"    port: {other}")
        taken = f"127.0.0.1:{other} is taken by pid {os.getpid()} ("
        async with a_stranger(other):
            told = await shop.type("check")
            assert told.code != 0 and f"web: {taken}" in told.err, told.err
            refused = await shop.type("deploy", "web")
            assert refused.code == 6 and taken in refused.err, refused.err
            assert [seen.status for seen in shop.containers("release=web-1")] == ["running"]
        shop.write("health: {path: /healthz, interval: 50ms, timeout: 250ms, healthy: 2, deadline: 2s}", "health: none")
        shop.write("    drain: 1s", "    drain: 1s\n    readiness_delay: 1s")
        deploy = await shop.start("deploy", "web")
        while not shop.containers("release=web-2"):  # it listens on the port of before
            await asyncio.sleep(0.02)
        async with a_stranger(other):
            _, said = await deploy.communicate()
            assert deploy.returncode == 5 and taken in said.decode(), said.decode()
            assert await serving(shop) == b"1"
