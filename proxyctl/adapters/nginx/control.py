"""Ask our nginx what it really does, over the control server's own address. Start at Control.

Plain HTTP/1.0 on one fresh connection per question: a kept connection would be answered by a kept worker. Standard
library only, without asyncio's streams, because a warm rollback asks here.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from proxyctl.adapters.nginx.flags import NOBODY
from proxyctl.adapters.places import Places
from proxyctl.domain.model import Seconds, ServiceName
from proxyctl.errors import NginxUnavailable

PATIENCE: Seconds = 1.0
ASK_AGAIN: Seconds = 0.005  # a master forks another worker at once
LEASED = range(20000, 32768)  # below the ports that Linux gives to connections


class Answer(NamedTuple):
    status: int
    body: str


class Speaker(NamedTuple):
    """Which configuration a worker runs, in its own words."""

    generation: int
    pid: int  # as it knows itself
    version: str  # "1.22.1"; empty in a configuration of an older proxyctl


class Address(NamedTuple):
    """Of a control server."""

    listen: str  # "unix:/path", or "127.0.0.1:20123"
    prefix: str  # before every path; empty, or "/" and what nobody guesses

    @property
    def socket(self) -> str:
        """The path of a unix socket; empty where it is none."""
        return self.listen.removeprefix("unix:") if self.listen.startswith("unix:") else ""


def own_address(places: Places) -> Address:
    """In an nginx of ours."""
    return Address(f"unix:{places.control_socket}", "")


def guarded_address() -> Address:
    """In an nginx that others use too: a port that is free now and that no connection takes by chance, and a path that
    nobody guesses."""
    import secrets  # a first start only; every rollback would pay for its hashes

    while True:
        port = secrets.choice(LEASED)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return Address(f"127.0.0.1:{port}", f"/{secrets.token_hex(16)}")


def address_in_force(places: Places) -> Address:
    try:
        listen, _, secret = places.control_address.read_text().partition("/")
    except FileNotFoundError:
        return own_address(places)
    return Address(listen, f"/{secret}")


@contextmanager
def address_of(pid: int, places: Places) -> Iterator[Address]:
    """Of this very master, also of one beside the one in force. By a descriptor: a socket's path must be short."""
    folder = os.open(f"/proc/{pid}/root{places.nginx}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Address(f"unix:/proc/self/fd/{folder}/{places.control_socket.name}", "")
    finally:
        os.close(folder)


class Control:
    """Of the nginx in force, or at this address. Raises NginxUnavailable whenever nothing answers within a second."""

    def __init__(self, places: Places, address: Address | None = None) -> None:
        self._places = places
        self._address = address

    async def speaker(self) -> Speaker:
        number, pid, *version = (await self._ask("/generation")).body.split()
        return Speaker(int(number), int(pid), "".join(version))

    async def pool(self, service: ServiceName, bucket: int) -> str:
        """The pool that a request in this bucket goes to, decided by a worker as it decides for users."""
        b1, b2 = divmod(bucket, 100)
        return (await self._ask(f"/split/{service}?b1={b1:02d}&b2={b2:02d}")).body

    async def matched_pool(self, service: ServiceName) -> str:
        """The pool that a request goes to that a rule of the service matches, as a worker decides it for users."""
        answer = await self._answer(target := f"/preview/{service}")
        if answer.status == 404:  # no service has a rule
            return NOBODY
        return self._known(answer, target).body

    async def split(self, service: ServiceName) -> str:
        """As a worker was told it with its configuration."""
        return (await self._ask(f"/split/{service}")).body

    async def _ask(self, target: str) -> Answer:
        return self._known(await self._answer(target), target)

    async def _answer(self, target: str) -> Answer:
        address = self._address or address_in_force(self._places)
        try:
            async with asyncio.timeout(PATIENCE):
                return await _exchanged(address, f"GET {address.prefix}{target} HTTP/1.0\r\n\r\n")
        except OSError as error:
            reason = str(error) or f"no answer in {PATIENCE:g} s"
            raise NginxUnavailable(
                f"nginx does not answer on its control server {address.listen}: {reason}",
                next_step="proxyctl proxy status",
            ) from error

    def _known(self, answer: Answer, target: str) -> Answer:
        if answer.status != 200:
            listen = address_in_force(self._places).listen
            raise NginxUnavailable(
                f"what answers on {listen} is not the nginx of this project: {answer.status} to {target}",
                next_step="proxyctl proxy status",
            )
        return answer


async def _exchanged(address: Address, request: str) -> Answer:
    """With a worker that lives long enough: one that dies takes the question with it, and the next one is asked."""
    while True:
        try:
            return await _exchange(address, request)
        except (ConnectionResetError, BrokenPipeError):
            await asyncio.sleep(ASK_AGAIN)


async def _exchange(address: Address, request: str) -> Answer:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX if address.socket else socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, address.socket or _host_and_port(address.listen))
        await loop.sock_sendall(connection, request.encode("ascii"))
        received = b""
        while chunk := await loop.sock_recv(connection, 4096):
            received += chunk
    return _parse(received.decode("ascii", "replace"))


def _host_and_port(listen: str) -> tuple[str, int]:
    host, _, port = listen.partition(":")
    return host, int(port)


def _parse(received: str) -> Answer:
    if not received:
        raise ConnectionResetError("closed without an answer")
    head, _, body = received.partition("\r\n\r\n")
    status = head[9:12]  # "HTTP/1.1 200 OK"
    if not status.isdigit():
        raise ConnectionError(f"not an HTTP answer: {received[:40]!r}")
    return Answer(int(status), body.strip())
