"""`cutover: reload`: nginx deals requests by weights, and a move is a generation of its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping

import pytest

from proxyctl.adapters.nginx.generations.disk import Generations
from proxyctl.adapters.nginx.names import SHARES
from proxyctl.adapters.nginx.proxy import MOST_OLD
from proxyctl.adapters.nginx.traffic.reloaded import open_wishes
from proxyctl.domain.model import Apart, Balance, Colour, Cutover, Hash, HashKey, ServiceName, Topology, UpstreamTls
from proxyctl.errors import PublishRefused, StateUnusable
from tests.nginx_bed import (
    BLUE,
    DEBIAN,
    GREEN,
    MAINLINE,
    PROJECT,
    SOMEBODY_ELSES,
    WEB,
    Bed,
    a_bed,
    all_to,
    free_port,
    share,
)

pytestmark = pytest.mark.nginx
API = ServiceName("api")
BY_CART = Hash(key=HashKey.COOKIE, name="cart")


@pytest.fixture(params=[DEBIAN, MAINLINE], ids=["debian", "mainline"])
async def bed(request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    async with a_bed(request.param) as bed:
        await bed.serve_both()
        yield bed


def reloading(bed: Bed, **changes: object) -> Topology:
    """One worker: each of them deals by itself, so that one deals exactly."""
    return bed.topology(bed.route(**changes), cutover=Cutover.RELOAD, workers=1)


async def answers(bed: Bed, requests: int = 20, path: str = "/", **headers: str) -> Counter[str]:
    return Counter([(await bed.get(path, **headers)).text for _ in range(requests)])


# --- shares ------------------------------------------------------------------------------------------------------


async def test_somebody_elses_nginx_can_be_told_a_split() -> None:
    async with a_bed(SOMEBODY_ELSES) as bed:
        await bed.serve_both()
        await bed.publish(bed.topology(cutover=Cutover.RELOAD))
        for flags, only in ((all_to(BLUE), "blue"), (all_to(GREEN, cover=True), "green")):
            await bed.splits.move(WEB, flags)
            assert await answers(bed) == {only: 20}


async def test_the_first_request_after_a_move_goes_by_the_new_split(bed: Bed) -> None:
    await bed.publish(reloading(bed))
    for colour in (BLUE, GREEN) * 5:
        await bed.splits.move(WEB, all_to(colour))
        assert await answers(bed, 10) == {colour: 10}


async def test_a_share_is_the_colours_however_many_replicas_it_has(bed: Bed) -> None:
    second, third = (f"127.0.0.{n}:{free_port(f'127.0.0.{n}')}" for n in (4, 5))
    for address in (second, third):
        await bed.serve(address, "blue")
    await bed.publish(reloading(bed, blue=(bed.blue, second, third)))
    await bed.splits.move(WEB, share(GREEN, 5))
    assert await answers(bed, 600) == {"green": 30, "blue": 570}


async def test_a_hundredth_of_a_percent_is_a_share(bed: Bed) -> None:
    await bed.publish(reloading(bed))
    await bed.splits.move(WEB, share(GREEN, "0.01"))
    text = bed.places.current.joinpath("nginx.conf").read_text()
    dealt = text[text.index(f"upstream px_{PROJECT}_web_dealt") :]
    assert dealt.splitlines()[1:3] == [
        f"        server {bed.blue} weight=9999 max_fails=5 fail_timeout=1s;",
        f"        server {bed.green} max_fails=5 fail_timeout=1s;",
    ]


async def test_a_colour_without_a_share_gets_nothing_and_covers_only_where_that_was_said(bed: Bed) -> None:
    await bed.publish(reloading(bed))
    await bed.withdraw(bed.green)
    await bed.splits.move(WEB, all_to(GREEN))
    assert (await bed.get()).status == 502
    await bed.splits.move(WEB, all_to(GREEN, cover=True))
    assert await answers(bed) == {"blue": 20}


@pytest.mark.parametrize("balance", [BY_CART, Balance.IP_HASH])
async def test_with_a_hash_the_other_colour_stands_in_for_safe_requests(bed: Bed, balance: Balance | Hash) -> None:
    await bed.publish(reloading(bed, balance=balance))
    await bed.withdraw(bed.green)
    await bed.splits.move(WEB, all_to(GREEN, cover=True))
    assert await answers(bed) == {"blue": 20}
    await bed.splits.move(WEB, all_to(GREEN))
    assert (await bed.get()).status == 502


async def test_nothing_serves_where_nobody_has_a_share(bed: Bed) -> None:
    await bed.publish(reloading(bed, path="/api", strip_path=True))
    assert (await bed.get("/api")).status == 503
    await bed.splits.move(WEB, all_to(BLUE))
    assert '"path": "/seen"' in (await bed.get("/api/seen")).text


async def test_colours_that_are_asked_by_tls_differently_are_dealt_whole(bed: Bed) -> None:
    apart = Apart(colour=Colour.GREEN, tls=UpstreamTls(verify=False))
    await bed.publish(reloading(bed, apart=apart))
    await bed.splits.move(WEB, all_to(BLUE))
    with pytest.raises(PublishRefused, match="give all traffic to one of them"):
        await bed.splits.move(WEB, share(GREEN, 5))
    assert bed.splits.read(WEB) == all_to(BLUE)
    assert await answers(bed) == {"blue": 20}
    await bed.splits.move(WEB, all_to(GREEN))
    assert (await bed.get()).status == 504, "green is asked by TLS, which it does not speak"


# --- what stays --------------------------------------------------------------------------------------------------


async def test_a_publish_moves_nobodys_traffic(bed: Bed) -> None:
    await bed.publish(reloading(bed))
    await bed.splits.move(WEB, share(GREEN, 25))
    await bed.publish(reloading(bed, body_limit=1 << 10))
    assert bed.splits.read(WEB) == share(GREEN, 25)
    assert await answers(bed) == {"blue": 15, "green": 5}


async def test_another_cutover_takes_the_split_along(bed: Bed) -> None:
    """What an earlier life of the same way said does not come back."""
    await bed.publish()
    splits = (all_to(GREEN), share(BLUE, 50), all_to(BLUE, cover=True), share(GREEN, 50))
    for cutover, flags in zip((Cutover.RELOAD, Cutover.LIVE) * 2, splits, strict=True):
        await bed.splits.move(WEB, flags)
        await bed.publish(bed.topology(cutover=cutover))
        assert bed.splits.read(WEB) == flags
        assert len(await answers(bed)) == (1 if flags.split.sole else 2)


async def test_an_nginx_that_is_started_again_deals_as_before(bed: Bed) -> None:
    await bed.publish(reloading(bed))
    await bed.splits.move(WEB, all_to(GREEN))
    await bed.proxy.stop()
    await bed.proxy.start()
    assert await answers(bed) == {"green": 20}


async def test_a_mover_that_died_before_nginx_was_told_is_made_good_by_the_next(bed: Bed) -> None:
    await bed.publish(reloading(bed))
    await bed.splits.move(WEB, all_to(GREEN))
    generations = Generations(bed.places)
    green = generations.current()
    await bed.splits.move(WEB, all_to(BLUE))
    blue = generations.current()
    assert green is not None
    assert blue is not None
    later = generations.stage(bed.claim(), 1, green.topology, renumbered(green.files, green.number, 4), {})
    generations.activate(later)  # and there it died: nginx has blue in memory
    assert bed.splits.read(WEB) == all_to(GREEN)
    assert await answers(bed) == {"blue": 20}
    await bed.splits.move(WEB, all_to(GREEN))
    assert await answers(bed) == {"green": 20}


def renumbered(files: Mapping[str, str], old: int, new: int) -> dict[str, str]:
    return {name: text.replace(f'"{old} $pid', f'"{new} $pid') for name, text in files.items()}


async def test_shares_that_a_hand_changed_are_not_believed(bed: Bed) -> None:
    await bed.publish(reloading(bed))
    await bed.splits.move(WEB, all_to(BLUE))
    file = bed.places.current / SHARES
    for text in ('{"web": "green-20000"}', "[]", "{"):
        file.chmod(0o644)
        file.write_text(text)
        with pytest.raises(StateUnusable, match=r"splits\.json was changed by something other than proxyctl"):
            bed.splits.read(WEB)
        with pytest.raises(StateUnusable):
            await bed.splits.move(WEB, all_to(GREEN))
    assert await answers(bed) == {"blue": 20}


# --- several at once ---------------------------------------------------------------------------------------------


async def test_moves_that_wait_for_their_turn_share_one_reload(bed: Bed) -> None:
    services = [ServiceName(f"s{number}") for number in range(6)]
    routes = tuple(bed.route(service=name, path=f"/{name}") for name in services)
    first = await bed.publish(bed.topology(*routes, cutover=Cutover.RELOAD))
    async with bed.turn:  # somebody else publishes
        moves = [asyncio.create_task(bed.splits.move(name, all_to(GREEN))) for name in services]
        await asyncio.sleep(0.05)
        assert set(open_wishes(bed.places)) == set(services)
    await asyncio.gather(*moves)
    assert (await bed.proxy.status()).observed == first + 1
    assert [await answers(bed, 4, f"/{name}") for name in services] == [{"green": 4}] * 6
    assert open_wishes(bed.places) == {}


async def test_what_a_dead_process_wished_moves_nobody(bed: Bed) -> None:
    routes = bed.route(service=API, path="/api"), bed.route()
    await bed.publish(bed.topology(*routes, cutover=Cutover.RELOAD))
    async with bed.turn:
        move = asyncio.create_task(bed.splits.move(API, all_to(GREEN)))
        await asyncio.sleep(0.05)
        move.cancel()
        await asyncio.gather(move, return_exceptions=True)
    await bed.splits.move(WEB, all_to(BLUE))
    assert bed.splits.read(API) is None


# --- old workers -------------------------------------------------------------------------------------------------


async def test_streams_on_old_workers_end_reloads_but_not_the_way_to_the_safe_side(bed: Bed) -> None:
    """Each move leaves a generation behind that one stream keeps."""
    await bed.publish(reloading(bed))
    await bed.splits.move(WEB, all_to(BLUE))
    for percent in range(1, MOST_OLD + 1):
        client = await bed.client()
        client.writer.write(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.head())[0] == 200
        await bed.splits.move(WEB, share(GREEN, percent))
    assert (await bed.proxy.status()).draining == MOST_OLD
    before = (await bed.proxy.status()).generation
    with pytest.raises(PublishRefused, match="workers of 8 older generations still serve open streams"):
        await bed.splits.move(WEB, share(GREEN, 50))
    with pytest.raises(PublishRefused):
        await bed.publish(reloading(bed, body_limit=1 << 10))
    assert (await bed.proxy.status()).generation == before
    assert bed.splits.read(WEB) == share(GREEN, MOST_OLD)
    await bed.splits.move(WEB, all_to(BLUE))
    assert await answers(bed) == {"blue": 20}


# --- clients -----------------------------------------------------------------------------------------------------


async def test_a_client_that_is_told_to_close_its_connection_loses_nothing(bed: Bed) -> None:
    await bed.publish(reloading(bed))
    await bed.splits.move(WEB, all_to(BLUE))
    done = asyncio.Event()

    async def ask_until_the_end() -> int:
        requests, client = 0, await bed.client()
        while not done.is_set():
            answer = await client.ask("POST", "/", body=b"x" * 200)
            assert answer.text in ("blue", "green")
            requests += 1
            if answer.headers.get("connection") == "close":
                client.close()
                client = await bed.client()
        return requests

    clients = [asyncio.create_task(ask_until_the_end()) for _ in range(16)]
    for flags in (share(GREEN, 5), all_to(GREEN, cover=True), all_to(BLUE)):
        await bed.splits.move(WEB, flags)
    done.set()
    assert sum(await asyncio.gather(*clients)) > 1000
