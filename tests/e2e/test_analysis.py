"""A canary that nginx's log judges, under load: a good one goes up by what it proved, a bad one is taken back."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxyctl.demo.load import Load, Model
from tests.e2e.shop import TWO, Shop, open_shop
from tests.e2e.test_interrupts import in_a_terminal

pytestmark = pytest.mark.docker

FLAWED = "proxyctl-demo:flawed"
CANARY = "{steps: [{weight: 20}, {weight: 50}], analysis: {bake: 6s, deadline: 90s}}"


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with opened(bake="6s") as made:
        yield made


@asynccontextmanager
async def opened(bake: str) -> AsyncIterator[Shop]:
    """The first release serves; what comes next is a canary."""
    async with open_shop(bake=bake) as made:
        made.write("drain: 5s", f"drain: 500ms\n    strategy: {{canary: {CANARY}}}")
        first = await made.type("deploy", "web")
        assert first.code == 0, first.err
        yield made


def people(shop: Shop, clients: int = 40) -> Load:
    """About 200 requests a second, of so many clients."""
    return Load("127.0.0.1", shop.scene.port, Model.KEEPALIVE, clients, pause=clients / 200, spread=1.0)


async def test_a_good_canary_proves_itself_and_a_terminal_shows_how(shop: Shop) -> None:
    async with people(shop) as load:
        await asyncio.sleep(10)
        seen = await asyncio.to_thread(in_a_terminal, "deploy", "web", "--image", TWO, *shop.scene.options)
    assert not load.failed(), load.failed()[:3]
    for words in ("passed at 20 %: less than", "passed at 50 %: less than", "proven by 0 bad of"):
        assert words in seen, seen
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen).replace("\r", "")
    for words in ("0 % bad, median ", "95th percentile ", "evidence 1 of 143, proof ", "latency  "):
        assert words in drawn, words
    splits = re.findall(r"green +(\S+) %[^\n]*\n +(\S+) %  \S+ requests/s", drawn)
    asked, got = map(float, splits[0])
    assert asked == 20.0
    assert got == pytest.approx(20.0, abs=5.0)


async def test_a_plan_says_by_todays_traffic_what_each_step_can_tell(shop: Shop) -> None:
    told = await shop.type("plan", "web", "--image", TWO)
    assert "forecast: none; nginx's log has no request for web in the last 30 minutes" in told.out, told.out
    async with people(shop) as load:
        await asyncio.sleep(20)
        planned = await shop.type("plan", "web", "--image", TWO, "--json")
        told = await shop.type("plan", "web", "--image", TWO)
    (plan,) = json.loads(planned.out)
    assert plan["traffic"]["per_second"] == pytest.approx(len(load.outcomes) / 22, rel=0.4)
    assert plan["traffic"]["usual"] == 0.0
    assert [(step["number"], step["share"], step["inconclusive"]) for step in plan["forecast"]] == [
        (1, 0.2, False),
        (2, 0.5, False),
    ]
    assert plan["forecast"][0]["seconds"] == 6.0, "its bake: there is traffic enough"
    for words in ("forecast, by the last ", "step 1 at 20 % (", "step 2 at 50 % (", "% bad in 90 s, 4 times in 5"):
        assert words in told.out, told.out
    assert [r["id"] for r in (await shop.web())["releases"]] == ["web-1"]
    log = shop.scene.folder / "state/public/logs/access.log"
    simulated = await shop.type("simulate", "web", "--log", str(log))
    assert re.search(r"is too short: it has \d\d s", simulated.err), "its lines are read, and counted by their time"


async def test_a_bad_one_is_taken_back_with_the_numbers_that_say_why(shop: Shop) -> None:
    async with people(shop) as load:
        await asyncio.sleep(10)
        deploy = await shop.type("deploy", "web", "--image", FLAWED)
    assert deploy.code == 5, deploy.err
    for words in (
        "rolled back at 20 %",
        "bad of",
        "against 0 of",
        "of 143 needed",
        "clients",
        "worst GET /",
        "requests ",
    ):
        assert words in deploy.err, deploy.err
    assert {o.problem for o in load.failed()} == {"status 500"}, "nothing was lost, but what the application failed"
    history = (await shop.type("history", "web", "--json")).out
    assert "rolled back at 20 %" in history
    assert [r["id"] for r in (await shop.at_rest())["releases"]] == ["web-1"]


async def test_a_defect_that_a_blue_green_shows_in_its_bake_takes_it_back(shop: Shop) -> None:
    shop.write(f"strategy: {{canary: {CANARY}}}", "strategy: blue-green")
    shop.write("bake: 6s", "bake: 15s")  # a whole tick and the one that it begins in, told a second late
    async with people(shop):
        await asyncio.sleep(10)
        deploy = await shop.type("deploy", "web", "--image", FLAWED)
    assert deploy.code == 5, deploy.err
    assert "rolled back at 100 %" in deploy.err, deploy.err


async def test_evidence_survives_the_death_of_the_driver(shop: Shop) -> None:
    shop.write("bake: 6s, deadline: 90s", "bake: 12s, deadline: 90s")
    async with people(shop):
        await asyncio.sleep(5)
        deploy = await shop.start("deploy", "web", "--image", TWO)
        await shop.until("shifting")
        await asyncio.sleep(8)
        os.kill(shop.driver(), signal.SIGKILL)
        await deploy.communicate()
        assert (await shop.type("recover")).code == 0
        while "passed at 20 %" not in (events := (await shop.type("events", "web")).out):
            await asyncio.sleep(0.5)
        assert (await shop.type("promote", "web", "--full")).code == 0
    (told,) = re.findall(r"proven by 0 bad of ([\d,]+)", events)
    assert int(told.replace(",", "")) > 250, "what was seen before the kill counts"
    await shop.at_rest()


async def test_without_requests_nothing_is_proven_and_a_person_decides(shop: Shop) -> None:
    shop.write("bake: 6s, deadline: 90s", "bake: 1s, deadline: 10s")
    held = await shop.type("deploy", "web", "--image", TWO)
    assert held.code == 8, held.err
    assert "inconclusive" in held.err and "proxyctl promote web" in held.err
    assert (await shop.type("abort", "web")).code == 0
    await shop.at_rest()


SMOKE = """#!/bin/sh
echo "$PROXYCTL_RELEASE at $PROXYCTL_WEIGHT %: the cart is empty"
exit 3
"""
JUDGED = """
      canary:
        steps: [{weight: 20, for: 1s}]
        analysis:
          sources:
            dry: {command: [./smoke], dry_run: true}
            smoke: {command: [./smoke], delay: 4s, interval: 1s, failures: 1}
"""


async def test_sources_hold_a_step_that_is_over_and_take_its_candidate_back() -> None:
    async with opened(bake="1s") as shop, people(shop) as load:
        smoke = shop.file.parent / "smoke"
        smoke.write_text(SMOKE)
        smoke.chmod(0o755)
        shop.write(f"{{canary: {CANARY}}}", JUDGED)
        deploy = await shop.type("deploy", "web", "--image", TWO)
        assert [release["id"] for release in (await shop.at_rest())["releases"]] == ["web-1"]
    assert not load.failed(), load.failed()[:3]
    assert deploy.code == 5, deploy.err
    for words in (
        "rolled back at 20 %: smoke exited with code 3, 2 of 2 measurements failed",  # not held, it had all by then
        "dry exited with code 3 (a dry run: it fails)",
        "web-2 at 20 %: the cart is empty",
    ):
        assert words in deploy.err, deploy.err
