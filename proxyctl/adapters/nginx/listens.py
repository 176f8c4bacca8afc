"""Addresses that nginx is to listen on: can they be had? Binds for a moment and lets go; never listens."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from typing import NamedTuple

from proxyctl.adapters.nginx.master import holder_of


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


def obstacle(text: str) -> str:
    """Why this address cannot be listened on, naming who holds it; empty when it can."""
    listen = parse(text)
    try:
        with socket.socket(listen.family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as nginx does
            if listen.family is socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as nginx does: 80 is not [::]:80
            probe.bind((listen.host, listen.port))
    except OSError as error:
        return _reason(text, listen.port, error)
    return ""


def _reason(text: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{text} is taken by {holder_of(port)}"
    with suppress(KeyError):
        return f"{text}: {MEANINGS[error.errno or 0]}"
    return f"{text}: {error.strerror}"


MEANINGS = {
    errno.EACCES: "only root may listen on a port this low",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EAFNOSUPPORT: "this machine has no IPv6",
}
