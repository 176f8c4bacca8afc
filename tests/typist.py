"""Types commands at a terminal of their own, through the real way in, a hundred times a second: one process imports
everything once, and forks for each command. Start at Typist.

As a program, `python -m tests.typist`, it is that process: words come in as a line of JSON, what was said goes out as
one.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from select import select
from typing import NamedTuple

from proxyctl.cli.main import COMMANDS, main

LAST_WORD = b"\x00the end\x00"
PATIENCE = 5  # seconds for one command; none of those that are refused takes a tenth of one


class Typed(NamedTuple):
    code: int  # negative: the signal it died of
    shown: str  # what the terminal was sent, output and errors


class Typist:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def type(self, *words: str, **environment: str) -> Typed:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([words, environment]) + "\n")
        self._process.stdin.flush()
        return Typed(*json.loads(self._process.stdout.readline()))


@contextmanager
def a_typist(here: Path, environment: Mapping[str, str]) -> Iterator[Typist]:
    """Who sits in this folder, and has this environment and no other."""
    process = subprocess.Popen(
        (sys.executable, "-m", "tests.typist"),
        cwd=here,
        env={"PYTHONPATH": str(Path(__file__).parents[1]), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield Typist(process)
        process.stdin.close()  # type: ignore[union-attr]


# --- the process --------------------------------------------------------------------------------------------------


def serve() -> None:
    for module, _ in COMMANDS.values():
        import_module(f"proxyctl.cli.{module}")
    import_module("proxyctl.config.load")
    gc.freeze()  # what is there for good is not copied into each fork
    for line in sys.stdin:
        words, environment = json.loads(line)
        print(json.dumps(_typed(words, environment)), flush=True)  # noqa: T201 - it is this program's answer


def _typed(words: list[str], environment: dict[str, str]) -> Typed:
    screen, terminal = os.openpty()
    pid = os.fork()
    if pid == 0:
        os.close(screen)
        os.login_tty(terminal)
        _become(words, environment)
    shown = b"".join(_until_it_ended(pid, screen, terminal))
    os.close(screen)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return Typed(os.waitstatus_to_exitcode(status), shown.decode(errors="backslashreplace").replace("\r\n", "\n"))


def _become(words: list[str], environment: dict[str, str]) -> None:
    """What `proxyctl WORDS` is when it starts: standard streams on the terminal, and nothing of ours."""
    import signal

    signal.alarm(PATIENCE)
    sys.argv = ["proxyctl", *words]
    os.environ.update(environment)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(os.dup(fd), mode) for fd, mode in enumerate("rww"))
    sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    main()


def _until_it_ended(pid: int, screen: int, terminal: int) -> Iterator[bytes]:
    """What came before a last word of ours: with the last who writes gone, a terminal may forget what is on its way."""
    life, some = os.pidfd_open(pid), b""
    while screen in select([screen, life], [], [])[0]:
        yield os.read(screen, 65536)
    os.close(life)
    os.write(terminal, LAST_WORD)
    while not some.endswith(LAST_WORD):
        some += os.read(screen, 65536)
    yield some.removesuffix(LAST_WORD)


if __name__ == "__main__":
    serve()
