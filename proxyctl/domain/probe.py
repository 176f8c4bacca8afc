"""Judge and count probes. Pure. One Tally per replica."""

from __future__ import annotations

from proxyctl.domain.model import HealthCheck
from proxyctl.domain.record import Record

HEAD_LIMIT = 16 * 1024  # bytes of an answer's headers that a probe reads
BODY_LIMIT = 64 * 1024  # bytes of its body


class Tally(Record):
    """How many probes in a row went the same way."""

    passes: int = 0
    failures: int = 0
    last: str = "not probed yet"

    def after(self, passed: bool, reason: str) -> Tally:
        if passed:
            return Tally(passes=self.passes + 1, last=reason)
        return Tally(failures=self.failures + 1, last=reason)


def accepts(check: HealthCheck, status: int) -> bool:
    return any(low <= status <= high for low, high in check.statuses)


def unexpected(check: HealthCheck, status: int, location: str) -> str:
    """The words for a status that the check does not accept."""
    if 300 <= status < 400 and location:
        return f"{status}: redirects to {location[:80]} (not followed)"
    ranges = ", ".join(f"{low}" if low == high else f"{low}-{high}" for low, high in check.statuses)
    return f"{status} instead of {ranges}"
