"""Rolling: old replicas leave as new ones come, for a release that may not stand whole beside the live one. Pure.

The policy in the words of Compose's update_config, and the plan that it makes. Start at between(). What follows from
the replicas that stand is said in standing.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from math import ceil

from proxyctl.domain.record import Record
from proxyctl.domain.steps import Grow, Lookout, Shrink, Step
from proxyctl.domain.units import Seconds


class Order(StrEnum):
    STOP_FIRST = "stop-first"  # never more replicas than the larger release has
    START_FIRST = "start-first"  # a batch more


class FailureAction(StrEnum):
    """What becomes of a rollout of which more failed than it may endure."""

    PAUSE = "pause"  # a person decides, if anybody serves meanwhile
    CONTINUE = "continue"  # it goes on until as many failed as there are replicas
    ROLLBACK = "rollback"


class Rolling(Record):
    parallelism: int = 1  # replicas in a batch; 0: all
    delay: Seconds = 0.0  # between two batches
    order: Order = Order.STOP_FIRST
    monitor: Seconds = 5.0  # a batch is watched so long
    max_failure_ratio: float = 0.0  # failures to replicas; more is too much
    failure_action: FailureAction = FailureAction.PAUSE

    def batch(self, replicas: int) -> int:
        return min(self.parallelism or replicas, replicas)

    def most(self, old: int, new: int) -> int:
        """How many replicas of both releases may stand at once."""
        return max(old, new) + (self.batch(new) if self.order is Order.START_FIRST else 0)

    def endures(self, failures: int, replicas: int) -> bool:
        limit = 1.0 if self.failure_action is FailureAction.CONTINUE else self.max_failure_ratio
        return failures / replicas <= limit


def between(rolling: Rolling, old: int, new: int) -> tuple[Step, ...]:
    """Batch by batch from so many old replicas to so many new ones; both in step, as far as there is room."""
    steps: list[Step] = []
    size, left = rolling.batch(new), old
    batches = ceil(new / size)
    start_first = rolling.order is Order.START_FIRST
    for number in range(1, batches + 1):
        coming = min(new, size * (number + 1 if start_first else number))
        stay = min(ceil(old * (batches - number) / batches), rolling.most(old, new) - coming)
        come: list[Step] = [Grow(to=min(new, size * number), of=new), Lookout(window=rolling.monitor)]
        leave: list[Step] = [Shrink(to=stay, of=old)] if stay < left else []
        left = stay
        steps += [*come, *leave] if start_first else [*leave, *come]
        if rolling.delay and number < batches:
            steps.append(Lookout(window=rolling.delay))
    return tuple(steps)


def leaves_nobody(plan: Iterable[Step]) -> bool:
    """Whether the last old replica leaves before a new one came."""
    for step in plan:
        match step:
            case Grow():
                return False
            case Shrink(to=0):
                return True
    return False


def told(plan: Sequence[Step], routed: bool) -> Iterator[str]:
    """What is otherwise than in other plans, and is known before it begins."""
    if not any(isinstance(step, Grow) for step in plan):
        return
    if routed and leaves_nobody(plan):
        yield "once the old release has left, nobody answers until the new release has passed its gate: clients get 503"
    if routed:
        yield "nginx is told of every batch: a generation for those that come, and one for those that leave"
    yield "no old release stays warm: rollback --to starts it again, the same way"


def without_waits(plan: Iterable[Step]) -> tuple[Step, ...]:
    """As fast as its replicas can change places."""
    return tuple(step for step in plan if not isinstance(step, Lookout))
