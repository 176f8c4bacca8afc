"""A change that is refused leaves files, nginx, containers and store as they were; and so does whoever only looks."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import docker
import pytest
from docker.models.containers import Container

from tests.e2e.invariants import Strangers, spoke_plainly, unchanged
from tests.e2e.pair import file_says, standing_pair
from tests.e2e.shop import ONE, TWO, Said, Shop, locked_by_a_stranger

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("refusals")]  # one project for the file


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with standing_pair() as shop:
        yield shop


async def refused(shop: Shop, code: int, words: str, command: str) -> Said:
    async with unchanged(shop.scene):
        said = await shop.type(*command.split())
    spoke_plainly(said)
    assert said.code == code, said
    assert words in said.err, said.err
    return said


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("weight web 101", 2, "not between 0 and 100"),
        ("weight web -- -1", 2, "not between 0 and 100"),
        ("weight web 12.345", 2, "finer than 0.01"),
        ("weight web much", 2, "not a number"),
        ("weight ghost 5", 4, "never deployed"),
        ("deploy ghost", 2, "no service 'ghost'"),
        ("stage ghost", 2, "no service 'ghost'"),
        ("switch ghost", 4, "never deployed"),
        ("switch web --to web-99", 2, "no release 'web-99'"),
        ("switch web --to green", 4, "live already"),
        ("rollback ghost", 4, "never deployed"),
        ("rollback web --to web-99", 2, "no release 'web-99'"),
        ("rollback web --to web-2", 4, "live already"),
        ("abort ghost", 4, "never deployed"),
        ("recover ghost", 4, "never deployed"),
        ("status ghost", 4, "never deployed"),
        ("deploy web --image 127.0.0.1:9/no/such:1", 6, "127.0.0.1:9/no/such:1"),
        ("deploy web --image 127.0.0.1:9/UPPER", 2, "not an image"),
        ("stage web --image 127.0.0.1:9/no/such:1", 6, "127.0.0.1:9/no/such:1"),
        ("deploy web --imagine proxyctl-demo:2", 2, "--imagine"),
        ("depoly web", 2, "deploy"),
    ],
)
async def test_an_order_that_cannot_be_followed_changes_nothing(
    shop: Shop, command: str, code: int, words: str
) -> None:
    await refused(shop, code, words, command)


async def test_an_abort_where_nothing_runs_is_done_and_says_so(shop: Shop) -> None:
    async with unchanged(shop.scene):
        said = await shop.type("abort", "web")
        as_json = await shop.type("abort", "web", "--json", "-q")
    assert (said.code, "nothing to abort: no rollout of web runs" in said.err) == (0, True), said
    assert json.loads(as_json.out)["phase"] == "idle"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("replicas: 2", "replicas: 0", "replicas"),
        ("replicas: 2", "replcas: 2", "replcas"),
        ("drain: 500ms", "drain: soon", "drain"),
        ("port: 8000", "port: 99999", "port"),
        ("services:", "services: {", "not YAML"),
        ("services:", "proxy: {}\nservices:", "twice"),
        ("image: ", "image: !!python/object:os.system ", "tag"),
        ("bake: ", "bake: \0", "proxyctl.yml"),
    ],
)
async def test_a_file_that_is_wrong_changes_nothing(shop: Shop, old: str, new: str, words: str) -> None:
    with file_says(shop, old, new):
        await refused(shop, 3, words, "deploy web")


@pytest.mark.parametrize(
    "command",
    [
        "status",
        "status --json",
        "history",
        "check",
        "plan web",
        "prune",
        "proxy status",
        "proxy start",
        "recover",
    ],
)
async def test_looking_changes_nothing(shop: Shop, command: str) -> None:
    async with unchanged(shop.scene):
        said = await shop.type(*command.split())
    assert said.code == 0, said.err
    assert said.err.count("error") == 0


@pytest.mark.parametrize("command", ["deploy web", "stage web", "plan web", "prune --yes"])
async def test_without_an_engine_nothing_is_half_done(
    shop: Shop, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with unchanged(shop.scene):
        with monkeypatch.context() as elsewhere:
            elsewhere.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
            said = await shop.type(*command.split())
    spoke_plainly(said)
    assert said.code == 6, said


@pytest.mark.parametrize("command", ["deploy web", "rollback web"])
async def test_what_somebody_else_drives_is_refused(shop: Shop, command: str) -> None:
    with locked_by_a_stranger(shop.scene.folder / "state/private/locks/web.lock"):
        await refused(shop, 4, "web", command)


async def test_a_port_that_somebody_holds_is_refused_before_anything_changes(shop: Shop) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as stranger:
        taken = f"127.0.0.1:{stranger.getsockname()[1]}"
        with file_says(shop, f"127.0.0.1:{shop.scene.port}", taken):
            await refused(shop, 6, taken, "deploy web")
            await refused(shop, 6, taken, "stage web")


async def test_names_that_strangers_have_are_left_to_the_strangers(shop: Shop) -> None:
    with ExitStack() as stack:
        strangers = [stack.enter_context(stranger(r["name"])) for r in await next_replicas(shop)]
        await refused(shop, 6, "not proxyctl's", "deploy web")
        assert [life(container) for container in strangers] == ["created", "created"]


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        (
            "environment: {KEY: 'env:NOBODY_SET_IT'}",
            "environment KEY wants the variable NOBODY_SET_IT, which is not set",
        ),
        ("environment: {KEY: 'file:/nowhere/key'}", "environment KEY wants the file /nowhere/key: no such file"),
        ("networks: [nobody-made-it]", "joins the network nobody-made-it, which is not there"),
    ],
)
async def test_what_a_release_lacks_is_said_while_the_standby_still_stands(shop: Shop, needs: str, words: str) -> None:
    with file_says(shop, "container: {", f"container: {{{needs}, "):
        await refused(shop, 3, words, "check")
        await refused(shop, 6, words, "deploy web")


async def test_a_service_that_left_the_file_keeps_its_place_and_is_named(shop: Shop) -> None:
    words = "wob wants every host with path /, which web has; web is live and not in"
    with file_says(shop, "  web:", "  wob:"):
        await refused(shop, 3, words, "check")
        said = await shop.type("deploy", "wob")
    assert (said.code, words in said.err) == (6, True), said


# --- rollouts that fail: their story stays in the store, and nothing else of them -----------------------------------


@pytest.fixture
async def alone(shop: Shop) -> None:
    """The live release, without a standby: that leaves before the next release starts, and would hide what changed."""
    if any(release["role"] == "standby" for release in (await shop.web())["releases"]):
        assert (await shop.type("stage", "web")).code == 0
        assert (await shop.type("abort", "web")).code == 0
        await shop.at_rest()


async def failed(shop: Shop, words: str, image: str = ONE) -> None:
    async with shop.load() as load, unchanged(shop.scene, "store"):
        said = await shop.type("deploy", "web", "--image", image)
    spoke_plainly(said)
    assert said.code == 5, said
    assert words in said.err
    assert load.failed() == []


async def test_addresses_that_strangers_have_are_left_to_the_strangers(shop: Shop, alone: None) -> None:
    with ExitStack() as stack, closing(docker.from_env()) as client:
        slots = client.networks.get(f"proxyctl-{shop.scene.project}-slots")
        strangers = []
        for replica in await next_replicas(shop):
            strangers.append(stack.enter_context(stranger(f"{replica['name']}-squatter")))
            slots.connect(strangers[-1], ipv4_address=replica["address"].partition(":")[0])
            strangers[-1].start()
        await failed(shop, "-squatter has it")
        assert [life(container) for container in strangers] == ["running", "running"]


async def test_a_release_that_exits_at_its_start_leaves_nothing_behind(shop: Shop, alone: None) -> None:
    await failed(shop, "exited with code 3", image="proxyctl-demo:exits")


async def test_what_does_not_fit_a_canary_that_waits_changes_nothing_of_it(shop: Shop) -> None:
    assert (await shop.type("stage", "web", "--image", TWO)).code == 0
    await refused(shop, 4, "abort web", "deploy web")
    await refused(shop, 4, "abort web", "stage web")
    await refused(shop, 2, "not between 0 and 100", "weight web 100.01")
    await refused(shop, 4, "live already", "switch web --to green")
    assert (await shop.type("abort", "web")).code == 0
    await shop.at_rest()


async def test_while_a_canary_drains_it_is_taken_back_already_and_nothing_else_is_proposed(shop: Shop) -> None:
    with file_says(shop, "drain: 500ms", "drain: 15s"):
        assert (await shop.type("stage", "web", "--image", TWO)).code == 0
    assert (await shop.type("weight", "web", "50")).code == 0
    slow = [asyncio.create_task(shop.get("/slow?ms=6000")) for _ in range(8)]
    await asyncio.sleep(0.5)
    for command in ("abort web", "abort web", "rollback web"):
        said = await shop.type(*command.split())
        assert (said.code, "is taken back in the background" in said.err) == (0, True), said
    said = await refused(shop, 4, "is aborting", "promote web")
    assert "next:    wait: proxyctl status web --watch" in said.err
    web = await shop.web()
    assert (web["phase"], web["drift"]) == ("aborting", [])
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in await asyncio.gather(*slow))
    assert (await shop.at_rest())["drift"] == []


# --- what is none of ours -------------------------------------------------------------------------------------------


async def test_whatever_we_do_a_strangers_container_network_volume_image_and_file_stay_as_they_are(shop: Shop) -> None:
    canary = [f"stage web --image {TWO}", "weight web 5", "abort web"]
    others = ["deploy web", "rollback web", "switch web", "weight web 50", "abort web", "recover", "prune --yes"]
    with Strangers(shop.scene, "proxyctl-demo:1") as strangers:
        for command in (*canary, *others, "proxy start"):
            said = await shop.type(*command.split())
            assert said.code == 0, said
            if command == "abort web":
                await shop.at_rest()
            assert strangers.touched() == [], command


async def next_replicas(shop: Shop) -> list[dict[str, str]]:
    """Names and addresses that the next release's replicas would get."""
    (planned,) = json.loads((await shop.type("plan", "web", "--json")).out)
    replicas: list[dict[str, str]] = planned["replicas"]
    return replicas


@contextmanager
def stranger(name: str) -> Iterator[Container]:
    """A container that is not started, and without our label."""
    with closing(docker.from_env()) as client:
        made = client.containers.create("proxyctl-demo:1", name=name)
        try:
            yield made
        finally:
            made.remove(force=True)


def life(container: Container) -> str:
    container.reload()
    return str(container.status)
