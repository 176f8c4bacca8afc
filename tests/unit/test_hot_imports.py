"""The hot commands stay light: what they import is the standard library and click."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("aiohttp", "docker", "pydantic", "jinja2", "rich", "yaml", "requests", "watchdog")


def test_the_hot_commands_import_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "import proxyctl.cli.main, proxyctl.cli.traffic, proxyctl.cli.status\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"
