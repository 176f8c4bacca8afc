"""A project for a whole file of tests: any, or one in which release 2 is live and release 1 stands warm. Start at
standing() and standing_pair()."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, closing, contextmanager

import docker

from proxyctl.demo.images import build_all
from proxyctl.demo.stage import stage
from tests.e2e.invariants import broken
from tests.e2e.shop import TWO, Shop


@contextmanager
def standing(opened: AbstractAsyncContextManager[Shop]) -> Iterator[Shop]:
    """For tests that have a loop of their own each."""
    with asyncio.Runner() as runner:
        shop = runner.run(_entered(opened))
        yield shop
        runner.run(_left(opened))


async def _entered(opened: AbstractAsyncContextManager[Shop]) -> Shop:
    return await opened.__aenter__()


async def _left(opened: AbstractAsyncContextManager[Shop]) -> None:
    await opened.__aexit__(None, None, None)


@contextmanager
def standing_pair(deadline: str = "6s") -> Iterator[Shop]:
    """At its end nothing may be broken. A release has this long to pass its gate."""
    with closing(docker.from_env()) as client:
        build_all(client)
    with asyncio.Runner() as runner:
        standing = stage(bake="0s")
        shop = Shop(runner.run(standing.__aenter__()))
        shop.write("drain: 5s", "drain: 500ms")
        shop.write("deadline: 6s", f"deadline: {deadline}")
        try:
            for words in (("deploy", "web"), ("deploy", "web", "--image", TWO)):
                said = runner.run(shop.type(*words))
                assert said.code == 0, said.err
            yield shop
            found = runner.run(_broken_for_long(shop))
            assert not found, found
        finally:
            runner.run(standing.__aexit__(None, None, None))


async def _broken_for_long(shop: Shop) -> list[str]:
    """What a guard is still about to mend does not count."""
    deadline = time.monotonic() + 10
    while (found := await broken(shop.scene)) and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
    return found


@contextmanager
def file_says(shop: Shop, old: str, new: str) -> Iterator[None]:
    """proxyctl.yml with other words in it, for a while."""
    text = shop.file.read_text()
    shop.write(old, new)
    try:
        yield
    finally:
        shop.file.write_text(text)
