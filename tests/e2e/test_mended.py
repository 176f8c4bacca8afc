"""Each of these went wrong once. What the names say must hold."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import docker
import pytest

from tests.e2e.invariants import spoke_plainly, unchanged
from tests.e2e.pair import file_says, standing_pair
from tests.e2e.shop import Shop, locked_by_a_stranger
from tests.e2e.test_outages import ZOO, nginx, places, send

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("mended")]  # one project for the file
FAILPOINTS = Path(__file__).parents[1] / "crash" / "failpoints"


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with standing_pair() as made:
        yield made


async def test_a_plan_leases_nothing(shop: Shop) -> None:
    with file_says(shop, "replicas: 2", "replicas: 3"):
        async with unchanged(shop.scene):
            assert (await shop.type("plan", "web")).code == 0


@pytest.mark.parametrize("command", ["deploy web", "rollback web"])
async def test_the_file_of_another_project_is_refused_on_this_state_folder(shop: Shop, command: str) -> None:
    with file_says(shop, f"project: {shop.scene.project}", f"project: other-{os.getpid()}"):
        async with unchanged(shop.scene):
            said = await shop.type(*command.split())
    assert said.code == 6
    assert f"is of project {shop.scene.project}" in said.err
    with closing(docker.from_env()) as client:
        assert client.networks.list(filters={"label": f"proxyctl.project=other-{os.getpid()}"}) == []


async def test_flags_that_somebody_removed_are_written_anew_and_hide_no_other_service(shop: Shop) -> None:
    with file_says(shop, "services:\n", ZOO):
        assert (await shop.type("deploy", "zoo")).code == 0
    for flag in (places(shop).splits / "web/current").iterdir():
        flag.unlink()
    status = await shop.type("status")
    assert status.code == 0
    assert "zoo" in status.out
    assert "proxyctl recover web writes them anew" in status.out
    assert (await shop.type("recover")).code == 0
    assert "drift" not in (await shop.type("status")).out


@pytest.mark.parametrize("mended", ["recover", "rollback web", "rollback web"])
async def test_flags_that_nginx_may_not_read_are_seen_and_made_readable(shop: Shop, mended: str) -> None:
    """The files say who serves, and nobody does: nginx answers 503."""
    flags = places(shop).splits / "web"
    flags.chmod(0o700)
    assert (await shop.get("/")).startswith(b"HTTP/1.1 503 ")
    seen = (await shop.type("status")).out
    assert "drift: web: the flags say one thing and nginx does another: bucket 0000 goes to none" in seen
    assert f"{flags} (mode 0700) may not be entered by its user" in seen
    assert (await shop.type(*mended.split())).code == 0
    assert (await shop.get("/")).startswith(b"HTTP/1.1 200 ")
    assert "drift" not in (await shop.type("status")).out


async def test_a_configuration_that_a_hand_changed_is_seen_and_published_anew(shop: Shop) -> None:
    for mended in ("recover", "proxy start", "proxy reload", "deploy web"):
        spoil(places(shop).current / "nginx.conf")
        status = await shop.type("status")
        assert "nginx.conf is not the file that was published; proxyctl recover publishes it anew" in status.out
        said = await shop.type(*mended.split())
        assert said.code == 0, said.err
        assert ("what somebody changed was published anew" in said.err) is (mended == "recover")
        assert "drift" not in (await shop.type("status")).out, mended
        assert "by hand" not in (places(shop).current / "nginx.conf").read_text()


async def test_an_nginx_that_ended_over_a_configuration_that_a_hand_changed_is_started(shop: Shop) -> None:
    """So it is after a reboot."""
    spoil(places(shop).current / "nginx.conf", "no directive of nginx;")
    send(signal.SIGKILL, nginx(shop))
    assert (await shop.type("proxy", "start")).code == 0
    assert (await shop.get("/")).startswith(b"HTTP/1.1 200")


def spoil(file: Path, more: str = "# by hand") -> None:
    file.chmod(0o644)
    file.write_text(f"{file.read_text()}{more}\n")


async def test_without_its_journal_a_project_is_not_deployed_over_what_serves(shop: Shop) -> None:
    lost = sorted(places(shop).private.glob("proxyctl.db*"))
    for path in lost:
        path.rename(path.with_name(f"lost-{path.name}"))
    said = await shop.type("deploy", "web", "--image", "proxyctl-demo:3")
    for path in lost:
        path.with_name(f"lost-{path.name}").rename(path)
    assert said.code == 6
    assert "proxyctl.db is gone" in said.err


async def test_a_way_back_that_nginx_did_not_answer_is_not_called_safe_and_costs_no_warm_release(shop: Shop) -> None:
    before = await shop.web()
    assert (await shop.type("weight", "web", "50")).code == 0
    processes = nginx(shop)
    send(signal.SIGSTOP, processes)
    said = await shop.type("rollback", "web")
    send(signal.SIGCONT, processes)
    assert said.code == 7, said
    assert (await shop.type("recover")).code == 0
    assert await shop.web() == before


async def test_recover_says_who_drives_what_it_could_not_mend(shop: Shop) -> None:
    with locked_by_a_stranger(places(shop).locks / "web.lock"):
        named, every = await shop.type("recover", "web"), await shop.type("recover")
    assert named.code == 4
    assert (every.code, "left to its driver: web is being driven" in every.err) == (0, True)


async def test_a_driver_that_dies_at_once_is_told_in_words(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{FAILPOINTS}:{os.environ.get('PYTHONPATH', '')}".rstrip(":"))
    monkeypatch.setenv("DIE_AT", "1")
    said = await shop.type("deploy", "web")
    monkeypatch.delenv("DIE_AT")
    spoke_plainly(said)
    assert said.code == 6
    assert "proxyctl recover web" in said.err
    assert (await shop.type("recover")).code == 0
