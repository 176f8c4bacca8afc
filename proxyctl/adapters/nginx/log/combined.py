"""Lines in nginx's own `combined` format, put into the words of our compact log. Pure. Start at as_compact().

They do not say whom nginx asked, nor how long that took: every line is one attempt without a time.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from proxyctl.adapters.nginx.names import SPLIT

_LINE: Final = re.compile(
    rb"(?P<client>\S+) - .*? \[(?P<time>[^\]]+)\] "
    rb'"(?P<request>[^"]*)" (?P<status>\d{3}) \d+ "[^"]*" "(?P<agent>[^"]*)".*'
)
_REQUEST: Final = re.compile(rb"([A-Z]+) ([^ ?]*)")
_TIME: Final = re.compile(r"(\d\d)/(\w{3})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-]\d\d)(\d\d)")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def as_compact(line: bytes, number: int, service: bytes) -> bytes | None:
    """What our log would say of it; it has no id, so its number from 0 stands for one. None: it is no such line."""
    found = _LINE.fullmatch(line)
    time = _time(found["time"]) if found else None
    if found is None or time is None:
        return None
    asked = _REQUEST.match(found["request"])
    method, path = asked.groups() if asked else (b"-", b"/")
    client = found["client"] + b" " + blake2b(found["agent"], digest_size=1).hexdigest().encode()
    own = (time, b"line-%d" % (number + 1), client, found["status"], b"-", b"-", b"-", b"-")
    return b"\t".join((*own, service, SPLIT.encode(), b"somebody", found["status"], method, path))


@lru_cache(maxsize=1024)
def _time(text: bytes) -> bytes | None:
    """2026-11-21T11:07:38+00:00, of 21/Nov/2026:11:07:38 +0000."""
    found = _TIME.fullmatch(text.decode("ascii", "replace"))
    if found is None or found[2] not in _MONTHS:
        return None
    day, _, year, hour, minute, second, hours, minutes = found.groups()
    zone = timedelta(hours=int(hours), minutes=int(hours[0] + minutes))
    try:
        month = _MONTHS.index(found[2]) + 1
        moment = datetime(int(year), month, int(day), int(hour), int(minute), int(second), tzinfo=timezone(zone))
    except ValueError:
        return None
    return moment.isoformat().encode()
