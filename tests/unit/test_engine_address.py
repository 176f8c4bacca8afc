"""Which engine is meant: the order of the `docker` command."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest

from proxyctl.adapters.docker.address import USUAL, Certificates, EngineAddress, meant
from proxyctl.adapters.docker.ssh import command
from proxyctl.errors import DockerUnavailable


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Docker's folder, in which the contexts `far` and `near` are, and `far` is the one in use."""
    for name, host in (("far", "tcp://far.example.com:2376"), ("near", "unix:///run/near.sock")):
        key = sha256(name.encode()).hexdigest()
        meta = tmp_path / "contexts/meta" / key
        meta.mkdir(parents=True)
        meta.joinpath("meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": host}}}))
    tmp_path.joinpath("config.json").write_text(json.dumps({"currentContext": "far"}))
    return tmp_path


def host(config: Path, **environment: str) -> str:
    return meant({"DOCKER_CONFIG": str(config), **environment}).host


def test_docker_host_goes_before_a_context_and_that_before_the_usual_socket(config: Path) -> None:
    assert host(config, DOCKER_HOST="ssh://shop", DOCKER_CONTEXT="near") == "ssh://shop"
    assert host(config, DOCKER_CONTEXT="near") == "unix:///run/near.sock"
    assert host(config) == "tcp://far.example.com:2376"
    assert host(config, DOCKER_CONTEXT="default") == USUAL
    config.joinpath("config.json").unlink()
    assert host(config) == USUAL


def test_a_context_brings_its_own_certificates(config: Path) -> None:
    files = config / "contexts/tls" / sha256(b"far").hexdigest() / "docker"
    files.mkdir(parents=True)
    assert meant({"DOCKER_CONFIG": str(config)}).certificates == Certificates(folder=files, verify=True)


def test_a_context_that_is_gone_is_named(config: Path) -> None:
    with pytest.raises(DockerUnavailable, match="the Docker context lost is not there"):
        host(config, DOCKER_CONTEXT="lost")


def test_tcp_has_its_usual_port_by_whether_it_is_tls(tmp_path: Path) -> None:
    assert meant({"DOCKER_HOST": "tcp://[::1]"}).host == "tcp://[::1]:2375"
    verified = meant({"DOCKER_HOST": "tcp://shop", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)})
    assert verified == EngineAddress(host="tcp://shop:2376", certificates=Certificates(folder=tmp_path, verify=True))


@pytest.mark.parametrize("wrong", ["npipe:////./pipe/docker_engine", "shop:2376", "tcp://", "ssh://", "tcp://shop:x"])
def test_what_is_no_address_of_an_engine_is_refused(wrong: str) -> None:
    with pytest.raises(DockerUnavailable, match="is no address of a Docker engine"):
        meant({"DOCKER_HOST": wrong})


def test_nothing_of_an_address_is_taken_for_an_option_or_a_command() -> None:
    said = command(EngineAddress(host="ssh://-oProxyCommand=evil:22/run/a b;c.sock"))
    assert said[-3:-1] == ["--", "-oProxyCommand=evil"]
    assert said[-1] == "docker --host 'unix:///run/a b;c.sock' system dial-stdio"
    assert "BatchMode=yes" in said
