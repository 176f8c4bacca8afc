"""An order reaches the service: carried out here, or by the process that drives it. In memory."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

import pytest

from proxyctl.adapters.memory import ManualClock, MemoryInspector, MemoryLocks, MemoryRuntime, MemorySplits, MemoryWorld
from proxyctl.domain import commands as do
from proxyctl.domain import events as ev
from proxyctl.domain import orders, plan
from proxyctl.domain.container import Hook
from proxyctl.domain.deciding import decide
from proxyctl.domain.model import Colour, Seconds, ServiceName
from proxyctl.domain.outcome import Outcome
from proxyctl.domain.split import Split
from proxyctl.domain.state import Kind, Phase, ServiceState
from proxyctl.engine.bus import Bus
from proxyctl.engine.runner import Hand, Hands
from proxyctl.engine.steering import Order, Steering
from proxyctl.engine.supervisor import Supervisor
from proxyctl.engine.traffic import TrafficHands
from proxyctl.errors import Conflict, Degraded, Fenced, Locked, NginxUnavailable, RolloutFailed, StateUnusable
from proxyctl.ports import Flags, Lock
from tests.arena import SIGNED, WEB, Arena

BLUE, GREEN = Colour.BLUE, Colour.GREEN

abort = partial(orders.abort, outcome=Outcome.ABORTED, signed=SIGNED)
switch = partial(orders.change_plan, plan=plan.blue_green(1.0), signed=SIGNED)
to_a_half = partial(orders.change_plan, plan=plan.at(5000, plan.at_once()), signed=SIGNED)


def rollback(state: ServiceState) -> ev.Event:
    return orders.open_warm(state, Kind.ROLLBACK, plan.at_once(), orders.warm(state), SIGNED)


def to_a_half_again(state: ServiceState) -> ev.Event:
    return orders.open_warm(state, Kind.WEIGHT, plan.at(5000, plan.at_once()), orders.warm(state), SIGNED)


def reopen(state: ServiceState) -> ev.Event:
    assert state.live is not None
    return orders.open_warm(state, Kind.SWITCH, plan.at_once(), state.live, SIGNED)


class FairClock(ManualClock):
    """Time goes on to whoever has to wait the least, once nobody else does anything. So 200 ms are long for a task."""

    TURNS = 12  # of the loop, in which nobody else woke: more than an answer between two tasks takes

    def __init__(self, world: MemoryWorld) -> None:
        super().__init__(world)
        self._instants: list[Seconds] = []

    async def sleep(self, seconds: Seconds) -> None:
        instant = self._world.time + max(seconds, 0.001)
        self._instants.append(instant)
        try:
            idle = 0
            while idle < self.TURNS:
                before = self._world.time
                await asyncio.sleep(0)
                idle = idle + 1 if (self._world.time, min(self._instants)) == (before, instant) else 0
            self._world.time = instant
        finally:
            self._instants.remove(instant)


class Drivable(Arena):
    """Its drivers wait at a pause until they are told."""

    waits = False

    def _hooked(self, hand: Hand) -> Hand:
        return hand if self.waits else super()._hooked(hand)


class Town:
    """A project whose other processes are tasks of this one. It notes what is left to them."""

    def __init__(self) -> None:
        self.arena = Drivable()
        self.arena.clock = FairClock(self.arena.world)
        self.left_to_drivers: list[str] = []  # by whom, each holding the lock
        self.guarded: list[ServiceName] = []
        self.when_woken: Callable[[], object] = lambda: None
        self.tasks: list[asyncio.Task[ServiceState]] = []

    @property
    def steering(self) -> Steering:
        """A command of a person."""
        return Steering(
            store=self.arena.store,
            locks=self.arena.locks,
            clock=self.arena.clock,
            splits=self.arena.splits,
            inspector=MemoryInspector(self.arena.world),
            processes=self,
            hands=self.light_hands,
            put_back=MemoryRuntime(self.arena.world).put_back,
        )

    def light_hands(self, _fence: int) -> Hands:
        """Those of a command: they move traffic, and start or end no container."""
        arena = self.arena
        return TrafficHands(
            inspector=MemoryInspector(arena.world), prober=arena.prober, splits=arena.splits, clock=arena.clock
        ).hands()

    def drive(self, service: ServiceName, lock: Lock) -> None:
        holder = self.arena.locks.holder(service)
        assert holder is not None, "the lock is handed over without a gap"
        self.left_to_drivers.append(holder.purpose)

    def guard(self, service: ServiceName) -> None:
        self.guarded.append(service)

    async def wake(self, service: ServiceName) -> None:
        self.when_woken()

    def a_driver(self) -> asyncio.Task[ServiceState]:
        """Drives the service to its end, and heeds whoever wakes it."""
        arena, woken = self.arena, asyncio.Event()
        arena.waits, self.when_woken = True, woken.set
        supervisor = Supervisor(
            store=arena.store,
            locks=arena.locks,
            clock=arena.clock,
            splits=arena.splits,
            inspector=MemoryInspector(arena.world),
            hands=arena.hands,
            bus=Bus(),
            woken=woken,
        )
        driver = asyncio.create_task(supervisor.drive(WEB, arena.locks.acquire(WEB, "rollout of web")))
        self.tasks.append(driver)
        return driver

    async def opened(self, image: str) -> None:
        """As `deploy` does it: journaled, and left to a driver."""
        event = await self.arena.open(image)
        self.steering.open(WEB, lambda _: event, "deploy")

    async def end_of(self, driver: asyncio.Task[ServiceState]) -> ServiceState:
        async with asyncio.timeout(5):
            return await driver

    async def until(self, true: Callable[[ServiceState], bool]) -> ServiceState:
        for _ in range(10_000):
            if true(self.arena.state):
                return self.arena.state
            await asyncio.sleep(0)
        raise AssertionError("it never came to that")

    @property
    def traffic(self) -> Split | None:
        """As the flag files say."""
        flags = self.arena.splits.read(WEB)
        return flags.split if flags else None

    @property
    def driven_by(self) -> str:
        holder = self.arena.locks.holder(WEB)
        return holder.purpose if holder else "nobody"

    def untaken(self) -> list[ev.Event]:
        """The requests that nobody took until now."""
        rollout = self.arena.state.rollout
        return self.arena.store.take(WEB, rollout.id if rollout else "")

    def journaled(self, kind: type[ev.Event]) -> int:
        return sum(isinstance(entry.event, kind) for entry in self.arena.store.journal)

    def everything(self) -> tuple[object, ...]:
        """What an order that changes nothing leaves as it is."""
        world, store = self.arena.world, self.arena.store
        return self.arena.state, *copy.deepcopy((world.containers, world.flags, world.published, store.journal))


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    """web-1 is live in blue."""
    made = Town()
    await made.arena.deploy("app:1")
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


@pytest.fixture
async def canary(town: Town) -> Town:
    """A quarter of the traffic goes to web-2 in green, and nobody drives."""
    await town.arena.deploy("app:2", Kind.STAGE, plan.at(2500, plan.at_once()))
    return town


@pytest.fixture
async def pair(town: Town) -> Town:
    """web-2 is live in green, web-1 stands warm in blue."""
    await town.arena.deploy("app:2")
    return town


# --- nobody drives -----------------------------------------------------------------------------------------------


async def test_where_nobody_drives_a_command_moves_traffic_itself(pair: Town) -> None:
    state = await pair.steering.steer(WEB, rollback, "rollback")
    assert state == pair.arena.state
    assert (state.phase, pair.traffic) == (Phase.IDLE, Split.all_to(BLUE))
    assert pair.driven_by == "nobody"
    assert not pair.arena.broken_promises()


async def test_the_standby_that_an_order_leaves_is_guarded(pair: Town) -> None:
    state = await pair.steering.act(WEB, rollback, "rollback")
    assert isinstance(decide(state), do.Stand)
    assert (pair.guarded, pair.left_to_drivers) == ([WEB], [])


async def test_what_a_command_cannot_do_is_left_to_a_driver_that_gets_its_lock(canary: Town) -> None:
    state = await canary.steering.act(WEB, switch, "switch")
    assert (state.phase, canary.traffic) == (Phase.BAKING, Split.all_to(GREEN))
    assert (canary.left_to_drivers, canary.guarded) == (["switch"], [])
    promoted = await canary.end_of(canary.a_driver())
    assert promoted.live is not None
    assert promoted.live.release.id == "web-2"
    assert not canary.arena.broken_promises()


async def test_nothing_is_left_to_anybody_where_nothing_is_left(town: Town) -> None:
    await town.steering.recover(WEB)
    assert (town.left_to_drivers, town.guarded) == ([], [])


async def test_what_the_state_does_not_allow_changes_nothing_and_holds_nobody_up(pair: Town) -> None:
    before = pair.everything()
    for order in (abort, switch, to_a_half):
        with pytest.raises(Conflict):
            await pair.steering.steer(WEB, order, "test")
    assert pair.everything() == before
    assert pair.driven_by == "nobody"


async def test_acting_is_refused_while_somebody_drives_and_nobody_is_disturbed(canary: Town) -> None:
    before, driver = canary.everything(), canary.a_driver()
    with pytest.raises(Locked, match="web is being driven by rollout of web"):
        await canary.steering.act(WEB, abort, "abort")
    assert canary.everything() == before
    assert canary.untaken() == []
    assert not driver.done()


class Stopping(MemorySplits):
    """An nginx that is stopped as soon as traffic is to move."""

    async def move(self, service: ServiceName, flags: Flags | None) -> None:
        self._world.nginx_down = True
        await super().move(service, flags)


async def test_an_order_that_nginx_does_not_confirm_leaves_the_service_degraded_and_free(pair: Town) -> None:
    pair.arena.splits = Stopping(pair.arena.world)
    state = await pair.steering.steer(WEB, rollback, "rollback")
    assert state.phase is Phase.DEGRADED
    assert (pair.left_to_drivers, pair.driven_by) == ([], "nobody")


@pytest.mark.parametrize("order", [rollback, to_a_half_again], ids=["rollback", "weight"])
async def test_without_nginx_nothing_is_begun_and_nothing_changed(pair: Town, order: Order) -> None:
    pair.arena.world.nginx_down = True
    before = pair.everything()
    with pytest.raises(NginxUnavailable) as refusal:
        await pair.steering.steer(WEB, order, "test")
    assert refusal.value.next_step == "proxyctl proxy start"
    assert pair.everything() == before
    assert pair.driven_by == "nobody"


async def test_a_service_that_nginx_does_not_serve_needs_none() -> None:
    town = Town()
    town.arena.edge = {"port": None, "hosts": ()}
    await town.arena.deploy("app:1")
    await town.arena.deploy("app:2", Kind.STAGE, plan.hold(plan.at_once()))
    town.arena.world.nginx_down = True
    state = await town.steering.steer(WEB, switch, "switch")
    assert state.split == Split.all_to(GREEN)


# --- opening for a driver ----------------------------------------------------------------------------------------


async def test_opening_only_journals_and_leaves_the_rest_to_a_driver(town: Town) -> None:
    await town.opened("app:2")
    assert town.arena.state.phase is Phase.STARTING
    assert (town.left_to_drivers, town.driven_by) == (["deploy"], "nobody")
    assert len(town.arena.world.containers) == 2, "those of web-1"
    live = (await town.end_of(town.a_driver())).live
    assert live is not None
    assert live.release.id == "web-2"


async def test_a_refused_opening_leaves_nothing_to_anybody(town: Town) -> None:
    before = town.everything()
    with pytest.raises(Conflict, match="no warm release"):
        town.steering.open(WEB, rollback, "rollback")
    assert town.everything() == before
    assert (town.left_to_drivers, town.driven_by) == ([], "nobody")


async def test_nothing_is_opened_beside_a_driver(pair: Town) -> None:
    pair.arena.locks.acquire(WEB, "rollout of web")
    before = pair.everything()
    with pytest.raises(Locked, match="web is being driven by rollout of web"):
        pair.steering.open(WEB, rollback, "rollback")
    assert (pair.everything(), pair.left_to_drivers) == (before, [])


# --- a driver drives ---------------------------------------------------------------------------------------------


async def test_a_driver_carries_out_what_it_is_asked_and_drives_on(canary: Town) -> None:
    driver = canary.a_driver()
    state = await canary.steering.steer(WEB, to_a_half, "weight")
    assert (state.phase, canary.traffic) == (Phase.PAUSED, Split(GREEN, 5000))
    assert (driver.done(), canary.driven_by) == (False, "rollout of web")
    assert canary.untaken() == []


async def test_a_service_is_logged_as_long_as_it_is_driven(canary: Town) -> None:
    world, driver = canary.arena.world, canary.a_driver()
    await canary.steering.steer(WEB, to_a_half, "weight")
    assert world.logged == {WEB}
    await canary.steering.steer(WEB, switch, "switch")
    await canary.end_of(driver)
    assert world.logged == set()


async def test_a_driver_takes_one_request_after_the_other(canary: Town) -> None:
    driver = canary.a_driver()
    for share in (1000, 9000, 100):
        await canary.steering.steer(
            WEB, partial(orders.change_plan, plan=plan.at(share, plan.at_once()), signed=SIGNED), "weight"
        )
        assert canary.traffic == Split(GREEN, share)
    await canary.steering.steer(WEB, switch, "switch")
    assert canary.traffic == Split.all_to(GREEN)
    live = (await canary.end_of(driver)).live
    assert live is not None
    assert live.release.id == "web-2"
    assert not canary.arena.broken_promises()


async def test_a_bake_is_aborted_by_its_driver_that_then_clears_up(town: Town) -> None:
    await town.opened("app:2")
    driver = town.a_driver()
    await town.until(lambda state: state.phase is Phase.BAKING)
    await town.steering.steer(WEB, abort, "abort")
    assert town.traffic == Split.all_to(BLUE)
    ended = await town.end_of(driver)
    assert (ended.phase, ended.green) == (Phase.IDLE, None)
    assert set(town.arena.world.containers) == {"shop-web-1-1", "shop-web-1-2"}
    assert not town.arena.broken_promises()


async def test_a_gate_is_not_waited_for_by_an_abort(town: Town) -> None:
    town.arena.world.sick.add("app:2")
    await town.opened("app:2")
    driver, began = town.a_driver(), town.arena.world.time
    await town.until(lambda state: state.phase is Phase.GATING)
    await town.steering.steer(WEB, abort, "abort")
    assert town.arena.world.time - began < 1, "the gate's deadline is 5 s"
    await town.end_of(driver)
    assert (town.journaled(ev.AbortRequested), town.journaled(ev.GateFailed)) == (1, 0)


async def test_what_was_asked_of_a_rollout_that_has_ended_is_asked_of_no_other(pair: Town) -> None:
    """Ctrl-C a moment after the end: nobody is left to take it, until the next rollout begins."""
    asked = pair.arena.store.ask(
        WEB, "web-r2", ev.AbortRequested(actor="ann", reason="Ctrl-C", outcome=Outcome.ABORTED)
    )
    await pair.opened("app:3")
    live = (await pair.end_of(pair.a_driver())).live
    assert live is not None
    assert live.release.id == "web-3"
    assert (pair.journaled(ev.AbortRequested), pair.arena.store.taken(asked)) == (0, True)


async def test_without_nginx_a_driver_is_asked_to_take_back_and_for_nothing_else(canary: Town) -> None:
    driver = canary.a_driver()
    canary.arena.world.nginx_down = True
    before = canary.everything()
    with pytest.raises(NginxUnavailable):
        await canary.steering.steer(WEB, to_a_half, "weight")
    assert (canary.everything(), canary.untaken(), driver.done()) == (before, [], False)
    canary.tasks.append(asyncio.create_task(canary.steering.steer(WEB, abort, "abort")))
    assert (await canary.end_of(driver)).phase is Phase.DEGRADED


class Slow(MemoryRuntime):
    """Its containers end when they may."""

    def __init__(self, world: MemoryWorld) -> None:
        super().__init__(world)
        self.may_end = asyncio.Event()

    async def stop(self, name: str, grace: Seconds, pre_stop: Sequence[Hook] = ()) -> str:
        await self.may_end.wait()
        return await super().stop(name, grace, pre_stop)


async def test_whoever_drains_what_is_taken_back_is_not_disturbed_by_a_second_abort(canary: Town) -> None:
    slow = canary.arena.runtime = Slow(canary.arena.world)
    driver = canary.a_driver()
    await canary.steering.steer(WEB, abort, "abort")
    await canary.until(lambda state: isinstance(state.intent, do.Retire))
    before = canary.everything()
    began = canary.arena.world.time
    assert (await canary.steering.steer(WEB, abort, "abort")).phase is Phase.ABORTING
    assert (canary.everything(), driver.done()) == (before, False)
    assert canary.arena.world.time == began
    slow.may_end.set()
    assert (await canary.end_of(driver)).phase is Phase.IDLE
    assert canary.journaled(ev.AbortRequested) == 1


async def test_what_nobody_takes_back_any_more_is_taken_back_by_a_second_abort(canary: Town) -> None:
    for _ in range(2):  # whoever was left to drive it died
        assert (await canary.steering.steer(WEB, abort, "abort")).phase is Phase.ABORTING
    assert canary.left_to_drivers == ["abort", "abort"]
    assert canary.journaled(ev.AbortRequested) == 1


async def test_a_degraded_service_takes_no_order_but_the_way_back(pair: Town) -> None:
    pair.arena.splits = Stopping(pair.arena.world)
    await pair.steering.steer(WEB, rollback, "rollback")
    pair.arena.splits, pair.arena.world.nginx_down = MemorySplits(pair.arena.world), False
    with pytest.raises(Degraded) as refusal:
        await pair.steering.steer(WEB, switch, "switch")
    assert refusal.value.next_step == "proxyctl proxy start, then proxyctl recover"
    assert (await pair.steering.steer(WEB, abort, "abort")).phase is Phase.IDLE
    assert pair.traffic == Split.all_to(GREEN)


async def test_a_refused_order_disturbs_no_driver(town: Town) -> None:
    await town.opened("app:2")
    driver = town.a_driver()
    await town.until(lambda state: state.phase is Phase.BAKING)
    before = town.everything()
    for order, words in ((reopen, "is baking"), (rollback, "no warm release")):
        with pytest.raises(Conflict, match=words):
            await town.steering.steer(WEB, order, "test")
    assert town.everything() == before
    assert town.untaken() == []
    live = (await town.end_of(driver)).live
    assert live is not None
    assert live.release.id == "web-2", "the rollout went on to its end"


async def test_a_new_rollout_waits_for_a_driver_that_is_about_to_end(pair: Town) -> None:
    held = pair.arena.locks.acquire(WEB, "rollout of web")

    async def ends_soon() -> ServiceState:
        await pair.arena.clock.sleep(1.0)
        held.release()
        return pair.arena.state

    pair.tasks.append(asyncio.create_task(ends_soon()))
    await pair.steering.steer(WEB, rollback, "rollback")
    assert pair.traffic == Split.all_to(BLUE)


async def test_a_new_rollout_ends_no_driver_and_does_not_wait_for_ever(pair: Town) -> None:
    pair.arena.locks.acquire(WEB, "rollout of web")
    before, began = pair.everything(), pair.arena.world.time
    with pytest.raises(Locked, match="the driver of web has not carried this out yet") as refusal:
        await pair.steering.steer(WEB, rollback, "rollback")
    assert refusal.value.serving == "web: web-2 (green) 100 %"
    assert refusal.value.next_step == "proxyctl status web --watch"
    assert pair.arena.world.time - began < 4
    assert (pair.everything(), pair.driven_by) == (before, "rollout of web")


# --- a rollout ends before it hears of an order -------------------------------------------------------------------


def ends_by(town: Town, fact: ev.Event, next_image: str = "") -> None:
    """Its driver has just seen this when it is asked, and goes on to the end; then comes another deploy at once."""
    held = town.arena.locks.acquire(WEB, "rollout of web")

    async def to_the_end() -> ServiceState:
        driver = town.arena.runner()
        driver.note(fact)
        ended = await driver.run()
        opened = await town.arena.open(next_image) if next_image else None
        held.release()
        if opened is not None:
            town.steering.open(WEB, lambda _: opened, "deploy")
            town.a_driver()
        return ended

    town.when_woken = lambda: town.tasks.append(asyncio.create_task(to_the_end()))


@pytest.fixture
async def baked(town: Town) -> Town:
    """web-2 has all traffic, and its bake passes as the driver is asked for something."""
    await killed(town, before=do.Watch)
    ends_by(town, ev.BakePassed())
    return town


async def test_an_abort_that_a_promotion_overtook_is_not_called_done(baked: Town) -> None:
    with pytest.raises(Conflict, match="web has no rollout to abort: it is idle") as refusal:
        await baked.steering.steer(WEB, abort, "abort")
    assert refusal.value.serving == "web: web-2 (green) 100 %"
    assert refusal.value.next_step == "proxyctl rollback web"
    assert (baked.traffic, baked.untaken()) == (Split.all_to(GREEN), [])


async def test_a_rollback_that_a_promotion_overtook_goes_back_to_the_standby(baked: Town) -> None:
    def back(state: ServiceState) -> ev.Event:
        return rollback(state) if state.rollout is None else orders.abort(state, Outcome.ROLLED_BACK, SIGNED)

    state = await baked.steering.steer(WEB, back, "rollback")
    assert state.live is not None
    assert (state.live.release.id, baked.traffic) == ("web-1", Split.all_to(BLUE))
    assert not baked.arena.broken_promises()


async def test_a_switch_that_the_promotion_overtook_is_where_it_wanted_to_be(baked: Town) -> None:
    """And is not taken for one to the standby that this left."""
    state = await baked.steering.steer(WEB, switch, "switch")
    assert state.live is not None
    assert (state.live.release.id, baked.traffic) == ("web-2", Split.all_to(GREEN))


@pytest.mark.parametrize("order", [to_a_half, partial(orders.pause, signed=SIGNED)], ids=["weight", "pause"])
async def test_what_shall_wait_is_told_of_the_promotion_that_did_not(baked: Town, order: Order) -> None:
    with pytest.raises(Conflict, match="too late: the rollout of web is over, promoted") as refusal:
        await baked.steering.steer(WEB, order, "test")
    assert refusal.value.serving == "web: web-2 (green) 100 %"
    assert refusal.value.next_step == "proxyctl rollback web, if it shall not stay"


GOES_ON = [switch, to_a_half, partial(orders.promote, signed=SIGNED), partial(orders.resume, signed=SIGNED)]


@pytest.mark.parametrize("order", GOES_ON, ids=["switch", "weight", "promote", "resume"])
async def test_who_would_go_on_with_a_candidate_that_just_failed_is_told_so(canary: Town, order: Order) -> None:
    ends_by(canary, ev.CandidateFailed(reason="shop-web-2-1 exited with code 137"))
    with pytest.raises(RolloutFailed, match=r"too late: .* is over, rolled-back: shop-web-2-1 exited") as failed:
        await canary.steering.steer(WEB, order, "test")
    assert failed.value.serving == "web: web-1 (blue) 100 %"
    assert failed.value.next_step == "proxyctl history web"
    assert canary.traffic == Split.all_to(BLUE)


async def test_an_abort_of_a_candidate_that_just_failed_is_done(canary: Town) -> None:
    ends_by(canary, ev.CandidateFailed(reason="shop-web-2-1 exited with code 137"))
    state = await canary.steering.steer(WEB, abort, "abort")
    assert (canary.traffic, state.green) == (Split.all_to(BLUE), None)


async def test_an_order_to_one_rollout_is_none_to_the_next(town: Town) -> None:
    await killed(town, before=do.Watch)
    town.arena.edge = {"bake": 30.0}
    ends_by(town, ev.BakePassed(), next_image="app:3")
    with pytest.raises(Conflict, match=r"rollout web-r3 of web-3 is \w+, started by tester"):
        await town.steering.steer(WEB, abort, "abort")
    assert town.journaled(ev.AbortRequested) == 0
    live = (await town.end_of(town.tasks[-1])).live
    assert live is not None
    assert live.release.id == "web-3"


async def test_an_abort_that_nginx_does_not_confirm_to_a_driver_leaves_the_service_degraded(town: Town) -> None:
    await town.opened("app:2")
    town.a_driver()
    await town.until(lambda state: state.phase is Phase.BAKING)
    town.arena.world.nginx_down = True
    assert (await town.steering.steer(WEB, abort, "abort")).phase is Phase.DEGRADED


# --- a driver does not answer ------------------------------------------------------------------------------------


async def test_a_stuck_driver_is_ended_and_its_order_carried_out_here(canary: Town) -> None:
    canary.arena.locks.acquire(WEB, "stuck")
    await canary.steering.steer(WEB, abort, "abort")
    assert canary.traffic == Split.all_to(BLUE)
    assert (canary.left_to_drivers, canary.driven_by) == (["abort"], "nobody")


async def test_a_stuck_driver_delays_nobody_for_more_than_a_blink(canary: Town) -> None:
    canary.arena.locks.acquire(WEB, "stuck")
    began = canary.arena.world.time
    await canary.steering.steer(WEB, abort, "abort")
    assert 0.2 <= canary.arena.world.time - began < 0.25


async def test_what_a_stuck_driver_was_asked_is_done_once(canary: Town) -> None:
    canary.arena.locks.acquire(WEB, "stuck")
    await canary.steering.steer(WEB, to_a_half, "weight")
    assert canary.untaken() == []
    assert canary.journaled(ev.PlanChanged) == 1
    assert canary.traffic == Split(GREEN, 5000)


async def test_an_ended_driver_that_lives_on_writes_nothing_more(canary: Town) -> None:
    stuck = canary.arena.runner()
    canary.arena.locks.acquire(WEB, "stuck")
    await canary.steering.steer(WEB, abort, "abort")
    before = canary.everything()
    stuck.note(ev.CandidateFailed(reason="seen too late"))
    with pytest.raises(Fenced):
        stuck.commit()
    assert canary.everything() == before


async def test_a_driver_that_dies_while_it_is_asked_is_stood_in_for(canary: Town) -> None:
    canary.when_woken = canary.arena.locks.acquire(WEB, "dying").release
    began = canary.arena.world.time
    await canary.steering.steer(WEB, abort, "abort")
    assert canary.traffic == Split.all_to(BLUE)
    assert (canary.journaled(ev.AbortRequested), canary.untaken()) == (1, [])
    assert canary.arena.world.time - began < 0.1


async def test_a_driver_that_dies_with_the_request_in_its_hands_is_stood_in_for(canary: Town) -> None:
    held = canary.arena.locks.acquire(WEB, "dying")

    def dies_after_taking() -> None:
        canary.untaken()
        held.release()

    canary.when_woken = dies_after_taking
    await canary.steering.steer(WEB, abort, "abort")
    assert canary.traffic == Split.all_to(BLUE)
    assert canary.journaled(ev.AbortRequested) == 1


async def test_a_driver_that_took_the_request_has_its_time_and_keeps_the_service(canary: Town) -> None:
    canary.arena.locks.acquire(WEB, "slow")
    canary.when_woken = canary.untaken
    before, began = canary.everything(), canary.arena.world.time
    with pytest.raises(Locked, match="has not carried this out yet") as refusal:
        await canary.steering.steer(WEB, abort, "abort")
    assert refusal.value.serving == "web: web-1 (blue) 75 %, web-2 (green) 25 %"
    assert refusal.value.next_step == "proxyctl status web --watch"
    assert 15 <= canary.arena.world.time - began < 20
    assert (canary.everything(), canary.driven_by) == (before, "slow")


class Immortal(MemoryLocks):
    """Whoever holds one of these cannot be ended: it waits for a disk."""

    def end_holder(self, service: ServiceName) -> None: ...


async def test_a_driver_that_cannot_be_ended_is_named_and_nothing_moves(canary: Town) -> None:
    canary.arena.locks = Immortal()
    canary.arena.locks.acquire(WEB, "waits for a disk")
    before = canary.everything()
    with pytest.raises(Locked, match="the driver of web neither answers nor can be ended") as refusal:
        await canary.steering.steer(WEB, abort, "abort")
    assert refusal.value.next_step == "end process 1 and repeat the command"
    assert refusal.value.serving == "web: web-1 (blue) 75 %, web-2 (green) 25 %"
    assert canary.everything() == before


# --- after a crash -----------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process is gone; nothing after this line runs."""


