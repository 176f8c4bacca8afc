"""Pull an image and say how far it is; why it cannot be had, in words. Start at pull()."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import docker
import requests
import urllib3
from docker.credentials.errors import StoreError
from docker.errors import APIError, DockerException

from proxyctl.adapters.docker.address import SERVING
from proxyctl.adapters.docker.calls import SILENCE, EngineCalls, no_space
from proxyctl.domain.model import Seconds
from proxyctl.errors import ImageUnavailable, Unavailable

Event = dict[str, Any]  # one line of the engine's answer

PULL_LIMIT: Seconds = 1800.0
DONE = ("Already exists", "Pull complete")
MEGABYTE = 1_000_000
GRAIN = 10 * MEGABYTE  # a line for so many more bytes

REASONS = (
    (
        ("denied", "unauthorized", "authentication required", "no basic auth"),
        "the registry does not give it out: the name is wrong, or this host must log in",
        "docker login, or another --image",
    ),
    (
        ("manifest unknown", "not found", "does not exist"),
        "the registry has no such image",
        "docker push it, or another --image",
    ),
    (
        ("dial", "lookup", "no such host", "timeout", "awaiting headers", "eof"),
        "it is not on this host and its registry cannot be reached",
        "docker pull it by hand, or try again",
    ),
)


async def pull(engine: EngineCalls, image: str, platform: str | None, progress: Callable[[str], None]) -> None:
    """`progress` is told on the way. Raises ImageUnavailable, NoSpace."""
    what, told = f"pulling {image}", PullProgress(image)
    progress(what)
    try:
        async with asyncio.timeout(PULL_LIMIT):
            async for event in engine.stream(lambda client: layers(client, image, platform), what, SILENCE):
                if line := told.after(event):
                    progress(line)
    except TimeoutError as late:
        raise ImageUnavailable(f"{image} was not there after {PULL_LIMIT / 60:g} min", serving=SERVING) from late


def layers(client: docker.DockerClient, image: str, platform: str | None) -> Iterator[Event]:
    """The engine's progress events. Raises ImageUnavailable, NoSpace."""
    try:
        for event in client.api.pull(image, stream=True, decode=True, platform=platform):
            if "error" in event:
                raise not_pulled(image, event["error"])
            yield event
    except APIError as error:
        raise not_pulled(image, str(error.explanation or error)) from error
    except (StoreError, DockerException) as error:
        raise ImageUnavailable(
            f"{image}: Docker's credential store does not give out the login of its registry",
            detail=str(error),
            serving=SERVING,
            next_step="docker login, or mend credHelpers and credsStore in Docker's config.json",
        ) from error
    except (requests.Timeout, urllib3.exceptions.ReadTimeoutError) as error:
        raise not_pulled(image, "timeout: the registry sent nothing any more") from error


def not_pulled(image: str, words: str) -> Unavailable:
    """Only the engine's text tells why; an unknown reason is left to its own words."""
    low = words.lower()
    if "no space left" in low:
        return no_space(f"pulling {image}", words)
    for signs, why, next_step in REASONS:
        if any(sign in low for sign in signs):
            return ImageUnavailable(f"{image}: {why}", detail=words, serving=SERVING, next_step=next_step)
    return ImageUnavailable(f"{image} cannot be pulled: {words}", serving=SERVING, next_step=f"docker pull {image}")


class PullProgress:
    """Folds events into few lines: one for each layer that is there, one for every ten megabytes."""

    def __init__(self, image: str) -> None:
        self._image = image
        self._layers: set[str] = set()
        self._done: set[str] = set()
        self._received: dict[str, int] = {}
        self._said = ""

    def after(self, event: Event) -> str:
        """A new line to say, or nothing."""
        self._take(event.get("id", ""), event.get("status", ""), event.get("progressDetail") or {})
        line = str(self)
        if line == self._said or not self._layers:
            return ""
        self._said = line
        return line

    def _take(self, layer: str, status: str, detail: dict[str, int]) -> None:
        if status in ("Pulling fs layer", *DONE):
            self._layers.add(layer)
        if status in DONE:
            self._done.add(layer)
        if status == "Downloading":
            self._received[layer] = detail.get("current", 0)

    def __str__(self) -> str:
        grains = sum(self._received.values()) // GRAIN
        received = f", {grains * GRAIN // MEGABYTE} MB" if grains else ""
        return f"pulling {self._image}: {len(self._done)} of {len(self._layers)} layers{received}"
