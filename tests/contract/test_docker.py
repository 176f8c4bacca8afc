"""DockerRuntime against a real engine: what it makes, and every way in which it can fail."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import os
import socket
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import NotFound

from proxyctl.adapters.docker.inspector import SocketInspector
from proxyctl.adapters.docker.removal import remove
from proxyctl.adapters.docker.runtime import DockerRuntime
from proxyctl.domain.container import Pull
from proxyctl.domain.model import Colour, Container, DockerHealth, Replica
from proxyctl.errors import (
    DockerUnavailable,
    ImageUnavailable,
    NameTaken,
    OutcomeUnknown,
    StateUnusable,
    Unavailable,
)
from proxyctl.ports import Life
from tests.conftest import sweep
from tests.docker_site import SECRET, Site
from tests.engine_relay import LIES, Relay, relay
from tests.tiny_registry import Registry, registry

pytestmark = pytest.mark.docker

# --- what is made -----------------------------------------------------------------------------------------------


async def test_a_container_carries_our_labels_over_the_users(site: Site) -> None:
    await site.start(labels=(("team", "web"), ("proxyctl.release", "forged")))
    assert (
        site.inspected()["Config"]["Labels"].items()
        >= {
            "team": "web",
            "proxyctl.project": site.project,
            "proxyctl.service": "web",
            "proxyctl.release": "web-1",
            "proxyctl.colour": "green",
            "proxyctl.replica": "1",
            "proxyctl.rollout": "web-r1",
        }.items()
    )


async def test_every_key_of_the_definition_reaches_the_engine(site: Site, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "web.env").write_text("# comment\nexport A='one two'\nB=two\n")
    volume = f"{site.project}-data"
    await site.start(
        environment=(("B", "three"), ("PORT", "8000")),
        env_file=(str(tmp_path / "web.env"),),
        volumes=(f"{tmp_path}/data:/data:ro", f"{volume}:/named"),
        healthcheck=DockerHealth(test=("CMD", "true"), interval=1.5, timeout=2.0, start_period=3.0, retries=4),
        user="1000:1000",
        working_dir="/tmp",
        stop_signal="SIGINT",
        init=True,
    )
    config, host = site.inspected()["Config"], site.inspected()["HostConfig"]
    assert {"A=one two", "B=three", "PORT=8000"} <= set(config["Env"])
    assert host["Binds"] == [f"{tmp_path}/data:/data:ro", f"{volume}:/named"]
    assert config["Healthcheck"] == {
        "Test": ["CMD", "true"],
        "Interval": 1_500_000_000,
        "Timeout": 2_000_000_000,
        "StartPeriod": 3_000_000_000,
        "Retries": 4,
    }
    assert (config["User"], config["WorkingDir"], config["StopSignal"]) == ("1000:1000", "/tmp", "SIGINT")
    assert host["Init"] is True
    assert site.engine.volumes.get(volume).attrs["Labels"] == {"proxyctl.project": site.project}


async def test_a_process_sees_of_an_env_file_what_compose_would_give_it(site: Site, tmp_path: Path) -> None:
    key = "-----BEGIN KEY-----\nMIIB\n-----END KEY-----\n"
    (tmp_path / "web.env").write_text(
        f"""PLAIN="x" # the same as x\nCOLOUR=#fff # white\nPASSWORD='p$w"d#1'\nKEY="{key}"\nWORDS="one\\ntwo"\n"""
    )
    await site.start(env_file=(str(tmp_path / "web.env"),))
    seen = site.inside("print(json.dumps(dict(os.environ)))")
    assert (seen["PLAIN"], seen["COLOUR"], seen["PASSWORD"]) == ("x", "#fff", 'p$w"d#1')
    assert (seen["KEY"], seen["WORDS"]) == (key, "one\ntwo")


async def test_command_and_entrypoint_replace_the_images_own(site: Site) -> None:
    own = site.engine.images.get("proxyctl-demo:1").attrs["Config"]["Cmd"]
    await site.start(entrypoint=(own[0],), command=(*own[1:], "argument"))
    assert site.inspected()["Path"] == own[0]
    assert site.inspected()["Args"] == [*own[1:], "argument"]


