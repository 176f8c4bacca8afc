"""Publishing, starting and recovering a real nginx: what is refused leaves no trace, what died comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from hashlib import sha256
from itertools import islice
from pathlib import Path

import pytest

from proxyctl.adapters.nginx.control import own_address
from proxyctl.adapters.nginx.flags import CLOSING
from proxyctl.adapters.nginx.generations.closing import connections_closing
from proxyctl.adapters.nginx.generations.disk import Generations
from proxyctl.adapters.nginx.process.binary import on_host
from proxyctl.adapters.nginx.process.master import find_orphans
from proxyctl.adapters.nginx.proxy import NginxProxy
from proxyctl.adapters.nginx.rendering.render import render, renumber
from proxyctl.adapters.places import Places
from proxyctl.domain.model import Logged
from proxyctl.errors import NginxUnavailable, PublishRefused, StateUnusable
from proxyctl.ports import ProxyState
from tests.nginx_bed import (
    BLUE,
    DEBIAN,
    GREEN,
    MAINLINE,
    PROJECT,
    SOMEBODY_ELSES,
    WEB,
    Bed,
    a_bed,
    all_to,
    free_port,
    share,
)

pytestmark = pytest.mark.nginx


@pytest.fixture(params=[DEBIAN, MAINLINE], ids=["debian", "mainline"])
async def bed(request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    async with a_bed(request.param) as bed:
        await bed.serve_both()
        yield bed


@pytest.fixture
async def serving(bed: Bed) -> Bed:
    await bed.publish()
    await bed.splits.move(WEB, all_to(BLUE))
    return bed


def files(folder: Path) -> dict[str, object]:
    """All names below it, with what symlinks and files hold."""
    return {
        str(path.relative_to(folder)): path.readlink() if path.is_symlink() else path.is_file() and path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


# --- refusals ----------------------------------------------------------------------------------------------------


async def test_a_configuration_that_nginx_refuses_leaves_files_and_traffic_as_they_were(serving: Bed) -> None:
    before = files(serving.places.public)
    with pytest.raises(PublishRefused) as refusal:
        await serving.publish(serving.topology(serving.route(blue=("127.0.0.2:99999",))))
    assert "invalid port" in refusal.value.detail
    assert files(serving.places.public) == before
    assert (await serving.get()).text == "blue"


async def test_a_value_that_could_mean_something_to_nginx_is_never_written(serving: Bed) -> None:
    for path in ("/a;b", "/a b", "/{a", '/"', "/$a", "/a\n", "/ü"):
        with pytest.raises(PublishRefused, match="cannot be written"):
            await serving.publish(serving.topology(serving.route(path=path)))


async def test_a_port_that_another_process_holds_is_reported_and_the_last_good_content_restored(serving: Bed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = f"127.0.0.1:{holder.getsockname()[1]}"
        with pytest.raises(PublishRefused) as refusal:
            await serving.publish(serving.topology(http=(*serving.settings.http, taken)))
    assert f"bind() to {taken} failed" in refusal.value.detail
    status = await serving.proxy.status()
    assert status.generation == status.observed == 3  # 2 was refused, and numbers only rise
    assert serving.proxy.topology() == serving.topology()
    assert (await serving.get()).text == "blue"


async def test_what_clients_say_in_the_log_of_errors_refuses_no_publish(serving: Bed) -> None:
    """nginx quotes the requests that it objects to."""

    async def ask_for_too_much() -> None:
        while True:
            client = await serving.client()
            client.writer.write(b"POST /[emerg] HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n")
            await client.head()
            client.close()

    asking = asyncio.create_task(ask_for_too_much())
    async with asyncio.timeout(5):
        assert await serving.publish(serving.topology(serving.route(hosts=("bed.example.com",)))) == 2
    asking.cancel()
    assert "[emerg]" in serving.places.error_log.read_text()


async def test_what_nginx_was_seen_to_do_counts_more_than_what_its_log_says(serving: Bed) -> None:
    """A site of the user's own that serves files lets clients write whole lines: it logs names of files as they are."""
    pid = serving.master.own_pid

    async def write_lines() -> None:
        while True:
            with serving.places.error_log.open("a") as log:
                log.write(f"2026/01/01 00:00:00 [emerg] {pid}#{pid}: a client says so\n")
            await asyncio.sleep(0.01)

    writing = asyncio.create_task(write_lines())
    async with asyncio.timeout(8):
        assert await serving.publish(serving.topology(serving.route(hosts=("bed.example.com",)))) == 2
    writing.cancel()


async def test_a_first_start_on_a_taken_port_names_its_holder_and_leaves_nothing(bed: Bed) -> None:
    with socket.create_server(("127.0.0.1", bed.port)), pytest.raises(PublishRefused) as refusal:
        await bed.publish()
    assert f"127.0.0.1:{bed.port} is taken by pid {os.getpid()} (" in str(refusal.value)
    assert bed.proxy.topology() is None
    assert not list(bed.places.generations.iterdir())
    assert await bed.publish() == 2


