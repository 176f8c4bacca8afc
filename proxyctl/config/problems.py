"""Say what is wrong with a file: one line per problem, in one form. Never decides what is wrong.

Start at Problem; shown() is how any value of a file may appear in a message.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

CUT = 80  # characters of a value in a message


class Place(NamedTuple):
    """Counted from 1, as editors do."""

    line: int
    column: int


class Problem(NamedTuple):
    """`proxyctl.yml:8:5: services.web.wieght: unknown key; did you mean "weight"?`"""

    file: Path
    place: Place
    key: str  # dotted, "" for the file itself
    wrong: str  # what is wrong; what to write instead

    def __str__(self) -> str:
        where = f"{displayed(self.file)}:{self.place.line}:{self.place.column}"
        return f"{where}: {escaped(self.key)}: {self.wrong}" if self.key else f"{where}: {self.wrong}"


def shown(value: object) -> str:
    """A value as it stands in a message: printable ASCII on one line, cut at 80 characters."""
    match value:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case str():
            text = json.dumps(value[: CUT + 1])
            return text if len(text) <= CUT else text[: CUT - 4] + '..."'
        case bool() | int() | float():
            return json.dumps(value)[:CUT]
        case _:
            return type(value).__name__


def escaped(key: str) -> str:
    """A key as it stands in a message: what shown() promises, without the quotes."""
    text = json.dumps(key)[1:-1].replace('\\"', '"')
    return text if len(text) <= 2 * CUT else text[: 2 * CUT] + "..."


def displayed(file: Path) -> str:
    """Relative to the working folder when it lies below it, as compilers print names."""
    relative = os.path.relpath(file)
    return str(file) if relative.startswith("..") else relative
