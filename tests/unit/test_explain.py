"""Numbers in words."""

from __future__ import annotations

import pytest

from proxyctl.domain.explain import duration, figure, percent


@pytest.mark.parametrize(
    ("rate", "words"),
    [(0.0, "0 %"), (0.00078, "0.078 %"), (0.0645, "6.5 %"), (0.0996, "10 %"), (0.123, "12 %"), (1.0, "100 %")],
)
def test_a_rate_has_the_two_digits_that_count(rate: float, words: str) -> None:
    assert percent(rate) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2053, "205 ms"), (16.0, "16 s"), (119.0, "119 s"), (270.0, "4.5 min"), (660.0, "11 min")]
)
def test_a_time_has_the_unit_that_people_would_say(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_thousands_are_grouped() -> None:
    assert figure(12345.6) == "12,346"
