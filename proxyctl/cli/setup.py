"""setup: bring a machine from a file to a project that serves, and serves again after a reboot."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import click

from proxyctl.cli.options import Output, ProjectOptions, output_options, print_json, project_options, reason_option, say
from proxyctl.cli.releases import (
    Asked,
    by_strategy,
    deploy_each,
    outside_windows_option,
    refuse_while_none_starts,
)
from proxyctl.cli.traffic import recovered, result
from proxyctl.domain import orders
from proxyctl.domain.model import Mode
from proxyctl.domain.state import Kind
from proxyctl.errors import Locked
from proxyctl.wiring import workshop

AT_BOOT = {
    Mode.PROCESS: "nginx starts with the machine, and its logs begin anew",
    Mode.CONTAINER: "Docker starts nginx with the machine; what a reboot interrupted is mended, and logs begin anew",
    Mode.INCLUDE: "starting your nginx is left to you; what a reboot interrupted is mended, and logs begin anew",
}


@click.command()
@click.option("--no-boot", is_flag=True, help="Write no systemd unit: something else starts nginx after a reboot.")
@outside_windows_option
@reason_option
@project_options
@output_options
def setup(no_boot: bool, outside_windows: bool, reason: str, project: ProjectOptions, output: Output) -> None:
    """Deploy every service that is not live yet, and have nginx serve again after a reboot. May be repeated.

    With mode: include nginx is yours, and so is its start.

    \b
    Example:
      proxyctl setup
      proxyctl setup --no-boot
    """

    asked = Asked(Kind.DEPLOY, by_strategy, reason, output, outside_windows)

    async def work() -> None:
        async with workshop(*project) as shop:
            if not no_boot:
                written = ", ".join(map(str, shop.start_at_boot()))
                say(f"{AT_BOOT[shop.config.settings.mode]}: {written}", output.quiet)
            known = {service.name: shop.store.load(service.name) for service in shop.config.services}
            for state in filter(lambda state: state.live, known.values()):
                say(f"live already: {orders.serving(state)}", output.quiet)
                with suppress(Locked):  # it is driven: whoever drives it mends it
                    await recovered(shop, state.service)
            missing = [service for service in shop.config.services if known[service.name].live is None]
            if missing:
                refuse_while_none_starts(shop, asked)
            await deploy_each(shop, asked, missing)
            if output.as_json:
                print_json([result(shop.store.load(name)) for name in known])

    asyncio.run(work())
