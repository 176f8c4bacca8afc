"""promote, pause, resume, approve, deny: lead a rollout that runs."""

from __future__ import annotations

import click

from proxyctl.cli.options import Output, ProjectOptions, output_options, project_options, reason_option
from proxyctl.cli.traffic import steer
from proxyctl.cli.values import SERVICE
from proxyctl.domain import events as ev
from proxyctl.domain import orders
from proxyctl.domain.orders import Signed
from proxyctl.domain.state import ServiceState


@click.command()
@click.argument("service", type=SERVICE)
@click.option("--full", is_flag=True, help="All traffic at once, and no wait is left: no step, no analysis, no bake.")
@reason_option
@project_options
@output_options
def promote(service: str, full: bool, reason: str, project: ProjectOptions, output: Output) -> None:
    """End the wait of the present step: the rollout goes on with the next one.

    In the bake, which is the last, it promotes.

    \b
    Example:
      proxyctl promote web
      proxyctl promote web --full --reason "hotfix"
    """

    def order(known: ServiceState, signed: Signed) -> ev.Event:
        return orders.promote_fully(known, signed) if full else orders.promote(known, signed)

    steer(project, service, "promote", reason, order, output)


@click.command()
@click.argument("service", type=SERVICE)
@reason_option
@project_options
@output_options
def pause(service: str, reason: str, project: ProjectOptions, output: Output) -> None:
    """Stop where the rollout is until `resume`. A candidate that fails is taken back all the same.

    \b
    Example:
      proxyctl pause web --reason "looking at the graphs"
    """
    steer(project, service, "pause", reason, orders.pause, output)


@click.command()
@click.argument("service", type=SERVICE)
@reason_option
@project_options
@output_options
def resume(service: str, reason: str, project: ProjectOptions, output: Output) -> None:
    """Go on: the wait has the time that it had left. An analysis that was held begins anew.

    \b
    Example:
      proxyctl resume web
    """
    steer(project, service, "resume", reason, orders.resume, output)


@click.command()
@click.argument("service", type=SERVICE)
@reason_option
@project_options
@output_options
def approve(service: str, reason: str, project: ProjectOptions, output: Output) -> None:
    """Say yes to a rollout that waits for it.

    \b
    Example:
      proxyctl approve web --reason "checked the invoices"
    """
    steer(project, service, "approve", reason, orders.approve, output)


@click.command()
@click.argument("service", type=SERVICE)
@reason_option
@project_options
@output_options
def deny(service: str, reason: str, project: ProjectOptions, output: Output) -> None:
    """Say no: traffic goes back to the live release, and the candidate is removed.

    \b
    Example:
      proxyctl deny web --reason "the totals are wrong"
    """
    steer(project, service, "deny", reason, orders.deny, output)
