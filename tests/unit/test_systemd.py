"""The boot unit: what systemd itself says of it, and that it is written once."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from proxyctl.adapters.systemd import install, unit
from proxyctl.errors import Unavailable

FILE, STATE = Path("/srv/my shop/100% $HOME/proxyctl.yml"), Path("/var/lib/proxyctl/shop")


def the_unit(file: Path = FILE) -> str:
    return unit("shop", file, STATE, STATE / "private/nginx.pid")


@pytest.mark.parametrize("file", [Path("/srv/shop/proxyctl.yml"), FILE])
def test_systemd_has_no_objection_to_the_unit(tmp_path: Path, file: Path) -> None:
    path = tmp_path / "proxyctl-shop.service"
    path.write_text(the_unit(file))
    verdict = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    ours = [line for line in verdict.stderr.splitlines() if path.name in line]
    assert (verdict.returncode, ours) == (0, [])


def test_a_path_reaches_the_command_as_it_is() -> None:
    assert '-f "/srv/my shop/100%% $$HOME/proxyctl.yml" --state "/var/lib/proxyctl/shop"' in the_unit()


def test_the_unit_is_enabled_and_writing_it_again_changes_nothing(tmp_path: Path) -> None:
    path = install("shop", the_unit(), tmp_path)
    before = path.stat()
    assert install("shop", the_unit(), tmp_path) == path
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert (tmp_path / "multi-user.target.wants" / path.name).resolve() == path
    assert sorted(p.name for p in tmp_path.iterdir()) == ["multi-user.target.wants", "proxyctl-shop.service"]


def test_a_unit_that_changed_is_replaced(tmp_path: Path) -> None:
    install("shop", the_unit(), tmp_path)
    path = install("shop", the_unit(Path("/elsewhere/proxyctl.yml")), tmp_path)
    assert "/elsewhere/proxyctl.yml" in path.read_text()


def test_a_machine_without_systemd_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be written") as refusal:
        install("shop", the_unit(), tmp_path / "nowhere")
    assert "--no-boot" in refusal.value.next_step
