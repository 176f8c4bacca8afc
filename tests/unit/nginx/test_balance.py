"""Replicas chosen by a hash: who gets which request, and who stands in for a colour that cannot be reached."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxyctl.domain.model import Balance, Hash, HashKey, Timeouts
from tests.nginx_bed import BLUE, DEBIAN, GREEN, MAINLINE, WEB, Bed, a_bed, all_to, free_port, share

pytestmark = pytest.mark.nginx
BY_CART = Hash(key=HashKey.COOKIE, name="cart")


@pytest.fixture(params=[DEBIAN, MAINLINE], ids=["debian", "mainline"])
async def bed(request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    """Three replicas are blue, one is green."""
    async with a_bed(request.param) as bed:
        await bed.serve_both()
        yield bed


@pytest.fixture
async def blue(bed: Bed) -> tuple[str, ...]:
    others = tuple(f"127.0.0.{n}:{free_port(f'127.0.0.{n}')}" for n in (4, 5))
    for name, address in zip(("second", "third"), others, strict=True):
        await bed.serve(address, name)
    return (bed.blue, *others)


async def answers(bed: Bed, path: str = "/", **headers: str) -> Counter[str]:
    return Counter([(await bed.get(path, **headers)).text for _ in range(12)])


# --- who gets what -----------------------------------------------------------------------------------------------


async def test_the_same_cookie_gets_the_same_replica_and_none_is_dealt_in_turn(bed: Bed, blue: tuple[str, ...]) -> None:
    await bed.publish(bed.topology(bed.route(blue=blue, balance=BY_CART)))
    await bed.splits.move(WEB, all_to(BLUE))
    chosen = [await answers(bed, Cookie=f"cart={number}") for number in range(48)]
    assert all(len(replicas) == 1 for replicas in chosen)
    assert {name for replicas in chosen for name in replicas} == {"blue", "second", "third"}
    assert len(await answers(bed)) == 3


@pytest.mark.parametrize(
    ("balance", "header"),
    [
        (Hash(key=HashKey.HEADER, name="X-Tenant"), "X_Tenant"),
        (Hash(key=HashKey.ADDRESS), "X_Forwarded_For"),
        (Balance.IP_HASH, "X_Forwarded_For"),
    ],
)
async def test_a_header_or_an_address_is_a_key_too(
    bed: Bed, blue: tuple[str, ...], balance: Balance | Hash, header: str
) -> None:
    await bed.publish(bed.topology(bed.route(blue=blue, balance=balance), trusted=("127.0.0.0/8",)))
    await bed.splits.move(WEB, all_to(BLUE))
    chosen = [await answers(bed, **{header: f"198.51.{number}.7"}) for number in range(48)]
    assert all(len(replicas) == 1 for replicas in chosen)
    assert len({name for replicas in chosen for name in replicas}) > 1


async def test_an_address_of_a_page_is_a_key_too(bed: Bed, blue: tuple[str, ...]) -> None:
    await bed.publish(bed.topology(bed.route(blue=blue, balance=Hash(key=HashKey.URI))))
    await bed.splits.move(WEB, all_to(BLUE))
    chosen = [await answers(bed, f"/{number}") for number in range(48)]
    assert all(len(replicas) == 1 for replicas in chosen)
    assert len({name for replicas in chosen for name in replicas}) > 1


# --- cover -------------------------------------------------------------------------------------------------------


async def status_of(bed: Bed, method: str, path: str = "/") -> int:
    client = await bed.client()
    client.writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\norder".encode())
    return (await client.head())[0]


async def test_a_safe_request_that_finds_no_replica_is_answered_by_the_other_colour(bed: Bed) -> None:
    await bed.publish(bed.topology(bed.route(balance=BY_CART)))
    await bed.withdraw(bed.green)
    for split in (all_to(GREEN, cover=True), share(GREEN, 50)):
        await bed.splits.move(WEB, split)
        assert await answers(bed) == {"blue": 12}
        assert [await status_of(bed, method) for method in ("HEAD", "OPTIONS")] == [200, 200]


async def test_the_other_colour_stands_in_with_the_same_path_and_behind_the_same_door(bed: Bed) -> None:
    await bed.publish(bed.topology(bed.route(balance=BY_CART, path="/api", strip_path=True)))
    await bed.withdraw(bed.green)
    await bed.splits.move(WEB, all_to(GREEN, cover=True))
    assert '"path": "/seen?x=%2F"' in (await bed.get("/api/seen?x=%2F")).text
    await bed.publish(bed.topology(bed.route(balance=BY_CART)))
    assert '"path": "/seen/a%2Fb?x"' in (await bed.get("/seen/a%2Fb?x")).text


async def test_while_no_cover_is_up_the_other_colour_is_never_asked(bed: Bed) -> None:
    await bed.publish(bed.topology(bed.route(balance=BY_CART)))
    await bed.withdraw(bed.green)
    await bed.splits.move(WEB, all_to(GREEN))
    assert await status_of(bed, "GET") == 502


async def test_where_both_colours_are_gone_the_page_of_the_service_says_so(bed: Bed, tmp_path: Path) -> None:
    page = tmp_path / "502.html"
    page.write_text("<h1>Gone</h1>")
    await bed.publish(bed.topology(bed.route(balance=BY_CART, error_pages=((502, str(page)),))))
    await bed.withdraw(bed.green)
    await bed.withdraw(bed.blue)
    await bed.splits.move(WEB, all_to(GREEN, cover=True))
    answer = await bed.get()
    assert (answer.status, answer.text) == (502, "<h1>Gone</h1>")


class Forgetful:
    """Executes an order, and dies or falls silent before it says so."""

    def __init__(self, silent: bool) -> None:
        self.executed = 0
        self._silent = silent

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"order")
            self.executed += 1
            if self._silent:
                await asyncio.sleep(10)
        finally:
            writer.close()


@pytest.mark.parametrize(("silent", "status"), [(False, 502), (True, 504)])
async def test_an_order_is_never_executed_twice(bed: Bed, silent: bool, status: int) -> None:
    green, blue = Forgetful(silent), Forgetful(silent)
    await bed.withdraw(bed.green)
    await bed.withdraw(bed.blue)
    await bed.run(bed.green, green)
    await bed.run(bed.blue, blue)
    route = bed.route(balance=BY_CART, timeouts=Timeouts(read=0.3))
    await bed.publish(bed.topology(route))
    await bed.splits.move(WEB, all_to(GREEN, cover=True))
    assert await status_of(bed, "POST") == status
    assert (green.executed, blue.executed) == (1, 0)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "LOCK"])
async def test_a_request_that_is_not_safe_is_not_asked_again_even_where_nobody_heard_it(bed: Bed, method: str) -> None:
    await bed.publish(bed.topology(bed.route(balance=BY_CART)))
    await bed.withdraw(bed.green)
    await bed.splits.move(WEB, all_to(GREEN, cover=True))
    assert await status_of(bed, method) == 502
