"""A split: the share of traffic of each colour. Pure. Start at Split.of() and Split.pool()."""

from __future__ import annotations

import re

from proxyctl.domain.model import Colour
from proxyctl.domain.record import Record

_DECIMAL = r"(-?(?:0|[1-9][0-9]{0,8})(?:\.[0-9]{1,9})?)"  # what Decimal takes is more: 1_0, 1e1

WHOLE = 10_000  # hundredths of a percent in all traffic: the grain is 0.01 %


class Split(Record):
    """The lead colour owns the buckets from 00 up, the other colour owns the rest.

    The lead is the candidate when a rollout starts and stays so until it ends: while its share only
    grows, its set of buckets only grows, so no client leaves the canary. It always sums to 100 %.
    """

    lead: Colour
    lead_share: int  # hundredths of a percent, 0 to 10000

    def __init__(self, lead: Colour, lead_share: int) -> None:
        if not 0 <= lead_share <= WHOLE:
            raise ValueError(f"a share is 0 to 100 %, not {lead_share / 100} %")
        super().__init__(lead=lead, lead_share=lead_share)

    @classmethod
    def all_to(cls, colour: Colour) -> Split:
        return cls(colour, WHOLE)

    @classmethod
    def of(cls, lead: Colour, percent: float | str) -> Split:
        """The split that gives `lead` this percentage; raises ValueError beyond 0..100 or finer than 0.01."""
        return cls(lead, hundredths(percent))

    def share(self, colour: Colour) -> int:
        """In hundredths of a percent."""
        return self.lead_share if colour is self.lead else WHOLE - self.lead_share

    def percent(self, colour: Colour) -> float:
        return self.share(colour) / 100

    @property
    def sole(self) -> Colour | None:
        """The colour that has all traffic, if one has."""
        for colour in Colour:
            if self.share(colour) == WHOLE:
                return colour
        return None

    def serves(self, colour: Colour) -> bool:
        return self.share(colour) > 0

    def same_traffic(self, other: Split | None) -> bool:
        """Whether every client gets the same colour from both, whichever colour leads."""
        if other is None:
            return False
        return self == other or (self.sole is not None and self.sole is other.sole)

    def pool(self, bucket: int) -> Colour:
        """Who serves this bucket, 0 to 9999 (its first two digits are $b1, its last two $b2)."""
        return self.lead if bucket < self.lead_share else self.lead.other

    def __str__(self) -> str:
        return " ".join(f"{colour} {self.percent(colour):g} %" for colour in Colour)


def hundredths(percent: float | str) -> int:
    """Hundredths of a percent, exactly, of 5, 12.5 or "5 %"; raises ValueError in words."""
    from decimal import Decimal  # a rollback has no percentage to read

    if isinstance(percent, str):
        found = re.fullmatch(_DECIMAL + r"( ?%)?", percent, re.ASCII)
        if found is None:
            raise ValueError("not a number")
        percent = found[1]
    exact = Decimal(str(percent)) * 100
    if not exact.is_finite() or not 0 <= exact <= WHOLE:
        raise ValueError("not between 0 and 100")
    if exact != exact.to_integral_value():
        raise ValueError("finer than 0.01")
    return int(exact)
