"""The right measurer for each kind of source."""

from __future__ import annotations

from collections.abc import Mapping

from proxyctl.domain.source import Measurement, Question, Source
from proxyctl.ports import Measurer, Subject


class MeasurerByQuestion:
    def __init__(self, by_question: Mapping[type[Question], Measurer]) -> None:
        self._by_question = by_question

    async def measure(self, source: Source, subject: Subject) -> Measurement:
        return await self._by_question[type(source.question)].measure(source, subject)
