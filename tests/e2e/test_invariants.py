"""Every checker that looks from outside finds what it is for: a project at rest with one thing bent."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import docker
import pytest

from proxyctl.adapters.nginx.process.master import find_master, workers_of
from proxyctl.adapters.places import Places
from tests.e2e.invariants import Strangers, broken, spoke_plainly, unchanged
from tests.e2e.pair import standing_pair
from tests.e2e.shop import ONE, Said, Shop

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("invariants")]  # one project for the file


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with standing_pair() as shop:
        yield shop


@pytest.fixture
def places(shop: Shop) -> Places:
    return Places(root=shop.scene.folder / "state")


async def test_a_file_beside_the_state_that_changed_is_seen(shop: Shop) -> None:
    path = shop.scene.folder / "notes.txt"
    with pytest.raises(AssertionError, match="changed files: notes"):
        async with unchanged(shop.scene):
            path.write_text("new")
    path.unlink()


async def test_a_flag_that_changed_is_seen(shop: Shop, places: Places) -> None:
    path = places.splits / "web/current/stray"
    with pytest.raises(AssertionError, match="changed public: splits/web/green-10000-cover/stray"):
        async with unchanged(shop.scene):
            path.touch()
    path.unlink()


async def test_a_reload_is_seen(shop: Shop, places: Places) -> None:
    master = find_master(places)
    assert master is not None
    before = workers_of(master)
    with pytest.raises(AssertionError, match="changed nginx: workers"):
        async with unchanged(shop.scene):
            master.send(signal.SIGHUP)
            while not before[0].leaving:
                await asyncio.sleep(0.01)


async def test_a_container_that_changed_is_seen(shop: Shop) -> None:
    filters: dict[str, Any] = {"label": f"proxyctl.project={shop.scene.project}"}
    with closing(docker.from_env()) as client:
        container = client.containers.list(filters=filters)[0]
        with pytest.raises(AssertionError, match="changed containers"):
            async with unchanged(shop.scene):
                container.pause()
        container.unpause()


async def test_a_lease_a_fact_and_a_state_that_changed_are_seen(shop: Shop, places: Places) -> None:
    for bend, mend in (
        ("INSERT INTO slots VALUES ('10.9.9.9', 'web', 'blue', 9)", "DELETE FROM slots WHERE ordinal = 9"),
        ("UPDATE snapshots SET state = state || ' '", "UPDATE snapshots SET state = rtrim(state)"),
    ):
        with pytest.raises(AssertionError, match="changed store"):
            async with unchanged(shop.scene):
                execute(places, bend)
        execute(places, mend)


async def test_a_journal_whose_fences_fall_is_seen(shop: Shop, places: Places) -> None:
    execute(places, "UPDATE journal SET fence = fence + 10 WHERE seq < 5")
    found = await broken(shop.scene)
    execute(places, "UPDATE journal SET fence = fence - 10 WHERE seq < 5")
    assert found
    assert all(line.startswith("10: ") for line in found)


async def test_a_snapshot_that_the_journal_does_not_fold_to_is_seen(shop: Shop, places: Places) -> None:
    execute(places, "UPDATE snapshots SET state = replace(state, '\"next_rollout\":3', '\"next_rollout\":4')")
    found = await broken(shop.scene)
    execute(places, "UPDATE snapshots SET state = replace(state, '\"next_rollout\":4', '\"next_rollout\":3')")
    assert found == ["4: the snapshot of web is not what the journal folds to"]


async def test_a_generation_that_nobody_gave_out_is_seen(shop: Shop, places: Places) -> None:
    execute(places, "UPDATE generations SET last = 0")
    found = await broken(shop.scene)
    execute(places, "UPDATE generations SET last = 1")
    assert found == ["4: generation 1 is there and only 0 were ever given out"]


async def test_a_traceback_of_a_process_that_nobody_watches_is_seen(shop: Shop, places: Places) -> None:
    log = places.logs / "driver-web.log"
    words = log.read_text()
    log.write_text(f"{words}Traceback (most recent call last):\nKeyError: 'web'\n")
    found = await broken(shop.scene)
    log.write_text(words)
    assert [line[:30] for line in found] == ["12: driver-web.log: Traceback "]


async def test_a_stranger_that_was_touched_is_seen(shop: Shop) -> None:
    with Strangers(shop.scene, ONE) as strangers, closing(docker.from_env()) as client:
        assert strangers.touched() == []
        client.containers.get(f"{shop.scene.project}-web").pause()
        assert "container" in strangers.touched()[0]


async def test_what_is_named_like_ours_and_not_labelled_is_seen(shop: Shop) -> None:
    with Strangers(shop.scene, ONE) as strangers, closing(docker.from_env()) as client:
        network = client.networks.create(f"proxyctl-{shop.scene.project}-more")
        found = strangers.touched()
        network.remove()
    assert found == [f"11: {network.name} is not labelled as ours"]


@pytest.mark.parametrize(
    "said",
    [
        Said(6, "", "Traceback (most recent call last):\nOSError\nerror: x"),
        Said(1, "", "error: a bug in proxyctl"),
        Said(4, "", ""),
    ],
)
def test_a_traceback_a_bug_and_silence_are_no_answers(said: Said) -> None:
    with pytest.raises(AssertionError):
        spoke_plainly(said)


def execute(places: Places, statement: str) -> None:
    with closing(sqlite3.connect(places.store, timeout=5.0)) as db, db:
        assert db.execute(statement).rowcount, "it bends something"
