"""Rules about requests, as Istio and its kin write them, in the form of `match`. Only exact values have one. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from proxyctl.config import web_grammar as web
from proxyctl.config.document import Value
from proxyctl.config.foreign.ledger import Part
from proxyctl.config.foreign.sketch import taken

ONLY_EXACT = "only exact values can be matched; write them out as a list in match"

# As the manuals of Flagger have it for one cookie among others: ^(.*?;)?(canary=always)(;.*)?$
_ONE_COOKIE = re.compile(r"\^\(\.\*\?;\)\?\((?:\\s\*)?([A-Za-z0-9_]+)=([^()*?;|\\]+)\)\(;\.\*\)\?\$", re.ASCII)
_BARE_COOKIE = re.compile(r"[A-Za-z0-9_]+", re.ASCII)


def exact_header(name: Value, condition: Value) -> Mapping[str, dict[str, Value]] | None:
    """`{header: {name: value}}`, or None where ours cannot say it."""
    value = condition.get("exact") if isinstance(condition, dict) and set(condition) == {"exact"} else None
    if not taken(web.matched_header_name, name) or not taken(web.matched_header_value, value):
        return None
    return {"header": {str(name): value}}


def cookie(condition: Value) -> Mapping[str, dict[str, Value]] | None:
    """Of a rule about the header Cookie: that of one cookie, however the manuals write it."""
    if not isinstance(condition, dict) or len(condition) != 1:
        return None
    exact, pattern = condition.get("exact"), condition.get("regex")
    found = _ONE_COOKIE.fullmatch(pattern) if isinstance(pattern, str) else None
    if found:
        return _of_cookie(found[1], found[2])
    if isinstance(exact, str) and _BARE_COOKIE.fullmatch(exact):
        return _of_cookie(exact, "always")  # what an ingress of nginx asks of a canary's cookie
    name, is_pair, value = exact.partition("=") if isinstance(exact, str) else ("", "", "")
    return _of_cookie(name, value) if is_pair else None


def _of_cookie(name: str, value: str) -> Mapping[str, dict[str, Value]] | None:
    if taken(web.cookie_name, name) and taken(web.cookie_value, value):
        return {"cookie": {name: value}}
    return None


def rule_of(headers: Part) -> dict[str, Value] | None:
    """One rule in which all of these headers must hold. None, and told, where one of them cannot be said: a rule
    without it would match more."""
    rule: dict[str, dict[str, Value]] = {}
    for name, condition in headers.value.items():
        said = cookie(condition) if name.lower() == "cookie" else exact_header(name, condition)
        if said is None:
            headers.not_carried(name, ONLY_EXACT)
            return None
        for kind, pair in said.items():
            rule.setdefault(kind, {}).update(pair)
    return dict(rule) or None
