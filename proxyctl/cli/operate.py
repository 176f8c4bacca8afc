"""proxy and prune: operate what runs."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import click

from proxyctl.cli.options import (
    Output,
    ProjectOptions,
    json_option,
    output_options,
    print_json,
    project_options,
    project_options_beside_follow,
    say,
)
from proxyctl.cli.status import proxy_lines
from proxyctl.cli.values import whole
from proxyctl.ports import Life, ProxyStatus
from proxyctl.wiring import showroom, workshop


@click.group()
def proxy() -> None:
    """Start, stop and look at nginx itself.

    \b
    Example:
      proxyctl proxy status
    """


@proxy.command()
@project_options
@json_option
def start(project: ProjectOptions, as_json: bool) -> None:
    """Start nginx with what it served last; running already is done."""

    async def work() -> None:
        async with workshop(*project) as shop:
            await shop.mend_generation()
            async with shop.locks.publishing():
                if known := shop.proxy.topology():
                    await shop.proxy.fetch(known.settings, say)
                _show(await shop.proxy.start(), as_json)

    asyncio.run(work())


@proxy.command()
@project_options
@click.option("--yes", is_flag=True, help="Do not ask.")
def stop(project: ProjectOptions, yes: bool) -> None:
    """Stop nginx gracefully: nothing serves then."""

    async def work() -> None:
        async with workshop(*project) as shop:
            if not yes:
                click.confirm(f"All services of project {shop.name} stop being served. Go on?", abort=True)
            async with shop.locks.publishing():
                await shop.proxy.stop()

    asyncio.run(work())


@proxy.command()
@click.option("--if-running", is_flag=True, help="Do nothing where nginx does not run: for a timer.")
@project_options
@json_option
def reload(if_running: bool, project: ProjectOptions, as_json: bool) -> None:
    """Take certificates, passwords and pages as their files are now. nginx reloads only where one changed.

    Files that are not sound stay as they are in force, and are named. `setup` has systemd do this every hour.

    \b
    Example:
      proxyctl proxy reload
      certbot renew --deploy-hook "proxyctl proxy reload --file /srv/shop/proxyctl.yml"
    """

    async def work() -> None:
        async with workshop(*project) as shop:
            if not if_running or (await shop.proxy.status()).pid:
                await shop.mend_generation()
                async with shop.locks.publishing():
                    await shop.proxy.reload(shop.store.claim_generation)
            _show(await shop.proxy.status(), as_json)

    asyncio.run(work())


@proxy.command()
@project_options
@json_option
def upgrade(project: ProjectOptions, as_json: bool) -> None:
    """Have the nginx that is installed now take over from the one that runs. No request is lost.

    After its package was upgraded; with mode: container, after proxy.image was changed or its tag pulled anew. Where it
    fails, the one that ran serves on.

    \b
    Example:
      apt-get install nginx-light && proxyctl proxy upgrade
      docker pull nginx:stable && proxyctl proxy upgrade
    """

    async def work() -> None:
        async with workshop(*project) as shop, shop.locks.publishing():
            await shop.proxy.upgrade(shop.config.settings, shop.store.claim_generation, say)
            _show(await shop.proxy.status(), as_json)

    asyncio.run(work())


@proxy.command()
@click.option("--now", is_flag=True, help="Whatever their size.")
@project_options
@json_option
def rotate(now: bool, project: ProjectOptions, as_json: bool) -> None:
    """Begin nginx's logs anew when they are larger than proxy.log_size; five old ones are kept, no line is lost.

    `setup` has systemd do this every hour.

    \b
    Example:
      proxyctl proxy rotate
    """

    async def work() -> list[str]:
        async with workshop(*project) as shop, shop.locks.publishing():
            return await shop.proxy.rotate_logs(0 if now else shop.config.settings.log_size)

    rotated = asyncio.run(work())
    if as_json:
        print_json({"rotated": rotated})
    else:
        say(f"begun anew: {', '.join(rotated)}" if rotated else "no log is large enough")


@proxy.command(name="logs")
@click.option("--access", is_flag=True, help="The access log; else what nginx says of itself.")
@click.option("-n", "--tail", default=100, type=whole(0, 100_000), help="Lines from the end.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on.")
@project_options_beside_follow
def proxy_logs(access: bool, tail: int, follow: bool, project: ProjectOptions) -> None:
    """Lines of nginx's own logs.

    \b
    Example:
      proxyctl proxy logs
      proxyctl proxy logs --access --follow
    """

    async def log() -> Path:
        async with showroom(*project) as shop:
            return shop.places.access_log if access else shop.places.error_log

    # By name, so that a log that begins anew is followed on; and this process is not in the way.
    os.execvp("tail", ["tail", "-n", str(tail), *(["-F"] if follow else []), str(asyncio.run(log()))])


@proxy.command(name="status")
@project_options
@json_option
def proxy_status(project: ProjectOptions, as_json: bool) -> None:
    """Which nginx, which generation is observed, how many old workers drain."""

    async def work() -> None:
        async with showroom(*project) as shop:
            _show(await shop.proxy.status(), as_json)

    asyncio.run(work())


def _show(status: ProxyStatus, as_json: bool) -> None:
    if as_json:
        print_json({**status.__dict__, "state": status.state.value, "certificates": dict(status.certificates)})
        return
    click.echo(
        f"nginx {status.version} {status.state}, pid {status.pid or '-'}, generation {status.generation or '-'}"
        f" (observed {status.observed or '-'}), {status.draining} old workers draining"
    )
    for line in proxy_lines(status, time.time()):
        click.echo(line)


@click.command()
@click.option("--yes", is_flag=True, help="Remove; without it the list is only shown.")
@project_options
@output_options
def prune(yes: bool, project: ProjectOptions, output: Output) -> None:
    """Remove containers of this project that belong to no release in a slot.

    \b
    Example:
      proxyctl prune
      proxyctl prune --yes
    """

    async def work() -> None:
        async with workshop(*project) as shop:
            placed = set()
            for name in shop.known_services():
                known = shop.store.load(name)
                for standing in (known.blue, known.green, known.arriving):
                    placed |= (
                        {replica.name for replica in (*standing.replicas, *standing.absent)} if standing else set()
                    )
            orphans = [s.name for s in await shop.runtime.owned() if s.name not in placed and s.life is not Life.ABSENT]
            for orphan in orphans:
                if yes:
                    await shop.runtime.stop(orphan, 10.0)
                say(f"{'removed' if yes else 'would remove'} {orphan}", output.quiet)
            if output.as_json:
                print_json({"removed" if yes else "orphans": orphans})
            elif not orphans:
                say("nothing to remove", output.quiet)

    asyncio.run(work())
