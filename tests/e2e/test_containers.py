"""A Compose file with more than an image: what is kept of it, what is left out, and its hooks in a rollout."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.invariants import spoke_plainly
from tests.e2e.shop import Shop, ended, open_shop

pytestmark = pytest.mark.docker

PYTHON = Path(sys.executable).resolve()  # the demo images have the host's
COMPOSE = """\
services:
  web:
    image: proxyctl-demo:1
    container_name: the-web
    ports: ["80:8000"]
    depends_on: [db]
    labels: {traefik.enable: "true", team: shop}
    stop_grace_period: 3s
    read_only: true
    cap_drop: [ALL]
    tmpfs: ["/said:mode=1777"]
    secrets: [db]
    volumes: [{type: bind, source: ./left, target: /left}]
    deploy: {replicas: 3, resources: {limits: {memory: 64m, pids: 64}}}
    post_start: [{command: [PYTHON, -S, -c, "print('warm', file=open('/said/x', 'w'))"]}]
    pre_stop: [{command: [PYTHON, -S, -c, "open('/left/x', 'a').write('bye'); print('no more'); raise SystemExit(9)"]}]
  db: {image: "postgres:16"}
secrets: {db: {file: ./db.txt}}
networks: {default: {name: NETWORK}}
"""
FILE = """\
project: PROJECT
compose: compose.yml
proxy: {http: "127.0.0.1:PORT"}
services:
  web:
    allow: [shared-volumes]
    replicas: 1
    port: 8000
    health: {path: /healthz, interval: 100ms, healthy: 2, deadline: 6s}
    container: {networks: []}
    bake: 0s
    standby: 0s
    drain: 500ms
"""


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with open_shop(file=FILE) as shop:
        (shop.scene.folder / "compose.yml").write_text(COMPOSE.replace("PYTHON", str(PYTHON)))
        (shop.scene.folder / "db.txt").write_text("secret")
        (shop.scene.folder / "left").mkdir()
        yield shop


def inside(shop: Shop, code: str) -> str:
    """What this Python prints inside the one replica that runs."""
    (replica,) = [container for container in shop.containers() if container.status == "running"]
    run = replica.exec_run([str(PYTHON), "-S", "-c", code])
    assert isinstance(run.output, bytes)
    return run.output.decode()


async def test_a_compose_service_runs_as_it_is_written_and_what_is_left_out_is_told(shop: Shop) -> None:
    checked = await shop.type("check")
    assert checked.code == 0, checked
    for key in ("container_name", "ports", "depends_on", "labels", "deploy.replicas"):
        assert f"services.web.{key}: left out" in checked.err
    planned = await shop.type("plan")
    assert "services.web.container_name: left out: replicas are named by proxyctl" in planned.err

    deployed = await shop.type("deploy")
    assert deployed.code == 0, deployed
    (replica,) = shop.containers()
    assert replica.labels["team"] == "shop"
    assert "traefik.enable" not in replica.labels
    assert replica.attrs["HostConfig"]["Memory"] == 64 << 20
    assert replica.attrs["HostConfig"]["ReadonlyRootfs"] is True
    assert inside(shop, "print(open('/run/secrets/db').read(), open('/said/x').read())") == "secret warm\n\n"
    assert b"200 OK" in await shop.get("/")


async def test_a_hook_that_fails_refuses_the_candidate_and_one_before_the_stop_does_not_keep_it(shop: Shop) -> None:
    assert (await shop.type("deploy")).code == 0
    compose = shop.scene.folder / "compose.yml"
    written = compose.read_text()
    compose.write_text(written.replace("print('warm'", "print('cold'); raise SystemExit(7); print('warm'"))
    refused = await shop.type("deploy")
    spoke_plainly(refused)
    assert refused.code == 5, refused
    assert "post_start of" in refused.err
    assert "exited with code 7" in refused.err
    assert "cold" in refused.err
    assert b"200 OK" in await shop.get("/")
    assert [container.labels["proxyctl.release"] for container in shop.containers()] == ["web-1"]

    compose.write_text(written)
    assert (await shop.type("deploy")).code == 0
    async with asyncio.timeout(30):
        while shop.containers("release=web-1"):
            await asyncio.sleep(0.1)
    await shop.at_rest()
    assert (shop.scene.folder / "left" / "x").read_text() == "bye"
    events = [json.loads(line) for line in (await shop.type("events", "--json")).out.splitlines()]
    assert any("exited with code 9" in str(event) for event in events), events


async def test_an_engine_on_another_host_is_refused_in_words(shop: Shop) -> None:
    """The socket of the engine reaches further than its bridges: into a network namespace of its own."""
    assert (await shop.type("deploy")).code == 0
    for command, code in (("check", 3), ("plan", 6), ("deploy", 6)):
        said = await ended(
            await asyncio.create_subprocess_exec(
                *("unshare", "--net", sys.executable, "-m", "proxyctl", command, *shop.scene.options),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        )
        spoke_plainly(said)
        assert said.code == code, said
        assert "is not on this host, and nginx here cannot reach its containers" in said.err
    assert [container.labels["proxyctl.release"] for container in shop.containers()] == ["web-1"]
