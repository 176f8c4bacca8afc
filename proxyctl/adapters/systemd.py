"""Units that have nginx serve again after a reboot, and its logs and certificates looked after, without anybody.

They run the commands that a person would. Each is written whole and renamed. Start at install().
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from proxyctl.domain.model import Mode
from proxyctl.errors import Unavailable

UNITS = Path("/etc/systemd/system")
RUNNING = Path("/run/systemd/system")
PATIENCE = 10.0
NOTHING: Mapping[str, str] = {}

SERVICE = """\
# Written by `proxyctl setup`; repeat it after the file or the state folder moved.
[Unit]
Description=nginx of proxyctl project {project}
Wants=network-online.target
After=network-online.target docker.service

[Service]
{environment}Type=forking
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
RECOVERY = """\
# Written by `proxyctl setup`; repeat it after the file or the state folder moved.
[Unit]
Description=proxyctl project {project}
After=docker.service nginx.service

[Service]
{environment}Type=oneshot
# Docker and systemd start nginx and the replicas. What a crash left is finished or undone, and a warm standby is
# watched again.
ExecStart={program} recover {options}

[Install]
WantedBy=multi-user.target
"""
UPKEEP = """\
# Written by `proxyctl setup`.
[Unit]
Description=Upkeep of proxyctl project {project}: large logs begin anew, renewed certificates are taken

[Service]
{environment}Type=oneshot
ExecStart=-{program} proxy rotate {options}
ExecStart={program} proxy reload --if-running {options}
"""
TIMER = """\
# Written by `proxyctl setup`.
[Unit]
Description=Hourly upkeep of proxyctl project {project}

[Timer]
OnCalendar=hourly
RandomizedDelaySec=5m

[Install]
WantedBy=timers.target
"""


def units(
    project: str,
    file: Path,
    state: Path,
    pid_file: Path,
    mode: Mode = Mode.PROCESS,
    environment: Mapping[str, str] = NOTHING,
) -> dict[str, str]:
    """Name to text. `environment` is what those commands are told of the engine."""
    values = {
        "project": project,
        "program": f"{_quoted(sys.executable)} -P -m proxyctl",
        "options": f"-f {_quoted(str(file))} --state {_quoted(str(state))}",
        "pid_file": _escaped(str(pid_file)),
        "environment": "".join(f"Environment={_word(f'{name}={value}')}\n" for name, value in environment.items()),
    }
    texts = {
        ".service": SERVICE if mode is Mode.PROCESS else RECOVERY,
        "-upkeep.service": UPKEEP,
        "-upkeep.timer": TIMER,
    }
    return {f"proxyctl-{project}{end}": text.format(**values) for end, text in texts.items()}


def install(texts: dict[str, str], folder: Path = UNITS) -> list[Path]:
    """Write them, and enable those that say who wants them; the same texts again change nothing. Raises Unavailable."""
    paths = [folder / name for name in texts]
    try:
        for path in paths:
            _write(path, texts[path.name])
    except OSError as error:
        raise Unavailable(
            f"the boot unit {paths[0]} cannot be written: {(error.strerror or str(error)).lower()}",
            serving="unchanged",
            next_step="proxyctl setup as root, or proxyctl setup --no-boot where something else starts nginx at boot",
        ) from error
    _tell_systemd()
    return paths


def _write(path: Path, text: str) -> None:
    if not (path.exists() and path.read_text() == text):
        temp = path.with_name(f".{path.name}.tmp")
        temp.write_text(text)
        temp.rename(path)
    _, wanted, target = text.partition("WantedBy=")
    if wanted:
        wants = path.parent / f"{target.strip()}.wants"
        wants.mkdir(exist_ok=True)
        with suppress(FileExistsError):
            wants.joinpath(path.name).symlink_to(path)


def _tell_systemd() -> None:
    """It reads its units anew at boot anyway; a timer counts from when it is started."""
    if RUNNING.exists():
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run(["systemctl", "daemon-reload"], check=True, timeout=PATIENCE, capture_output=True)


def _quoted(text: str) -> str:
    """One word of a command line, as systemd.service(5) splits and expands it."""
    return _word(text).replace("$", "$$")


def _word(text: str) -> str:
    """In which no variable is expanded."""
    return '"' + _escaped(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _escaped(text: str) -> str:
    return text.replace("%", "%%")
