"""What happened: the rollouts of the past out of the journal, and one sentence per entry. Pure but for its input."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain.model import ReleaseId, ServiceName
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.plan import words
from proxyctl.domain.record import Record
from proxyctl.domain.units import Seconds, lasting
from proxyctl.ports import Entry, Note

ASKED: Final = {Outcome.ABORTED: "abort", Outcome.ROLLED_BACK: "rollback", Outcome.SUPERSEDED: "another deploy"}


class Chapter(Record):
    """A rollout from its opening to its end, or a freeze of the project until it was thawed."""

    id: str = ""  # of the rollout
    kind: str
    service: ServiceName | None = None  # None: all of them
    replaces: ReleaseId | None = None
    release: ReleaseId | None = None
    actor: str  # who began it,
    asked: str  # and why
    started: float  # unix time
    finished: float | None = None
    outcome: str
    ended_by: str = ""  # whom the end was asked by; "": by nobody
    reason: str = ""  # of the end


def chapters(told: Iterable[Entry | Note]) -> list[Chapter]:
    """Oldest first."""
    found: dict[str, Chapter] = {}
    for line in told:
        if isinstance(line, Note):
            _turn_frozen(found, line)
        else:
            _turn(found, line)
    return list(found.values())


def _turn(found: dict[str, Chapter], entry: Entry) -> None:
    match entry.event:
        case ev.RolloutOpened(rollout=r):
            found[r.id] = Chapter(
                id=r.id,
                kind=r.kind.value,
                service=entry.service,
                replaces=r.replaces,
                release=r.release,
                actor=r.actor,
                asked=r.reason,
                started=entry.at,
                outcome="running",
            )
        case ev.AbortRequested(actor=actor) if entry.rollout in found:
            found[entry.rollout] = found[entry.rollout].replace(ended_by=actor)
        case ev.RolloutEnded(outcome=outcome, reason=reason) if entry.rollout in found:
            ended = found[entry.rollout].replace(finished=entry.at, outcome=outcome.value, reason=reason)
            found[entry.rollout] = ended


def _turn_frozen(found: dict[str, Chapter], note: Note) -> None:
    """One freeze is in force at a time; one by a file that somebody made began unseen."""
    begun = next((key for key, chapter in found.items() if chapter.outcome == "frozen"), None)
    match note.event:
        case ev.Froze(actor=actor, reason=reason) if begun is None:
            freeze = Chapter(kind="freeze", actor=actor, asked=reason, started=note.at, outcome="frozen")
            found[f"freeze {note.seq}"] = freeze
        case ev.Thawed(actor=actor, reason=reason) if begun is not None:
            thawed = found[begun].replace(finished=note.at, outcome="thawed", ended_by=actor, reason=reason)
            found[begun] = thawed


def unanswered(story: Iterable[Entry]) -> Seconds:
    """For how long nobody served, by what was observed."""
    seconds, since = 0.0, None
    for entry in story:
        if isinstance(entry.event, ev.SplitMoved):
            seconds += max(0.0, entry.at - since) if since is not None else 0.0  # the clock may be set back
            since = entry.at if entry.event.split is None else None
    return seconds


def sentence(event: ev.Event | ev.ProjectEvent) -> str:
    """The same words in progress, events and logs."""
    match event:
        case ev.RolloutOpened(rollout=r):
            over = f" over {r.replaces}" if r.replaces else ""
            return _by(f"{r.kind} {r.id}: {r.release} into {r.colour}{over}, by", r.actor, r.reason)
        case ev.Intended(command=command):
            return intent(command)
        case ev.RoutePublished(generation=n):
            return f"nginx answers with generation {n}"
        case ev.ReplicasStarted(replicas=()):
            return "its replicas come in batches"
        case ev.ReplicasStarted(unseen=why) if why:
            return f"asked by probes alone: {why}"
        case ev.ReplicasStarted(replicas=replicas):
            return f"{len(replicas)} running: {', '.join(f'{r.name} at {r.address}' for r in replicas)}"
        case ev.Grown(colour=colour, replicas=replicas):
            named = ", ".join(f"{r.name} at {r.address}" for r in replicas)
            return f"{colour} has {len(replicas)} more, gate passed: {named}"
        case ev.Shrunk(colour=colour, to=to, cut=cut, pre_stop=failed):
            return f"{colour} drained to {to}{_cut(cut)}{'; ' + failed if failed else ''}"
        case ev.ReplicaFailed(name=name, reason=reason):
            return f"{name} failed: {reason}"
        case ev.ReplicasMissing(reason=reason):
            return f"not warm any more: {reason}"
        case ev.GatePassed(incarnations=()):
            return "each batch is gated as it comes"
        case ev.GatePassed(incarnations=lives):
            return f"gate passed by {len(lives)} of {len(lives)}"
        case ev.GateFailed(reason=reason):
            return f"gate failed: {reason}"
        case ev.Restarted(colour=colour, replicas=replicas):
            return f"{colour} was restarted by the engine, to be gated again: {', '.join(r.name for r in replicas)}"
        case ev.Regated(colour=colour):
            return f"{colour} passed its gate again after a restart"
        case ev.RegateFailed(colour=colour, reason=reason):
            return f"{colour} did not pass its gate again after a restart: {reason}"
        case ev.StepFailed(reason=reason):
            return f"failed: {reason}"
        case ev.SplitMoved(split=split, cover=cover, preview=preview):
            covered = ", each colour covers the other" if cover else ""
            previewed = f", rules lead to {preview}" if preview else ""
            return f"live: {split or 'nobody serves'}{covered}{previewed}"
        case ev.DwellStarted():
            return "the candidate has its share, and is watched"
        case ev.StepHeld():
            return "paused, as planned"
        case ev.ApprovalAsked():
            return "waiting to be approved: approve or deny"
        case ev.ClockLost(spent=spent):
            passed = f"{lasting(round(spent))} of the wait had passed" if spent else "the wait begins anew"
            return f"the machine was started again; {passed}"
        case ev.StepPassed(reason=reason):
            return reason or "step passed"
        case ev.Inconclusive(reason=reason):
            return f"held: {reason}"
        case ev.StepSkipped(actor=actor, reason=reason):
            return _by("step ended by", actor, reason)
        case ev.Approved(actor=actor, reason=reason):
            return _by("approved by", actor, reason)
        case ev.PauseRequested(actor=actor, reason=reason):
            return _by("paused by", actor, reason)
        case ev.ResumeRequested(actor=actor, reason=reason):
            return _by("resumed by", actor, reason)
        case ev.PlanChanged(plan=plan, actor=actor, reason=reason):
            return _by(f"goes on by {', '.join(map(words, plan))}; told by", actor, reason)
        case ev.BakeStarted():
            return "the bake begins"
        case ev.BakePassed():
            return "every step is done"
        case ev.CandidateFailed(reason=reason):
            return f"the candidate failed: {reason}"
        case ev.AbortRequested(actor=actor, outcome=outcome, reason=reason):
            return _by(f"{ASKED[outcome]} asked by", actor, reason)
        case ev.Interrupted(reason=reason):
            return f"interrupted: {reason}"
        case ev.PolicyAdopted():
            return "restart policy adopted"
        case ev.Promoted():
            return "promoted"
        case ev.Retired(release=release, cut=cut, pre_stop=failed):
            return f"{release} drained and removed{_cut(cut)}{'; ' + failed if failed else ''}"
        case ev.StandbyEnded(reason=reason):
            return f"standby leaves: {reason}"
        case ev.StandbyLost(reason=reason):
            return f"no warm rollback any more: {reason}"
        case ev.RolloutEnded(outcome=outcome):  # why was said when it was found
            return f"rollout ended: {outcome}"
        case ev.SafetyLost(reason=reason):
            return f"DEGRADED: {reason}"
        case ev.RecoveryStarted():
            return "recovery started"
        case ev.Froze(actor=actor, reason=reason):
            return _by("frozen by", actor, reason)
        case ev.Thawed(actor=actor, reason=reason):
            return _by("thawed by", actor, reason)


def intent(command: do.Command) -> str:
    match command:
        case do.Publish(route=route):
            return "publishing the route" if route else "taking the route back"
        case do.Start(colour=colour):
            return f"starting {colour}"
        case do.Grow(colour=colour, to=to):
            return f"starting {colour} until {to} serve"
        case do.Shrink(colour=colour, to=to):
            return f"draining {colour} until {to} are left"
        case do.Move(split=split, cover=cover):
            return f"moving traffic to {split or 'nobody'}{' with cover' if cover else ''}"
        case do.RunHook(name=name):
            return f"running hook {name}"
        case do.AdoptPolicy():
            return "adopting the restart policy"
        case do.Retire(release=release):
            return f"draining {release}"
        case _:
            return type(command).__name__.lower()


def _cut(cut: int) -> str:
    if cut < 0:
        return " at the drain deadline; open connections could not be seen"
    return f", {cut} connections cut at the drain deadline" if cut else ""


def _by(what: str, actor: str, reason: str) -> str:
    return f"{what} {actor}{': ' + reason if reason else ''}"