async def killed(town: Town, *, before: type[do.Command] | None = None, after: type[do.Command] | None = None) -> None:
    """A deploy of app:2 dies there."""
    arena = town.arena

    def dies(at: type[do.Command] | None, command: do.Command) -> None:
        if at is not None and isinstance(command, at):
            raise Killed

    arena.before_effect, arena.after_effect = partial(dies, before), partial(dies, after)
    with pytest.raises(Killed):
        await arena.deploy("app:2")
    arena.before_effect = arena.after_effect = lambda command: None


UNDONE = [do.Start, do.Gate, do.Move]
FINISHED = [do.Watch, do.AdoptPolicy, do.Promote]


@pytest.mark.parametrize("at", UNDONE)
async def test_a_deploy_that_died_before_traffic_moved_is_undone(town: Town, at: type[do.Command]) -> None:
    await killed(town, before=at)
    await town.steering.recover(WEB)
    assert town.left_to_drivers == ["recover"]
    state = await town.end_of(town.a_driver())
    assert (state.phase, state.green, town.traffic) == (Phase.IDLE, None, Split.all_to(BLUE))
    assert not town.arena.broken_promises()


@pytest.mark.parametrize("at", FINISHED)
async def test_a_deploy_that_died_after_traffic_moved_is_finished(town: Town, at: type[do.Command]) -> None:
    await killed(town, before=at)
    await town.steering.recover(WEB)
    state = await town.end_of(town.a_driver()) if town.left_to_drivers else town.arena.state
    assert (state.phase, town.traffic) == (Phase.IDLE, Split.all_to(GREEN))
    assert not town.arena.broken_promises()


