"""What a line of the log says, and of whom. The lines of these tests are nginx's own form; test_access_log.py has real
ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyctl.adapters.nginx.log.lines import MOST_LINES, ROUTES_KNOWN, ROUTES_TOLD, Ticks
from proxyctl.domain.model import Colour
from proxyctl.domain.tally import EDGES, TICK, Tally, Tick, bucket
from tests.log_writer import BLUE, GREEN, NOON, WHO, line

OFTEN = 100_000.0  # seconds later: every tick before has ended


def ticks_of(*lines: bytes, share: int = 16) -> list[Tick]:
    """All of them; a last line ends the last."""
    return [end.tick for end in Ticks(WHO, share).take([*lines, line(NOON + OFTEN)])]


def told(*lines: bytes) -> tuple[Tally, Tally]:
    (tick,) = ticks_of(*lines)
    return tick.blue, tick.green


# --- whose attempt it is -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("between", [", ", " : "], ids=["in one pool", "in the next pool"])
def test_each_attempt_is_charged_to_the_colour_of_its_own_address(between: str) -> None:
    blue, green = told(
        line(
            address=GREEN + between + BLUE,
            status=f"502{between}200",
            answered=f"-{between}0.3",
            ended=f"1.0{between}2.0",
        )
    )
    assert (green.requests, green.bad, green.bad_attempts) == (1, 1, 1)
    assert (blue.requests, blue.bad, blue.bad_attempts) == (1, 0, 0)
    assert (times_of(blue), times_of(green)) == ([bucket(0.3)], [bucket(1.0)])


def test_three_attempts_in_two_pools_are_three() -> None:
    blue, green = told(line(address=f"{GREEN}, 127.0.0.3:81 : {BLUE}", status="500, 504 : 200", answered="-, - : 0.1"))
    assert (green.requests, green.bad_attempts, green.bad, blue.requests, blue.bad) == (2, 2, 1, 1, 0)


def test_a_client_that_gave_up_is_no_error_of_the_colour_and_its_wait_is_known() -> None:
    _, green = told(line(address=GREEN, status="-", answered="-", ended="0.300"))
    assert (green.requests, green.bad, times_of(green)) == (1, 0, [bucket(0.3)])


def test_a_pool_without_a_live_replica_is_the_colours_error() -> None:
    pool = "px_shop_web_green"
    blue, green = told(
        line(address=pool, status="502", answered="-", ended="0.000"),
        line(
            address=f"{GREEN}, 127.0.0.3:81, {pool}", status="502, 502, 502", answered="-, -, -", ended="0.0, 0.0, 0.0"
        ),
        line(address=f"{GREEN}, {pool}_cover", status="502, 502", answered="-, -", ended="0.0, 0.0"),
    )
    assert (green.requests, green.bad_attempts, blue.requests) == (6, 6, 0)


@pytest.mark.parametrize(
    "of_nobody",
    [
        line(address="-", status="-", answered="-", ended="-"),
        line(address="192.0.2.9:80", status="502"),
        line(address="px_shop_other_green", status="502"),
        line(service="other", status="502"),
        line(service="-", address="-", status="-", method="-", path="-"),
        line(reason="match", status="502"),
        line(reason="mirror", status="502"),
    ],
    ids=[
        "answered by nginx",
        "an address of before",
        "another's pool",
        "another service",
        "no request",
        "match",
        "mirror",
    ],
)
def test_what_is_no_fair_sample_of_a_colour_is_counted_for_nobody(of_nobody: bytes) -> None:
    assert told(of_nobody) == (Tally(), Tally())


def test_a_client_is_bad_once_in_a_tick_and_told_as_a_hash() -> None:
    clients = ("192.0.2.1 07", "192.0.2.1 07", "192.0.2.1 08", "192.0.2.2 07")
    ids = [f"{number:032x}" for number in range(4)]
    _, green = told(*(line(address=GREEN, status="503", client=c, id_=i) for c, i in zip(clients, ids, strict=True)))
    assert (green.bad_attempts, green.bad, len(green.clients), green.samples) == (4, 3, 3, tuple(ids[:3]))
    assert not [client for client in green.clients if "192" in client]
    _, again = told(line(address=GREEN, status="503", client="192.0.2.2 07"))
    assert set(again.clients) < set(green.clients), "the same client has the same hash in every tick"


def test_a_client_that_fails_on_both_colours_counts_for_one_of_them_as_often_as_it_was_there() -> None:
    """Else those who fail everywhere would make a good candidate look as bad as a live one with far more requests."""
    counted = Counter[str]()
    for number in range(400):
        ids = [blake2b(f"{number}/{request}".encode(), digest_size=16).hexdigest() for request in range(20)]
        of_both = [line(address=GREEN if at == 0 else BLUE, status="500", id_=id_) for at, id_ in enumerate(ids)]
        blue, green = told(*of_both)
        assert blue.bad + green.bad == 1
        counted["green"] += green.bad
    assert 5 <= counted["green"] <= 40, "about one in twenty"


def test_of_many_bad_clients_all_are_counted_and_64_are_told() -> None:
    blue, _ = told(*(line(status="500", client=f"192.0.2.{number} 00") for number in range(200)))
    assert (blue.bad, len(blue.clients)) == (200, 64)


def test_a_route_is_a_method_and_the_first_part_of_the_path_and_the_rarest_are_one() -> None:
    paths = [f"/{number:02d}/rest/{asked}" for number in range(40) for asked in range(number + 1)]
    blue, _ = told(*(line(path=path) for path in paths), line(path="/39", method="POST", status="500"))
    names = [f"GET /{number:02d}" for number in range(40 - ROUTES_TOLD, 40)]
    assert [route.route for route in blue.routes] == [*names, "other"]
    assert [route.requests for route in blue.routes] == [*range(41 - ROUTES_TOLD, 41), 37]
    assert (blue.routes[-1].bad, blue.requests) == (1, len(paths) + 1)


def test_a_scan_of_random_paths_fills_no_memory_and_every_request_is_counted() -> None:
    ticks = Ticks(WHO)
    list(ticks.take([line(path=f"/{number}") for number in range(5 * ROUTES_KNOWN)]))
    open_ = ticks._open
    assert open_ is not None and len(open_._sides[Colour.BLUE]._routes) == ROUTES_KNOWN + 1
    (end,) = ticks.take([line(NOON + TICK)])
    assert end.tick.blue.requests == 5 * ROUTES_KNOWN


def times_of(tally: Tally) -> list[int]:
    """The buckets, each as often as it was met."""
    return sorted(Counter({number: n for route in tally.routes for number, n in enumerate(route.times)}).elements())


# --- when --------------------------------------------------------------------------------------------------------


def test_a_tick_ends_with_the_first_line_of_a_later_one_and_late_lines_count_where_they_come() -> None:
    lines = [
        line(NOON + 1),
        line(NOON + 4),
        line(NOON + 5),
        line(NOON + 4),
        line(NOON + 9),
        line(NOON + 6),
        line(NOON + 17),
    ]
    ends = list(Ticks(WHO).take(lines))
    assert [(end.line, end.tick.at - NOON, end.tick.blue.requests) for end in ends] == [(2, 0.0, 2), (6, 5.0, 4)]


def test_a_clock_that_jumps_loses_no_line_and_stops_no_tick() -> None:
    """An hour ahead and back; ten seconds back, which may as well be a worker that was late; a day back."""
    jumps = (0, 3600, 3601, 0, 1, 6, 3, -4, 7, 12, -86_400, -86_390)
    ticks = ticks_of(*(line(NOON + seconds) for seconds in jumps))
    assert [(tick.at - NOON, tick.blue.requests) for tick in ticks] == [
        (0.0, 1), (3600.0, 2), (0.0, 2), (5.0, 4), (10.0, 1), (-86_400.0, 1), (-86_390.0, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("torn", [10, 16, 19, 24])
def test_a_torn_time_ends_no_tick(torn: int) -> None:
    (tick,) = ticks_of(line(NOON + 6), line(NOON)[:torn], line(NOON + 7))
    assert (tick.at, tick.blue.requests) == (NOON + 5, 2)


def test_a_tick_tells_how_many_of_its_lines_are_in_other_words() -> None:
    combined = b'192.0.2.7 - - [21/Nov/2026:12:00:06 +0000] "GET / HTTP/1.1" 200 5 "-" "curl"'
    short = b"\t".join(line(NOON + 6).split(b"\t")[:-1])
    ticks = ticks_of(line(NOON), line(NOON + 5), combined, short, short, line(NOON + 7), line(NOON + 11))
    assert [(tick.blue.requests, tick.unreadable) for tick in ticks] == [(1, 0), (2, 3), (1, 0)]


def test_times_are_of_any_zone() -> None:
    winter, summer = line(NOON).replace(b"12:00:00+00:00", b"13:00:04+01:00"), line(NOON + 5)
    (tick, _) = ticks_of(winter, summer)
    assert (tick.at, tick.blue.requests) == (NOON, 1)


# --- how many ----------------------------------------------------------------------------------------------------


def test_after_a_tick_of_too_many_lines_the_next_is_sampled_evenly_and_says_so() -> None:
    some = [line(NOON, address=address) for address in (BLUE, GREEN, GREEN)]
    ticks = Ticks(WHO)
    list(ticks.take(some * (2 * MOST_LINES // len(some))))
    busy = [line(NOON + TICK, address=address) for address in (BLUE, GREEN, GREEN) for _ in range(8000)]
    first, second = ticks.take([*busy, line(NOON + 2 * TICK)])
    assert (first.tick.sampled, second.tick.sampled) == (1.0, 0.5)
    assert first.tick.blue.requests * 2 == first.tick.green.requests
    assert second.tick.blue.requests == pytest.approx(4000, rel=0.1)
    assert second.tick.green.requests == pytest.approx(8000, rel=0.1)
    (third,) = ticks.take([line(NOON + 3 * TICK)])
    assert third.tick.sampled == 1.0, "the tick before had few"


# --- whatever is in it -------------------------------------------------------------------------------------------

JUNK = st.one_of(
    st.binary(max_size=60),
    st.lists(st.binary(max_size=8), max_size=16).map(b"\t".join),
    st.builds(lambda good, cut: good[:cut], st.just(line()), st.integers(0, 150)),
    st.sampled_from([b"", b"\0" * 500, b"\xff\xfe" * 40, b"x" * (1 << 20), line().replace(b"\t", b" ")]),
).filter(lambda junk: b"\n" not in junk)

WELL = st.builds(
    line,
    at=st.integers(0, 30).map(lambda seconds: NOON + seconds),
    address=st.sampled_from([BLUE, GREEN, "-", f"{GREEN}, {BLUE}"]),
    status=st.sampled_from(["200", "404", "500", "502, 200"]),
    answered=st.sampled_from(["-", "0.001", "0.500", "-, 0.100"]),
    path=st.sampled_from(["/", "/a/b", "/a b/c", "/\\x09"]),
).filter(lambda text: (b", 1" in text) == (b"2, 2" in text) == (b"-, 0" in text))


@given(st.lists(JUNK))
def test_no_bytes_raise(lines: list[bytes]) -> None:
    for end in Ticks(WHO).take([*lines, line(), *lines, line(NOON + OFTEN)]):
        assert all(len(route.times) in (0, len(EDGES) + 1) for route in end.tick.blue.routes)


@given(st.lists(st.one_of(WELL, JUNK), max_size=60), st.data())
def test_well_formed_lines_are_counted_exactly_however_many_come_at_once(lines: list[bytes], data: Any) -> None:
    lines = [*lines, line(NOON + OFTEN)]
    cuts = sorted({0, len(lines), *data.draw(st.lists(st.integers(0, len(lines)), max_size=5))})
    ticks = Ticks(WHO)
    ends = [end.tick for a, b in pairwise(cuts) for end in ticks.take(lines[a:b])]
    assert ends == [end.tick for end in Ticks(WHO).take(lines)]
    for colour, address in (("blue", BLUE), ("green", GREEN)):
        tallies: list[Tally] = [getattr(tick, colour) for tick in ends]
        assert sum(tally.requests for tally in tallies) == counted(lines[:-1], address)


@given(st.lists(WELL, min_size=1, max_size=60), st.data())
def test_reading_goes_on_from_the_end_of_any_tick(lines: list[bytes], data: Any) -> None:
    lines = [*lines, line(NOON + OFTEN)]
    ends = list(Ticks(WHO).take(lines))
    number = data.draw(st.integers(0, len(ends) - 1))
    after = Ticks(WHO).take(lines[ends[number].line :])
    assert [end.tick for end in after] == [end.tick for end in ends[number + 1 :]]


def counted(lines: Sequence[bytes], address: str) -> int:
    """The slow way."""
    fields = [text.split(b"\t") for text in lines]
    return sum(each[10].split(b", ").count(address.encode()) for each in fields if len(each) == 14)
