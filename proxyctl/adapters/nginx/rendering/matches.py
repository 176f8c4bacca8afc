"""How nginx knows the requests that rules of a service lead to the candidate. Pure; a part of render.py.

Each condition of a rule is a map, and its answer is the next one to ask: where it holds the next condition of the rule,
where it does not the first of the next rule. nginx asks only as far as it must. Start at conditions().
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from markupsafe import Markup as Trusted

from proxyctl.adapters.nginx.rendering.tokens import quoted, variable
from proxyctl.domain.model import Cutover, Match, ProxySettings, Route
from proxyctl.domain.units import Pairs

HOLDS = Trusted("1")
NOBODY_ASKS = Trusted('""')


class Asked(NamedTuple):
    """What a condition looks at, and when it holds."""

    variable: Trusted
    values: tuple[Trusted, ...]
    networks: tuple[str, ...] = ()  # where nginx is to tell which of them the client is in


class Condition(NamedTuple):
    name: Trusted  # of the variable that says how to go on
    asked: Asked
    then: Trusted
    otherwise: Trusted


def as_asked(route: Route, settings: ProxySettings) -> Route:
    """Rules are asked for at every request, like the flags."""
    return route if settings.cutover is Cutover.LIVE else route.replace(matches=(), mirror=None)


def conditions(route: Route, px: str) -> list[Condition]:
    """In the order of asking."""
    rules = [list(_asked(match, route, px, number)) for number, match in enumerate(route.matches)]
    found: list[Condition] = []
    for number, rule in enumerate(rules):
        following = len(found) + len(rule)
        otherwise = _condition(route, px, following) if number + 1 < len(rules) else NOBODY_ASKS
        for asked in rule:
            at = len(found)
            then = _condition(route, px, at + 1) if at + 1 < following else HOLDS
            found.append(Condition(_condition(route, px, at), asked, then, otherwise))
    return found


def matched(route: Route, px: str) -> Trusted | None:
    """The variable that holds where a rule matches the request."""
    return _condition(route, px, 0) if route.matches else None


def mirrored(route: Route, px: str) -> Trusted:
    """The variable that holds where a request is to be mirrored."""
    return _name("mirror", route, px)


def sampled(route: Route, px: str) -> Trusted:
    """The same, whatever its method."""
    return _name("sample", route, px)


def _asked(match: Match, route: Route, px: str, number: int) -> Iterator[Asked]:
    if match.host:
        yield Asked(Trusted("$host"), (_exactly(match.host),))
    for name, values in _by_name(match.headers):
        yield Asked(Trusted("$http_") + variable(name.lower().replace("-", "_")), values)
    for name, values in _by_name(match.cookies):
        yield Asked(Trusted("$cookie_") + variable(name), values)
    if match.networks:
        yield Asked(_name(f"network{number}", route, px), (HOLDS,), match.networks)


def _by_name(pairs: Pairs) -> Iterator[tuple[str, tuple[Trusted, ...]]]:
    """Any value of a name is enough."""
    for name in dict(pairs):
        yield name, tuple(_exactly(value) for named, value in pairs if named == name)


def _exactly(text: str) -> Trusted:
    """nginx takes words without regard to case, and expressions with it."""
    return quoted(f"~^{re.escape(text)}")[:-1] + Trusted('$"')


def _condition(route: Route, px: str, number: int) -> Trusted:
    return _name(f"match{number}", route, px)


def _name(what: str, route: Route, px: str) -> Trusted:
    """A service's name has no underscore, and is last, so no two of these are the same."""
    return Trusted(f"${px}_{what}_") + variable(route.service.replace("-", "_"))
