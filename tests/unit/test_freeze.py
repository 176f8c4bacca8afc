"""The freeze switch: one freeze is in force, the first; a file made by hand counts."""

from __future__ import annotations

from pathlib import Path

from proxyctl.adapters.freeze import FreezeFile
from proxyctl.adapters.places import Places
from proxyctl.ports import Frozen

ANN = Frozen(actor="ann", reason="sale", since=1.5)


def a_switch(folder: Path) -> FreezeFile:
    places = Places(folder)
    places.create()
    return FreezeFile(places)


def test_the_first_freeze_is_in_force_until_it_is_lifted(tmp_path: Path) -> None:
    switch = a_switch(tmp_path)
    assert switch.read() is None
    assert switch.put(ANN) == ANN
    assert switch.put(ANN.replace(actor="bob")) == ANN
    assert a_switch(tmp_path).read() == ANN
    assert switch.lift() == ANN
    assert switch.read() is None
    assert switch.lift() is None


def test_a_file_made_by_hand_freezes(tmp_path: Path) -> None:
    switch = a_switch(tmp_path)
    (tmp_path / "private" / "frozen").write_text("no deploys today")
    frozen = switch.read()
    assert frozen is not None and frozen.actor == "somebody's hand"
