"""freeze, thaw: nothing new gets traffic, for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import click

from proxyctl.cli.options import (
    Output,
    ProjectOptions,
    actor,
    output_options,
    print_json,
    project_options,
    reason_option,
    say,
)
from proxyctl.domain import events as ev
from proxyctl.domain import orders
from proxyctl.engine.status import frozen_json
from proxyctl.ports import Frozen
from proxyctl.wiring import Workshop, workshop


@click.command()
@reason_option
@project_options
@output_options
def freeze(reason: str, project: ProjectOptions, output: Output) -> None:
    """No rollout starts, and none is led on by hand, until `thaw`: an incident, a holiday, a sale.

    abort, rollback, pause and deny work all the same, and so does taking back what fails. A rollout that runs goes on:
    pause it too if that is meant.

    \b
    Example:
      proxyctl freeze --reason "black friday"
    """
    _with(project, lambda shop: _freeze(shop, reason, output))


@click.command()
@reason_option
@project_options
@output_options
def thaw(reason: str, project: ProjectOptions, output: Output) -> None:
    """End a freeze.

    \b
    Example:
      proxyctl thaw
    """
    _with(project, lambda shop: _thaw(shop, reason, output))


def _with(project: ProjectOptions, work: Callable[[Workshop], None]) -> None:
    async def run() -> None:
        async with workshop(*project) as shop:
            work(shop)

    asyncio.run(run())


def _freeze(shop: Workshop, reason: str, output: Output) -> None:
    if (before := shop.freeze.read()) is not None:
        _told(before, f"{shop.name} is frozen already, {in_words(before)}", output)
        return
    frozen = Frozen(actor=actor(), reason=reason, since=shop.clock.wall())
    shop.store.note(ev.Froze(actor=frozen.actor, reason=reason), frozen.since)
    frozen = shop.freeze.put(frozen)
    _told(frozen, f"{shop.name} is frozen, {in_words(frozen)}", output)
    for known in map(shop.store.load, shop.known_services()):
        if known.rollout is not None and orders.goes_on(known):
            words = f"{known.rollout.id} goes on all the same, with {known.rollout.release}"
            say(f"{words}: proxyctl pause {known.service}", output.quiet)


def _thaw(shop: Workshop, reason: str, output: Output) -> None:
    if (was := shop.freeze.read()) is None:
        _told(None, f"{shop.name} is not frozen", output)
        return
    shop.store.note(ev.Thawed(actor=actor(), reason=reason), shop.clock.wall())
    shop.freeze.lift()
    _told(was, f"{shop.name} is not frozen any more; it was, {in_words(was)}", output)


def _told(frozen: Frozen | None, words: str, output: Output) -> None:
    if output.as_json:
        print_json(frozen_json(frozen) if frozen else None)
    else:
        say(words, output.quiet)


def in_words(frozen: Frozen) -> str:
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(frozen.since))
    return f"by {frozen.actor} since {since}{': ' + frozen.reason if frozen.reason else ''}"