@pytest.mark.parametrize("at", UNDONE + FINISHED)
@pytest.mark.parametrize("crash", ["before", "after"])
async def test_recovering_twice_changes_nothing(town: Town, at: type[do.Command], crash: str) -> None:
    await killed(town, **{crash: at})
    await town.steering.recover(WEB)
    once = town.everything()
    await town.steering.recover(WEB)
    assert town.everything() == once


async def test_a_shift_that_moved_and_was_not_journaled_is_believed_by_its_flags(town: Town) -> None:
    await killed(town, after=do.Move)
    town.arena.world.flags[WEB] = Flags(split=Split.all_to(GREEN), cover=True)
    assert town.arena.state.split == Split.all_to(BLUE), "as far as the journal knows"
    await town.steering.recover(WEB)
    state = await town.end_of(town.a_driver())
    assert (state.phase, town.traffic) == (Phase.IDLE, Split.all_to(GREEN))
    assert town.journaled(ev.Interrupted) == 0


async def test_what_a_crash_left_is_mended_although_the_order_is_refused(town: Town) -> None:
    await killed(town, before=do.Gate)
    with pytest.raises(Conflict, match="web-r2 of web-2"):
        await town.steering.steer(WEB, to_a_half, "weight")
    assert town.arena.state.phase is Phase.ABORTING
    assert (town.left_to_drivers, town.driven_by) == (["weight"], "nobody")
    state = await town.end_of(town.a_driver())
    assert (state.phase, state.green) == (Phase.IDLE, None)


