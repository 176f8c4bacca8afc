"""deploy and stage: open a rollout, leave it to a detached driver, and follow it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import click

from proxyctl.cli.options import actor, json_option, print_json, project_options, quiet_option, reason_option, say
from proxyctl.cli.progress import follow
from proxyctl.config.load import config_digest
from proxyctl.domain import orders, plan
from proxyctl.domain.model import Release, Service, ServiceName
from proxyctl.domain.orders import Signed
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.plan import Plan
from proxyctl.domain.state import Kind, Phase, ServiceState
from proxyctl.errors import Conflict, UsageError
from proxyctl.ports import ProxyState
from proxyctl.wiring import Workshop, workshop


@click.command()
@click.argument("services", nargs=-1, metavar="[SERVICE]...")
@click.option("--image", metavar="REF", help="This image instead of the file's; for one service.")
@click.option("--supersede", is_flag=True, help="End a rollout that runs, on its safe side, first.")
@reason_option
@project_options
@json_option
@quiet_option
def deploy(
    services: Sequence[str],
    image: str | None,
    supersede: bool,
    reason: str,
    file: str,
    state: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Start a release beside the live one, gate it, move traffic, bake, keep the old one warm.

    Without SERVICE all services of the file are deployed, one after the other, in its order. Ctrl-C goes back to the
    safe side; a second Ctrl-C leaves, and the rollout goes on.

    \b
    Example:
      proxyctl deploy
      proxyctl deploy web --image shop/web:1.5
    """
    asyncio.run(
        _roll_out(Kind.DEPLOY, plan.blue_green(), services, image, supersede, reason, file, state, as_json, quiet)
    )


@click.command()
@click.argument("service")
@click.option("--image", metavar="REF", help="This image instead of the file's.")
@reason_option
@project_options
@json_option
@quiet_option
def stage(service: str, image: str | None, reason: str, file: str, state: str, as_json: bool, quiet: bool) -> None:
    """Start and gate a release; it gets no traffic until `switch` or `weight`.

    \b
    Example:
      proxyctl stage web --image shop/web:1.5
      proxyctl weight web 5
      proxyctl switch web
    """
    asyncio.run(_roll_out(Kind.STAGE, plan.hold(), [service], image, False, reason, file, state, as_json, quiet))


async def _roll_out(
    kind: Kind,
    steps: Plan,
    names: Sequence[str],
    image: str | None,
    supersede: bool,
    reason: str,
    file: str,
    state: str,
    as_json: bool,
    quiet: bool,
) -> None:
    async with workshop(file, state) as shop:
        done = []
        for service in chosen_services(shop, names, image):
            if supersede:
                await _supersede(shop, service.name, reason)
            signed = Signed(actor=actor(), reason=reason, wall=shop.clock.wall())
            done.append(await _one(shop, kind, steps, service, signed, quiet))
        if as_json:
            print_json([_result(known) for known in done])


def chosen_services(shop: Workshop, names: Sequence[str], image: str | None) -> list[Service]:
    """The services named, else all of the file, in its order."""
    known = {str(service.name): service for service in shop.config.services}
    for name in names:
        if name not in known:
            raise UsageError(f"{shop.file} has no service {name!r}; it has: {', '.join(known)}")
    chosen = [service for name, service in known.items() if not names or name in names]
    if image is None:
        return chosen
    if len(chosen) != 1:
        raise UsageError("--image is for one service", next_step=f"proxyctl deploy SERVICE --image {image}")
    return [chosen[0].replace(container=chosen[0].container.replace(image=image))]


async def _supersede(shop: Workshop, service: ServiceName, reason: str) -> None:
    """End what runs, on its safe side; nothing running is fine."""
    if shop.store.load(service).rollout is None:
        return
    why = reason or "superseded by another deploy"
    signed = Signed(actor=actor(), reason=why, wall=shop.clock.wall())
    await shop.steering.steer(service, lambda known: orders.abort(known, Outcome.SUPERSEDED, signed), "supersede")
    while shop.store.load(service).rollout is not None or shop.locks.holder(service) is not None:
        await shop.clock.sleep(0.05)


async def _one(shop: Workshop, kind: Kind, steps: Plan, service: Service, signed: Signed, quiet: bool) -> ServiceState:
    known = await _mended(shop, service.name)
    await _proxy_runs(shop)
    release = await shop.opening.release(
        service, known, signed.wall, config_digest(service), lambda line: say(f"  {line}", quiet)
    )
    if kind is Kind.DEPLOY and known.standby is not None:
        say(f"{service.name}: {known.standby.release.id} leaves the standby: no warm rollback until promotion", quiet)
    return await open_and_follow(shop, kind, steps, release, signed, quiet)


async def open_and_follow(
    shop: Workshop, kind: Kind, steps: Plan, release: Release, signed: Signed, quiet: bool
) -> ServiceState:
    """Journal the rollout, hand it to a driver, follow it to its end. Raises what it failed of."""
    name = release.service.name
    opened = await shop.opening.fresh(kind, steps, release, shop.store.load(name), signed)
    before = shop.store.last_seq()
    shop.steering.open(name, lambda known: opened, kind.value)
    return await follow(shop, name, opened.rollout.id, before, quiet)


async def _mended(shop: Workshop, service: ServiceName) -> ServiceState:
    """What a crash left is mended first; a rollout that somebody drives is refused with its name."""
    known = shop.store.load(service)
    if known.rollout is not None and shop.locks.holder(service) is None:
        known = await shop.steering.recover(service)
        await _until_undone(shop, service)
        known = shop.store.load(service)
    if known.phase is Phase.DRAINING:
        await _until_undone(shop, service)
        known = shop.store.load(service)
    orders.refuse_while_running(known)
    return known


async def _until_undone(shop: Workshop, service: ServiceName) -> None:
    """The driver that recovery left needs a moment to remove containers."""
    deadline = shop.clock.now() + 60
    busy = (Phase.ABORTING, Phase.DRAINING)
    while shop.store.load(service).phase in busy and shop.clock.now() < deadline:
        await shop.clock.sleep(0.05)


async def _proxy_runs(shop: Workshop) -> None:
    """nginx dead after a reboot is started with what it served; before the first generation there is nothing to do."""
    status = await shop.proxy.status()
    if status.generation is not None and status.state is not ProxyState.RUNNING:
        await shop.proxy.start()


def start_retained(file: str, state: str, service: str, to: str, reason: str, as_json: bool, quiet: bool) -> None:
    """`rollback --to` a release that is not warm: started from its journaled definition, and gated."""

    async def work() -> None:
        async with workshop(file, state) as shop:
            known = await _mended(shop, ServiceName(service))
            await _proxy_runs(shop)
            target = orders.named(known, to)
            if not isinstance(target, Release):
                raise Conflict(f"{to} is warm already", next_step=f"proxyctl rollback {service}")
            signed = Signed(actor=actor(), reason=reason, wall=shop.clock.wall())
            done = await open_and_follow(shop, Kind.ROLLBACK, plan.blue_green(), target, signed, quiet)
            if as_json:
                print_json(_result(done))

    asyncio.run(work())


def _result(known: ServiceState) -> dict[str, object]:
    placed = known.candidate or known.live
    return {
        "service": known.service,
        "release": placed.release.id if placed else None,
        "phase": known.phase.value,
        "serving": orders.serving(known),
    }