async def test_a_check_names_what_nginx_and_the_machine_say_against_a_topology(bed: Bed) -> None:
    with socket.create_server(("127.0.0.1", bed.port)):
        objections = await bed.proxy.check(bed.topology(bed.route(blue=("127.0.0.2:99999",))))
    assert "invalid port" in objections[0]
    assert "is taken by pid" in objections[1]
    assert not bed.places.root.joinpath("public").exists()


async def test_of_a_port_that_another_nginx_holds_a_check_says_how_to_share_it(bed: Bed) -> None:
    async with a_bed(SOMEBODY_ELSES) as distributions:
        (objection,) = await bed.proxy.check(bed.topology(http=(f"127.0.0.1:{distributions.own_site}",)))
        master = distributions.users_master()
    assert master is not None
    assert f"is taken by pid {master.pid} (nginx)" in objection
    assert f"write mode: include under proxy, and `include {bed.places.current}/*.conf;`" in objection


async def test_of_a_port_that_another_project_holds_a_check_names_that_project(bed: Bed) -> None:
    """What its nginx.conf says is written by us: nothing is to be added there by hand."""
    async with a_bed() as other:
        await other.publish()
        (objection,) = await bed.proxy.check(bed.topology(http=other.settings.http))
        pid = other.master.pid
    serves = f"which serves the project with its state in {other.places.root}; write another port under proxy"
    assert objection.endswith(f"is taken by pid {pid} (nginx), {serves}")


async def test_a_missing_nginx_is_said_so(bed: Bed) -> None:
    topology = bed.topology(binary="nginx-of-nowhere")
    with pytest.raises(NginxUnavailable, match="nginx-of-nowhere"):
        await bed.publish(topology)
    assert not list(bed.places.generations.iterdir())
    assert "nginx-of-nowhere" in (await bed.proxy.check(topology))[0]


async def test_a_state_folder_too_deep_for_a_socket_is_refused(bed: Bed) -> None:
    places = Places(bed.places.root / ("deep" * 25))
    deep = NginxProxy(places, PROJECT, partial(on_host, places))
    with pytest.raises(PublishRefused, match="too long"):
        await deep.publish(bed.topology(), 1, bed.claim)


@pytest.mark.parametrize("asked_to", ["publish", "start"])
async def test_a_folder_that_the_workers_may_not_enter_is_named_before_anything_changes(
    serving: Bed, asked_to: str
) -> None:
    if asked_to == "start":
        await serving.proxy.stop()
    before = files(serving.places.public)
    serving.places.root.chmod(0o700)
    try:
        with pytest.raises(NginxUnavailable) as refusal:
            if asked_to == "publish":
                await serving.publish(serving.topology(keepalive_timeout=9.0))
            await serving.proxy.start()
        named = f"{serving.places.root} (mode 0700) may not be entered by its user nobody"
        assert named in str(refusal.value)
        assert files(serving.places.public) == before
        assert named in (await serving.proxy.check(serving.topology()))[0]
    finally:
        serving.places.root.chmod(0o755)


# --- generations on disk -----------------------------------------------------------------------------------------


async def test_a_generation_that_was_changed_by_hand_is_not_used_and_is_replaced_by_the_next(serving: Bed) -> None:
    config = serving.places.current / "nginx.conf"
    config.chmod(0o644)
    config.write_text(config.read_text() + "# mine\n")
    with pytest.raises(StateUnusable, match="not the file that was published"):
        await serving.proxy.start()
    assert (await serving.proxy.status()).state is ProxyState.RUNNING
    assert await serving.publish() == 2
    assert (await serving.proxy.start()).observed == 2


async def test_a_state_folder_serves_one_project_only(serving: Bed) -> None:
    stranger = NginxProxy(serving.places, "stranger", partial(on_host, serving.places))
    with pytest.raises(StateUnusable, match="belongs to project bed"):
        await stranger.publish(serving.topology().replace(project="stranger"), 1, serving.claim)
    assert (await serving.proxy.status()).observed == 1


async def test_what_a_crash_left_half_built_is_swept(serving: Bed) -> None:
    unfinished = serving.places.generations / ".tmp-2-abc"
    unfinished.mkdir()
    unfinished.joinpath("nginx.conf").touch()
    await serving.publish(serving.topology(access_log=Logged.OFF))
    assert not unfinished.exists()