async def test_an_order_that_a_crash_does_not_hinder_is_carried_out(town: Town) -> None:
    await killed(town, before=do.Watch)
    assert town.traffic == Split.all_to(GREEN)
    await town.steering.steer(WEB, abort, "abort")
    assert town.traffic == Split.all_to(BLUE)
    assert town.journaled(ev.Interrupted) == 0


async def test_a_degraded_service_recovers_once_nginx_answers(pair: Town) -> None:
    pair.arena.splits = Stopping(pair.arena.world)
    await pair.steering.steer(WEB, rollback, "rollback")
    pair.arena.splits = MemorySplits(pair.arena.world)
    assert (await pair.steering.recover(WEB)).phase is Phase.DEGRADED
    pair.arena.world.nginx_down = False
    state = await pair.steering.recover(WEB)
    assert (state.phase, pair.traffic) == (Phase.IDLE, Split.all_to(GREEN))
    assert not pair.arena.broken_promises()


async def test_a_warm_release_is_not_to_blame_for_an_nginx_that_stops_and_stays_the_standby(pair: Town) -> None:
    before = pair.arena.state
    pair.arena.splits = Stopping(pair.arena.world)
    await pair.steering.steer(WEB, rollback, "rollback")
    pair.arena.splits, pair.arena.world.nginx_down = MemorySplits(pair.arena.world), False
    state = await pair.steering.recover(WEB)
    assert (state.live, state.standby, state.cover) == (before.live, before.standby, before.cover)
    assert isinstance(task := decide(state), do.Stand)
    assert task.window > 0
    assert (await pair.steering.steer(WEB, rollback, "rollback")).split == Split.all_to(BLUE)
    assert not pair.arena.broken_promises()


