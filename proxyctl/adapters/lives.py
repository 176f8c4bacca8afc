"""Lives of processes: a pid alone may be somebody else's by now. By the kernel's ticks since boot, which no clock that
is set can move."""

from __future__ import annotations

import os
from pathlib import Path


def start_time(pid: int) -> str:
    """The kernel's start time of a process, in ticks since boot; empty when there is none (proc(5), field 22)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def this_life() -> str:
    """Of this process, in one word."""
    return f"{os.getpid()}-{start_time(os.getpid())}"


def is_over(life: str) -> bool:
    """Whether no process has this life any more."""
    pid, _, started = life.partition("-")
    return not pid.isdecimal() or not started or start_time(int(pid)) != started
