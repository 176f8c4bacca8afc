"""Which file, which project, which state folder, at the price of the standard library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click import BadParameter

from proxyctl.cli.values import SOURCE
from proxyctl.config.places import find_file, project_name, state_dir
from proxyctl.errors import ConfigRejected, UsageError

WHOLE = "services: {web: {container: {image: x}, health: none}}\n"


def test_the_named_file_comes_before_the_environments_and_before_the_folders(tmp_path: Path) -> None:
    for name in ("named.yml", "stated.yml", "proxyctl.yml"):
        (tmp_path / name).touch()
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    stated = {"PROXYCTL_FILE": str(tmp_path / "stated.yml")}
    assert find_file("../../named.yml", stated, below) == tmp_path / "named.yml"
    assert find_file(None, stated, below) == tmp_path / "stated.yml"
    assert find_file(None, {}, below) == tmp_path / "proxyctl.yml"


def test_a_file_that_is_not_there_is_a_usage_error_that_says_what_to_type(tmp_path: Path) -> None:
    for explicit, environment in (("x.yml", {}), (None, {"PROXYCTL_FILE": "x.yml"}), (None, {})):
        with pytest.raises(UsageError) as refused:
            find_file(explicit, environment, tmp_path)
        assert "proxyctl init" in refused.value.next_step


def test_what_is_there_and_no_plain_file_is_not_said_to_be_absent(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, words in ((".", "this is a folder"), ("pipe", "this is not a plain file"), ("nowhere", "no such file")):
        with pytest.raises(UsageError, match=words):
            find_file(name, {}, tmp_path)
        with pytest.raises(BadParameter, match=words):
            SOURCE.convert(str(tmp_path / name), None, None)


def test_the_state_folder_is_the_named_one_then_the_stated_one_then_the_systems(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stated = {"PROXYCTL_STATE": "/stated", "XDG_STATE_HOME": "/xdg", "HOME": "/home/me"}
    assert state_dir("shop", "/named/../x", stated) == Path("/x")
    assert state_dir("shop", None, stated) == Path("/stated")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert state_dir("shop", None, {}) == Path("/var/lib/proxyctl/shop")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert state_dir("shop", None, {"XDG_STATE_HOME": "/xdg", "HOME": "/h"}) == Path("/xdg/proxyctl/shop")
    assert state_dir("shop", None, {"XDG_STATE_HOME": "xdg", "HOME": "/h"}) == Path("/h/.local/state/proxyctl/shop")
    with pytest.raises(UsageError):
        state_dir("shop", None, {})


@pytest.mark.parametrize(
    "head",
    [
        "project: shop\n",
        "# a comment\n\n---\nproject: shop  # ours\n",
        'project: "shop"\n',
        "project:   'shop'\r\n",
        "services: {web: {container: {image: x}, health: none}}\nproject: shop\n",
        "{project: shop, services: {web: {container: {image: x}, health: none}}}\n",
        "project: >-\n  shop\n",
        "x: 1\n",
    ],
)
def test_the_quick_look_at_the_name_says_what_a_full_load_says_or_leaves_it_to_that(tmp_path: Path, head: str) -> None:
    file = tmp_path / "proxyctl.yml"
    file.write_text(head if "services" in head else head + WHOLE)
    if head == "x: 1\n":
        with pytest.raises(ConfigRejected):
            project_name(file)
    else:
        assert project_name(file) == "shop"


@pytest.mark.parametrize("name", ["default", "no", "Shop", "shop-", "{a: b}", "shop;", "../shop", '"shop\\n"'])
def test_a_name_that_a_full_load_refuses_is_refused_by_the_quick_look_too(tmp_path: Path, name: str) -> None:
    file = tmp_path / "proxyctl.yml"
    file.write_text(f"project: {name}\n{WHOLE}")
    with pytest.raises(ConfigRejected):
        project_name(file)


def test_the_quick_look_needs_no_yaml_and_no_pydantic(tmp_path: Path) -> None:
    file = tmp_path / "proxyctl.yml"
    file.write_text("project: shop\n")
    code = (
        "import sys, pathlib\n"
        "from proxyctl.config.places import find_file, project_name, state_dir\n"
        "assert project_name(pathlib.Path(sys.argv[1])) == 'shop'\n"
        "print(sorted({'yaml', 'pydantic', 'idna', 'asyncio'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
