"""Which file, which project, which state folder. Standard library only: the hot commands need no more of the file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from proxyctl.errors import ConfigRejected, UsageError

FILE = "proxyctl.yml"
NAME = re.compile(r"[a-z][a-z0-9-]{0,38}[a-z0-9]", re.ASCII)
RESERVED = ("current", "default", "proxyctl")
_PROJECT_LINE = re.compile(r"project:[ ]*(['\"]?)(?P<name>[a-z][a-z0-9-]{0,38}[a-z0-9])\1[ ]*(#.*)?", re.ASCII)


def find_file(explicit: str | None, environment: Mapping[str, str], here: Path) -> Path:
    """`-f`, else $PROXYCTL_FILE, else proxyctl.yml here or in a parent folder. Raises UsageError."""
    named = explicit or environment.get("PROXYCTL_FILE")
    if named:
        path = Path(named).absolute()
        if not path.is_file():
            raise UsageError(f"there is no file {named}", next_step="proxyctl init, or name it with -f FILE")
        return path
    for folder in (here, *here.parents):
        if (folder / FILE).is_file():
            return folder / FILE
    raise UsageError(
        f"there is no {FILE} here or in a parent folder", next_step="proxyctl init, or name it with -f FILE"
    )


def project_name(path: Path) -> str:
    """The project's name by its line in the file; a file that hides it from a plain look is loaded whole."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    found = [match["name"] for line in lines if (match := _PROJECT_LINE.fullmatch(line))]
    if len(found) == 1 and found[0] not in RESERVED:
        return found[0]
    from proxyctl.config.load import load

    return load(path).project


def state_dir(project: str, explicit: str | None, environment: Mapping[str, str]) -> Path:
    """`--state`, else $PROXYCTL_STATE, else the place the system has for it."""
    named = explicit or environment.get("PROXYCTL_STATE")
    if named:
        return Path(named).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/proxyctl") / project
    home = environment.get("XDG_STATE_HOME") or str(Path(environment.get("HOME", "/")) / ".local/state")
    if not Path(home).is_absolute():
        raise ConfigRejected(f"XDG_STATE_HOME {home!r} is not an absolute path")
    return Path(home) / "proxyctl" / project
