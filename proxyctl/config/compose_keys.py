"""What becomes of the keys of a Compose service that no container of ours has: left out, each with a line, or refused.

Either way in words that say what to write instead; `proxyctl.yml` refuses all of them in the same words. Pure. Start at
sifted().
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from proxyctl.config import document as tree
from proxyctl.config.document import Entry, Location, Node, Scalar, value_of
from proxyctl.domain.container import HOST_NETWORK

_STAYS = "it matters to Compose alone"
_SWARM = "it is for the nodes of a swarm, and there is one host here"

LEFT_OUT = {
    "attach": _STAYS,
    "build": "nothing is built here; build the image before, and write image",
    "container_name": "replicas are named by proxyctl",
    "depends_on": "Compose starts what stays with it; a health check says when a replica can serve",
    "develop": _STAYS,
    "expose": "clients come through nginx; write port beside container",
    "mac_address": "two releases run side by side, and cannot share it",
    "ports": "clients come through nginx; write port beside container",
    "profiles": _STAYS,
    "scale": "write replicas beside container",
}

_IN_DEPLOY = {
    ("endpoint_mode",): _SWARM,
    ("labels",): "they are a swarm service's; labels has those of a container",
    ("replicas",): "write replicas beside container",
    ("rollback_config",): "write standby beside container",
    ("update_config",): "write strategy: {rolling: ...} beside container, in the same words",
    ("resources", "limits", "generic_resources"): _SWARM,
    ("resources", "reservations", "cpus"): _SWARM,
    ("resources", "reservations", "generic_resources"): _SWARM,
    ("resources", "reservations", "pids"): _SWARM,
    ("restart_policy", "delay"): "the engine waits longer after each failure by itself",
    ("restart_policy", "window"): "the engine counts failures by itself",
}

_ON_A_NETWORK = {
    "aliases": "both releases would answer to it before traffic moves; ask nginx for the service",
    "driver_opts": "it is not carried",
    "gw_priority": "the first network listed has the way out",
    "interface_name": "it is not carried",
    "ipv4_address": "two releases run side by side; their addresses are dealt by proxyctl",
    "ipv6_address": "two releases run side by side; their addresses are dealt by proxyctl",
    "link_local_ips": "two releases run side by side, and cannot share it",
    "mac_address": "two releases run side by side, and cannot share it",
    "priority": "networks are joined in the order of the list",
}

REFUSED = {
    "cpu_count": "it is for Windows; write cpus",
    "cpu_percent": "it is for Windows; write cpus",
    "credential_spec": "it is for Windows",
    "extends": "write out what it takes from there, or give the file that `docker compose config` prints",
    "external_links": "containers on one network find each other by name; write networks, with one that both are on",
    "isolation": "it is for Windows",
    "label_file": "write labels",
    "links": "containers on one network find each other by name; write networks",
    "models": "write the variables of the model's address under environment",
    "net": "write networks, or network_mode: host",
    "pre_start": "run it before the deploy, or as the entrypoint",
    "provider": "it is no container; write the variables that it gives under environment",
    "use_api_socket": "the engine's socket makes the container root on the host; it is not given to one",
    "volumes_from": "write the volumes themselves",
}

INSTEAD: Mapping[str, str] = LEFT_OUT | REFUSED
INSTEAD_IN_DEPLOY: Mapping[str, str] = {
    **{path[0]: why for path, why in _IN_DEPLOY.items() if len(path) == 1},
    **dict.fromkeys(("mode", "placement"), _SWARM),
}

ON_ONE_OF_THE_TWO = "a container on the host's network is on no other; keep network_mode or this"

# What has a key of its own beside container: taken where that one is not written.
UPDATE_CONFIG = ("deploy", "update_config")
REPLICAS = (("deploy", "replicas"), ("scale",))  # the first that is there counts
BESIDE: Mapping[Location, str] = {UPDATE_CONFIG: "strategy", **dict.fromkeys(REPLICAS, "replicas")}

ALLOWING_SWARM = "swarm"  # the word of `allow` with which what is for a swarm alone is left out too

OTHER_PROXIES_LABELS = ("traefik.", "caddy.", "caddy_", "com.github.nginx-proxy.")
OTHER_PROXIES_VARIABLES = ("VIRTUAL_", "LETSENCRYPT_", "ACME_HOST")


def is_label_of_another_proxy(name: str) -> bool:
    return name == "caddy" or name.startswith(OTHER_PROXIES_LABELS)


def is_variable_of_another_proxy(name: str) -> bool:
    return name.startswith(OTHER_PROXIES_VARIABLES)


class Sifted(NamedTuple):
    """What is left of a service, and why the rest is not."""

    kept: tree.Mapping
    left_out: Mapping[Location, str]
    refused: Mapping[Location, str]


def sifted(service: tree.Mapping, allowed: frozenset[str]) -> Sifted:
    """`allowed`: the words of the service's `allow`."""
    left_out = dict(_left_out(service))
    refused = dict(_refused(service))
    of_a_swarm = dict(_of_a_swarm(service))
    (left_out if ALLOWING_SWARM in allowed else refused).update(of_a_swarm)
    unsaid = [location for location in _unsaid(service) if location not in refused]
    kept = service
    for location in (*left_out, *refused, *unsaid):
        kept = _without(kept, location)
    return Sifted(_networks_by_name(kept), left_out, refused)


