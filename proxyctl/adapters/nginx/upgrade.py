"""Hand over from the nginx that runs to the program as it is on disk now. Start at hand_over()."""

from __future__ import annotations

from proxyctl.adapters.nginx.closing import clients_let_go
from proxyctl.adapters.nginx.generations import Generation
from proxyctl.adapters.nginx.running import ProgramOf, RunningNginx
from proxyctl.adapters.places import Places
from proxyctl.domain.model import Mode, ProxySettings
from proxyctl.errors import NginxUnavailable


async def hand_over(places: Places, program: ProgramOf, running: RunningNginx, current: Generation | None) -> None:
    """Two masters share the ports for a moment, so no request is lost. Raises NginxUnavailable; then the one that ran
    serves on."""
    master = running.master()
    if current is None or master is None:
        raise NginxUnavailable("nginx does not run", next_step="proxyctl proxy start")
    if current.topology.settings.mode is not Mode.PROCESS:
        raise _not_upgraded(current.topology.settings)
    await _refuse_one_that_cannot_read(places, program, current)
    await running.begin_upgrade(master)
    async with clients_let_go(places, current):
        await running.end_upgrade(master)


async def _refuse_one_that_cannot_read(places: Places, program: ProgramOf, current: Generation) -> None:
    """What the new one only warns of is written anew for it afterwards."""
    verdict = await program(current.topology.settings).test(current.config, places.root)
    if verdict.code != 0:
        raise NginxUnavailable(
            "the new nginx does not take the configuration in force",
            detail=verdict.said,
            serving="the nginx that ran before, unchanged",
            next_step="install another nginx, or mend proxyctl.yml and deploy",
        )


def _not_upgraded(settings: ProxySettings) -> NginxUnavailable:
    ways = {
        Mode.CONTAINER: "set proxy.image, then proxyctl proxy stop and proxyctl deploy; nothing is served in between",
        Mode.INCLUDE: "upgrade your own nginx; what it includes of proxyctl stays",
    }
    return NginxUnavailable(
        f"nginx in mode {settings.mode} is not upgraded in place", serving="unchanged", next_step=ways[settings.mode]
    )
