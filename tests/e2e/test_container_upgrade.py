"""nginx in a container gives way to one of another image while clients ask, whatever breaks off in between."""

from __future__ import annotations

import asyncio
import sys
import uuid
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container

from proxyctl.adapters.nginx.generations.passing_on import SWITCH
from proxyctl.adapters.nginx.process.master import find_master, find_masters
from proxyctl.adapters.places import Places
from proxyctl.demo.load import Model
from proxyctl.domain.model import BasicAuth
from tests.e2e.pair import file_says, standing
from tests.e2e.shop import TWO, Shop, ended, open_shop
from tests.e2e.test_container_mode import FILE
from tests.nginx_bed import BLUE, DEBIAN, IN_A_CONTAINER, MAINLINE, WEB, Bed, a_bed, all_to
from tests.nginx_image import REPOSITORY, image_of

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("container upgrade")]  # one project for the file

# The steps of a hand-over, as the names of what is called just before each.
STEPS = (
    "generations.upgrade:HandOver._start_beside",
    "generations.running:RunningNginx.newcomer",
    "generations.upgrade:HandOver._leave_only",
    "generations.running:RunningNginx.let_go",
    "generations.running:_closed",
    "proxy:NginxProxy.publish",
)
# A proxyctl that is killed just before it calls this.
DIES_AT = """
import os, sys, importlib
module, _, what = sys.argv.pop(1).partition(":")
*path, name = what.split(".")
owner = importlib.import_module(f"proxyctl.adapters.nginx.{module}")
for part in path:
    owner = getattr(owner, part)
setattr(owner, name, lambda *_, **__: os.kill(os.getpid(), 9))
from proxyctl.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    """Each test leaves an nginx of either image, and a release."""
    with standing(opened()) as made:
        yield made


@asynccontextmanager
async def opened() -> AsyncIterator[Shop]:
    image = await asyncio.to_thread(image_of, DEBIAN, "debian")
    await asyncio.to_thread(image_of, MAINLINE, "mainline")
    async with open_shop(file=FILE.replace("IMAGE", image)) as made:
        assert (await made.type("deploy", "web")).code == 0
        yield made


def nginx_of(shop: Shop) -> list[Container]:
    with closing(docker.from_env()) as engine:
        label = f"proxyctl.proxy={shop.scene.project}"
        found: list[Container] = engine.containers.list(all=True, filters={"label": label}, ignore_removed=True)
        return found


def errands(shop: Shop) -> list[Container]:
    with closing(docker.from_env()) as engine:
        label = f"proxyctl.errand={shop.scene.project}"
        left: list[Container] = engine.containers.list(all=True, filters={"label": label}, ignore_removed=True)
        return left


def ask_for_the_other(shop: Shop) -> str:
    """Image, which is served by when the next upgrade is done."""
    before, other = (
        ("debian", "mainline") if f"{REPOSITORY}:debian" in shop.file.read_text() else ("mainline", "debian")
    )
    shop.write(f"{REPOSITORY}:{before}", f"{REPOSITORY}:{other}")
    return f"{REPOSITORY}:{other}"


def places(shop: Shop) -> Places:
    return Places(shop.scene.folder / "state")


async def served_by_one(shop: Shop, image: str) -> None:
    (only,) = nginx_of(shop)
    assert (only.name, only.status) == (f"{shop.scene.project}-nginx", "running")
    assert only.attrs["Config"]["Image"] == image
    assert only.attrs["HostConfig"]["RestartPolicy"]["Name"] == "always"
    (master,) = find_masters(places(shop))
    assert find_master(places(shop)) == master
    assert (await shop.get("/")).startswith(b"HTTP/1.1 200")
    async with asyncio.timeout(30):
        while SWITCH.read_text().strip() != "0":
            await asyncio.sleep(0.1)


async def test_another_image_takes_over_and_back_and_no_request_is_lost(shop: Shop) -> None:
    loads = [shop.load(model) for model in (Model.KEEPALIVE, Model.NEW_CONNECTION, Model.POST, Model.POST_NEW)]
    async with loads[0], loads[1], loads[2], loads[3]:
        for _ in range(3):
            other = ask_for_the_other(shop)
            said = await shop.type("proxy", "upgrade")
            assert said.code == 0, said.err
            await served_by_one(shop, other)
        assert (await shop.type("deploy", "web", "--image", TWO)).code == 0
    assert [load.failed() for load in loads] == [[], [], [], []]
    assert all(len(load.outcomes) > 100 for load in loads)


async def test_a_tag_that_was_pulled_anew_takes_over(shop: Shop) -> None:
    (old,) = nginx_of(shop)
    before, image = old.id, old.attrs["Config"]["Image"]
    said = await shop.type("proxy", "upgrade")
    assert said.code == 0, said.err
    assert nginx_of(shop)[0].id != before
    await served_by_one(shop, image)


async def test_answers_that_take_their_time_are_finished_by_the_old_one(shop: Shop) -> None:
    old = nginx_of(shop)[0]
    other = ask_for_the_other(shop)
    upgrading = await shop.start("proxy", "upgrade")
    while len(find_masters(places(shop))) < 2:
        await asyncio.sleep(0.01)
    slow = [asyncio.ensure_future(shop.get("/slow?ms=15000")) for _ in range(12)]
    assert (await ended(upgrading)).code == 0
    assert not any(answer.done() for answer in slow), "the upgrade does not wait for them"
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in await asyncio.gather(*slow))
    await asyncio.to_thread(old.wait)
    assert (await shop.type("proxy", "upgrade")).code == 0, "what ended is cleared by the next one"
    await served_by_one(shop, other)


async def test_an_image_that_cannot_do_it_leaves_the_one_that_runs(shop: Shop) -> None:
    (serving,) = nginx_of(shop)
    image = serving.attrs["Config"]["Image"]
    with file_says(shop, image, "proxyctl-demo:1"):
        async with shop.load(Model.NEW_CONNECTION) as load:
            said = await shop.type("proxy", "upgrade")
    assert said.code == 6
    assert load.failed() == []
    assert errands(shop) == []
    assert nginx_of(shop)[0].id == serving.id
    await served_by_one(shop, image)


@pytest.mark.parametrize("step", STEPS)
async def test_killed_before_any_step_the_next_command_finds_its_way(shop: Shop, step: str) -> None:
    release = "12"[STEPS.index(step) % 2]
    async with shop.load(Model.KEEPALIVE) as kept, shop.load(Model.NEW_CONNECTION) as new:
        other = ask_for_the_other(shop)
        killed = await ended(await killed_at(shop, step))
        assert killed.code == -9, killed.err
        again = await shop.type("deploy", "web", "--image", f"proxyctl-demo:{release}")
        assert again.code == 0, again.err
        assert (await shop.get("/")).endswith(f"{release}\n".encode())
        await shop.type("proxy", "reload")
        assert len(find_masters(places(shop))) == 1
        assert (await shop.type("proxy", "upgrade")).code == 0
    assert (kept.failed(), new.failed()) == ([], [])
    await served_by_one(shop, other)


async def killed_at(shop: Shop, step: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", DIES_AT, step, "proxy", "upgrade", *shop.scene.options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize("tag", ["", "the same"])
async def test_workers_of_another_image_read_passwords_from_their_first_request(tmp_path: Path, tag: str) -> None:
    """Also where the image has the name of the one before it."""
    async with a_bed(IN_A_CONTAINER) as bed, an_image(image_of(DEBIAN, "debian")) as name:
        bed.settings = bed.settings.replace(image=name)
        await bed.serve_both()
        await bed.publish(bed.topology(bed.route(basic_auth=users(tmp_path))))
        await bed.splits.move(WEB, all_to(BLUE))
        other = image_of(DEBIAN, "others", workers=4321)
        if tag:
            call(other, name)
        upgrading, statuses = asyncio.ensure_future(bed.upgrade(image=name if tag else other)), Counter[int]()
        while not upgrading.done():
            statuses[await asked_with_password(bed)] += 1
        await upgrading
        assert set(statuses) == {200}
        assert await asked_with_password(bed) == 200
        found = (bed.places.current / "auth" / "web.htpasswd").stat()
        assert (found.st_mode & 0o777, found.st_gid) == (0o440, 4321)


@asynccontextmanager
async def an_image(of: str) -> AsyncIterator[str]:
    """A name of its own for this image."""
    call(of, name := f"{REPOSITORY}:{uuid.uuid4().hex[:8]}")
    try:
        yield name
    finally:
        with closing(docker.from_env()) as engine:
            engine.images.remove(name, force=True)


def call(image: str, name: str) -> None:
    with closing(docker.from_env()) as engine:
        assert engine.images.get(image).tag(*name.split(":"))


def users(folder: Path) -> BasicAuth:
    folder.joinpath("htpasswd").write_text("ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")  # the word secret
    return BasicAuth(file=str(folder / "htpasswd"))


async def asked_with_password(bed: Bed) -> int:
    return (await bed.get(Authorization=f"Basic {b64encode(b'ann:secret').decode()}")).status
