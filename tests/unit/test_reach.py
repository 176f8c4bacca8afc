"""What is refused of an engine on another host without asking anybody; the rest is in e2e/test_far_engine.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxyctl.adapters.docker.reach import refuse_way
from proxyctl.errors import DockerUnavailable


def test_a_replica_on_the_network_of_its_own_host_is_at_no_address_of_its_own_here() -> None:
    with pytest.raises(DockerUnavailable, match="network_mode: host gives a replica an address of its own host"):
        refuse_way("10.77.0.0/24", "127.0.0.1")


def test_a_route_that_cannot_be_looked_at_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "ip"
    program.write_text("#!/bin/sh\necho 'ip: unrecognized option: json' >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(DockerUnavailable, match="the route to it cannot be looked at: ip: unrecognized option: json"):
        refuse_way("10.77.0.0/24", "10.77.0.2")
