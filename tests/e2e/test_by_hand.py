"""Commands as a person types them, each with a mistake: what is said, and that it says what to type next."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.e2e.shop import TWO, Said, Shop, open_shop

pytestmark = pytest.mark.docker


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with open_shop(bake="0s") as made:
        made.write("drain: 5s", "drain: 500ms")
        yield made


@pytest.fixture(scope="module")
def standing() -> Iterator[Shop]:
    """Release 1 is live, for all tests that change nothing."""
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


async def test_a_plan_says_what_a_deploy_does_before_the_first_and_after(shop: Shop) -> None:
    first = await shop.type("plan", "web")
    assert first.code == 0, first.err
    assert "over nothing" in first.out
    assert "nginx: one new generation" in first.out
    assert (await shop.type("check")).code == 0
    assert (await shop.type("deploy", "web")).code == 0
    (second,) = json.loads((await shop.type("plan", "web", "--image", TWO, "--json")).out)
    assert (second["release"], second["replaces"], second["colour"], second["nginx"]) == ("web-2", "web-1", "green", "")
    assert len(second["replicas"]) == 2
    assert second["digest"].startswith("sha256:")
    helps(await shop.type("plan", "wbe"), 2, "no service 'wbe'", "web")


async def test_what_programs_read_has_the_fields_of_the_contract(shop: Shop) -> None:
    await shop.type("deploy", "web", "--reason", "the first")
    status = await shop.status()
    assert set(status) == {"project", "proxy", "services"}
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


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("deploy", "wbe"), 2, "no service 'wbe'"),
        (("weight", "web", "101"), 2, "between 0 and 100"),
        (("weight", "web", "12.345"), 2, "finer than 0.01"),
        (("weight", "web", "five"), 2, "not a number"),
        (("rollback", "wbe"), 4, "'wbe' was never deployed"),
        (("rollback", "web"), 4, "no warm release"),
        (("switch", "web", "--to", "red"), 2, "no release 'red'"),
        (("abort", "web"), 4, "no rollout to abort"),
        (("logs", "wbe"), 4, "never deployed"),
        (("history", "wbe"), 4, "never deployed"),
        (("stage",), 2, "Missing argument"),
        (("deplyo", "web"), 2, "Did you mean 'deploy'"),
        (("deploy", "web", "--imgae", TWO), 2, "--image"),
    ],
)
async def test_a_mistake_is_named_with_what_to_type_instead(
    standing: Shop, words: tuple[str, ...], code: int, said: str
) -> None:
    helps(await standing.type(*words), code, said)


async def test_without_an_engine_a_deploy_says_so_and_changes_nothing(standing: Shop) -> None:
    said = await typed(
        "deploy", "web", *standing.scene.options, here=standing.scene.folder, DOCKER_HOST="unix:///nowhere/docker.sock"
    )
    helps(said, 6, "Docker", "serving")
    assert (await standing.web())["releases"][0]["id"] == "web-1"


async def test_a_folder_of_somebody_else_is_named(standing: Shop) -> None:
    """As the user nobody, in a project of root's."""
    words = (sys.executable, "-m", "proxyctl", "rollback", "web", *standing.scene.options)
    process = await asyncio.create_subprocess_exec(
        *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *words),
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    helps(Said(process.returncode or 0, out.decode(), err.decode()), 6, "cannot be used: permission denied")


async def test_a_state_folder_that_cannot_be_one_is_named(tmp_path: Path, standing: Shop) -> None:
    (tmp_path / "state").write_text("a file in its place")
    said = await typed("status", "--file", standing.file, "--state", tmp_path / "state", here=standing.scene.folder)
    helps(said, 6, str(tmp_path / "state"))
