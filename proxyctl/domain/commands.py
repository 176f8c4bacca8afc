"""What `decide` can ask for. A command says what shall be true afterwards, so that repeating it is safe."""

from __future__ import annotations

from proxyctl.domain.model import Colour, ProxySettings, ReleaseId, Route, Seconds
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.record import Record
from proxyctl.domain.split import Split
from proxyctl.domain.steps import Step


class Moment(Record):
    """A monotonic instant; it means nothing in another boot."""

    boot: str
    at: Seconds

    def elapsed(self, now: Moment) -> Seconds:
        """After a reboot nothing is known to have passed, so the whole window counts again."""
        return max(0.0, now.at - self.at) if now.boot == self.boot else 0.0


# --- with an effect: journaled before they are carried out -----------------------------------------------------


class Publish(Record):
    """nginx knows this route of the service; None: it knows none."""

    route: Route | None
    settings: ProxySettings | None = None  # that it shall go by from now on; None: as it does, whoever brought those


class Start(Record):
    """Every replica of the placement in this slot runs."""

    colour: Colour


class Grow(Record):
    """So many replicas of this slot run, and passed the gate."""

    colour: Colour
    to: int


class Shrink(Record):
    """So many replicas of this slot are left; the others were drained, stopped and removed."""

    colour: Colour
    to: int


class Move(Record):
    """Traffic is split like this."""

    split: Split | None
    cover: bool
    preview: Colour | None = None  # whom rules reach, beside the split


class RunHook(Record):
    """The user's hook of this name has run."""

    name: str


class AdoptPolicy(Record):
    """The replicas in this slot are restarted by the engine as their definition says."""

    colour: Colour


class Retire(Record):
    """The release in this slot is drained, stopped and removed."""

    release: ReleaseId
    colour: Colour


EFFECTS = (Publish, Start, Grow, Shrink, Move, RunHook, AdoptPolicy, Retire)

# --- without: looking, waiting, noting -------------------------------------------------------------------------


class Observe(Record):
    """Which replicas of this slot run, in which incarnation?"""

    colour: Colour


class Gate(Record):
    """Does every replica of this slot pass its health check, several times in a row and then through nginx?"""

    colour: Colour


class Recheck(Record):
    """The same incarnation passed its gate before: does every replica pass one probe now?"""

    colour: Colour


class Regate(Record):
    """The engine restarted a release that serves on, or stands warm. Does it pass its gate as it runs now?"""

    colour: Colour
    within: Seconds


class Vet(Record):
    """The same at rest, where a guard asks and holds no lock: nobody waits for the answer."""

    colour: Colour
    within: Seconds


class Watch(Record):
    """Look at the candidate until it fails, or the window passed."""

    colour: Colour
    since: Moment | None = None
    spent: Seconds = 0.0  # of the window, before `since`
    window: Seconds | None = None  # None: until a request comes


class Analyse(Record):
    """Look at the candidate until it fails, or the analysis has a verdict."""

    colour: Colour
    since: Moment | None = None
    spent: Seconds = 0.0


class Stand(Record):
    """Keep the standby warm until its window passed."""

    colour: Colour
    since: Moment | None
    window: Seconds


class Begin(Record):
    """The wait of this step begins, or goes on after a pause."""

    step: Step


class Pass(Record):
    """As many replicas stand as this step says."""


class EndPlan(Record):
    """Every step is done."""


class Promote(Record): ...


class Close(Record):
    outcome: Outcome
    reason: str


Command = (
    Publish
    | Start
    | Grow
    | Shrink
    | Move
    | RunHook
    | AdoptPolicy
    | Retire
    | Observe
    | Gate
    | Recheck
    | Regate
    | Vet
    | Watch
    | Analyse
    | Stand
    | Begin
    | Pass
    | EndPlan
    | Promote
    | Close
)
