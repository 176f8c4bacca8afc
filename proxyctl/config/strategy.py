"""What `strategy:` of a service may hold: how its releases come to their traffic. Start at StrategyFile.

A word is a preset; a mapping with that word as its only key is the same, said in full.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, Tag

from proxyctl.config import fields, grammar, matching, sources
from proxyctl.config.document import Location
from proxyctl.config.fields import ALONE, MAPPED, Read, Strict, forms, lasting, one_of, written
from proxyctl.config.matching import Matches, MatchFile, MirrorFile, PreviewFile, match_of, mirror_of
from proxyctl.config.rolling import RecreateFile, RollingFile
from proxyctl.config.sources import Sources, source_of
from proxyctl.domain.criteria import Criteria, OnInconclusive, Sensitivity
from proxyctl.domain.model import Match, Mirror, Strategy
from proxyctl.domain.split import WHOLE
from proxyctl.domain.steps import Analysis, Approval, Hook, Pause, Step, Weight

MOST_STEPS = 100
LADDER = (500, 2500, 5000)  # of the preset, in hundredths of a percent; each until the analysis passes
KINDS = ("weight", "pause", "analysis", "gate", "hook")

_Wait = Annotated[float, lasting("1s", "168h")]


Share = Annotated[int, Read(grammar.share, {"type": ["number", "string"], "examples": [5, "12.5%"]})]


def rate(value: Any) -> float:
    """A part of all, of `1%` or `0.5%`."""
    if not isinstance(value, str) or not value.endswith("%"):
        raise ValueError("write a rate with its %, such as 1% or 0.5%")
    found = grammar.share(value) / WHOLE
    if not 0 < found < 1:
        raise ValueError("write a rate between 0% and 100%, such as 1%")
    return found


Rate = Annotated[float, Read(rate, {"type": "string", "examples": ["1%", "0.5%"]})]


class StepFile(Strict):
    """One of weight, pause, analysis, gate and hook."""

    weight: Share | None = written(None, "The candidate's share of traffic, in percent.")
    for_: _Wait | None = Field(
        None, alias="for", description="Of a weight: stay this long; else until the analysis passes."
    )
    pause: _Wait | None = written(None, "Wait this long, watching; the word pause alone waits until told.")
    gate: Annotated[str, one_of("approve")] | None = written(None, "Wait for `proxyctl approve`.")
    hook: fields.Name | None = written(None, "Run .proxyctl/hooks/NAME; it must exit 0.")


def _bare(value: Any) -> Pause | Analysis:
    known: dict[Any, Pause | Analysis] = {"pause": Pause(), "analysis": Analysis()}
    if value not in known:
        raise ValueError("write a mapping such as {weight: 5, for: 2m}, or one of the words pause and analysis")
    return known[value]


_AnyStep = Annotated[
    Annotated[StepFile, Tag(MAPPED)]
    | Annotated[Pause | Analysis, Read(_bare, {"enum": ["pause", "analysis"]}), Tag(ALONE)],
    forms("a step such as {weight: 5, for: 2m}, or one of the words pause and analysis"),
]


class AnalysisFile(Strict):
    """By what nginx's log must say of a candidate."""

    max_error_rate: Rate | None = written(
        None, "More bad answers than this take it back, whatever the live release does."
    )
    sensitivity: Annotated[str, one_of("low", "normal", "high")] = written(
        "normal", "How often one that is as good as the live release is taken back: 0.1 %, 1 % or 5 % of rollouts."
    )
    deadline: Annotated[float, lasting("10s", "168h")] = written("10m", "For the analysis of one step.")
    on_inconclusive: Annotated[str, one_of("hold", "promote", "rollback")] = written("hold", "At that deadline.")
    bake: Annotated[float, lasting("1s", "24h")] = written(
        "60s", "A step that the analysis ends lasts at least so long."
    )
    latency: fields.Truth = written(True, description="Slow answers are judged as well.")
    margin: Rate | None = written(None, "To be proven at every step; else by how much traffic the next one gives.")
    holdback: Rate | None = written(
        None, "The live release keeps this much during the bake, to compare with; left out: nothing."
    )
    sources: Sources = written({}, "Asked beside the log: Prometheus, JSON over HTTP, commands.")

    @property
    def kept_back(self) -> int:
        """In hundredths of a percent."""
        return round((self.holdback or 0.0) * WHOLE)

    def criteria(self, folder: Path) -> Criteria:
        """Relative paths are taken from the folder."""
        return Criteria(
            max_error_rate=self.max_error_rate,
            sensitivity=Sensitivity(self.sensitivity),
            deadline=self.deadline,
            on_inconclusive=OnInconclusive(self.on_inconclusive),
            bake=self.bake,
            latency=self.latency,
            margin=self.margin,
            holdback=self.kept_back,
            sources=tuple(source_of(name, source, folder) for name, source in self.sources.items()),
        )


def _off(value: Any) -> None:
    if value not in ("off", False):  # YAML 1.1 reads off as false
        raise ValueError("write a mapping such as {sensitivity: high}, or the word off")


_AnyAnalysis = Annotated[
    Annotated[AnalysisFile, Tag(MAPPED)] | Annotated[None, Read(_off, {"const": "off"}), Tag(ALONE)],
    forms("a mapping such as {sensitivity: high}, or the word off"),
]


