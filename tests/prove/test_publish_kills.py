"""Kill a real publish at every system call of it: between the stage, the rename of `current`, the HUP and the looks at
nginx. Whatever serves serves on, under load, and the next publish finishes what was begun."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import count, takewhile
from pathlib import Path

import pytest

from proxyctl.adapters.nginx.flags import CLOSING
from proxyctl.adapters.nginx.generations.disk import UNFINISHED, Generations
from proxyctl.adapters.nginx.names import CONFIG
from proxyctl.adapters.nginx.process.binary import on_host
from proxyctl.demo.load import Load, Model
from proxyctl.domain.codec import encode
from proxyctl.domain.model import Topology
from tests.nginx_bed import BLUE, DEBIAN, MAINLINE, WEB, Bed, a_bed, all_to
from tests.prove.conftest import Depth, Tell
from tests.prove.tracing import CHANGES_A_DISK, SENDS_A_SIGNAL, Call, Traced

pytestmark = pytest.mark.timeout(1200)

KILLED = 4  # points of the short form
ASKS_NGINX, OPENS_A_FILE = "connect", "openat"
LOOKS = 3  # at nginx after the HUP: as many as every reload takes


@pytest.fixture(params=[DEBIAN, MAINLINE], ids=["debian", "mainline"])
async def bed(request: pytest.FixtureRequest, strace: str) -> AsyncIterator[Bed]:
    """Where nginx cannot wait for its clients, they are let go before the HUP: that takes calls of its own."""
    assert strace
    async with a_bed(request.param) as made:
        await made.serve_both()
        await made.publish()
        await made.splits.move(WEB, all_to(BLUE))
        yield made


def publisher(bed: Bed, topology: Topology, log: Path) -> Traced:
    number = bed.claim()
    bed.claim()  # it may need another one, to restore the last good content
    written = json.dumps(encode(topology))
    root, trace = bed.places.root, f"{CHANGES_A_DISK},{ASKS_NGINX},{SENDS_A_SIGNAL}"
    return Traced(log, root, "tests.prove.publishing", str(root), str(number), written, trace=trace)


def points(calls: list[Call]) -> list[Call]:
    """All but the looks at nginx that only a slow reload takes. Each of them opens files too, so that after the HUP the
    number of an open says nothing."""
    before = list(takewhile(lambda call: call.name != SENDS_A_SIGNAL, calls))
    after = [call for call in calls[len(before) :] if call.name != OPENS_A_FILE]
    looks = [call for call in after if call.name == ASKS_NGINX]
    assert len(looks) >= LOOKS
    return before + [call for call in after if call not in looks[LOOKS:]]


async def test_a_publisher_killed_anywhere_loses_no_request_and_the_next_one_finishes(
    bed: Bed, tmp_path: Path, depth: Depth, figure: Tell
) -> None:
    limits = (bed.topology(bed.route(body_limit=megabytes << 20)) for megabytes in count(2))
    log, found = tmp_path / "strace.log", []
    kept = Load("127.0.0.1", bed.port, Model.KEEPALIVE, 4, pause=0.002)
    fresh = Load("127.0.0.1", bed.port, Model.NEW_CONNECTION, 2, pause=0.01)
    async with kept, fresh:
        for topology in (next(limits), next(limits)):  # the first one makes folders that later ones find
            calls = points(await asyncio.to_thread(publisher(bed, topology, log).calls))
        chosen = depth.of(calls, KILLED)
        for call in chosen:
            wanted, answered = next(limits), Answered(kept, fresh)
            await asyncio.to_thread(publisher(bed, wanted, log).killed_at, call)
            wrong = [*await standing(bed), *await finished(bed, wanted), *answered.badly()]
            found += [f"at {call}: {words}" for words in wrong]
    asked = len(kept.outcomes) + len(fresh.outcomes)
    figure(f"publish killed at {len(chosen)} of {len(calls)} calls, {asked} requests: {len(found)} promises broken")
    assert not found, "\n".join(found)
    assert asked > 100


class Answered:
    """What clients were answered from now on."""

    def __init__(self, *loads: Load) -> None:
        self._loads = [(load, len(load.outcomes)) for load in loads]

    def badly(self) -> list[str]:
        since = [outcome for load, before in self._loads for outcome in load.outcomes[before:]]
        return [f"2: a request was {outcome.problem}" for outcome in since if outcome.problem]


async def standing(bed: Bed) -> list[str]:
    """What an nginx that is started at this very moment could not do; empty when it could do all."""
    Generations(bed.places).current()  # raises when it is not whole
    ended = await on_host(bed.places, bed.settings).test(bed.places.current / CONFIG)
    return [] if ended.code == 0 else [f"3: nginx would not start: {ended.said}"]


async def finished(bed: Bed, wanted: Topology) -> list[str]:
    """What the next command leaves undone."""
    before = (await bed.proxy.status()).generation or 0
    number = await bed.publish(wanted)
    status = await bed.proxy.status()
    left = [path.name for path in bed.places.generations.glob(f"{UNFINISHED}*")]
    wrong = {
        f"4: {number} after {before}": number < before,
        f"3: {status.observed} is observed and {status.generation} is current": status.observed != status.generation,
        "3: another topology is in force": bed.proxy.topology() != wanted,
        f"5: {left} are left half built": bool(left),
        "5: clients are still let go": (bed.places.splits / CLOSING).exists(),
        "2: nobody serves": (await bed.get()).text != "blue",
    }
    return [words for words, broken in wrong.items() if broken]
