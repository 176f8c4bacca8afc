"""The documentation and the help say what there is."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from proxyctl.cli.main import COMMANDS, group
from proxyctl.domain.criteria import Criteria
from proxyctl.domain.explain import duration, percent
from proxyctl.domain.forecast import Traffic, forecast_of
from proxyctl.domain.rollout import MOVES
from proxyctl.domain.steps import Weight

DOCS = Path(__file__).parents[2] / "docs"


def test_the_diagram_in_the_map_is_the_transition_table() -> None:
    text = (DOCS / "architecture.md").read_text()
    drawn = set(re.findall(r"^    (\w+) --> (\w+): (\w+)$", text, re.MULTILINE))
    listed = {(phase.value, to.value, event.__name__) for phase, moves in MOVES.items() for event, to in moves.items()}
    assert drawn == listed


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented_and_its_help_shows_an_example(name: str) -> None:
    assert f"`{name}" in (DOCS / "commands.md").read_text()
    command = group.get_command(click.Context(group), name)
    assert command is not None
    assert f"proxyctl {name}" in command.get_help(click.Context(command, info_name=name)).partition("Example:")[2]


def test_what_a_canary_is_said_to_catch_is_what_it_is_forecast_to_catch() -> None:
    text = (DOCS / "analysis.md").read_text()
    rows = re.findall(
        r"^\| ([\d,]+) \| (\S+ %) \| (.+?) \| (\S+ %) \| (.+?) \| (\S+ %) \| (.+?) \|$", text, re.MULTILINE
    )
    assert len(rows) == 6
    ladder = tuple(Weight(share=share, dwell=None) for share in (500, 2500, 5000, 9800))
    for per_second, *said in rows:
        today = Traffic(per_second=float(per_second.replace(",", "")), usual=0.005, seconds=1800.0)
        steps = forecast_of(ladder, Criteria(), today)[:3]
        assert said == [words for step in steps for words in (percent(step.catches or 1), duration(step.seconds or 0))]
