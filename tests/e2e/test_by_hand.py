"""Commands as a person types them, each with a mistake: what is said, and that it says what to type next."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.shop import TWO, Said, Shop, open_shop

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("by_hand")]  # one project for the file


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with open_shop(bake="0s") as made:
        made.write("drain: 5s", "drain: 500ms")
        yield made


@pytest.fixture(scope="module")
def standing() -> Iterator[Shop]:
    """Release 1 is live, for all tests that change nothing. They stand below those with a shop of their own: a stage
    is named for this process, so only one can stand at a time."""
    with asyncio.Runner() as runner:
        opening = open_shop(bake="0s")
        made = runner.run(opening.__aenter__())
        assert runner.run(made.type("deploy", "web")).code == 0
        yield made
        runner.run(opening.__aexit__(None, None, None))


async def typed(*words: str | Path, here: Path, **environment: str) -> Said:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxyctl", *map(str, words)),
        cwd=here,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])} | environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return Said(process.returncode or 0, out.decode(), err.decode())


def helps(said: Said, code: int, *words: str) -> None:
    """It failed in words that name the thing and the next step."""
    assert said.code == code, said.err
    assert "Traceback" not in said.err
    for word in words:
        assert word in said.err, said.err
    assert "next:" in said.err or "Try '" in said.err or "Did you mean" in said.err, said.err


async def test_a_newcomer_gets_from_an_empty_folder_to_a_checked_file(tmp_path: Path) -> None:
    helps(await typed("deploy", here=tmp_path), 2, "there is no proxyctl.yml here", "proxyctl init")
    made = await typed("init", "--project", "shop", here=tmp_path)
    assert (made.code, "next: proxyctl check" in made.err) == (0, True)
    helps(await typed("init", here=tmp_path), 2, "exists already")
    file = tmp_path / "proxyctl.yml"
    file.write_text(file.read_text().replace("services:", "servicse:", 1))
    helps(await typed("check", here=tmp_path), 3, "servicse", "services", "proxyctl.yml:")


async def test_a_compose_file_becomes_a_proxyctl_file(tmp_path: Path) -> None:
    (tmp_path / "docker-compose.yml").write_text("services: {web: {image: shop/web, ports: ['80:8000']}}\n")
    assert (await typed("init", "--compose", "docker-compose.yml", here=tmp_path)).code == 0
    assert 'compose: "docker-compose.yml"' in (tmp_path / "proxyctl.yml").read_text()


async def test_every_order_tells_programs_the_same_of_its_service(shop: Shop) -> None:
    async def told(*words: str) -> Any:
        said = await shop.type(*words, "--json", "-q")
        assert said.code == 0, said.err
        return json.loads(said.out)

    (first,) = await told("deploy", "web")
    assert first == {
        "service": "web",
        "phase": "idle",
        "serving": "web: web-1 (blue) 100 %",
        "split": {"blue": 100.0, "green": 0.0},
        "live": "web-1",
        "candidate": None,
        "rollout": None,
    }
    staged = await told("stage", "web", "--image", TWO)
    assert staged == first | {"phase": "paused", "candidate": "web-2", "rollout": "web-r2"}
    weighed = await told("weight", "web", "5")
    assert weighed["split"] == {"blue": 95.0, "green": 5.0}
    aborted = await told("abort", "web")
    assert (aborted["serving"], aborted.keys()) == (first["serving"], first.keys())
    await shop.at_rest()
    assert await told("setup", "--no-boot") == await told("recover") == [first]
    assert await told("abort", "web") == first


async def test_a_plan_says_what_a_deploy_does_before_the_first_and_after(shop: Shop) -> None:
    first = await shop.type("plan", "web")
    assert first.code == 0, first.err
    assert "over nothing" in first.out
    (whole,) = json.loads((await shop.type("plan", "web", "--json")).out)
    lines = sum(line.startswith("+") for line in whole["nginx"].splitlines()[2:])
    assert f"nginx: one new generation, the first; --json has its {lines} lines" in first.out
    assert (await shop.type("check")).code == 0
    assert (await shop.type("deploy", "web")).code == 0
    (second,) = json.loads((await shop.type("plan", "web", "--image", TWO, "--json")).out)
    assert (second["release"], second["replaces"], second["colour"], second["nginx"]) == ("web-2", "web-1", "green", "")
    assert len(second["replicas"]) == 2
    shop.write("health:", "hosts: [shop.example.com]\n    health:")
    assert "nginx: one new generation\n    --- " in (await shop.type("plan", "web")).out
    assert second["digest"].startswith("sha256:")
    helps(await shop.type("plan", "wbe"), 2, "no service 'wbe'", "repeat it with web")


async def test_what_programs_read_has_the_fields_of_the_contract(shop: Shop) -> None:
    await shop.type("deploy", "web", "--reason", "the first")
    status = await shop.status()
    assert set(status) == {"project", "proxy", "frozen", "services"}
    assert {"mode": "process", "nginx": "1.22.1", "generation": 1, "observed": 1, "draining": 0}.items() <= (
        status["proxy"].items()
    )
    (web,) = status["services"]
    assert {"name", "phase", "split", "releases", "rollout", "drift"} <= set(web)
    assert web["split"] == {"blue": 100.0, "green": 0.0}
    (release,) = web["releases"]
    assert {"id", "colour", "role", "image", "digest", "replicas"} <= set(release)
    assert set(release["replicas"][0]) == {"name", "container", "address", "health"}
    (told,) = json.loads((await shop.type("history", "--json")).out)
    assert {
        "id": "web-r1",
        "service": "web",
        "from": None,
        "to": "web-1",
        "outcome": "promoted",
    }.items() <= told.items()
    assert {"reason": "the first", "actor": "root"}.items() <= told.items()
    assert told["started"] < told["finished"]
    events = [json.loads(line) for line in (await shop.type("events", "web", "--json")).out.splitlines()]
    assert events[0]["event"]["@"] == "RolloutOpened"
    assert events[-1]["text"] == "rollout ended: promoted"
    assert "release 1 listens on 8000" in (await shop.type("logs", "web", "--tail", "5")).out
    proxy = json.loads((await shop.type("proxy", "status", "--json")).out)
    assert (proxy["state"], proxy["generation"]) == ("running", 1)


async def test_nginx_can_be_reloaded_stopped_and_started_by_hand(shop: Shop) -> None:
    for word in ("start", "reload"):
        helps(await shop.type("proxy", word), 6, "there is no configuration yet", "proxyctl deploy")
    assert (await shop.type("deploy", "web")).code == 0
    first = json.loads((await shop.type("proxy", "status", "--json")).out)
    assert json.loads((await shop.type("proxy", "reload", "--json")).out) == first, "no certificate changed"
    assert (await shop.type("proxy", "stop", "--yes")).code == 0
    with pytest.raises(ConnectionRefusedError):
        await shop.get("/")
    stopped = json.loads((await shop.type("proxy", "status", "--json")).out)
    assert (stopped["state"], stopped["pid"], stopped["observed"]) == ("stopped", None, None)
    assert json.loads((await shop.type("proxy", "reload", "--if-running", "--json")).out) == stopped
    again = json.loads((await shop.type("proxy", "start", "--json")).out)
    assert (again["state"], again["generation"]) == ("running", first["generation"])
    assert again["pid"] != first["pid"]
    assert (await shop.get("/")).endswith(b"1\n")
    assert json.loads((await shop.type("proxy", "start", "--json")).out) == again, "it runs already"
    upgraded = json.loads((await shop.type("proxy", "upgrade", "--json")).out)
    assert (upgraded["state"], upgraded["generation"]) == ("running", first["generation"])
    assert upgraded["pid"] != again["pid"]
    assert (await shop.get("/nobody-else-asks-this")).startswith(b"HTTP/1.1 ")
    await asyncio.sleep(1.5)  # the log is written once a second
    assert "/nobody-else-asks-this" in (await shop.type("proxy", "logs", "--access", "--tail", "5")).out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("deploy", "wbe"), 2, "no service 'wbe'"),
        (("weight", "web", "101"), 2, "between 0 and 100"),
        (("weight", "web", "12.345"), 2, "finer than 0.01"),
        (("weight", "web", "five"), 2, "not a number"),
        (("rollback", "wbe"), 4, "repeat it with web"),
        (("rollback", "web"), 4, "no warm release"),
        (("switch", "web", "--to", "red"), 2, "no release 'red'"),
        (("weight", "web", "nan"), 2, "not a number"),
        (("plan", "wbe"), 2, "no service 'wbe'"),
        (("stage", "wbe"), 2, "no service 'wbe'"),
        (("abort", "wbe"), 4, "never deployed"),
        (("logs", "wbe"), 4, "never deployed"),
        (("logs", "web", "--tail", "-1"), 2, "write a whole number from 0 to"),
        (("history", "wbe"), 4, "never deployed"),
        (("events", "wbe", "--json"), 4, "never deployed"),
        (("proxy", "stpo"), 2, "Did you mean 'stop'"),
        (("stage",), 2, "Missing argument"),
        (("deplyo", "web"), 2, "Did you mean 'deploy'"),
        (("deploy", "web", "--imgae", TWO), 2, "--image"),
    ],
)
async def test_a_mistake_is_named_with_what_to_type_instead(
    standing: Shop, words: tuple[str, ...], code: int, said: str
) -> None:
    helps(await standing.type(*words), code, said)


@pytest.mark.parametrize(
    ("words", "code"), [("deploy web", 6), ("plan web", 6), ("logs web", 6), ("prune --yes", 6), ("check", 3)]
)
async def test_without_an_engine_a_command_says_so_and_changes_nothing(standing: Shop, words: str, code: int) -> None:
    before = await standing.web()
    said = await typed(
        *words.split(), *standing.scene.options, here=standing.scene.folder, DOCKER_HOST="unix:///nonexistent"
    )
    helps(said, code, "the Docker engine cannot be reached", "serving:", "DOCKER_HOST")
    assert await standing.web() == before


async def test_without_an_engine_a_status_knows_who_serves_and_not_how_they_are(standing: Shop) -> None:
    said = await typed(
        "status", "--json", *standing.scene.options, here=standing.scene.folder, DOCKER_HOST="unix:///nonexistent"
    )
    assert said.code == 0, said.err
    (web,) = json.loads(said.out)["services"]
    assert web["split"] == {"blue": 100.0, "green": 0.0}
    assert [replica["health"] for replica in web["releases"][0]["replicas"]] == ["unknown", "unknown"]


ANY = ("status", "deploy web", "rollback web", "check", "plan web", "history", "events --json", "proxy start")


async def test_a_file_that_is_not_there_is_named_by_every_command(tmp_path: Path) -> None:
    missing = tmp_path / "nope.yml"
    typing = [typed(*words.split(), "--file", missing, here=tmp_path) for words in ANY]
    for said in await asyncio.gather(*typing):
        helps(said, 2, f"{missing}: there is no such file", "proxyctl init")
    assert list(tmp_path.iterdir()) == []


async def test_in_the_folder_of_the_file_nothing_needs_to_be_named(standing: Shop) -> None:
    state = str(standing.scene.folder / "state")
    said = await typed("history", "--json", here=standing.scene.folder, PROXYCTL_STATE=state)
    assert [told["to"] for told in json.loads(said.out)] == ["web-1"]
    below = standing.scene.folder / "state"
    told = await typed("events", "--json", "--file", "../proxyctl.yml", here=below, PROXYCTL_STATE=state)
    assert {json.loads(line)["rollout"] for line in told.out.splitlines()} == {"web-r1"}


async def test_nginx_is_not_stopped_by_somebody_who_did_not_say_yes(standing: Shop) -> None:
    said = await typed("proxy", "stop", *standing.scene.options, here=standing.scene.folder)
    assert said.code == 130
    assert "Traceback" not in said.err
    assert f"All services of project {standing.scene.project} stop being served" in said.out
    assert (await standing.get("/")).endswith(b"1\n")


@pytest.mark.parametrize("typed_words", ["rollback web", "deploy web", "status", "history"])
async def test_a_folder_of_somebody_else_is_named(standing: Shop, typed_words: str) -> None:
    """As the user nobody, in a project of root's."""
    words = (sys.executable, "-m", "proxyctl", *typed_words.split(), *standing.scene.options)
    process = await asyncio.create_subprocess_exec(
        *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *words),
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    helps(Said(process.returncode or 0, out.decode(), err.decode()), 6, "cannot be used: permission denied")


async def test_a_state_folder_that_cannot_be_one_is_named(tmp_path: Path, standing: Shop) -> None:
    state = tmp_path / "state"
    state.write_text("a file in its place")
    options = ("--file", standing.file, "--state", state)
    typing = [typed(*words.split(), *options, here=standing.scene.folder) for words in ANY]
    for said in await asyncio.gather(*typing):
        helps(said, 6, f"the state folder {state} cannot be used: not a directory", "--state DIR")
    assert state.read_text() == "a file in its place"
