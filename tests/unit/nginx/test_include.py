"""An nginx that is not ours, with a site of its own: what it includes of us, and that it is left alone."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from functools import partial

import pytest

from proxyctl.adapters.nginx.process.included import IncludedProgram
from proxyctl.adapters.nginx.process.master import Process, workers_of
from proxyctl.adapters.nginx.proxy import NginxProxy
from proxyctl.adapters.nginx.traffic.splits import NginxSplits
from proxyctl.adapters.places import Places
from proxyctl.domain.model import Colour, Sticky
from proxyctl.errors import NginxUnavailable, PublishRefused
from proxyctl.ports import Flags, ProxyState
from tests.nginx_bed import BLUE, GREEN, HOST, PROJECT, SOMEBODY_ELSES, WEB, Bed, Client, a_bed, all_to, share

pytestmark = pytest.mark.nginx


@pytest.fixture
async def bed() -> AsyncIterator[Bed]:
    async with a_bed(SOMEBODY_ELSES) as made:
        await made.serve_both()
        yield made


async def publish(bed: Bed, **changes: object) -> int:
    return await bed.publish(bed.topology(bed.route(**changes)))


async def own_site(bed: Bed) -> str:
    client = Client(*await asyncio.open_connection("127.0.0.1", bed.own_site))
    answer = await client.ask("GET", "/")
    client.close()
    return answer.text


async def gone(master: Process) -> None:
    while master.title:  # noqa: ASYNC110 - another process ends
        await asyncio.sleep(0.01)


async def test_our_hosts_are_served_beside_a_site_of_its_own(bed: Bed) -> None:
    number = await publish(bed, sticky=Sticky.COOKIE)
    await bed.splits.move(WEB, all_to(BLUE))
    assert (await bed.get()).text == "blue"
    await bed.splits.move(WEB, all_to(GREEN, cover=True))
    assert (await bed.get()).text == "green"
    await bed.splits.move(WEB, share(GREEN, 50))
    seen = {(await bed.get()).text for _ in range(40)}
    assert seen == {"blue", "green"}
    assert await own_site(bed) == "a site of its own"
    status = await bed.proxy.status()
    assert (status.state, status.generation, status.observed) == (ProxyState.RUNNING, number, number)


async def test_its_master_reads_each_generation_and_stays_the_same(bed: Bed) -> None:
    before = bed.users_master()
    first = await publish(bed)
    second = await publish(bed, body_limit=7)
    assert second > first
    assert (await bed.proxy.status()).observed == second
    assert bed.users_master() == before == bed.master


async def test_a_client_that_keeps_its_connection_loses_no_request_to_a_publish(bed: Bed) -> None:
    await publish(bed)
    await bed.splits.move(WEB, all_to(BLUE))
    answered, publishing = 0, asyncio.ensure_future(publish(bed, body_limit=7))
    client = await bed.client()
    while not publishing.done():
        answer = await client.ask("GET", "/")
        answered += answer.status == 200
        if answer.headers.get("connection") == "close":
            client = await bed.client()
        await asyncio.sleep(0.001)
    await publishing
    assert answered > 100


async def test_what_it_would_refuse_it_never_gets_to_see(bed: Bed) -> None:
    number = await publish(bed)
    await bed.splits.move(WEB, all_to(BLUE))
    with pytest.raises(PublishRefused) as refusal:
        await publish(bed, blue=("127.0.0.2:99999",))
    assert "invalid port" in refusal.value.detail
    assert (await bed.proxy.status()).observed == number
    assert (await bed.get()).text == "blue"


async def test_without_our_line_it_is_told_what_to_write_and_where(bed: Bed) -> None:
    bed.write_config("include ", "# include ")
    words = f"write `include {bed.places.current}/*.conf;` into the http part of {bed.config}"
    assert words in (await bed.proxy.check(bed.topology(bed.route())))[0]
    with pytest.raises(PublishRefused) as refusal:
        await publish(bed)
    assert words in str(refusal.value)
    assert not bed.places.current.exists()


async def test_before_anything_of_ours_is_there_a_check_says_all_that_a_deploy_would(bed: Bed) -> None:
    """And makes nothing."""
    places = Places(bed.places.root / "later/state")
    proxy = NginxProxy(places, PROJECT, partial(IncludedProgram, places))
    line = f"include {places.current}/*.conf;"
    (missing,) = await proxy.check(bed.topology())
    assert f"write `{line}` into the http part of {bed.config}" in missing
    bed.write_config("    include", f"    {line}\n    include")
    assert await proxy.check(bed.topology()) == []
    assert "invalid port" in (await proxy.check(bed.topology(bed.route(blue=("127.0.0.2:99999",)))))[0]
    assert not places.root.parent.exists()


async def test_an_nginx_that_is_refused_without_us_is_told_its_own_words(bed: Bed) -> None:
    bed.write_config("    include", "    no_directive;\n    include")
    said = await bed.proxy.check(bed.topology())
    assert said[0] == "your nginx refuses its configuration as it is, without us"
    assert 'unknown directive "no_directive"' in said[1]


async def test_what_a_hand_spoiled_of_ours_is_not_held_against_its_nginx(bed: Bed) -> None:
    await publish(bed)
    file = bed.places.current / "nginx.conf"
    file.chmod(0o600)
    file.write_text("no_directive;")
    number = await publish(bed, body_limit=7)
    assert (await bed.proxy.status()).observed == number


async def test_its_own_warnings_are_no_objection_of_ours(bed: Bed) -> None:
    twice = f"server {{ listen 127.0.0.1:{bed.own_site}; server_name twice.example.com; }}"
    bed.write_config("    include", f"    {twice}\n    {twice}\n    include")
    await publish(bed)


async def test_a_host_that_its_own_site_has_is_refused(bed: Bed) -> None:
    taken = f"server {{ listen 127.0.0.1:{bed.port}; server_name {HOST}; }}"
    bed.write_config("    include", f"    {taken}\n    include")
    with pytest.raises(PublishRefused) as refusal:
        await publish(bed)
    assert f'conflicting server name "{HOST}"' in refusal.value.detail


async def test_it_is_started_stopped_and_upgraded_by_its_owner_alone(bed: Bed) -> None:
    number = await publish(bed)
    await bed.splits.move(WEB, all_to(BLUE))
    for leave_it in (bed.proxy.stop(), bed.upgrade()):
        with pytest.raises(NginxUnavailable, match="this nginx is yours"):
            await leave_it
    assert (await bed.get()).text == "blue"
    master = bed.master
    master.send(signal.SIGTERM)
    await gone(master)
    for act in (bed.proxy.start(), publish(bed, body_limit=7)):
        with pytest.raises((NginxUnavailable, PublishRefused), match="your nginx does not run"):
            await act
    await bed.start_users_nginx()
    assert (await bed.proxy.status()).observed == number
    assert (await bed.get()).text == "blue"


async def test_two_projects_share_it(bed: Bed) -> None:
    await publish(bed, sticky=Sticky.COOKIE)
    await bed.splits.move(WEB, all_to(BLUE))
    places = Places(bed.places.root / "other")
    bed.write_config("    include", f"    include {places.current}/*.conf;\n    include")
    proxy = NginxProxy(places, "other", partial(IncludedProgram, places))
    route = bed.route(hosts=("other.example.com",), sticky=Sticky.COOKIE)
    number = await proxy.publish(bed.topology(route).replace(project="other"), 1, bed.claim)
    await NginxSplits(places).move(WEB, all_to(GREEN))
    assert (await proxy.status()).observed == number
    assert (await bed.get(Host="other.example.com")).text == "green"
    assert (await bed.get()).text == "blue"


async def test_a_colour_is_probed_through_it_by_a_path_that_nobody_guesses(bed: Bed) -> None:
    await publish(bed)
    endpoint = bed.proxy.endpoint(bed.route(), Colour.GREEN)
    host, _, port = endpoint.address.partition(":")
    client = Client(*await asyncio.open_connection(host, int(port)))
    assert (await client.ask("GET", f"{endpoint.prefix}/")).text == "green"
    assert (await client.ask("GET", "/generation")).status == 404
    client.close()
    assert bed.places.control_address.stat().st_mode & 0o777 == 0o600
    for file in (bed.places.current / "nginx.conf", bed.places.control_address):
        assert not file.stat().st_mode & 0o077, "the path is a secret"


async def test_workers_that_serve_ours_are_watched_like_our_own(bed: Bed) -> None:
    await publish(bed)
    workers = workers_of(bed.master)
    assert workers
    await publish(bed, body_limit=7)
    assert all(worker.leaving for worker in workers)


async def test_flags_are_seen_wherever_nginx_stands(bed: Bed) -> None:
    await publish(bed)
    flags = Flags(split=share(GREEN, 0.01).split, cover=False)
    await bed.splits.move(WEB, flags)
    assert bed.splits.read(WEB) == flags
