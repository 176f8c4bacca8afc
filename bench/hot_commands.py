"""Whole-process time of the hot commands on a warm standby, beside a bare interpreter with their unavoidable imports.

The runs are interleaved, so that a noisy machine is noisy for both. Also: from the start of the command to the start of
the last answer of the old release, by a client in a closed loop.
"""

from __future__ import annotations

import asyncio
import sys
import time

from bench.arena import command, median_ms, report, warm_pair
from proxyctl.demo.load import Load, Model

ROUNDS = 21
SETTLE = 1.0  # a command may leave a driver or a guard behind, whose own start is not part of it
BASELINE = "import sqlite3, asyncio, click"


async def bare() -> float:
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", BASELINE)
    await process.wait()
    return time.monotonic() - began


async def main() -> None:
    times: dict[str, list[float]] = {f"python -c '{BASELINE}'": []}
    async with warm_pair() as scene:
        for _ in range(ROUNDS):
            times[f"python -c '{BASELINE}'"].append(await bare())
            for words in (("rollback", "web"), ("switch", "web"), ("weight", "web", "5"), ("status",), ("--help",)):
                took = await (help_page() if words == ("--help",) else command(scene, *words))
                times.setdefault(" ".join(words), []).append(took)
                if words[0] == "weight":
                    await command(scene, "abort", "web")
                await asyncio.sleep(SETTLE)
        base = median_ms(times[f"python -c '{BASELINE}'"])
        report(
            f"Hot commands, whole process, {ROUNDS} interleaved rounds",
            [
                {"command": name, "median ms": median_ms(took), "times bare": round(median_ms(took) / base, 2)}
                for name, took in times.items()
            ],
        )
        await last_old_answer(scene.port, scene)


async def help_page() -> float:
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxyctl", "--help", stdout=asyncio.subprocess.DEVNULL
    )
    await process.wait()
    return time.monotonic() - began


async def last_old_answer(port: int, scene: object) -> None:
    lags = []
    async with Load("127.0.0.1", port, Model.KEEPALIVE, 2) as load:
        await asyncio.sleep(0.5)
        for _ in range(ROUNDS):
            began = time.monotonic()
            old = load.outcomes[-1].release
            await command(scene, "rollback", "web")  # type: ignore[arg-type]
            await asyncio.sleep(0.2)
            lags.append(max(o.started for o in load.outcomes if o.release == old) - began)
    report(
        "From the start of `rollback` to the start of the last request that the old release answered",
        [{"rounds": ROUNDS, "median ms": median_ms(lags), "max ms": round(max(lags) * 1000, 1)}],
    )


if __name__ == "__main__":
    asyncio.run(main())
