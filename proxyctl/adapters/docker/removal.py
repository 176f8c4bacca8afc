"""Take a container away, whoever else is at it."""

from __future__ import annotations

from contextlib import suppress
from http.client import CONFLICT
from typing import Any

from docker.errors import APIError, NotFound


def remove(container: Any) -> None:
    """Gone when it returns, with its volumes; being removed by somebody else is waited for."""
    with suppress(NotFound):
        try:
            container.remove(force=True, v=True)
        except APIError as error:
            if error.status_code != CONFLICT:
                raise
            container.wait(condition="removed")
