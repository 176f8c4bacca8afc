"""Why a question got no answer, in few words and the same whoever asked. Light: the hot path asks too."""

from __future__ import annotations

import ssl


def why(error: BaseException) -> str:
    match error:
        case ConnectionRefusedError():
            return "connection refused"
        case ConnectionResetError() | BrokenPipeError():
            return "connection reset"
        case ssl.SSLCertVerificationError():
            return f"TLS: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS: {error.reason or error}"
        case OSError() if error.strerror:
            return error.strerror.lower()
    return "not an HTTP answer"
