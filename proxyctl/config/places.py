"""Which file, which project, which state folder. Never more of the file than the hot commands need.

Standard library only: `rollback`, `switch`, `weight` and `status` import no YAML reader. Start at find_file().
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from proxyctl.config.problems import shown
from proxyctl.errors import UsageError

FILE = "proxyctl.yml"
HOOKS = ".proxyctl/hooks"  # the folder of the user's hooks, beside the file
NAME = re.compile(r"[a-z][a-z0-9-]{0,38}[a-z0-9]", re.ASCII)
RESERVED = ("current", "default", "proxyctl")

LONGEST_PATH = 4095  # characters; the kernel takes no more bytes

_LOOK = 64 * 1024  # bytes in which the first key must come
_NO_KEY = re.compile(rb"\s*(?:#.*)?|---[ ]*", re.ASCII)
_PROJECT = re.compile(rb"project:[ ]+(['\"]?)(?P<name>[a-z][a-z0-9-]{0,38}[a-z0-9])\1[ ]*(?:[ ]#.*)?\r?", re.ASCII)


def find_file(explicit: str | None, environment: Mapping[str, str], here: Path) -> Path:
    """`-f`, else $PROXYCTL_FILE, else proxyctl.yml here or in a parent folder. Raises UsageError."""
    if named := explicit or _stated(environment, "PROXYCTL_FILE"):
        return _named(Path(os.path.normpath(here / named)))
    for folder in (here, *here.parents):
        if (folder / FILE).is_file():
            return folder / FILE
    raise UsageError(f"there is no {FILE} here or in a parent folder", next_step="proxyctl init, or -f FILE")


def _stated(environment: Mapping[str, str], variable: str) -> str | None:
    """The path in a variable; an empty one says nothing. Raises UsageError."""
    stated = environment.get(variable)
    try:
        return as_path(stated) if stated else None
    except ValueError as error:
        raise UsageError(f"{variable} is {shown(stated)}: {error}", next_step=f"unset {variable}") from None


def as_path(text: str) -> str:
    """A path as somebody types it. Raises ValueError."""
    if not text or not text.isprintable() or len(text) > LONGEST_PATH:
        raise ValueError(f"not a path; write 1 to {LONGEST_PATH} printable characters")
    return text


def _named(path: Path) -> Path:
    try:
        return existing(path)
    except ValueError as error:
        raise UsageError(f"{path}: {error}", next_step="proxyctl init, or name another with -f FILE") from None


def existing(path: Path) -> Path:
    """A file that is there, and can be read more than once. Raises ValueError."""
    try:
        if path.is_file():
            return path
        if path.is_dir():
            raise ValueError("this is a folder; name a file")
        if path.exists():
            raise ValueError("this is not a plain file; write what it has into one, and name that")
        raise ValueError("there is no such file")
    except OSError as error:
        raise ValueError((error.strerror or "it cannot be opened").lower()) from None


def project_name(path: Path) -> str:
    """The project's name by a look at the first key; a file that hides it there is loaded whole. Raises ConfigRejected
    only then: what else the file says is not looked at."""
    return _first_key(path) or _loaded(path)


def _first_key(path: Path) -> str | None:
    """The name, only where it is surely what a full load would find: nothing but comments stand before it."""
    try:
        with path.open("rb") as file:
            lines = file.read(_LOOK).split(b"\n")
    except OSError:
        return None
    first = next((line for line in lines if not _NO_KEY.fullmatch(line)), b"")
    match = _PROJECT.fullmatch(first)
    name = match["name"].decode() if match else None
    # YAML 1.1 readers take these for truth values, so a full load asks for quotes.
    return None if name in RESERVED or name in ("yes", "no", "on", "off", "true", "false", "null") else name


def _loaded(path: Path) -> str:
    from proxyctl.config.load import load

    return load(path).project


def state_dir(project: str, explicit: str | None, environment: Mapping[str, str]) -> Path:
    """`--state`, else $PROXYCTL_STATE, else the place the system has for it. Raises UsageError where it has none."""
    if named := explicit or _stated(environment, "PROXYCTL_STATE"):
        return Path(os.path.normpath(Path(named).absolute()))
    if os.geteuid() == 0:
        return Path("/var/lib/proxyctl") / project
    return _user_state(environment) / "proxyctl" / project


def _user_state(environment: Mapping[str, str]) -> Path:
    """$XDG_STATE_HOME, which counts only when it is absolute, else its default in the home folder."""
    stated, home = Path(environment.get("XDG_STATE_HOME", "")), Path(environment.get("HOME", ""))
    if stated.is_absolute():
        return stated
    if home.is_absolute():
        return home / ".local" / "state"
    raise UsageError("there is no home folder to keep the state in", next_step="proxyctl --state DIR ...")
