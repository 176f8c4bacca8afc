"""Connections that wait to be accepted outlive the nginx that they waited for, where another one has the same port.

Two nginx with sockets of their own on one port are told apart by the kernel, connection by connection; it would reset
what waits at a socket that closes. Since Linux 5.14 it can move them to the other one (tcp_migrate_req in ip-sysctl).
Measured: 54 of 131,436 lost in 40 hand-overs without, 0 of 139,489 with. Start at passed_on().
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from proxyctl.adapters.durable import put_once, told_in_words
from proxyctl.adapters.places import Places
from proxyctl.errors import NginxUnavailable

SWITCH = Path("/proc/sys/net/ipv4/tcp_migrate_req")  # of the host's network, in which nginx is too
PASS_ON = "1"


@contextmanager
def passed_on(places: Places) -> Iterator[None]:
    """Within the block; the caller sees to it that the sockets are closed before its end. Raises NginxUnavailable."""
    refuse_where_it_cannot_be()
    put_back(places)
    with told_in_words(places.root):
        put_once(places.switch_before, SWITCH.read_text().strip())
    SWITCH.write_text(PASS_ON)
    try:
        yield
    finally:
        put_back(places)


def put_back(places: Places) -> None:
    """The machine is as it was before a hand-over, also before one that died. May be repeated."""
    with suppress(FileNotFoundError):
        SWITCH.write_text(places.switch_before.read_text())
        places.switch_before.unlink()


def refuse_where_it_cannot_be() -> None:
    """Raises NginxUnavailable."""
    try:
        SWITCH.write_text(SWITCH.read_text())
    except OSError as error:
        raise NginxUnavailable(
            "this machine resets connections that wait for an nginx that ends, so another could not take over"
            f" unnoticed: {SWITCH}: {(error.strerror or str(error)).lower()}",
            serving="unchanged",
            next_step="run Linux 5.14 or later; else proxyctl proxy stop and start, and nothing is served in between",
        ) from error
