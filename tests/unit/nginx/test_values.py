"""Whatever reaches a template comes back as exactly one word that is equal to it, or was refused on the way.

`PROXYCTL_CASES=100000 pytest tests/unit/nginx/test_values.py` is the long form.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from proxyctl.adapters.nginx.control import own_address
from proxyctl.adapters.nginx.readback.lexer import statements, words
from proxyctl.adapters.nginx.readback.refusals import refusals
from proxyctl.adapters.nginx.rendering.render import render
from proxyctl.adapters.nginx.rendering.service_view import nginx_time
from proxyctl.adapters.places import Places
from proxyctl.config import grammar
from proxyctl.config import web_grammar as web
from proxyctl.domain.model import Match, Mirror, Timeouts, Tls, Topology
from tests.golden.test_golden import STATE, a_route, a_topology

CASES = int(os.environ.get("PROXYCTL_CASES", "1000"))
HARMLESS = "Z"  # no word of a configuration holds one

Words = list[tuple[str, ...]]


def no_state(_value: str) -> Path:
    return STATE


def never(_value: str) -> bool:
    return False


def as_it_is(value: str) -> str:
    return value


def as_a_variable(value: str) -> str:
    return value.lower().replace("-", "_")


class Field(NamedTuple):
    """A place that a value can come in by."""

    topology: Callable[[str], Topology]
    validated: Callable[[Any], Any]
    lawful: st.SearchStrategy[str]  # what the validator takes, more or less
    state: Callable[[str], Path] = no_state
    means_more: Callable[[str], bool] = never  # to us, not to nginx
    spelled: Callable[[str], str] = as_it_is  # in a word


def matching(pattern: str) -> st.SearchStrategy[str]:
    return st.from_regex(pattern, fullmatch=True)


def a_folder(value: str) -> str:
    """Nobody validates the state folder; one with other signs in it is refused when it is written."""
    if not re.fullmatch(r"/[A-Za-z0-9._/-]*", value, re.ASCII):
        raise ValueError
    return os.path.normpath(value)


NAMES = matching(r"[a-z][a-z0-9-]*")
HOSTS = matching(r"[a-z0-9-]+(\.[a-z0-9-]+)*")


def ruled(match: Match) -> Topology:
    return a_topology(a_route(matches=(match,)))


ADDRESSES = st.ip_addresses(v=4).map(lambda ip: f"{ip}:8080") | st.ip_addresses(v=6).map(lambda ip: f"[{ip}]:8080")
FIELDS = {
    "service": Field(
        lambda value: a_topology(a_route(value, tls=Tls(cert="/c", key="/k"))),
        grammar.name,
        NAMES,
    ),
    "project": Field(lambda value: a_topology(a_route()).replace(project=value), grammar.name, NAMES),
    "host": Field(
        lambda value: a_topology(a_route(hosts=(value,))),
        web.host,
        HOSTS | HOSTS.map(lambda host: f"*.{host}"),
        means_more=lambda value: value == "_",  # the server of no host
    ),
    "alias": Field(
        lambda value: a_topology(a_route(hosts=("a.example.com",), aliases=(value,))),
        web.plain_host,
        HOSTS.map(lambda host: f"b.{host}"),
    ),
    "path": Field(
        lambda value: a_topology(a_route(path=value)),
        web.path,
        matching(web.PATH.pattern),
        means_more=lambda value: value == "/",  # the whole host
    ),
    "header name": Field(
        lambda value: a_topology(a_route(response_headers=((value, "x"),))),
        web.response_header_name,
        matching(web.HEADER_NAME.pattern),
    ),
    "header value": Field(
        lambda value: a_topology(a_route(response_headers=(("X-A", value),))),
        web.response_header_value,
        st.text(st.characters(codec="ascii"), max_size=40),
    ),
    "address": Field(lambda value: a_topology(a_route(blue=(value,))), web.listen, ADDRESSES),
    "network": Field(lambda value: a_topology(a_route(), trusted=(value,)), web.network, st.ip_addresses().map(str)),
    "header name of a match": Field(
        lambda value: ruled(Match(headers=((value, "x"),))),
        web.matched_header_name,
        matching(web.HEADER_NAME.pattern),
        means_more=lambda value: len(value) < 3,  # the small letters of its stand-in are in other words, too
        spelled=as_a_variable,
    ),
    "header value of a match": Field(
        lambda value: ruled(Match(headers=(("X-A", value),))),
        web.matched_header_value,
        st.text(st.characters(codec="ascii"), max_size=40),
        spelled=re.escape,
    ),
    "cookie name of a match": Field(
        lambda value: ruled(Match(cookies=((value, "x"),))), web.cookie_name, matching("[A-Za-z0-9_]+")
    ),
    "cookie value of a match": Field(
        lambda value: ruled(Match(cookies=(("a", value),))),
        web.cookie_value,
        st.text(st.characters(codec="ascii"), max_size=40),
        spelled=re.escape,
    ),
    "network of a match": Field(lambda value: ruled(Match(networks=(value,))), web.network, st.ip_addresses().map(str)),
    "method of a mirror": Field(
        lambda value: a_topology(a_route(mirror=Mirror(share=1, methods=(value,)))),
        web.copied_method,
        st.sampled_from(["GET", "HEAD", "OPTIONS"]),
    ),
    "user": Field(
        lambda value: a_topology(a_route(), user=value), grammar.user, matching(r"[a-z0-9_.-]+(:[a-z0-9_.-]+)?")
    ),
    "state folder": Field(
        lambda _: a_topology(a_route()),
        a_folder,
        matching(r"(/[A-Za-y0-9._-]+)+"),
        state=Path,
        means_more=lambda value: value == "." or str(Path(value)) != value,
    ),
}
NASTY = st.text(st.sampled_from(" \t\n\r;{}\"'\\$#()~^*@=/.:-_%+,[]<>|&\0\x1b\x7fa0é٣ｗ"), max_size=12)


def mangled(lawful: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """A lawful value with something else in it."""

    def insert(value: str, at: int, more: str) -> str:
        return value[:at] + more + value[at:]

    return st.builds(insert, lawful, st.integers(0, 20), NASTY)


def said(name: str, value: str) -> Words:
    field = FIELDS[name]
    places = Places(field.state(value))
    text = render(field.topology(value), 7, places, frozenset(), own_address(places))
    return [words(raw) for raw, _, _ in statements(text)]


@cache
def said_of(name: str, harmless: str) -> Words:
    return said(name, harmless)


def stand_in(value: str) -> str:
    """As long, and with a slash at its ends where the value has one."""
    harmless = HARMLESS * len(value)
    harmless = f"/{harmless[1:]}" if value.startswith("/") else harmless
    return f"{harmless[:-1]}/" if value.endswith("/") else harmless


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", FIELDS)
@settings(max_examples=CASES // len(FIELDS), deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_value_comes_back_as_one_word_or_is_refused(name: str, data: st.DataObject) -> None:
    """In a configuration that is otherwise, word for word, the one of a harmless value."""
    field = FIELDS[name]
    value = data.draw(st.one_of(field.lawful, mangled(field.lawful), NASTY, st.text(max_size=20)))
    assume(HARMLESS not in value and not field.means_more(value))
    try:
        found = said(name, value)
    except ValueError:
        return
    harmless = stand_in(value)
    stood, stands = field.spelled(harmless), field.spelled(value)
    assert found == [tuple(word.replace(stood, stands) for word in line) for line in said_of(name, harmless)]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", FIELDS)
@settings(max_examples=CASES // len(FIELDS), deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_the_validators_take_can_be_written_and_is_taken_back(name: str, data: st.DataObject) -> None:
    field = FIELDS[name]
    try:
        value = field.validated(data.draw(field.lawful | mangled(field.lawful)))
    except ValueError:
        return
    topology, places = field.topology(value), Places(field.state(value))
    text = render(topology, 7, places, frozenset(), own_address(places))
    assert refusals(text, topology, 7, places, own_address(places)) == []


@settings(max_examples=CASES // len(FIELDS), deadline=None)
@given(st.floats(min_value=0.001, max_value=3600))
def test_a_duration_is_written_to_the_millisecond(seconds: float) -> None:
    topology = a_topology(a_route(timeouts=Timeouts(read=seconds)))
    text = render(topology, 7, Places(STATE), frozenset(), own_address(Places(STATE)))
    [written] = {words(raw)[1] for raw, _, _ in statements(text) if raw.startswith("proxy_read_timeout")}
    number, unit = (written[:-2], "ms") if written.endswith("ms") else (written[:-1], "s")
    assert int(number) * (1000 if unit == "s" else 1) == round(seconds * 1000)
    assert written == nginx_time(seconds)
