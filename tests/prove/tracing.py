"""Run a program under strace, and have one of its system calls kill it or fail. Start at Traced; Story is the one that
the ground tells."""

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
SENDS_A_SIGNAL = "pidfd_send_signal"
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


class Traced:
    """A module of ours with its arguments. `changes` is what to look at: calls that name this path, and signals; `log`
    is where strace writes."""

    def __init__(self, log: Path, changes: Path, module: str, *arguments: str, trace: str = CHANGES_A_DISK) -> None:
        self._log = log
        self._changes = str(changes)
        self._program = (sys.executable, "-B", "-m", module, *arguments)
        self._trace = trace

    def calls(self) -> list[Call]:
        """Those of an undisturbed run that count, in their order."""
        told = self._run()
        assert told.code == 0, told
        counted: Counter[str] = Counter()
        found = []
        for line in self._log.read_text().splitlines():
            if match := CALL.match(line):
                name = match["name"]
                counted[name] += 1
                if self._counts(name, line):
                    found.append(Call(name, counted[name], line))
        return found

    def _counts(self, name: str, line: str) -> bool:
        if name == SENDS_A_SIGNAL:
            return True
        return self._changes in line and ("O_CREAT" in line or not name.startswith("open"))

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
        trace = ("strace", "-y", "-o", str(self._log), "-e", self._trace, *injections)
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "PYTHONHASHSEED": "0"}
        ended = subprocess.run((*trace, *self._program), capture_output=True, text=True, env=environment, timeout=60)
        return Told(ended.returncode, ended.stdout.splitlines(), ended.stderr)


class Story(Traced):
    """In a folder of its own; `words` are further ones for the story."""

    def __init__(self, folder: Path, log: Path, *words: str) -> None:
        super().__init__(log, folder / "state", "tests.prove.ground", str(folder), *words)
