"""What a rollout would have come to: `simulate` on logs that the test wrote, of known rates."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner, Result

from proxyctl.adapters.nginx.log.combined import as_compact
from proxyctl.cli.simulate import simulate
from proxyctl.domain.criteria import Criteria
from proxyctl.domain.forecast import Traffic, forecast_of
from proxyctl.domain.steps import Weight
from proxyctl.errors import UsageError
from tests.log_writer import NOON, line

FILE = """\
project: shop
services:
  web:
    container: {image: "web:1"}
    port: 8000
    health: {path: /healthz}
    strategy: STRATEGY
    bake: 60s
  quiet:
    container: {image: "quiet:1"}
    port: 8000
    health: {path: /healthz}
    path: /quiet
    strategy: {canary: {steps: [{weight: 5, for: 1m}], analysis: off}}
"""
MINUTES = 40
PER_SECOND = 20
USUAL = 0.005


class Asked(NamedTuple):
    at: float
    client: int
    bad: bool
    seconds: float


def requests(minutes: float = MINUTES, per_second: int = PER_SECOND, usual: float = USUAL) -> list[Asked]:
    """Of 500 clients, in the order of time; 30 ms in the median."""
    chance = random.Random(7)
    return [
        Asked(NOON + second, chance.randrange(500), chance.random() < usual, 0.03 * 2.718 ** (0.5 * chance.gauss(0, 1)))
        for second in range(int(minutes * 60))
        for _ in range(per_second)
    ]


def compact(asked: Asked) -> bytes:
    return line(
        asked.at,
        status="500" if asked.bad else "200",
        answered=f"{asked.seconds:.3f}",
        client=f"192.0.2.{asked.client} 07",
        path="/cart",
    )


def combined(asked: Asked) -> bytes:
    time = datetime.fromtimestamp(asked.at, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
    status = 500 if asked.bad else 200
    return f'192.0.2.{asked.client} - - [{time}] "GET /cart?x=1 HTTP/1.1" {status} 612 "-" "curl/8.5.0"'.encode()


Written = Callable[[Asked], bytes]


class Desk:
    """A project file, a log, and the command."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "access.log"
        self._file = folder / "proxyctl.yml"
        self._state = folder / "state"
        self.strategy("canary")

    def strategy(self, text: str) -> None:
        self._file.write_text(FILE.replace("STRATEGY", text))

    def write(self, written: Written = compact, asked: list[Asked] | None = None) -> None:
        lines = [written(one) for one in (requests() if asked is None else asked)]
        self.log.write_bytes(b"\n".join([*lines, b""]))

    def type(self, *words: str, service: str = "web") -> Result:
        options = ("--log", str(self.log), "-f", str(self._file), "--state", str(self._state))
        return CliRunner().invoke(simulate, [service, *words, *options])

    def told(self, *words: str) -> dict[str, Any]:
        result = self.type(*words, "--json")
        assert result.exit_code == 0, result.output
        found: dict[str, Any] = json.loads(result.stdout)
        assert not self._state.exists(), "it needs no state, and makes none"
        return found

    def refusal(self, *words: str, service: str = "web") -> str:
        result = self.type(*words, service=service)
        assert result.exit_code != 0, result.output
        if isinstance(result.exception, UsageError):
            return f"{result.exception}; {result.exception.next_step}"
        assert isinstance(result.exception, SystemExit), result.exception
        return result.output


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


BOTH = pytest.mark.parametrize("written", [compact, combined])


@BOTH
def test_a_candidate_without_a_defect_is_promoted(desk: Desk, written: Written) -> None:
    desk.write(written)
    told = desk.told()
    assert told["outcome"] == "promoted", told["sentence"]
    assert [minute["step"] for minute in told["minutes"] if minute["passed"]] == [1, 2, 3, 5], "4 is all traffic"
    usual = told["candidate_bad"] / told["candidate_requests"]
    assert usual == pytest.approx(USUAL, rel=0.5), "what it had of the log's own"


@BOTH
def test_one_in_five_bad_is_rolled_back_at_the_first_step(desk: Desk, written: Written) -> None:
    desk.write(written)
    told = desk.told("--error-rate", "20%")
    assert (told["outcome"], told["step"]) == ("rolled-back", 1)
    assert told["seconds"] <= 60
    assert told["sentence"].startswith("rolled back at 5 %: ")
    assert 3 <= told["candidate_bad"] <= 30
    share = told["candidate_requests"] / (PER_SECOND * told["seconds"])
    assert share == pytest.approx(0.05, abs=0.03)


def test_a_defect_from_a_later_step_on_is_met_there(desk: Desk) -> None:
    desk.write()
    told = desk.told("--error-rate", "10%", "--from-step", "2", "--weights", "10,50")
    assert (told["outcome"], told["step"]) == ("rolled-back", 2)
    assert "at 50 %" in told["sentence"]


