"""Ask every source of a candidate in its own time, while one wait goes on. Start at Measuring.going_on().

Nothing is kept here: whoever waits commits what was measured, beside what the log said.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxyctl.domain.source import Heard, Measured, Source, after, complete, heard
from proxyctl.domain.units import Seconds
from proxyctl.ports import Clock, Measurer, Subject


class Measuring:
    def __init__(
        self,
        *,
        sources: tuple[Source, ...],
        known: tuple[Measured, ...],
        measurer: Measurer,
        subject: Subject,
        clock: Clock,
    ) -> None:
        self._sources = sources
        self._measurer = measurer
        self._subject = subject
        self._clock = clock
        self._by_name = {source.name: Measured(source=source.name) for source in sources}
        self._by_name |= {each.source: each for each in known if each.source in self._by_name}
        self._asking: list[asyncio.Future[None]] = []

    @asynccontextmanager
    async def going_on(self, elapsed: Seconds) -> AsyncIterator[None]:
        """`elapsed` of the wait when it begins, or goes on after a crash."""
        self._asking = [asyncio.ensure_future(self._ask(source, elapsed)) for source in self._sources]
        try:
            yield
        finally:
            for asking in self._asking:
                asking.cancel()
            await asyncio.gather(*self._asking, return_exceptions=True)

    @property
    def measured(self) -> tuple[Measured, ...]:
        return tuple(self._by_name.values())

    @property
    def heard(self) -> Heard:
        for asking in self._asking:
            if asking.done():
                asking.result()  # what ended of itself has measured all that it should, or is a bug to be seen
        return heard(self._sources, self.measured)

    async def _ask(self, source: Source, elapsed: Seconds) -> None:
        """What was measured before a crash is not asked again before its interval has passed."""
        asked_before = self._by_name[source.name] != Measured(source=source.name)
        await self._clock.sleep(max(source.delay - elapsed, source.interval if asked_before else 0.0))
        while not complete(source, self._by_name[source.name]):
            measurement = await self._measurer.measure(source, self._subject)
            self._by_name[source.name] = after(source, self._by_name[source.name], measurement)
            await self._clock.sleep(source.interval)
