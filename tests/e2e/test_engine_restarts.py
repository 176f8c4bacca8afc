"""Docker itself stopped, killed, frozen, cut off and started again: a dockerd of this file's own. What serves comes
back by itself, and is trusted again only after its gate."""

from __future__ import annotations

import asyncio
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from proxyctl.adapters.locks import FileLocks
from proxyctl.adapters.nginx.process.master import find_master, workers_of
from proxyctl.adapters.places import Places
from proxyctl.adapters.systemd import units
from proxyctl.domain.model import ServiceName
from tests.e2e.invariants import spoke_plainly, unchanged
from tests.e2e.pair import file_says, standing_pair
from tests.e2e.shop import ONE, THREE, TWO, Shop, answers, ended, traffic_stays
from tests.own_engine import OwnEngine, own_engine

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("own engine")]

SOON = 4.0  # nothing is waited for but a probe or an answer of nginx
ENGINE_PATIENCE = 15.0  # a hung engine is given 11 s
SERVES_WITHIN = 20.0

Act = Callable[[OwnEngine], None]


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    """Every command, driver and guard of this file speaks to it."""
    with pytest.MonkeyPatch.context() as patch, own_engine() as made:
        patch.setenv("DOCKER_HOST", made.host)
        yield made


@pytest.fixture(scope="module")
def shop(engine: OwnEngine) -> Iterator[Shop]:
    with standing_pair() as made:
        yield made


class Pair(NamedTuple):
    live: str
    standby: str


@pytest.fixture
async def pair(shop: Shop) -> Pair:
    """Both gated as they run, and each covers the other; what a test before took away is deployed again."""
    roles = {release["role"]: release for release in (await shop.at_rest())["releases"]}
    if "standby" not in roles:
        image = ONE if roles["live"]["image"] == TWO else TWO
        said = await shop.type("deploy", "web", "--image", image)
        assert said.code == 0, said.err + await story(shop)
        roles = {release["role"]: release for release in (await shop.at_rest())["releases"]}
    found = Pair(roles["live"]["id"], roles["standby"]["id"])
    for release in found:
        await shop.becomes(release, "healthy")
    assert (await shop.web())["cover"]
    return found


async def now(act: Act, engine: OwnEngine) -> None:
    """Whatever else goes on meanwhile."""
    await asyncio.to_thread(act, engine)


async def serves(shop: Shop) -> None:
    deadline = time.monotonic() + SERVES_WITHIN
    while not await serving(shop):
        assert time.monotonic() < deadline, await shop.status()
        await asyncio.sleep(0.05)


async def serving(shop: Shop) -> bool:
    try:
        return (await shop.get("/")).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False


async def story(shop: Shop) -> str:
    return (await shop.type("events", "web")).out


# --- at rest ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [OwnEngine.stop, OwnEngine.kill])
async def test_the_live_release_serves_again_by_itself_and_is_gated_by_the_next_command(
    shop: Shop, engine: OwnEngine, pair: Pair, end: Act
) -> None:
    before, told = engine.lives(), len(await story(shop))
    await now(end, engine)
    assert not engine.answers()
    assert await shop.health(pair.live) == await shop.health(pair.standby) == {"unknown"}
    assert f"health unknown: the Docker engine at {engine.host}: " in (await answers(shop, SOON, 0, "status")).out
    await now(OwnEngine.start, engine)
    await serves(shop)
    after = engine.lives()
    assert after.keys() == before.keys()
    assert not after.items() & before.items(), "each was started anew"
    await shop.becomes(pair.live, "restarted, not gated")
    assert any("restarted, not gated" in words for words in (await shop.web())["drift"])
    assert "gated again" in (await answers(shop, SOON, 0, "recover")).err
    for release in pair:
        await shop.becomes(release, "healthy")
    since = (await story(shop))[told:]
    for colour in ("blue", "green"):
        assert since.index(f"{colour} was restarted") < since.index(f"{colour} passed its gate again"), since
    assert since.index("passed its gate again") < since.index("each colour covers the other"), since
    assert (await shop.web())["cover"]


