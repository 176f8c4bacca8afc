"""How a rollout can end."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    PROMOTED = "promoted"  # the release is live
    ROLLED_BACK = "rolled-back"  # it had traffic, and traffic went back
    ABORTED = "aborted"  # a person stopped it
    FAILED = "failed"  # it never got traffic
    SUPERSEDED = "superseded"  # another rollout took its place
