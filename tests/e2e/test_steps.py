"""A canary by its steps, under load, with real containers and nginx: it waits, is led, is stopped, and is resumed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from datetime import datetime

import pytest

from proxyctl.domain.windows import DAYS
from tests.e2e.shop import SICK, TWO, Shop, ended, open_shop

pytestmark = pytest.mark.docker

STEPS = "[{weight: 5, for: 2s}, {weight: 25, for: 2s}, {gate: approve}, {weight: 50, for: 2s}]"

ANOTHER = """\
  other:
    container: {image: "proxyctl-demo:1"}
    port: 8000
    hosts: [other.example.com]
    health: {path: /healthz}
"""


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    """Release 1 is live, and the next one comes step by step."""
    async with open_shop(bake="1s") as made:
        made.write("drain: 5s", f"drain: 500ms\n    strategy: {{canary: {{steps: {STEPS}}}}}")
        first = await made.type("deploy", "web")
        assert first.code == 0, first.err
        assert "5 %" not in first.err, "the first release has nobody to share with"
        yield made


def share(web: dict[str, object]) -> float:
    split = web["split"]
    assert isinstance(split, dict)
    return float(min(split.values()))


async def test_a_canary_goes_up_its_steps_and_waits_for_a_yes(shop: Shop) -> None:
    async with shop.load() as load:
        held = await shop.type("deploy", "web", "--image", TWO)
        assert held.code == 8, held.err
        assert "waits for you at step 3 of 6: until it is approved" in held.err
        assert "proxyctl approve web or proxyctl deny web" in held.err
        assert share(await shop.web()) == 25.0
        approved = await shop.type("approve", "web", "--reason", "looks well")
        assert approved.code == 0, approved.err
        web = await shop.at_rest()
    assert [r["id"] for r in web["releases"] if r["role"] == "live"] == ["web-2"]
    assert not load.failed(), load.failed()[:3]
    said = (await shop.type("events", "web")).out
    for words in ("blue 95 % green 5 %", "blue 75 % green 25 %", "approved by", "blue 50 % green 50 %", "promoted"):
        assert words in said


async def test_a_no_takes_the_candidate_back(shop: Shop) -> None:
    async with shop.load() as load:
        assert (await shop.type("deploy", "web", "--image", TWO)).code == 8
        denied = await shop.type("deny", "web", "--reason", "wrong totals")
        assert denied.code == 0 and "is taken back in the background" in denied.err, denied.err
        web = await shop.at_rest()
    assert [r["id"] for r in web["releases"]] == ["web-1"]
    assert not load.failed(), load.failed()[:3]
    assert "ended by root: denied: wrong totals" in (await shop.type("history", "web")).out


async def test_a_pause_keeps_the_share_and_resume_goes_on(shop: Shop) -> None:
    deploy = await shop.start("deploy", "web", "--image", TWO)
    await shop.until("shifting")
    while share(await shop.web()) != 5.0:
        pass
    paused = await shop.type("pause", "web", "--reason", "graphs")
    assert paused.code == 0, paused.err
    assert "waits for you: proxyctl resume web or proxyctl promote web or proxyctl abort web" in paused.err
    _, err = await deploy.communicate()
    assert deploy.returncode == 8, err.decode()
    assert "proxyctl resume web" in err.decode()
    again = await shop.type("pause", "web")
    assert again.code == 4 and "is paused already" in again.err
    web = await shop.web()
    assert (web["phase"], share(web)) == ("paused", 5.0)
    assert (await shop.type("resume", "web")).code == 0
    await shop.until("held")
    full = await shop.type("promote", "web", "--full")
    assert full.code == 0, full.err
    web = await shop.at_rest()
    assert [r["id"] for r in web["releases"] if r["role"] == "live"] == ["web-2"]


async def test_promote_ends_one_wait_and_a_weight_by_hand_keeps_the_steps_that_give_more(shop: Shop) -> None:
    shop.write("for: 2s}, {weight: 25", "for: 10m}, {weight: 25")
    deploy = await shop.start("deploy", "web", "--image", TWO)
    await shop.until("shifting")
    while share(await shop.web()) != 5.0:
        pass
    ten = await shop.type("weight", "web", "10")
    assert ten.code == 0, ten.err
    await deploy.communicate()
    assert share(await shop.web()) == 10.0
    assert (await shop.type("promote", "web")).code == 0
    await shop.until("held")
    assert share(await shop.web()) == 25.0
    assert (await shop.type("abort", "web")).code == 0
    await shop.at_rest()


async def test_a_killed_driver_leaves_a_wait_that_goes_on(shop: Shop) -> None:
    shop.write("for: 2s}, {weight: 25", "for: 6s}, {weight: 25")
    async with shop.load() as load:
        deploy = await shop.start("deploy", "web", "--image", TWO)
        await shop.until("shifting")
        while share(await shop.web()) != 5.0:
            pass
        os.kill(shop.driver(), signal.SIGKILL)
        _, err = await deploy.communicate()
        assert deploy.returncode == 6 and "proxyctl recover web" in err.decode()
        assert (await shop.type("recover")).code == 0
        await shop.until("held")
    assert not load.failed(), load.failed()[:3]
    assert (await shop.type("deny", "web")).code == 0
    await shop.at_rest()


async def test_a_candidate_whose_processes_die_in_a_step_costs_nobody_an_answer(shop: Shop) -> None:
    shop.write("for: 2s}, {gate", "for: 10m}, {gate")
    async with shop.load() as load:
        deploy = await shop.start("deploy", "web", "--image", TWO)
        await shop.until("shifting")
        while share(await shop.web()) != 25.0:
            pass
        for container in shop.containers("release=web-2"):
            os.kill(container.attrs["State"]["Pid"], signal.SIGKILL)
        _, err = await deploy.communicate()
    assert deploy.returncode == 5 and "rolled-back" in err.decode(), err.decode()
    assert load.releases_since(0) == {"1", "2"}
    assert not load.failed(), load.failed()[:3]
    assert [r["id"] for r in (await shop.at_rest())["releases"]] == ["web-1"]


async def test_a_release_that_was_refused_is_tried_again(shop: Shop) -> None:
    refused = await shop.type("deploy", "web", "--image", SICK)
    assert refused.code == 5
    again = await shop.type("retry", "web")
    assert again.code == 5, "it is as sick as before"
    assert "web-2" in again.err
    rested = await shop.at_rest()
    assert [r["id"] for r in rested["releases"]] == ["web-1"]
    assert (await shop.type("deploy", "web", "--image", TWO)).code == 8
    assert (await shop.type("promote", "web", "--full")).code == 0
    await shop.at_rest()
    nothing = await shop.type("retry", "web")
    assert nothing.code == 4 and "no release to try again" in nothing.err


async def test_a_freeze_keeps_new_releases_away_and_no_way_back_is_closed(shop: Shop) -> None:
    assert (await shop.type("deploy", "web", "--image", TWO)).code == 8
    frozen = await shop.type("freeze", "--reason", "black friday")
    assert frozen.code == 0 and "goes on" not in frozen.err, frozen.err
    again = await shop.type("freeze", "--reason", "just in case")
    assert again.code == 0 and "is frozen already, by" in again.err and "black friday" in again.err, again.err
    assert "FROZEN by" in (await shop.type("status")).out
    assert (await shop.status())["frozen"]["reason"] == "black friday"
    for words in (["approve", "web"], ["promote", "web"], ["weight", "web", "30"], ["deploy", "web"], ["retry", "web"]):
        refused = await shop.type(*words)
        assert refused.code == 4 and "is frozen by" in refused.err and "proxyctl thaw" in refused.err, refused.err
    assert (await shop.type("abort", "web")).code == 0
    await shop.at_rest()
    shop.file.write_text(shop.file.read_text() + ANOTHER)
    missing = await shop.type("setup", "--no-boot")
    assert missing.code == 4 and "live already: web" in missing.err and "is frozen by" in missing.err, missing.err
    assert (await shop.type("thaw", "--reason", "over")).code == 0
    nothing = await shop.type("thaw", "--json")
    assert (nothing.code, nothing.out) == (0, "null\n")
    lines = (await shop.type("events", "web")).out.splitlines()
    assert [line.split("  ")[-1] for line in lines if "frozen" in line or "thawed" in line] == [
        "all services frozen by root: black friday",
        "all services thawed by root: over",
    ]
    freeze = json.loads((await shop.type("history", "--json")).out)[-1]
    assert (freeze["kind"], freeze["outcome"], freeze["asked"], freeze["reason"]) == (
        "freeze",
        "thawed",
        "black friday",
        "over",
    )


async def test_a_freeze_names_what_goes_on_in_spite_of_it(shop: Shop) -> None:
    deploying = await shop.start("deploy", "web", "--image", TWO)
    while (await shop.web())["phase"] != "shifting":
        await asyncio.sleep(0.05)
    frozen = await shop.type("freeze")
    assert frozen.code == 0 and "web-r2 goes on all the same, with web-2: proxyctl pause web" in frozen.err, frozen.err
    assert (await shop.type("abort", "web")).code == 0
    assert (await ended(deploying)).code == 5


async def test_superseding_takes_the_candidate_back_first_but_never_for_itself(shop: Shop) -> None:
    assert (await shop.type("deploy", "web", "--image", TWO)).code == 8
    refused = await shop.type("deploy", "web", "--image", "proxyctl-demo:3")
    assert refused.code == 4 and "--supersede" in refused.err and "proxyctl approve web" in refused.err, refused.err
    same = await shop.type("deploy", "web", "--image", TWO, "--supersede")
    assert same.code == 0 and "is this very release" in same.err, same.err
    assert share(await shop.web()) == 25.0
    missing = await shop.type("deploy", "web", "--image", "proxyctl-demo:none", "--supersede")
    assert missing.code == 6, missing.err
    assert share(await shop.web()) == 25.0, "nothing was ended for an image that is not there"
    assert (await shop.type("deploy", "web", "--image", "proxyctl-demo:3", "--supersede")).code == 8
    web = await shop.web()
    assert {r["id"] for r in web["releases"]} == {"web-1", "web-3"} and share(web) == 25.0
    outcomes = json.loads((await shop.type("history", "web", "--json")).out)
    assert "superseded" in [rollout["outcome"] for rollout in outcomes]
    assert (await shop.type("abort", "web")).code == 0
    await shop.at_rest()


async def test_a_hook_of_the_plan_runs_and_its_no_takes_the_candidate_back(shop: Shop) -> None:
    hooks = shop.scene.folder / ".proxyctl" / "hooks"
    hooks.mkdir(parents=True)
    (hooks / "smoke").write_text('#!/bin/sh\necho "at $PROXYCTL_WEIGHT %"\n[ "$PROXYCTL_IMAGE" = proxyctl-demo:2 ]\n')
    shop.write(STEPS, "[{weight: 5}, {hook: smoke}]".replace("{weight: 5}", "{weight: 5, for: 1s}"))
    unmade = await shop.type("check")
    assert unmade.code == 3 and "chmod +x it" in unmade.err, unmade.err
    (hooks / "smoke").chmod(0o755)
    assert (await shop.type("deploy", "web", "--image", TWO)).code == 0
    refused = await shop.type("deploy", "web", "--image", "proxyctl-demo:3")
    assert refused.code == 5 and "hook smoke ended with code 1: at 5 %" in refused.err, refused.err
    await shop.at_rest()


async def test_outside_its_windows_a_release_is_started_only_when_that_is_said(shop: Shop) -> None:
    tomorrow = DAYS[(datetime.now().weekday() + 1) % 7]
    shop.file.write_text(shop.file.read_text() + ANOTHER + f"windows: ['{tomorrow} 00:00-24:00']\n")
    for words in (["deploy", "web", "--image", TWO], ["setup", "--no-boot"]):
        refused = await shop.type(*words)
        assert refused.code == 4 and f"{tomorrow} 00:00-24:00" in refused.err, refused.err
        assert "--outside-windows" in refused.err
    assert (await shop.type("deploy", "web", "--image", TWO, "--outside-windows")).code == 8
    assert (await shop.type("abort", "web")).code == 0
    await shop.at_rest()
    again = await shop.type("retry", "web")
    assert again.code == 4 and f"{tomorrow} 00:00-24:00" in again.err, again.err
