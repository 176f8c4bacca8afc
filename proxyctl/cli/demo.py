"""demo: the whole story on this machine in a minute, with the commands that a user would type, under load."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time

import click

from proxyctl.cli.options import say
from proxyctl.demo.load import Load, Model
from proxyctl.demo.stage import Stage, stage
from proxyctl.errors import NginxUnavailable, ProxyctlError, Unavailable

CLIENTS = 8


class WentWrong(ProxyctlError):
    """The demo did not go as its story says."""

    slug = "demo-failed"


@click.command()
def demo() -> None:
    """The whole story on this machine in a minute: two releases of a real application in real containers behind a real
    nginx; switched under load, rolled back, a sick release refused, one that dies later rolled back by itself.

    \b
    Example:
      proxyctl demo
    """
    if shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
        raise NginxUnavailable("the demo needs nginx on this machine", next_step="apt-get install nginx-light")
    asyncio.run(_story())


async def _story() -> None:
    began = time.monotonic()
    _title("Releases of a small application, images made here without any registry")
    await _build_images()
    async with stage(bake="6s") as scene:
        _title("First deploy: gated before anybody gets to it")
        await _run(scene, "deploy", "web", exits=0)
        async with Load("127.0.0.1", scene.port, Model.KEEPALIVE, CLIENTS) as load:
            _title(f"The second release, under load of {CLIENTS} clients")
            await _run(scene, "deploy", "web", "--image", "proxyctl-demo:2", exits=0)
            _figures(load)
            _title("Back, and forth again, in an instant: no reload, nothing started")
            await _run(scene, "rollback", "web", exits=0)
            await _run(scene, "rollback", "web", exits=0)
            _figures(load)
            _title("A sick release is refused; the live one keeps all traffic")
            await _run(scene, "deploy", "web", "--image", "proxyctl-demo:sick", exits=5)
            _figures(load)
            _title("A release that dies four seconds after its start: traffic goes back by itself")
            await _run(scene, "deploy", "web", "--image", "proxyctl-demo:dies", exits=5)
            _figures(load)
        _title("What happened, and what serves now")
        await _run(scene, "history", exits=0)
        await _run(scene, "status", exits=0)
    if load.failed():
        raise WentWrong(f"{len(load.failed())} requests failed", detail=str(load.failed()[:5]))
    say(f"\n{len(load.outcomes)} requests, 0 failed, {time.monotonic() - began:.0f} seconds. Nothing is left running.")


def _title(text: str) -> None:
    click.secho(f"\n== {text}", bold=True, err=True)


def _figures(load: Load) -> None:
    say(f"   load so far: {len(load.outcomes)} requests, {len(load.failed())} failed")


async def _build_images() -> None:
    import docker
    from docker.errors import DockerException

    from proxyctl.demo.images import build_all

    try:
        built = await asyncio.to_thread(lambda: build_all(docker.from_env()))
    except DockerException as error:
        raise Unavailable(
            "the demo needs a Docker engine that answers", detail=str(error), next_step="docker version"
        ) from error
    say(f"   {', '.join(built.values())}")


async def _run(scene: Stage, *words: str, exits: int) -> None:
    """Type a command, show what it says, and hold it to its exit code."""
    click.secho(f"$ proxyctl {' '.join(words)}", fg="cyan", err=True)
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "proxyctl", *words, *scene.options)
    code = await process.wait()
    say(f"   exit code {code} after {time.monotonic() - began:.2f} s")
    if code != exits:
        raise WentWrong(f"proxyctl {' '.join(words)} ended with {code} instead of {exits}")
