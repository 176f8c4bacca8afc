"""What would come of a topology, tried with no effect: what nginx says against it, who holds its addresses, what it
changes. Start at Rehearsal.objections()."""

from __future__ import annotations

import tempfile
from pathlib import Path

from proxyctl.adapters.nginx.control import own_address
from proxyctl.adapters.nginx.generations.contents import Contents, configuration, copies_of, fit_for_a_socket
from proxyctl.adapters.nginx.generations.copies import looked_at
from proxyctl.adapters.nginx.generations.disk import Generation
from proxyctl.adapters.nginx.generations.running import ProgramOf
from proxyctl.adapters.nginx.names import CONFIG, include_line
from proxyctl.adapters.nginx.process.binary import NginxBinary
from proxyctl.adapters.nginx.process.listens import Obstacle, obstacles
from proxyctl.adapters.nginx.process.master import state_of
from proxyctl.adapters.nginx.readback.difference import difference
from proxyctl.adapters.nginx.traffic.cutover import shares_in_force
from proxyctl.adapters.places import Places
from proxyctl.domain.model import ServiceName, Topology

SHARED = "nginx"  # the program that would serve us too


class Rehearsal:
    """`current`, everywhere here: the generation in force."""

    def __init__(self, places: Places, program: ProgramOf) -> None:
        self._places = places
        self._program = program
        self._contents = Contents(places, program)

    async def objections(
        self, topology: Topology, current: Generation | None, changed: ServiceName | None
    ) -> list[str]:
        """nginx reads the configuration as it would be, written for a folder that is gone afterwards. Where one service
        changed, files of others count as they are in force. Raises PublishRefused, NginxUnavailable."""
        found = looked_at(topology)
        if changed is None and found.refused:
            return found.objections
        files = found.files if changed is None else copies_of(topology, current).files
        with tempfile.TemporaryDirectory(prefix="proxyctl-check-") as folder:
            return await self._test_in(Path(folder), topology, files)

    async def _test_in(self, folder: Path, topology: Topology, copies: dict[str, str]) -> list[str]:
        elsewhere = Places(folder / "state")
        elsewhere.create()
        settings = topology.settings
        address = own_address(elsewhere) if settings.mode.ours else self._contents.control_address(settings)
        state = elsewhere if settings.mode.ours else self._places  # nginx tells by its path what is ours
        known = await self._contents.known(settings)
        shares = shares_in_force(self._places, topology)
        files = {**copies, CONFIG: await configuration(topology, 1, state, known, address, shares)}
        for name, text in files.items():
            folder.joinpath(name).parent.mkdir(exist_ok=True)
            folder.joinpath(name).write_text(text, "utf-8")
        fit_for_a_socket(self._places)
        verdict = await NginxBinary(self._program(settings)).test(folder / CONFIG)
        return [line.replace(str(elsewhere.root), str(self._places.root)) for line in verdict.objections]

    def taken(self, topology: Topology, ours: tuple[str, ...]) -> list[str]:
        """Addresses that somebody other than our nginx holds; `ours` are those that it has."""
        if not topology.settings.mode.ours:
            return []  # nginx itself may hold them, for the user's own sites
        return [*map(self._told, obstacles(tuple(claim for claim in topology.claims if claim not in ours)))]

    def _told(self, obstacle: Obstacle) -> str:
        if obstacle.holder is None or obstacle.holder.program != SHARED:
            return str(obstacle)
        if project := state_of(obstacle.holder.pid):
            return f"{obstacle}, which serves the project with its state in {project}; write another port under proxy"
        return f"{obstacle}; {self._to_share}"

    @property
    def _to_share(self) -> str:
        return (
            f"to be served by that nginx, write mode: include under proxy, and `{include_line(self._places)}` into the"
            " http part of its configuration"
        )

    async def difference(self, topology: Topology, current: Generation | None) -> str:
        """Raises PublishRefused, NginxUnavailable."""
        known = await self._contents.known(topology.settings)
        before = current.text if current else ""
        address = self._contents.control_address(topology.settings)
        number, shares = current.number if current else 1, shares_in_force(self._places, topology)
        after = await configuration(topology, number, self._places, known, address, shares)
        name = str(self._places.current / CONFIG)
        return difference(before, after, name, f"{name} (planned)")
