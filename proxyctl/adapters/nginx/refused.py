"""How a publish that fails is told: what nginx said, what serves now, what to do. Pure."""

from __future__ import annotations

from proxyctl.errors import Degraded, PublishRefused

LAST_GOOD_SERVES = "the last good configuration, unchanged"


def refused(
    what: str, words: str = "", next_step: str = "change proxyctl.yml as nginx asks, then proxyctl check"
) -> PublishRefused:
    return PublishRefused(
        f"{what}: {words.splitlines()[0]}" if words else what,
        detail=words,
        serving=LAST_GOOD_SERVES,
        next_step=next_step,
    )


def degraded(what: str, words: str) -> Degraded:
    return Degraded(
        what,
        detail=words,
        serving="what nginx has in memory; it must not be restarted before its configuration is repaired",
        next_step="proxyctl proxy status",
    )
