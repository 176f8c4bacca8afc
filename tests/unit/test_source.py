"""What a source says of a candidate: it fails, it passes, or it waits; and nothing passes that was never measured."""

from __future__ import annotations

import math
from typing import Any

import pytest

from proxyctl.domain.codec import decode, encode
from proxyctl.domain.model import RolloutId
from proxyctl.domain.progress import Progress
from proxyctl.domain.source import (
    SUCCESS,
    Condition,
    HostCommand,
    JsonNumber,
    Measured,
    Measurement,
    Opinion,
    Sign,
    Source,
    after,
    complete,
    heard,
    of_exit,
    opinion,
)

HIGH = Condition(sign=Sign.OVER, number=0.05)
LOW = Condition(sign=Sign.UNDER, number=0.01)
BROKEN = Measurement(error="connection refused")
EMPTY = Measurement()

FAILS, PASSES, WAITS = Opinion.FAILS, Opinion.PASSES, Opinion.WAITS


def a_source(**given: Any) -> Source:
    conditions = {} if "passes" in given or "fails" in given else {"fails": HIGH, "passes": LOW}
    question = JsonNumber(url="http://127.0.0.1/stats", path=("depth",))
    return Source(name="depth", question=question).replace(**(conditions | given))


def measured(source: Source, *seen: float | Measurement) -> Measured:
    known = Measured(source=source.name)
    for each in seen:
        known = after(source, known, each if isinstance(each, Measurement) else Measurement(value=each))
    return known


BOTH, ONLY_FAIL, ONLY_PASS = a_source(), a_source(fails=HIGH), a_source(passes=LOW)
FIVE = a_source(count=5, failures=1)
PATIENT = a_source(errors=2)


@pytest.mark.parametrize(
    ("source", "seen", "expected"),
    [
        (BOTH, (), WAITS),
        (ONLY_FAIL, (), WAITS),
        (ONLY_PASS, (), WAITS),
        (BOTH, (0.06,), FAILS),
        (BOTH, (0.03,), WAITS),
        (BOTH, (0.001,), PASSES),
        (ONLY_FAIL, (0.06,), FAILS),
        (ONLY_FAIL, (0.03,), PASSES),
        (ONLY_PASS, (0.03,), FAILS),
        (ONLY_PASS, (0.001,), PASSES),
        (BOTH, (0.001, 0.03), WAITS),
        (BOTH, (0.001, EMPTY), WAITS),
        (ONLY_FAIL, (EMPTY, EMPTY), WAITS),
        (ONLY_FAIL, (BROKEN,) * 50, WAITS),
        (BOTH, (0.06, 0.001, 0.001), FAILS),
        (a_source(failures=1), (0.06, 0.001), PASSES),
        (a_source(failures=1), (0.001, 0.06), WAITS),
        (a_source(failures=1), (0.06, 0.001, 0.06), FAILS),
        (FIVE, (0.001,) * 4, WAITS),
        (FIVE, (0.001,) * 5, PASSES),
        (FIVE, (0.001,) * 4 + (0.06,), PASSES),
        (FIVE, (0.001,) * 3 + (0.03,) * 2, WAITS),
        (FIVE, (0.06, 0.06), FAILS),
        (FIVE, (0.001, EMPTY, BROKEN, 0.001, 0.001, 0.001), WAITS),
        (PATIENT, (0.001, BROKEN, BROKEN), PASSES),
        (PATIENT, (0.001, BROKEN, BROKEN, BROKEN), WAITS),
        (PATIENT, (0.001, BROKEN, BROKEN, BROKEN, 0.001), PASSES),
        (PATIENT, (0.001, BROKEN, BROKEN, 0.001, BROKEN, BROKEN), PASSES),
        (a_source(errors=0), (0.001, BROKEN), WAITS),
        (BOTH, (math.inf,), FAILS),
    ],
)
def test_what_was_measured_fails_passes_or_waits(
    source: Source, seen: tuple[float | Measurement, ...], expected: Opinion
) -> None:
    assert opinion(source, measured(source, *seen)) is expected