async def test_the_slot_network_is_internal_and_deals_dynamic_addresses_from_its_upper_half(site: Site) -> None:
    slots = (await site.runtime.network()).slots
    attrs = site.network().attrs
    assert attrs["Internal"] is True
    assert attrs["Labels"] == {"proxyctl.project": site.project, "proxyctl.state": str(site.root)}
    dynamic = site.engine.containers.create("proxyctl-demo:1", network=site.network().name)
    try:
        dynamic.start()
        dynamic.reload()
        address = dynamic.attrs["NetworkSettings"]["Networks"][site.network().name]["IPAddress"]
    finally:
        dynamic.remove(force=True)
    assert address not in slots


async def test_a_replica_joins_its_own_networks_and_keeps_its_way_out(site: Site) -> None:
    extra = site.engine.networks.create(f"{site.project}-extra", labels={"proxyctl.project": site.project})
    replica = await site.start(networks=(extra.name,))
    networks = site.inspected()["NetworkSettings"]["Networks"]
    assert set(networks) == {extra.name, site.network().name}
    assert networks[site.network().name]["IPAddress"] == replica.ip
    assert networks[extra.name]["Gateway"]


async def test_a_replica_without_networks_joins_the_projects_own(site: Site) -> None:
    await site.start()
    networks = set(site.inspected()["NetworkSettings"]["Networks"])
    assert networks == {site.network().name, site.network("").name}


async def test_secrets_are_resolved_at_creation(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", SECRET)
    (tmp_path / "token").write_text(f"{SECRET}\n")
    await site.start(environment=(("PASSWORD", "env:DB_PASSWORD"), ("TOKEN", f"file:{tmp_path}/token")))
    assert {f"PASSWORD={SECRET}", f"TOKEN={SECRET}"} <= set(site.inspected()["Config"]["Env"])


async def test_a_paused_container_is_stopped_too(site: Site) -> None:
    replica = await site.start()
    site.containers()[0].pause()
    assert [state.life for state in await site.runtime.inspect([replica.name])] == [Life.PAUSED]
    await site.runtime.stop(replica.name, 1.0)
    assert site.containers() == []


async def test_output_is_followed_line_by_line_until_the_container_ends(site: Site) -> None:
    replica = await site.start(image="exits")
    lines = [line async for line in site.runtime.follow(replica.name, 10)]
    assert lines == ["release exits listens on 8000", "release exits: cannot go on"]


async def test_whoever_follows_may_leave(site: Site) -> None:
    replica = await site.start()
    async with asyncio.timeout(5):
        async for line in site.runtime.follow(replica.name, 10):
            assert line == "release 1 listens on 8000"
            break


# --- connections ------------------------------------------------------------------------------------------------


async def test_a_connection_is_as_quiet_as_its_youngest_byte_until_an_answer_is_owed(site: Site) -> None:
    replica = await site.start()
    reader, writer = await _connected(replica)
    writer.write(b"GET /slow?ms=50 HTTP/1.1\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n1\n")
    await asyncio.sleep(0.5)
    idle = await site.runtime.traffic(replica.name, 8000)
    writer.write(b"GET /slow?ms=2000 HTTP/1.1\r\n\r\n")
    await asyncio.sleep(1)
    busy = await site.runtime.traffic(replica.name, 8000)
    writer.close()
    assert (idle.connections, busy.connections) == (1, 1)
    assert 0.4 < idle.quiet_for < 2.0
    assert busy.quiet_for == 0.0


async def test_only_connections_to_the_port_count(site: Site) -> None:
    replica = await site.start()
    _, writer = await _connected(replica)
    assert (await site.runtime.traffic(replica.name, 8000)).connections == 1
    assert (await site.runtime.traffic(replica.name, 8001)).connections == 0
    writer.close()


async def _connected(replica: Replica) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(5):
        while True:
            try:
                return await asyncio.open_connection(replica.ip, 8000)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)


