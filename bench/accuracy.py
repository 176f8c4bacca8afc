"""The split observed against the split asked: how many requests get it, and that a cookie keeps its client.

Without `sticky` every request is dealt anew. With `sticky: cookie` a client that is once in the canary stays while its
weight only grows.
"""

from __future__ import annotations

import asyncio
import math

from bench.arena import Row, command, report, warm_pair
from proxyctl.adapters.nginx.names import cookie_name
from proxyctl.demo.load import Load, Model
from proxyctl.demo.stage import Stage

REQUESTS = {0.5: 200_000}  # by percent asked; of the others:
USUALLY = 20_000
ASKED = (0.5, 1.0, 5.0, 10.0, 25.0, 50.0)
CANARY = b"\nX-Release: 1\r"
VISITORS, CONNECTIONS = 10_000, 16


async def at(scene: Stage, percent: float) -> Row:
    await command(scene, "weight", "web", str(percent))
    requests = REQUESTS.get(percent, USUALLY)
    async with Load("127.0.0.1", scene.port, Model.KEEPALIVE, 8) as load:
        while len(load.outcomes) < requests:
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


async def growing(scene: Stage) -> list[Row]:
    """Every visitor asks once at every weight."""
    rows, before = list[Row](), set[int]()
    for percent in (*ASKED, 100.0):
        await command(scene, "weight", "web", str(percent))
        parts = await asyncio.gather(*(in_canary(scene, first) for first in range(CONNECTIONS)))
        canary = set[int]().union(*parts)
        left = len(before - canary)
        rows.append({"weight %": percent, "visitors": VISITORS, "in the canary": len(canary), "left it": left})
        before = canary
    return rows


async def in_canary(scene: Stage, first: int) -> set[int]:
    """Which of every so many visitors from this one on are in it now. All of them come by one kept connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
    found, name = set[int](), cookie_name(scene.project)
    for visitor in range(first, VISITORS, CONNECTIONS):
        cookie = f"{name}=visitor-{visitor}"
        writer.write(f"GET / HTTP/1.1\r\nHost: web\r\nCookie: {cookie}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0]))
        found |= {visitor} if CANARY in head else set()
    writer.close()
    await writer.wait_closed()
    return found


async def main() -> None:
    async with warm_pair() as scene:
        rows = [await at(scene, percent) for percent in ASKED]
    report("Split observed against asked", rows)
    async with warm_pair(says="sticky: cookie") as scene:
        report("Visitors with a cookie, while the weight grows", await growing(scene))


if __name__ == "__main__":
    asyncio.run(main())
