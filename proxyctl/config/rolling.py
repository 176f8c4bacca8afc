"""What `strategy:` says of replicas that change places: the words of Compose's update_config, and update_config itself.
Start at RollingFile."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from proxyctl.config import engine_grammar
from proxyctl.config.fields import Read, Strict, counted, lasting, one_of, written
from proxyctl.config.grammar import compose_duration
from proxyctl.domain.rolling import FailureAction, Order, Rolling
from proxyctl.domain.units import lasting as in_words

MOST_REPLICAS = 64
SHORTEST = 5.0  # that a batch is watched where nothing is said

_Monitor = Annotated[float, lasting("1s", "24h")]


def ratio(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError("write a part of all replicas from 0 to 1, such as 0.3")
    return float(value)


_Ratio = Annotated[float, Read(ratio, {"type": "number", "minimum": 0, "maximum": 1})]


class RollingFile(Strict):
    """Old replicas leave as new ones come."""

    place: ClassVar[str] = ""  # where else than beside strategy it is written

    parallelism: Annotated[int, counted(0, MOST_REPLICAS)] = written(1, "Replicas in a batch; 0: all at once.")
    delay: Annotated[float, lasting("0s", "24h")] = written("0s", "Between two batches.")
    order: Annotated[str, one_of("stop-first", "start-first")] = written(
        "stop-first", "start-first: a batch of both releases stands for a while."
    )
    monitor: _Monitor | None = written(None, "A batch is watched so long; else as long as its check takes to fail.")
    max_failure_ratio: _Ratio = written(0, "Failures to replicas; more is too much.")
    failure_action: Annotated[str, one_of("pause", "continue", "rollback")] = written(
        "pause", "When too many failed; continue: only when as many failed as there are replicas."
    )

    def policy(self, fails_within: float) -> Rolling:
        return Rolling(
            parallelism=self.parallelism,
            delay=self.delay,
            order=Order(self.order),
            monitor=_watched_for(self.monitor, fails_within),
            max_failure_ratio=self.max_failure_ratio,
            failure_action=FailureAction(self.failure_action),
        )


def compose_monitor(value: Any) -> float:
    seconds = compose_duration(value)
    if seconds < 1:
        raise ValueError("write a duration of at least 1s")
    return seconds


def compose_ratio(value: Any) -> float:
    try:
        return ratio(float(value) if isinstance(value, str) else value)
    except ValueError as error:
        raise ValueError("write a part of all replicas from 0 to 1, such as 0.3") from error


class UpdateConfigFile(RollingFile):
    """The same as Compose has it: durations of several units, and numbers that came out of variables as text."""

    place: ClassVar[str] = " in update_config of the Compose file"

    parallelism: Annotated[int, Read(engine_grammar.count(0, MOST_REPLICAS), {})] = written(1)
    delay: Annotated[float, Read(compose_duration, {})] = written("0s")
    monitor: Annotated[float, Read(compose_monitor, {})] | None = written(None)
    max_failure_ratio: Annotated[float, Read(compose_ratio, {})] = written(0)


class RecreateFile(Strict):
    """The old release leaves whole, then the new one comes."""

    place: ClassVar[str] = ""

    monitor: _Monitor | None = written(None, "It is watched so long; else as long as its check takes to fail.")

    def policy(self, fails_within: float) -> Rolling:
        return Rolling(
            parallelism=0,
            monitor=_watched_for(self.monitor, fails_within),
            failure_action=FailureAction.ROLLBACK,
        )


def _watched_for(monitor: float | None, fails_within: float) -> float:
    return max(SHORTEST, fails_within) if monitor is None else monitor


def too_short(file: RollingFile | RecreateFile, unhealthy: int, interval: float, timeout: float) -> str:
    """Why nobody could fail while it is watched; empty when somebody could."""
    needed = unhealthy * (interval + timeout)
    if file.monitor is None or file.monitor >= needed:
        return ""
    sum_ = f"{unhealthy} times {in_words(interval)} of interval and {in_words(timeout)} of timeout"
    return f"over before the health check can fail, which takes {sum_}: write {in_words(needed)} or more{file.place}"