# --- images -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def shelf(docker_engine: docker.DockerClient) -> AsyncIterator[Registry]:
    async with registry() as made:
        yield made
        for image in {str(image.id) for image in docker_engine.images.list(made.image("tiny"), all=True)}:
            docker_engine.images.remove(image, force=True)


async def test_a_missing_image_is_pulled_and_its_progress_told(site: Site, shelf: Registry) -> None:
    told: list[str] = []
    image = await site.runtime.resolve(Container(image=shelf.image("tiny:1")), told.append)
    assert image.digest == site.engine.images.get(shelf.image("tiny:1")).id
    assert told[0] == f"pulling {shelf.image('tiny:1')}"
    assert told[-1] == f"pulling {shelf.image('tiny:1')}: 1 of 1 layers"
    told.clear()
    assert await site.runtime.resolve(Container(image=shelf.image("tiny:1")), told.append) == image
    assert told == []


async def test_an_image_is_asked_for_as_its_pull_policy_says(site: Site, shelf: Registry) -> None:
    missing, always, never = (
        Container(image=shelf.image("tiny:1"), pull_policy=policy) for policy in (Pull.MISSING, Pull.ALWAYS, Pull.NEVER)
    )
    with pytest.raises(ImageUnavailable, match="not on this host, and pull_policy is never"):
        await site.runtime.resolve(never, print)
    first = await site.runtime.resolve(missing, print)
    shelf.publish(b"another\n")
    assert await site.runtime.resolve(missing, print) == first
    assert await site.runtime.resolve(never, print) == first
    second = await site.runtime.resolve(always, print)
    assert second != first
    assert await site.runtime.resolve(never, print) == second


async def test_an_image_of_another_platform_is_not_the_one_that_is_meant(site: Site, shelf: Registry) -> None:
    image = shelf.image("tiny:1")
    here = await site.runtime.resolve(Container(image=image), print)
    assert await site.runtime.resolve(Container(image=image, platform="linux/amd64"), print) == here
    with pytest.raises(ImageUnavailable, match="is pulled and is not for linux/arm64"):
        await site.runtime.resolve(Container(image=image, platform="linux/arm64"), print)


@pytest.mark.parametrize(
    ("made_for", "meant", "others"),
    [
        (("arm64", ""), ("linux/arm64", "linux/arm64/v8", "linux/aarch64", "linux"), ("linux/arm", "linux/arm/v7")),
        (("arm64", "v8"), ("linux/arm64", "linux/arm64/v8"), ("linux/amd64",)),
        (("arm", "v7"), ("linux/arm", "linux/arm/v7"), ("linux/arm/v6", "linux/arm64")),
        (("amd64", ""), ("linux/amd64", "linux/x86_64"), ("linux/386", "windows/amd64")),
    ],
)
async def test_a_platform_is_compared_by_its_parts(
    site: Site, shelf: Registry, made_for: tuple[str, str], meant: tuple[str, ...], others: tuple[str, ...]
) -> None:
    architecture, variant = made_for
    shelf.publish(b"for another machine\n", architecture, **({"variant": variant} if variant else {}))
    image = shelf.image("tiny:1")
    here = await site.runtime.resolve(Container(image=image), print)
    for platform in meant:
        never = Container(image=image, platform=platform, pull_policy=Pull.NEVER)
        assert await site.runtime.resolve(never, print) == here, platform
    for platform in others:
        with pytest.raises(ImageUnavailable, match="not on this host"):
            await site.runtime.resolve(Container(image=image, platform=platform, pull_policy=Pull.NEVER), print)


@pytest.mark.parametrize(
    ("name", "words"),
    [("none:1", "the registry has no such image"), ("locked:1", "the registry does not give it out")],
)
async def test_a_refused_pull_says_why(site: Site, shelf: Registry, name: str, words: str) -> None:
    with pytest.raises(ImageUnavailable, match=words) as refused:
        await site.runtime.resolve(Container(image=shelf.image(name)), print)
    assert refused.value.next_step


