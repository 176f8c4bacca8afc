"""Who nginx's workers are, and whether they can see who gets traffic. Only looks."""

from __future__ import annotations

import grp
import os
from contextlib import suppress

from proxyctl.adapters.nginx.control import Control
from proxyctl.adapters.nginx.process.master import Process, speaking_worker, workers_of
from proxyctl.adapters.nginx.process.sight import OTHERS, group_of, refused_part, worker_user
from proxyctl.adapters.nginx.refused import LAST_GOOD_SERVES
from proxyctl.adapters.places import Places
from proxyctl.domain.model import Mode, ProxySettings, Topology
from proxyctl.errors import NginxUnavailable

TRIES = 3  # to look at a worker that lives


def refuse_the_blind(places: Places, topology: Topology) -> None:
    """A worker that may not enter its working directory ends, and nginx does not start it again. Raises
    NginxUnavailable."""
    if blind := blindness(places, topology):
        raise NginxUnavailable(
            f"nginx could not see who gets traffic: {blind}",
            serving=LAST_GOOD_SERVES,
            next_step="let the user of nginx's workers enter it (chmod o+x), or keep the state elsewhere: --state",
        )


def blindness(places: Places, topology: Topology) -> str:
    """In one clause, what would keep the workers from the flags; empty when nothing does."""
    try:
        user = worker_user(topology.settings.user) if topology.settings.mode is Mode.PROCESS else OTHERS
    except KeyError:
        return ""  # nginx itself names a user that does not exist
    return refused_part(places.splits, user)


def group_named(settings: ProxySettings) -> int | None:
    """Of the workers, where the settings name their user: nginx takes the group of that name. An image has its own."""
    if os.geteuid() != 0 or settings.user is None or settings.mode is not Mode.PROCESS:
        return None
    with suppress(KeyError):  # nginx itself names one that does not exist
        return grp.getgrnam(settings.user).gr_gid
    return None


async def group_of_workers(places: Places, master: Process | None) -> int | None:
    """None where no worker runs, or they are who we are. One that answers is root no more."""
    if master is None or os.geteuid() != 0:
        return None
    with suppress(NginxUnavailable):
        for _ in range(TRIES):
            speaker = await Control(places).speaker()
            with suppress(OSError):  # it died since
                return group_of(speaking_worker(places, speaker.pid).pid)
    for worker in workers_of(master):
        with suppress(OSError):
            return group_of(worker.pid)
    return None
