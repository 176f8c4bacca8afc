"""How nginx deals requests by itself (`proxy.cutover: reload`): one pool for each service, whose servers have weights.
Pure; a part of render.py. Start at dealt()."""

from __future__ import annotations

from math import gcd
from typing import NamedTuple

from proxyctl.adapters.nginx.rendering.pools import speaks_apart
from proxyctl.domain.model import Balance, Colour, Hash, Route
from proxyctl.domain.split import Split
from proxyctl.ports import Flags

DEALT = "dealt"  # the pool, beside those of the two colours


class Member(NamedTuple):
    address: str
    weight: int


class Dealt(NamedTuple):
    """A pool from which both colours are served."""

    members: tuple[Member, ...]
    backups: tuple[str, ...]
    balance: Balance | Hash


def dealt(route: Route, flags: Flags | None) -> Dealt | None:
    """None where no request goes by it: nothing serves, or a colour has a location of its own. A colour without a share
    has no server in it, for nginx knows no weight 0. Raises ValueError for what nginx cannot deal."""
    if flags is None:
        return None
    sole = flags.split.sole
    if sole is None and route.apart:
        raise ValueError(
            f"{route.service}: its two colours are asked in different ways, which no pool can; give all traffic to one "
            "of them"
        )
    if sole is None:
        return Dealt(_weighed(route, flags.split), (), _exact(route.balance))
    if speaks_apart(route, sole):
        return None
    backups = route.slots(sole.other) if flags.cover and route.backed else ()
    return Dealt(tuple(Member(address, 1) for address in route.slots(sole)), backups, route.balance)


def _weighed(route: Route, split: Split) -> tuple[Member, ...]:
    """Shares are of colours, weights of replicas: a colour of two replicas gets no more than one of one."""
    weights = {colour: split.share(colour) * len(route.slots(colour.other)) for colour in Colour}
    common = gcd(*weights.values())
    return tuple(Member(address, weights[colour] // common) for colour in Colour for address in route.slots(colour))


def _exact(balance: Balance | Hash) -> Balance | Hash:
    """least_conn would give the faster colour more than its share, and one that fails at once is the fastest."""
    return Balance.ROUND_ROBIN if balance is Balance.LEAST_CONN else balance
