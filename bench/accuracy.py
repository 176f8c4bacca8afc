"""The split observed against the split asked, 20,000 requests each; `sticky: none`: every request is dealt anew."""

from __future__ import annotations

import asyncio
import math

from bench.arena import Row, command, report, warm_pair
from proxyctl.demo.load import Load, Model
from proxyctl.demo.stage import Stage

REQUESTS = 20_000
ASKED = (0.5, 1.0, 5.0, 10.0, 25.0, 50.0)


async def at(scene: Stage, percent: float) -> Row:
    await command(scene, "weight", "web", str(percent))
    async with Load("127.0.0.1", scene.port, Model.KEEPALIVE, 8) as load:
        while len(load.outcomes) < REQUESTS:
            await asyncio.sleep(0.01)
    share = sum(o.release == "1" for o in load.outcomes) / len(load.outcomes)
    expected = percent / 100
    deviation = math.sqrt(expected * (1 - expected) / len(load.outcomes))
    return {
        "asked %": percent,
        "observed %": round(share * 100, 2),
        "requests": len(load.outcomes),
        "failed": len(load.failed()),
        "off by, in standard deviations": round((share - expected) / deviation, 1),
    }


async def main() -> None:
    async with warm_pair() as scene:
        rows = [await at(scene, percent) for percent in ASKED]
    report("Split observed against asked", rows)


if __name__ == "__main__":
    asyncio.run(main())
