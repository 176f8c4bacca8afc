"""Who gets which release, and that open connections live: cookies, addresses, WebSockets, uploads, HTTPS."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from math import sqrt
from pathlib import Path

import pytest

from proxyctl.adapters.nginx.process.master import find_master
from proxyctl.adapters.places import Places
from proxyctl.demo.load import Model
from tests.certificates import a_pair
from tests.e2e.shop import TWO, Shop, open_shop
from tests.nginx_bed import Client, free_port

pytestmark = pytest.mark.docker
HOST = "shop.example.com"


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with open_shop(bake="0s") as made:
        made.write("drain: 5s", "drain: 1s")
        yield made


async def staged(shop: Shop) -> None:
    for words in (("deploy", "web"), ("stage", "web", "--image", TWO)):
        said = await shop.type(*words)
        assert said.code == 0, said.err


async def connected(shop: Shop) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", shop.scene.port))


async def test_a_client_with_its_cookie_stays_in_the_canary_while_it_grows(shop: Shop) -> None:
    shop.write("    drain: 1s", "    drain: 1s\n    sticky: cookie")
    await staged(shop)
    cookies: dict[str, bool] = {}  # who was in the canary
    for percent in ("10", "40", "80", "100"):
        assert (await shop.type("weight", "web", percent)).code == 0
        client = await connected(shop)
        for cookie, was_in in cookies.items():
            is_in = (await client.ask("GET", "/", {"Cookie": cookie})).text == "2\n"
            assert is_in >= was_in, f"a client left the canary at {percent} %"
            cookies[cookie] = is_in
        for _ in range(50):
            answer = await client.ask("GET", "/")
            cookies[answer.headers["set-cookie"].partition(";")[0]] = answer.text == "2\n"
        client.close()
    assert set(cookies.values()) == {True}


async def test_an_address_has_one_release_at_a_time(shop: Shop) -> None:
    shop.write("    drain: 1s", "    drain: 1s\n    sticky: ip")
    await staged(shop)
    await shop.type("weight", "web", "50")
    seen = Counter[str]()
    for last in range(1, 60):
        reader, writer = await asyncio.open_connection("127.0.0.1", shop.scene.port, local_addr=(f"127.0.0.{last}", 0))
        client = Client(reader, writer)
        first, second = [(await client.ask("GET", "/")).text for _ in range(2)]
        assert first == second
        seen[first] += 1
        client.close()
    assert set(seen) == {"1\n", "2\n"}


@pytest.mark.parametrize("percent", [0.5, 12.34])
async def test_a_share_is_what_was_asked(shop: Shop, percent: float) -> None:
    await staged(shop)
    assert (await shop.type("weight", "web", str(percent))).code == 0
    requests, share = 8000, percent / 100

    async def ask(times: int) -> Counter[str]:
        seen = Counter[str]()
        while times > 0:
            client = await connected(shop)
            seen.update([(await client.ask("GET", "/")).text for _ in range(min(times, 900))])
            client.close()
            times -= 900
        return seen

    seen = sum(await asyncio.gather(*(ask(requests // 8) for _ in range(8))), Counter[str]())
    assert seen.total() == requests
    assert abs(seen["2\n"] - requests * share) < 4 * sqrt(requests * share * (1 - share))


async def test_a_websocket_lives_through_a_switch(shop: Shop) -> None:
    await staged(shop)
    client = await connected(shop)
    key = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    head = "".join(f"{name}: {value}\r\n" for name, value in key.items())
    client.writer.write(f"GET /ws HTTP/1.1\r\nHost: shop\r\n{head}Sec-WebSocket-Key: x\r\n\r\n".encode())
    status, headers = await client.head()
    assert (status, headers["x-release"]) == (101, "1")
    for word, order in ((b"before", "switch"), (b"between", "rollback"), (b"after", "rollback")):
        client.writer.write(word)
        assert await asyncio.wait_for(client.reader.readexactly(len(word)), 5) == word
        assert (await shop.type(order, "web")).code == 0
        await shop.at_rest()
    client.close()
    assert (await shop.get("/")).endswith(b"2\n")


async def test_a_large_upload_passes_up_to_its_limit(shop: Shop) -> None:
    shop.write("    drain: 1s", "    drain: 1s\n    body_limit: 20m")
    await shop.type("deploy", "web")
    client = await connected(shop)
    assert (await client.ask("POST", "/upload", body=b"x" * (20 << 20))).text == f"{20 << 20}\n"
    client.writer.write(f"POST /upload HTTP/1.1\r\nHost: shop\r\nContent-Length: {(20 << 20) + 1}\r\n\r\n".encode())
    assert (await client.head())[0] == 413
    client.close()


async def test_another_nginx_takes_over_and_no_client_of_any_kind_loses_a_request(shop: Shop) -> None:
    assert (await shop.type("deploy", "web")).code == 0
    loads = [shop.load(model) for model in (Model.KEEPALIVE, Model.NEW_CONNECTION, Model.POST, Model.POST_NEW)]
    masters = {find_master(Places(shop.scene.folder / "state"))}
    async with loads[0], loads[1], loads[2], loads[3]:
        for _ in range(3):
            said = await shop.type("proxy", "upgrade")
            assert said.code == 0, said.err
            masters.add(find_master(Places(shop.scene.folder / "state")))
    assert len(masters) == 4
    assert [load.failed() for load in loads] == [[], [], [], []]
    assert all(len(load.outcomes) > 100 for load in loads)


async def test_a_certificate_is_served_and_its_renewal_taken_without_a_lost_request(shop: Shop, tmp_path: Path) -> None:
    port, tls = free_port(), a_pair(tmp_path, "shop", HOST, ends=timedelta(days=5))
    shop.write('  http: "127.0.0.1', f'  https: "127.0.0.1:{port}"\n  http: "127.0.0.1')
    shop.write(
        "    drain: 1s",
        f"    drain: 1s\n    hosts: [{HOST}]\n    tls: {{cert: 'file:{tls.cert}', key: 'file:{tls.key}'}}",
    )
    assert (await shop.type("deploy", "web")).code == 0
    assert "5 days left; renew it" in (await shop.type("status")).out
    assert f"https://{HOST}:{port}/x".encode() in await get_as(shop, "/x")
    old = Path(tls.cert).read_bytes()
    done = asyncio.Event()

    async def ask_until_the_end() -> int:
        requests, client = 0, await secure(port, old)
        while not done.is_set():
            answer = await client.ask("GET", "/", {"Host": HOST})
            assert (answer.status, answer.text) == (200, "1\n")
            requests += 1
            if answer.headers.get("connection") == "close":
                await closed(client)
                client = await secure(port, old, Path(tls.cert).read_bytes())
        await closed(client)
        return requests

    clients = [asyncio.create_task(ask_until_the_end()) for _ in range(4)]
    renewed = a_pair(tmp_path, "renewed", HOST, ends=timedelta(days=90))
    Path(renewed.cert).rename(tls.cert)
    Path(renewed.key).rename(tls.key)
    said = await shop.type("proxy", "reload")
    assert said.code == 0, said.err
    assert "90 days left" in said.out
    done.set()
    assert sum(await asyncio.gather(*clients)) > 100
    await closed(await secure(port, Path(tls.cert).read_bytes()))


async def closed(client: Client) -> None:
    client.close()
    with suppress(ssl.SSLError, ConnectionError):
        await client.writer.wait_closed()


async def secure(port: int, *trusted: bytes) -> Client:
    context = ssl.create_default_context(cadata=b"\n".join(trusted).decode())
    return Client(*await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=HOST))


async def get_as(shop: Shop, path: str) -> bytes:
    client = await connected(shop)
    answer = await client.ask("GET", path, {"Host": HOST})
    client.close()
    return answer.headers.get("location", "").encode()