def test_steps_are_counted_as_the_file_and_status_count_them(desk: Desk) -> None:
    desk.strategy("{canary: {steps: [{weight: 5, for: 1m}, {gate: approve}, {weight: 50, for: 1m}]}}")
    desk.write()
    assert "  steps: 1 at 5 % for 1m, 3 at 50 % for 1m, 5 at 100 % for 1m" in desk.type().output.splitlines()
    told = desk.told("--error-rate", "20%", "--from-step", "3")
    assert (told["outcome"], told["step"], told["minutes"][-1]["share"]) == ("rolled-back", 3, 0.5)


def test_slow_answers_are_caught_where_the_log_has_times(desk: Desk) -> None:
    desk.write()
    told = desk.told("--latency", "x2")
    assert told["outcome"] == "rolled-back"
    assert " slow of " in told["sentence"]
    assert told["minutes"][-1]["metric"] == "latency"


def test_in_the_combined_format_latency_is_neither_judged_nor_given(desk: Desk) -> None:
    desk.write(combined)
    assert "the log has no latency, so that is not judged" in desk.type().output
    assert {minute["metric"] for minute in desk.told()["minutes"]} == {"errors"}
    assert "--latency shows nowhere" in desk.refusal("--latency", "x2")


def test_in_the_combined_format_a_request_is_called_by_its_line(desk: Desk) -> None:
    """It has no id there that anybody could look for."""
    desk.write(combined)
    told = desk.told("--error-rate", "20%")
    named = [int(number) for number in re.findall(r"line-(\d+)", told["sentence"])]
    before = int(told["log"]["learned_from"] * PER_SECOND)
    assert len(named) == 3
    assert all(before < number <= before + told["seconds"] * PER_SECOND for number in named)


def test_the_same_seed_tells_the_same_story_and_another_deals_anew(desk: Desk) -> None:
    desk.write()
    once, twice, other = (desk.told("--error-rate", "3%", "--seed", seed) for seed in ("5", "5", "6"))
    assert once == twice
    assert [m["candidate_requests"] for m in once["minutes"]] != [m["candidate_requests"] for m in other["minutes"]]


def test_a_larger_share_only_adds_to_the_requests_of_a_smaller_one(desk: Desk) -> None:
    desk.write()
    few, many = (desk.told("--weights", weights)["minutes"][0]["candidate_requests"] for weights in ("5", "25"))
    assert few == pytest.approx(0.05 * 60 * PER_SECOND, rel=0.4)
    assert many == pytest.approx(0.25 * 60 * PER_SECOND, rel=0.3)


def test_a_blue_green_meets_its_defect_in_the_bake(desk: Desk) -> None:
    desk.strategy("blue-green")
    desk.write()
    assert desk.told()["outcome"] == "promoted"
    bad = desk.told("--error-rate", "20%")
    assert (bad["outcome"], bad["minutes"][0]["share"]) == ("rolled-back", 1.0)
    assert "before the rollout" in bad["sentence"]
    assert bad["minutes"][-1]["evidence"] >= bad["minutes"][-1]["needed"]


def test_a_step_by_the_clock_lasts_as_long_as_it_says(desk: Desk) -> None:
    desk.strategy("{canary: {steps: [{weight: 10, for: 2m}, {pause: 1m}]}}")
    desk.write()
    told = desk.told()
    assert (told["outcome"], told["seconds"]) == ("promoted", 180 + 60)


def test_too_little_traffic_ends_as_the_forecast_says(desk: Desk) -> None:
    """A request every two seconds: the deadline of the first step comes first, and a person decides."""
    desk.write(asked=[one for one in requests(60, per_second=1) if one.at % 2 == 0])
    ladder = tuple(Weight(share=share, dwell=None) for share in (500, 2500, 5000, 10_000))
    first, *_ = forecast_of(ladder, Criteria(), Traffic(per_second=0.5, usual=USUAL, seconds=3600.0))
    assert first.inconclusive
    told = desk.told()
    assert (told["outcome"], told["step"]) == ("held", 1)
    assert told["seconds"] == Criteria().deadline
    assert "a person decides" in told["sentence"]
    assert "it would have been held for a person" in desk.type().output


def test_a_log_that_ends_before_the_rollout_is_no_verdict(desk: Desk) -> None:
    desk.write(asked=requests(3))
    told = desk.told()
    assert told["outcome"] == "unfinished"
    assert "the plan takes 4 min at least" in desk.type().output


