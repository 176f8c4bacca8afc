"""history, events, logs: what happened."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import click

from proxyctl.cli.main import printable
from proxyctl.cli.options import (
    ProjectOptions,
    json_option,
    leaving_quietly,
    print_json,
    project_options,
    project_options_beside_follow,
)
from proxyctl.cli.traffic import known_service
from proxyctl.cli.values import SERVICE, whole
from proxyctl.domain.codec import encode
from proxyctl.domain.model import ServiceName
from proxyctl.engine.history import Chapter, chapters, sentence
from proxyctl.errors import Conflict
from proxyctl.ports import Entry, Note
from proxyctl.wiring import Workshop, showroom


@click.command()
@click.argument("service", type=SERVICE, required=False)
@project_options
@json_option
def history(service: str | None, project: ProjectOptions, as_json: bool) -> None:
    """Past rollouts and freezes, the newest last: from, to, outcome, who and why.

    \b
    Example:
      proxyctl history web
    """

    async def work(shop: Workshop) -> None:
        name = known_service(shop, service) if service else None
        told = chapters(shop.store.told(name))
        if as_json:
            print_json([_chapter_json(chapter) for chapter in told])
            return
        for chapter in told:
            click.echo(_chapter_line(chapter))
        if not told:
            click.echo("nothing happened yet")

    asyncio.run(_in_showroom(project, work))


@click.command()
@click.argument("service", type=SERVICE, required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens from now on.")
@project_options_beside_follow
@json_option
def events(service: str | None, follow: bool, project: ProjectOptions, as_json: bool) -> None:
    """Every journaled step, intents and what was observed.

    \b
    Example:
      proxyctl events web
      proxyctl events -f --json
    """

    async def work(shop: Workshop) -> None:
        name = known_service(shop, service) if service else None
        async for line in _lines(shop, name, follow):
            click.echo(json.dumps(_line_json(line)) if as_json else _line_text(line))

    with leaving_quietly():
        asyncio.run(_in_showroom(project, work))


@click.command()
@click.argument("service", type=SERVICE)
@click.option("-n", "--tail", default=100, type=whole(0, 100_000), help="Lines of each container.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what they print from now on.")
@project_options_beside_follow
def logs(service: str, tail: int, follow: bool, project: ProjectOptions) -> None:
    """Output of a service's containers, each line with its replica.

    \b
    Example:
      proxyctl logs web --tail 20
    """

    async def work(shop: Workshop) -> None:
        owned = await shop.runtime.owned(known_service(shop, service))
        if not owned:
            raise Conflict(f"{service} has no containers now", next_step=f"proxyctl history {service}")
        if follow:
            await asyncio.gather(*(_follow(shop, seen.name, tail) for seen in owned))
            return
        for seen in owned:
            for line in (await shop.runtime.logs(seen.name, tail)).splitlines():
                click.echo(f"{seen.name} | {printable(line)}")

    with leaving_quietly():
        asyncio.run(_in_showroom(project, work))


async def _follow(shop: Workshop, name: str, tail: int) -> None:
    async for line in shop.runtime.follow(name, tail):
        click.echo(f"{name} | {printable(line)}")


async def _in_showroom(project: ProjectOptions, work: object) -> None:
    async with showroom(*project) as shop:
        await work(shop)  # type: ignore[operator]


async def _lines(shop: Workshop, service: ServiceName | None, following: bool) -> AsyncIterator[Entry | Note]:
    after = 0
    while True:
        for line in shop.store.told(service, after=after):
            after = line.seq
            yield line
        if not following:
            return
        await shop.clock.sleep(0.1)


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _chapter_line(chapter: Chapter) -> str:
    took = f"{chapter.finished - chapter.started:6.1f} s" if chapter.finished else "  running"
    move = f"{chapter.replaces or 'nothing'} -> {chapter.release}" if chapter.release else "all services"
    about = f"{chapter.id:10} {chapter.kind:9} {move:24} {chapter.outcome:12} {took}"
    return f"{_when(chapter.started)}  {about}  {printable(_why(chapter))}"


def _why(chapter: Chapter) -> str:
    """Who began it and why; who ended it, or what did."""
    begun = f"by {chapter.actor}{': ' + chapter.asked if chapter.asked else ''}"
    if chapter.ended_by:
        return f"{begun}; ended by {chapter.ended_by}{': ' + chapter.reason if chapter.reason else ''}"
    return f"{begun}; {chapter.reason}" if chapter.reason else begun


def _chapter_json(chapter: Chapter) -> dict[str, object]:
    return {
        "id": chapter.id,
        "service": chapter.service,
        "kind": chapter.kind,
        "from": chapter.replaces,
        "to": chapter.release,
        "outcome": chapter.outcome,
        "reason": chapter.reason or chapter.asked,
        "started": chapter.started,
        "finished": chapter.finished,
        "actor": chapter.actor,
        "asked": chapter.asked,
        "ended_by": chapter.ended_by or None,
    }


def _line_text(line: Entry | Note) -> str:
    service = line.service if isinstance(line, Entry) else "all services"
    return f"{_when(line.at)}  {line.seq:5}  {service:12} {printable(sentence(line.event))}"


def _line_json(line: Entry | Note) -> dict[str, object]:
    return {
        "seq": line.seq,
        "at": line.at,
        "service": line.service if isinstance(line, Entry) else None,
        "rollout": line.rollout if isinstance(line, Entry) else "",
        "event": encode(line.event),
        "text": sentence(line.event),
    }