async def test_what_nobody_can_start_is_no_way_back(shop: Shop, engine: OwnEngine, pair: Pair) -> None:
    await now(OwnEngine.stop, engine)
    said = await answers(shop, ENGINE_PATIENCE, 5, "rollback web")
    assert f"{pair.standby} stands warm but is not healthy" in said.err
    await now(OwnEngine.start, engine)
    await serves(shop)
    roles = {release["role"]: release["id"] for release in (await shop.web())["releases"]}
    assert roles["live"] == pair.live
    await answers(shop, SOON, 0, "recover")


# --- an engine that goes while containers stay ------------------------------------------------------------------


async def test_an_engine_that_keeps_its_containers_comes_and_goes_unnoticed(
    shop: Shop, engine: OwnEngine, pair: Pair
) -> None:
    with engine.keeping_containers():
        async with unchanged(shop.scene), traffic_stays(shop):
            for end in (OwnEngine.stop, OwnEngine.kill):
                await now(end, engine)
                assert await shop.health(pair.live) == {"unknown"}
                await now(OwnEngine.start, engine)
            assert "gated again" not in (await answers(shop, SOON, 0, "recover")).err
        for release in pair:
            await shop.becomes(release, "healthy")


async def test_a_frozen_engine_delays_no_move_of_traffic(shop: Shop, engine: OwnEngine, pair: Pair) -> None:
    with engine.frozen():
        async with traffic_stays(shop):
            said = await answers(shop, SOON, 0, "rollback web")
            assert f"asked by probes alone: the Docker engine at {engine.host}: no answer in 1 s" in said.err
            await answers(shop, SOON, 0, f"switch web --to {pair.live}")
            assert "unknown" in (await answers(shop, SOON, 0, "status")).out
    for release in pair:
        await shop.becomes(release, "healthy")


# --- in the middle of a rollout ---------------------------------------------------------------------------------

PYTHON = Path(sys.executable).resolve()  # the demo images have the host's
SLOW_START = f"""post_start: [{{command: ["{PYTHON}", -S, -c, "import time; time.sleep(5)"]}}], """
MOMENTS = {
    "starting": ("container: {", f"container: {{{SLOW_START}"),
    "gating": ("healthy: 2", "healthy: 20"),
    "baking": ("bake: 0s", "bake: 60s"),
}


async def test_a_candidate_that_the_engine_took_down_is_not_promoted(shop: Shop, engine: OwnEngine, pair: Pair) -> None:
    with file_says(shop, *MOMENTS["baking"]):
        deploy = await shop.start("deploy", "web", "--image", THREE)
        await shop.until("baking")
        await now(OwnEngine.kill, engine)
        await now(OwnEngine.start, engine)
        spoke_plainly(said := await ended(deploy))
    assert said.code == 5, said.err + await story(shop)
    assert "the candidate failed" in said.err
    await serves(shop)
    await answers(shop, SOON, 0, "recover")
    await shop.becomes(pair.live, "healthy")
    assert [release["id"] for release in (await shop.web())["releases"]] == [pair.live]
    assert {container.labels["proxyctl.release"] for container in shop.containers()} == {pair.live}


async def more_run(engine: OwnEngine, than: dict[str, str]) -> None:
    deadline = time.monotonic() + SERVES_WITHIN
    while not engine.lives().keys() - than.keys():
        assert time.monotonic() < deadline, "no candidate was started"
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("moment", ["starting", "gating"])
async def test_a_candidate_that_the_engine_left_before_its_traffic_is_taken_back(
    shop: Shop, engine: OwnEngine, pair: Pair, moment: str
) -> None:
    with engine.keeping_containers(), file_says(shop, *MOMENTS[moment]):
        before = engine.lives()
        async with traffic_stays(shop):
            deploy = await shop.start("deploy", "web", "--image", THREE)
            await shop.until(moment)
            await more_run(engine, before)
            await now(OwnEngine.kill, engine)
            await shop.until("aborting")
            await now(OwnEngine.start, engine)
            spoke_plainly(said := await ended(deploy))
    assert said.code == 5, said.err + await story(shop)
    assert f"serving: web: {pair.live}" in said.err
    assert {container.labels["proxyctl.release"] for container in shop.containers()} == {pair.live}


