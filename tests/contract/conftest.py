"""Fixtures of the contract tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import docker
import pytest

from tests.docker_site import Site


@pytest.fixture
async def site(
    docker_engine: docker.DockerClient, unique_project: str, tmp_path: Path, demo_images: dict[str, str]
) -> AsyncIterator[Site]:
    made = Site(docker_engine, unique_project, tmp_path, demo_images)
    yield made
    await made.runtime.close()
