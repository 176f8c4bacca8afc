"""Write files that nobody would write: each is refused in words or becomes a configuration in which its values are
values. Seeds are the examples of the documentation, hostile fragments those of the table of bad inputs."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxyctl.adapters.nginx.control import Address, own_address
from proxyctl.adapters.nginx.process.binary import Directive
from proxyctl.adapters.nginx.readback.lexer import statements, words
from proxyctl.adapters.nginx.readback.refusals import refusals
from proxyctl.adapters.nginx.rendering.render import render
from proxyctl.adapters.places import Places
from proxyctl.config.load import Project, load
from proxyctl.domain.model import Colour, Topology
from proxyctl.engine.releases import route_of
from proxyctl.errors import ConfigRejected
from tests.prove.conftest import Depth, Tell
from tests.prove.tracing import REPOSITORY
from tests.unit.config.bad_inputs import HEADER_VALUES, HOSTS, NAMES, PATHS

pytestmark = pytest.mark.timeout(2400)

PARTS = 2  # side by side
FILES, FILES_IN_FULL = 1000, 50_000  # of each part
SLOW = 1.0
ADDRESSES: dict[Colour, tuple[str, ...]] = {Colour.BLUE: ("172.30.0.2:8000",), Colour.GREEN: ("172.30.0.3:8000",)}
STATE = Places(Path("/var/lib/proxyctl/shop"))
GUARDED = Address("127.0.0.1:20123", "/secret")

EXAMPLE = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
HOSTILE = [text for table in (NAMES, HOSTS, PATHS, HEADER_VALUES) for text, _ in table if len(text) < 300]
INJECTIONS = ["; }", "} server { listen 1; ", "\\", '"', "'", "$host", "#", "\n", "\\n", "{{1}}", "\\'; load_module x;"]
SCALAR = re.compile(r"(?<=[:\[,{] )[^\s,\[\]{}]+")


def examples(file: Path) -> Iterator[str]:
    """Whole files only, and those with a header in them twice: its value may be almost anything."""
    for example in EXAMPLE.findall((REPOSITORY / "docs/configuration.md").read_text()):
        text = example if example.startswith("project") else f"project: shop\n{example}"
        file.write_text(text)
        try:
            load(file, environment={})
        except ConfigRejected:
            continue
        yield from [text, text] if "response_headers" in text else [text]


def with_bytes_changed(text: str, dice: random.Random) -> bytes:
    content = bytearray(text.encode())
    for _ in range(dice.randrange(1, 4)):
        at = dice.randrange(len(content))
        match dice.randrange(4):
            case 0:
                content[at] ^= 1 << dice.randrange(8)
            case 1:
                del content[at : at + dice.randrange(1, 9)]
            case 2:
                content[at:at] = content[at : at + dice.randrange(1, 60)]
            case _:
                content[at:at] = dice.choice(INJECTIONS).encode()
    return bytes(content)


def with_a_value_changed(text: str, dice: random.Random) -> bytes:
    spots = list(SCALAR.finditer(text))
    spot = dice.choice(spots)
    old = spot.group().strip('"')
    cut = dice.randrange(len(old) + 1)
    printable = "".join(chr(dice.randrange(0x20, 0x7F)) for _ in range(dice.randrange(1, 9)))
    injected = old[:cut] + dice.choice(INJECTIONS) + old[cut:]
    new = dice.choice([dice.choice(HOSTILE), injected, old * dice.randrange(9), printable, f"{old}{printable[0]}"])
    written = dice.choice([json.dumps(new), json.dumps(new, ensure_ascii=False), new])
    return f"{text[: spot.start()]}{written}{text[spot.end() :]}".encode("utf-8", "surrogatepass")


CHANGES: list[Callable[[str, random.Random], bytes]] = [with_bytes_changed, with_a_value_changed]


def topology_of(project: Project) -> Topology:
    routes = [route_of(service, ADDRESSES, Colour.BLUE, None) for service in project.services if service.routed]
    return Topology(project=project.project, settings=project.settings, routes=tuple(routes))


# --- what nginx would read --------------------------------------------------------------------------------------


def strange(topology: Topology, text: str, address: Address) -> Iterator[str]:
    """Values that did not come back as they went in, and directives that came in with them."""
    yield from map(str, refusals(text, topology, 1, STATE, address))
    found = {words(statement.raw) for statement in statements(text)}
    everywhere = {word for said in found for word in said}
    for route in topology.routes:
        for host in route.hosts:
            if host not in everywhere:
                yield f"{host!r} is not to be found"
        for name, value in route.response_headers:
            if not any(said[:3] == ("add_header", name, value) for said in found):
                yield f"{name!r}: {value!r} is not to be found"


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_the_file_says_it_is_refused_in_words_or_its_values_are_values(
    part: int, tmp_path: Path, depth: Depth, figure: Tell
) -> None:
    dice = random.Random(depth.seed + part)
    file, found, slowest, taken = tmp_path / "proxyctl.yml", [], 0.0, 0
    seeds = list(examples(file))
    files = depth.times(FILES, FILES_IN_FULL)
    for _ in range(files):
        content = dice.choice(CHANGES)(dice.choice(seeds), dice)
        file.write_bytes(content)
        begun = time.process_time()
        try:
            topology = topology_of(load(file, environment={}))
            address = own_address(STATE) if topology.settings.mode.ours else GUARDED
            text = render(topology, 1, STATE, frozenset(Directive), address)
            found += [f"{content!r}: {why}" for why in strange(topology, text, address)]
            taken += 1
        except ConfigRejected as refused:
            found += [] if refused.problems else [f"{content!r}: refused without a problem"]
        except Exception as error:
            found.append(f"{content!r}: {type(error).__name__}: {error}")
        slowest = max(slowest, time.process_time() - begun)
    figure(f"fuzz: {files} files, {taken} taken, {len(found)} astray, the slowest {slowest:.2f} s")
    assert not found, "\n".join(found[:10])
    assert slowest < SLOW
    assert taken > files // 20