async def test_a_bake_goes_on_while_the_engine_is_away(shop: Shop, engine: OwnEngine, pair: Pair) -> None:
    with engine.keeping_containers(), file_says(shop, "bake: 0s", "bake: 3s"):
        async with traffic_stays(shop):
            deploy = await shop.start("deploy", "web", "--image", THREE)
            await shop.until("baking")
            await now(OwnEngine.kill, engine)
            await shop.until("promoting")
            await now(OwnEngine.start, engine)
            spoke_plainly(said := await ended(deploy))
    assert said.code == 0, said.err + await story(shop)
    roles = {release["role"]: release["id"] for release in (await shop.at_rest())["releases"]}
    assert roles["standby"] == pair.live


# --- the host, with all that is on it ---------------------------------------------------------------------------


async def cut_off(shop: Shop, engine: OwnEngine) -> None:
    """All of it. Drivers and guards first: they are not to see how the others end."""
    places = places_of(shop)
    locks = FileLocks(places)
    for lock in places.locks.glob("*.lock"):
        locks.end_holder(ServiceName(lock.stem))
    master = find_master(places)
    assert master is not None
    for process in (master, *workers_of(master)):
        process.send(signal.SIGKILL)
    await now(OwnEngine.cut_power, engine)
    assert not await serving(shop)


async def boot_nginx(shop: Shop) -> None:
    """What the unit that `setup` writes has systemd run: the start, and what comes after it."""
    places, scene = places_of(shop), shop.scene
    unit = units(scene.project, shop.file, places.root, places.pid_file)[f"proxyctl-{scene.project}.service"]
    said = dict(line.split("=", 1) for line in unit.splitlines() if line.startswith("Exec"))
    for command in (said["ExecStart"], said["ExecStartPost"].removeprefix("-")):
        pipe = asyncio.subprocess.PIPE
        spoke_plainly(
            ran := await ended(await asyncio.create_subprocess_exec(*shlex.split(command), stdout=pipe, stderr=pipe))
        )
        assert ran.code == 0, ran.err


def places_of(shop: Shop) -> Places:
    return Places(root=shop.scene.folder / "state")


async def test_a_host_that_boots_nginx_last_serves_and_gates_by_itself(
    shop: Shop, engine: OwnEngine, pair: Pair
) -> None:
    await cut_off(shop, engine)
    await now(OwnEngine.start, engine)
    await boot_nginx(shop)
    await serves(shop)
    for release in pair:
        await shop.becomes(release, "healthy")
    assert (await shop.web())["cover"]


async def test_a_host_that_boots_nginx_first_serves_by_itself_and_gates_with_the_next_command(
    shop: Shop, engine: OwnEngine, pair: Pair
) -> None:
    await cut_off(shop, engine)
    await boot_nginx(shop)
    assert await shop.health(pair.live) == {"unknown"}
    await now(OwnEngine.start, engine)
    await serves(shop)
    await shop.becomes(pair.live, "restarted, not gated")
    await answers(shop, SOON, 0, "rollback web")
    await shop.at_rest()
    for release in pair:
        await shop.becomes(release, "healthy")


async def test_a_host_cut_off_in_a_bake_comes_back_with_the_release_of_before(
    shop: Shop, engine: OwnEngine, pair: Pair
) -> None:
    with file_says(shop, *MOMENTS["baking"]):
        deploy = await shop.start("deploy", "web", "--image", THREE)
        await shop.until("baking")
        deploy.kill()
        await cut_off(shop, engine)
    await deploy.wait()
    await now(OwnEngine.start, engine)
    await boot_nginx(shop)
    web = await shop.at_rest()
    assert [release["id"] for release in web["releases"]] == [pair.live]
    await serves(shop)
    await answers(shop, SOON, 0, "recover")
    await shop.becomes(pair.live, "healthy")
    assert "rolled-back" in (await shop.type("history", "web")).out
