"""Changes to the state folder: whole or not at all, and refused in words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxyctl.adapters.durable import put_once
from proxyctl.adapters.nginx.generations.disk import Generations
from proxyctl.adapters.nginx.traffic.splits import NginxSplits
from proxyctl.adapters.places import Places
from proxyctl.domain.model import Colour, ProxySettings, ServiceName, Topology
from proxyctl.domain.split import Split
from proxyctl.errors import StateUnusable
from proxyctl.ports import Flags
from proxyctl.wiring import Workshop


def test_whoever_comes_first_writes_and_nobody_after_him(tmp_path: Path) -> None:
    path = tmp_path / "project"
    put_once(path, "shop")
    put_once(path, "other")
    assert path.read_text() == "shop"
    assert [found.name for found in tmp_path.iterdir()] == ["project"]


def test_a_project_that_was_killed_as_it_took_its_folder_can_take_it_again(tmp_path: Path) -> None:
    """Killed before its name stood there; the next process may even have the same pid."""
    file = tmp_path / "proxyctl.yml"
    file.write_text("project: shop\nservices: {}\n")
    places = Places(tmp_path / "state")
    places.create()
    places.private.joinpath(f".project.{os.getpid()}").write_text("sh")
    Workshop(str(file), str(places.root))
    assert places.owner.read_text() == "shop"


async def test_a_move_that_the_disk_refuses_is_refused_in_words(tmp_path: Path) -> None:
    places = Places(tmp_path / "state")
    places.create()
    places.splits.joinpath("web").write_text("a file, where a folder has to be")
    with pytest.raises(StateUnusable, match=r"state cannot be used: file exists: .*/splits/web"):
        await NginxSplits(places).move(ServiceName("web"), Flags(split=Split.all_to(Colour.BLUE), cover=False))


def test_a_generation_that_the_disk_refuses_is_refused_in_words(tmp_path: Path) -> None:
    places = Places(tmp_path / "state")
    topology = Topology(project="shop", settings=ProxySettings(), routes=())
    with pytest.raises(StateUnusable, match=r"state cannot be used: no such file or directory: .*/generations/"):
        Generations(places).stage(1, 1, topology, {"nginx.conf": "# nothing\n"}, {})
