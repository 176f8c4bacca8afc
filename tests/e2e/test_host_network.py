"""`network_mode: host` with real containers and nginx: one release at a time, and no stranger is taken for it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.e2e.shop import ONE, TWO, Said, Shop, open_shop
from tests.nginx_bed import free_port

pytestmark = pytest.mark.docker

EXITS = "proxyctl-demo:exits"
CHECK = "health: {path: /healthz, interval: 50ms, timeout: 250ms, healthy: 2, deadline: 6s}"
UNCHECKED = "health: none\n    readiness_delay: 1s"
FILE = f"""\
project: PROJECT
proxy:
  http: "127.0.0.1:PORT"
  timeouts: {{upstream_keepalive: 100ms}}
services:
  web:
    allow: [host-network]
    strategy: {{recreate: {{monitor: 1s}}}}
    container: {{image: "proxyctl-demo:1", network_mode: host, environment: {{LISTENS_ON: "@"}}, stop_grace_period: 2s}}
    port: @
    {CHECK}
    drain: 1s
"""


@asynccontextmanager
async def a_stranger(port: int) -> AsyncIterator[str]:
    """Who answers everything with 200; what is said of him."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nX-Release: stranger\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield f"127.0.0.1:{port} is taken by pid {os.getpid()} ("
    finally:
        server.close()
        await server.wait_closed()


async def a_dead_engine_is_one_problem_among_others(shop: Shop) -> None:
    with pytest.MonkeyPatch.context() as elsewhere:
        elsewhere.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
        said = await shop.type("check")
    assert (said.code, said.err.count("| docker: "), "web: " in said.err) == (3, 1, False), said


async def test_releases_follow_each_other_at_one_port_of_the_host_and_no_stranger_is_taken_for_one() -> None:
    port, elsewhere = free_port(), free_port()
    async with open_shop(file=FILE.replace("@", str(port))) as shop:
        shop.write("LISTENS_ON", "PORT")  # which stands for nginx's in the file that a shop is opened with
        await a_dead_engine_is_one_problem_among_others(shop)
        await who_holds_the_port_is_told_before_anything_is_done(shop, port)
        shop.write(f'"{port}"', f'"{elsewhere}"')
        await who_takes_it_from_a_candidate_does_not_serve(shop, port)
        shop.write(f'"{elsewhere}"', f'"{port}"')
        await it_is_live(shop, await shop.type("deploy", "web"), b"1")
        await it_is_live(shop, await shop.type("deploy", "web", "--image", TWO), b"2")
        await killed_in_the_gap(shop, await shop.start("deploy", "web", "--image", ONE))
        await it_is_live(shop, await shop.type("recover"), b"2")
        failed = await shop.type("deploy", "web", "--image", EXITS)
        assert failed.code == 5 and "exited with code 3" in failed.err, failed.err
        await it_is_live(shop, await shop.type("rollback", "web", "--to", "web-2"), b"1")


async def who_holds_the_port_is_told_before_anything_is_done(shop: Shop, port: int) -> None:
    async with a_stranger(port) as him:
        told = await shop.type("check")
        assert told.code == 3 and f"web: {him}" in told.err, told.err
        refused = await shop.type("deploy", "web")
        assert refused.code == 6 and him in refused.err, refused.err
        assert shop.containers() == []


async def who_takes_it_from_a_candidate_does_not_serve(shop: Shop, port: int) -> None:
    """The candidate passes every check of its own, and listens elsewhere."""
    shop.write(CHECK, UNCHECKED)
    deploy = await shop.start("deploy", "web")
    while not shop.containers("release=web-1"):
        await asyncio.sleep(0.02)
    async with a_stranger(port) as him:
        _, said = await deploy.communicate()
        assert deploy.returncode == 5 and him in said.decode(), said.decode()
        assert b"stranger" not in await shop.get("/")
    shop.write(UNCHECKED, CHECK)


async def killed_in_the_gap(shop: Shop, deploy: asyncio.subprocess.Process) -> None:
    """When neither release stands."""
    while shop.containers("release=web-3"):
        await asyncio.sleep(0.02)
    os.kill(shop.driver(), signal.SIGKILL)
    await deploy.communicate()


async def it_is_live(shop: Shop, said: Said, release: bytes) -> None:
    """And alone, and comes back with the machine as any other."""
    assert said.code == 0, said.err
    await shop.at_rest()
    assert b"X-Release: " + release + b"\r\n" in await shop.get("/")
    (host,) = (container.attrs["HostConfig"] for container in shop.containers())
    assert (host["NetworkMode"], host["RestartPolicy"]["Name"]) == ("host", "always")
