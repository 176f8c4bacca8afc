"""The hidden commands of detached processes: drive a rollout, guard a standby. They inherit a lock that is held."""

from __future__ import annotations

import asyncio
import signal

import click

from proxyctl.cli.options import ProjectOptions, project_options
from proxyctl.domain import commands as do
from proxyctl.domain.deciding import decide
from proxyctl.domain.model import ServiceName
from proxyctl.domain.state import ServiceState
from proxyctl.wiring import Workshop, workshop


@click.command(hidden=True)
@click.argument("service")
@click.option("--lock-fd", type=int, required=True)
@project_options
def drive(service: str, lock_fd: int, project: ProjectOptions) -> None:
    """Drive SERVICE to the end of its rollout, then leave a guard over its standby."""
    _outlive_the_terminal()

    async def work() -> None:
        name, woken = ServiceName(service), asyncio.Event()
        async with workshop(*project) as shop:
            lock = shop.locks.adopt(lock_fd, f"rollout of {service}")
            async with shop.listening(name, woken):
                rest = await shop.supervisor(woken).drive(name, lock)
            _leave_guard(shop, rest)

    asyncio.run(work())


@click.command(hidden=True)
@click.argument("service")
@click.option("--lock-fd", type=int, required=True)
@project_options
def guard(service: str, lock_fd: int, project: ProjectOptions) -> None:
    """Stand guard over the standby of SERVICE until its window passed; gate again what the engine restarted."""
    _outlive_the_terminal()

    async def work() -> None:
        name = ServiceName(service)
        async with workshop(*project) as shop:
            lock = shop.locks.adopt(lock_fd, "guard")
            await shop.supervisor(asyncio.Event()).guard(name)
            lock.release()  # whoever drove the service meanwhile, and was done before this, took this guard for one
            _leave_guard(shop, shop.store.load(name))

    asyncio.run(work())


def _leave_guard(shop: Workshop, state: ServiceState) -> None:
    """Where there is anything to look after, and none stands."""
    if isinstance(decide(state), (do.Stand, do.Vet)):
        shop.processes.guard(state.service)


def _outlive_the_terminal() -> None:
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
