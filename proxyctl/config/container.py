"""A container definition as a file has it: Compose's forms of the keys that we carry, and no other key.

`proxyctl.yml` and the Compose file are read by the same model; limits.py and mounts.py have the larger keys.
definition.py brings it into one form. Never reads a file. Start at ContainerFile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Self

from pydantic import Field, Tag, model_validator

from proxyctl.config import engine_grammar as engine
from proxyctl.config import fields, grammar
from proxyctl.config.fields import ALONE, LISTED, MAPPED, MOST_PAIRS, Read, Strict, alone, forms
from proxyctl.config.limits import (
    BlockIoFile,
    Cpus,
    DeployFile,
    Gpus,
    Memory,
    Microseconds,
    Pids,
    Size,
    Swap,
    Ulimits,
    number,
)
from proxyctl.config.mounts import Grants, Tmpfses, Truth, Volume
from proxyctl.domain.container import HOST_NETWORK, Device, DockerHealth, Logging, Pull

_TEXT: dict[str, Any] = {"type": "string"}


def _text(grammar: Callable[[Any], str], *examples: str) -> Read:
    return Read(grammar, _TEXT | ({"examples": list(examples)} if examples else {}))


# --- lists and pairs ----------------------------------------------------------------------------------------------

Address = Annotated[str, _text(engine.address, "10.0.0.53")]
Addresses = Annotated[
    Annotated[tuple[Address, ...], Tag(LISTED)] | Annotated[tuple[str, ...], alone(engine.address, _TEXT), Tag(ALONE)],
    forms("an address, or a list of them"),
]
Domain = Annotated[str, _text(engine.search_domain, "example.com")]
Domains = Annotated[
    Annotated[tuple[Domain, ...], Tag(LISTED)]
    | Annotated[tuple[str, ...], alone(engine.search_domain, _TEXT), Tag(ALONE)],
    forms("a domain, or a list of them"),
]
Resolving = Annotated[str, _text(engine.dns_option, "ndots:2")]
Capability = Annotated[str, _text(engine.capability, "NET_ADMIN")]
Security = Annotated[str, _text(engine.security_option, "no-new-privileges", "apparmor=unconfined")]
Group = Annotated[str, Read(engine.group, {"type": ["string", "integer"]})]
DeviceRule = Annotated[str, _text(engine.device_cgroup_rule, "c 1:3 mr")]
OptionName = Annotated[str, _text(engine.option_name)]
SysctlName = Annotated[str, _text(engine.sysctl_name, "net.core.somaxconn")]
Sysctls = Annotated[
    Annotated[dict[SysctlName, fields.Word], Field(max_length=MOST_PAIRS), Tag(MAPPED)]
    | Annotated[
        tuple[Annotated[tuple[str, str], Read(engine.sysctl_entry, _TEXT)], ...],
        Field(max_length=MOST_PAIRS),
        Tag(LISTED),
    ],
    forms("a mapping such as net.core.somaxconn: 1024, or a list such as [net.core.somaxconn=1024]"),
]
HostAddresses = Annotated[
    Annotated[tuple[Annotated[str, _text(engine.host_address)], ...], Tag(LISTED)]
    | Annotated[tuple[str, ...], alone(engine.host_address, _TEXT), Tag(ALONE)],
    forms("an address, or a list of them"),
]
ExtraHosts = Annotated[
    Annotated[dict[Annotated[str, _text(engine.extra_host)], HostAddresses], Tag(MAPPED)]
    | Annotated[tuple[Annotated[tuple[str, str], Read(engine.extra_host_entry, _TEXT)], ...], Tag(LISTED)],
    forms('a mapping such as db.internal: 10.0.0.5, or a list such as ["db.internal:10.0.0.5"]'),
]


class DeviceFile(Strict):
    source: fields.Inside
    target: fields.Inside | None = None
    permissions: fields.Line = "rwm"

    @model_validator(mode="after")
    def _as_in_short(self) -> Self:
        """Both forms keep the same rules."""
        self.to_domain()
        return self

    def to_domain(self) -> Device:
        return engine.device_of(self.source, self.target or self.source, self.permissions)


Devices = tuple[
    Annotated[
        Annotated[Device, Read(engine.device, _TEXT), Tag(ALONE)] | Annotated[DeviceFile, Tag(MAPPED)],
        forms("source[:target][:rwm], or a mapping with source, target and permissions"),
    ],
    ...,
]


# --- the definition ---------------------------------------------------------------------------------------------


class Healthcheck(Strict):
    """Docker's own HEALTHCHECK, given to the engine as it stands."""

    test: Annotated[
        Annotated[tuple[fields.Word, ...], Tag(LISTED)]
        | Annotated[str, Read(grammar.block, {"type": "string"}), Tag(ALONE)],
        forms("a command line, or a list that begins with CMD, CMD-SHELL or NONE"),
    ] = ()
    interval: fields.ComposeDuration | None = None
    timeout: fields.ComposeDuration | None = None
    start_period: fields.ComposeDuration | None = None
    start_interval: fields.ComposeDuration | None = None
    retries: Annotated[int, number(1, 100)] | None = None
    disable: Truth = False

    def to_domain(self) -> DockerHealth:
        return DockerHealth(
            test=("NONE",) if self.disable else ("CMD-SHELL", self.test) if isinstance(self.test, str) else self.test,
            interval=self.interval,
            timeout=self.timeout,
            start_period=self.start_period,
            start_interval=self.start_interval,
            retries=self.retries,
        )


