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
from proxyctl.errors import NginxUnavailable

SWITCH = Path("/proc/sys/net/ipv4/tcp_migrate_req")  # of the host's network, in which nginx is too
PASS_ON = "1"
# What it was before a hand-over changed it. Of this host, as the setting is: of two projects, one that died in its
# hand-over would else be the other's "before". Whoever hands over holds the lock of all who publish here.
BEFORE = Path("/run/proxyctl.tcp_migrate_req")


@contextmanager
def passed_on() -> Iterator[None]:
    """Within the block; the caller sees to it that the sockets are closed before its end. Raises NginxUnavailable."""
    refuse_where_it_cannot_be()
    put_back()
    with told_in_words(BEFORE.parent):
        put_once(BEFORE, SWITCH.read_text().strip())
    SWITCH.write_text(PASS_ON)
    try:
        yield
    finally:
        put_back()


def put_back() -> None:
    """The machine is as it was before a hand-over, also before one that died. May be repeated. Only root hands over, so
    nobody else has anything to put back."""
    with suppress(FileNotFoundError, PermissionError):
        SWITCH.write_text(BEFORE.read_text())
        BEFORE.unlink()


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
