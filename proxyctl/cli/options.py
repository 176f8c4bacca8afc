"""Options that many commands share, and the words that commands print."""

from __future__ import annotations

import json
import os
import pwd
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, NamedTuple, TypeVar

import click

from proxyctl.cli.values import PATH, REASON
from proxyctl.errors import Interrupted, ProxyctlError

F = TypeVar("F", bound=Callable[..., Any])


class ProjectOptions(NamedTuple):
    """Which project, as the command line says; what it leaves open the environment and the folder say."""

    file: str | None
    state: str | None

    def kept_in(self, hint: str) -> str:
        """With these in every command that it says to type: without them it would be of another project."""
        import re  # only a mistake pays for it
        import shlex

        from proxyctl.cli.main import COMMANDS

        given = (("--file", self.file), ("--state", self.state))  # -f is --follow in some
        typed = "".join(f" {option} {shlex.quote(value)}" for option, value in given if value)
        verbs = "|".join(name for name in COMMANDS if name != "init")
        return re.sub(rf"\bproxyctl (?:proxy [a-z]+|{verbs})\b", lambda found: found[0] + typed, hint)


class Output(NamedTuple):
    as_json: bool
    quiet: bool


Command = Callable[..., None]


def project_options(command: Command) -> Command:
    """`-f FILE` and `--state DIR`, given to the command as `project`."""
    return _project_options(command, "-f", "--file")


def project_options_beside_follow(command: Command) -> Command:
    """The same where `-f` means --follow."""
    return _project_options(command, "--file")


def _project_options(command: Command, *file_flags: str) -> Command:
    @click.option(*file_flags, type=PATH, metavar="FILE", help="The file. [env: PROXYCTL_FILE; proxyctl.yml]")
    @click.option("--state", type=PATH, metavar="DIR", help="State folder. [env: PROXYCTL_STATE]")
    @wraps(command)
    def packed(*arguments: Any, file: str | None, state: str | None, **options: Any) -> None:
        project = ProjectOptions(file, state)
        try:
            command(*arguments, project=project, **options)
        except ProxyctlError as error:
            error.next_step = project.kept_in(error.next_step)
            raise

    return packed


def output_options(command: Command) -> Command:
    """`--json` and `-q`, given to the command as `output`."""

    @json_option
    @click.option("-q", "--quiet", is_flag=True, help="No progress.")
    @wraps(command)
    def packed(*arguments: Any, as_json: bool, quiet: bool, **options: Any) -> None:
        command(*arguments, output=Output(as_json, quiet), **options)

    return packed


def json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")(command)


def reason_option(command: F) -> F:
    return click.option("--reason", type=REASON, default="", metavar="TEXT", help="Why; kept in the history.")(command)


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
