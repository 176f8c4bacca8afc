"""The child in which an operator's templates run: `python -I -m` this file, for overrides.py.

It reads an order from its input, gives up all that it does not need, renders, and prints the configuration, or where
and why that cannot be done. The sandbox of Jinja has been escaped before; behind it is a process without files, rights,
time or memory worth having.
"""

from __future__ import annotations

import difflib
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import jinja2.debug  # noqa: F401  (Jinja imports it at the first error, and then no file can be opened any more)
from jinja2 import FunctionLoader, TemplateError, TemplateNotFound, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from proxyctl.adapters.nginx.control import Address
from proxyctl.adapters.nginx.process.binary import Directive
from proxyctl.adapters.nginx.rendering.overrides import ENDING, REFUSED, Limits, Templates
from proxyctl.adapters.nginx.rendering.render import environment, render, templates_folder
from proxyctl.adapters.nginx.rendering.tracing import Print
from proxyctl.adapters.nginx.traffic.shares import read
from proxyctl.adapters.places import Places
from proxyctl.domain.codec import decode
from proxyctl.domain.model import Topology

NOBODY = 65534
SHADOWED = "proxyctl"  # ours go by this folder too, for a template that only adds to the one it shadows


class Unused(ValueError):
    """A template that would silently do nothing."""


def main() -> int:
    order = json.load(sys.stdin.buffer)
    ours = {path.name: path.read_text() for path in templates_folder().glob(f"*{ENDING}")}
    topology, limits = decode(Topology, order["topology"]), Limits(*order["limits"])
    places, known = Places(Path(order["places"])), frozenset(map(Directive, order["known"]))
    control = Address(*order["control"])
    used = set[str]()
    shadowed = {f"{SHADOWED}/{name}": text for name, text in ours.items()}
    loader = FunctionLoader(_source(ours | shadowed | order["templates"], used))
    templates = environment(ImmutableSandboxedEnvironment, loader, Print(order["print"]))
    shares = read(order["shares"])
    render(topology.replace(routes=()), order["number"], places, known, control)  # imports what comes late
    _confine(limits)
    try:
        text = render(topology, order["number"], places, known, control, shares, templates)
        _refuse_unused(ours, order["templates"], used)
    except Exception as error:  # whatever a template does is told to its author, never a traceback
        sys.stdout.write(_words(error, limits))
        return REFUSED
    sys.stdout.write(text)
    return 0


def _source(templates: Templates, used: set[str]) -> Callable[[str], tuple[str, str, None] | None]:
    """By name, from memory: there is no way from a template to a file."""

    def source(name: str) -> tuple[str, str, None] | None:
        used.add(name)
        return (templates[name], name, None) if name in templates else None

    return source


def _confine(limits: Limits) -> None:
    """From here on nothing can be opened, started or written but what is open already."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    for what, most in (
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_CPU, int(limits.seconds) + 1),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(what, (most, most))


def _refuse_unused(ours: Templates, theirs: Templates, used: set[str]) -> None:
    for name in sorted(set(theirs) - set(ours) - used):
        near = difflib.get_close_matches(name, ours, n=1)
        raise Unused(f"{name}: no template uses it; {f'did you mean {near[0]}?' if near else 'remove it'}")


def _words(error: Exception, limits: Limits) -> str:
    match error:
        case Unused():
            return str(error)
        case MemoryError():
            return f"{_place(error.__traceback__)}this needs more than {limits.memory >> 20} MiB"
        case TemplateSyntaxError():
            return f"{error.name}:{error.lineno}: {error.message}"
        case TemplateNotFound():
            return f"{_place(error.__traceback__)}there is no template {error.name!r}; files are not read"
        case TemplateError() | ValueError():
            return f"{_place(error.__traceback__)}{error}"
        case _:
            return f"{_place(error.__traceback__)}{type(error).__name__}: {error}"


def _place(trace: TracebackType | None) -> str:
    """The innermost line of a template."""
    place = ""
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name.endswith(ENDING):
            place = f"{name}:{trace.tb_lineno}: "
        trace = trace.tb_next
    return place


if __name__ == "__main__":
    sys.exit(main())
