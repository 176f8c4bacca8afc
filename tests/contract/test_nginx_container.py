"""What the nginx of `proxy.mode: container` does on the real engine: it observes, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container

from proxyctl.adapters.docker import nginx_container, nginx_image
from proxyctl.adapters.docker.calls import EngineCalls
from proxyctl.adapters.docker.nginx_container import LABEL, ContainerProgram
from proxyctl.adapters.docker.nginx_image import ERRAND, WAITING
from proxyctl.adapters.lives import start_time
from proxyctl.adapters.nginx.process.binary import Directive, NginxBinary, ServingProgram
from proxyctl.adapters.nginx.process.master import find_masters
from proxyctl.adapters.places import Places
from proxyctl.domain.model import Mode, ProxySettings
from proxyctl.errors import NginxUnavailable, OutcomeUnknown
from tests.conftest import sweep
from tests.engine_relay import Relay, relay
from tests.nginx_bed import DEBIAN, free_port
from tests.nginx_image import image_of, image_with_http3
from tests.tiny_registry import registry

pytestmark = [
    pytest.mark.docker,
    # A thread that nobody waits for any more leaves its connection to the garbage collector.
    pytest.mark.filterwarnings("ignore:.*socket.socket:pytest.PytestUnraisableExceptionWarning"),
]

SERVING = """
pid {nginx}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {temp}/body;
    server {{ listen {listen}; location / {{ return 200 "here"; }} }}
}}
"""


class Ground:
    """A program of a project, and a configuration that its nginx can read."""

    def __init__(self, engine: docker.DockerClient, project: str, root: Path) -> None:
        self.engine, self.project = engine, project
        self.places = Places(root)
        self.places.create()
        self.image = image_of(DEBIAN, "debian")
        self._calls = list[EngineCalls]()

    def program(self, image: str = "") -> ContainerProgram:
        """It speaks to the engine that DOCKER_HOST names now."""
        settings = ProxySettings(mode=Mode.CONTAINER, image=image or self.image)
        self._calls.append(EngineCalls())
        return ContainerProgram(self.project, self.places, settings, self._calls[-1])

    def config(self, listen: str = "") -> Path:
        path = self.places.public / "nginx.conf"
        listen = listen or f"unix:{self.places.control_socket}"
        path.write_text(SERVING.format(nginx=self.places.nginx, temp=self.places.temp, listen=listen))
        return path

    def container(self) -> Container:
        return self.engine.containers.get(f"{self.project}-nginx")

    def policy(self) -> str:
        name: str = self.container().attrs["HostConfig"]["RestartPolicy"]["Name"]
        return name or "no"

    def errands(self) -> list[Container]:
        label = f"{ERRAND}={self.project}"
        return self.engine.containers.list(all=True, filters={"label": label}, ignore_removed=True)

    async def end(self) -> None:
        for label in (LABEL, ERRAND):
            await asyncio.to_thread(sweep, self.engine, f"{label}={self.project}")
        for calls in self._calls:
            await calls.close()
        gc.collect()


@pytest.fixture
async def ground(docker_engine: docker.DockerClient, unique_project: str) -> AsyncIterator[Ground]:
    root = Path(tempfile.mkdtemp(prefix="proxyctl-ground-", dir="/tmp"))
    root.chmod(0o755)  # nginx's workers come here
    made = Ground(docker_engine, unique_project, root)
    try:
        yield made
    finally:
        await made.end()
        shutil.rmtree(root)


@pytest.fixture
async def faulty(ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Relay]:
    """Programs made from now on talk through this relay."""
    async with relay(tmp_path) as made:
        monkeypatch.setenv("DOCKER_HOST", made.host)
        yield made
        monkeypatch.undo()


async def test_it_comes_back_by_itself_only_after_it_was_seen_to_serve(ground: Ground) -> None:
    program = ground.program()
    assert (await program.start(ground.config(), ground.places.error_log)).code == 0
    assert ground.policy() == "no"
    await program.keep(ground.container().attrs["State"]["Pid"])
    assert ground.policy() == "always"
    await program.let_end()
    assert ground.policy() == "no"


async def test_a_strangers_nginx_is_not_ours_whatever_it_calls_its_files(ground: Ground, tmp_path: Path) -> None:
    """Root in a container of its own may make any path."""
    logs = str(ground.places.nginx_logs)
    stranger = ground.engine.containers.run(
        ground.image,
        ["nginx", "-g", "daemon off;", "-e", f"{logs}/error.log", "-c", str(ground.config())],
        volumes=[f"{tmp_path}:{logs}", f"{ground.places.public}/nginx.conf:{ground.places.public}/nginx.conf:ro"],
        tmpfs={str(ground.places.nginx): "", str(ground.places.temp): ""},
        labels={LABEL: ground.project},
        detach=True,
    )
    while "nginx: worker process" not in str(stranger.top()):  # noqa: ASYNC110 - Docker tells when it runs, not what
        await asyncio.sleep(0.02)
    assert find_masters(ground.places) == []


async def test_the_program_of_a_container_is_not_run_on_the_host(ground: Ground) -> None:
    """Where mode: process is tried while one in a container serves yet."""
    await ground.program().start(ground.config(), ground.places.error_log)
    (master,) = find_masters(ground.places)
    assert master.pid == ground.container().attrs["State"]["Pid"]
    assert not ServingProgram(ground.places, DEBIAN).tried().startswith("/proc/")


@pytest.mark.parametrize("listen", ["127.0.0.1", "[::1]"])
async def test_a_configuration_is_tried_with_the_addresses_of_this_machine(ground: Ground, listen: str) -> None:
    config = ground.config(f"{listen}:{free_port()}")
    assert (await ground.program().test(config)).code == 0


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("include {places.private}/secret;", "No such file or directory"),
        ("error_log {places.generations}/error.log;", "Read-only file system"),
        ("include {places.control_socket};", "No such file or directory"),
    ],
    ids=["secrets", "generations", "the socket in force"],
)
async def test_whoever_tries_a_configuration_sees_no_more_than_whoever_serves_it(
    ground: Ground, line: str, why: str
) -> None:
    config = ground.config()
    for hidden in (ground.places.private / "secret", ground.places.control_socket):
        hidden.write_text("events {}")
    config.write_text(line.format(places=ground.places) + config.read_text())
    ended = await ground.program().test(config)
    assert ended.code == 1
    assert why in ended.said


async def test_what_an_nginx_knows_is_tried_with_it(ground: Ground) -> None:
    nginx = NginxBinary(ground.program(image_with_http3()))
    assert (await nginx.version()).startswith("1.26.")
    assert await nginx.knows() == {Directive.HTTP2, Directive.HTTP3}


async def test_an_engine_that_breaks_off_while_it_starts_nginx_is_asked_what_came_of_it(
    ground: Ground, faulty: Relay
) -> None:
    program = ground.program()
    await program.fetch(print)
    faulty.cut_at = "/start"
    assert (await program.start(ground.config(), ground.places.error_log)).code == 0
    assert ground.container().status == "running"


async def test_a_start_that_was_never_answered_nor_seen_is_not_said_to_have_failed(
    ground: Ground, faulty: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nginx_container, "STARTS_WITHIN", 0.5)
    monkeypatch.setattr(nginx_image, "RUN_LIMIT", 1.0)
    program = ground.program()
    await program.fetch(print)
    faulty.hang_at = "/containers/create"
    with pytest.raises(OutcomeUnknown):
        await program.start(ground.config(), ground.places.error_log)


async def test_an_nginx_that_opens_no_control_socket_has_not_started(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nginx_container, "STARTS_WITHIN", 0.5)
    config = ground.config(listen=f"unix:{ground.places.nginx}/another.sock")
    ended = await ground.program().start(config, ground.places.error_log)
    assert ended.code == 1
    assert "no control socket after 0.5 s" in ended.said


async def test_an_nginx_that_gives_up_has_its_own_last_words(ground: Ground) -> None:
    config = ground.config()
    config.write_text("listen here;")
    ended = await ground.program().start(config, Path("/dev/stderr"))
    assert ended.code == 1
    assert '"listen" directive is not allowed here' in ended.said


async def test_what_a_killed_proxyctl_left_is_cleared_by_the_next_one_and_what_runs_is_not(ground: Ground) -> None:
    """Whatever the clock says meanwhile: it is asked whether the process lives that waits for it."""
    program, other = ground.program(), await asyncio.create_subprocess_exec("sleep", "60")
    labels = {ERRAND: ground.project, WAITING: f"{other.pid}-{start_time(other.pid)}"}
    left = ground.engine.containers.create(ground.image, ["nginx", "-v"], labels=labels)
    await program.run("-v")
    assert [each.id for each in ground.errands()] == [left.id], "it is another proxyctl's, which waits for it"
    other.kill()
    await other.wait()
    assert "nginx version" in (await program.run("-v")).said
    assert ground.errands() == []


async def test_a_program_that_does_not_answer_in_time_is_no_nginx(
    ground: Ground, faulty: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nginx_image, "RUN_LIMIT", 1.0)
    program = ground.program()
    await program.fetch(print)
    faulty.hang_at = "/wait"
    with pytest.raises(NginxUnavailable, match="running nginx out of"):
        await program.run("-v")


async def test_a_missing_image_is_pulled_and_its_progress_told(ground: Ground) -> None:
    async with registry() as shelf:
        told, image = list[str](), shelf.image("tiny:1")
        await ground.program(image).fetch(told.append)
        assert (told[0], told[-1]) == (f"pulling {image}", f"pulling {image}: 1 of 1 layers")
        told.clear()
        await ground.program(image).fetch(told.append)
        assert told == []
        ground.engine.images.remove(image, force=True)
        with pytest.raises(NginxUnavailable, match="no such image"):
            await ground.program(shelf.image("missing:1")).fetch(told.append)
