"""The boot units: what systemd itself says of them, and that they are written once."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from proxyctl.adapters.systemd import install, units
from proxyctl.domain.model import Mode
from proxyctl.errors import Unavailable

FILE, STATE = Path("/srv/my shop/100% $HOME/proxyctl.yml"), Path("/var/lib/proxyctl/shop")
NAMES = ["proxyctl-shop.service", "proxyctl-shop-upkeep.service", "proxyctl-shop-upkeep.timer"]


def the_units(file: Path = FILE, mode: Mode = Mode.PROCESS) -> dict[str, str]:
    return units("shop", file, STATE, STATE / "private/nginx/nginx.pid", mode, {"DOCKER_HOST": 'ssh://shop/a"%$b'})


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("file", [Path("/srv/shop/proxyctl.yml"), FILE])
def test_systemd_has_no_objection_to_the_units(tmp_path: Path, file: Path, mode: Mode) -> None:
    paths = install(the_units(file, mode), tmp_path)
    verdict = subprocess.run(["systemd-analyze", "verify", *paths], capture_output=True, text=True, check=False)
    ours = [line for line in verdict.stderr.splitlines() if "proxyctl" in line]
    assert (verdict.returncode, ours) == (0, [])


def test_a_path_reaches_the_command_as_it_is() -> None:
    for name in NAMES[:2]:
        assert '-f "/srv/my shop/100%% $$HOME/proxyctl.yml" --state "/var/lib/proxyctl/shop"' in the_units()[name]


@pytest.mark.parametrize("mode", Mode)
def test_at_boot_and_every_hour_the_same_engine_is_meant(mode: Mode) -> None:
    for name in NAMES[:2]:
        assert 'Environment="DOCKER_HOST=ssh://shop/a\\"%%$b"\n' in the_units(mode=mode)[name]


@pytest.mark.parametrize("mode", [Mode.CONTAINER, Mode.INCLUDE])
def test_an_nginx_that_somebody_else_starts_is_only_mended_at_boot(mode: Mode) -> None:
    unit = the_units(mode=mode)[NAMES[0]]
    assert "proxyctl recover" in unit
    assert "proxy start" not in unit


def test_they_are_enabled_and_writing_them_again_changes_nothing(tmp_path: Path) -> None:
    paths = install(the_units(), tmp_path)
    assert [path.name for path in paths] == NAMES
    before = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in paths]
    assert install(the_units(), tmp_path) == paths
    assert [(path.stat().st_ino, path.stat().st_mtime_ns) for path in paths] == before
    assert (tmp_path / "multi-user.target.wants" / NAMES[0]).resolve() == paths[0]
    assert (tmp_path / "timers.target.wants" / NAMES[2]).resolve() == paths[2]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*NAMES, "multi-user.target.wants", "timers.target.wants"]
    )


def test_a_unit_that_changed_is_replaced(tmp_path: Path) -> None:
    install(the_units(), tmp_path)
    path, *_ = install(the_units(Path("/elsewhere/proxyctl.yml")), tmp_path)
    assert "/elsewhere/proxyctl.yml" in path.read_text()


def test_a_machine_without_systemd_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be written") as refusal:
        install(the_units(), tmp_path / "nowhere")
    assert "--no-boot" in refusal.value.next_step
