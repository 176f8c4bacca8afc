"""From a topology to a configuration that nginx may see: rendered, then read back. Start at configuration().

Ours are rendered in this process; those that an operator laid over them (proxy.templates), in a confined one.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from proxyctl.adapters.nginx.control import Address
from proxyctl.adapters.nginx.names import CONFIG
from proxyctl.adapters.nginx.process.binary import Directive
from proxyctl.adapters.nginx.readback.refusals import NOWHERE, Refusal, refusals
from proxyctl.adapters.nginx.rendering.overrides import TemplateRefused, read, render_confined
from proxyctl.adapters.nginx.rendering.render import built_in, render
from proxyctl.adapters.nginx.rendering.tracing import Print, origins
from proxyctl.adapters.nginx.traffic.shares import NOBODY_SERVES, Shares
from proxyctl.adapters.places import Places
from proxyctl.domain.model import Topology

__all__ = ("ConfigurationRefused", "TemplateRefused", "configuration")


class ConfigurationRefused(ValueError):
    """What the templates wrote must not reach nginx. `refusals`: a line each, `template:line: directive: why`."""

    def __init__(self, refusals: list[str]) -> None:
        super().__init__(refusals[0])
        self.refusals = refusals


async def configuration(
    topology: Topology,
    number: int,
    places: Places,
    known: frozenset[Directive],
    control: Address,
    shares: Shares = NOBODY_SERVES,
) -> str:
    """Raises ConfigurationRefused; TemplateRefused (overrides.py) for templates that cannot be rendered; Unprintable
    (tokens.py) for a value that cannot be written."""
    folder = topology.settings.templates
    what = (topology, number, places, known, control, shares)
    draw = partial(_draw_ours, *what) if folder is None else partial(render_confined, *what, read(Path(folder)))
    text = await draw(Print.PLAIN)
    if found := refusals(text, topology, number, places, control, shares):
        raise ConfigurationRefused(_located(found, origins(text, await draw(Print.MARKED))))
    return text


async def _draw_ours(
    topology: Topology,
    number: int,
    places: Places,
    known: frozenset[Directive],
    control: Address,
    shares: Shares,
    print_: Print,
) -> str:
    return render(topology, number, places, known, control, shares, built_in(print_))


def _located(found: list[Refusal], origins: list[str]) -> list[str]:
    return [f"{_place(refusal.line, origins)}{refusal}" for refusal in found]


def _place(line: int, origins: list[str]) -> str:
    if line == NOWHERE:
        return ""
    return f"{origins[line - 1]}: " if origins else f"{CONFIG}:{line}: "
