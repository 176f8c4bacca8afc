"""Whether nginx here reaches the containers of an engine, and them alone. Start at is_here(), then at refuse_way().

An engine is on this host when its bridges are interfaces here: every host deals the same addresses, so they tell
nothing. One on another host is reached by a route that somebody made for its slot network. That a stranger at the same
address, here or on a third host, never passes for a replica is seen in three looks: the kernel's own route to the
address is neither a network of this host nor the default one; nothing answers there before the replica is started; and
something does afterwards (ADR 15).
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any

import docker

from proxyctl.adapters.docker.address import SERVING, meant
from proxyctl.domain.model import LOOPBACK, Seconds
from proxyctl.errors import AddressTaken, DockerUnavailable

_BRIDGE_NAME = "com.docker.network.bridge.name"

IP_LIMIT: Seconds = 5.0
SILENT_FOR: Seconds = 1.5  # the kernel tries once more after a second
ANSWERS_WITHIN: Seconds = 3.0
TRY_FOR: Seconds = 1.0
MEND = "docs/configuration.md, Engines on another host"


def is_here(client: docker.DockerClient) -> bool:
    """While the engine has its default network alone, which is called the same everywhere, only one by its unix socket
    is believed to be."""
    bridges = [network.attrs for network in client.networks.list(filters={"driver": "bridge"})]
    own = [attrs for attrs in bridges if _BRIDGE_NAME not in (attrs["Options"] or {})]
    if own:
        return any(map(has_its_bridge_here, own))
    return meant().way == "unix" and (not bridges or any(map(has_its_bridge_here, bridges)))


def has_its_bridge_here(network: dict[str, Any]) -> bool:
    """This network of the engine; its id, which no other one has, names the interface."""
    interface = (network["Options"] or {}).get(_BRIDGE_NAME) or f"br-{network['Id'][:12]}"
    try:
        socket.if_nametoindex(interface)
    except OSError:
        return False
    return True


def is_network_here(address: str) -> bool:
    """Whether this address is of a network that this host itself is in. Raises DockerUnavailable."""
    return _is_of_this_host(_route(address))


def refuse_way(subnet: str, address: str) -> None:
    """Raises DockerUnavailable where the way from here to this address of the subnet leads to another network."""
    if address == LOOPBACK:
        raise _unreached("network_mode: host gives a replica an address of its own host", "leave network_mode out")
    route = _route(address)
    if not route or route["dst"] == "default":
        which = "only the default route" if route else "no route"
        raise _unreached(f"{which} leads to {subnet}, its slot network", f"ip route add {subnet} via ITS-HOST; {MEND}")
    if _is_of_this_host(route):
        raise _unreached(
            f"{route['dst']} is a network of this host too ({route['dev']}), and what has {address} here"
            " would be taken for a replica",
            f"give its slot network another subnet; {MEND}",
        )


def refuse_a_stranger(address: str, name: str) -> None:
    """Raises AddressTaken where something answers at a replica's address before the replica is there."""
    if how := _heard(address, SILENT_FOR):
        raise AddressTaken(
            f"{name} cannot have {address}: from here, something {how} there before it is started, so the route leads"
            " to another host, or a firewall answers",
            serving=SERVING,
            next_step=f"ip route get {address.partition(':')[0]}; {MEND}",
        )


def await_answer(address: str, name: str, lives: Callable[[], bool]) -> None:
    """Returns once the replica's host is heard, whether or not the replica listens yet; one that ended is left to the
    gate. Raises DockerUnavailable."""
    deadline = time.monotonic() + ANSWERS_WITHIN
    while not _heard(address, TRY_FOR):
        if not lives():
            return
        if time.monotonic() > deadline:
            raise _unreached(
                f"{name} runs, and nothing answers at {address}: its host must let packets from here pass",
                f"iptables -I DOCKER-USER there; {MEND}",
            )
        time.sleep(0.1)


def _heard(address: str, limit: Seconds) -> str:
    """What a connection to it met; empty for silence."""
    ip, _, port = address.partition(":")
    try:
        socket.create_connection((ip, int(port)), limit).close()
    except ConnectionRefusedError:
        return "refuses connections"
    except OSError:
        return ""
    return "accepts connections"


def _is_of_this_host(route: dict[str, Any]) -> bool:
    """The kernel makes such routes by itself, of the addresses of interfaces."""
    return route.get("type") == "local" or route.get("protocol") == "kernel"


def _route(address: str) -> dict[str, Any]:
    """The entry of the kernel's tables that it goes by; empty where there is none. Raises DockerUnavailable."""
    command = ["ip", "-json", "-4", "route", "get", address, "fibmatch"]
    try:
        seen = subprocess.run(command, capture_output=True, text=True, timeout=IP_LIMIT, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise _unseen(str(error)) from error
    match seen.returncode:
        case 0:
            found: dict[str, Any] = json.loads(seen.stdout)[0]
            return found
        case 2:  # the kernel's own answer
            return {}
        case _:
            raise _unseen(seen.stderr.strip())


def _unseen(why: str) -> DockerUnavailable:
    return _unreached(f"the route to it cannot be looked at: {why}", "install iproute2")


def _unreached(why: str, next_step: str) -> DockerUnavailable:
    return DockerUnavailable(
        f"the Docker engine at {meant().host} is not on this host, and nginx here cannot reach its containers: {why}",
        serving=SERVING,
        next_step=next_step,
    )
