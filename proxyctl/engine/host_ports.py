"""Who else answers at the ports of a release that has the host's network: everybody on the host shares its address.

An answer there proves nothing as long as it may be somebody else's. Start at taken_port().
"""

from __future__ import annotations

from collections.abc import Sequence

from proxyctl.domain.model import LOOPBACK, Service
from proxyctl.domain.state import Placement, ServiceState
from proxyctl.ports import Runtime

TO_FREE_A_PORT = "end that process, or have the service listen on another port"


async def taken_port(runtime: Runtime, service: Service, containers: Sequence[str]) -> str:
    """Which port of the host the service cannot have, or has not alone, and who has it; empty where there is none.
    `containers` are its own."""
    for port in service.host_ports:
        if holder := await runtime.stranger(port, containers):
            return f"{LOOPBACK}:{port} is taken by {holder}"
    return ""


def containers_of(state: ServiceState) -> tuple[str, ...]:
    """All of the service that were seen to run."""
    return tuple(container for placed in (state.blue, state.green) if placed for container in _containers(placed))


def _containers(placed: Placement) -> tuple[str, ...]:
    return tuple(life.container for life in placed.incarnations)


async def intruder(runtime: Runtime, placed: Placement) -> str:
    """Who answers in the place of this release, or beside it; empty where nobody does."""
    return await taken_port(runtime, placed.release.service, _containers(placed))
