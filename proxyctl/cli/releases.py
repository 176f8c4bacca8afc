"""deploy and stage: open a rollout, leave it to a detached driver, and follow it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import NamedTuple

import click

from proxyctl.cli.options import (
    F,
    Output,
    ProjectOptions,
    actor,
    output_options,
    print_json,
    project_options,
    reason_option,
    say,
)
from proxyctl.cli.progress import follow
from proxyctl.cli.traffic import known_service, recovered, refuse_while_frozen, result, those_astray
from proxyctl.cli.values import IMAGE, SERVICE
from proxyctl.config.load import config_digest
from proxyctl.domain import orders, plan
from proxyctl.domain.events import RolloutOpened
from proxyctl.domain.model import Release, Route, Service, ServiceName
from proxyctl.domain.orders import Signed
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.plan import Plan
from proxyctl.domain.state import Kind, Phase, Rollout, ServiceState
from proxyctl.engine.published import routes_of, topology_of
from proxyctl.errors import Conflict, ProxyctlError, PublishRefused, UsageError
from proxyctl.ports import ProxyState
from proxyctl.wiring import Workshop, workshop


class Asked(NamedTuple):
    """What a person wants done with a release."""

    kind: Kind
    plan_of: Callable[[Service, ServiceState], Plan]
    reason: str
    output: Output
    outside_windows: bool = False


def outside_windows_option(command: F) -> F:
    return click.option("--outside-windows", is_flag=True, help="Also when the file's windows say not now.")(command)


@click.command()
@click.argument("services", type=SERVICE, nargs=-1, metavar="[SERVICE]...")
@click.option("--image", type=IMAGE, metavar="REF", help="This image instead of the file's; for one service.")
@click.option("--supersede", is_flag=True, help="End a rollout that runs, on its safe side, first.")
@outside_windows_option
@reason_option
@project_options
@output_options
def deploy(
    services: Sequence[str],
    image: str | None,
    supersede: bool,
    outside_windows: bool,
    reason: str,
    project: ProjectOptions,
    output: Output,
) -> None:
    """Start a release beside the live one, gate it, move traffic, bake, keep the old one warm.

    Without SERVICE all services of the file are deployed, one after the other, in its order. Ctrl-C goes back to the
    safe side; a second Ctrl-C leaves that to the driver.

    \b
    Example:
      proxyctl deploy
      proxyctl deploy web --image shop/web:1.5
    """
    asked = Asked(Kind.DEPLOY, by_strategy, reason, output, outside_windows)
    done = asyncio.run(_roll_out(project, asked, services, image, supersede))
    if output.as_json:
        print_json([result(known) for known in done])


@click.command()
@click.argument("service", type=SERVICE)
@click.option("--image", type=IMAGE, metavar="REF", help="This image instead of the file's.")
@outside_windows_option
@reason_option
@project_options
@output_options
def stage(
    service: str,
    image: str | None,
    outside_windows: bool,
    reason: str,
    project: ProjectOptions,
    output: Output,
) -> None:
    """Start and gate a release; it gets no traffic until `switch` or `weight`.

    \b
    Example:
      proxyctl stage web --image shop/web:1.5
      proxyctl weight web 5
      proxyctl switch web
    """
    asked = Asked(Kind.STAGE, _beside, reason, output, outside_windows)
    (staged,) = asyncio.run(_roll_out(project, asked, [service], image, supersede=False))
    if output.as_json:
        print_json(result(staged))


@click.command()
@click.argument("service", type=SERVICE)
@outside_windows_option
@reason_option
@project_options
@output_options
def retry(service: str, outside_windows: bool, reason: str, project: ProjectOptions, output: Output) -> None:
    """Start the last release again that was not promoted: same image, same definition, as if deployed anew.

    \b
    Example:
      proxyctl retry web --reason "the database was down"
    """

    asked = Asked(Kind.DEPLOY, by_strategy, reason, output, outside_windows)

    async def work() -> None:
        async with workshop(*project) as shop:
            refuse_while_none_starts(shop, asked)
            known = await _mended(shop, known_service(shop, service))
            await _proxy_runs(shop)
            done = await _open_and_follow(shop, asked, orders.retry(known), known)
            if output.as_json:
                print_json(result(done))

    asyncio.run(work())


def by_strategy(service: Service, known: ServiceState) -> Plan:
    return plan.of(service, known.live.release.service if known.live else None)


def _beside(service: Service, known: ServiceState) -> Plan:
    if service.rolling is not None:
        raise Conflict(
            f"{service.name} is not staged: {service.strategy} releases never stand whole beside the live one",
            serving=orders.serving(known),
            next_step=f"proxyctl deploy {service.name}",
        )
    return plan.hold(by_strategy(service, known))


async def _roll_out(
    project: ProjectOptions, asked: Asked, names: Sequence[str], image: str | None, supersede: bool
) -> list[ServiceState]:
    async with workshop(*project) as shop:
        chosen = chosen_services(shop, names, image)
        refuse_while_none_starts(shop, asked)
        if supersede:
            chosen = [service for service in chosen if not await _is_rolled_out_already(shop, asked, service)]
            for service in chosen:
                await _supersede(shop, service.name, asked.reason)
        return await deploy_each(shop, asked, chosen)


def refuse_while_none_starts(shop: Workshop, asked: Asked) -> None:
    """In a freeze, and when the file's windows say not now. Raises Conflict."""
    refuse_while_frozen(shop)
    if not asked.outside_windows:
        _refuse_outside_windows(shop)


