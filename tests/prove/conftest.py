"""How deep the proof goes. PROXYCTL_PROVE=full looks at every point, without it at a sample that `make test` has time
for. PROXYCTL_SEED=N draws the same sample again; a test that fails prints the line that repeats it."""

from __future__ import annotations

import os
import random
import secrets
import shutil
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import pytest

Point = TypeVar("Point")


class Depth(NamedTuple):
    full: bool
    seed: int

    def of(self, points: Sequence[Point], short: int, full: int | None = None) -> list[Point]:
        """That many of these points, in their order; `full` of them in the long form, or all."""
        wanted = (full or len(points)) if self.full else short
        dice = random.Random(self.seed)
        chosen = sorted(dice.sample(range(len(points)), min(wanted, len(points))))
        return [points[index] for index in chosen]

    def times(self, short: int, full: int) -> int:
        return full if self.full else short

    @property
    def dice(self) -> random.Random:
        return random.Random(self.seed)


@pytest.fixture(scope="session")
def depth() -> Depth:
    seed = int(os.environ.get("PROXYCTL_SEED") or secrets.randbelow(1 << 32))
    return Depth(os.environ.get("PROXYCTL_PROVE") == "full", seed)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: in the long form of the proof only; pytest counts it as deselected")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("PROXYCTL_PROVE") == "full":
        return
    long = [item for item in items if item.get_closest_marker("long")]
    items[:] = [item for item in items if item not in long]
    config.hook.pytest_deselected(items=long)


@pytest.fixture(autouse=True)
def replay_line(depth: Depth, request: pytest.FixtureRequest) -> None:
    """Printed with the failure of a test, and only then."""
    full = "PROXYCTL_PROVE=full " if depth.full else ""
    print(f"replay: {full}PROXYCTL_SEED={depth.seed} .venv/bin/pytest '{request.node.nodeid}'")  # noqa: T201


Tell = Callable[[str], None]


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Tell:
    """Told at the end of the run: how much was looked at."""
    return lambda words: record_property("figure", words)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    figures = [str(words) for report in reports for name, words in report.user_properties if name == "figure"]
    if figures:
        terminalreporter.section("what was proved")
        for words in figures:
            terminalreporter.write_line(words)


@pytest.fixture(scope="session")
def strace() -> str:
    found = shutil.which("strace")
    if found is None:
        pytest.fail("these tests need strace: apt-get install strace", pytrace=False)
    return found
