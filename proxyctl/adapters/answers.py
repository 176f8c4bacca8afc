"""What comes back of a question by aiohttp: the beginning of a body, or why there is no answer, in few words."""

from __future__ import annotations

import aiohttp

from proxyctl.adapters import unanswered


async def body(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    """Of an answer, its first bytes."""
    received = bytearray()
    while len(received) < limit and (chunk := await answer.content.read(limit - len(received))):
        received += chunk
    return bytes(received)


def why(error: BaseException) -> str:
    """A question that got no HTTP answer, in few words."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return unanswered.why(error.certificate_error)
        case aiohttp.ClientConnectorError():
            return unanswered.why(error.os_error)
        case aiohttp.ServerDisconnectedError():
            return "closed without an answer"
    return unanswered.why(error)
