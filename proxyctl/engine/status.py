"""The live truth of a project: what is journaled beside what is observed, and where the two differ.

The one home of the status that people and programs read; `as_json` is the contract's shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proxyctl.domain import commands as do
from proxyctl.domain import orders, plan
from proxyctl.domain.deciding import same_traffic
from proxyctl.domain.model import Colour, Replica, Role, ServiceName
from proxyctl.domain.record import Record
from proxyctl.domain.split import Split
from proxyctl.domain.state import Phase, Placement, ServiceState
from proxyctl.engine.traffic import changed, misplaced
from proxyctl.errors import DockerUnavailable, StateUnusable
from proxyctl.ports import Flags, Frozen, Holder, Inspector, Life, Locks, ProxyStatus, ReplicaState, Splits, Store

HEALTHY = "healthy"


class ReplicaView(Record):
    name: str
    container: str
    address: str
    health: str  # healthy; restarted, not gated; failed its gate; misplaced, starting, exited, absent, unknown


class ReleaseView(Record):
    placed: Placement
    replicas: tuple[ReplicaView, ...]


class ServiceView(Record):
    state: ServiceState
    split: Split | None  # as the flags say, where there are flags
    releases: tuple[ReleaseView, ...]
    driver: Holder | None
    drift: tuple[str, ...]
    unseen: str = ""  # why health is unknown
    said: str = ""  # of the candidate, by the log, last


class ProjectView(Record):
    project: str
    proxy: ProxyStatus
    frozen: Frozen | None
    services: tuple[ServiceView, ...]


async def service_view(state: ServiceState, splits: Splits, inspector: Inspector, driver: Holder | None) -> ServiceView:
    seen, unseen = await _inspected(state, inspector)
    releases = tuple(_release_view(placed, seen) for placed in (state.blue, state.green) if placed is not None)
    flags, meddled = _flags(state, splits)
    observed = flags.split if flags is not None else None
    return ServiceView(
        state=state,
        split=observed if state.route is not None else state.split,
        releases=releases,
        driver=driver,
        drift=(meddled,) if meddled else tuple(_drift(state, observed, releases, driver)),
        unseen=unseen,
    )


def _flags(state: ServiceState, splits: Splits) -> tuple[Flags | None, str]:
    """What the flag files say, and why they cannot be believed."""
    if state.route is None:
        return None, ""
    try:
        return splits.read(state.service), ""
    except StateUnusable as error:
        return None, f"{error}; proxyctl recover {state.service} writes them anew"


async def project_view(
    project: str,
    store: Store,
    splits: Splits,
    inspector: Inspector,
    locks: Locks,
    proxy: ProxyStatus,
    frozen: Frozen | None,
    only: str = "",
) -> ProjectView:
    views = []
    for name in store.services():
        if only in ("", name):
            view = await service_view(store.load(name), splits, inspector, locks.holder(name))
            settled = proxy.observed is not None and view.driver is None  # a move is told to nginx before it is seen
            doubts = await _doubts(view, splits) if settled else ()
            views.append(view.replace(said=_said(store, name), drift=(*view.drift, *doubts)))
    return ProjectView(project=project, proxy=proxy, frozen=frozen, services=tuple(views))


async def _doubts(view: ServiceView, splits: Splits) -> tuple[str, ...]:
    """Whether nginx does what its files say, where they can be read."""
    if view.split is None or view.state.route is None:
        return ()
    doubt = await splits.doubt(view.state.service)
    return (f"{doubt}; proxyctl recover {view.state.service}",) if doubt else ()


def _said(store: Store, service: ServiceName) -> str:
    """What the log said last in the present step of the rollout that runs."""
    rollout = store.load(service).rollout
    kept = store.kept(service) if rollout is not None else None
    here = kept is not None and rollout is not None and (kept.rollout, kept.step) == (rollout.id, rollout.cursor)
    return kept.said if kept is not None and here else ""


async def _inspected(state: ServiceState, inspector: Inspector) -> tuple[dict[str, ReplicaState] | None, str]:
    """By name; None where the engine does not say, and why."""
    names = [replica.name for replica in state.replicas]
    try:
        return {seen.name: seen for seen in await inspector.inspect(names)}, ""
    except DockerUnavailable as error:
        return None, str(error)


def _release_view(placed: Placement, seen: dict[str, ReplicaState] | None) -> ReleaseView:
    return ReleaseView(
        placed=placed, replicas=tuple(_replica_view(placed, replica, seen) for replica in placed.replicas)
    )


def _replica_view(placed: Placement, replica: Replica, seen: dict[str, ReplicaState] | None) -> ReplicaView:
    container = replica.incarnation.container if replica.incarnation else ""
    health = "unknown" if seen is None else _health(placed, replica, seen[replica.name])
    return ReplicaView(name=replica.name, container=container, address=replica.address, health=health)


def _health(placed: Placement, replica: Replica, seen: ReplicaState) -> str:
    """Healthy is what passed the gate in this incarnation; nothing is probed to print a status."""
    if seen.life is not Life.RUNNING:
        return seen.life.value
    if misplaced(replica, seen):
        return "misplaced"
    if changed(replica, seen):
        return "restarted, not gated"
    if placed.sick:
        return "failed its gate"
    if placed.in_doubt and replica.incarnation not in placed.gated:
        return "restarted, not gated"
    return HEALTHY if placed.gated else "starting"


def _drift(
    state: ServiceState, observed: Split | None, releases: Sequence[ReleaseView], driver: Holder | None
) -> list[str]:
    found = []
    if state.route is not None and driver is None and not same_traffic(observed, state.split):
        found.append(f"the flags say {observed or 'nobody serves'}, the journal {state.split or 'nobody serves'}")
    for release in releases:
        if sick := release.placed.sick:
            found.append(f"{release.placed.release.id} did not pass its gate after a restart and serves on: {sick}")
        for replica in () if _leaves(state, release.placed) else release.replicas:
            if replica.health in ("exited", "absent", "restarted, not gated"):
                found.append(f"{replica.name} is {replica.health}")
            if replica.health == "misplaced":
                at = f"{replica.name} is not at {replica.address}, where another may answer for it"
                found.append(f"{at}; proxyctl recover {state.service}")
    if driver is None and state.rollout is not None and state.phase is not Phase.DEGRADED:
        found.append(f"rollout {state.rollout.id} is {state.phase} and nobody drives it")
    return found


def _leaves(state: ServiceState, placed: Placement) -> bool:
    """Its containers are being stopped, as told."""
    return isinstance(state.intent, do.Retire) and state.intent.colour is placed.colour


def warm(view: ServiceView) -> Placement | None:
    """What a rollback goes to at once: at rest, and seen to run as it passed its gate."""
    for release in view.releases:
        stands = release.placed.role is Role.STANDBY and view.state.phase is Phase.IDLE
        if stands and all(replica.health == HEALTHY for replica in release.replicas):
            return release.placed
    return None


# --- the contract's shape ---------------------------------------------------------------------------------------


def as_json(view: ProjectView) -> dict[str, Any]:
    proxy = view.proxy
    return {
        "project": view.project,
        "proxy": {
            "mode": proxy.mode.value,
            "state": proxy.state.value,
            "nginx": proxy.version,
            "generation": proxy.generation,
            "observed": proxy.observed,
            "draining": proxy.draining,
            "certificates": dict(proxy.certificates),
            "damage": proxy.damage,
        },
        "frozen": frozen_json(view.frozen) if view.frozen else None,
        "services": [_service_json(service) for service in view.services],
    }


def frozen_json(frozen: Frozen) -> dict[str, Any]:
    """`since` in unix time."""
    return {"actor": frozen.actor, "reason": frozen.reason, "since": frozen.since}


def _service_json(view: ServiceView) -> dict[str, Any]:
    state = view.state
    return {
        "name": state.service,
        "phase": state.phase.value,
        "split": {colour.value: view.split.percent(colour) if view.split else 0.0 for colour in Colour},
        "cover": state.cover,
        "preview": state.preview.value if state.preview else None,
        "releases": [_release_json(release) for release in view.releases],
        "warm": standby.release.id if (standby := warm(view)) else None,
        "rollout": _rollout_json(state, view.said),
        "trouble": state.trouble,
        "drift": list(view.drift),
        "unseen": view.unseen or None,
    }


def _release_json(view: ReleaseView) -> dict[str, Any]:
    placed = view.placed
    return {
        "id": placed.release.id,
        "colour": placed.colour.value,
        "role": placed.role.value,
        "image": placed.release.image,
        "digest": placed.release.digest,
        "replicas": [
            {"name": r.name, "container": r.container, "address": r.address, "health": r.health} for r in view.replicas
        ],
    }


def _rollout_json(state: ServiceState, said: str) -> dict[str, Any] | None:
    rollout = state.rollout
    if rollout is None:
        return None
    return {
        "id": rollout.id,
        "kind": rollout.kind.value,
        "release": rollout.release,
        "replaces": rollout.replaces,
        "step": rollout.cursor,
        "steps": [plan.words(step) for step in rollout.plan],
        "paused": rollout.paused,
        "analysis": said,
        "choices": list(orders.choices(state)),
        "verdict": rollout.outcome.value if rollout.outcome else None,
        "reason": rollout.why or rollout.reason,
        "actor": rollout.actor,
    }
