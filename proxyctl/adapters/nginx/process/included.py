"""The user's own nginx, which includes what we write: the program of `proxy.mode: include`. Start at IncludedProgram.

The master stays the user's: it is never started or stopped here, only told to read its configuration again. What it is
to include is tried in a mount namespace of our own, in which it stands in its place already, so that nobody else ever
sees a configuration that nginx would refuse.
"""

from __future__ import annotations

import os
import re
import tempfile
from itertools import takewhile
from pathlib import Path

from proxyctl.adapters.nginx.names import CONFIG, include_line
from proxyctl.adapters.nginx.process.binary import PATIENCE, ServingProgram, patience_for
from proxyctl.adapters.nginx.process.master import MASTER, is_run_by, title_of
from proxyctl.adapters.places import Places
from proxyctl.domain.model import ProxySettings, Seconds
from proxyctl.errors import NginxUnavailable
from proxyctl.ports import Ended, NginxProgram

# The candidate, where it is held meanwhile, the public folder, an empty one, the last folder on the way there that
# exists; then the command. Where we have no folders yet, they are made in memory. All is gone with its last process.
IN_ITS_PLACE = """
if [ ! -e "$3" ]; then
    mount -t tmpfs tmpfs "$4"
    mkdir "$4/made" "$4/work"
    mount -t overlay overlay -o "lowerdir=$5,upperdir=$4/made,workdir=$4/work" "$5"
    mkdir -p "$2" "$3"
fi
mount --bind "$1" "$2"
mount -t tmpfs tmpfs "$3"
mkdir "$3/current" "$3/logs" "$3/temp" "$3/splits"
mount --bind "$2" "$3/current"
shift 5
exec "$@"
"""
NAMESPACE = ("unshare", "--mount", "--propagation", "private", "sh", "-e", "-c", IN_ITS_PLACE, "sh")
DUMPED = "# configuration file "
_STAMP = re.compile(r"^\d{4}/\d\d/\d\d [\d:]+ (?=\[)|(?<=\]) \d+#\d+:", re.ASCII)
_PID = re.compile(r"^\s*pid\s+([^\s;]+)\s*;", re.MULTILINE)
_PID_PATH = re.compile(r"--pid-path=(\S+)")
_CONF_PATH = re.compile(r"--conf-path=(\S+)")


class IncludedProgram(ServingProgram):
    """Implements `NginxProgram` for one project."""

    def __init__(self, places: Places, settings: ProxySettings) -> None:
        super().__init__(places, settings.binary)
        self._config = settings.config

    async def test(self, config: Path) -> Ended:
        """Only what the user's own configuration does not say already without us."""
        if os.geteuid() != 0:
            raise NginxUnavailable(
                "proxy.mode: include needs root: nginx's master is signalled, and what it is to include is tried first",
                next_step="sudo proxyctl",
            )
        alone = await self._without_us()
        if alone.code != 0:
            raise NginxUnavailable(
                "your nginx refuses its configuration as it is, without us",
                detail="\n".join(_complaints(alone.said)),
                serving="what nginx has in memory",
                next_step=f"nginx -t, and mend {await self._main()}",
            )
        ended = await self._with(config.parent, "-T", patience_for(config))
        if ended.code == 0 and f"{DUMPED}{self._included}:" not in ended.said:
            return Ended(code=1, said=await self._not_included())
        said = [line for line in _complaints(ended.said) if line not in _complaints(alone.said)]
        return Ended(code=ended.code, said="\n".join(said))

    async def master(self) -> int | None:
        noted = _PID.findall((await self._told("-T")).said) or _PID_PATH.findall((await self.run("-V")).said)
        try:
            pid = int(Path("/", noted[-1]).read_text())
        except (OSError, ValueError, IndexError):
            return None
        return pid if title_of(pid).startswith(MASTER) and is_run_by(os.geteuid(), pid) else None

    async def start(self, config: Path, error_log: Path) -> Ended:
        raise NginxUnavailable(
            "your nginx does not run, and proxy.mode: include leaves it to you",
            serving="nothing: nginx does not run",
            next_step="start it (systemctl start nginx), then repeat",
        )

    def renewed(self) -> NginxProgram:
        return self

    async def start_beside(self, old: int, config: Path, error_log: Path) -> Ended:
        raise NginxUnavailable(
            "this nginx is yours, and proxy.mode: include leaves its upgrade to you",
            serving="unchanged",
            next_step="upgrade it; what it includes of proxyctl stays",
        )

    async def let_end(self) -> None:
        raise NginxUnavailable(
            "this nginx is yours, and proxy.mode: include leaves it to you",
            serving="unchanged",
            next_step=f"stop it (systemctl stop nginx), or take {self._line} out of {await self._main()}",
        )

    async def _without_us(self) -> Ended:
        """Also where what it includes of us was spoiled."""
        with tempfile.TemporaryDirectory(prefix="proxyctl-none-") as nothing:
            return await self._with(Path(nothing), "-t", PATIENCE)

    async def _with(self, folder: Path, way: str, patience: Seconds) -> Ended:
        """What nginx says with this folder in the place of what it includes of us."""
        held, public = self._places.nginx, self._places.public
        exists = next(filter(Path.exists, (public, *public.parents)))
        if exists == Path("/"):
            raise NginxUnavailable(f"{public.parents[-2]} is not there yet", next_step=f"mkdir {public.parents[-2]}")
        with tempfile.TemporaryDirectory(prefix="proxyctl-room-") as room:
            words = (*NAMESPACE, *map(str, (folder, held, public, room, exists)), *self._words(way))
            return await self.execute(words, keeps_output=True, patience=patience)

    @property
    def _included(self) -> Path:
        return self._places.current / CONFIG

    @property
    def _line(self) -> str:
        return f"`{include_line(self._places)}`"

    async def _told(self, way: str) -> Ended:
        return await self.execute(self._words(way), keeps_output=True)

    def _words(self, way: str) -> tuple[str, ...]:
        main = ("-c", self._config) if self._config else ()
        return (self.tried(), "-e", "stderr", way, *main)

    async def _not_included(self) -> str:
        return f"nginx does not include {self._included}: write {self._line} into the http part of {await self._main()}"

    async def _main(self) -> str:
        return self._config or next(iter(_CONF_PATH.findall((await self.run("-V")).said)), "nginx.conf")


def _complaints(said: str) -> list[str]:
    """What stands before the configuration itself, without the time and the process."""
    before = takewhile(lambda line: not line.startswith(DUMPED), said.splitlines())
    return [_STAMP.sub("", line) for line in before]
