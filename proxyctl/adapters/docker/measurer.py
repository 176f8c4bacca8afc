"""Measure by the exit code of a program inside one replica of the candidate."""

from __future__ import annotations

import asyncio

from proxyctl.adapters.docker.runtime import DockerRuntime
from proxyctl.domain.container import Hook
from proxyctl.domain.source import CandidateCommand, Measurement, Source, of_exit
from proxyctl.errors import OutcomeUnknown, Unavailable
from proxyctl.ports import Subject


class CandidateMeasurer:
    """Implements `Measurer` for CandidateCommand."""

    def __init__(self, runtime: DockerRuntime) -> None:
        self._runtime = runtime

    async def measure(self, source: Source, subject: Subject) -> Measurement:
        assert isinstance(source.question, CandidateCommand)
        command = Hook(command=source.question.words, environment=subject.variables)
        try:
            async with asyncio.timeout(source.timeout):
                end = await self._runtime.end_in(subject.replica, command)
        except TimeoutError:
            return Measurement(error=f"the command did not end in {source.timeout:g} s")
        except (Unavailable, OutcomeUnknown) as error:
            return Measurement(error=str(error))
        return of_exit(end.exit_code, end.output)
