"""The wheel, alone in an empty virtual environment and away from the checkout, is all that a user needs."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from proxyctl import __version__

ROOT = Path(__file__).parents[2]
FILE = """\
project: alone
proxy: {http: "127.0.0.1:18999"}
services:
  web: {container: {image: "shop/web"}, port: 8000, health: {path: /healthz}}
"""


def run(*command: str | Path, cwd: Path = ROOT, ok: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert not ok or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="wheel-") as folder:
        run("uv", "build", "--quiet", "--wheel", "--out-dir", folder)
        (made,) = Path(folder).glob("*.whl")
        yield made


def test_the_wheel_holds_the_templates_and_the_types_and_nothing_of_the_tests(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    templates = {path.name for path in (ROOT / "templates" / "nginx").iterdir()}
    assert {f"proxyctl/templates/nginx/{name}" for name in templates} <= set(names)
    assert "proxyctl/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "bench/"))]


def test_installed_alone_it_works_in_an_empty_folder(wheel: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="alone-") as folder:
        here = Path(folder)
        here.chmod(0o755)  # nginx's workers pass through it
        run("uv", "venv", "--quiet", "--python", sys.executable, here / "venv")
        run("uv", "pip", "install", "--quiet", "--python", here / "venv/bin/python", wheel)
        proxyctl = here / "venv/bin/proxyctl"
        assert run(proxyctl, "--version", cwd=here).stdout.strip().endswith(__version__)
        assert json.loads(run(proxyctl, "schema", cwd=here).stdout)["title"] == "proxyctl.yml"
        run(proxyctl, "init", "--project", "alone", cwd=here)
        (here / "proxyctl.yml").write_text(FILE)
        checked = run(proxyctl, "check", "--state", here / "state", "--json", cwd=here, ok=False)
        problems = json.loads(checked.stdout.splitlines()[0])["problems"]
        assert [p for p in problems if not p.startswith("docker:")] == [], "nginx has no objection to the templates"
