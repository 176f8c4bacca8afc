"""What one container is: the keys of a Compose service that we carry, under Compose's names. Pure and frozen.

A group (Limits, Access, Names) is None where nothing of it was written: most containers write none, and a hot command
then reads none from the journal. None inside a group, and in Container, leaves the key to the image or the engine.
Values may be secret references (`env:NAME`, `file:PATH`), never secrets. Start at Container.
"""

from __future__ import annotations

from enum import StrEnum

from proxyctl.domain.record import Record
from proxyctl.domain.units import Bytes, Pairs, Seconds

HOST_NETWORK = "host"  # the engine's name of it, and its mode


class Pull(StrEnum):
    """When the image is asked of its registry."""

    ALWAYS = "always"  # at every new release
    MISSING = "missing"  # when it is not on this host
    NEVER = "never"


# --- how much it may take -----------------------------------------------------------------------------------------


class Ulimit(Record):
    name: str
    soft: int  # -1: unlimited
    hard: int


class DeviceWeight(Record):
    path: str
    weight: int


class DeviceRate(Record):
    path: str
    rate: int  # bytes, or operations, a second


class BlockIo(Record):
    weight: int | None = None
    weight_device: tuple[DeviceWeight, ...] = ()
    device_read_bps: tuple[DeviceRate, ...] = ()
    device_read_iops: tuple[DeviceRate, ...] = ()
    device_write_bps: tuple[DeviceRate, ...] = ()
    device_write_iops: tuple[DeviceRate, ...] = ()


class Limits(Record):
    """Of the machine, for one container."""

    cpus: float | None = None
    cpu_shares: int | None = None
    cpu_quota: int | None = None  # microseconds, as the next three
    cpu_period: int | None = None
    cpu_rt_period: int | None = None
    cpu_rt_runtime: int | None = None
    cpuset: str | None = None
    mem_limit: Bytes | None = None
    mem_reservation: Bytes | None = None
    memswap_limit: Bytes | None = None  # memory and swap together; -1: unlimited
    mem_swappiness: int | None = None
    pids_limit: int | None = None  # -1: unlimited
    oom_kill_disable: bool | None = None
    oom_score_adj: int | None = None
    shm_size: Bytes | None = None
    ulimits: tuple[Ulimit, ...] = ()
    blkio_config: BlockIo | None = None
    storage_opt: Pairs = ()
    cgroup_parent: str | None = None


# --- what of the host it may touch --------------------------------------------------------------------------------


class Device(Record):
    source: str
    target: str
    permissions: str = "rwm"


class DeviceRequest(Record):
    """What a device driver is asked for: GPUs."""

    driver: str = ""
    count: int = 0  # -1: all
    device_ids: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()  # all of them
    options: Pairs = ()


class Access(Record):
    """To the kernel and its devices; what a container may do beyond, or less than, the engine's default."""

    privileged: bool | None = None
    read_only: bool | None = None  # its root file system
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ()  # "name=value"; the value of seccomp may be an absolute path
    devices: tuple[Device, ...] = ()
    device_cgroup_rules: tuple[str, ...] = ()
    gpus: tuple[DeviceRequest, ...] = ()
    group_add: tuple[str, ...] = ()
    sysctls: Pairs = ()
    ipc: str | None = None  # private | shareable | none | host
    pid: str | None = None  # host
    cgroup: str | None = None  # private | host
    uts: str | None = None  # host
    userns_mode: str | None = None  # host
    runtime: str | None = None


# --- what it is called and whom it finds --------------------------------------------------------------------------


class Names(Record):
    hostname: str | None = None
    domainname: str | None = None
    dns: tuple[str, ...] = ()
    dns_opt: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    extra_hosts: Pairs = ()  # host, address; one host may have several


# --- what is mounted, run and written -----------------------------------------------------------------------------


class Tmpfs(Record):
    """A file system in memory, of one container and gone with it."""

    target: str
    size: Bytes | None = None
    mode: int | None = None
    options: tuple[str, ...] = ()  # "noexec", "uid=1000"


class GrantedFile(Record):
    """A secret or a config: one file inside the container, read-only."""

    target: str  # absolute
    content: str  # "file:PATH", mounted as it is; "env:NAME" and "text:...", copied in before the start
    uid: int = 0  # these three of a copied file
    gid: int = 0
    mode: int = 0o444


class Hook(Record):
    """A command that is run inside a running container."""

    command: tuple[str, ...]
    user: str | None = None
    privileged: bool = False
    working_dir: str | None = None
    environment: Pairs = ()


class Logging(Record):
    driver: str = ""  # "": the engine's own
    options: Pairs = ()


class DockerHealth(Record):
    """The `healthcheck` of a Compose service, given to the engine as it stands."""

    test: tuple[str, ...] = ()  # ("CMD", ...), ("CMD-SHELL", text) or ("NONE",)
    interval: Seconds | None = None
    timeout: Seconds | None = None
    start_period: Seconds | None = None
    start_interval: Seconds | None = None
    retries: int | None = None


class Container(Record):
    image: str
    pull_policy: Pull = Pull.MISSING
    platform: str | None = None
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: Pairs = ()
    env_file: tuple[str, ...] = ()  # absolute paths, read when a container is created
    volumes: tuple[str, ...] = ()  # "source:target[:mode]", source absolute or a volume's name; "target": unnamed
    tmpfs: tuple[Tmpfs, ...] = ()
    secrets: tuple[GrantedFile, ...] = ()
    configs: tuple[GrantedFile, ...] = ()
    networks: tuple[str, ...] = ()  # names of existing Docker networks, joined in this order; or the host's, alone
    labels: Pairs = ()
    annotations: Pairs = ()
    healthcheck: DockerHealth | None = None
    user: str | None = None
    working_dir: str | None = None
    tty: bool | None = None
    stdin_open: bool | None = None
    stop_signal: str | None = None
    stop_grace_period: Seconds = 10.0
    init: bool | None = None
    restart: str = "always"  # given at promotion; a candidate runs with "no"
    logging: Logging | None = None
    post_start: tuple[Hook, ...] = ()  # after the start, before the gate
    pre_stop: tuple[Hook, ...] = ()  # before the stop signal, within the grace period
    limits: Limits | None = None
    access: Access | None = None
    names: Names | None = None

    @property
    def on_the_host(self) -> bool:
        """It has no address of its own: it answers on ports of the host, at the loopback address too."""
        return self.networks == (HOST_NETWORK,)

    @property
    def granted(self) -> tuple[GrantedFile, ...]:
        return (*self.secrets, *self.configs)
