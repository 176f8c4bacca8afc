"""What passes the gate: so many passes in a row, of the containers that run now."""

from __future__ import annotations

import itertools

import pytest

from proxyctl.domain import orders, plan
from proxyctl.domain.model import Colour, HealthCheck, Service
from proxyctl.domain.state import Kind
from proxyctl.ports import Endpoint, ProbeResult
from tests.arena import SIGNED, Arena

HEALTHY = 3


class Strict(Arena):
    def service(self, image: str) -> Service:
        service = super().service(image)
        return service.replace(bake=0.0, health=service.health.replace(healthy=HEALTHY))


def flaps(arena: Arena, monkeypatch: pytest.MonkeyPatch, period: int) -> None:
    """From now on every replica fails that many probes, passes as many, and so on."""
    asked: dict[str, itertools.count[int]] = {}

    async def probe(endpoint: Endpoint, check: HealthCheck) -> ProbeResult:
        turn = next(asked.setdefault(endpoint.replica, itertools.count())) // period
        passed = bool(endpoint.socket) or turn % 2 == 1
        return ProbeResult(passed=passed, reason="200" if passed else "503 instead of 200-299", elapsed=0.0)

    monkeypatch.setattr(arena.prober, "probe", probe)


@pytest.mark.parametrize("period", [1, 2, 3, 4, 5])
async def test_a_release_that_flaps_passes_only_when_it_holds_still_long_enough(
    period: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    arena = Strict()
    await arena.deploy("app:1")
    flaps(arena, monkeypatch, period)
    state = await arena.deploy("app:2")
    assert state.live is not None
    assert (state.live.colour is Colour.GREEN) == (period >= HEALTHY)
    assert not arena.broken_promises()


async def test_a_warm_release_that_restarted_meets_the_whole_gate_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass would be enough for a release that still runs as it passed."""
    arena = Strict()
    await arena.deploy("app:1")
    await arena.deploy("app:2")
    flaps(arena, monkeypatch, HEALTHY - 1)
    arena.world.restart("shop-web-1-1")
    state = await arena.rollback()
    assert state.live is not None
    assert state.live.release.image == "app:2"
    assert not arena.broken_promises()


async def test_a_warm_release_keeps_its_gate_when_the_order_to_go_to_it_dies() -> None:
    """Nobody asked it anything: it is as good a way back as before."""
    arena = Arena()
    await arena.deploy("app:1")
    await arena.deploy("app:2")
    runner = arena.runner()
    runner.note(orders.open_warm(arena.state, Kind.ROLLBACK, plan.at_once(), orders.warm(arena.state), SIGNED))
    runner.commit()  # and here it dies
    state = await arena.resume()
    assert state.live is not None and state.live.release.image == "app:2"
    assert state.standby is not None and state.standby.gated_as_it_runs
    again = await arena.rollback()
    assert again.live is not None and again.live.release.image == "app:1"
    assert not arena.broken_promises()
