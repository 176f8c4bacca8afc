"""Read one small text file within bounds: regular files only, at most 256 KiB, UTF-8 without surprises.

Never blocks on a FIFO and never reads a device. Start at text_of() for YAML, bytes_of() for what only is hashed.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from proxyctl.config.problems import Place, Problem

LIMIT = 256 * 1024

_START = Place(1, 1)

_BYTE_ORDER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\xef\xbb\xbf": "UTF-8 with a byte order mark"}
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


class Unreadable(Exception):
    """The file cannot be used at all. `problem` says where and why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def text_of(path: Path) -> str:
    """The text of a file in UTF-8 without control characters. Raises Unreadable."""
    raw = bytes_of(path)
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if raw.startswith(mark):
            raise _unreadable(path, f"the file is {encoding}; save it as plain UTF-8")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8")
        wrong = f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file as plain UTF-8"
        raise _unreadable(path, wrong, _end_of(before)) from None
    if found := _UNPRINTABLE.search(text):
        wrong = f"control character U+{ord(found[0]):04X}; remove it"
        raise _unreadable(path, wrong, _end_of(text[: found.start()]))
    return text


def bytes_of(path: Path, limit: int = LIMIT) -> bytes:
    """The bytes of a regular file. Raises Unreadable."""
    try:
        # O_NONBLOCK: opening a FIFO without a writer would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _unreadable(path, f"cannot be read: {reason}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _unreadable(path, "is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        raw = file.read(limit + 1)
    if len(raw) > limit:
        raise _unreadable(path, f"is larger than {limit // 1024} KiB")
    return raw


def _unreadable(path: Path, wrong: str, place: Place = _START) -> Unreadable:
    return Unreadable(Problem(path, place, "", wrong))


def _end_of(text: str) -> Place:
    return Place(text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1)