async def test_a_registry_that_is_down_is_named(site: Site) -> None:
    with pytest.raises(ImageUnavailable, match="its registry cannot be reached") as down:
        await site.runtime.resolve(Container(image="127.0.0.1:1/shop:1"), print)
    assert "connection refused" in down.value.detail


async def test_a_pull_can_be_given_up(site: Site, shelf: Registry) -> None:
    pulling = asyncio.create_task(site.runtime.resolve(Container(image=shelf.image("slow:1")), print))
    await asyncio.sleep(0.5)
    pulling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pulling


# --- logins -----------------------------------------------------------------------------------------------------


USER, PASSWORD = "shop", "correct horse"
LOGIN = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@pytest.fixture
def vault(shelf: Registry) -> Registry:
    """Only for who logs in."""
    shelf.only_for = f"Basic {LOGIN}"
    return shelf


def logged_in(folder: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any]) -> None:
    """As `docker login` leaves it."""
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))


def credential_helper(folder: Path, monkeypatch: pytest.MonkeyPatch, says: str) -> None:
    """A program that Docker would ask for logins: docker-credential-tiny."""
    program = folder / "docker-credential-tiny"
    program.write_text(f"#!/bin/sh\nread registry\n{says}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


async def test_without_a_login_a_private_image_is_not_given_out(
    site: Site, vault: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged_in(tmp_path, monkeypatch, {})
    with pytest.raises(ImageUnavailable, match="this host must log in") as refused:
        await site.runtime.resolve(Container(image=vault.image("tiny:1")), print)
    assert refused.value.next_step.startswith("docker login")


async def test_a_private_image_is_pulled_with_the_login_that_docker_keeps(
    site: Site, vault: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged_in(tmp_path, monkeypatch, {"auths": {f"127.0.0.1:{vault.port}": {"auth": LOGIN}}})
    image = await site.runtime.resolve(Container(image=vault.image("tiny:1")), print)
    assert image.digest == site.engine.images.get(vault.image("tiny:1")).id


@pytest.mark.parametrize("kept", ["credHelpers", "credsStore"])
async def test_a_private_image_is_pulled_with_the_login_of_a_credential_helper(
    site: Site, vault: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    answer = json.dumps({"ServerURL": "tiny", "Username": USER, "Secret": PASSWORD})
    credential_helper(tmp_path, monkeypatch, f"echo '{answer}'")
    helpers = {f"127.0.0.1:{vault.port}": "tiny"} if kept == "credHelpers" else "tiny"
    logged_in(tmp_path, monkeypatch, {kept: helpers})
    assert (await site.runtime.resolve(Container(image=vault.image("tiny:1")), print)).digest


@pytest.mark.filterwarnings("ignore:docker-credential-tiny not installed:UserWarning")
@pytest.mark.parametrize("says", ["", "echo 'no key chain'; exit 1"], ids=["missing", "failing"])
async def test_a_credential_helper_that_fails_is_named(
    site: Site, vault: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    if says:
        credential_helper(tmp_path, monkeypatch, says)
    logged_in(tmp_path, monkeypatch, {"credHelpers": {f"127.0.0.1:{vault.port}": "tiny"}})
    with pytest.raises(ImageUnavailable, match="credential store does not give out the login") as refused:
        await site.runtime.resolve(Container(image=vault.image("tiny:1")), print)
    assert "docker-credential-tiny" in refused.value.detail


# --- what fails leaves nothing ----------------------------------------------------------------------------------


async def test_a_failed_start_leaves_nothing_and_keeps_the_engines_words(site: Site) -> None:
    with pytest.raises(Unavailable, match="/no/such/command"):
        await site.start(entrypoint=("/no/such/command",))
    assert site.containers() == []


async def test_a_missing_network_is_named_and_leaves_nothing(site: Site) -> None:
    with pytest.raises(Unavailable, match=f"{site.project}-none"):
        await site.start(networks=(f"{site.project}-none",))
    assert site.containers() == []


async def test_an_image_removed_since_it_was_resolved_is_named(site: Site) -> None:
    release = (await site.release()).replace(digest=f"sha256:{'0' * 64}")
    with pytest.raises(ImageUnavailable, match="web-1 cannot be started: its image proxyctl-demo:1"):
        await site.runtime.start(release, await site.replica(), Colour.BLUE, "web-r1")
    assert site.containers() == []


@pytest.mark.parametrize("reference", ["env:PROXYCTL_TEST_UNSET", "file:/no/such/file"])
async def test_a_missing_secret_is_named_and_nothing_is_made(site: Site, reference: str) -> None:
    with pytest.raises(Unavailable, match=f"PASSWORD wants.*{reference.partition(':')[2]}"):
        await site.start(environment=(("PASSWORD", reference),))
    assert site.containers() == []


async def test_no_error_tells_a_secret(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", SECRET)
    with pytest.raises(Unavailable) as failed:
        await site.start(environment=(("PASSWORD", "env:DB_PASSWORD"),), entrypoint=("/no/such/command",))
    assert SECRET not in f"{failed.value}{failed.value.detail}{failed.value.__cause__}"


# --- networks of others -----------------------------------------------------------------------------------------


async def test_a_strangers_network_of_that_name_is_left_alone(site: Site) -> None:
    stranger = site.engine.networks.create(f"proxyctl-{site.project}-slots", labels={"stranger": site.project})
    try:
        with pytest.raises(NameTaken, match=stranger.name):
            await site.runtime.network()
        assert site.network().id == stranger.id
    finally:
        sweep(site.engine, f"stranger={site.project}")


async def test_a_second_state_folder_is_refused_naming_the_first(site: Site, tmp_path: Path) -> None:
    await site.runtime.network()
    (tmp_path / "other").mkdir()
    second = DockerRuntime(site.project, tmp_path / "other")
    with pytest.raises(StateUnusable, match=str(site.root)):
        await second.network()
    await second.close()


async def test_a_slot_network_left_half_made_by_a_crash_is_finished(site: Site) -> None:
    labels = {"proxyctl.project": site.project, "proxyctl.state": str(site.root)}
    half = site.engine.networks.create(f"proxyctl-{site.project}-slots", internal=True, labels=labels)
    assert len((await site.runtime.network()).slots) >= 32
    assert site.network().id != half.id
    assert "IPRange" in site.network().attrs["IPAM"]["Config"][0]


async def test_many_at_once_make_one_slot_network(site: Site) -> None:
    runtimes = [DockerRuntime(site.project, site.root) for _ in range(4)]
    networks = await asyncio.gather(*(runtime.network() for runtime in runtimes))
    for runtime in runtimes:
        await runtime.close()
    assert len(set(networks)) == 1
    assert len(site.engine.networks.list(names=[f"proxyctl-{site.project}-slots"])) == 1


# --- the engine gone, hung, cut off -----------------------------------------------------------------------------


@pytest.fixture
async def faulty(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Relay]:
    """The site's runtime talks through this relay."""
    async with relay(tmp_path) as made:
        monkeypatch.setenv("DOCKER_HOST", made.host)
        yield made
        monkeypatch.undo()


@pytest.mark.filterwarnings("ignore:.*socket.socket:pytest.PytestUnraisableExceptionWarning")
async def test_an_engine_that_is_gone_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    runtime, started = DockerRuntime("shop", tmp_path), time.monotonic()
    calls = (runtime.network(), runtime.owned(), runtime.stop("x", 1.0), runtime.resolve(Container(image="x"), print))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DockerUnavailable] * 4
    with pytest.raises(DockerUnavailable, match="no such file"):
        await SocketInspector("shop").inspect(["x"])
    assert time.monotonic() - started < 5.0
    await runtime.close()
    del outcomes
    _collect_sockets()


def _collect_sockets() -> None:
    """docker-py leaves a socket open that it could not connect: let it be warned of here, not in another test."""
    for thread in threading.enumerate():
        if thread.name.startswith("docker"):
            thread.join(5.0)
    gc.collect()


async def test_a_hung_engine_is_given_up_within_the_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, started = tmp_path / "hung.sock", time.monotonic()
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(path))
        hung.listen(16)  # accepted by the kernel, answered by nobody
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        runtime = DockerRuntime("shop", tmp_path)
        with pytest.raises(DockerUnavailable, match="no answer in 1 s"):
            await SocketInspector("shop").inspect(["x"])
        assert time.monotonic() - started < 5.0
        calls = (runtime.inspect(["x"]), runtime.stop("x", 0.0), runtime.resolve(Container(image="x"), print))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        await runtime.close()
    assert [type(outcome) for outcome in outcomes] == [DockerUnavailable] * 3
    assert time.monotonic() - started < 18.0


@pytest.mark.parametrize("act", ["/containers/create", "/start"])
async def test_a_connection_cut_during_an_effect_leaves_doubt(site: Site, faulty: Relay, act: str) -> None:
    release, replica = await site.release(), await site.replica()
    faulty.cut_at = act
    with pytest.raises(OutcomeUnknown):
        await site.runtime.start(release, replica, Colour.GREEN, "web-r1")


@pytest.mark.parametrize(("lie", "raised"), [("an error", Unavailable), ("half of it", OutcomeUnknown)])
async def test_an_effect_that_is_answered_with_nonsense_is_done_or_in_doubt(
    site: Site, faulty: Relay, lie: str, raised: type[Exception]
) -> None:
    release, replica = await site.release(), await site.replica()
    faulty.lie_at, faulty.lie = "/containers/create", LIES[lie]
    with pytest.raises(raised) as told:
        await site.runtime.start(release, replica, Colour.GREEN, "web-r1")
    assert type(told.value) is raised
    faulty.lie_at = ""
    assert (await site.runtime.start(release, replica, Colour.GREEN, "web-r1")).incarnation


async def test_after_a_cut_connection_a_second_start_succeeds(site: Site, faulty: Relay) -> None:
    release, replica = await site.release(), await site.replica()
    faulty.cut_at = "/containers/create"
    with pytest.raises(OutcomeUnknown):
        await site.runtime.start(release, replica, Colour.GREEN, "web-r1")
    faulty.cut_at = ""
    await site.runtime.start(release, replica, Colour.GREEN, "web-r1")
    (seen,) = await site.runtime.owned()
    assert (seen.name, seen.life, seen.address) == (replica.name, Life.RUNNING, replica.ip)


async def test_a_clean_up_that_fails_is_not_hidden(site: Site, faulty: Relay) -> None:
    release, replica = await site.release(entrypoint=("/no/such/command",)), await site.replica()
    faulty.cut_at = "DELETE /v1.41/containers"
    with pytest.raises(OutcomeUnknown, match="may still be there"):
        await site.runtime.start(release, replica, Colour.GREEN, "web-r1")


async def test_an_engine_that_hangs_while_it_looks_is_unavailable(site: Site, faulty: Relay) -> None:
    await site.runtime.owned()
    faulty.hang_at = "/containers/json"
    started = time.monotonic()
    with pytest.raises(DockerUnavailable):
        await site.runtime.owned()
    assert time.monotonic() - started < 15.0


# --- a container that others remove as well -----------------------------------------------------------------------


def test_two_who_remove_the_same_container_both_find_it_gone(
    docker_engine: docker.DockerClient, demo_images: dict[str, str], unique_project: str
) -> None:
    for _ in range(5):
        name = f"{unique_project}-removed-by-many"
        label = {"proxyctl.project": unique_project}
        docker_engine.containers.run(demo_images["1"], name=name, detach=True, labels=label, network_mode="none")
        with ThreadPoolExecutor(4) as pool, closing(docker.from_env()) as client:
            same = [client.containers.get(name) for _ in range(4)]
            assert list(pool.map(remove, same)) == [None] * 4
        with pytest.raises(NotFound):
            docker_engine.containers.get(name)
