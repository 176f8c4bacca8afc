"""Ask our nginx what it really does, over the control server's unix socket. Start at Control.

Plain HTTP/1.0 on one fresh connection per question: a kept connection would be answered by a kept worker. Standard
library only, without asyncio's streams, because a warm rollback asks here.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import NamedTuple

from proxyctl.domain.model import Seconds, ServiceName
from proxyctl.errors import NginxUnavailable

PATIENCE: Seconds = 1.0


class Answer(NamedTuple):
    status: int
    body: str


class Speaker(NamedTuple):
    """Which configuration a worker runs, in its own words."""

    generation: int
    pid: int  # as it knows itself


class Control:
    """Raises NginxUnavailable whenever nothing answers within a second."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def speaker(self) -> Speaker:
        number, _, pid = (await self._ask("/generation")).body.partition(" ")
        return Speaker(int(number), int(pid))

    async def pool(self, service: ServiceName, bucket: int) -> str:
        """The pool that a request in this bucket goes to, decided by a worker as it decides for users."""
        b1, b2 = divmod(bucket, 100)
        return (await self._ask(f"/split/{service}?b1={b1:02d}&b2={b2:02d}")).body

    async def _ask(self, target: str) -> Answer:
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await _exchange(str(self._path), f"GET {target} HTTP/1.0\r\n\r\n")
        except OSError as error:
            reason = str(error) or f"no answer in {PATIENCE:g} s"
            raise NginxUnavailable(
                f"nginx does not answer on its control socket {self._path}: {reason}", next_step="proxyctl proxy status"
            ) from error
        if answer.status != 200:
            raise NginxUnavailable(
                f"what answers on {self._path} is not the nginx of this project: {answer.status} to {target}",
                next_step="proxyctl proxy status",
            )
        return answer


async def _exchange(path: str, request: str) -> Answer:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, path)
        await loop.sock_sendall(connection, request.encode("ascii"))
        received = b""
        while chunk := await loop.sock_recv(connection, 4096):
            received += chunk
    return _parse(received.decode("ascii", "replace"))


def _parse(received: str) -> Answer:
    head, _, body = received.partition("\r\n\r\n")
    status = head[9:12]  # "HTTP/1.1 200 OK"
    if not status.isdigit():
        raise ConnectionResetError(f"not an HTTP answer: {received[:40]!r}")
    return Answer(int(status), body.strip())