def _refuse_outside_windows(shop: Workshop) -> None:
    now, windows = datetime.fromtimestamp(shop.clock.wall()), shop.config.windows
    if windows and not any(now in window for window in windows):
        raise Conflict(
            f"it is {now:%a %H:%M}, and releases are started in the windows {'; '.join(map(str, windows))}",
            serving="traffic stays as it is",
            next_step="wait for one of them, or repeat it with --outside-windows",
        )


async def deploy_each(shop: Workshop, asked: Asked, services: Sequence[Service]) -> list[ServiceState]:
    """One service after the other; the first that fails ends it, and the rest stay as they are."""
    done: list[ServiceState] = []
    for at, service in enumerate(services, start=1):
        try:
            done.append(await _one(shop, asked, service))
        except ProxyctlError as error:
            if left := [service.name for service in services[at:]]:
                error.serving += f"; left as they were: {', '.join(left)}"
            raise
    return done


def chosen_services(shop: Workshop, names: Sequence[str], image: str | None) -> list[Service]:
    """The services named, else all of the file, in its order."""
    known = {str(service.name): service for service in shop.config.services}
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            raise UsageError(
                f"{shop.file} has no service {name!r}; it has: {', '.join(known)}",
                next_step=f"repeat it with {near[0] if near else 'one of them'}",
            )
    chosen = [service for name, service in known.items() if not names or name in names]
    if image is None:
        return chosen
    if len(chosen) != 1:
        raise UsageError("--image is for one service", next_step=f"proxyctl deploy SERVICE --image {image}")
    return [chosen[0].replace(container=chosen[0].container.replace(image=image))]


async def _is_rolled_out_already(shop: Workshop, asked: Asked, service: Service) -> bool:
    """Whether the rollout that runs is of this very release. Its image is here from now on: what runs is ended for
    nothing that could not be pulled."""
    known = shop.store.load(service.name)
    running = known.arriving or known.candidate if known.rollout is not None else None
    if running is None:
        return False
    wanted = await _release(shop, asked, service, known)
    same = (wanted.digest, wanted.config_digest) == (running.release.digest, running.release.config_digest)
    if same:
        say(f"{running.release.id} is this very release, and is being rolled out: it goes on", asked.output.quiet)
    return same


async def _release(shop: Workshop, asked: Asked, service: Service, known: ServiceState) -> Release:
    return await shop.opening.release(
        service, known, shop.clock.wall(), config_digest(service), lambda line: say(f"  {line}", asked.output.quiet)
    )


async def _supersede(shop: Workshop, service: ServiceName, reason: str) -> None:
    """End what runs, on its safe side; nothing running is fine, also where it ended before it heard of this."""
    if shop.store.load(service).rollout is None:
        return
    why = reason or "superseded by another deploy"
    signed = Signed(actor=actor(), reason=why, wall=shop.clock.wall())
    try:
        await shop.steering.steer(service, lambda known: orders.abort(known, Outcome.SUPERSEDED, signed), "supersede")
    except Conflict:
        if shop.store.load(service).rollout is not None:
            raise
    while shop.store.load(service).rollout is not None or shop.locks.holder(service) is not None:
        await shop.clock.sleep(0.05)


async def _one(shop: Workshop, asked: Asked, service: Service) -> ServiceState:
    supersede = "repeat it with --supersede, which takes that one back first" if asked.kind is Kind.DEPLOY else ""
    known = await _mended(shop, service.name, instead=supersede)
    await _proxy_runs(shop)
    release = await _release(shop, asked, service, known)
    return await _open_and_follow(shop, asked, release, known)


