"""Another nginx takes over while clients ask: Debian's gives way to the mainline."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxyctl.adapters.nginx.generations.upgrade import HandOver
from proxyctl.adapters.nginx.process.master import find_masters
from proxyctl.errors import NginxUnavailable
from tests.nginx_bed import BLUE, DEBIAN, MAINLINE, WEB, Bed, a_bed, all_to
from tests.nginx_image import found

pytestmark = pytest.mark.nginx


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    """Its nginx is a file that can be replaced, as a package does it."""
    program = tmp_path / "nginx"
    shutil.copy(found(DEBIAN), program)
    async with a_bed(str(program)) as made:
        await made.serve_both()
        await made.publish()
        await made.splits.move(WEB, all_to(BLUE))
        yield made


def install(program: str, bed: Bed) -> None:
    new = Path(f"{bed.settings.binary}.new")
    shutil.copy(program, new)
    new.rename(bed.settings.binary)


async def test_another_program_takes_over_and_no_request_is_lost(bed: Bed) -> None:
    before = await bed.proxy.status()
    install(MAINLINE, bed)
    answered, upgrading = 0, asyncio.ensure_future(bed.upgrade())
    client = await bed.client()
    while not upgrading.done():
        answer = await client.ask("GET", "/")
        answered += answer.status == 200
        if answer.headers.get("connection") == "close":
            client = await bed.client()
        await asyncio.sleep(0.001)
    await upgrading
    after = await bed.proxy.status()
    assert answered > 100
    assert (await bed.get()).headers["server"] == "nginx"
    assert after.pid != before.pid
    assert after.observed == after.generation
    assert (after.generation or 0) > (before.generation or 0), "it knows more directives"
    assert "keepalive_min_timeout" in (bed.places.current / "nginx.conf").read_text()
    assert Path(f"/proc/{after.pid}/exe").readlink() == Path(bed.settings.binary)


async def test_until_then_what_runs_is_asked_what_it_knows(bed: Bed) -> None:
    """A package may have been upgraded long before."""
    install(MAINLINE, bed)
    assert await bed.proxy.check(bed.topology()) == []
    number = await bed.publish(bed.topology(bed.route(body_limit=7)))
    status = await bed.proxy.status()
    assert (status.observed, status.version) == (number, "1.22.1")
    assert "keepalive_min_timeout" not in (bed.places.current / "nginx.conf").read_text()


async def test_an_answer_that_takes_its_time_is_finished_by_the_old_workers(bed: Bed) -> None:
    install(MAINLINE, bed)
    client = await bed.client()
    slow = asyncio.ensure_future(client.ask("GET", "/slow"))
    await asyncio.sleep(0.05)
    await bed.upgrade()
    assert (await slow).text == "blue"


async def test_a_program_that_cannot_do_it_leaves_the_one_that_runs(bed: Bed) -> None:
    before = await bed.proxy.status()
    install("/bin/false", bed)
    with pytest.raises(NginxUnavailable, match="does not take the configuration in force"):
        await bed.upgrade()
    assert (await bed.get()).text == "blue"
    assert (await bed.proxy.status()).pid == before.pid


async def test_an_older_program_takes_over_as_well(tmp_path: Path) -> None:
    program = tmp_path / "nginx"
    shutil.copy(MAINLINE, program)
    async with a_bed(str(program)) as bed:
        await bed.serve_both()
        await bed.publish()
        await bed.splits.move(WEB, all_to(BLUE))
        install(found(DEBIAN), bed)
        await bed.upgrade()
        assert (await bed.get()).text == "blue"
        assert "keepalive_min_timeout" not in (bed.places.current / "nginx.conf").read_text()
        assert (await bed.proxy.status()).version.startswith("1.22")


async def test_an_upgrade_that_was_broken_off_is_finished_by_the_next_command(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = bed.master
    install(MAINLINE, bed)
    with monkeypatch.context() as broken:
        broken.setattr(HandOver, "_leave_only", broken_off)
        with pytest.raises(BrokenOff):
            await bed.upgrade()
    assert len(find_masters(bed.places)) == 2
    await bed.publish(bed.topology(bed.route(hosts=("other.example.com",))))
    assert find_masters(bed.places) == [bed.master]
    assert not old.title


class BrokenOff(Exception):
    pass


async def broken_off(*_: object) -> None:
    raise BrokenOff


async def test_the_same_program_again_takes_over_as_well(bed: Bed) -> None:
    before = await bed.proxy.status()
    await bed.upgrade()
    after = await bed.proxy.status()
    assert (after.generation, after.observed) == (before.generation, before.generation)
    assert after.pid != before.pid
    assert (await bed.get()).text == "blue"
