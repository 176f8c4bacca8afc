"""Count probes into a verdict. Pure. One Tally per replica."""

from __future__ import annotations

from proxyctl.domain.record import Record


class Tally(Record):
    """How many probes in a row went the same way."""

    passes: int = 0
    failures: int = 0
    last: str = "not probed yet"

    def after(self, passed: bool, reason: str) -> Tally:
        if passed:
            return Tally(passes=self.passes + 1, last=reason)
        return Tally(failures=self.failures + 1, last=reason)
