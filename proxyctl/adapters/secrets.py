"""What `env:NAME` and `file:PATH` stand for. Asked when it is needed, and kept nowhere."""

from __future__ import annotations

import os
from pathlib import Path

from proxyctl.errors import Unavailable

_SERVING = "traffic stays as it is"


def resolved(wanted_by: str, value: str) -> str:
    """The value itself where it is no reference. Raises Unavailable, naming what cannot be had."""
    kind, _, where = value.partition(":")
    if kind == "file":
        return read_text(where, wanted_by).rstrip("\n")
    if kind != "env":
        return value
    if where not in os.environ:
        raise Unavailable(
            f"{wanted_by} wants the variable {where}, which is not set",
            serving=_SERVING,
            next_step=f"export {where}=...",
        )
    return os.environ[where]


def read_text(path: str, wanted_by: str) -> str:
    """Raises Unavailable."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
    except UnicodeDecodeError:
        reason = "not UTF-8"
    raise Unavailable(f"{wanted_by} wants the file {path}: {reason}", serving=_SERVING)
