"""How long an nginx program is waited for."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxyctl.adapters.nginx.process import binary
from proxyctl.adapters.nginx.process.binary import HostProgram
from proxyctl.errors import NginxUnavailable


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostProgram:
    """It takes half a second, whatever it is asked."""
    monkeypatch.setattr(binary, "PATIENCE", 0.1)
    program = tmp_path / "slow-nginx"
    program.write_text("#!/bin/sh\nsleep 0.5\n")
    program.chmod(0o755)
    return HostProgram(str(program))


async def test_a_program_that_hangs_is_given_up(slow: HostProgram, tmp_path: Path) -> None:
    config = tmp_path / "nginx.conf"
    config.write_text("events {}")
    with pytest.raises(NginxUnavailable, match=r"did not end within 0.1 s and was killed"):
        await slow.test(config)


async def test_a_file_that_is_no_program_is_named(tmp_path: Path) -> None:
    program = tmp_path / "nginx"
    program.write_text("no program")
    program.chmod(0o755)
    with pytest.raises(NginxUnavailable, match=r"/nginx cannot be run: exec format error"):
        await HostProgram(str(program)).run("-v")


async def test_a_large_configuration_is_given_its_time(slow: HostProgram, tmp_path: Path) -> None:
    config = tmp_path / "nginx.conf"
    config.write_text("# 2 MiB of it" + " " * (2 << 20))
    assert (await slow.test(config)).code == 0
    assert (await slow.start(config, tmp_path / "error.log")).code == 0
