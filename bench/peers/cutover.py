"""Switches of one proxy under the load of one client model, and what the clients saw of each. Start at under().

The clients run in a process of their own: a busy client is never in the way of the command that is timed. Both read the
same clock.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle, pairwise
from typing import NamedTuple

from bench.peers.backends import SLOW
from bench.peers.proxies import Peer
from proxyctl.demo.load import Load, Model, Outcome
from proxyctl.domain.model import Colour

LEAD = 0.6  # seconds of load before the first switch
SPREAD = 0.3  # seconds in which the clients start: in step they would all see the same instant
APART = (0.7, 0.9)  # seconds from one switch to the next, drawn anew each time


class Clients(NamedTuple):
    title: str
    model: Model
    number: int
    target: str = "/"


CLIENTS = (
    Clients(Model.KEEPALIVE, Model.KEEPALIVE, 8),
    Clients(Model.NEW_CONNECTION, Model.NEW_CONNECTION, 8),
    Clients(Model.POST, Model.POST, 8),
    Clients("GET of 300 ms, kept connections", Model.KEEPALIVE, 60, SLOW),
)


class Turn(NamedTuple):
    """One switch, as the one who ordered it sees it."""

    to: Colour
    began: float
    returned: float


class Seen(NamedTuple):
    """One switch, as the clients see it, in seconds from the start of the command."""

    first_new: float  # when the first answer of the new release was whole; infinite when there was none
    last_old: float  # when the last answer of the old one was; 0 when none came any more
    old_after_return: int  # requests that were sent after the command had returned, and went to the old release


class Segment(NamedTuple):
    requests: int
    problems: tuple[str, ...]  # one for each failed request
    seen: tuple[Seen, ...]


async def under(clients: Clients, peer: Peer, pool: ProcessPoolExecutor, switches: int, dice: random.Random) -> Segment:
    await peer.switch(Colour.BLUE)
    pauses = [dice.uniform(*APART) for _ in range(switches)]
    load = asyncio.get_running_loop().run_in_executor(pool, outcomes_of, clients, peer.port, LEAD + sum(pauses))
    await asyncio.sleep(LEAD)
    colours = cycle((Colour.GREEN, Colour.BLUE))
    turns = [await turn(peer, colour, pause) for colour, pause in zip(colours, pauses, strict=False)]
    outcomes = await load
    return Segment(len(outcomes), tuple(o.problem for o in outcomes if o.problem), tuple(seen_in(turns, outcomes)))


async def turn(peer: Peer, colour: Colour, pause: float) -> Turn:
    began = time.monotonic()
    await peer.switch(colour)
    made = Turn(colour, began, time.monotonic())
    await asyncio.sleep(began + pause - made.returned)
    return made


def seen_in(turns: Sequence[Turn], outcomes: Sequence[Outcome]) -> list[Seen]:
    ends = [following.began for _, following in pairwise(turns)] + [math.inf]
    return [seen(turn, end, outcomes) for turn, end in zip(turns, ends, strict=True)]


def seen(turn: Turn, end: float, outcomes: Sequence[Outcome]) -> Seen:
    """Of the answers that came before the next switch."""
    answers = [o for o in outcomes if turn.began <= o.ended < end and not o.problem]
    new = [o for o in answers if o.release == turn.to]
    old = [o for o in answers if o.release != turn.to]
    return Seen(
        first_new=min((o.ended for o in new), default=math.inf) - turn.began,
        last_old=max((o.ended for o in old), default=turn.began) - turn.began,
        old_after_return=sum(o.started > turn.returned for o in old),
    )


# --- in the clients' process -------------------------------------------------------------------------------------


def outcomes_of(clients: Clients, port: int, seconds: float) -> list[Outcome]:
    return asyncio.run(load_for(clients, port, seconds))


async def load_for(clients: Clients, port: int, seconds: float) -> list[Outcome]:
    load = Load("127.0.0.1", port, clients.model, clients.number, target=clients.target, spread=SPREAD)
    async with load:
        await asyncio.sleep(seconds)
    return load.outcomes
