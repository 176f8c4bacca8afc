"""Addresses that nginx is to listen on: can they be had? Binds for a moment and lets go; never listens."""

from __future__ import annotations

import errno
import socket
from typing import NamedTuple

from proxyctl.adapters.sockets import Holder, holder_of

UDP = "/udp"  # ends what is said of UDP, as Docker does


class Listen(NamedTuple):
    family: socket.AddressFamily
    host: str
    port: int
    kind: socket.SocketKind = socket.SOCK_STREAM


def parse(text: str) -> Listen:
    """ "80", "127.0.0.1:8080" or "[::1]:80", as nginx reads them; "443/udp" of UDP."""
    kind = socket.SOCK_DGRAM if text.endswith(UDP) else socket.SOCK_STREAM
    host, _, port = text.removesuffix(UDP).rpartition(":")
    if host.startswith("["):
        return Listen(socket.AF_INET6, host.strip("[]"), int(port), kind)
    return Listen(socket.AF_INET, host or "0.0.0.0", int(port), kind)


class Obstacle(NamedTuple):
    """Why an address cannot be listened on."""

    why: str
    holder: Holder | None = None  # where somebody has it who can be seen

    def __str__(self) -> str:
        return self.why


def obstacles(listens: tuple[str, ...]) -> list[Obstacle]:
    """Empty when all these addresses can be listened on."""
    return [*filter(None, map(obstacle, listens))]


def obstacle(text: str) -> Obstacle | None:
    listen = parse(text)
    try:
        with socket.socket(listen.family, listen.kind) as probe:
            if listen.kind is socket.SOCK_STREAM:  # with UDP it would let two share a port
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as nginx does
            if listen.family is socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as nginx does: 80 is not [::]:80
            probe.bind((listen.host, listen.port))
    except OSError as error:
        return _because(error, text, listen)
    return None


def _because(error: OSError, text: str, listen: Listen) -> Obstacle:
    if error.errno == errno.EADDRINUSE:
        return _taken(text, listen)
    return Obstacle(f"{text}: {MEANINGS.get(error.errno or 0, error.strerror)}")


def _taken(text: str, listen: Listen) -> Obstacle:
    holder = holder_of(listen.port, listen.kind)
    if holder is None:
        return Obstacle(f"{text} is taken by a process that cannot be seen from here")
    return Obstacle(f"{text} is taken by {holder}", holder)


MEANINGS = {
    errno.EACCES: "only root may listen on a port this low",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EAFNOSUPPORT: "this machine has no IPv6",
}
