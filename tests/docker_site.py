"""One project on the real engine, for tests of what is made there. Start at Site; the fixture is `site`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import docker

from proxyctl.adapters.docker.runtime import DockerRuntime
from proxyctl.domain.container import Container
from proxyctl.domain.model import Colour, Release, Replica
from tests.releases import a_release

SECRET = "correct horse battery staple"
PYTHON = (str(Path(sys.executable).resolve()), "-S", "-c")  # all that the images of the demo have


class Site:
    """One project on the real engine. `start()` starts a replica of the demo application."""

    def __init__(self, engine: docker.DockerClient, project: str, root: Path, images: dict[str, str]) -> None:
        self.engine, self.project, self.root = engine, project, root
        self._images = images
        self.runtime = DockerRuntime(project, root)

    async def release(self, *, image: str = "1", **container: Any) -> Release:
        found = await self.runtime.resolve(Container(image=self._images[image]), print)
        return a_release(1, found.reference, found.digest, **container)

    async def replica(self) -> Replica:
        slots = (await self.runtime.network()).slots
        return Replica(name=f"{self.project}-web-1-1", address=f"{slots[0]}:8000")

    async def start(self, *, image: str = "1", **container: Any) -> Replica:
        release, replica = await self.release(image=image, **container), await self.replica()
        return await self.runtime.start(release, replica, Colour.GREEN, "web-r1")

    def inspected(self) -> dict[str, Any]:
        found: dict[str, Any] = self.engine.api.inspect_container(f"{self.project}-web-1-1")
        return found

    def containers(self) -> list[Any]:
        label = f"proxyctl.project={self.project}"
        return self.engine.containers.list(all=True, filters={"label": label}, ignore_removed=True)

    def network(self, name: str = "-slots") -> Any:
        return self.engine.networks.get(f"proxyctl-{self.project}{name}")

    def inside(self, code: str) -> Any:
        """What this Python prints as JSON inside the replica."""
        run = self.engine.containers.get(f"{self.project}-web-1-1").exec_run([*PYTHON, f"import json, os\n{code}"])
        assert isinstance(run.output, bytes)
        assert run.exit_code == 0, run.output
        return json.loads(run.output)