@pytest.mark.parametrize(
    ("sign", "value", "expected"),
    [
        (Sign.OVER, 2, False),
        (Sign.OVER, 3, True),
        (Sign.AT_LEAST, 2, True),
        (Sign.UNDER, 2, False),
        (Sign.AT_MOST, 2, True),
        (Sign.EQUAL, 2, True),
        (Sign.UNEQUAL, 2, False),
    ],
)
def test_a_condition_is_one_comparison(sign: Sign, value: float, expected: bool) -> None:
    assert Condition(sign=sign, number=2).holds(value) is expected


def test_no_more_is_measured_than_wanted_and_errors_and_no_data_are_no_measurements() -> None:
    assert not complete(FIVE, measured(FIVE, *(0.001,) * 4, BROKEN, EMPTY))
    assert complete(FIVE, measured(FIVE, *(0.001,) * 5))
    assert not complete(BOTH, measured(BOTH, *(0.001,) * 500))


@pytest.mark.parametrize(
    ("code", "expected"), [(0, PASSES), (1, FAILS), (255, FAILS), (126, WAITS), (127, WAITS), (-9, WAITS)]
)
def test_a_command_passes_by_its_exit_code(code: int, expected: Opinion) -> None:
    smoke = a_source(question=HostCommand(words=("bin/smoke",), folder="/srv"), passes=SUCCESS)
    assert opinion(smoke, measured(smoke, of_exit(code, ""))) is expected


def test_all_together_say_who_fails_who_waits_and_what_decides_nothing() -> None:
    bad, new = a_source(name="bad", failures=1), a_source(name="new")
    good, dry = a_source(name="good"), a_source(name="dry", dry_run=True)
    found = heard((bad, new, good, dry), (measured(bad, 0.06, 0.12), measured(good, 0.004), measured(dry, 0.5)))
    assert found.failure == "bad is 0.12, which fails: it is > 0.05, 2 of 2 measurements failed"
    assert found.unready == "new is not measured yet"
    assert found.told == ("good is 0.004", "dry is 0.5, which fails: it is > 0.05 (a dry run: it fails)")


def test_the_output_of_the_command_that_failed_is_told() -> None:
    smoke = a_source(name="smoke", question=HostCommand(words=("bin/smoke",), folder="/srv"), passes=SUCCESS)
    found = heard((smoke,), (measured(smoke, of_exit(3, "no cart")),))
    assert (found.failure, found.output) == ("smoke exited with code 3", "no cart")


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ((), "depth is not measured yet"),
        ((BROKEN,), "depth was not measured: connection refused"),
        ((BROKEN, BROKEN, BROKEN), "depth was not measured 3 times in a row: connection refused"),
        ((EMPTY,), "depth has no data"),
        ((0.001, 0.001), "depth is 0.001, measured 2 of 5 times"),
        ((0.03,), "depth is 0.03, neither < 0.01 nor > 0.05, measured 1 of 5 times"),
        (
            (0.03, 0.03, 0.001, 0.001, 0.001),
            "depth is 0.001, passed 3 of 5 times, 4 are needed, and no more are made",
        ),
    ],
)
def test_a_source_that_waits_says_for_what(seen: tuple[float | Measurement, ...], words: str) -> None:
    assert heard((FIVE,), (measured(FIVE, *seen),)).unready == words


def test_what_was_measured_is_kept_whole_and_an_older_progress_had_none() -> None:
    kept = Progress(
        rollout=RolloutId("web-r1"), step=0, spent=1.0, share=500, measured=(measured(FIVE, 0.001, BROKEN),)
    )
    written = encode(kept)
    assert decode(Progress, written) == kept
    del written["measured"]
    assert decode(Progress, written).measured == ()