async def test_what_is_driven_is_not_recovered_beside_its_driver(canary: Town) -> None:
    canary.a_driver()
    before = canary.everything()
    with pytest.raises(Locked):
        await canary.steering.recover(WEB)
    assert canary.everything() == before


# --- flags moved by somebody's hand ------------------------------------------------------------------------------


@pytest.mark.parametrize("scribble", [Flags(split=Split(GREEN, 5000), cover=True), None], ids=["moved", "removed"])
async def test_flags_moved_by_hand_go_back_to_what_was_journaled(pair: Town, scribble: Flags | None) -> None:
    said = pair.arena.world.flags[WEB]
    await pair.arena.splits.move(WEB, scribble)
    assert pair.traffic != said.split
    await pair.steering.recover(WEB)
    assert pair.arena.world.flags[WEB] == said


class Scribbled(MemorySplits):
    """Somebody's hand wrote what cannot be read."""

    scribbled = True

    def read(self, service: ServiceName) -> Flags | None:
        if self.scribbled:
            raise StateUnusable("this names no split")
        return super().read(service)

    async def move(self, service: ServiceName, flags: Flags | None) -> None:
        self.scribbled = False
        await super().move(service, flags)


async def test_flags_that_cannot_be_read_are_written_anew(pair: Town) -> None:
    pair.arena.splits = Scribbled(pair.arena.world)
    await pair.steering.recover(WEB)
    assert pair.traffic == Split.all_to(GREEN)


async def test_flags_go_back_while_nginx_is_down_for_it_reads_them_when_it_starts(pair: Town) -> None:
    said = pair.arena.world.flags[WEB]
    await pair.arena.splits.move(WEB, None)
    pair.arena.world.nginx_down = True
    state = await pair.steering.recover(WEB)
    assert state.phase is Phase.IDLE
    assert pair.arena.world.flags[WEB] == said
