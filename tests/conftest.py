"""Fixtures shared by all tests that need a Docker engine. Without one they fail: a skipped test proves nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import docker
import pytest
from docker.errors import DockerException, NotFound

from proxyctl.demo.images import build_all


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[docker.DockerClient]:
    try:
        client = docker.from_env(timeout=60)
    except DockerException as error:
        pytest.fail(f"these tests need a Docker engine that answers: {error}", pytrace=False)
    yield client
    client.close()


@pytest.fixture(scope="session")
def demo_images(docker_engine: docker.DockerClient) -> dict[str, str]:
    """Image reference per release name: "1", "2", "3", "sick", "exits", "dies"."""
    return build_all(docker_engine)


@pytest.fixture
def unique_project(docker_engine: docker.DockerClient) -> Iterator[str]:
    """A project's name that nobody else uses; what carries its label is removed at the end."""
    project = f"t{uuid.uuid4().hex[:8]}"
    yield project
    sweep(docker_engine, f"proxyctl.project={project}")


def sweep(engine: docker.DockerClient, label: str) -> None:
    """Remove every container, network and volume with this label."""
    for container in engine.containers.list(all=True, filters={"label": label}, ignore_removed=True):
        try:
            container.remove(force=True, v=True)
        except NotFound:
            continue
    for network in engine.networks.list(filters={"label": label}):
        network.remove()
    for volume in engine.volumes.list(filters={"label": label}):
        volume.remove()
