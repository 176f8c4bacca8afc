"""The command line. A command is imported when called: `rollback` does not pay for `deploy`. Start at main()."""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from proxyctl import __version__
from proxyctl.errors import ConfigRejected, ProxyctlError

# name: (module in proxyctl.cli, one line of help); help is shown without importing the command
COMMANDS = {
    "init": ("files", "Write a commented proxyctl.yml."),
    "schema": ("files", "Print the JSON Schema of proxyctl.yml."),
    "check": ("files", "Check file, templates, nginx, Docker and ports; changes nothing."),
    "plan": ("files", "Show what deploy would do."),
    "simulate": ("simulate", "Show what a rollout would have come to on a recorded log."),
    "setup": ("setup", "Deploy what is not live yet; have nginx start with the machine."),
    "deploy": ("releases", "Start a release, gate it, move traffic, bake, keep the old one warm."),
    "stage": ("releases", "Start and gate a release; no traffic."),
    "switch": ("traffic", "All traffic at once to the staged or named release."),
    "weight": ("traffic", "Give the candidate a share of traffic."),
    "promote": ("lead", "End the wait of a rollout's present step."),
    "pause": ("lead", "Stop a rollout where it is, until resumed."),
    "resume": ("lead", "Go on with a paused or held rollout."),
    "approve": ("lead", "Say yes to a rollout that waits for it."),
    "deny": ("lead", "Say no to it: the candidate is taken back."),
    "retry": ("releases", "Start the last release again that was not promoted."),
    "abort": ("traffic", "Stop a rollout and go to the safe side."),
    "rollback": ("traffic", "Back to the standby, instantly, or to a retained release."),
    "freeze": ("freezing", "No rollout starts until thawed, nor is one led on by hand."),
    "thaw": ("freezing", "End a freeze."),
    "recover": ("traffic", "Finish or undo what a crash left."),
    "status": ("status", "The live truth, with drift flagged."),
    "history": ("past", "Past rollouts."),
    "events": ("past", "Every journaled step."),
    "logs": ("past", "Output of a service's containers."),
    "prune": ("operate", "Remove what belongs to nothing any more."),
    "proxy": ("operate", "Start, stop and look at nginx."),
    "demo": ("demo", "The whole story on this machine in a minute."),
    "completion": ("files", "Print the shell completion script."),
}
LONGEST_REFUSAL = 300  # characters
HIDDEN = {"_drive": "detached", "_guard": "detached"}


class LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS[cmd_name][0] if cmd_name in COMMANDS else HIDDEN.get(cmd_name)
        if module is None:
            return None
        with nothing_collected():
            commands = importlib.import_module(f"proxyctl.cli.{module}")
        command: click.Command = getattr(commands, cmd_name.lstrip("_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if args and (near := _nearest(args[0])):
                raise click.UsageError(f"No such command {args[0]!r}. Did you mean {near!r}?", ctx) from error
            raise


@contextmanager
def nothing_collected() -> Iterator[None]:
    """What an import makes stays for ever: to look for garbage in it would cost a rollback a fourth of its imports."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _nearest(word: str) -> str:
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, COMMANDS, n=1)), "")


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="proxyctl")
def group() -> None:
    """Progressive delivery for nginx and Docker, without Kubernetes.

    Start the next release beside the live one, prove it healthy, move traffic in one atomic act, watch it, and put
    traffic back by itself when it fails.

    \b
    Example:
      proxyctl deploy web --image shop/web:1.5
      proxyctl rollback web
    """


def main() -> NoReturn:
    """Run a command; every way out has the exit code of the contract."""
    as_json = "--json" in sys.argv
    try:
        code = group.main(standalone_mode=False)  # a command returns None; --help, --version and Exit return a number
    except (click.Abort, KeyboardInterrupt):
        print_error("interrupted", "", "", "", as_json, "interrupted")
        leave(130)
    except click.ClickException as error:
        report_usage(error)
        leave(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        leave(141)
    except ProxyctlError as error:
        report(error, as_json)
        leave(error.exit_code)
    except Exception as error:
        report_bug(error, as_json)
        leave(ProxyctlError.exit_code)
    leave(code or 0)


def leave(code: int) -> NoReturn:
    """Without the interpreter's tidying up, which costs a rollback a tenth of its time; all files are closed."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def report(error: ProxyctlError, as_json: bool) -> None:
    detail = "\n".join(error.problems) if isinstance(error, ConfigRejected) else error.detail
    print_error(str(error), error.serving, error.next_step, detail, as_json, error.slug)


def report_usage(error: click.ClickException) -> None:
    """In click's form; what was typed is repeated only as far as a terminal can show it."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return
    if isinstance(error, click.UsageError) and error.ctx is not None:
        click.echo(f"{error.ctx.get_usage()}\nTry '{error.ctx.command_path} --help' for help.\n", err=True)
    said = printable(error.format_message())
    click.echo(f"Error: {said if len(said) <= LONGEST_REFUSAL else said[:LONGEST_REFUSAL] + '...'}", err=True)


def report_bug(error: Exception, as_json: bool) -> None:
    """Where it happened stands above the usual lines: whoever mends it needs both."""
    from traceback import print_exc

    print_exc()
    print_error(
        f"a bug in proxyctl {__version__}: {type(error).__name__}: {error}",
        "what served before, unless the lines above say otherwise",
        "proxyctl status, then proxyctl recover; please report the lines above",
        "",
        as_json,
        ProxyctlError.slug,
    )


def print_error(what: str, serving: str, next_step: str, detail: str, as_json: bool, slug: str) -> None:
    """What happened, what serves now, what to type next."""
    if as_json:
        fields: dict[str, Any] = {"error": slug, "what": what, "serving": serving, "next": next_step, "detail": detail}
        click.echo(json.dumps(fields))
    click.echo(f"error: {printable(what)}", err=True)
    for line in detail.splitlines():
        click.echo(f"  | {printable(line)}", err=True)
    if serving:
        click.echo(f"  serving: {printable(serving)}", err=True)
    if next_step:
        click.echo(f"  next:    {printable(next_step)}", err=True)


def printable(text: str) -> str:
    """Text of others, without the control characters that could move a terminal's cursor."""
    return "".join(c if c.isprintable() or c == "\t" else f"\\x{ord(c):02x}" for c in text)
