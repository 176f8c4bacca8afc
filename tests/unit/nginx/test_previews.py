"""Requests that rules lead to the candidate beside the split, and copies that it gets: a real nginx, real clients."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from proxyctl.adapters.nginx.generations.closing import connections_closing
from proxyctl.domain.model import Balance, Match, Mirror
from proxyctl.errors import SplitNotSeen
from tests.nginx_bed import (
    BLUE,
    DEBIAN,
    GREEN,
    HOST,
    MAINLINE,
    PROJECT,
    SOMEBODY_ELSES,
    WEB,
    Application,
    Bed,
    Client,
    a_bed,
    all_to,
    share,
)

pytestmark = pytest.mark.nginx

UNSEEN = share(GREEN, 0)  # blue has all traffic
PREVIEWED = share(GREEN, 0, preview=GREEN)
BY_HEADER = Match(headers=(("X-Canary", "yes"), ("X-Canary", "Beta")))
BY_COOKIE = Match(cookies=(("canary", "1"),))
BY_NETWORK = Match(networks=("198.51.100.0/24", "2001:db8::/32"))
BY_HOST = Match(host="preview.example.com")
RULES = (BY_HEADER, BY_COOKIE, BY_NETWORK, BY_HOST)
MATCHED = (
    {"X_Canary": "yes"},
    {"X_Canary": "Beta"},
    {"Cookie": "a=b; canary=1"},
    {"X_Forwarded_For": "198.51.100.7"},
    {"X_Forwarded_For": "2001:db8::7"},
    {"Host": "preview.example.com"},
)
NOT_MATCHED: tuple[dict[str, str], ...] = (
    {},
    {"X_Canary": "YES"},
    {"X_Canary": "yes, really"},
    {"X_Canary": ""},
    {"Cookie": "canary=11"},
    {"Cookie": "xcanary=1"},
    {"X_Forwarded_For": "198.51.101.7"},
)


@pytest.fixture(params=[DEBIAN, MAINLINE, SOMEBODY_ELSES], ids=["debian", "mainline", "include"])
async def bed(request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    """Both colours listen, nginx knows the service, nothing serves yet."""
    async with a_bed(request.param) as bed:
        await bed.serve(bed.blue, "blue")
        yield bed


@pytest.fixture
async def candidate(bed: Bed) -> Application:
    """In green."""
    application = Application("green")
    await bed.run(bed.green, application)
    return application


async def publish(bed: Bed, **edge: object) -> None:
    await bed.publish(bed.topology(bed.route(**edge), trusted=("127.0.0.1",)))


async def lines_of(bed: Bed) -> list[list[str]]:
    """Of the log, when workers have written what they hold."""
    await asyncio.sleep(1.3)
    return [line.split("\t") for line in bed.places.access_log.read_text().splitlines()]


# --- matches -----------------------------------------------------------------------------------------------------


async def test_what_a_rule_matches_reaches_a_candidate_that_has_no_share(bed: Bed, candidate: Application) -> None:
    await publish(bed, matches=RULES)
    for flags, expected in ((UNSEEN, "blue"), (PREVIEWED, "green"), (UNSEEN, "blue")):
        await bed.splits.move(WEB, flags)
        assert [(await bed.get(**headers)).text for headers in MATCHED] == [expected] * len(MATCHED)
        assert [(await bed.get(**headers)).text for headers in NOT_MATCHED] == ["blue"] * len(NOT_MATCHED)


async def test_what_a_rule_matches_reaches_it_also_while_clients_are_let_go(bed: Bed, candidate: Application) -> None:
    await publish(bed, matches=RULES)
    await bed.splits.move(WEB, PREVIEWED)
    async with connections_closing(bed.places):
        for headers, expected in ((MATCHED[0], "green"), (NOT_MATCHED[0], "blue")):
            answer = await bed.get(**headers)
            assert answer.text == expected
            assert answer.headers["connection"] == "close" or bed.settings.binary == MAINLINE


async def test_in_one_rule_everything_must_hold(bed: Bed, candidate: Application) -> None:
    rule = Match(
        headers=(("X-Canary", "yes"), ("X-Team", "shop"), ("X-Team", "cart")),
        cookies=(("canary", "1"),),
        networks=("198.51.100.0/24",),
        host="preview.example.com",
    )
    await publish(bed, matches=(rule, Match(cookies=(("all", "in"),))))
    await bed.splits.move(WEB, PREVIEWED)
    whole = {
        "X_Canary": "yes",
        "X_Team": "cart",
        "Cookie": "canary=1",
        "X_Forwarded_For": "198.51.100.7",
        "Host": "preview.example.com",
    }
    assert (await bed.get(**whole)).text == "green"
    for missing in ("X_Canary", "X_Team", "Cookie", "X_Forwarded_For"):
        part = {name: value for name, value in whole.items() if name != missing}
        assert (await bed.get(**part)).text == "blue", missing
        assert (await bed.get(**part | {"Cookie": "all=in"})).text == "green", "the other rule holds alone"


async def test_values_mean_themselves_whatever_signs_they_have(bed: Bed, candidate: Application) -> None:
    values = ('say "hi" \\ {1;}', "a.b", "(?i)x|.*", "~^.", "#", "'", "*", "default")
    await publish(bed, matches=(Match(headers=tuple(("X-Canary", value) for value in values)),))
    await bed.splits.move(WEB, PREVIEWED)
    assert [(await bed.get(X_Canary=value)).text for value in values] == ["green"] * len(values)
    for other in ("axb", "x", "say hi", "hints", "1"):
        assert (await bed.get(X_Canary=other)).text == "blue", other


async def test_rules_stand_beside_a_split_and_above_it(bed: Bed, candidate: Application) -> None:
    await publish(bed, matches=RULES)
    await bed.splits.move(WEB, share(GREEN, 50, preview=GREEN))
    assert {(await bed.get(X_Canary="yes")).text for _ in range(40)} == {"green"}
    assert {(await bed.get()).text for _ in range(40)} == {"blue", "green"}


@pytest.mark.parametrize("balance", [Balance.LEAST_CONN, Balance.IP_HASH])
async def test_a_candidate_that_dies_is_covered_for_those_who_match_too(
    bed: Bed, candidate: Application, balance: Balance
) -> None:
    await publish(bed, matches=RULES, balance=balance)
    await bed.splits.move(WEB, PREVIEWED)
    await bed.withdraw(bed.green)
    answers = [(await bed.get(**headers)).text for headers in MATCHED]
    assert answers == ["blue"] * len(MATCHED)


async def test_without_cover_those_who_match_see_the_candidate_fail(bed: Bed, candidate: Application) -> None:
    await publish(bed, matches=RULES)
    await bed.splits.move(WEB, share(GREEN, 0, cover=False, preview=GREEN))
    await bed.withdraw(bed.green)
    assert (await bed.get(X_Canary="yes")).status == 502
    assert (await bed.get()).text == "blue"


async def test_the_log_says_who_came_by_a_rule(bed: Bed) -> None:
    await publish(bed, matches=RULES, balance=Balance.IP_HASH)
    await bed.splits.move(WEB, UNSEEN)
    await bed.get("/before", X_Canary="yes")
    await bed.splits.move(WEB, PREVIEWED)
    await bed.get("/covered", X_Canary="yes")
    await bed.serve(bed.green, "green")
    await bed.get("/matched", X_Canary="yes")
    await bed.get("/other")
    reasons = {line[-1]: (line[5].removeprefix(f"px_{PROJECT}_web_"), line[-5]) for line in await lines_of(bed)}
    assert reasons == {
        "/before": ("blue_cover", "-"),
        "/matched": ("green_cover", "match"),
        "/other": ("blue_cover", "-"),
        "/covered": ("blue", "match"),
    }


async def test_no_request_is_lost_and_none_goes_astray_while_previews_come_and_go(
    bed: Bed, candidate: Application
) -> None:
    await publish(bed, matches=RULES)
    await bed.splits.move(WEB, UNSEEN)
    done = asyncio.Event()

    async def ask(**headers: str) -> Counter[tuple[int, str]]:
        answers = Counter[tuple[int, str]]()
        while not done.is_set():
            if answers.total() % 1000 == 0:  # nginx closes a connection after as many
                client = await bed.client()
            answer = await client.ask("POST", "/", headers, b"x" * 200)
            answers[answer.status, answer.text] += 1
        return answers

    matching = [asyncio.create_task(ask(X_Canary="yes")) for _ in range(8)]
    others = [asyncio.create_task(ask()) for _ in range(8)]
    for number in range(120):
        await bed.splits.move(WEB, share(GREEN, 0, cover=bool(number % 3), preview=GREEN if number % 2 else None))
        await asyncio.sleep(0.005)
    await bed.splits.move(WEB, PREVIEWED)
    settled = await ask_once(bed)
    done.set()
    assert settled == "green"
    assert set(sum(await asyncio.gather(*others), Counter())) == {(200, "blue")}
    assert set(sum(await asyncio.gather(*matching), Counter())) == {(200, "blue"), (200, "green")}


async def ask_once(bed: Bed) -> str:
    return (await bed.get(X_Canary="yes")).text


async def test_while_weights_move_those_who_match_stay_with_the_candidate(bed: Bed, candidate: Application) -> None:
    await publish(bed, matches=RULES)
    await bed.splits.move(WEB, PREVIEWED)
    done = asyncio.Event()

    async def ask() -> Counter[str]:
        answers, client = Counter[str](), await bed.client()
        while not done.is_set() and answers.total() < 900:
            answers[(await client.ask("GET", "/", {"X-Canary": "yes"})).text] += 1
        return answers

    clients = [asyncio.create_task(ask()) for _ in range(8)]
    for percent in (1, 12.34, 50, 99.99) * 15:
        await bed.splits.move(WEB, share(GREEN, percent, preview=GREEN))
        await asyncio.sleep(0.002)
    done.set()
    assert set(sum(await asyncio.gather(*clients), Counter[str]())) == {"green"}


async def test_a_reload_lets_those_who_match_go_first(bed: Bed, candidate: Application) -> None:
    await publish(bed, matches=RULES)
    await bed.splits.move(WEB, PREVIEWED)
    done = asyncio.Event()

    async def ask() -> Counter[tuple[int, str]]:
        answers, client = Counter[tuple[int, str]](), await bed.client()
        while not done.is_set():
            answer = await client.ask("POST", "/", {"X-Canary": "yes"}, b"x")
            answers[answer.status, answer.text] += 1
            if answer.headers["connection"] == "close":
                client = await bed.client()
            await asyncio.sleep(0.005)
        return answers

    clients = [asyncio.create_task(ask()) for _ in range(8)]
    for limit in (1, 2, 3):
        await publish(bed, matches=RULES, body_limit=limit << 20)
    done.set()
    assert set(sum(await asyncio.gather(*clients), Counter())) == {(200, "green")}


async def test_a_preview_that_nginx_knows_no_rule_for_is_not_called_live(bed: Bed) -> None:
    await bed.publish()
    with pytest.raises(SplitNotSeen, match="what a rule matches goes to none instead of green_cover"):
        await bed.splits.move(WEB, PREVIEWED)
    await bed.splits.move(WEB, UNSEEN)


async def test_a_preview_host_is_a_host_of_its_service_alone(bed: Bed, candidate: Application) -> None:
    api = bed.route(service="api", hosts=("shop.example.com",), path="/api")
    web = bed.route(hosts=("shop.example.com",), matches=(BY_HOST,))
    await bed.publish(bed.topology(api, web))
    await bed.splits.move(api.service, all_to(BLUE))
    for flags, expected in ((PREVIEWED, "green"), (UNSEEN, "blue")):
        await bed.splits.move(WEB, flags)
        assert (await bed.get("/api", Host="preview.example.com")).text == expected
        assert (await bed.get("/", Host="shop.example.com")).text == "blue"


# --- mirrors -----------------------------------------------------------------------------------------------------


EVERYTHING = Mirror(share=10_000)


async def copies(candidate: Application, wanted: int) -> list[tuple[str, str]]:
    """What reached the candidate, after a moment in which more could."""
    for _ in range(200):
        if len(candidate.asked) >= wanted:
            break
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    return [(asked.method, asked.path) for asked in candidate.asked]


async def test_a_copy_goes_to_the_candidate_as_the_client_wrote_it_and_says_so(
    bed: Bed, candidate: Application
) -> None:
    await publish(bed, mirror=EVERYTHING)
    await bed.splits.move(WEB, PREVIEWED)
    paths = ["/a?x=1&y=%20", "/@scope%2Fname", "/a//b", "/%C3%A9"]
    assert [(await bed.get(path, X_Test="1")).text for path in paths] == ["blue"] * 4
    assert await copies(candidate, 4) == [("GET", path) for path in paths]
    told = candidate.asked[0].headers
    assert {name: told[name] for name in ("x-mirror", "x-test", "host", "x-real-ip")} == {
        "x-mirror": "1",
        "x-test": "1",
        "host": "bed.example.com",
        "x-real-ip": "127.0.0.1",
    }


async def test_a_copy_is_asked_without_the_path_where_replicas_are(bed: Bed, candidate: Application) -> None:
    await publish(bed, mirror=EVERYTHING, path="/api", strip_path=True)
    await bed.splits.move(WEB, PREVIEWED)
    for path in ("/api", "/api/", "/api/x%20y?z=/api/"):
        assert (await bed.get(path)).text == "blue"
    assert await copies(candidate, 3) == [("GET", "/"), ("GET", "/"), ("GET", "/x%20y?z=/api/")]


async def test_only_methods_that_are_named_are_copied_and_no_websocket(bed: Bed, candidate: Application) -> None:
    await publish(bed, mirror=EVERYTHING.replace(methods=("GET",)))
    await bed.splits.move(WEB, PREVIEWED)
    client = await bed.client()
    assert (await client.ask("POST", "/", body=b"x")).text == "blue"
    client.writer.write(b"GET /ws HTTP/1.1\r\nHost: %b\r\nUpgrade: websocket\r\n\r\n" % HOST.encode())
    assert (await client.head())[0] == 101
    await bed.get("/copied")
    assert await copies(candidate, 1) == [("GET", "/copied")]


async def test_without_a_candidate_nothing_is_copied_and_no_connection_closed(bed: Bed, candidate: Application) -> None:
    await publish(bed, mirror=EVERYTHING)
    await bed.splits.move(WEB, UNSEEN)
    client = await bed.client()
    answers = [await client.ask("GET", "/") for _ in range(20)]
    assert {(answer.text, answer.headers["connection"]) for answer in answers} == {("blue", "keep-alive")}
    assert await copies(candidate, 0) == []


async def test_a_share_of_the_requests_is_copied(bed: Bed, candidate: Application) -> None:
    await publish(bed, mirror=Mirror(share=2000))
    await bed.splits.move(WEB, PREVIEWED)
    for _ in range(600):
        assert (await bed.get()).text == "blue"
    assert abs(len(await copies(candidate, 70)) - 120) < 5 * (600 * 0.2 * 0.8) ** 0.5  # five standard deviations


class Slow(Application):
    async def _answer(self, client: Client) -> None:
        await asyncio.sleep(2.0)
        await super()._answer(client)


class Busy(Application):
    def _write(self, client: Client, body: bytes, status: bytes = b"200 OK") -> None:
        super()._write(client, body, b"503 Busy")


@pytest.mark.parametrize("ill", [Slow, Busy, None], ids=["slow", "busy", "dead"])
async def test_a_copy_changes_nothing_of_the_answer_however_the_candidate_fares(
    bed: Bed, ill: type[Application] | None
) -> None:
    if ill is not None:
        await bed.run(bed.green, ill("green"))
    await publish(bed, mirror=EVERYTHING)
    await bed.splits.move(WEB, PREVIEWED)
    began, client = time.monotonic(), await bed.client()
    for _ in range(5):
        answer = await client.ask("GET", "/")
        assert (answer.status, answer.text) == (200, "blue")
        if answer.headers["connection"] == "close":  # else the next request would wait for the copy
            client = await bed.client()
    assert time.monotonic() - began < 1.5


async def test_copies_have_lines_of_their_own_in_the_log(bed: Bed) -> None:
    await bed.run(bed.green, Busy("green"))
    await publish(bed, mirror=EVERYTHING, matches=(BY_HEADER,))
    await bed.splits.move(WEB, PREVIEWED)
    await bed.get("/a")
    await bed.get("/b", X_Canary="yes")
    lines = [(line[5].removeprefix(f"px_{PROJECT}_web_"), line[3], line[-5]) for line in await lines_of(bed)]
    assert sorted(lines) == [("blue_cover", "200", "-"), ("green", "503", "mirror"), ("green_cover", "503", "match")]


async def test_a_copy_is_never_covered_by_the_live_release(bed: Bed) -> None:
    await publish(bed, mirror=EVERYTHING)
    await bed.splits.move(WEB, PREVIEWED)
    await bed.get("/a")
    assert [(line[-5], line[-4]) for line in await lines_of(bed)].count(("mirror", bed.green)) == 1
