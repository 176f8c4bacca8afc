"""Workers of nginx are killed, one after the other, at rest, while traffic moves and while nginx reloads.

What is guaranteed: the master forks another within milliseconds, what a dead worker had accepted is lost with its
connection, and nothing else: no move, no publish and no status takes a dead worker for an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from proxyctl.demo.load import Load, Model
from proxyctl.ports import ProxyState
from tests.nginx_bed import BLUE, DEBIAN, GREEN, MAINLINE, WEB, Bed, a_bed, all_to, workers_dying

BOTH = pytest.mark.parametrize("bed", [DEBIAN, MAINLINE], ids=["debian", "mainline"], indirect=True)


@pytest.fixture
async def bed(request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    async with a_bed(request.param) as made:
        await made.serve_both()
        await made.publish()
        await made.splits.move(WEB, all_to(BLUE))
        yield made


@BOTH
async def test_traffic_moves_while_workers_die(bed: Bed) -> None:
    async with workers_dying(bed.places, every=0.003) as dead:
        for _ in range(60):
            for colour in (GREEN, BLUE):
                await bed.splits.move(WEB, all_to(colour))
    assert len(dead) > 10
    assert (await bed.get()).text == "blue"


@BOTH
async def test_a_publish_is_observed_while_workers_die(bed: Bed) -> None:
    async with workers_dying(bed.places, every=0.02) as dead:
        for number in range(2, 8):
            changed = bed.topology(bed.route(hosts=(f"{number}.example.com",)))
            assert await bed.publish(changed) == number
            status = await bed.proxy.status()
            assert (status.state, status.generation, status.observed) == (ProxyState.RUNNING, number, number)
    assert len(dead) > 6


@BOTH
async def test_a_dead_worker_costs_each_client_one_request_at_most(bed: Bed) -> None:
    """The one that it had accepted; whoever connects anew is answered by another."""
    before = await bed.proxy.status()
    clients = 4
    async with (
        Load("127.0.0.1", bed.port, Model.KEEPALIVE, clients, pause=0.002) as kept,
        Load("127.0.0.1", bed.port, Model.NEW_CONNECTION, clients, pause=0.002) as fresh,
    ):
        async with workers_dying(bed.places, every=0.1) as dead:
            await asyncio.sleep(1.0)
        deaths = len(dead)
        await asyncio.sleep(0.2)
    assert deaths > 5
    for load in (kept, fresh):
        assert len(load.failed()) <= deaths * clients
        assert not [lost for lost in load.failed() if lost.problem.startswith("status")]
    assert await bed.proxy.status() == before
