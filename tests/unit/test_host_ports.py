"""On the host's network an answer may be somebody else's: no stranger is ever taken for a release."""

from __future__ import annotations

import pytest

from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain.container import HOST_NETWORK
from proxyctl.domain.model import Colour, HealthCheck, HealthKind
from proxyctl.domain.rolling import FailureAction, Rolling
from proxyctl.domain.state import Phase, ServiceState
from proxyctl.errors import AddressTaken
from proxyctl.ports import Endpoint, ProbeResult
from tests.arena import WEB, Arena

PORT = 8000
STRANGER = "pid 77 (python3)"
RECREATE = Rolling(parallelism=0, monitor=1.0, failure_action=FailureAction.ROLLBACK)


async def on_the_host() -> Arena:
    """Release 1 is live."""
    arena = Arena()
    arena.networks, arena.edge = (HOST_NETWORK,), {"replicas": 1, "rolling": RECREATE}
    await arena.deploy("app:1")
    return arena


def image_of(state: ServiceState) -> str:
    assert state.live is not None
    return state.live.release.image


def reasons(arena: Arena, kind: type[ev.GateFailed] | type[ev.CandidateFailed]) -> list[str]:
    return [entry.event.reason for entry in arena.store.journal if isinstance(entry.event, kind)]


def comes_with_probe(arena: Arena, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The stranger listens, and answers for the release, from this probe of a replica on."""
    probe, asked = arena.prober.probe, 0

    async def counting(endpoint: Endpoint, check: HealthCheck) -> ProbeResult:
        nonlocal asked
        asked += bool(endpoint.replica.startswith("shop-"))
        if asked == number:
            arena.world.strangers[PORT] = STRANGER
        return await probe(endpoint, check)

    monkeypatch.setattr(arena.prober, "probe", counting)


async def test_both_colours_have_the_loopback_address_and_one_of_them_stands() -> None:
    arena = await on_the_host()
    state = await arena.deploy("app:2")
    assert image_of(state) == "app:2" and state.live is not None and state.standby is None
    assert [replica.address for replica in state.live.replicas] == ["127.0.0.1:8000"]
    assert state.route is not None
    assert {state.route.slots(colour) for colour in Colour} == {("127.0.0.1:8000",)}
    assert not arena.broken_promises()


async def test_a_taken_port_is_told_while_the_old_release_still_stands() -> None:
    arena = await on_the_host()
    arena.world.strangers[PORT] = STRANGER
    with pytest.raises(AddressTaken, match=r"127\.0\.0\.1:8000 is taken by pid 77 \(python3\)"):
        await arena.deploy("app:2")
    assert arena.state.phase is Phase.IDLE and arena.world.containers["shop-web-1-1"].life == "running"


@pytest.mark.parametrize("number", [1, 2])
async def test_who_answers_in_the_place_of_a_candidate_fails_its_gate(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    arena = Arena()
    arena.networks, arena.edge = (HOST_NETWORK,), {"replicas": 1, "rolling": RECREATE}
    comes_with_probe(arena, monkeypatch, number)
    state = await arena.deploy("app:1")
    assert state.live is None
    assert not any(flags for _, flags in arena.world.moves), "it never had traffic"
    assert reasons(arena, ev.GateFailed) == [f"127.0.0.1:8000 is taken by {STRANGER}"]


async def test_no_check_wanted_is_no_word_for_a_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    arena = Arena()
    unasked = HealthCheck(kind=HealthKind.NONE)
    arena.networks = (HOST_NETWORK,)
    arena.edge = {"replicas": 1, "rolling": RECREATE, "health": unasked, "readiness_delay": 1.0}
    sleep = arena.clock.sleep

    async def meanwhile(seconds: float) -> None:
        if "shop-web-1-1" in arena.world.containers:
            arena.world.strangers[PORT] = STRANGER
        await sleep(seconds)

    monkeypatch.setattr(arena.clock, "sleep", meanwhile)
    state = await arena.deploy("app:1")
    assert state.live is None
    assert not any(flags for _, flags in arena.world.moves), "it never had traffic"


async def test_who_comes_while_a_release_is_watched_has_it_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    arena = await on_the_host()
    comes_with_probe(arena, monkeypatch, 4)  # two of the gate, two of the watch

    def leaves(command: do.Command) -> None:
        if isinstance(command, do.Grow):
            arena.world.strangers.clear()

    arena.before_effect = leaves
    state = await arena.deploy("app:2")
    assert image_of(state) == "app:1"
    assert reasons(arena, ev.CandidateFailed) == [f"127.0.0.1:8000 is taken by {STRANGER}"]
    assert not arena.broken_promises()


async def test_a_port_that_is_lost_in_the_gap_is_waited_for_and_then_the_old_release_is_back() -> None:
    arena = await on_the_host()

    def comes(command: do.Command) -> None:
        if isinstance(command, do.Grow):
            arena.world.strangers[PORT] = STRANGER

    arena.before_effect = comes
    with pytest.raises(AddressTaken):
        await arena.deploy("app:2")
    assert (arena.state.phase, arena.state.split) == (Phase.ABORTING, None)
    assert arena.world.flags.get(WEB) is None, "nobody is sent to the stranger"
    arena.before_effect = lambda command: None
    arena.world.strangers.clear()
    assert image_of(await arena.resume()) == "app:1"
    assert not arena.broken_promises()
