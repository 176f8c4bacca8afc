"""Several services in one file: with and without traffic, with every kind of check, good and bad."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.shop import Shop, open_shop

pytestmark = pytest.mark.docker

PYTHON = Path(sys.executable).resolve()  # the demo images have the host's
CHECK = f"""["{PYTHON}", -S, -c, "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz')"]"""
FILE = f"""\
project: PROJECT
proxy: {{http: "127.0.0.1:PORT"}}
services:
  api:
    container: {{image: "proxyctl-demo:1", stop_grace_period: 1s}}
    port: 8000
    path: /api
    health: {{tcp: true, interval: 100ms, healthy: 1, deadline: 6s}}
    bake: 0s
    drain: 500ms
  worker:
    container: {{image: "proxyctl-demo:1", stop_grace_period: 1s}}
    health: {{exec: {CHECK}, interval: 100ms, healthy: 1, timeout: 3s, deadline: 6s}}
  checked:
    container:
      image: "proxyctl-demo:1"
      stop_grace_period: 1s
      healthcheck: {{test: [CMD, {CHECK.strip("[]")}], interval: 1s, timeout: 3s}}
    health: {{docker: true, interval: 100ms, healthy: 1, deadline: 15s}}
    bake: 0s
  quiet:
    container: {{image: "proxyctl-demo:1", stop_grace_period: 1s}}
    readiness_delay: 1s
    bake: 0s
  site:
    container: {{image: "proxyctl-demo:2", stop_grace_period: 1s}}
    port: 8000
    hosts: [site.example.com]
    health: none
    bake: 0s
    drain: 500ms
  web:
    container: {{image: "proxyctl-demo:1", stop_grace_period: 1s}}
    port: 8000
    health: {{path: /healthz, interval: 100ms, healthy: 1, deadline: 6s}}
    bake: 0s
    drain: 500ms
"""


UNCHECKED = f"""\
project: PROJECT
proxy: {{http: "127.0.0.1:PORT"}}
services:
  refusing:
    container: {{image: "proxyctl-demo:1", stop_grace_period: 1s}}
    port: 8000
    health: none
    bake: 0s
  grumbling:
    container: {{image: "proxyctl-demo:1", stop_grace_period: 1s}}
    health: none
    bake: 0s
  ailing:
    container:
      image: "proxyctl-demo:1"
      stop_grace_period: 1s
      healthcheck: {{test: [CMD, "{PYTHON}", -S, -c, "raise SystemExit(1)"], interval: 1s, retries: 1}}
    health: none
    bake: 0s
"""
CHECKS = {  # and what is said of them
    "refusing": ("{tcp: 8001, interval: 100ms, timeout: 500ms, deadline: 1s}", "connection refused"),
    "grumbling": (
        f"""{{exec: ["{PYTHON}", -S, -c, "raise SystemExit(7)"], interval: 100ms, timeout: 2s, deadline: 3s}}""",
        "exit code 7",
    ),
    "ailing": ("{docker: true, interval: 100ms, timeout: 1s, deadline: 4s}", "unhealthy"),
}


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with open_shop(file=FILE) as made:
        yield made


async def live(shop: Shop) -> dict[str, list[str]]:
    """Releases by service."""
    services: list[dict[str, Any]] = (await shop.status())["services"]
    return {service["name"]: [release["id"] for release in service["releases"]] for service in services}


async def test_one_command_deploys_all_of_a_file_each_by_its_own_check(shop: Shop) -> None:
    said = await shop.type("deploy")
    assert said.code == 0, said.err
    assert await live(shop) == {name: [f"{name}-1"] for name in ("api", "checked", "quiet", "site", "web", "worker")}
    for path in ("/", "/api", "/api/x", "/apish"):
        assert (await shop.get(path)).endswith(b"1\n")
    assert (await shop.get("/", host="site.example.com")).endswith(b"2\n")


async def test_the_old_worker_stops_as_soon_as_the_new_one_passed_its_gate(shop: Shop) -> None:
    began = time.monotonic()
    for services in (("web", "worker"), ("worker",)):
        said = await shop.type("deploy", *services)
        assert said.code == 0, said.err
    while (await live(shop))["worker"] != ["worker-2"]:
        assert time.monotonic() - began < 40, "a bake would take a minute each time"
        await asyncio.sleep(0.1)
    assert "end the old release" in (await shop.type("plan", "worker")).out


async def test_a_service_that_fails_leaves_the_ones_after_it_and_hinders_no_other(shop: Shop) -> None:
    shop.write(
        'proxyctl-demo:1", stop_grace_period: 1s}\n    readiness_delay',
        'proxyctl-demo:exits", stop_grace_period: 1s}\n    readiness_delay',
    )
    said = await shop.type("deploy")
    assert said.code == 5
    assert "exited with code 3" in said.err
    assert "left as they were: site, web" in said.err
    assert sorted(name for name, releases in (await live(shop)).items() if releases) == ["api", "checked", "worker"]
    assert (await shop.type("deploy", "web")).code == 0
    assert (await shop.get("/")).endswith(b"1\n")
    shop.write("proxyctl-demo:exits", "proxyctl-demo:1")
    assert (await shop.type("deploy", "quiet")).code == 0


async def test_a_check_of_any_kind_that_fails_refuses_the_release_and_says_what_it_saw() -> None:
    async with open_shop(file=UNCHECKED) as shop:
        assert (await shop.type("deploy")).code == 0
        before = await live(shop)
        for name, (check, _) in CHECKS.items():
            head, tail = shop.file.read_text().split(f"  {name}:", 1)
            shop.file.write_text(f"{head}  {name}:{tail.replace('none', check, 1)}")
        refused = await asyncio.gather(*(shop.type("deploy", name) for name in CHECKS))
        for (name, (_, words)), said in zip(CHECKS.items(), refused, strict=True):
            assert said.code == 5, said.err
            assert words in said.err
            assert f"serving: {name}: {name}-1 (blue) 100 %" in said.err
        assert await live(shop) == before
        assert sorted(container.labels["proxyctl.release"] for container in shop.containers()) == sorted(
            f"{name}-1" for name in CHECKS
        )


async def test_two_services_can_be_deployed_at_once(shop: Shop) -> None:
    first, second = await shop.start("deploy", "api"), await shop.start("deploy", "web")
    for process in (first, second):
        _, err = await process.communicate()
        assert process.returncode == 0, err.decode()
    for path in ("/", "/api"):
        assert (await shop.get(path)).endswith(b"1\n")
