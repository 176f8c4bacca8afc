"""One container as the engine shows it, in our terms. Pure, and light: the hot path reads with it too."""

from __future__ import annotations

from typing import Any

from proxyctl.domain.container import HOST_NETWORK
from proxyctl.domain.model import LOOPBACK, Incarnation
from proxyctl.ports import Life, ReplicaState


def replica_state(name: str, found: dict[str, Any], project: str) -> ReplicaState:
    """What does not carry our label is none of ours: ABSENT."""
    if (found["Config"]["Labels"] or {}).get("proxyctl.project") != project:
        return ReplicaState(name=name, life=Life.ABSENT)
    state = found["State"]
    networks = found["NetworkSettings"]["Networks"] or {}
    slot = networks.get(slot_network_name(project)) or {}
    on_the_host = found["HostConfig"]["NetworkMode"] == HOST_NETWORK
    return ReplicaState(
        name=name,
        life=_life(state["Status"]),
        incarnation=Incarnation(container=found["Id"], started_at=state["StartedAt"]),
        address=LOOPBACK if on_the_host else slot.get("IPAddress") or "",
        exit_code=state["ExitCode"],
        oom_killed=state["OOMKilled"],
        restarts=found.get("RestartCount", 0),
        health=(state.get("Health") or {}).get("Status", ""),
    )


def slot_network_name(project: str) -> str:
    return f"proxyctl-{project}-slots"


def _life(status: str) -> Life:
    match status:
        case "running" | "paused" | "restarting":
            return Life(status)
        case _:  # created, exited, dead, removing
            return Life.EXITED
