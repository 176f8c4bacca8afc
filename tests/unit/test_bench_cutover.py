"""What a benchmark says of a switch is read off the clients' outcomes alone."""

import math

from bench.peers.cutover import Turn, seen_in
from proxyctl.demo.load import Outcome
from proxyctl.domain.model import Colour

TO_GREEN = Turn(to=Colour.GREEN, began=10.0, returned=10.25)
TO_BLUE = Turn(to=Colour.BLUE, began=11.0, returned=11.25)


def answer(started: float, ended: float, release: str) -> Outcome:
    return Outcome(started, ended, release, problem="")


def test_a_switch_is_timed_from_the_command_to_the_first_new_and_the_last_old_answer() -> None:
    outcomes = [
        answer(9.0, 9.5, "blue"),
        answer(9.75, 10.125, "blue"),
        answer(10.0, 10.25, "green"),
        answer(10.125, 10.5, "blue"),
        answer(10.5, 10.75, "green"),
    ]
    (seen,) = seen_in([TO_GREEN], outcomes)
    assert (seen.first_new, seen.last_old) == (0.25, 0.5)


def test_a_request_sent_after_the_return_that_the_old_release_answered_is_counted() -> None:
    outcomes = [answer(10.125, 10.5, "blue"), answer(10.375, 10.5, "blue"), answer(10.5, 10.75, "green")]
    (seen,) = seen_in([TO_GREEN], outcomes)
    assert seen.old_after_return == 1


def test_each_switch_is_told_by_the_answers_before_the_next() -> None:
    outcomes = [answer(10.5, 10.75, "green"), answer(11.0, 11.125, "green"), answer(11.125, 11.5, "blue")]
    first, second = seen_in([TO_GREEN, TO_BLUE], outcomes)
    assert (first.first_new, first.last_old) == (0.75, 0.0)
    assert (second.first_new, second.last_old) == (0.5, 0.125)


def test_a_switch_that_no_client_saw_was_never_seen() -> None:
    failed = Outcome(10.0, 10.5, release="", problem="closed without an answer")
    (seen,) = seen_in([TO_GREEN], [failed])
    assert seen.first_new == math.inf
