"""switch, weight, abort, rollback, recover: the hot commands. Nothing heavy is imported here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

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
from proxyctl.cli.values import PERCENT, RELEASE, SERVICE
from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain import orders, plan
from proxyctl.domain.deciding import decide
from proxyctl.domain.model import Colour, Release, Seconds, ServiceName
from proxyctl.domain.orders import Signed
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.state import Kind, Phase, Placement, ServiceState, rollout_of
from proxyctl.engine.history import sentence
from proxyctl.engine.traffic import astray, moment
from proxyctl.errors import Conflict, DockerUnavailable, GateFailed, Locked, ProxyctlError, RolloutFailed
from proxyctl.ports import Life
from proxyctl.wiring import Workshop, workshop

PLACED = "RELEASE|blue|green"
WAYS_BACK = ("abort", "rollback", "pause", "deny")
SWITCHABLE = (Phase.SHIFTING, Phase.PAUSED, Phase.HELD)
T = TypeVar("T")


@click.command()
@click.argument("service", type=SERVICE)
@click.option("--to", type=RELEASE, metavar=PLACED, help="Which release; default: the staged one, else the standby.")
@reason_option
@project_options
@output_options
def switch(service: str, to: str | None, reason: str, project: ProjectOptions, output: Output) -> None:
    """All traffic at once to the staged or named release, after probing it. It bakes in the background.

    \b
    Example:
      proxyctl stage web --image shop/web:1.5
      proxyctl switch web
    """

    def order(known: ServiceState, signed: Signed) -> ev.Event:
        if known.phase in SWITCHABLE and (to is None or _names(known.candidate, to)):
            return orders.cut_over(known, signed)
        if known.phase is Phase.BAKING and to is not None and _names(known.live, to):
            return orders.abort(known, Outcome.ROLLED_BACK, signed)
        target = orders.warm(known) if to is None else orders.named(known, to)
        return _open_at(known, Kind.SWITCH, target, plan.blue_green(_bake(target)), signed)

    steer(project, service, "switch", reason, order, output)


@click.command()
@click.argument("service", type=SERVICE)
@click.argument("percent", type=PERCENT)
@reason_option
@project_options
@output_options
def weight(service: str, percent: int, reason: str, project: ProjectOptions, output: Output) -> None:
    """Give the candidate PERCENT of traffic, 0 to 100 with two decimals; the rest stays where it is.

    Without a rollout the standby becomes the candidate. `switch` completes it, `abort` takes it back.

    \b
    Example:
      proxyctl weight web 5
    """

    def order(known: ServiceState, signed: Signed) -> ev.Event:
        if known.rollout is not None:
            return orders.weigh(known, percent, signed)
        target = orders.warm(known)
        return _open_at(known, Kind.WEIGHT, target, plan.at(percent, plan.blue_green(_bake(target))), signed)

    steer(project, service, "weight", reason, order, output)


@click.command()
@click.argument("service", type=SERVICE)
@click.option("--to", type=RELEASE, metavar=PLACED, help="A retained release, started and gated again.")
@click.option("--gradual", is_flag=True, help="By 10, 25 and 50 %, 30 s each: for a release whose caches are cold.")
@reason_option
@project_options
@output_options
def rollback(service: str, to: str | None, gradual: bool, reason: str, project: ProjectOptions, output: Output) -> None:
    """Back to the standby, instantly; while a rollout runs, back to the live release.

    \b
    Example:
      proxyctl rollback web
      proxyctl rollback web --to web-3 --gradual
    """
    steps = plan.gradual() if gradual else plan.at_once()

    def order(known: ServiceState, signed: Signed) -> ev.Event:
        if known.rollout is not None:
            return orders.abort(known, Outcome.ROLLED_BACK, signed)
        target = orders.warm(known) if to is None else orders.named(known, to)
        return _open_at(known, Kind.ROLLBACK, target, steps, signed)

    if to is not None and isinstance(orders.named(_looked_at(project, service), to), Release):
        from proxyctl.cli.releases import start_retained

        start_retained(project, service, to, steps, reason, output)
        return
    steer(project, service, "rollback", reason, order, output)


@click.command()
@click.argument("service", type=SERVICE)
@reason_option
@project_options
@output_options
def abort(service: str, reason: str, project: ProjectOptions, output: Output) -> None:
    """Stop the running rollout: traffic goes to the safe side, the candidate is drained and removed.

    Where none runs nothing is done, and that is said.

    \b
    Example:
      proxyctl abort web --reason "wrong branch"
    """

    def order(known: ServiceState, signed: Signed) -> ev.Event:
        return orders.abort(known, Outcome.ABORTED, signed)

    if (known := _looked_at(project, service)).rollout is None:
        say(f"nothing to abort: no rollout of {service} runs", output.quiet)
        _tell(known, output)
        return
    steer(project, service, "abort", reason, order, output)


@click.command()
@click.argument("service", type=SERVICE, required=False)
@project_options
@output_options
def recover(service: str | None, project: ProjectOptions, output: Output) -> None:
    """Finish or undo what a crash left, and gate again what the engine restarted; repeating it changes nothing.

    \b
    Example:
      proxyctl recover
    """

    async def work(shop: Workshop) -> list[tuple[ServiceState, list[str]]]:
        names = [known_service(shop, service)] if service else shop.known_services()
        found, refused = [], list[ProxyctlError]()
        try:
            if generation := await shop.mend_generation():
                say(f"nginx: what somebody changed was published anew, as generation {generation}", output.quiet)
        except ProxyctlError as error:
            refused.append(error)
        for name in names:  # one that cannot be mended hinders no other
            try:
                known = await recovered(shop, name)
                found.append((known, await _down(shop, known)))
            except Locked as error:
                if service:
                    raise
                say(f"left to its driver: {error}", output.quiet)
            except ProxyctlError as error:
                refused.append(error)
        for other in refused[1:]:
            say(f"error: {other}")
        if refused:
            raise refused[0]
        return found

    mended = _with_workshop(project, work)
    states = [known for known, _ in mended]
    for known, down in mended:
        say(orders.serving(known), output.quiet)
        for words in down:
            say(words, output.quiet)
        if isinstance(decide(known), do.Vet):
            say(f"gated again, for the engine restarted it: proxyctl status {known.service}", output.quiet)
    if output.as_json:
        print_json([result(known) for known in states])
    _raise_if_degraded(states)


async def recovered(shop: Workshop, service: ServiceName) -> ServiceState:
    """Mended; what the engine restarted is left to a guard. A guard has the lock for a moment only: whoever has it for
    longer drives the service. Raises Locked."""
    strayed = await those_astray(shop, service)
    deadline = shop.clock.now() + 2.0
    while True:
        try:
            state = await shop.steering.recover(service)
            if strayed:
                await _tell_who_is_back(shop, service, strayed)
            return state
        except Locked:
            if shop.clock.now() > deadline:
                raise
            await shop.clock.sleep(0.05)


async def those_astray(shop: Workshop, service: ServiceName) -> list[str]:
    """Replicas that somebody moved to other addresses; nothing where the engine does not say."""
    with suppress(DockerUnavailable):
        return await astray(shop.inspector, shop.store.load(service))
    return []


async def _tell_who_is_back(shop: Workshop, service: ServiceName, strayed: list[str]) -> None:
    """Once it is seen."""
    with suppress(DockerUnavailable):
        left = await astray(shop.inspector, shop.store.load(service))
        if back := [name for name in strayed if name not in left]:
            say(f"back at their addresses, from which somebody moved them: {', '.join(back)}")


async def _down(shop: Workshop, known: ServiceState) -> list[str]:
    """Of each replica of the live release that Docker did not bring back, what to do; nothing where it does not say."""
    if known.live is None:
        return []
    with suppress(DockerUnavailable):
        seen = await shop.inspector.inspect([replica.name for replica in known.live.replicas])
        cures = {Life.EXITED: "docker start {}, or ", Life.ABSENT: ""}
        return [
            f"{one.name} is {one.life}: {cures[one.life].format(one.name)}proxyctl deploy {known.service}"
            for one in seen
            if one.life in cures
        ]
    return []


# --- how they are carried out -----------------------------------------------------------------------------------


def steer(
    project: ProjectOptions,
    service: str,
    verb: str,
    reason: str,
    order: Callable[[ServiceState, Signed], ev.Event],
    output: Output,
) -> None:
    async def work(shop: Workshop) -> ServiceState:
        if verb not in WAYS_BACK:
            refuse_while_frozen(shop)
        signed = Signed(actor=actor(), reason=reason, wall=shop.clock.wall(), now=moment(shop.clock))
        name = known_service(shop, service)
        before = shop.store.last_seq()
        known = await shop.steering.steer(name, lambda known: order(known, signed), verb)
        _raise_if_degraded([known])
        raise_if_it_failed(shop, known, before, verb)
        _say_if_unseen(shop, known, before, output)
        if known.phase in (Phase.STARTING, Phase.GATING):
            return await _started_first(shop, known, before, output)
        return known

    _tell(_with_workshop(project, work), output)


async def _started_first(shop: Workshop, known: ServiceState, after: int, output: Output) -> ServiceState:
    """What stood warm does not any more, and a driver starts and gates it: the order is carried out once that is done.
    Raises what it failed of."""
    from proxyctl.cli.progress import follow  # a warm release needs none of it

    rollout = rollout_of(known)
    say(f"{rollout.release} is started and gated first; until then no traffic moves", output.quiet)
    return await follow(shop, known.service, rollout.id, after, output.quiet)


def _tell(known: ServiceState, output: Output) -> None:
    if output.as_json:
        print_json(result(known))
    else:
        say(f"live: {orders.serving(known)}", output.quiet)
        if known.rollout is not None:
            say(f"{known.rollout.id} {_what_follows(known)}", output.quiet)


def _what_follows(known: ServiceState) -> str:
    if asked := orders.asked_of_you(known):
        return f"waits for you: {asked}"
    on_its_way = "is taken back" if known.phase is Phase.ABORTING else "goes on"
    return f"{on_its_way} in the background: proxyctl status {known.service} --watch"


def _with_workshop(project: ProjectOptions, work: Callable[[Workshop], Awaitable[T]]) -> T:
    async def run() -> T:
        async with workshop(*project) as shop:
            return await work(shop)

    return asyncio.run(run())


def refuse_while_frozen(shop: Workshop) -> None:
    """No rollout starts, nor is led on by hand. Raises Conflict."""
    if frozen := shop.freeze.read():
        raise Conflict(
            f"project {shop.name} is frozen by {frozen.actor}{': ' + frozen.reason if frozen.reason else ''}",
            serving="unchanged by this command",
            next_step="proxyctl thaw, when it may go on; abort and rollback work all the same",
        )


def known_service(shop: Workshop, service: str) -> ServiceName:
    known = shop.known_services()
    if service in known:
        return ServiceName(service)

    raise Conflict(
        f"{service!r} was never deployed in project {shop.name}; deployed: {', '.join(known) or 'none yet'}",
        next_step=_instead_of(service, known, shop),
    )


def _instead_of(service: str, known: list[ServiceName], shop: Workshop) -> str:
    from difflib import get_close_matches  # this, and the file, only a mistake pays for

    if near := get_close_matches(service, known, n=1):
        return f"repeat it with {near[0]}"
    with suppress(ProxyctlError):  # the file is not asked about itself
        written = [one.name for one in shop.config.services]
        if near := get_close_matches(service, written, n=1):
            return f"proxyctl deploy {near[0]}"
        return f"name one of {shop.file}: {', '.join(written)}"
    return "proxyctl check"


def _open_at(
    known: ServiceState, kind: Kind, target: Placement | Release, steps: plan.Plan, signed: Signed
) -> ev.Event:
    if isinstance(target, Release):
        raise Conflict(
            f"{target.id} is not warm",
            serving=orders.serving(known),
            next_step=f"proxyctl rollback {known.service} --to {target.id} starts and gates it again",
        )
    if target == known.live:
        raise Conflict(f"{target.release.id} is live already", serving=orders.serving(known))
    return orders.open_warm(known, kind, steps, target, signed)


def _bake(target: Placement | Release) -> Seconds:
    return target.release.service.bake if isinstance(target, Placement) else 0.0


def _looked_at(project: ProjectOptions, service: str) -> ServiceState:
    async def look(shop: Workshop) -> ServiceState:
        return shop.store.load(known_service(shop, service))

    return _with_workshop(project, look)


def raise_if_it_failed(shop: Workshop, known: ServiceState, before: int, verb: str) -> None:
    """An order that ended on the safe side instead of where it should is a failure, with its reason."""
    opened = ""
    for entry in shop.store.entries(known.service, after=before):
        match entry.event:
            case ev.RolloutOpened():
                opened = entry.rollout
            case ev.Interrupted(reason=reason) if entry.rollout == opened:  # and not what a crash left before
                raise RolloutFailed(
                    f"{verb} did not come true: {reason}",
                    serving=orders.serving(known),
                    next_step=f"proxyctl recover {known.service}, which puts it back",
                )
            case ev.GateFailed(reason=reason):
                raise GateFailed(
                    reason,
                    serving=orders.serving(known),
                    next_step=f"proxyctl logs {known.service}, or deploy another release",
                )
            case ev.StepFailed(reason=reason, detail=detail):
                raise RolloutFailed(
                    f"{verb} did not come true: {reason}",
                    serving=orders.serving(known),
                    detail=detail,
                    next_step=f"proxyctl status {known.service} --watch, until it is taken back",
                )


def _say_if_unseen(shop: Workshop, known: ServiceState, before: int, output: Output) -> None:
    """The engine did not say what runs: the probes alone vouch for where traffic is now."""
    for entry in shop.store.entries(known.service, after=before):
        match entry.event:
            case ev.ReplicasStarted(unseen=why) if why:
                say(sentence(entry.event), output.quiet)


def _raise_if_degraded(states: list[ServiceState]) -> None:
    for known in states:
        if known.phase is Phase.DEGRADED:
            raise orders.degraded(known)


def _names(placed: Placement | None, wanted: str) -> bool:
    return placed is not None and wanted in (placed.release.id, placed.colour)


def result(known: ServiceState) -> dict[str, Any]:
    """What every command that steers or rolls out prints with --json."""
    return {
        "service": known.service,
        "phase": known.phase.value,
        "serving": orders.serving(known),
        "split": {c.value: known.split.percent(c) if known.split else 0.0 for c in Colour},
        "live": known.live.release.id if known.live else None,
        "candidate": known.candidate.release.id if known.candidate else None,
        "rollout": known.rollout.id if known.rollout else None,
    }
