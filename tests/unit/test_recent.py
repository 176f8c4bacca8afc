"""The last minute of the log, as people are shown it."""

from __future__ import annotations

import pytest

from proxyctl.domain.model import Colour
from proxyctl.domain.recent import Lately, lately, quantile
from proxyctl.domain.tally import EDGES, RouteTally, Tally, Tick, bucket

BLUE, GREEN = Colour.BLUE, Colour.GREEN


def times(*seconds: float) -> tuple[int, ...]:
    counts = [0] * (len(EDGES) + 1)
    for each in seconds:
        counts[bucket(each)] += 1
    return tuple(counts)


def tally(requests: int, bad: int = 0, *seconds: float) -> Tally:
    routes = (RouteTally(route="GET /", requests=requests, bad=bad, times=times(*seconds)),)
    return Tally(requests=requests, bad=min(bad, 1), bad_attempts=bad, routes=routes if seconds else ())


def tick(at: float, blue: Tally, green: Tally, sampled: float = 1.0) -> Tick:
    return Tick(at=at, blue=blue, green=green, sampled=sampled)


def known(*ticks: Tick, moved: float = 0.0) -> Lately:
    found = lately(ticks, moved)
    assert found is not None
    return found


def test_no_ticks_tell_nothing() -> None:
    assert lately((), 0.0) is None
    assert lately((tick(100.0, tally(9), tally(1)),), moved=101.0) is None


def test_numbers_count_from_the_last_move_on_the_trend_shows_what_was_before() -> None:
    before, after = tick(100.0, tally(100, 0, 0.01), tally(0)), tick(105.0, tally(80), tally(20, 0, 0.02))
    shown = known(before, after, moved=103.0)
    assert (shown.share(GREEN), shown.side(GREEN).per_second) == (0.2, 4.0)
    assert shown.side(BLUE).trend == (EDGES[bucket(0.01)], None)


def test_what_is_older_than_a_minute_is_not_shown() -> None:
    ticks = [tick(5.0 * at, tally(10 if at < 12 else 20), tally(0)) for at in range(24)]
    blue = known(*ticks).side(BLUE)
    assert (blue.requests, blue.per_second) == (12 * 20, 4.0)


def test_each_colours_share_is_what_it_really_got() -> None:
    shown = known(tick(100.0, tally(95), tally(5)), tick(105.0, tally(94), tally(6)))
    assert (shown.share(BLUE), shown.share(GREEN)) == pytest.approx((0.945, 0.055))
    assert known(tick(100.0, tally(0), tally(0))).share(GREEN) is None


def test_every_bad_answer_counts_here_also_a_clients_second() -> None:
    assert known(tick(100.0, tally(50), tally(40, 10))).side(GREEN).bad == 0.25


def test_of_a_sampled_log_the_rate_is_that_of_all_requests() -> None:
    assert known(tick(100.0, tally(50), tally(0), sampled=0.25)).side(BLUE).per_second == pytest.approx(40.0)


def test_latencies_are_told_to_the_edge_of_their_bucket() -> None:
    green = known(
        tick(100.0, tally(1), tally(10, 0, *[0.01] * 10)), tick(105.0, tally(1), tally(10, 0, *[0.01] * 8, 0.3, 0.3))
    ).side(GREEN)
    assert green.median == EDGES[bucket(0.01)]
    assert green.p95 == EDGES[bucket(0.3)]
    assert green.trend == (EDGES[bucket(0.01)], EDGES[bucket(0.3)])


def test_what_took_longer_than_every_edge_is_told_as_the_last_one() -> None:
    assert quantile(times(500.0), 0.5) == EDGES[-1]
    assert quantile(times(), 0.5) is None
    assert quantile((), 0.5) is None


def test_a_tick_without_answers_leaves_a_hole_in_the_trend() -> None:
    assert known(tick(100.0, tally(1, 0, 0.01), tally(0)), tick(105.0, tally(0), tally(0))).side(BLUE).trend == (
        EDGES[bucket(0.01)],
        None,
    )