class HookFile(Strict):
    """A command that is run inside a running container."""

    command: fields.Command
    user: Annotated[str, Read(grammar.user, {"type": ["string", "integer"]})] | None = None
    privileged: Truth = False
    working_dir: fields.Inside | None = None
    environment: fields.Environment = ()


class LoggingFile(Strict):
    driver: Annotated[str, _text(engine.driver, "json-file")] | None = None
    options: dict[OptionName, fields.Word] = fields.written({})

    def to_domain(self) -> Logging:
        return Logging(driver=self.driver or "", options=tuple(self.options.items()))


class ContainerFile(Strict):
    """The keys of a Compose service that we carry."""

    image: Annotated[fields.Image | None, Field(description="What the replicas run.")] = None
    pull_policy: Annotated[Pull, Read(engine.pull, {"enum": ["always", "missing", "never", "if_not_present"]})] = (
        fields.written("missing", "When the registry is asked for the image.")
    )
    platform: Annotated[str, _text(engine.platform, "linux/amd64")] | None = None
    command: fields.Command | None = None
    entrypoint: fields.Command | None = None
    environment: Annotated[fields.Environment, Field(description="env:NAME and file:PATH stand for secrets.")] = ()
    env_file: Annotated[fields.Files, Field(description="Read when a container is created.")] = ()
    volumes: Annotated[tuple[Volume, ...], Field(max_length=64)] = ()
    tmpfs: Tmpfses = ()
    secrets: Annotated[Grants, Field(max_length=64)] = ()
    configs: Annotated[Grants, Field(max_length=64)] = ()
    networks: Annotated[fields.Networks, Field(description="Existing Docker networks, by name.")] = ()
    network_mode: Annotated[str, Read(engine.network_mode, {"const": HOST_NETWORK})] | None = fields.written(
        None, "host: it answers on the ports of this host, with strategy recreate and allow: [host-network]."
    )
    labels: fields.Labels = ()
    annotations: fields.Labels = ()
    healthcheck: Healthcheck | None = None
    user: Annotated[str, Read(grammar.user, {"type": ["string", "integer"]})] | None = None
    working_dir: fields.Inside | None = None
    tty: Truth | None = None
    stdin_open: Truth | None = None
    stop_signal: Annotated[str, Read(grammar.stop_signal, {"type": ["string", "integer"]})] | None = None
    stop_grace_period: fields.ComposeDuration = fields.written("10s")
    init: Truth | None = None
    restart: Annotated[str, Read(grammar.restart, {"type": "string", "examples": ["always", "on-failure:3"]})] = (
        "always"
    )
    logging: LoggingFile | None = None
    post_start: Annotated[
        tuple[HookFile, ...], Field(max_length=16, description="Run inside, before the gate; one that fails ends it.")
    ] = ()
    pre_stop: Annotated[
        tuple[HookFile, ...], Field(max_length=16, description="Run inside, before the stop signal.")
    ] = ()
    deploy: DeployFile = DeployFile()

    cpus: Cpus | None = None
    cpu_shares: Annotated[int, number(2, 1 << 18)] | None = None
    cpu_quota: Microseconds | None = None
    cpu_period: Microseconds | None = None
    cpu_rt_period: Microseconds | None = None
    cpu_rt_runtime: Microseconds | None = None
    cpuset: Annotated[str, _text(engine.cpuset, "0-3,6")] | None = None
    mem_limit: Memory | None = None
    mem_reservation: Memory | None = None
    memswap_limit: Swap | None = None
    mem_swappiness: Annotated[int, number(0, 100)] | None = None
    pids_limit: Pids | None = None
    oom_kill_disable: Truth | None = None
    oom_score_adj: Annotated[int, number(-1000, 1000)] | None = None
    shm_size: Size | None = None
    ulimits: Ulimits = fields.written({})
    blkio_config: BlockIoFile | None = None
    storage_opt: dict[OptionName, fields.Word] = fields.written({})
    cgroup_parent: Annotated[str, _text(engine.cgroup_parent)] | None = None

    privileged: Truth | None = None
    read_only: Truth | None = None
    cap_add: tuple[Capability, ...] = ()
    cap_drop: tuple[Capability, ...] = ()
    security_opt: tuple[Security, ...] = ()
    devices: Devices = ()
    device_cgroup_rules: tuple[DeviceRule, ...] = ()
    gpus: Gpus = ()
    group_add: tuple[Group, ...] = ()
    sysctls: Sysctls = ()
    ipc: Annotated[str, _text(engine.namespace("private", "shareable", "none", "host"))] | None = None
    pid: Annotated[str, _text(engine.namespace("host"))] | None = None
    cgroup: Annotated[str, _text(engine.namespace("private", "host"))] | None = None
    uts: Annotated[str, _text(engine.namespace("host"))] | None = None
    userns_mode: Annotated[str, _text(engine.namespace("host"))] | None = None
    runtime: Annotated[str, _text(engine.runtime, "runc")] | None = None

    hostname: Annotated[str, _text(engine.hostname, "web")] | None = None
    domainname: Annotated[str, _text(engine.hostname, "example.com")] | None = None
    dns: Addresses = ()
    dns_opt: tuple[Resolving, ...] = ()
    dns_search: Domains = ()
    extra_hosts: ExtraHosts = ()
