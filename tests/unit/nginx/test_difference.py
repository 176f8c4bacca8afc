"""The diff that `plan` shows leads from the one text to the other, and says no more than that."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from proxyctl.adapters.nginx.control import own_address
from proxyctl.adapters.nginx.readback.difference import difference
from proxyctl.adapters.nginx.rendering.render import render
from proxyctl.adapters.places import Places
from tests.golden.test_golden import STATE, a_route, a_topology


def text_of(*names: str) -> str:
    topology = a_topology(*(a_route(name, hosts=(f"{name}.example.com",)) for name in names))
    return render(topology, 7, Places(STATE), frozenset(), own_address(Places(STATE)))


def applied(diff: str, before: str) -> str:
    """As patch(1) does it, and as strictly: each line of context and each that goes must be there."""
    old, new, at = before.splitlines(True), list[str](), 0
    for line in diff.splitlines(True)[2:]:
        if hunk := re.fullmatch(r"@@ -(\d+),(\d+) \+\d+,\d+ @@\n", line):
            start = int(hunk[1]) - (hunk[2] != "0")
            new, at = new + old[at:start], start
            continue
        if line[0] in " -":
            assert old[at] == line[1:]
            at += 1
        if line[0] in " +":
            new.append(line[1:])
    return "".join(new + old[at:])


def test_a_new_and_a_gone_service_are_told_and_nothing_else() -> None:
    before, after = text_of("api", "cart", "web"), text_of("api", "blog", "web")
    diff = difference(before, after, "nginx.conf", "nginx.conf (planned)")
    assert applied(diff, before) == after
    changed = [line for line in diff.splitlines()[2:] if line[0] in "+-" and "px_" in line]
    assert changed and all("cart" in line or "blog" in line for line in changed if "px_shop_" in line)


def test_the_first_configuration_is_all_new() -> None:
    assert applied(difference("", text_of("web"), "a", "b"), "") == text_of("web")


def test_nothing_is_said_of_what_is_the_same() -> None:
    assert difference(text_of("web"), text_of("web"), "a", "b") == ""


LINES = st.lists(st.sampled_from(["a {\n", "    b;\n", "    c {\n", "    }\n", "}\n", "\n"]), max_size=30).map("".join)


@given(LINES, LINES)
def test_any_two_texts_are_led_from_one_to_the_other(before: str, after: str) -> None:
    assert applied(difference(before, after, "a", "b"), before) == after
