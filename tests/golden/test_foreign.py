"""Files of Argo Rollouts and Flagger, and what they become: the file and every line that is told, byte for byte.

After a wanted change: `PROXYCTL_GOLDEN=write pytest tests/golden`, then read the diff before you commit it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxyctl.config.foreign.translate import Tool, translated
from proxyctl.config.init import file_of

FILES = Path(__file__).parent / "foreign"
TOOLS = {"argo": Tool.ARGO, "flagger": Tool.FLAGGER}


@pytest.mark.parametrize("source", sorted(FILES.glob("*.yml")), ids=lambda path: path.stem)
def test_what_a_file_becomes_and_what_is_told_of_it(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FILES)
    found = translated(Path(source.name), TOOLS[source.stem.partition("-")[0]])
    text, told = file_of("shop", found.services), "".join(f"{line}\n" for line in found.told)
    if os.environ.get("PROXYCTL_GOLDEN") == "write":
        (FILES / f"{source.stem}.proxyctl").write_text(text)
        (FILES / f"{source.stem}.told").write_text(told)
    assert text == (FILES / f"{source.stem}.proxyctl").read_text()
    assert told == (FILES / f"{source.stem}.told").read_text()
