"""Measure by the exit code of a program of this host."""

from __future__ import annotations

from pathlib import Path

from proxyctl.adapters import programs
from proxyctl.domain.source import HostCommand, Measurement, Source, of_exit
from proxyctl.ports import Subject


class HostMeasurer:
    """Implements `Measurer` for HostCommand."""

    async def measure(self, source: Source, subject: Subject) -> Measurement:
        command = source.question
        assert isinstance(command, HostCommand)
        try:
            ended = await programs.run(command.words, Path(command.folder), dict(subject.variables), source.timeout)
        except TimeoutError:
            return Measurement(error=f"the command did not end in {source.timeout:g} s")
        except OSError as error:
            return Measurement(error=f"{error.filename}: {(error.strerror or str(error)).lower()}")
        return of_exit(ended.code, ended.words)
