"""Run the story of the ground under strace, and have one of its system calls kill it or fail. Start at Story."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[2]
CHANGES_A_DISK = (
    "trace=write,pwrite64,fsync,fdatasync,ftruncate,open,openat,rename,renameat,renameat2,symlink,symlinkat,"
    "link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,chmod,fchmod,fchmodat"
)
CALL = re.compile(r"(?P<name>\w+)\(")


class Call(NamedTuple):
    """The number-th call of this name in the life of the process."""

    name: str
    number: int
    words: str = ""  # as strace wrote it down

    def __str__(self) -> str:
        return f"{self.name} {self.number} ({self.words})"


class Told(NamedTuple):
    """What the story said until it ended, however it ended."""

    code: int
    lines: list[str]
    errors: str

    @property
    def done(self) -> list[list[int]]:
        """Of each order that is done: its number, the generation in force and the fence."""
        return [[int(word) for word in line.split()[1:]] for line in self.lines if line.startswith("done ")]


class Story:
    """In a folder of its own; `log` is where strace writes, `words` are further ones for the story."""

    def __init__(self, folder: Path, log: Path, *words: str) -> None:
        self._folder = folder
        self._log = log
        self._words = words

    def calls(self) -> list[Call]:
        """Those of an undisturbed run that change the folder, in their order."""
        assert self._run().code == 0
        counted: Counter[str] = Counter()
        found = []
        for line in self._log.read_text().splitlines():
            if match := CALL.match(line):
                name = match["name"]
                counted[name] += 1
                if f"{self._folder}/state" in line and ("O_CREAT" in line or not name.startswith("open")):
                    found.append(Call(name, counted[name], line))
        return found

    def killed_at(self, call: Call) -> Told:
        """By SIGKILL as it makes this call. What did not die there proves nothing."""
        told = self._run(f"inject={call.name}:signal=KILL:when={call.number}")
        assert "killed by SIGKILL" in self._log.read_text(), f"nothing died at {call}: {told}"
        return told

    def failing_at(self, call: Call, error: str, ever_after: bool) -> Told:
        told = self._run(f"inject={call.name}:error={error}:when={call.number}{'+' if ever_after else ''}")
        assert "(INJECTED)" in self._log.read_text(), f"nothing failed at {call}: {told}"
        return told

    def _run(self, *inject: str) -> Told:
        injections = [word for expression in inject for word in ("-e", expression)]
        trace = ("strace", "-y", "-o", str(self._log), "-e", CHANGES_A_DISK, *injections)
        story = (sys.executable, "-B", "-m", "tests.prove.ground", str(self._folder), *self._words)
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "PYTHONHASHSEED": "0"}
        ended = subprocess.run((*trace, *story), capture_output=True, text=True, env=environment, timeout=60)
        return Told(ended.returncode, ended.stdout.splitlines(), ended.stderr)
