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

    def set_aside(self, limit: int) -> list[Path]:
        """Those larger than the limit, in bytes, have a number for a name from now on; the oldest goes."""
        due = [path for path in self._paths if _size(path) > limit]
        for path in due:
            for number in range(KEPT, 0, -1):
                with suppress(FileNotFoundError):
                    _numbered(path, number - 1).rename(_numbered(path, number))
        for path in self._paths:
            if _numbered(path, 1).exists():  # whoever renamed it may have died before this
                make_log(path)  # before nginx does; its master gives it to the workers
        return due

    def written_aside(self, processes: Iterable[Process]) -> list[Path]:
        """What has a number by now, and one of these has open all the same."""
        opened = {link for process in processes for link in open_files(process.pid)}
        return [old for path in self._paths if str(old := _numbered(path, 1)) in opened]


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0
