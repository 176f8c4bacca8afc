"""simulate: what a rollout would have come to, on a log of the past. Asks neither nginx nor Docker, changes nothing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator
from functools import reduce
from itertools import groupby
from operator import add
from pathlib import Path
from typing import NamedTuple

import click

from proxyctl.cli.options import ProjectOptions, json_option, print_json, project_options
from proxyctl.cli.values import SERVICE, SOURCE, Spoken, whole
from proxyctl.domain import plan as plans
from proxyctl.domain.evidence import Count, Sides
from proxyctl.domain.explain import duration, figure, percent
from proxyctl.domain.model import Service
from proxyctl.domain.plan import Plan, Stage
from proxyctl.domain.simulation import Defect, Ending, Moment, Trial, shortest, simulated, with_traffic
from proxyctl.domain.split import WHOLE, hundredths
from proxyctl.domain.steps import Approval, Hook, Pause, Weight
from proxyctl.domain.tally import TICK
from proxyctl.domain.units import Seconds, lasting
from proxyctl.domain.verdict import Finding
from proxyctl.engine.judging import BEFORE
from proxyctl.errors import UsageError
from proxyctl.ports import Recording
from proxyctl.wiring import recording, showroom

LEARNING = 0.25  # of the log at most, and no more than a rollout looks back
SHORTEST: Seconds = 60.0  # a log of which anything is told
UNFINISHED = "unfinished"  # the log was over before the rollout was
ENDED = {Ending.ROLLED_BACK: "traffic would have gone back", Ending.HELD: "it would have been held for a person"}


def _rate(text: str) -> float:
    """Of `5%`."""
    return hundredths(text) / WHOLE


def _times(text: str) -> float:
    """Of `x2`."""
    found = re.fullmatch(r"x?(\d{1,4}(?:\.\d{1,9})?)", text, re.ASCII)
    if found is None or not float(found[1]):
        raise ValueError("not how many times as long; write x2 or x1.5")
    return float(found[1])


def _ladder(text: str) -> Plan:
    """Of `5,25,50`: as long as the analysis takes at each, then all traffic."""
    shares = [hundredths(word.strip()) for word in text.split(",")]
    if shares != sorted(set(shares)) or not shares[0] or shares[-1] >= WHOLE:
        raise ValueError("it does not grow from above 0 to below 100; write 5,25,50")
    return tuple(Weight(share=share, dwell=None) for share in shares)


@click.command()
@click.argument("service", type=SERVICE)
@click.option("--log", required=True, type=SOURCE, metavar="FILE", help="Of requests: proxyctl's, or nginx's combined.")
@click.option("--error-rate", metavar="RATE", default="0%", type=Spoken("rate", _rate), help="This part fails: 5%.")
@click.option("--latency", metavar="TIMES", default="x1", type=Spoken("times", _times), help="Answers take longer: x2.")
@click.option("--from-step", type=whole(1, 1_000), default=1, metavar="N", help="The defect shows from this step on.")
@click.option("--weights", metavar="LIST", type=Spoken("list", _ladder), help="Not the file's steps: 5,25,50.")
@click.option("--seed", type=whole(0, 2**31), default=1, show_default=True, help="Another seed deals anew.")
@project_options
@json_option
def simulate(
    service: str,
    log: Path,
    error_rate: float,
    latency: float,
    from_step: int,
    weights: Plan | None,
    seed: int,
    project: ProjectOptions,
    as_json: bool,
) -> None:
    """What a rollout with a defect would have come to on a recorded log.

    Its requests are dealt to a candidate and the live release by the file's steps, the candidate's get the defect, and
    the judge of real rollouts judges. The first quarter of the log, 30 minutes at most, says what is usual. A log in
    nginx's combined format has no latency: a status of 500 or above is bad, and that is all.

    \b
    Example:
      proxyctl simulate web --log access.log --error-rate 5%
      proxyctl simulate web --log access.log --latency x2 --from-step 2 --weights 5,25,50
    """
    from proxyctl.cli.releases import chosen_services

    async def of_file() -> Service:
        async with showroom(*project) as shop:
            return chosen_services(shop, [service], None)[0]

    known = asyncio.run(of_file())
    defect = Defect(errors=error_rate, slower=latency, from_step=from_step)
    trial = _trial(known, weights, defect)
    past = recording(log, known.name, seed)
    trial = _seen_by(past, trial, log)
    story = _told(past, trial)
    if as_json:
        print_json(_json(known, past, trial, seed, story))
    else:
        click.echo("\n".join([*_opening(known, past, trial, log), *_rows(story), *_closing(trial, story)]))


def _trial(service: Service, weights: Plan | None, defect: Defect) -> Trial:
    """Raises UsageError where the service is never judged, or the defect never shows."""
    if not service.routed or service.analysis is None:
        why = "analysis is off" if service.routed else "it has no port"
        raise UsageError(
            f"{service.name} is judged by no log: {why}", next_step="see analysis in docs/configuration.md"
        )
    named = service if weights is None else service.replace(steps=weights)
    trial = Trial(plan=plans.of(named, live=named), criteria=service.analysis, defect=defect)
    seen = with_traffic(trial.plan)
    if not seen:
        raise UsageError(
            f"{service.name} stays at no share of traffic", next_step="--weights 5,25,50, or bake in the file"
        )
    if defect.from_step > (last := seen[-1].number):
        raise UsageError(f"no step after step {last} has traffic", next_step=f"--from-step 1 to {last}")
    return trial


def _seen_by(past: Recording, trial: Trial, log: Path) -> Trial:
    """As far as this log can judge it. Raises UsageError where that is not far."""
    span = past.last - past.first
    if span < SHORTEST:
        raise UsageError(
            f"{log} is too short: it has {duration(span)}, and the plan takes {duration(shortest(trial))} at least",
            next_step="name one of more time",
        )
    if past.timed:
        return trial
    if trial.defect.slower != 1:
        raise UsageError(
            f"{log} does not say how long answers took, so --latency shows nowhere",
            next_step="leave --latency out, or name a log of proxyctl's own",
        )
    return trial.replace(criteria=trial.criteria.replace(latency=False))


# --- what happened ------------------------------------------------------------------------------------------------


class Minute(NamedTuple):
    """Of one step: what was seen in it, and what the judge said at its end."""

    minute: int  # from 1
    answers: Sides
    last: Moment

    @property
    def furthest(self) -> Finding:
        """What is nearest to a rollback."""
        verdict = self.last.verdict
        found = [*verdict.findings, *([verdict.decisive] if verdict.decisive else [])]
        return max(found, key=lambda finding: finding.evidence / finding.needed)


class Story(NamedTuple):
    minutes: list[Minute]
    users: Sides  # every answer of all ticks

    @property
    def end(self) -> Moment:
        return self.minutes[-1].last

    @property
    def outcome(self) -> str:
        return self.end.ending.value if self.end.ending else UNFINISHED


def _told(past: Recording, trial: Trial) -> Story:
    began = past.first + _learning(past)
    minutes = list[Minute]()
    for (_, minute), moments in groupby(simulated(trial, past.stretches(), began), _when):
        seen = list(moments)
        minutes.append(Minute(minute, _sum(moment.answers for moment in seen), seen[-1]))
    return Story(minutes, _sum(minute.answers for minute in minutes))


def _learning(past: Recording) -> Seconds:
    return min(BEFORE, LEARNING * (past.last - past.first))


def _when(moment: Moment) -> tuple[int, int]:
    """Step, and minute: that in which its tick began."""
    return moment.step, int((moment.elapsed - TICK) // 60) + 1


def _sum(sides: Iterable[Sides]) -> Sides:
    return reduce(add, sides, Sides())


# --- for people ---------------------------------------------------------------------------------------------------


def _opening(service: Service, past: Recording, trial: Trial, log: Path) -> Iterator[str]:
    kind = "proxyctl's own format" if past.timed else "nginx's combined format"
    span, learning = duration(past.last - past.first), duration(_learning(past))
    yield f"{service.name}: {past.requests:,} requests in {span} of {log} ({kind})"
    if past.unreadable:
        yield f"  {past.unreadable:,} lines could not be read, and are left out"
    if not past.timed:
        yield "  a status of 500 or above is bad; the log has no latency, so that is not judged"
    yield f"  the first {learning} say what is usual, then the rollout begins"
    yield f"  steps: {', '.join(map(_step, with_traffic(trial.plan)))}"
    if any(isinstance(step, Approval | Hook) or step == Pause() for step in trial.plan):
        yield "  a person and a hook are taken to say yes at once"
    yield f"  the candidate: {_words(trial.defect)}"


def _step(stage: Stage) -> str:
    by_clock = f" for {lasting(stage.window)}" if stage.window else ""
    proven = f"{' and then' if stage.window else ''} until the analysis passes" if stage.analysed else ""
    return f"{stage.number} at {stage.share / 100:g} %{by_clock}{proven}"


def _words(defect: Defect) -> str:
    errors = [f"{percent(defect.errors)} of its good answers are bad"] if defect.errors else []
    slow = [f"its answers take {figure(defect.slower)} times as long"] if defect.slower != 1 else []
    since = f", from step {defect.from_step} on" if defect.from_step > 1 else ""
    return f"{' and '.join(errors + slow)}{since}" if errors + slow else "as good as the live release"


def _rows(story: Story) -> Iterator[str]:
    yield f"{'min':>4} {'step':>4} {'weight':>7}  {'candidate':<20} {'live':<20} {'evidence':<22} verdict"
    for minute in story.minutes:
        last, found = minute.last, minute.furthest
        evidence = f"{_whole(found.evidence)} of {_whole(found.needed)} ({found.metric})"
        ours, theirs = _count(minute.answers.candidate), _count(minute.answers.live)
        said = last.verdict.sentence if last.passed else last.verdict.decision.value
        weight = f"{last.share / 100:g} %"
        yield f"{minute.minute:>4} {last.step:>4} {weight:>7}  {ours:<20} {theirs:<20} {evidence:<22} {said}"


def _count(count: Count) -> str:
    return f"{count.bad:,} bad of {count.requests:,}"


def _whole(number: float) -> str:
    return f"{number:,.0f}" if number < 1e6 else "over 1,000,000"


def _closing(trial: Trial, story: Story) -> Iterator[str]:
    end, ours = story.end, story.users.candidate
    if end.ending is None:
        least = duration(shortest(trial))
        where = f"{duration(end.elapsed)} after the rollout began, in step {end.step}"
        yield f"unfinished: the log ends {where}; the plan takes {least} at least"
        yield end.verdict.sentence
    elif end.ending is Ending.PROMOTED:
        yield f"promoted after {duration(end.elapsed)}; {end.verdict.sentence}"
    else:
        yield end.verdict.sentence
        yield f"{ENDED[end.ending]} {duration(end.elapsed)} after the rollout began, in step {end.step}"
    yield from _left_out(story)
    yield f"bad answers of the candidate that users would have seen: {ours.bad:,} of {ours.requests:,}"


def _left_out(story: Story) -> Iterator[str]:
    """Why the verdict counts far fewer than the rows."""
    end = story.end
    seen = sum(minute.answers.candidate.bad for minute in story.minutes if minute.last.step == end.step)
    counted = end.verdict.findings[0].step.bad
    if 2 * counted < seen:
        once = "of a client only the first bad answer in 5 s is evidence"
        yield f"{once}: {counted:,} of these {seen:,} in step {end.step}"


# --- for programs -------------------------------------------------------------------------------------------------


def _json(service: Service, past: Recording, trial: Trial, seed: int, story: Story) -> dict[str, object]:
    """Shares and rates are parts of 1."""
    return {
        "service": service.name,
        "log": {
            "format": "proxyctl" if past.timed else "combined",
            "requests": past.requests,
            "unreadable": past.unreadable,
            "seconds": past.last - past.first,
            "learned_from": _learning(past),
        },
        "defect": {name: getattr(trial.defect, name) for name in trial.defect.fields()},
        "seed": seed,
        "minutes": [_minute_json(minute) for minute in story.minutes],
        "outcome": story.outcome,
        "step": story.end.step,
        "seconds": story.end.elapsed,
        "sentence": story.end.verdict.sentence,
        "candidate_requests": story.users.candidate.requests,
        "candidate_bad": story.users.candidate.bad,
    }


def _minute_json(minute: Minute) -> dict[str, object]:
    last, found = minute.last, minute.furthest
    return {
        "minute": minute.minute,
        "step": last.step,
        "share": last.share / WHOLE,
        "candidate_requests": minute.answers.candidate.requests,
        "candidate_bad": minute.answers.candidate.bad,
        "live_requests": minute.answers.live.requests,
        "live_bad": minute.answers.live.bad,
        "metric": found.metric.value,
        "evidence": found.evidence,
        "needed": found.needed,
        "decision": last.verdict.decision.value,
        "reason": last.verdict.reason.value,
        "sentence": last.verdict.sentence,
        "passed": last.passed,
    }
