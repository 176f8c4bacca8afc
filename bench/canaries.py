"""Canaries by nginx's log, live: real nginx and containers, 200 requests a second of 100 clients, 0.5 % base errors on
both sides. Good ones are to be promoted; ones with 5 or 20 % more errors, or twice as slow, are to be taken back.

Prints what each came to, after how many seconds of its first traffic, and how many bad answers clients saw.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import docker

from bench.arena import report
from proxyctl.demo.images import build_all
from proxyctl.demo.load import Load, Model
from proxyctl.demo.stage import Stage, stage

GOOD = 10
BASE = {"ERROR_RATE": "0.005", "DELAY_MS": "20"}
CASES = {
    "5 % worse": {"ERROR_RATE": "0.055"},
    "20 % worse": {"ERROR_RATE": "0.205"},
    "twice as slow": {"DELAY_MS": "40"},
}
CANARY = "{canary: {steps: [{weight: 10}, {weight: 50}], analysis: {bake: 20s, deadline: 5m}}}"


class Canaries:
    def __init__(self, scene: Stage) -> None:
        self._scene = scene
        self._file = scene.folder / "proxyctl.yml"
        self._text = self._file.read_text().replace("drain: 5s", f"drain: 1s\n    strategy: {CANARY}")
        self._round = 0

    async def deploy(self, changed: dict[str, str]) -> dict[str, Any]:
        """The last rollout, after a deploy with this environment."""
        self._round += 1
        variables = BASE | changed | {"ROUND": str(self._round)}
        listed = ", ".join(f'{name}: "{value}"' for name, value in variables.items())
        self._file.write_text(
            self._text.replace('"proxyctl-demo:1",', f'"proxyctl-demo:1", environment: {{{listed}}},')
        )
        await self._type("deploy", "web")
        return dict(json.loads(await self._type("history", "web", "--json"))[-1])

    async def _type(self, *words: str) -> bytes:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxyctl", *words, *self._scene.options),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        out, _ = await process.communicate()
        return out


async def main() -> None:
    build_all(docker.from_env())
    rows = []
    async with stage(bake="20s") as scene:
        canaries = Canaries(scene)
        await canaries.deploy({})
        async with Load("127.0.0.1", scene.port, Model.KEEPALIVE, 200, pause=1.0, spread=1.0) as load:
            await asyncio.sleep(60)  # what is usual
            for name, changed in [*((f"good {n}", {}) for n in range(1, GOOD + 1)), *CASES.items()]:
                rows.append(await judged(canaries, load, name, changed))
                report("canaries", rows[-1:])
    report("canaries", rows)


async def judged(canaries: Canaries, load: Load, name: str, changed: dict[str, str]) -> dict[str, object]:
    began, before = time.monotonic(), len(load.failed())
    rollout = await canaries.deploy(changed)
    failed = load.failed()[before:]
    lost = [outcome for outcome in failed if outcome.problem != "status 500"]
    return {
        "canary": name,
        "outcome": rollout["outcome"],
        "seconds": round(time.monotonic() - began, 1),
        "bad answers": len(failed) - len(lost),
        "lost": len(lost),
        "why": rollout["reason"],
    }


if __name__ == "__main__":
    asyncio.run(main())