class CanaryFile(Strict):
    """Share by share."""

    steps: Annotated[tuple[_AnyStep, ...], Field(min_length=1, max_length=MOST_STEPS)] | None = written(
        None, "One after the other; 100 % comes last by itself. Left out: 5, 25 and 50 %, as the analysis passes."
    )
    sticky: Annotated[str, one_of("none", "cookie", "ip")] | None = written(None, "As beside strategy.")
    analysis: _AnyAnalysis = written({}, "By what nginx's log must say; off leaves it to probes and containers.")
    match: Matches | None = written(None, "Requests that always go to the candidate. One of these rules is enough.")
    mirror: MirrorFile | None = written(None, "Requests that the candidate gets a copy of.")


class BlueGreenFile(Strict):
    """All traffic at once."""

    promote: Annotated[str, one_of("auto", "manual")] = written("auto", "manual: gated and warm, until told.")
    analysis: _AnyAnalysis = written({}, "By what nginx's log must say; off leaves it to probes and containers.")
    preview: PreviewFile | None = written(None, "Requests that reach the candidate before it has traffic.")


class StrategyFile(Strict):
    blue_green: BlueGreenFile | None = Field(None, alias="blue-green")
    canary: CanaryFile | None = None
    rolling: RollingFile | None = None
    recreate: RecreateFile | None = None

    @property
    def written(self) -> tuple[Strategy, ...]:
        """One, in a file without a fault."""
        said = (self.blue_green, self.canary, self.rolling, self.recreate)
        return tuple(kind for kind, own in zip(Strategy, said, strict=True) if own is not None)

    @property
    def kind(self) -> Strategy:
        return next(iter(self.written), Strategy.BLUE_GREEN)

    @property
    def rolls(self) -> RollingFile | RecreateFile | None:
        return self.rolling or self.recreate

    @property
    def analysis(self) -> AnalysisFile | None:
        if self.rolls:
            return None
        own = self.canary or self.blue_green or BlueGreenFile()
        return own.analysis

    @property
    def steps(self) -> tuple[Step, ...]:
        """Before all traffic is the candidate's."""
        if self.canary is None:
            manual = self.blue_green is not None and self.blue_green.promote == "manual"
            return (Pause(),) if manual else ()
        if self.canary.steps is None:
            return tuple(Weight(share=share, dwell=None) for share in LADDER)
        return tuple(map(_step, self.canary.steps))

    @property
    def rules(self) -> Iterator[tuple[Location, MatchFile]]:
        """Each with its place."""
        if self.blue_green and self.blue_green.preview:
            yield ("blue-green", "preview"), self.blue_green.preview
        for at, match in enumerate((self.canary.match if self.canary else None) or ()):
            yield ("canary", "match", at), match

    @property
    def matches(self) -> tuple[Match, ...]:
        return tuple(match_of(rule) for _, rule in self.rules)

    @property
    def mirror(self) -> Mirror | None:
        return mirror_of(self.canary.mirror) if self.canary and self.canary.mirror else None


def _preset(value: Any) -> StrategyFile:
    word = grammar.choice(*Strategy)(value)
    return StrategyFile.model_validate({word: {}})


AnyStrategy = Annotated[
    Annotated[StrategyFile, Tag(MAPPED)]
    | Annotated[StrategyFile, Read(_preset, {"enum": list(map(str, Strategy))}), Tag(ALONE)],
    forms(
        "one of the words blue-green, canary, rolling and recreate, or a mapping such as canary: {steps: [{weight: 5}]}"
    ),
]


def _step(file: StepFile | Pause | Analysis) -> Step:
    if not isinstance(file, StepFile):
        return file
    if file.weight is not None:
        return Weight(share=file.weight, dwell=file.for_ if file.weight < WHOLE or file.for_ else 0.0)
    if file.pause is not None:
        return Pause(window=file.pause)
    return Hook(name=file.hook) if file.hook else Approval()


# --- what its keys mean together ---------------------------------------------------------------------------------


def needs_analysis(step: Step) -> bool:
    """Whether nothing else ends its wait."""
    return step == Analysis() or (isinstance(step, Weight) and step.dwell is None)


def breaches(file: StrategyFile) -> Iterator[tuple[Location, str]]:
    """Where in it, and what is wrong."""
    if len(file.written) != 1:
        yield (), "write one of blue-green, canary, rolling and recreate"
    if file.canary and not file.canary.analysis and any(map(needs_analysis, file.steps)):
        yield ("canary", "analysis"), "off, and steps wait for it; give every weight a for, or remove it"
    for where, wrong in sources.breaches(file.analysis.sources if file.analysis else {}):
        yield ("canary" if file.canary else "blue-green", "analysis", "sources", *where), wrong
    for where, rule in file.rules:
        yield from ((where, wrong) for wrong in matching.breaches(rule))
    highest = 0
    for at, step in enumerate((file.canary.steps if file.canary else None) or ()):
        if not isinstance(step, StepFile):
            continue
        place: Location = ("canary", "steps", at)
        for wrong in _of_step(step):
            yield place, wrong
        if step.weight is not None and step.weight < highest:
            yield place, f"less than the {highest / 100:g} % before it; weights of a canary only grow"
        highest = max(highest, step.weight or 0)
    left = WHOLE - (file.analysis.kept_back if file.analysis else 0)
    if highest > left:
        wrong = f"a step gives {highest / 100:g} %, and the bake only {left / 100:g} %; remove that step, or this"
        yield ("canary", "analysis", "holdback"), wrong


def _of_step(step: StepFile) -> Iterator[str]:
    kinds = [kind for kind in KINDS if getattr(step, kind, None) is not None]
    if len(kinds) != 1:
        found = f"{' and '.join(kinds)} are written" if kinds else "it does not say what to do"
        yield f"{found}; write one of weight, pause, gate and hook"
    elif step.for_ is not None and step.weight is None:
        yield "only a weight has for; write {pause: 2m} for a pause of two minutes"
