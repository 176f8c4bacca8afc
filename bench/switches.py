"""Switches between two warm releases of two replicas, under load: requests that failed, answers of the wrong release
after the command had returned. For each client model until 100 switches and 100,000 requests are done.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from itertools import cycle

from bench.arena import Row, command, generation, report, warm_pair
from proxyctl.demo.load import Load, Model
from proxyctl.demo.stage import Stage

SWITCHES = 100
REQUESTS = 100_000
CLIENTS = 8
RELEASES = {"blue": "1", "green": "2"}


async def under(scene: Stage, model: Model, turns: Iterator[str]) -> Row:
    wrong = switches = 0
    before = generation(scene)
    async with Load("127.0.0.1", scene.port, model, CLIENTS) as load:
        while switches < SWITCHES or len(load.outcomes) < REQUESTS:
            colour = next(turns)
            await command(scene, "switch", "web", "--to", colour)
            returned = time.monotonic()
            await asyncio.sleep(0.05)
            wrong += sum(o.release != RELEASES[colour] for o in load.outcomes if o.started > returned)
            switches += 1
    reloads = 0 if generation(scene) == before else 1
    return {
        "clients": f"{CLIENTS} x {model}",
        "switches": switches,
        "requests": len(load.outcomes),
        "failed": len(load.failed()),
        "wrong release after return": wrong,
        "reloads": reloads,
    }


async def main() -> None:
    async with warm_pair() as scene:
        models = (Model.NEW_CONNECTION, Model.KEEPALIVE, Model.POST, Model.POST_NEW)
        turns = cycle(("blue", "green"))  # green is live at first
        rows = [await under(scene, model, turns) for model in models]
    report("Switches between warm releases under load, two replicas each", rows)


if __name__ == "__main__":
    asyncio.run(main())
