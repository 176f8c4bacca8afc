"""Lines of the compact log as nginx writes them, for tests that need no nginx."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import blake2b
from itertools import count

from proxyctl.adapters.nginx.log.lines import Charge, charge
from proxyctl.domain.model import Route, ServiceName

BLUE, GREEN = "127.0.0.2:80", "127.0.0.3:80"
ROUTE = Route(service=ServiceName("web"), hosts=(), path="/", blue=(BLUE,), green=(GREEN, "127.0.0.3:81"))
WHO: Charge = charge("shop", ROUTE, b"salt")
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC).timestamp()

_ids = count(1)


def line(
    at: float = NOON,
    *,
    address: str = BLUE,
    status: str = "200",
    answered: str = "0.010",
    ended: str = "",
    client: str = "192.0.2.1 07",
    service: str = "web",
    reason: str = "-",
    method: str = "GET",
    path: str = "/",
    id_: str = "",
) -> bytes:
    """Of the request with this id; else of a new one."""
    ended = ended or answered.replace("-", "1.000")
    fields = (
        datetime.fromtimestamp(int(at), UTC).isoformat(),
        id_ or blake2b(b"%d" % next(_ids), digest_size=16).hexdigest(),
        *(client, status[-3:], ended, f"px_shop_{service}_blue", answered, ended),
        *(service, reason, address, status, method, path),
    )
    return "\t".join(fields).encode()
