"""An engine that is spoken to by TLS and by ssh, and why one cannot be spoken to."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from proxyctl.adapters.docker.inspector import SocketInspector
from proxyctl.adapters.docker.runtime import DockerRuntime
from proxyctl.domain.container import Hook
from proxyctl.errors import DockerUnavailable
from proxyctl.ports import Life
from tests.certificates import as_docker_names_them
from tests.docker_site import PYTHON, Site
from tests.engine_relay import tls_relay
from tests.ssh_server import SshServer, ssh_server

pytestmark = pytest.mark.docker

READY = Hook(command=(*PYTHON, "print('ready')"))


async def its_life(site: Site) -> None:
    """A replica comes, is looked at and goes, all by the way that the environment says."""
    replica = await site.start(post_start=(READY,))
    assert [seen.name for seen in await site.runtime.owned()] == [replica.name]
    gone = f"{replica.name}-none"
    by_sdk = await site.runtime.inspect([replica.name, gone])
    assert await SocketInspector(site.project).inspect([replica.name, gone]) == by_sdk
    assert [seen.life for seen in by_sdk] == [Life.RUNNING, Life.ABSENT]
    assert await site.runtime.run_in(replica.name, [*PYTHON, "raise SystemExit(3)"]) == 3
    assert await site.runtime.logs(replica.name, 5) != ""
    assert await site.runtime.stop(replica.name, 1.0, (READY,)) == ""


async def refused(root: Path) -> DockerUnavailable:
    runtime = DockerRuntime("shop", root)
    with pytest.raises(DockerUnavailable) as told:
        await runtime.check()
    await runtime.close()
    with pytest.raises(DockerUnavailable):
        await SocketInspector("shop").inspect(["x"])
    return told.value


# --- TLS --------------------------------------------------------------------------------------------------------


async def test_by_tls_with_certificates_for_both_sides(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = as_docker_names_them(tmp_path / "tls", "localhost")
    async with tls_relay(files / "cert.pem", files / "key.pem") as engine:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/hostname")  # is meant for the web, not for an engine
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
        monkeypatch.setenv("DOCKER_CERT_PATH", str(files))
        await its_life(site)
        await site.runtime.close()


async def test_whom_tls_does_not_believe_is_said_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, others = (
        as_docker_names_them(tmp_path / "mine", "localhost"),
        as_docker_names_them(tmp_path / "others", "localhost"),
    )
    old = as_docker_names_them(tmp_path / "old", "localhost", ends=timedelta(hours=-1))
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    for served, shown, words in ((others, mine, "self-signed certificate"), (old, old, "certificate has expired")):
        async with tls_relay(served / "cert.pem", served / "key.pem") as engine:
            monkeypatch.setenv("DOCKER_HOST", engine.host)
            monkeypatch.setenv("DOCKER_CERT_PATH", str(shown))
            error = await refused(tmp_path)
            assert "no TLS that both sides believe" in str(error)
            assert words in error.detail
            assert "DOCKER_CERT_PATH" in error.next_step


async def test_a_file_of_tls_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = as_docker_names_them(tmp_path / "tls", "localhost")
    files.joinpath("key.pem").unlink()
    monkeypatch.setenv("DOCKER_HOST", "tcp://localhost:1")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(files))
    error = await refused(tmp_path)
    assert (
        str(error) == f"the engine is spoken to by TLS, and {files}/key.pem cannot be read: No such file or directory"
    )


# --- ssh --------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshServer]:
    with ssh_server(tmp_path / "ssh") as made:
        monkeypatch.setenv("DOCKER_HOST", made.host)
        monkeypatch.setenv("PATH", f"{made.programs}:{os.environ['PATH']}")
        yield made


async def test_by_ssh_to_this_very_host(site: Site, server: SshServer) -> None:
    await its_life(site)
    await site.runtime.close()


async def test_why_ssh_fails_is_said_in_its_own_words_and_nobody_is_asked(
    tmp_path: Path, server: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is not known from before, then our key is not believed, then no engine is there."""
    known, key = server.known.read_bytes(), server.key.read_bytes()
    begun = time.monotonic()
    server.known.write_bytes(b"")
    assert "Host key verification failed" in (await refused(tmp_path)).detail
    server.known.write_bytes(known)
    server.key.unlink()
    assert "Permission denied (publickey" in (await refused(tmp_path)).detail
    server.key.write_bytes(key)
    server.key.chmod(0o600)
    monkeypatch.setenv("DOCKER_HOST", f"{server.host}/nowhere/docker.sock")
    assert "nowhere/docker.sock" in (await refused(tmp_path)).detail
    assert time.monotonic() - begun < 20.0
