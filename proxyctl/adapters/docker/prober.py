"""The health checks that only the engine can answer: a command inside, Docker's own HEALTHCHECK, none at all."""

from __future__ import annotations

import asyncio
import time

from proxyctl.adapters.docker.runtime import DockerRuntime
from proxyctl.domain.model import HealthCheck, HealthKind
from proxyctl.errors import Unavailable
from proxyctl.ports import Endpoint, Life, ProbeResult, ReplicaState


class DockerProber:
    """Implements `Prober` for HealthKind.EXEC, DOCKER and NONE."""

    def __init__(self, runtime: DockerRuntime) -> None:
        self._runtime = runtime

    async def probe(self, endpoint: Endpoint, check: HealthCheck) -> ProbeResult:
        started = time.monotonic()
        try:
            async with asyncio.timeout(check.timeout):
                passed, reason = await self._look(endpoint.replica, check)
        except TimeoutError:
            passed, reason = False, f"no answer in {check.timeout:g} s"
        except Unavailable as error:
            passed, reason = False, str(error)
        return ProbeResult(passed=passed, reason=reason, elapsed=time.monotonic() - started)

    async def close(self) -> None: ...

    async def _look(self, name: str, check: HealthCheck) -> tuple[bool, str]:
        if check.kind is HealthKind.EXEC:
            code = await self._runtime.run_in(name, check.command)
            return code == 0, f"exit code {code}"
        (seen,) = await self._runtime.inspect([name])
        if seen.life is not Life.RUNNING or check.kind is HealthKind.NONE:
            return seen.life is Life.RUNNING, seen.life.value
        return _by_healthcheck(seen)


def _by_healthcheck(seen: ReplicaState) -> tuple[bool, str]:
    return seen.health == "healthy", seen.health or "the image has no HEALTHCHECK"
