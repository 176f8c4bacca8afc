"""Addresses that nginx is to listen on: can they be had? Binds for a moment and lets go; never listens."""

from __future__ import annotations

import errno
import socket
from typing import NamedTuple

from proxyctl.adapters.sockets import holder_of


class Listen(NamedTuple):
    family: socket.AddressFamily
    host: str
    port: int


def parse(text: str) -> Listen:
    """ "80", "127.0.0.1:8080" or "[::1]:80", as nginx reads them."""
    host, _, port = text.rpartition(":")
    if host.startswith("["):
        return Listen(socket.AF_INET6, host.strip("[]"), int(port))
    return Listen(socket.AF_INET, host or "0.0.0.0", int(port))


class Obstacle(NamedTuple):
    """Why an address cannot be listened on."""

    why: str
    holder: str = ""  # the program that holds it, where one does that can be seen

    def __str__(self) -> str:
        return self.why


def obstacles(listens: tuple[str, ...]) -> list[Obstacle]:
    """Empty when all these addresses can be listened on."""
    return [*filter(None, map(obstacle, listens))]


def obstacle(text: str) -> Obstacle | None:
    listen = parse(text)
    try:
        with socket.socket(listen.family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as nginx does
            if listen.family is socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as nginx does: 80 is not [::]:80
            probe.bind((listen.host, listen.port))
    except OSError as error:
        return _because(error, text, listen.port)
    return None


def _because(error: OSError, text: str, port: int) -> Obstacle:
    if error.errno == errno.EADDRINUSE:
        return _taken(text, port)
    return Obstacle(f"{text}: {MEANINGS.get(error.errno or 0, error.strerror)}")


def _taken(text: str, port: int) -> Obstacle:
    holder = holder_of(port)
    if holder is None:
        return Obstacle(f"{text} is taken by a process that cannot be seen from here")
    return Obstacle(f"{text} is taken by {holder}", holder.program)


MEANINGS = {
    errno.EACCES: "only root may listen on a port this low",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EAFNOSUPPORT: "this machine has no IPv6",
}
