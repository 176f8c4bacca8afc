"""What clients and applications meet: a real nginx, real connections, and moves in between."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from proxyctl.domain.model import Cutover, Logged, Sticky
from proxyctl.errors import SplitNotSeen, StateUnusable
from proxyctl.ports import Endpoint
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


@pytest.fixture(params=[DEBIAN, MAINLINE, SOMEBODY_ELSES], ids=["debian", "mainline", "include"])
async def bed(request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    """Both colours listen, nginx knows the service, nothing serves yet."""
    async with a_bed(request.param) as bed:
        await bed.serve_both()
        yield bed


@pytest.fixture(params=[DEBIAN, MAINLINE], ids=["debian", "mainline"])
async def sole(request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    """The same, where nginx has no site but ours."""
    async with a_bed(request.param) as bed:
        await bed.serve_both()
        yield bed


async def reached(endpoint: Endpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if endpoint.socket:
        return await asyncio.open_unix_connection(endpoint.socket)
    host, _, port = endpoint.address.partition(":")
    return await asyncio.open_connection(host, int(port))


async def dealt(bed: Bed, requests: int) -> Counter[str]:
    """Who answers; nginx closes a connection after 1000 requests."""
    answers: Counter[str] = Counter()
    for first in range(0, requests, 1000):
        client = await bed.client()
        answers.update([(await client.ask("GET", "/")).text for _ in range(min(1000, requests - first))])
    return answers


# --- the split ---------------------------------------------------------------------------------------------------


async def test_a_service_that_nothing_serves_answers_503_with_retry_after(bed: Bed) -> None:
    await bed.publish()
    answer = await bed.get()
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")


async def test_a_move_counts_from_the_very_next_request_of_an_open_connection(bed: Bed) -> None:
    await bed.publish()
    client = await bed.client()
    for colour in (BLUE, GREEN) * 100:
        await bed.splits.move(WEB, all_to(colour))
        assert (await client.ask("GET", "/")).text == colour


async def test_no_request_is_lost_while_the_split_moves_to_and_fro(bed: Bed) -> None:
    await bed.publish()
    await bed.splits.move(WEB, all_to(BLUE))
    moving = asyncio.Event()

    async def ask_until_the_end() -> Counter[int]:
        statuses = Counter[int]()
        while not moving.is_set():
            if statuses[200] % 1000 == 0:  # nginx closes a connection after as many
                client = await bed.client()
            statuses[(await client.ask("POST", "/", body=b"x" * 200)).status] += 1
        return statuses

    clients = [asyncio.create_task(ask_until_the_end()) for _ in range(16)]
    for percent in (0, 12.34, 50, 99.99, 100, 0.01) * 20:
        await bed.splits.move(WEB, share(GREEN, percent, cover=percent != 0))
        await asyncio.sleep(0.005)
    moving.set()
    statuses = sum(await asyncio.gather(*clients), Counter[int]())
    assert set(statuses) == {200}
    assert statuses[200] > 100


@pytest.mark.parametrize("percent", [0.5, 12.34, 50.0])
async def test_a_split_deals_out_what_it_says(bed: Bed, percent: float) -> None:
    await bed.publish()
    await bed.splits.move(WEB, share(GREEN, percent))
    requests = 4000
    green = (await dealt(bed, requests))["green"]
    expected = requests * percent / 100
    assert abs(green - expected) < 5 * max(expected * (1 - percent / 100), 1) ** 0.5  # five standard deviations


async def test_the_whole_share_goes_where_it_says(bed: Bed) -> None:
    await bed.publish()
    for colour in (BLUE, GREEN):
        for cover in (False, True):
            await bed.splits.move(WEB, all_to(colour, cover=cover))
            assert await dealt(bed, 50) == {colour: 50}


async def test_a_cookie_keeps_its_client_in_the_growing_canary(bed: Bed) -> None:
    await bed.publish(bed.topology(bed.route(sticky=Sticky.COOKIE)))
    cookies = [f"px_{PROJECT}=visitor-{number}" for number in range(200)]
    before: set[str] = set()
    for percent in (1, 5, 12.34, 50, 100):
        await bed.splits.move(WEB, share(GREEN, percent))
        client = await bed.client()
        canary = {cookie for cookie in cookies if (await client.ask("GET", "/", {"Cookie": cookie})).text == "green"}
        assert before <= canary
        before = canary
    assert before == set(cookies)


async def test_a_new_visitor_gets_the_cookie_that_keeps_the_colour_just_seen(bed: Bed) -> None:
    await bed.publish(bed.topology(bed.route(sticky=Sticky.COOKIE)))
    await bed.splits.move(WEB, share(GREEN, 50))
    for _ in range(20):
        first = await bed.get()
        cookie = first.headers["set-cookie"].partition(";")[0]
        again = await bed.get(Cookie=cookie)
        assert again.text == first.text
        assert "set-cookie" not in again.headers


async def test_an_address_keeps_its_colour(bed: Bed) -> None:
    await bed.publish(bed.topology(bed.route(sticky=Sticky.IP), trusted=("127.0.0.1",)))
    await bed.splits.move(WEB, share(GREEN, 50))
    seen: dict[str, str] = {}
    for _ in range(3):
        for number in range(40):
            address = f"198.51.100.{number}"
            text = (await bed.get(X_Forwarded_For=address)).text
            assert seen.setdefault(address, text) == text
    assert set(seen.values()) == {"blue", "green"}


async def test_flags_that_the_workers_cannot_reach_are_named(bed: Bed) -> None:
    await bed.publish()
    bed.places.splits.chmod(0o700)
    with pytest.raises(SplitNotSeen) as refusal:
        await bed.splits.move(WEB, all_to(BLUE))
    assert f"{bed.places.splits} (mode 0700)" in str(refusal.value)
    assert "nobody" in str(refusal.value) or "www-data" in str(refusal.value)


async def test_flags_changed_by_hand_are_not_believed(bed: Bed) -> None:
    await bed.publish()
    await bed.splits.move(WEB, all_to(BLUE))
    (bed.places.splits / WEB / "current" / "all.green").touch()
    with pytest.raises(StateUnusable):
        bed.splits.read(WEB)
    await bed.splits.move(WEB, all_to(BLUE))
    assert bed.splits.read(WEB) == all_to(BLUE)


# --- cover -------------------------------------------------------------------------------------------------------


async def test_a_candidate_that_dies_is_covered_within_the_same_request(bed: Bed) -> None:
    await bed.publish()
    await bed.splits.move(WEB, all_to(GREEN, cover=True))
    await bed.withdraw(bed.green)
    assert await dealt(bed, 50) == {"blue": 50}


async def test_without_cover_the_other_colour_is_never_asked(bed: Bed) -> None:
    await bed.publish()
    await bed.splits.move(WEB, all_to(GREEN))
    await bed.withdraw(bed.green)
    assert (await bed.get()).status == 502


async def test_the_prober_reaches_the_plain_pool_of_a_colour_without_any_traffic(bed: Bed) -> None:
    await bed.publish()
    endpoint = bed.proxy.endpoint(bed.route(), GREEN)
    reader, writer = await reached(endpoint)
    writer.write(f"GET {endpoint.prefix}/seen?a=1 HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n".encode())
    seen = json.loads((await reader.read()).partition(b"\r\n\r\n")[2])
    assert seen["path"] == "/seen?a=1"
    assert seen["headers"]["host"] == "shop"
    writer.close()


# --- what passes through -----------------------------------------------------------------------------------------


async def test_the_application_learns_who_asked(bed: Bed) -> None:
    await bed.publish()
    await bed.splits.move(WEB, all_to(BLUE))
    seen = json.loads((await bed.get("/seen", X_Forwarded_For="203.0.113.9", X_Forwarded_Proto="https")).body)
    headers = seen["headers"]
    assert headers["x-forwarded-for"] == headers["x-real-ip"] == "127.0.0.1"  # a stranger's claim is not believed
    assert headers["x-forwarded-proto"] == "http"
    assert headers["x-forwarded-host"] == headers["host"] == "bed.example.com"
    assert len(headers["x-request-id"]) == 32


async def test_a_trusted_proxy_is_believed_and_named_in_the_chain(bed: Bed) -> None:
    await bed.publish(bed.topology(trusted=("127.0.0.0/8",)))
    await bed.splits.move(WEB, all_to(BLUE))
    claims = {"X_Forwarded_For": "203.0.113.9", "X_Forwarded_Proto": "https", "X_Forwarded_Host": "shop.example.com"}
    headers = json.loads((await bed.get("/seen", **claims)).body)["headers"]
    assert headers["x-forwarded-for"] == "203.0.113.9, 127.0.0.1"
    assert headers["x-real-ip"] == "203.0.113.9"
    assert headers["x-forwarded-proto"] == "https"
    assert headers["x-forwarded-host"] == "shop.example.com"


async def test_the_path_arrives_as_it_was_sent(bed: Bed) -> None:
    await bed.publish()
    await bed.splits.move(WEB, all_to(BLUE))
    for path in ("/seen/a%2Fb%20c", "/seen//x/../y", "/seen?q=%24a;b"):
        assert json.loads((await bed.get(path)).body)["path"] == path


async def test_a_websocket_passes_and_survives_a_move(bed: Bed) -> None:
    await bed.publish()
    await bed.splits.move(WEB, all_to(BLUE))
    client = await bed.client()
    client.writer.write(b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    assert (await client.head())[0] == 101
    for word in (b"one", b"two"):
        client.writer.write(word)
        assert await client.reader.read(100) == b"blue " + word
        await bed.splits.move(WEB, all_to(GREEN))


async def test_an_upgrade_to_cleartext_http2_does_not_reach_the_application(bed: Bed) -> None:
    await bed.publish()
    await bed.splits.move(WEB, all_to(BLUE))
    answer = await bed.get("/seen", Upgrade="h2c", Connection="Upgrade, HTTP2-Settings", HTTP2_Settings="AAMAAABk")
    assert "connection" not in json.loads(answer.body)["headers"]


async def test_events_arrive_as_they_are_sent_across_moves_and_reloads(bed: Bed) -> None:
    await bed.publish()
    await bed.splits.move(WEB, all_to(BLUE))
    client = await bed.client()
    client.writer.write(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await client.head())[0] == 200
    for number in range(8):
        async with asyncio.timeout(1):
            assert b"data: %d" % number in await client.reader.readuntil(b"\n\n\r\n")
        if number == 2:
            await bed.splits.move(WEB, all_to(GREEN))
        if number == 4:
            await bed.publish(bed.topology(bed.route(hosts=("a.example.com",))))


async def test_an_upload_passes_up_to_the_limit_of_its_service(bed: Bed) -> None:
    await bed.publish(bed.topology(bed.route(body_limit=3 << 20)))
    await bed.splits.move(WEB, all_to(BLUE))
    client = await bed.client()
    assert (await client.ask("POST", "/size", body=b"x" * (3 << 20))).text == str(3 << 20)
    assert (await client.ask("POST", "/size", body=b"x" * ((3 << 20) + 1))).status == 413


async def test_an_answer_that_is_on_its_way_comes_from_the_colour_that_was_asked(bed: Bed) -> None:
    await bed.publish()
    await bed.splits.move(WEB, all_to(BLUE))
    slow = asyncio.create_task(bed.get("/slow"))
    await asyncio.sleep(0.1)
    await bed.splits.move(WEB, all_to(GREEN))
    assert (await slow).text == "blue"


# --- hosts and paths ---------------------------------------------------------------------------------------------


async def test_the_longest_path_of_a_host_wins_and_ends_at_a_slash(bed: Bed) -> None:
    api = bed.route(service="api", hosts=("shop.example.com",), path="/api")
    web = bed.route(service="web", hosts=("shop.example.com",))
    await bed.publish(bed.topology(api, web))
    await bed.splits.move(api.service, all_to(GREEN))
    await bed.splits.move(web.service, all_to(BLUE))
    colours = {path: (await bed.get(path, Host="shop.example.com")).text for path in ("/", "/api", "/api/x", "/apish")}
    assert colours == {"/": "blue", "/api": "green", "/api/x": "green", "/apish": "blue"}


async def test_a_host_that_no_service_has_is_not_found(sole: Bed) -> None:
    await sole.publish(sole.topology(sole.route(hosts=("shop.example.com",), path="/shop")))
    await sole.splits.move(WEB, all_to(BLUE))
    assert (await sole.get("/shop", Host="other.example.com")).status == 404
    assert (await sole.get("/", Host="shop.example.com")).status == 404
    assert (await sole.get("/shop", Host="shop.example.com")).text == "blue"


async def test_a_service_without_hosts_catches_what_the_others_leave(sole: Bed) -> None:
    api = sole.route(service="api", hosts=("*.example.com",), path="/api")
    await sole.publish(sole.topology(api, sole.route()))
    await sole.splits.move(api.service, all_to(GREEN))
    await sole.splits.move(WEB, all_to(BLUE))
    assert (await sole.get("/api", Host="a.example.com")).text == "green"
    assert (await sole.get("/", Host="a.example.com")).text == "blue"
    assert (await sole.get("/api", Host="a.example.org")).text == "blue"


# --- the access log ----------------------------------------------------------------------------------------------


async def test_the_log_has_one_line_per_request_and_names_every_server_that_was_tried(bed: Bed) -> None:
    dead = f"127.0.0.4:{free_port('127.0.0.4')}"
    await bed.publish(bed.topology(bed.route(green=(dead,))))
    await bed.splits.move(WEB, all_to(GREEN, cover=True))
    await bed.get("/a?secret=1")
    ((_, _, _, status, _, pool, _, times, service, reason, addresses, statuses, method, path),) = await lines_of(bed)
    assert (service, pool, reason, status, method, path) == (
        "web",
        f"px_{PROJECT}_web_green_cover",
        "-",
        "200",
        "GET",
        "/a",
    )
    assert (addresses, statuses, len(times.split(", "))) == (f"{dead}, {bed.blue}", "502, 200", 2)


async def test_no_client_can_forge_a_field_of_the_log_or_a_line(bed: Bed) -> None:
    await bed.publish()
    await bed.splits.move(WEB, all_to(BLUE))
    forged = "%09%0Aweb%09-%0D%09127.0.0.1:80%09502%09GET%09/"
    await bed.get(f"/a{forged}?b{forged}", User_Agent="a\tb", X_Forwarded_For="\t1\t", Cookie="px_bed=\t2\t")
    ((_, _, client, *_, method, path),) = await lines_of(bed)
    assert re.fullmatch(r"127\.0\.0\.1 \d\d", client)
    assert (method, path.replace(r"\x09", "\t")) == ("GET", "/a\t\\x0Aweb\t-\\x0D\t127.0.0.1:80\t502\tGET\t/")


async def test_the_log_tells_two_browsers_behind_one_address_apart(bed: Bed) -> None:
    await bed.publish()
    for path, agent in (("/1", "Mozilla/5.0 (X11)"), ("/2", "curl/8.5"), ("/3", "Mozilla/5.0 (X11)")):
        await bed.get(path, User_Agent=agent)
    clients = {path: client for _, _, client, *_, path in await lines_of(bed)}
    assert clients["/1"] == clients["/3"] != clients["/2"]


@pytest.mark.parametrize("cutover", Cutover)
async def test_where_only_rollouts_are_logged_a_flag_of_the_service_decides(bed: Bed, cutover: Cutover) -> None:
    await bed.publish(bed.topology(access_log=Logged.ROLLOUTS, cutover=cutover))
    await bed.splits.move(WEB, share(GREEN, 50))

    async def ids(path: str) -> list[bool]:
        told = [json.loads((await bed.get(path)).text) for _ in range(5)]
        return ["x-request-id" in each["headers"] for each in told]

    assert await ids("/seen/before") == [False] * 5
    with bed.splits.logged(WEB):
        assert await ids("/seen/while") == [True] * 5
    assert await ids("/seen/after") == [False] * 5
    assert [path for *_, path in await lines_of(bed)] == ["/seen/while"] * 5


async def lines_of(bed: Bed) -> list[list[str]]:
    """When workers have written what they hold."""
    await asyncio.sleep(1.3)
    return [line.split("\t") for line in bed.places.access_log.read_text().splitlines()]
