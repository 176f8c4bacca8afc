"""From a topology to a configuration that nginx may see: rendered, then read back. Start at configuration().

Ours are rendered in this process; those that an operator laid over them (proxy.templates), in a confined one.
"""

from __future__ import annotations

from functools import partial

from jinja2 import Environment, FileSystemLoader

from proxyctl.adapters.nginx.binary import Directive
from proxyctl.adapters.nginx.names import CONFIG
from proxyctl.adapters.nginx.readback import NOWHERE, Refusal, refusals
from proxyctl.adapters.nginx.render import environment, render, templates_folder
from proxyctl.adapters.nginx.tracing import Traced, origins
from proxyctl.adapters.places import Places
from proxyctl.domain.model import Topology


class ConfigurationRefused(ValueError):
    """What the templates wrote must not reach nginx. `refusals`: a line each, `template:line: directive: why`."""

    def __init__(self, refusals: list[str]) -> None:
        super().__init__(refusals[0])
        self.refusals = refusals


async def configuration(topology: Topology, number: int, places: Places, known: frozenset[Directive]) -> str:
    """Raises ConfigurationRefused, or Unprintable (tokens.py) for a value that cannot be written."""
    draw = partial(render, topology, number, places, known)
    text = draw()[CONFIG]
    if found := refusals(text, topology, number, places):
        traced = draw(environment(Environment, FileSystemLoader(templates_folder()), [Traced]))[CONFIG]
        raise ConfigurationRefused(_located(found, origins(text, traced)))
    return text


def _located(found: list[Refusal], origins: list[str]) -> list[str]:
    return [f"{_place(refusal.line, origins)}{refusal}" for refusal in found]


def _place(line: int, origins: list[str]) -> str:
    if line == NOWHERE:
        return ""
    return f"{origins[line - 1]}: " if origins else f"{CONFIG}:{line}: "
