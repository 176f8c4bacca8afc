"""A plan: the frozen list of steps of one rollout. Pure. Start at of()."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from proxyctl.domain.model import Service
from proxyctl.domain.record import Record
from proxyctl.domain.rolling import between
from proxyctl.domain.split import WHOLE
from proxyctl.domain.steps import Analysis, Approval, Bake, Grow, Hook, Lookout, Pause, Shrink, Step, Weight
from proxyctl.domain.units import Seconds, lasting

Plan = tuple[Step, ...]


def of(service: Service, live: Service | None) -> Plan:
    """What a deploy of this service goes by. The first release has nobody to be compared with, nor to share with."""
    if service.rolling is not None and live is not None:
        return between(service.rolling, live.replicas, service.replicas)
    before = service.steps if live is not None else ()
    holdback = service.analysis.holdback if service.analysis and live is not None else 0
    if holdback and service.bake:
        return (*before, Weight(share=WHOLE - holdback), *_bake(service.bake), *at_once())
    return (*before, *(() if _all(before) else at_once()), *_bake(service.bake))


def _all(plan: Plan) -> bool:
    """Whether the candidate ends with all traffic by these steps."""
    return any(isinstance(step, Weight) and step.share == WHOLE for step in plan)


def blue_green(bake: Seconds) -> Plan:
    """All traffic at once, then watched."""
    return (*at_once(), *_bake(bake))


def at_once() -> Plan:
    """All traffic at once, and that is all."""
    return (Weight(share=WHOLE),)


def gradual() -> Plan:
    """The way back to a release that is cold: its caches fill while it has little traffic."""
    return (*(Weight(share=share, dwell=30.0) for share in (1000, 2500, 5000)), *at_once())


def hold(then: Plan) -> Plan:
    """Gated and warm, no traffic until told; then on by these steps."""
    return (Pause(), *then)


def at(share: int, then: Plan) -> Plan:
    """This share, and there until told; then on by those steps of `then` that give more. No hook, approval or bake is
    left out."""
    return (Weight(share=share), Pause(), *_beyond(share, then))


def to_come(plan: Plan, cursor: int, share: int) -> Plan:
    """What is left of it for a candidate that is given this share. A stay at more comes again as a whole, unless it
    only waited for the person who chooses the share now."""
    if plan[cursor : cursor + 1] == (Pause(),):
        return plan[cursor:]
    more = (at for at, step in enumerate(plan[: cursor + 1]) if isinstance(step, Weight) and step.share > share)
    return plan[max(more, default=cursor) :]


def _beyond(share: int, plan: Plan) -> Iterator[Step]:
    more = False
    for step in plan:
        match step:
            case Weight(share=given):
                more = given > share
        if more or isinstance(step, Hook | Approval | Bake):
            yield step


def _bake(window: Seconds) -> Plan:
    return (Bake(window=window),) if window else ()


def first_batch(plan: Plan) -> int | None:
    """How many replicas come first; None: all."""
    return next((step.to for step in plan if isinstance(step, Grow)), None)


def tested(plan: Plan) -> int:
    """How many of its steps have traffic of their own to be judged by. The bake has evidence of its own."""
    judged = (step for step, after in pairwise((*plan, None)) if not isinstance(after, Bake))
    return max(1, sum(isinstance(step, Weight) and 0 < step.share < WHOLE for step in judged))


def next_share(plan: Plan, cursor: int) -> int | None:
    """What the candidate gets after this step; None: there is no more to get."""
    return next((step.share for step in plan[cursor + 1 :] if isinstance(step, Weight)), None)


class Stage(Record):
    """One stay at a share: from a move of traffic to the next."""

    number: int  # of the step that it begins with, from 1, as `status` counts
    share: int  # of the candidate, hundredths of a percent
    next_share: int | None
    window: Seconds  # at least, by the clock
    analysed: bool = False  # and then until the analysis passes
    bakes: bool = False


def stages(plan: Plan) -> Iterator[Stage]:
    """Every stay that lasts. A person, and a hook, are taken to answer at once."""
    share = 0
    for number, step in enumerate(plan, 1):
        match step:
            case Weight(share=share):
                waits = _waits(plan[number - 1 :])
                window, analysed = sum(wait or 0.0 for wait in waits), None in waits
                after = next_share(plan, number - 1)
                if window or analysed:
                    yield Stage(number=number, share=share, next_share=after, window=window, analysed=analysed)
            case Bake(window=window):
                yield Stage(number=number, share=share, next_share=None, window=window, bakes=True)


def _waits(plan: Plan) -> list[Seconds | None]:
    """How long it stays at the share of its first step, part by part; None: until the analysis passes."""
    waits = list[Seconds | None]()
    for number, step in enumerate(plan):
        match step:
            case Weight(dwell=dwell) if number == 0:
                waits.append(dwell)
            case Weight() | Bake():
                break
            case Analysis():
                waits.append(None)
            case Pause(window=window):
                waits.append(window or 0.0)
    return waits


def words(step: Step) -> str:
    """One step as `plan` and `status` print it."""
    match step:
        case Weight(share=share, dwell=dwell):
            return f"weight {share / 100:g} %{_stay(dwell)}"
        case Pause(window=None):
            return "pause until told"
        case Pause(window=window):
            return f"pause for {lasting(window or 0.0)}"
        case Analysis():
            return "until the analysis passes"
        case Approval():
            return "until it is approved"
        case Hook(name=name):
            return f"hook {name}"
        case Bake(window=window):
            return f"bake for {lasting(window)}"
        case Grow(to=to, of=of):
            return f"{to} of {of} new"
        case Shrink(to=to, of=of):
            return f"{to} of {of} old"
        case Lookout(window=window):
            return f"watch for {lasting(window)}"


def _stay(dwell: Seconds | None) -> str:
    if dwell is None:
        return " until the analysis passes"
    return f" for {lasting(dwell)}" if dwell else ""
