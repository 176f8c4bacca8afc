"""Wall time of a whole blue-green deploy beside the sum of its container start and its gate, read from the journal.

The rest is overhead: Python's start, reading the file, resolving the image, journal, moves, promotion. Bake is 0.
"""

from __future__ import annotations

import asyncio
import json
import sys

from bench.arena import Row, command, generation, report, warm_pair
from proxyctl.demo.stage import Stage

ROUNDS = 7


async def steps(scene: Stage) -> dict[str, float]:
    """When each fact of the last rollout was journaled."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxyctl", "events", "web", "--json", "--state", scene.options[3], "--file",
        scene.options[1], stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    entries = [json.loads(line) for line in out.splitlines()]
    last = entries[-1]["rollout"]
    found: dict[str, float] = {}
    for entry in entries:
        if entry["rollout"] == last:
            command_ = entry["event"].get("command") or {}
            found[entry["event"]["@"] + str(command_.get("@", ""))] = entry["at"]
    return found


async def one(scene: Stage, image: str) -> Row:
    before = generation(scene)
    took = await command(scene, "deploy", "web", "--image", image)
    at = await steps(scene)
    started = at["ReplicasStarted"] - at["IntendedStart"]
    gated = at["GatePassed"] - at["ReplicasStarted"]
    drained = at["Retired"] - at["IntendedRetire"] if "Retired" in at else 0.0
    return {
        "whole command s": round(took, 2),
        "old standby drained s": round(drained, 2),
        "container start s": round(started, 2),
        "gate s": round(gated, 2),
        "overhead s": round(took - drained - started - gated, 2),
        "reloads": int(generation(scene) != before),
    }


async def main() -> None:
    async with warm_pair() as scene:
        rows = [await one(scene, f"proxyctl-demo:{1 + round_ % 2}") for round_ in range(ROUNDS)]
    report("Deploy of an existing service", rows)


if __name__ == "__main__":
    asyncio.run(main())
