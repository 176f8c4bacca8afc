"""nginx's logs begin anew before they fill the disk: renamed, and nginx told to open them again. Start at Logs.

A line is never lost: workers write into the renamed file until they have opened the new one.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from proxyctl.adapters.nginx.process.master import Process
from proxyctl.adapters.places import Places, make_log
from proxyctl.adapters.sockets import open_files

KEPT = 5  # beside the one that is written


class Logs:
    def __init__(self, places: Places) -> None:
        self._paths = (places.access_log, places.error_log)

    def larger_than(self, limit: int) -> list[Path]:
        return [path for path in self._paths if _size(path) > limit]

    def set_aside(self, path: Path) -> Path:
        """access.log becomes access.log.1, and so on; the oldest goes."""
        for number in range(KEPT, 0, -1):
            with suppress(FileNotFoundError):
                _numbered(path, number - 1).rename(_numbered(path, number))
        make_log(path)  # before nginx does; its master gives it to the workers
        return _numbered(path, 1)


def written_by(old: Path, processes: Iterable[Process]) -> bool:
    """Whether one of these still has the file open."""
    return any(str(old) in open_files(process.pid) for process in processes)


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0
