"""What sources beside nginx's log say of a candidate: measurements, counted, and what follows. Pure.

Start at heard(). A source fails, it passes, or it waits. What was never measured has not passed, and no data is no
measurement.
"""

from __future__ import annotations

import operator
from enum import StrEnum
from typing import Final

from proxyctl.domain.record import Record
from proxyctl.domain.units import Pairs, Seconds


class Sign(StrEnum):
    OVER = ">"
    AT_LEAST = ">="
    UNDER = "<"
    AT_MOST = "<="
    EQUAL = "=="
    UNEQUAL = "!="


_HOLDS: Final = {
    Sign.OVER: operator.gt,
    Sign.AT_LEAST: operator.ge,
    Sign.UNDER: operator.lt,
    Sign.AT_MOST: operator.le,
    Sign.EQUAL: operator.eq,
    Sign.UNEQUAL: operator.ne,
}


class Condition(Record):
    """One comparison with a number."""

    sign: Sign
    number: float

    def holds(self, value: float) -> bool:
        return bool(_HOLDS[self.sign](value, self.number))

    def __str__(self) -> str:
        return f"{self.sign} {self.number:g}"


# --- what is asked ------------------------------------------------------------------------------------------------


class PromQuery(Record):
    """An instant query in PromQL that gives one number."""

    server: str
    query: str
    headers: Pairs = ()  # values may be env:NAME or file:PATH


class JsonNumber(Record):
    """A number or a truth value in a JSON document."""

    url: str
    path: tuple[str, ...]  # of keys, and of places in a list
    headers: Pairs = ()


class HostCommand(Record):
    """The exit code of a program of this host."""

    words: tuple[str, ...]
    folder: str


class CandidateCommand(Record):
    """The exit code of a program inside one replica of the candidate."""

    words: tuple[str, ...]


Question = PromQuery | JsonNumber | HostCommand | CandidateCommand

SUCCESS: Final = Condition(sign=Sign.EQUAL, number=0)  # what a command passes by


class Source(Record):
    """A question, when it is asked, and what its answers mean. One of `fails` and `passes` is given, or both."""

    name: str
    question: Question
    fails: Condition | None = None
    passes: Condition | None = None
    interval: Seconds = 30.0
    delay: Seconds = 0.0  # of a step, before the first measurement
    timeout: Seconds = 10.0
    count: int | None = None  # so many measurements a step; None: as long as it lasts, and the last one counts
    failures: int = 0  # may fail in one step
    errors: int = 4  # in a row; with more it has not passed any longer
    dry_run: bool = False  # it is measured and told, and decides nothing

    @property
    def is_command(self) -> bool:
        return isinstance(self.question, (HostCommand, CandidateCommand))

    @property
    def soonest(self) -> Seconds:
        """After which time of a step it may have passed."""
        return self.delay + self.interval * ((self.count or 1) - 1)


# --- what it answered ---------------------------------------------------------------------------------------------


class Opinion(StrEnum):
    FAILS = "fails"
    PASSES = "passes"
    WAITS = "waits"  # neither, or not known yet


class Measurement(Record):
    value: float | None = None  # None: there is no data
    error: str = ""  # why it could not be measured
    output: str = ""  # the end of what a command wrote


class Measured(Record):
    """All measurements of one source in one step."""

    source: str
    count: int = 0  # that gave a value
    failed: int = 0
    passed: int = 0
    errors: int = 0  # in a row, until now
    last: float | None = None  # value
    says: Opinion = Opinion.WAITS  # the last one that was no error
    why: str = ""  # there is no value of the last one
    output: str = ""


COULD_NOT_RUN: Final = (126, 127)  # as shells tell it, and the engine
MOST_WORDS: Final = 200  # of theirs


def of_exit(code: int, output: str) -> Measurement:
    """Of a command that ended. One that a signal ended, or that could not be run, says nothing of the candidate."""
    if code < 0:
        return Measurement(error=f"signal {-code} ended the command")
    if code in COULD_NOT_RUN:
        return Measurement(error=f"the command could not be run: {_last_line(output) or f'exit code {code}'}")
    return Measurement(value=float(code), output=output)


def _last_line(output: str) -> str:
    return output.rpartition("\n")[2][:MOST_WORDS]


