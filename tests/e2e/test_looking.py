"""Commands that only look: they make nothing where there is nothing, and answer where nothing can be written."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import docker
import pytest

from proxyctl.adapters.sqlite import SqliteStore
from tests.e2e.invariants import spoke_plainly, unchanged
from tests.e2e.pair import standing_pair
from tests.e2e.shop import Said, Shop, ended
from tests.nginx_image import image_of

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("looking")]  # one project for the file

LOOKS = ("status", "status --json", "history", "events", "proxy status", "plan", "check")
ACTS = ("deploy web", "stage web", "rollback web", "switch web", "weight web 5", "abort web", "recover", "proxy start")
FILE = """\
project: {project}
proxy: {{http: "127.0.0.1:18097", mode: {mode}, image: "{image}"}}
services:
  web:
    container: {{image: "proxyctl-demo:1"}}
    port: 8000
    health: {{path: /healthz}}
"""
# In a mount namespace of its own; everybody else goes on writing.
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'


# --- a clean machine ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("mode", ["process", "container", "include"])
def test_a_look_makes_nothing(
    look: str, mode: str, tmp_path: Path, unique_project: str, demo_images: dict[str, str]
) -> None:
    assert demo_images, "or else they are missing, and nothing else is said"
    file, state = tmp_path / "proxyctl.yml", tmp_path / "var/state"
    file.write_text(FILE.format(project=unique_project, mode=mode, image=image_of("nginx", "debian")))
    tmp_path.chmod(0o755)
    command = (sys.executable, "-B", "-m", "proxyctl", *look.split(), "--file", str(file), "--state", str(state))
    said = subprocess.run(command, capture_output=True, text=True)
    assert said.returncode in (0, 3), said.stderr  # `check` may have words for this machine
    assert "Traceback" not in said.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["proxyctl.yml"]
    assert left_in_docker(unique_project) == []


def left_in_docker(project: str) -> list[Any]:
    wanted: dict[str, Any] = {"label": f"proxyctl.project={project}"}
    with closing(docker.from_env()) as engine:
        containers = [made.name for made in engine.containers.list(all=True, filters=wanted, ignore_removed=True)]
        return [*containers, *(made.name for made in engine.networks.list(filters=wanted))]


# --- a folder that cannot be written ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with standing_pair() as made:
        yield made


async def on_a_read_only_folder(shop: Shop, command: str) -> Said:
    return await ended(
        await asyncio.create_subprocess_exec(
            *("unshare", "--mount", "sh", "-c", READ_ONLY, str(shop.scene.folder / "state")),
            *(sys.executable, "-m", "proxyctl", *command.split(), *shop.scene.options),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    )


@pytest.mark.parametrize("look", LOOKS)
async def test_a_look_answers_the_same_on_a_read_only_folder(shop: Shop, look: str) -> None:
    async with unchanged(shop.scene):
        said, elsewhere = await on_a_read_only_folder(shop, look), await shop.type(*look.split())
    assert said.code == 0, said
    assert without_seconds(said.out) == without_seconds(elsewhere.out)


def without_seconds(text: str) -> str:
    """The standby window runs on."""
    return "".join(line for line in text.splitlines() if "rollback is warm for" not in line)


def test_a_journal_that_nobody_has_open_is_read_there_too(tmp_path: Path) -> None:
    """Then no log lies beside it, and none can be made."""
    path = tmp_path / "proxyctl.db"
    with closing(SqliteStore(path)) as store:
        store.burn_generations(6)
    assert not [*tmp_path.glob("*-wal")]
    code = f"""
from pathlib import Path
from typing import Any
from proxyctl.adapters.sqlite import SqliteStore
print(SqliteStore.to_read(Path("{path}"))._db.execute("SELECT last FROM generations").fetchone())
"""
    command = ("unshare", "--mount", "sh", "-c", READ_ONLY, str(tmp_path), sys.executable, "-c", code)
    assert subprocess.run(command, capture_output=True, text=True).stdout == "(6,)\n"


@pytest.mark.parametrize("act", ACTS)
async def test_an_act_is_refused_in_words_on_a_read_only_folder(shop: Shop, act: str) -> None:
    async with unchanged(shop.scene), shop.load() as load:
        said = await on_a_read_only_folder(shop, act)
        spoke_plainly(said)
        assert said.code == 6, said
        assert "cannot be used: read-only file system" in said.err
    assert load.failed() == []
