"""What people who watch a rollout see of the log: each colour's share, rate, errors and times, of the last minute."""

from __future__ import annotations

import io

from rich.console import Console

from proxyctl.cli.screen import Picture
from proxyctl.domain.lately import lately
from proxyctl.domain.model import Colour
from proxyctl.domain.state import Kind
from proxyctl.domain.steps import Approval, Weight
from proxyctl.domain.tally import EDGES, TICK, RouteTally, Tally, Tick, bucket
from proxyctl.domain.ticks import Grown, Judged
from tests.arena import Arena


def a_tally(requests: int, bad: int = 0, slow: int = 0) -> Tally:
    """20 ms an answer; the slow ones take 2 s. A client counts once, an answer always."""
    times = [0] * (len(EDGES) + 1)
    times[bucket(0.02)], times[bucket(2.0)] = requests - slow, slow
    route = RouteTally(route="GET /", requests=requests, bad=bad, times=tuple(times))
    return Tally(requests=requests, bad=min(bad, 1), bad_attempts=bad, routes=(route,))


def ticks(*tallies: tuple[Tally, Tally], sampled: float = 1.0) -> list[Tick]:
    return [Tick(at=at * TICK, blue=blue, green=green, sampled=sampled) for at, (blue, green) in enumerate(tallies)]


def test_each_colour_has_its_share_rate_errors_and_times() -> None:
    blue, green = lately(ticks(*[(a_tally(95, slow=10), a_tally(5, bad=2))] * 4))
    assert (blue.colour, blue.share, blue.per_second, blue.bad) == (Colour.BLUE, 0.95, 19.0, 0.0)
    assert (green.share, green.per_second, green.bad) == (0.05, 1.0, 0.4)
    assert (blue.half, blue.most) == (EDGES[bucket(0.02)], EDGES[bucket(2.0)])
    assert green.half == green.most == EDGES[bucket(0.02)]


def test_only_the_last_minute_counts() -> None:
    failing, well = (a_tally(10, bad=10), a_tally(10, bad=10)), (a_tally(10), a_tally(10))
    assert [each.bad for each in lately(ticks(failing, *[well] * 12))] == [0.0, 0.0]


def test_what_was_sampled_is_told_for_all() -> None:
    blue, _ = lately(ticks((a_tally(50), a_tally(50)), sampled=0.5))
    assert (blue.share, blue.per_second) == (0.5, 20.0)


def test_of_what_nobody_asked_there_is_nothing_to_see() -> None:
    assert lately([]) == ()
    assert lately(ticks((Tally(), Tally()))) == ()
    _, green = lately(ticks((a_tally(5), Tally())))
    assert (green.share, green.bad, green.half) == (0.0, 0.0, None)


async def test_the_picture_shows_the_split_asked_and_observed_and_evidence_toward_its_limits() -> None:
    arena = Arena()
    await arena.deploy("app:1")
    await arena.deploy("app:2", Kind.DEPLOY, (Weight(share=500), Approval()))
    picture = Picture(lambda: arena.state)
    picture.close()
    judged = Judged(
        decision="wait",
        sentence="waiting at 5 %: 2 bad of 20 so far",
        grown=(
            Grown(metric="errors", evidence=1.0, needed=143.0),
            Grown(metric="latency", evidence=333.0, needed=333.0),
        ),
        lately=lately(ticks(*[(a_tally(95, slow=10), a_tally(5, bad=2))] * 4)),
    )
    picture.tick(judged.replace(grown=(judged.grown[0].replace(evidence=12.0),)))
    picture.tick(judged)
    page = Console(file=io.StringIO(), width=150, color_system=None, legacy_windows=False)
    page.print(picture.picture(arena.state))
    rows = [line.strip() for line in page.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    for part in (
        "blue   95.00 %",
        "observed 95 %, 19 req/s, 0 % bad, half within 21 ms, 95 % within 2 s",
        "green   5.00 %",
        "observed 5 %, 1 req/s, 40 % bad, half within 21 ms, 95 % within 21 ms",
        "weight 5 % > until it is approved",
        "evidence 1 of 143 needed",
        "evidence 333 of 333 needed",
        "waiting at 5 %: 2 bad of 20 so far",
    ):
        assert any(part in row for row in rows), (part, rows)
    errors, latency = (next(row for row in rows if row.startswith(metric)) for metric in ("errors", "latency"))
    assert ("█" in errors, "▅▁" in errors) == (False, True), "it grew, and fell again"
    assert ("░" in latency, "█" * 30 in latency) == (False, True), "it is at its limit"