async def _open_and_follow(shop: Workshop, asked: Asked, release: Release, seen: ServiceState) -> ServiceState:
    """Journal the rollout, hand it to a driver, follow it to its end. Raises what it failed of; Conflict when another
    one was opened since the release was made for what was `seen`: a pull may take long."""
    name = release.service.name
    signed = Signed(actor=actor(), reason=asked.reason, wall=shop.clock.wall())
    known = shop.store.load(name)
    orders.refuse_overtaken(known, seen)
    steps = asked.plan_of(release.service, known)
    opened = await shop.opening.fresh(asked.kind, steps, release, known, signed)
    await _refuse_what_nginx_refuses(shop, known, opened.rollout, asked.output.quiet)
    if known.standby is not None:
        leaves = f"{name}: {known.standby.release.id} leaves the standby: no warm rollback until promotion"
        say(leaves, asked.output.quiet)
    before = shop.store.last_seq()

    def still(now: ServiceState) -> RolloutOpened:
        orders.refuse_overtaken(now, known)
        return opened

    shop.steering.open(name, still, asked.kind.value)
    return await follow(shop, name, opened.rollout.id, before, asked.output.quiet)


async def _refuse_what_nginx_refuses(shop: Workshop, known: ServiceState, rollout: Rollout, quiet: bool) -> None:
    """Before anything leaves its place: nginx is asked only where it has to learn something."""
    if rollout.route is None or (rollout.route, rollout.settings) == (known.route, known.settings):
        return
    topology = topology_of(shop.name, rollout.settings, {**routes_of(shop.store), known.service: rollout.route})
    if rival := topology.rival_of(rollout.route):
        raise PublishRefused(
            taken_by(shop, rollout.route, rival), serving=orders.serving(known), next_step=f"proxyctl status {rival}"
        )
    await shop.proxy.fetch(rollout.settings, lambda line: say(f"  {line}", quiet))
    objections = await shop.proxy.check(topology, known.service)
    if objections:
        raise PublishRefused(
            f"nginx cannot be given {known.service} as the file has it: {objections[0]}",
            detail="\n".join(objections[1:]),
            serving=orders.serving(known),
            next_step="mend proxyctl.yml or what it names, then proxyctl check",
        )


def taken_by(shop: Workshop, route: Route, rival: ServiceName) -> str:
    """The rival, as nginx knows it, whatever the file says by now."""
    claim = f"{' '.join(route.hosts) or 'every host'} with path {route.path}"
    if rival in {service.name for service in shop.config.services}:
        return f"{route.service} wants {claim}, which {rival} has until it is deployed as {shop.file} has it now"
    cure = f"write it there again, with another host or path, and deploy {rival} first"
    return f"{route.service} wants {claim}, which {rival} has; {rival} is live and not in {shop.file} any more: {cure}"


async def _mended(shop: Workshop, service: ServiceName, instead: str = "") -> ServiceState:
    """What a crash left is mended first; a rollout that somebody drives is refused with its name."""
    known = shop.store.load(service)
    broken_off = known.rollout is not None or await those_astray(shop, service)
    if broken_off and shop.locks.holder(service) is None:
        await recovered(shop, service)
        await _until_undone(shop, service)
        known = shop.store.load(service)
    if known.phase is Phase.DRAINING:
        await _until_undone(shop, service)
        known = shop.store.load(service)
    orders.refuse_while_running(known, instead)
    return known


async def _until_undone(shop: Workshop, service: ServiceName) -> None:
    """The driver that recovery left needs a moment to remove containers."""
    deadline = shop.clock.now() + 60
    busy = (Phase.ABORTING, Phase.DRAINING)
    while shop.store.load(service).phase in busy and shop.clock.now() < deadline:
        await shop.clock.sleep(0.05)


async def _proxy_runs(shop: Workshop) -> None:
    """nginx dead after a reboot is started with what it served; before the first generation there is nothing to do."""
    await shop.mend_generation()
    status = await shop.proxy.status()
    if status.generation is not None and status.state is not ProxyState.RUNNING:
        await shop.proxy.start()


def start_retained(project: ProjectOptions, service: str, to: str, steps: Plan, reason: str, output: Output) -> None:
    """`rollback --to` a release that is not warm: started from its journaled definition, and gated."""

    async def work() -> None:
        async with workshop(*project) as shop:
            known = await _mended(shop, ServiceName(service))
            await _proxy_runs(shop)
            target = orders.named(known, to)
            if not isinstance(target, Release):
                raise Conflict(f"{to} is warm already", next_step=f"proxyctl rollback {service}")
            asked = Asked(Kind.ROLLBACK, lambda service, known: _back(service, known, steps), reason, output)
            done = await _open_and_follow(shop, asked, target, known)
            if output.as_json:
                print_json(result(done))

    asyncio.run(work())


def _back(service: Service, known: ServiceState, steps: Plan) -> Plan:
    """What may not run twice goes back as it came."""
    rolling = orders.rolling_of(service, known)
    return by_strategy(service.replace(rolling=rolling), known) if rolling and known.live else steps
