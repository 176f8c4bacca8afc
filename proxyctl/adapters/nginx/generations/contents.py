"""What a generation is made of: the configuration, rendered for the nginx at hand, and copies of the operator's files.
Start at Contents.files()."""

from __future__ import annotations

import os

from proxyctl.adapters.durable import put_once, told_in_words
from proxyctl.adapters.nginx.control import Address, address_in_force, guarded_address, own_address
from proxyctl.adapters.nginx.generations.copies import Copies, copied
from proxyctl.adapters.nginx.generations.disk import Generation
from proxyctl.adapters.nginx.generations.running import ProgramOf
from proxyctl.adapters.nginx.generations.sources import FileRefused
from proxyctl.adapters.nginx.names import CONFIG, SHARES
from proxyctl.adapters.nginx.process.binary import Directive, NginxBinary
from proxyctl.adapters.nginx.refused import refused
from proxyctl.adapters.nginx.traffic.shares import Shares, written
from proxyctl.adapters.places import Places
from proxyctl.domain.model import Cutover, ProxySettings, Topology

SOCKET_PATH_LIMIT = 107  # bytes of sun_path in unix(7), without its last NUL
WITHOUT_HTTP3 = "take out http3, or name an nginx with http_v3_module: binary or image under proxy"
MEND = "mend the template, then proxyctl check"


class Contents:
    """Of the generations of one state folder."""

    def __init__(self, places: Places, program: ProgramOf) -> None:
        self._places = places
        self._program = program

    async def known(self, settings: ProxySettings) -> frozenset[Directive]:
        return await NginxBinary(self._program(settings)).knows()

    async def files(
        self, topology: Topology, shares: Shares, number: int, known: frozenset[Directive], copies: Copies
    ) -> dict[str, str]:
        """Raises PublishRefused."""
        address = self.control_address(topology.settings)
        text = await configuration(topology, number, self._places, known, address, shares)
        told = {SHARES: written(shares, topology)} if topology.settings.cutover is Cutover.RELOAD else {}
        return {CONFIG: text, **told, **copies.files}

    def control_address(self, settings: ProxySettings) -> Address:
        """Chosen once: an nginx that is not ours may start at any time, and has to find its port free."""
        in_force = address_in_force(self._places)
        if settings.mode.ours:
            return own_address(self._places)
        return guarded_address() if in_force.socket else in_force

    def keep_control_address(self, settings: ProxySettings) -> None:
        if settings.mode.ours:
            return self._places.control_address.unlink(missing_ok=True)
        if not self._places.control_address.exists():
            address = guarded_address()
            with told_in_words(self._places.root):
                put_once(self._places.control_address, f"{address.listen}{address.prefix}")
        return None


def copies_of(topology: Topology, current: Generation | None) -> Copies:
    """Raises PublishRefused."""
    try:
        return copied(topology, current)
    except FileRefused as error:
        raise refused(str(error)) from error


async def configuration(
    topology: Topology,
    number: int,
    places: Places,
    known: frozenset[Directive],
    control: Address,
    shares: Shares,
) -> str:
    """Raises PublishRefused for what cannot be written, or must not be."""
    if topology.settings.http3 and Directive.HTTP3 not in known:
        raise refused("proxy.http3: this nginx was built without HTTP/3", next_step=WITHOUT_HTTP3)
    # Jinja costs 80 ms, and `status` renders nothing.
    from proxyctl.adapters.nginx import configuration as way

    try:
        return await way.configuration(_for_this_user(topology), number, places, known, control, shares)
    except way.ConfigurationRefused as error:
        raise refused("the templates write what nginx must not get", "\n".join(error.refusals), MEND) from error
    except way.TemplateRefused as error:
        raise refused(f"proxy.templates: {error}", next_step=MEND) from error
    except ValueError as error:
        raise refused(str(error)) from error


def fit_for_a_socket(places: Places) -> None:
    """Raises PublishRefused when no socket can have a path this long."""
    if len(os.fsencode(places.control_socket)) > SOCKET_PATH_LIMIT:
        raise refused(f"the path of the state folder {places.root} is too long for a unix socket in it")


def _for_this_user(topology: Topology) -> Topology:
    """nginx warns of a worker user when its master is not root, and a warning is an objection."""
    if os.geteuid() == 0:
        return topology
    return topology.replace(settings=topology.settings.replace(user=None))
