"""How much of the machine a container may take, as Compose writes it: at the service, and below `deploy`.

Both are one thing here: DeployFile.as_keys() says it in the keys of the service. Never reads a file.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Tag, model_validator

from proxyctl.config import engine_grammar as engine
from proxyctl.config import fields
from proxyctl.config.fields import ALONE, LISTED, MAPPED, Inside, Read, Strict, Word, forms, one_of
from proxyctl.domain.container import BlockIo, DeviceRate, DeviceRequest, DeviceWeight, Ulimit

_SIZE: dict[str, Any] = {"type": ["integer", "string"], "examples": ["512m"]}


def number(least: int, most: int) -> Read:
    """A whole number in these bounds, perhaps as the text that a variable gives."""
    return Read(engine.count(least, most), {"type": ["integer", "string"]})


Size = Annotated[int, Read(engine.size, _SIZE)]
Memory = Annotated[int, Read(engine.memory, _SIZE)]
Swap = Annotated[int, Read(engine.swap, _SIZE)]
Cpus = Annotated[float, Read(engine.cpus, {"type": ["number", "string"], "examples": [0.5]})]
Microseconds = Annotated[int, Read(engine.microseconds, {"type": ["integer", "string"], "examples": [100000, "100ms"]})]
Pids = Annotated[int, number(-1, 1 << 22)]


# --- ulimits and block devices ------------------------------------------------------------------------------------


class SoftAndHard(Strict):
    soft: Annotated[int, number(-1, 10**12)]
    hard: Annotated[int, number(-1, 10**12)]


UlimitName = Annotated[str, Read(engine.ulimit_name, {"type": "string", "examples": ["nofile"]})]
Ulimits = dict[
    UlimitName,
    Annotated[
        Annotated[SoftAndHard, Tag(MAPPED)] | Annotated[int, number(-1, 10**12), Tag(ALONE)],
        forms("a number, or a mapping with soft and hard"),
    ],
]


def ulimits(written: dict[str, SoftAndHard | int]) -> tuple[Ulimit, ...]:
    bounds = ((name, (w, w) if isinstance(w, int) else (w.soft, w.hard)) for name, w in written.items())
    return tuple(Ulimit(name=name, soft=soft, hard=hard) for name, (soft, hard) in bounds)


class Weight(Strict):
    path: Inside
    weight: Annotated[int, number(10, 1000)]


class Rate(Strict):
    path: Inside
    rate: Size


class BlockIoFile(Strict):
    weight: Annotated[int, number(10, 1000)] | None = None
    weight_device: tuple[Weight, ...] = ()
    device_read_bps: tuple[Rate, ...] = ()
    device_read_iops: tuple[Rate, ...] = ()
    device_write_bps: tuple[Rate, ...] = ()
    device_write_iops: tuple[Rate, ...] = ()

    def to_domain(self) -> BlockIo:
        return BlockIo(
            weight=self.weight,
            weight_device=tuple(DeviceWeight(path=each.path, weight=each.weight) for each in self.weight_device),
            device_read_bps=_rates(self.device_read_bps),
            device_read_iops=_rates(self.device_read_iops),
            device_write_bps=_rates(self.device_write_bps),
            device_write_iops=_rates(self.device_write_iops),
        )


def _rates(written: tuple[Rate, ...]) -> tuple[DeviceRate, ...]:
    return tuple(DeviceRate(path=each.path, rate=each.rate) for each in written)


# --- devices that are asked of a driver ---------------------------------------------------------------------------

DeviceWord = Annotated[str, Read(engine.device_word, {"type": "string"})]


class DeviceRequestFile(Strict):
    capabilities: tuple[DeviceWord, ...] = ()
    driver: DeviceWord | None = None
    count: Annotated[int, Read(engine.all_or_count, {"type": ["integer", "string"], "examples": ["all", 1]})] | None = (
        None
    )
    device_ids: tuple[DeviceWord, ...] = ()
    options: dict[DeviceWord, Word] = fields.written({})

    @model_validator(mode="after")
    def _asked_in_one_way(self) -> Self:
        if self.count is not None and self.device_ids:
            raise ValueError("count and device_ids are written; keep one of the two")
        return self

    def to_domain(self, *capabilities: str) -> DeviceRequest:
        """With these capabilities beside its own; all devices where none is named."""
        return DeviceRequest(
            driver=self.driver or "",
            count=0 if self.device_ids else engine.UNLIMITED if self.count is None else self.count,
            device_ids=self.device_ids,
            capabilities=tuple(dict.fromkeys((*capabilities, *self.capabilities))),
            options=tuple(self.options.items()),
        )


Gpus = Annotated[
    Annotated[tuple[DeviceRequestFile, ...], Tag(LISTED)] | Annotated[str, one_of("all"), Tag(ALONE)],
    forms("the word all, or a list of mappings such as {count: 1}"),
]


def gpus(written: tuple[DeviceRequestFile, ...] | str) -> tuple[DeviceRequest, ...]:
    each = (DeviceRequestFile(),) if isinstance(written, str) else written
    return tuple(request.to_domain("gpu") for request in each)


# --- deploy -------------------------------------------------------------------------------------------------------


class AtMost(Strict):
    cpus: Cpus | None = None
    memory: Memory | None = None
    pids: Pids | None = None


class AtLeast(Strict):
    memory: Memory | None = None
    devices: tuple[DeviceRequestFile, ...] = ()


class ResourcesFile(Strict):
    limits: AtMost = AtMost()
    reservations: AtLeast = AtLeast()


class RestartPolicyFile(Strict):
    condition: Annotated[str, one_of("none", "on-failure", "any")] = "any"
    max_attempts: Annotated[int, number(0, 999)] | None = None

    def short(self) -> str:
        """As `restart` has it."""
        if self.condition == "on-failure" and self.max_attempts:
            return f"on-failure:{self.max_attempts}"
        return {"none": "no", "any": "always"}.get(self.condition, self.condition)


class DeployFile(Strict):
    """What of `deploy` is of one container."""

    resources: ResourcesFile = ResourcesFile()
    restart_policy: RestartPolicyFile | None = None

    def as_keys(self) -> dict[str, Any]:
        """What it says in the keys of the service, over which it goes, as with Compose."""
        most, least = self.resources.limits, self.resources.reservations
        said = {
            "cpus": most.cpus,
            "mem_limit": most.memory,
            "pids_limit": most.pids,
            "mem_reservation": least.memory,
            "gpus": tuple(request.to_domain() for request in least.devices) or None,
            "restart": self.restart_policy.short() if self.restart_policy else None,
        }
        return {key: value for key, value in said.items() if value is not None}
