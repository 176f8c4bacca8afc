"""What a bare number, or a bare pair of texts, means."""

from __future__ import annotations

Seconds = float
Bytes = int
Pairs = tuple[tuple[str, str], ...]  # an ordered, hashable mapping


def lasting(seconds: Seconds) -> str:
    """As the file writes it: in the largest unit that says it exactly."""
    for unit, size in (("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds * 1000:g}ms" if 0 < seconds < 1 else f"{seconds:g}s"
