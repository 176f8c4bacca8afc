"""Options that many commands share, and the words that commands print."""

from __future__ import annotations

import json
import os
import pwd
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from proxyctl.errors import Interrupted

F = TypeVar("F", bound=Callable[..., Any])


def project_options(command: F) -> F:
    """`-f FILE` and `--state DIR`: which project."""
    command = click.option("--state", metavar="DIR", help="State folder. [env: PROXYCTL_STATE]")(command)
    return click.option("-f", "--file", metavar="FILE", help="The file. [env: PROXYCTL_FILE; proxyctl.yml]")(command)


def json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")(command)


def quiet_option(command: F) -> F:
    return click.option("-q", "--quiet", is_flag=True, help="No progress.")(command)


def reason_option(command: F) -> F:
    return click.option("--reason", default="", metavar="TEXT", help="Why; kept in the history.")(command)


@contextmanager
def leaving_quietly() -> Iterator[None]:
    """Ctrl-C is how one stops watching, so it is no error to tell of."""
    try:
        yield
    except KeyboardInterrupt:
        raise click.exceptions.Exit(Interrupted.exit_code) from None


def actor() -> str:
    """Who types: as sudo and the login say it."""
    if login := os.environ.get("SUDO_USER"):
        return login
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2 if sys.stdout.isatty() else None))


def say(text: str, quiet: bool = False) -> None:
    """Progress goes to stderr; stdout is for data."""
    if not quiet:
        click.echo(text, err=True)
