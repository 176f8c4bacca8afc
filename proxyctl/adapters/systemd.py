"""A unit that has nginx serve again after a reboot, before anybody types anything. Start at install().

The unit runs the commands that a person would: `proxy start`, then `recover`. It is written whole and renamed.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from proxyctl.errors import Unavailable

UNITS = Path("/etc/systemd/system")
RUNNING = Path("/run/systemd/system")
PATIENCE = 10.0

UNIT = """\
# Written by `proxyctl setup`; repeat it after the file or the state folder moved.
[Unit]
Description=nginx of proxyctl project {project}
Wants=network-online.target
After=network-online.target docker.service

[Service]
Type=forking
PIDFile={pid_file}
ExecStart={program} proxy start {options}
# What a crash left is finished or undone, and a warm standby is watched again.
ExecStartPost=-{program} recover {options}
ExecReload={program} proxy reload {options}
ExecStop={program} proxy stop --yes {options}
# Workers of a master that died go on serving until the next one has their ports.
KillMode=process
Restart=on-failure
RestartSec=1
LimitNOFILE=1048576

[Install]
WantedBy=multi-user.target
"""


def unit(project: str, file: Path, state: Path, pid_file: Path) -> str:
    """The text of the unit."""
    program = f"{_quoted(sys.executable)} -P -m proxyctl"
    options = f"-f {_quoted(str(file))} --state {_quoted(str(state))}"
    return UNIT.format(project=project, pid_file=_escaped(str(pid_file)), program=program, options=options)


def install(project: str, text: str, units: Path = UNITS) -> Path:
    """Write and enable the unit; the same text again changes nothing. Raises Unavailable."""
    path = units / f"proxyctl-{project}.service"
    wanted = units / "multi-user.target.wants" / path.name
    try:
        if not (path.exists() and path.read_text() == text):
            temp = path.with_suffix(".tmp")
            temp.write_text(text)
            temp.rename(path)
        wanted.parent.mkdir(exist_ok=True)
        with suppress(FileExistsError):
            wanted.symlink_to(path)
    except OSError as error:
        raise Unavailable(
            f"the boot unit {path} cannot be written: {(error.strerror or str(error)).lower()}",
            serving="unchanged",
            next_step="proxyctl setup as root, or proxyctl setup --no-boot where something else starts nginx at boot",
        ) from error
    _tell_systemd()
    return path


def _tell_systemd() -> None:
    """It reads its units anew at boot anyway."""
    if RUNNING.exists():
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run(["systemctl", "daemon-reload"], check=True, timeout=PATIENCE, capture_output=True)


def _quoted(text: str) -> str:
    """One word of a command line, as systemd.service(5) splits and expands it."""
    return '"' + _escaped(text).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$") + '"'


def _escaped(text: str) -> str:
    return text.replace("%", "%%")