async def test_only_the_youngest_generations_are_kept(serving: Bed) -> None:
    generations, topology = Generations(serving.places), serving.topology()
    for number in range(2, 40):
        generations.stage(number, 1, topology, {"nginx.conf": f"# {number}\n"}, {})
    generations.prune()
    numbers = sorted(int(path.name.partition("-")[0]) for path in serving.places.generations.iterdir())
    assert numbers == [1, *range(20, 40)]  # the one in force is never removed


# --- deaths ------------------------------------------------------------------------------------------------------


async def test_a_killed_master_is_followed_by_a_new_one_and_its_orphans_let_go(serving: Bed) -> None:
    slow = asyncio.create_task(serving.get("/slow"))
    await asyncio.sleep(0.1)
    old = serving.master
    old.send(signal.SIGKILL)
    await asyncio.sleep(0.1)
    assert (await serving.proxy.status()).state is ProxyState.ORPHANED
    status = await serving.proxy.start()
    assert (status.state, status.observed) == (ProxyState.RUNNING, 1)
    assert status.pid != old.pid
    assert (await serving.get()).text == "blue"
    assert (await slow).text == "blue"  # what an orphan had open, it finished
    assert not [orphan for orphan in find_orphans(serving.places) if not orphan.leaving]


async def test_an_nginx_killed_whole_leaves_a_socket_that_does_not_hinder_the_next(serving: Bed) -> None:
    for process in serving.processes():
        process.send(signal.SIGKILL)
    assert serving.places.control_socket.exists()
    assert (await serving.proxy.start()).observed == 1
    assert (await serving.get()).text == "blue"


async def test_a_stale_pid_file_kills_nobody(serving: Bed) -> None:
    await serving.proxy.stop()
    bystander = await asyncio.create_subprocess_exec("sleep", "60")
    serving.places.pid_file.write_text(f"{bystander.pid}\n")
    await serving.proxy.stop()
    await serving.publish(serving.topology(access_log=Logged.OFF))
    assert bystander.returncode is None
    bystander.kill()
    await bystander.wait()


async def test_a_lost_pid_file_loses_nobody(serving: Bed) -> None:
    serving.places.pid_file.unlink()
    assert await serving.publish(serving.topology(access_log=Logged.OFF)) == 2
    await serving.proxy.stop()
    assert (await serving.proxy.status()).state is ProxyState.STOPPED


@pytest.mark.parametrize("asked_to", ["publish", "start"])
async def test_a_publish_that_died_before_its_reload_is_finished_by_the_next(serving: Bed, asked_to: str) -> None:
    topology = serving.topology(serving.route(path="/later/"))
    text = render(topology, 2, serving.places, frozenset(), own_address(serving.places))
    generations = Generations(serving.places)
    generations.activate(generations.stage(2, 1, topology, {"nginx.conf": text}, {}))
    if asked_to == "publish":
        assert await serving.publish(topology) == 2
    else:
        assert (await serving.proxy.start()).observed == 2
    assert (await serving.get("/later/")).text == "blue"


async def test_the_proxy_outlives_a_stop_of_its_clients_requests(serving: Bed) -> None:
    slow = asyncio.create_task(serving.get("/slow"))
    await asyncio.sleep(0.1)
    await serving.proxy.stop()
    assert (await slow).text == "blue"
    assert not serving.processes()


# --- logs --------------------------------------------------------------------------------------------------------


async def test_logs_begin_anew_under_load_and_no_line_is_lost(serving: Bed) -> None:
    done = asyncio.Event()

    async def ask_until_the_end() -> int:
        requests = 0
        while not done.is_set():
            if requests % 900 == 0:  # nginx closes a connection after 1000
                client = await serving.client()
            assert (await client.ask("GET", "/")).text == "blue"
            requests += 1
        return requests

    clients = [asyncio.create_task(ask_until_the_end()) for _ in range(4)]
    log, rotations = serving.places.access_log, 0
    while rotations < 3:
        await asyncio.sleep(0.05)
        if log.stat().st_size:
            rotations += await serving.proxy.rotate_logs(0) == ["access.log"]
    done.set()
    asked = sum(await asyncio.gather(*clients))
    await serving.proxy.stop()
    lines = [line for path in log.parent.glob("access.log*") for line in path.read_text().splitlines()]
    assert len(lines) == asked
    assert {path.stat().st_mode & 0o007 for path in log.parent.iterdir()} == {0}, "logs name clients"


async def test_a_log_that_is_small_goes_on_and_of_the_large_ones_five_are_kept(serving: Bed) -> None:
    assert await serving.proxy.rotate_logs(1 << 20) == []
    for number in range(8):
        serving.places.error_log.write_text(f"{number}\n")
        assert "error.log" in await serving.proxy.rotate_logs(0)
    kept = {path.name: path.read_text().strip() for path in serving.places.nginx_logs.glob("error.log.*")}
    assert kept == {f"error.log.{n}": str(8 - n) for n in range(1, 6)}