def _left_out(service: tree.Mapping) -> Iterator[tuple[Location, str]]:
    for key, why in LEFT_OUT.items():
        if key in service.entries:
            yield (key,), why
    for path, why in _IN_DEPLOY.items():
        if _stands(service, ("deploy", *path)):
            yield ("deploy", *path), why
    for network, entry in entries_at(service, ("networks",)).items():
        for key, why in _ON_A_NETWORK.items():
            if _stands(entry.node, (key,)):
                yield ("networks", network, key), why


def _refused(service: tree.Mapping) -> Iterator[tuple[Location, str]]:
    for key, why in REFUSED.items():
        if key in service.entries:
            yield (key,), why
    if _network_mode(service) == HOST_NETWORK and _stands(service, ("networks",)):
        yield ("networks",), ON_ONE_OF_THE_TWO


def _of_a_swarm(service: tree.Mapping) -> Iterator[tuple[Location, str]]:
    for key in ("mode", "placement"):
        location = ("deploy", key)
        if _stands(service, location) and _plain(service, *location) != "replicated":
            yield location, f"{_SWARM}; remove it, or write allow: [{ALLOWING_SWARM}] beside container"


def _unsaid(service: tree.Mapping) -> Iterator[Location]:
    """What says nothing that is not so already, and extensions."""
    yield from ((key,) for key in service.entries if key.startswith("x-"))
    if _network_mode(service) == "bridge":
        yield ("network_mode",)
    if _stands(service, ("deploy", "mode")):
        yield "deploy", "mode"


def _network_mode(service: tree.Mapping) -> object:
    return _plain(service, "network_mode") if _stands(service, ("network_mode",)) else None


# --- walking a tree -----------------------------------------------------------------------------------------------


def entries_at(node: Node, location: Location) -> Mapping[str, Entry]:
    """The mapping that stands there; none where there is no mapping."""
    for part in location:
        entry = node.entries.get(str(part)) if isinstance(node, tree.Mapping) else None
        if entry is None:
            return {}
        node = entry.node
    return node.entries if isinstance(node, tree.Mapping) else {}


def _stands(node: Node, location: Location) -> bool:
    return location[-1] in entries_at(node, location[:-1])


def _plain(node: Node, *location: str) -> object:
    return value_of(entries_at(node, location[:-1])[location[-1]].node)


def _without(node: tree.Mapping, location: Location) -> tree.Mapping:
    first, *below = location
    entry = node.entries.get(str(first))
    if entry is None:
        return node
    if not below or not isinstance(entry.node, tree.Mapping):
        return tree.Mapping(node.place, {key: each for key, each in node.entries.items() if key != first})
    inner = Entry(entry.place, _without(entry.node, tuple(below)))
    return tree.Mapping(node.place, node.entries | {str(first): inner})


def _networks_by_name(service: tree.Mapping) -> tree.Mapping:
    """A network without settings is one that is only named."""
    networks = {
        name: Entry(entry.place, Scalar(entry.node.place, None))
        if isinstance(entry.node, tree.Mapping) and not entry.node.entries
        else entry
        for name, entry in entries_at(service, ("networks",)).items()
    }
    if not networks:
        return service
    written = service.entries["networks"]
    renamed = Entry(written.place, tree.Mapping(written.node.place, networks))
    return tree.Mapping(service.place, service.entries | {"networks": renamed})
