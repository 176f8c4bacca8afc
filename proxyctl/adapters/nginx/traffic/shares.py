"""Who gets traffic where nginx is told it with its configuration (`proxy.cutover: reload`): a file of the generation.

What `current` names is what nginx reads, so the split that it holds is the split in force, also for an nginx that
somebody restarts. Light: a warm rollback asks which way traffic moves. Start at told().
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from proxyctl.adapters.nginx.flags import folder_name, parse_folder_name
from proxyctl.adapters.nginx.names import SHARES
from proxyctl.adapters.places import Places
from proxyctl.domain.model import ServiceName, Topology
from proxyctl.errors import StateUnusable
from proxyctl.ports import Flags

Shares = Mapping[ServiceName, Flags | None]  # None, or not in it: nothing serves
NOBODY_SERVES: Shares = {}


def written(shares: Shares, topology: Topology) -> str:
    """Of the services that the topology has; a split goes by the name that its folder of flags would have."""
    names = {route.service: folder_name(shares.get(route.service)) for route in topology.routes}
    return json.dumps(names, indent=1) + "\n"


def read(text: str) -> Shares:
    """The inverse of written(). Raises ValueError."""
    try:
        return {ServiceName(service): parse_folder_name(name) for service, name in json.loads(text).items()}
    except AttributeError as error:
        raise ValueError(str(error)) from error


def are_told(places: Places) -> bool:
    """Whether the generation in force tells nginx who gets traffic, sound or not; else nginx asks for flags."""
    return (places.current / SHARES).exists()


def told(places: Places) -> Shares | None:
    """As the generation in force tells nginx; None where nginx asks for flags. Raises StateUnusable."""
    file = places.current / SHARES
    try:
        return read(file.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StateUnusable(
            f"{file} was changed by something other than proxyctl: {error}",
            serving="what nginx has in memory",
            next_step="proxyctl recover",
        ) from error