def test_a_silent_log_proves_nothing(desk: Desk) -> None:
    """Two minutes of traffic after an hour's quarter, then nobody for half an hour, then somebody."""
    asked = [one for one in requests(60) if one.at < NOON + 16 * 60 or one.at >= NOON + 59 * 60]
    desk.write(asked=asked)
    told = desk.told()
    assert told["outcome"] == "held"
    assert "the log has said nothing" in told["sentence"]


def test_people_read_minute_by_minute_what_happened(desk: Desk) -> None:
    desk.write()
    said = desk.type("--error-rate", "20%").output.splitlines()
    assert said[0] == f"web: 48,000 requests in 40 min of {desk.log} (proxyctl's own format)"
    assert "  the first 10 min say what is usual, then the rollout begins" in said
    assert "  the candidate: 20 % of its good answers are bad" in said
    (heading,) = [number for number, text in enumerate(said) if text.split()[:3] == ["min", "step", "weight"]]
    assert said[heading + 1].split()[:4] == ["1", "1", "5", "%"]
    assert said[heading + 1].endswith("rollback")
    assert said[-3].startswith("rolled back at 5 %: ")
    assert said[-1].startswith("bad answers of the candidate that users would have seen: ")


def test_people_read_why_a_verdict_counts_fewer_than_users_saw(desk: Desk) -> None:
    """Two clients: a verdict has at most two bad answers of each tick."""
    desk.write(asked=[asked._replace(client=asked.client % 2) for asked in requests()])
    told = desk.told("--error-rate", "50%", "--weights", "50")
    said = desk.type("--error-rate", "50%", "--weights", "50").output.splitlines()
    assert said[-2].startswith("of a client only the first bad answer in 5 s is evidence: ")
    assert said[-2].endswith(f" of these {told['candidate_bad']:,} in step 1")
    desk.write()
    assert "is evidence: " not in desk.type().output


# --- what it cannot go by -----------------------------------------------------------------------------------------


def test_it_says_in_words_what_it_cannot_go_by(desk: Desk) -> None:
    assert "there is no such file" in desk.refusal()
    desk.log.write_bytes(b"")
    assert "has no line" in desk.refusal()
    desk.log.write_bytes(b'{"time": "now", "status": 200}\n')
    assert "neither of proxyctl's log nor in nginx's combined format" in desk.refusal()
    desk.write(asked=requests(0.5))
    assert "is too short: it has 29 s, and the plan takes 4 min at least" in desk.refusal()
    desk.log.write_bytes(line(service="api") + b"\n")
    assert "has no request that a release of web answered; it has those of api" in desk.refusal()


def test_it_says_in_words_what_it_was_asked_wrongly(desk: Desk) -> None:
    desk.write(asked=requests(2))
    assert "has no service 'webb'" in desk.refusal(service="webb")
    assert "quiet is judged by no log: analysis is off" in desk.refusal(service="quiet")
    assert "no step after step 5 has traffic; --from-step 1 to 5" in desk.refusal("--from-step", "6")
    assert "write x2 or x1.5" in desk.refusal("--latency", "slow")
    assert "between 0 and 100" in desk.refusal("--error-rate", "120%")
    assert "does not grow" in desk.refusal("--weights", "50,25")


def test_lines_that_cannot_be_read_are_counted_and_left_out(desk: Desk) -> None:
    desk.write(combined, requests(5))
    with desk.log.open("ab") as log:
        log.write(b"\x00\x01 something else\n")
    told = desk.told()
    assert (told["log"]["unreadable"], told["log"]["requests"]) == (1, 5 * 60 * PER_SECOND)


# --- the combined format ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "method", "path"),
    [
        ("GET /cart/7?id=1 HTTP/2.0", b"GET", b"/cart/7"),
        ("\\x16\\x03\\x01", b"-", b"/"),
        ("", b"-", b"/"),
    ],
)
def test_a_line_of_nginx_is_put_into_our_words(request_: str, method: bytes, path: bytes) -> None:
    text = f'2001:db8::1 - ann lee [21/Nov/2026:13:00:00 +0130] "{request_}" 502 0 "-" "a (b; c)" "and more"'
    found = as_compact(text.encode(), 3, b"web")
    assert found is not None
    fields = found.split(b"\t")
    assert fields[0] == b"2026-11-21T13:00:00+01:30"
    assert fields[2].startswith(b"2001:db8::1 ")
    assert fields[8:] == [b"web", b"-", b"somebody", b"502", method, path]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"hello",
        b'1.2.3.4 - - [31/Feb/2026:13:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "-"',
        b'1.2.3.4 - - [21/Nox/2026:13:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "-"',
        b'1.2.3.4 - - [21/Nov/2026:13:00:00 +0000] "GET / HTTP/1.1" 200',
    ],
)
def test_what_is_no_such_line_is_none(text: bytes) -> None:
    assert as_compact(text, 0, b"web") is None
