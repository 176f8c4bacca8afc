"""Let clients go before a reload: an old worker that quits closes its idle connections, and a request on its way there
is lost. So for a while before, every answer says that its connection closes, and clients open new ones.

Only for an nginx that cannot wait by itself (keepalive_min_timeout, since 1.27.4). Start at clients_let_go().
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from pathlib import Path

from proxyctl.adapters.durable import told_in_words
from proxyctl.adapters.nginx.flags import CLOSING, is_closing, parse_folder_name
from proxyctl.adapters.nginx.generations.disk import Generation
from proxyctl.adapters.nginx.process.listens import parse
from proxyctl.adapters.nginx.traffic.splits import point, repointing
from proxyctl.adapters.places import SPLIT_IN_FORCE, Places
from proxyctl.adapters.sockets import has_clients
from proxyctl.domain.model import Seconds, ServiceName
from proxyctl.ports import Flags

# Longer than a client lets pass between two requests, or it may send into the close: 0 of 322,834 lost with 1 s.
LEAD: Seconds = 1.0
HAND_OVER: Seconds = 0.2  # nginx lets 100 ms pass between its new workers and the end of the old ones


def clients_let_go(places: Places, in_force: Generation | None) -> AbstractAsyncContextManager[None]:
    """Around a reload of what is in force; where that can spare clients a lost request."""
    if in_force is None or not _lets_go(in_force.text):
        return nullcontext()
    ports = {parse(listen).port for listen in in_force.topology.listens}
    return connections_closing(places) if any(map(has_clients, ports)) else nullcontext()


def _lets_go(configuration: str) -> bool:
    """Whether nginx with this text looks at the flag."""
    return "return 419;" in configuration


@asynccontextmanager
async def connections_closing(places: Places) -> AsyncIterator[None]:
    """From a second before the block until its end. The caller holds the publishing lock."""
    flag = places.splits / CLOSING
    try:
        with told_in_words(places.root):
            flag.touch()
            _repoint_all(places)
        await asyncio.sleep(LEAD)
        yield
    finally:
        stay_open(places)


def letting_go(places: Places) -> bool:
    """Somebody does it now, or died at it."""
    return (places.splits / CLOSING).exists()


def stay_open(places: Places) -> None:
    """No connection is to be closed any more; also after a publisher that died. May be repeated."""
    with told_in_words(places.root):
        (places.splits / CLOSING).unlink(missing_ok=True)
        _repoint_all(places)


def _repoint_all(places: Places) -> None:
    """Every service keeps its split, in the form that goes with the flag."""
    wanted = (places.splits / CLOSING).exists()
    for link in places.splits.glob(f"*/{SPLIT_IN_FORCE}"):
        service = ServiceName(link.parent.name)
        with repointing(places, service):
            if (flags := _in_another_form(link, wanted)) is not None:
                point(places, service, flags)


def _in_another_form(link: Path, wanted: bool) -> Flags | None:
    """The split in force, unless it has the wanted form. What a hand put in its place is not ours to mend here."""
    with suppress(ValueError, OSError):
        name = str(link.readlink())
        if is_closing(name) is not wanted:
            return parse_folder_name(name)
    return None
