"""No bad input of the table passes, and each is refused in words, with its place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxyctl.config.load import load
from proxyctl.errors import ConfigRejected
from tests.unit.config.bad_inputs import Bad, everything

BAD = list(everything())
LINE = re.compile(r"[ -~]*\.(yml|env):[0-9]+:[0-9]+: [ -~]+", re.ASCII)


@pytest.mark.parametrize("bad", BAD, ids=[f"{bad.group}{at}" for at, bad in enumerate(BAD)])
def test_a_bad_input_is_refused_in_words(bad: Bad, tmp_path: Path) -> None:
    file = tmp_path / "proxyctl.yml"
    file.write_bytes(bad.text)
    with pytest.raises(ConfigRejected) as refused:
        load(file, environment={})
    problems = refused.value.problems
    assert any(bad.fragment in problem for problem in problems), problems
    assert all(LINE.fullmatch(problem) for problem in problems), problems


def test_the_table_is_as_large_as_it_claims() -> None:
    assert len(BAD) > 560
