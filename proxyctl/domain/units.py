"""What a bare number, or a bare pair of texts, means."""

from __future__ import annotations

Seconds = float
Bytes = int
Pairs = tuple[tuple[str, str], ...]  # an ordered, hashable mapping