def said(source: Source, value: float) -> Opinion:
    """By one value. With `passes` alone whatever does not pass fails, with `fails` alone what does not fail passes."""
    if source.fails is not None and source.fails.holds(value):
        return Opinion.FAILS
    if source.passes is None or source.passes.holds(value):
        return Opinion.PASSES
    return Opinion.FAILS if source.fails is None else Opinion.WAITS


def after(source: Source, measured: Measured, measurement: Measurement) -> Measured:
    if measurement.error:
        return measured.replace(errors=measured.errors + 1, why=measurement.error)
    if measurement.value is None:
        return measured.replace(errors=0, says=Opinion.WAITS, why="no data")
    says = said(source, measurement.value)
    return measured.replace(
        count=measured.count + 1,
        failed=measured.failed + (says is Opinion.FAILS),
        passed=measured.passed + (says is Opinion.PASSES),
        errors=0,
        last=measurement.value,
        says=says,
        why="",
        output=measurement.output,
    )


def complete(source: Source, measured: Measured) -> bool:
    """No more is to be measured in this step."""
    return source.count is not None and measured.count >= source.count


def opinion(source: Source, measured: Measured) -> Opinion:
    """By all of a step."""
    if measured.failed > source.failures:
        return Opinion.FAILS
    if measured.errors > source.errors:
        return Opinion.WAITS
    if source.count is None:
        return Opinion.PASSES if measured.says is Opinion.PASSES else Opinion.WAITS
    passed = complete(source, measured) and measured.passed >= source.count - source.failures
    return Opinion.PASSES if passed else Opinion.WAITS


# --- all of them together -----------------------------------------------------------------------------------------


class Heard(Record):
    """What the sources of a service say of its candidate, in words."""

    failure: str = ""  # of the first one that fails
    output: str = ""  # of its command
    unready: str = ""  # those that have not passed
    told: tuple[str, ...] = ()  # those that decide nothing now: passed, or a dry run


def heard(sources: tuple[Source, ...], measured: tuple[Measured, ...]) -> Heard:
    known = {each.source: each for each in measured}
    pairs = [(source, known.get(source.name, Measured(source=source.name))) for source in sources]
    failing = [pair for pair in pairs if _decides(pair, Opinion.FAILS)]
    return Heard(
        failure=words(*failing[0]) if failing else "",
        output=failing[0][1].output if failing else "",
        unready="; ".join(words(*pair) for pair in pairs if _decides(pair, Opinion.WAITS)),
        told=tuple(words(*pair) for pair in pairs if pair[0].dry_run or _decides(pair, Opinion.PASSES)),
    )


def _decides(pair: tuple[Source, Measured], wanted: Opinion) -> bool:
    return not pair[0].dry_run and opinion(*pair) is wanted


def words(source: Source, measured: Measured) -> str:
    """One source: what it said last, what that means, and how often it failed."""
    parts = (_last(source, measured), _meaning(source, measured), _times(source, measured))
    dry_run = f" (a dry run: it {opinion(source, measured)})" if source.dry_run else ""
    return ", ".join(part for part in parts if part) + dry_run


def _last(source: Source, measured: Measured) -> str:
    if measured.errors > 1:
        return f"{source.name} was not measured {measured.errors} times in a row: {measured.why}"
    if measured.errors:
        return f"{source.name} was not measured: {measured.why}"
    if measured.why:
        return f"{source.name} has {measured.why}"
    if measured.last is None:
        return f"{source.name} is not measured yet"
    return f"{source.name} {'exited with code' if source.is_command else 'is'} {measured.last:g}"


def _meaning(source: Source, measured: Measured) -> str:
    if measured.why or measured.last is None or source.is_command:
        return ""
    match measured.says:
        case Opinion.FAILS if source.fails is not None and source.fails.holds(measured.last):
            return f"which fails: it is {source.fails}"
        case Opinion.FAILS:
            return f"which fails: it is not {source.passes}"
        case Opinion.WAITS:
            return f"neither {source.passes} nor {source.fails}"
        case Opinion.PASSES:
            return ""


def _times(source: Source, measured: Measured) -> str:
    if source.count is not None and complete(source, measured) and opinion(source, measured) is Opinion.WAITS:
        needed = source.count - source.failures
        return f"passed {measured.passed} of {measured.count} times, {needed} are needed, and no more are made"
    if measured.failed and measured.count > 1:
        return f"{measured.failed} of {measured.count} measurements failed"
    if source.count is not None and not complete(source, measured) and measured.count:
        return f"measured {measured.count} of {source.count} times"
    return ""
