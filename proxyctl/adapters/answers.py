"""What comes back of a question by aiohttp: the beginning of a body, or why there is no answer, in few words."""

from __future__ import annotations

import ssl

import aiohttp


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
            return why(error.certificate_error)
        case aiohttp.ClientConnectorError():
            return why(error.os_error)
        case ssl.SSLCertVerificationError():
            return f"TLS: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS: {error.reason or error}"
        case ConnectionRefusedError():
            return "connection refused"
        case aiohttp.ServerDisconnectedError():
            return "closed without an answer"
        case ConnectionResetError() | BrokenPipeError():
            return "connection reset"
        case OSError() if error.strerror:
            return error.strerror.lower()
    return "not an HTTP answer"