async def test_a_rotation_that_died_after_its_rename_is_finished_by_the_next(serving: Bed) -> None:
    log = serving.places.access_log
    log.rename(log.with_name("access.log.1"))  # and there it died: nginx was not told
    assert await serving.proxy.rotate_logs(1 << 20) == []
    await serving.get("/after")
    await serving.proxy.stop()
    assert "/after" in log.read_text()
    assert log.stat().st_mode & 0o007 == 0, "logs name clients"


# --- reloads under load, and size --------------------------------------------------------------------------------


async def test_no_fresh_connection_is_lost_over_reloads(serving: Bed) -> None:
    done = asyncio.Event()

    async def ask_until_the_end() -> int:
        requests = 0
        while not done.is_set():
            assert (await serving.get(Connection="close")).text == "blue"
            requests += 1
        return requests

    clients = [asyncio.create_task(ask_until_the_end()) for _ in range(4)]
    for access_log in (Logged.OFF, Logged.ON) * 3:
        await serving.publish(serving.topology(access_log=access_log))
    done.set()
    assert sum(await asyncio.gather(*clients)) > 100


@asynccontextmanager
async def polite_clients(bed: Bed) -> AsyncIterator[None]:
    """They open a new connection when they are told that their own closes, and only then. No request is lost."""
    done = asyncio.Event()

    async def ask_until_the_end() -> int:
        requests, client = 0, await bed.client()
        while not done.is_set():
            answer = await client.ask("POST", "/", body=b"x" * 200)
            assert answer.text == "blue"
            requests += 1
            if answer.headers.get("connection") == "close":
                client.close()
                client = await bed.client()
        return requests

    clients = [asyncio.create_task(ask_until_the_end()) for _ in range(16)]
    yield
    done.set()
    assert sum(await asyncio.gather(*clients)) > 1000


async def test_no_kept_connection_loses_a_request_over_reloads(serving: Bed) -> None:
    async with polite_clients(serving):
        for access_log in (Logged.OFF, Logged.ON) * 2:
            await serving.publish(serving.topology(access_log=access_log))
    assert not (serving.places.splits / CLOSING).exists()
    assert serving.splits.read(WEB) == all_to(BLUE)
    assert (await (await serving.client()).ask("GET", "/")).headers["connection"] == "keep-alive"


async def test_a_move_while_clients_are_let_go_stands(serving: Bed) -> None:
    async with connections_closing(serving.places):
        await serving.splits.move(WEB, share(GREEN, 25))
        answers = [await serving.get() for _ in range(20)]
        assert {answer.headers["connection"] for answer in answers} == {"close"} or serving.settings.binary == MAINLINE
        assert {answer.text for answer in answers} <= {"blue", "green"}
    assert serving.splits.read(WEB) == share(GREEN, 25)


async def test_a_publisher_that_died_while_clients_were_let_go_is_mended_by_the_next(serving: Bed) -> None:
    gone = connections_closing(serving.places)
    await gone.__aenter__()
    assert (await serving.get()).text == "blue"
    assert await serving.publish() == 1
    assert not (serving.places.splits / CLOSING).exists()
    assert (await (await serving.client()).ask("GET", "/")).headers["connection"] == "keep-alive"


async def test_a_publisher_that_died_right_after_its_hup_costs_no_request(serving: Bed) -> None:
    """nginx still reads its configuration then, and its old workers accept."""
    text = serving.places.current.joinpath("nginx.conf").read_text()
    generations, dead = Generations(serving.places), list[AbstractAsyncContextManager[None]]()
    async with polite_clients(serving):
        for number in range(2, 6):
            renumbered = renumber(text, 1, number)
            generations.activate(generations.stage(number, 1, serving.topology(), {"nginx.conf": renumbered}, {}))
            dead.append(connections_closing(serving.places))
            await dead[-1].__aenter__()
            serving.master.send(signal.SIGHUP)
            assert await serving.publish() == number


async def test_thousands_of_hosts_fit_into_nginxs_tables(bed: Bed) -> None:
    names = iter(
        f"{sha256(bytes([high, low])).hexdigest()[:33]}.example.com" for high in range(32) for low in range(64)
    )
    routes = tuple(bed.route(service=f"s{number}", hosts=tuple(islice(names, 64))) for number in range(32))
    assert await bed.proxy.check(bed.topology(*routes, http=(f"127.0.0.1:{free_port()}",))) == []


async def test_a_thousand_services_are_taken_without_an_objection(bed: Bed) -> None:
    routes = tuple(
        bed.route(service=f"s{number}", hosts=(f"s{number}.example.com",), blue=(f"127.0.0.2:{10000 + number}",))
        for number in range(1000)
    )
    assert await bed.proxy.check(bed.topology(*routes, http=(f"127.0.0.1:{free_port()}",))) == []
