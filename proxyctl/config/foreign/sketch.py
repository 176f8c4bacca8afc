"""A service of somebody else's file in our own words, and the text that says it in a `proxyctl.yml`. Pure.

What the file does not say is written as a comment to be filled in. Start at Sketch, and at text_of() to write it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from proxyctl.config import grammar
from proxyctl.config.document import Doubtful, Value, resolved

FILL_IN = "FILL IN"
LONGEST_WAIT = ("1s", "168h")  # of a step

_BARE = re.compile(r"[A-Za-z0-9./][A-Za-z0-9._/%-]*(?::[A-Za-z0-9._/-]+)?", re.ASCII)
_UNITS = ((3600, "h"), (60, "m"), (1, "s"))


class Step(NamedTuple):
    value: Value  # as in a list of steps; None is a step that only a comment stands for
    why: str


@dataclass(kw_only=True)
class Rollout:
    """How a release comes to its traffic, gathered as the file is read."""

    steps: list[Step] = field(default_factory=list)
    match: list[dict[str, Value]] = field(default_factory=list)
    mirror: dict[str, Value] = field(default_factory=dict)
    analysis: dict[str, Value] | str = field(default_factory=dict)
    sticky: bool = False
    manual: bool = False  # of blue-green
    notes: list[str] = field(default_factory=list)  # comments, with what is to be filled in

    @property
    def is_canary(self) -> bool:
        return bool(self.match or self.mirror or any(step.value is not None for step in self.steps))


@dataclass(kw_only=True)
class Sketch:
    """None is what the file does not say."""

    name: str
    origin: str  # `Rollout guestbook, rollout.yml:1`
    container: dict[str, Value] = field(default_factory=dict)
    port: int | None = None
    replicas: int | None = None
    hosts: list[str] = field(default_factory=list)
    health: dict[str, Value] = field(default_factory=dict)
    rollout: Rollout = field(default_factory=Rollout)
    bake: str | None = None
    standby: str | None = None
    timeouts: dict[str, Value] = field(default_factory=dict)


def taken(read: Callable[[Any], Any], value: Value) -> bool:
    """Whether our own file takes this value by that grammar."""
    try:
        read(value)
    except ValueError:
        return False
    return True


def lasting(seconds: float) -> str:
    """In the largest unit in which it is a whole number."""
    for size, unit in _UNITS:
        if seconds and seconds % size == 0:
            return f"{int(seconds) // size}{unit}"
    return f"{round(seconds * 1000)}ms" if seconds else "0s"


def within(seconds: float, least: str, most: str) -> str:
    """The duration, or the bound of ours that is nearest to it."""
    low, high = (grammar.compose_duration(least), grammar.duration("0s", "8760h")(most))
    return lasting(min(max(seconds, low), high))


def text_of(sketch: Sketch, alone: bool) -> str:
    """What stands under `services`. Two services cannot both catch all hosts, so only one alone may go without."""
    return "\n".join(f"  {line}" if line else "" for line in _service(sketch, alone)) + "\n"


def _service(sketch: Sketch, alone: bool) -> Iterator[str]:
    yield f"# {sketch.origin}"
    yield f"{sketch.name}:"
    for line in (*_container(sketch), *_port(sketch), *_hosts(sketch, alone), *_health(sketch)):
        yield f"  {line}"
    for line in (*_strategy(sketch.rollout), *_rest(sketch)):
        yield f"  {line}"


def _container(sketch: Sketch) -> Iterator[str]:
    if "image" in sketch.container:
        yield f"container: {flow(sketch.container)}"
        return
    if sketch.container:
        yield f"container: {flow(sketch.container)}  # {FILL_IN}: its image"
    else:
        yield f'# {FILL_IN}: container: {{image: "shop/web:1.4"}}'


def _port(sketch: Sketch) -> Iterator[str]:
    if sketch.port is not None:
        yield f"port: {sketch.port}  # where a replica listens"
    else:
        yield f"# {FILL_IN}: port: 8000  # where a replica listens"
    if sketch.replicas is not None:
        yield f"replicas: {sketch.replicas}"


def _hosts(sketch: Sketch, alone: bool) -> Iterator[str]:
    if sketch.hosts:
        yield f"hosts: {flow(list(sketch.hosts))}"
    elif alone:
        yield f"# hosts: [{sketch.name}.example.com]  # left out: this service catches all hosts"
    else:
        yield f"hosts: [{sketch.name}.example.com]  # {FILL_IN}: the hosts that clients ask for"


def _health(sketch: Sketch) -> Iterator[str]:
    if sketch.health.keys() - {"deadline"}:
        yield f"health: {flow(sketch.health)}"
    elif sketch.port is not None:
        yield f"health: {flow({'tcp': True} | sketch.health)}  # {FILL_IN}: better {{path: /healthz}}"
    else:
        yield f"# {FILL_IN}: health: {flow({'path': '/healthz'} | sketch.health)}"


def _strategy(rollout: Rollout) -> Iterator[str]:
    body = list(_canary(rollout) if rollout.is_canary else _blue_green(rollout))
    kind = "canary" if rollout.is_canary else "blue-green"
    notes = [f"# {note}" for note in rollout.notes]
    if not body:
        yield from (f"strategy: {kind}", *notes)
        return
    yield from ("strategy:", *(f"  {note}" for note in notes), f"  {kind}:")
    yield from (f"    {line}" for line in body)


def _canary(rollout: Rollout) -> Iterator[str]:
    yield "steps:"
    for step in rollout.steps:
        yield f"  # {step.why}" if step.value is None else f"  - {flow(step.value)}  # {step.why}"
    if all(step.value is None for step in rollout.steps):
        yield "  - {weight: 100}"
    if rollout.sticky:
        yield "sticky: cookie"
    if rollout.match:
        yield "match:"
        yield from (f"  - {flow(rule)}" for rule in rollout.match)
    if rollout.mirror:
        yield f"mirror: {flow(rollout.mirror)}"
    yield from _analysis(rollout)


def _blue_green(rollout: Rollout) -> Iterator[str]:
    yield from (f"# {step.why}" for step in rollout.steps)
    if rollout.manual:
        yield "promote: manual"
    yield from _analysis(rollout)


def _analysis(rollout: Rollout) -> Iterator[str]:
    if rollout.analysis == "off":
        yield "analysis: off"
    elif rollout.analysis:
        yield f"analysis: {flow(rollout.analysis)}"


def _rest(sketch: Sketch) -> Iterator[str]:
    if sketch.bake:
        yield f"bake: {sketch.bake}  # watched after the cutover; a failure rolls back"
    if sketch.standby:
        yield f"standby: {sketch.standby}  # how long the old release stays warm for an instant rollback; else 15m"
    if sketch.timeouts:
        yield f"timeouts: {flow(sketch.timeouts)}"


def flow(value: Value | Mapping[str, Value]) -> str:
    """A value on one line of YAML, in quotes where a reader could take it for something else."""
    match value:
        case Mapping():
            return "{" + ", ".join(f"{flow(key)}: {flow(below)}" for key, below in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(flow, value)) + "]"
        case str():
            return value if _is_plain(value) else json.dumps(value)
        case float():
            return f"{value:g}"
        case _:
            return json.dumps(value)


def _is_plain(text: str) -> bool:
    read = resolved(text)
    return _BARE.fullmatch(text) is not None and read == text and not isinstance(read, Doubtful)
