"""The machine's clocks. Monotonic time counts while suspended and is shared by all processes of a boot."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from proxyctl.domain.model import Seconds


class SystemClock:
    def __init__(self) -> None:
        self.boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def now(self) -> Seconds:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> float:
        return time.time()

    async def sleep(self, seconds: Seconds) -> None:
        await asyncio.sleep(seconds)
