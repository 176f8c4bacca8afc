"""What every `Splits` promises: by flags and by reloads of nginx, and in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from proxyctl.adapters.memory import MemorySplits, MemoryWorld
from proxyctl.adapters.nginx.traffic.reloaded import ReloadedSplits
from proxyctl.domain.model import Cutover, Match, ServiceName
from proxyctl.errors import NginxUnavailable
from proxyctl.ports import Flags, Splits
from tests.nginx_bed import BLUE, GREEN, IN_A_CONTAINER, WEB, a_bed, all_to, share

API = ServiceName("api")
EVERY_KIND = [
    all_to(BLUE),
    all_to(GREEN, cover=True),
    share(GREEN, 5),
    share(BLUE, "12.34"),
    share(GREEN, "0.01", cover=False),
    share(BLUE, "99.99"),
    share(GREEN, 0),
    share(GREEN, 100),
    share(GREEN, 0, preview=GREEN),
    share(GREEN, "0.5", cover=False, preview=GREEN),
    share(BLUE, 25, preview=GREEN),
]


EVERY_WAY = [*Cutover, "memory"]


@pytest.fixture(params=EVERY_WAY)
async def splits(request: pytest.FixtureRequest) -> AsyncIterator[Splits]:
    if request.param == "memory":
        yield MemorySplits(MemoryWorld())
        return
    async with a_bed() as bed:
        routes = bed.route(service=API, path="/api"), bed.route(matches=(Match(headers=(("X-Canary", "yes"),)),))
        await bed.publish(bed.topology(*routes, cutover=request.param))
        yield bed.splits


@pytest.fixture(params=EVERY_WAY)
async def splits_without_nginx(request: pytest.FixtureRequest) -> AsyncIterator[Splits]:
    if request.param == "memory":
        world = MemoryWorld()
        world.nginx_down = True
        yield MemorySplits(world)
        return
    async with a_bed() as bed:
        bed.places.create()
        yield bed.splits if request.param is Cutover.LIVE else ReloadedSplits(bed.places, bed.shift)


async def test_nothing_serves_before_the_first_move(splits: Splits) -> None:
    assert splits.read(WEB) is None


@pytest.mark.parametrize("flags", EVERY_KIND, ids=str)
async def test_what_was_moved_is_read_back(splits: Splits, flags: Flags) -> None:
    await splits.move(WEB, flags)
    assert splits.read(WEB) == flags


async def test_what_nginx_does_as_it_was_told_is_not_doubted(splits: Splits) -> None:
    for flags in EVERY_KIND:
        await splits.move(WEB, flags)
        assert await splits.doubt(WEB) == ""


async def test_an_nginx_that_does_not_answer_is_not_doubted(splits_without_nginx: Splits) -> None:
    assert await splits_without_nginx.doubt(WEB) == ""


async def test_an_nginx_that_answers_is_reached_before_its_first_move_too(splits: Splits) -> None:
    await splits.reach()


async def test_an_nginx_that_does_not_answer_is_not_reached(splits_without_nginx: Splits) -> None:
    with pytest.raises(NginxUnavailable):
        await splits_without_nginx.reach()


async def test_the_last_move_wins(splits: Splits) -> None:
    for flags in (*EVERY_KIND, *reversed(EVERY_KIND)):
        await splits.move(WEB, flags)
    assert splits.read(WEB) == EVERY_KIND[0]


async def test_moving_to_the_same_split_again_changes_nothing(splits: Splits) -> None:
    for _ in range(2):
        await splits.move(WEB, share(GREEN, 25))
    assert splits.read(WEB) == share(GREEN, 25)


async def test_a_service_can_be_left_with_nothing_serving(splits: Splits) -> None:
    await splits.move(WEB, all_to(BLUE))
    await splits.move(WEB, None)
    assert splits.read(WEB) is None


async def test_services_move_apart(splits: Splits) -> None:
    await splits.move(WEB, all_to(BLUE))
    await splits.move(API, share(GREEN, 50))
    assert splits.read(WEB) == all_to(BLUE)


@pytest.mark.docker
async def test_an_nginx_in_a_container_is_told_a_split_too() -> None:
    async with a_bed(IN_A_CONTAINER) as bed:
        await bed.serve_both()
        await bed.publish(bed.topology(cutover=Cutover.RELOAD))
        for colour in (BLUE, GREEN):
            await bed.splits.move(WEB, all_to(colour))
            assert (await bed.get()).text == colour


async def test_a_move_that_nginx_does_not_confirm_is_not_called_done(splits_without_nginx: Splits) -> None:
    with pytest.raises(NginxUnavailable):
        await splits_without_nginx.move(WEB, all_to(BLUE))


async def test_a_split_is_the_same_whether_its_requests_are_logged_or_not(splits: Splits) -> None:
    with splits.logged(WEB):  # before the first move, too
        await splits.move(WEB, share(GREEN, 50))
        assert splits.read(WEB) == share(GREEN, 50)
    assert splits.read(WEB) == share(GREEN, 50)
