"""A plan: the frozen list of steps of one rollout. Pure. Start at the constructors blue_green(), at() and hold()."""

from __future__ import annotations

from proxyctl.domain.record import Record
from proxyctl.domain.split import WHOLE


class Weight(Record):
    """Give the candidate this share of traffic."""

    share: int  # hundredths of a percent


class Pause(Record):
    """Wait, watching, until a person says how to go on."""


Step = Weight | Pause
Plan = tuple[Step, ...]


def blue_green() -> Plan:
    """All traffic at once."""
    return (Weight(share=WHOLE),)


def hold() -> Plan:
    """Gated and warm, no traffic until told."""
    return (Pause(),)


def at(share: int) -> Plan:
    """This share, and there until told."""
    return (Weight(share=share), Pause())


def words(step: Step) -> str:
    """One step as `plan` and `status` print it."""
    match step:
        case Weight():
            return f"weight {step.share / 100:g} %"
        case Pause():
            return "pause until told"
