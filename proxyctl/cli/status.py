"""status: the live truth in a screen, or as JSON. A hot command."""

from __future__ import annotations

import asyncio
import sys

import click

from proxyctl.cli.freezing import in_words
from proxyctl.cli.options import ProjectOptions, json_option, leaving_quietly, print_json, project_options
from proxyctl.cli.traffic import known_service
from proxyctl.cli.values import SERVICE
from proxyctl.domain import orders, plan
from proxyctl.domain.rollout import ABORTABLE
from proxyctl.domain.state import Phase
from proxyctl.engine import status as shape
from proxyctl.engine.status import ProjectView, ServiceView, project_view
from proxyctl.engine.traffic import moment
from proxyctl.ports import Clock, ProxyState, ProxyStatus
from proxyctl.wiring import Workshop, showroom

WATCH_EVERY = 0.5
DAY = 86_400
SOON = 14  # days; who renews by himself does so at 30


@click.command()
@click.argument("service", type=SERVICE, required=False)
@click.option("--watch", is_flag=True, help="Draw it again twice a second until Ctrl-C.")
@project_options
@json_option
def status(service: str | None, watch: bool, project: ProjectOptions, as_json: bool) -> None:
    """The live truth: who serves, what runs, where the journal and the world differ.

    \b
    Example:
      proxyctl status
      proxyctl status web --watch
    """
    with leaving_quietly():
        asyncio.run(_show(project, service, watch, as_json))


async def _show(project: ProjectOptions, service: str | None, watch: bool, as_json: bool) -> None:
    async with showroom(*project) as shop:
        only = known_service(shop, service) if service else ""
        if watch and not as_json:
            click.clear()
        while True:
            view = await look(shop, only)
            if as_json:
                print_json(shape.as_json(view))
            else:
                _draw(lines(view, shop.clock), over=watch and sys.stdout.isatty())
            if not watch:
                return
            await shop.clock.sleep(WATCH_EVERY)


def _draw(text: list[str], over: bool) -> None:
    """`over` the last drawing, line by line, so that nothing flickers."""
    if over:
        home, to_end_of_line, below = "\x1b[H", "\x1b[K", "\x1b[J"
        click.echo(home + "".join(f"{line}{to_end_of_line}\n" for line in text) + below, nl=False)
    else:
        click.echo("\n".join(text))


async def look(shop: Workshop, service: str = "") -> ProjectView:
    proxy = await shop.look.status()
    frozen = shop.freeze.read()
    return await project_view(shop.name, shop.store, shop.splits, shop.inspector, shop.locks, proxy, frozen, service)


def lines(view: ProjectView, clock: Clock) -> list[str]:
    proxy = view.proxy
    draining = f", {proxy.draining} old workers draining" if proxy.draining else ""
    generation = "no generation yet" if proxy.generation is None else f"generation {proxy.generation}"
    seen = "" if proxy.observed == proxy.generation else f" (answers: {proxy.observed or 'nothing'})"
    text = [f"project {view.project}   nginx {proxy.version} {proxy.state}, {generation}{seen}{draining}"]
    text += proxy_lines(proxy, clock.wall())
    if proxy.generation is not None and proxy.state is not ProxyState.RUNNING:
        text.append("  next: proxyctl proxy start")
    if frozen := view.frozen:
        text.append(f"  FROZEN {in_words(frozen)}; proxyctl thaw ends it")
    if not view.services:
        text += ["", "no service was deployed yet: proxyctl deploy"]
    for service in view.services:
        text += ["", *_service_lines(service, clock)]
    return text


def proxy_lines(proxy: ProxyStatus, now: float) -> list[str]:
    """What else is to be said of nginx."""
    damage = [f"  drift: {proxy.damage}; proxyctl recover publishes it anew"] if proxy.damage else []
    certificates = sorted(proxy.certificates.items())
    return [*damage, *(f"  certificate of {service}: {_left((ends - now) / DAY)}" for service, ends in certificates)]


def _left(days: float) -> str:
    if days < 0:
        return f"EXPIRED {-days:.0f} days ago; renew it, then proxyctl proxy reload"
    return f"{days:.0f} days left" + ("; renew it, then proxyctl proxy reload" if days < SOON else "")


def _service_lines(view: ServiceView, clock: Clock) -> list[str]:
    state = view.state
    text = [f"{state.service}   {state.phase}{_about_rollout(view)}{_about_standby(view, clock)}"]
    text += _step_lines(view, clock)
    for release in view.releases:
        placed = release.placed
        share = f"{view.split.percent(placed.colour) if view.split else 0.0:6.2f} %"
        routed = share if placed.release.service.routed else " " * len(share)
        text.append(f"  {placed.colour:5} {routed}  {placed.role:9} {placed.release.id:12} {placed.release.image}")
        text += [f"        {r.name:24} {r.address:22} {r.health}" for r in release.replicas]
    if not view.releases:
        text.append("  nothing runs")
    if state.trouble:
        text.append(f"  DEGRADED: {state.trouble}")
        text.append("  next: proxyctl proxy start, then proxyctl recover")
    if view.unseen:
        text.append(f"  health unknown: {view.unseen}")
    text += [f"  drift: {drift}" for drift in view.drift]
    if view.drift and view.driver is None and not state.trouble:
        text.append(f"  next: proxyctl recover {state.service}")
    return text


def _step_lines(view: ServiceView, clock: Clock) -> list[str]:
    """Where the rollout is in its plan, what is said of it, and what a person may say."""
    rollout = view.state.rollout
    if rollout is None or rollout.step is None:
        return []
    if view.state.phase not in ABORTABLE:  # its plan is over
        return [f"  taken back: {rollout.why}"] if rollout.why else []
    waited = rollout.spent + (rollout.since.elapsed(moment(clock)) if rollout.since else 0.0)
    since = f", {waited:.0f} s of it" if waited else ""
    text = [f"  step {rollout.cursor + 1} of {len(rollout.plan)}: {plan.words(rollout.step)}{since}"]
    text += [f"  held: {rollout.why}"] if rollout.why and view.state.phase is Phase.HELD else []
    text += [f"  analysis: {view.said}"] if view.said and view.said != rollout.why else []
    if asked := orders.asked_of_you(view.state):
        text.append(f"  next: {asked}")
    return text


def _about_rollout(view: ServiceView) -> str:
    rollout = view.state.rollout
    if rollout is None:
        return ""
    return f"   rollout {rollout.id} of {rollout.release}, by {rollout.actor}"


def _about_standby(view: ServiceView, clock: Clock) -> str:
    state = view.state
    rolled = state.live is not None and state.live.release.service.rolling is not None
    if rolled and state.standby is None and state.rollout is None and (older := orders.retained(state)):
        return f"   no warm rollback; rollback --to {older[-1]} starts it again"
    standby = shape.warm(view)
    if standby is None or state.standby_since is None:
        return ""
    left = standby.release.service.standby - state.standby_since.elapsed(moment(clock))
    return f"   rollback is warm for {left:.0f} s more" if left > 0 else ""
