"""SIGKILL the command and its driver at random instants of deploy, switch and rollback under load; then recover.

Seeded. Counts requests that failed, recoveries over 3 s, and states that are not at rest with one live release and no
drift afterwards. At the end a candidate is SIGKILLed in a step of a canary, and another one while it bakes.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker

from bench.arena import Row, command, report, warm_pair
from proxyctl.demo.load import Load, Model
from proxyctl.demo.stage import Stage

KILLS = 100
SEED = 20261121
DEPLOY_TAKES = 1.6  # seconds, the instant of death is drawn from
SWITCH_TAKES = 0.1
DEATHS = {
    "shifting": {"bake": "0s", "says": "strategy: {canary: {steps: [{weight: 25, for: 20s}]}}"},
    "baking": {"bake": "20s", "says": ""},
}


async def shot(scene: Stage, words: tuple[str, ...], after: float) -> None:
    """Start a command; kill it and its driver `after` seconds later."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "proxyctl",
        *words,
        *scene.options,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    await asyncio.sleep(after)
    for pid in (process.pid, driver(scene)):
        with suppress(ProcessLookupError):
            if pid:
                os.kill(pid, signal.SIGKILL)
    await process.wait()


def driver(scene: Stage) -> int:
    """The process that signed the service's lock; 0 when it is gone."""
    with suppress(OSError, ValueError, KeyError):
        pid = int(json.loads((scene.folder / "state/private/locks/web.lock").read_text())["pid"])
        return pid if b"proxyctl" in Path(f"/proc/{pid}/cmdline").read_bytes() else 0
    return 0


async def state(scene: Stage) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxyctl", "status", "--json", *scene.options, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    service: dict[str, Any] = json.loads(out)["services"][0]
    return service


async def at_rest(scene: Stage) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while (service := await state(scene))["phase"] != "idle" and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    return service


async def main() -> None:
    dice = random.Random(SEED)
    slow = violations = 0
    images = {"1": "proxyctl-demo:2", "2": "proxyctl-demo:1"}
    async with warm_pair() as scene, Load("127.0.0.1", scene.port, Model.KEEPALIVE, 4) as load:
        for kill in range(KILLS):
            kind = ("deploy", "switch", "rollback")[kill % 3]
            image = images[load.outcomes[-1].release] if load.outcomes else "proxyctl-demo:1"
            service = await at_rest(scene)
            if kind != "deploy" and not any(r["role"] == "standby" for r in service["releases"]):
                await command(scene, "deploy", "web", "--image", image)
            words = ("deploy", "web", "--image", image) if kind == "deploy" else (kind, "web")
            await shot(scene, words, dice.uniform(0.0, DEPLOY_TAKES if kind == "deploy" else SWITCH_TAKES))
            began = time.monotonic()
            await command(scene, "recover")
            slow += time.monotonic() - began > 3
            service = await at_rest(scene)
            live = [r for r in service["releases"] if r["role"] == "live"]
            if service["phase"] != "idle" or service["drift"] or len(live) != 1:
                violations += 1
                print(f"violation after kill {kill} of {kind}: {json.dumps(service)}", file=sys.stderr)
        rows = [
            {
                "kills": KILLS,
                "requests": len(load.outcomes),
                "failed": len(load.failed()),
                "recoveries over 3 s": slow,
                "violations": violations,
                "seed": SEED,
            }
        ]
    report("SIGKILL at random instants of deploy, switch and rollback", rows)
    report("The candidate SIGKILLed", [await candidate_killed(phase, **how) for phase, how in DEATHS.items()])


async def candidate_killed(phase: str, bake: str, says: str) -> Row:
    async with warm_pair(bake, says) as scene, Load("127.0.0.1", scene.port, Model.KEEPALIVE, 8) as load:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxyctl", "deploy", "web", *scene.options, stderr=asyncio.subprocess.DEVNULL
        )
        while (await state(scene))["phase"] != phase:
            await asyncio.sleep(0.1)
        await asyncio.sleep(2)  # it has its share
        client = docker.from_env()
        filters: dict[str, Any] = {"label": [f"proxyctl.project={scene.project}", "proxyctl.release=web-3"]}
        pids = [c.attrs["State"]["Pid"] for c in client.containers.list(filters=filters)]
        killed = time.monotonic()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        code = await process.wait()
        return {
            "while": phase,
            "replicas killed": len(pids),
            "requests": len(load.outcomes),
            "of the candidate": sum(outcome.release == "1" for outcome in load.outcomes),
            "failed GETs": len(load.failed()),
            "exit code": code,
            "rolled back within s": round(time.monotonic() - killed, 2),
        }


if __name__ == "__main__":
    asyncio.run(main())
