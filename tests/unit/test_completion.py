"""What bash offers at TAB, by the script that `completion` prints."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxyctl.cli.files import completion

FILE = """\
project: shop
services:
  web:
    port: 8000
  worker: {container: {image: x}}
"""


def offered(here: Path, *words: str) -> list[str]:
    """For the last of the words, after `proxyctl`."""
    printed = CliRunner().invoke(completion, ["bash"]).output
    typed = " ".join(f"'{word}'" for word in ("proxyctl", *words))
    asked = f"COMP_WORDS=({typed}); COMP_CWORD={len(words)}; _proxyctl; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    ran = subprocess.run(["bash", "-c", f"{printed}\n{asked}"], cwd=here, capture_output=True, text=True, check=True)
    return ran.stdout.split()


@pytest.mark.parametrize(
    ("words", "offer"),
    [
        (("pro",), ["promote", "proxy"]),
        (("proxy", "st"), ["start", "status", "stop"]),
        (("deploy", ""), ["web", "worker"]),
        (("deploy", "we"), ["web"]),
    ],
)
def test_commands_and_the_services_of_the_file_are_offered(
    tmp_path: Path, words: tuple[str, ...], offer: list[str]
) -> None:
    (tmp_path / "proxyctl.yml").write_text(FILE)
    below = tmp_path / "conf" / "nginx"
    below.mkdir(parents=True)
    for here in (tmp_path, below):
        assert sorted(offered(here, *words)) == offer


def test_without_a_file_no_service_is_offered(tmp_path: Path) -> None:
    assert offered(tmp_path, "deploy", "") == []
