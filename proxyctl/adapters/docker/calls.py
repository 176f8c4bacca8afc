"""Call the Docker engine: docker-py on a small pool of threads, a deadline on every call. Start at EngineCalls.

docker-py blocks and a thread cannot be cancelled. So an effect that is late, or whose connection broke, raises
OutcomeUnknown: it may have happened. A look that is late raises DockerUnavailable. What docker-py raises is turned into
our errors here and only here.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import TypeVar

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException, ImageNotFound

from proxyctl.adapters.docker.address import SERVING, meant, to_try
from proxyctl.adapters.docker.client import connected
from proxyctl.domain.model import Seconds
from proxyctl.errors import AddressTaken, DockerUnavailable, ImageUnavailable, NoSpace, OutcomeUnknown, Unavailable

T = TypeVar("T")
Work = Callable[[docker.DockerClient], T]

THREADS = 8
LOOK_LIMIT: Seconds = 10.0
ACT_LIMIT: Seconds = 10.0
SPARE: Seconds = 1.0  # a call's own limit passes first: then its thread is free again when we stop waiting
AHEAD = 256  # items of a stream that wait for a slow reader
SILENCE: Seconds = 60.0  # between two lines of a pull
FOREVER: Seconds = 7 * 24 * 3600.0  # between two lines of a container's output

ENGINE_ERRORS = (DockerException, requests.RequestException, urllib3.exceptions.HTTPError)
NOT_SENT = (  # connect(2) failed: nothing was asked
    FileNotFoundError,
    ConnectionRefusedError,
    PermissionError,
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
)


class EngineCalls:
    """One client per thread, because its session is not safe to share."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="docker")
        self._local = threading.local()
        self._clients: list[docker.DockerClient] = []

    async def look(self, work: Work[T], what: str) -> T:
        """Changes nothing, so it may be asked again. Raises DockerUnavailable."""
        try:
            return await self._call(work, what, LOOK_LIMIT)
        except OutcomeUnknown as late:
            raise DockerUnavailable(str(late), serving=late.serving, next_step="docker version") from late

    async def act(self, work: Work[T], what: str, limit: Seconds = ACT_LIMIT) -> T:
        """Raises DockerUnavailable when nothing was asked, OutcomeUnknown when it may have happened."""
        return await self._call(work, what, limit)

    async def stream(self, work: Work[Iterable[T]], what: str, silence: Seconds) -> AsyncIterator[T]:
        """What a call yields, as it comes. On a daemon thread: one left behind ends with its next item, and never
        keeps the process alive."""
        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[tuple[T] | BaseException | None] = asyncio.Queue()
        room, left = threading.Semaphore(AHEAD), threading.Event()

        def pump() -> None:
            end: BaseException | None = None
            try:
                with closing(_connected(silence)) as client:
                    for item in work(client):
                        room.acquire()
                        if left.is_set():
                            return
                        loop.call_soon_threadsafe(arrived.put_nowait, (item,))
            except BaseException as error:  # carried over to the one who waits for it
                end = error
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(arrived.put_nowait, end)

        threading.Thread(target=pump, daemon=True).start()
        try:
            while isinstance(item := await arrived.get(), tuple):
                room.release()
                yield item[0]
            _raise_in_our_terms(item, what)
        finally:
            left.set()
            room.release()

    async def close(self) -> None:
        """Does not wait for a late call; its thread ends with its limit."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for client in self._clients:
            client.close()

    async def _call(self, work: Work[T], what: str, limit: Seconds) -> T:
        def named() -> T:
            client = self._client(limit)
            try:
                return work(client)
            except ENGINE_ERRORS as error:
                raise in_our_terms(error, what) from error

        job = asyncio.get_running_loop().run_in_executor(self._threads, named)
        job.add_done_callback(_noticed)
        try:
            # Not wait_for: before Python 3.12 it swallows a cancellation that comes together with the answer.
            async with asyncio.timeout(limit + SPARE):
                return await asyncio.shield(job)
        except TimeoutError as late:
            raise _late(what) from late

    def _client(self, limit: Seconds) -> docker.DockerClient:
        if not hasattr(self._local, "client"):
            self._local.client = _connected(limit)
            self._clients.append(self._local.client)
        client: docker.DockerClient = self._local.client
        client.api.timeout = math.ceil(limit)
        return client


def _noticed(job: asyncio.Future[T]) -> None:
    """How it ended is of no interest to anybody who stopped waiting; asyncio would print a traceback of it."""
    if not job.cancelled():
        job.exception()


def _connected(limit: Seconds) -> docker.DockerClient:
    """A client asks for the engine's version first: the one place where an engine that is gone shows itself."""
    engine = meant()
    try:
        return connected(engine, math.ceil(limit))
    except ENGINE_ERRORS as error:
        raise _gone(f"the Docker engine at {engine.host} does not answer", error) from error


def in_our_terms(error: Exception, what: str) -> Unavailable:
    """docker-py's error in our terms, with the engine's own words. Only its text tells some of them apart."""
    words = str(getattr(error, "explanation", None) or error)
    if isinstance(error, ImageNotFound):
        return ImageUnavailable(
            f"{what}: the image is not on this host any more", detail=words, serving=SERVING, next_step="docker pull it"
        )
    if not isinstance(error, APIError):
        return _gone(what, error) if _causes(error, *NOT_SENT) else _late(what)
    if "no space left" in words.lower():
        return no_space(what, words)
    if address_taken(error):
        return AddressTaken(f"{what}: its address is taken", detail=words, serving=SERVING)
    return Unavailable(f"{what}: the Docker engine refused: {words}", serving=SERVING)


def no_space(what: str, words: str) -> NoSpace:
    return NoSpace(
        f"{what}: no space left on the Docker host", detail=words, serving=SERVING, next_step="docker system df"
    )


def address_taken(error: BaseException) -> bool:
    return isinstance(error, APIError) and "address already in use" in str(error.explanation).lower()


def _raise_in_our_terms(end: BaseException | None, what: str) -> None:
    match end:
        case None:
            return
        case DockerException() | requests.RequestException() | urllib3.exceptions.HTTPError():
            raise in_our_terms(end, what) from end
        case _:
            raise end


def _causes(error: BaseException, *kinds: type[BaseException]) -> list[BaseException]:
    """Those of these kinds in the chain of what led to it."""
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None:
        found += [cause] if isinstance(cause, kinds) else []
        cause = cause.__cause__ or cause.__context__
    return found


def _gone(what: str, error: BaseException) -> DockerUnavailable:
    """With the words of what went wrong, not of those who carried it here."""
    for cause in _causes(error, *NOT_SENT, urllib3.exceptions.SSLError):
        error = cause
    if isinstance(error, urllib3.exceptions.SSLError):
        return DockerUnavailable(
            f"{what}: no TLS that both sides believe",
            detail=str(error),
            serving=SERVING,
            next_step="look at ca.pem, cert.pem and key.pem in DOCKER_CERT_PATH: whose they are, and until when",
        )
    return DockerUnavailable(
        f"{what}: the Docker engine cannot be reached",
        detail=str(error),
        serving=SERVING,
        next_step=to_try(meant()),
    )


def _late(what: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{what}: the Docker engine did not answer in time",
        serving=SERVING,
        next_step="docker version; then proxyctl recover",
    )
