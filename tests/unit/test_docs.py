"""The documentation's drawing of the transition table is the table."""

from __future__ import annotations

import re
from pathlib import Path

from proxyctl.domain.rollout import MOVES

DOCS = Path(__file__).parents[2] / "docs"


def test_the_diagram_in_the_map_is_the_transition_table() -> None:
    text = (DOCS / "architecture.md").read_text()
    drawn = set(re.findall(r"^    (\w+) --> (\w+): (\w+)$", text, re.MULTILINE))
    listed = {(phase.value, to.value, event.__name__) for phase, moves in MOVES.items() for event, to in moves.items()}
    assert drawn == listed
