"""A container definition as the engine wants it. Start at options().

References to secrets are resolved here, at creation, and nowhere else: no value of theirs reaches a log line or an
error.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from typing import Any

from proxyctl.adapters.docker.address import SERVING
from proxyctl.adapters.secrets import read_text, resolved
from proxyctl.domain.container import (
    Access,
    BlockIo,
    Container,
    DockerHealth,
    GrantedFile,
    Hook,
    Limits,
    Names,
    Tmpfs,
)
from proxyctl.domain.env_file import variables
from proxyctl.domain.record import Record
from proxyctl.domain.units import Pairs
from proxyctl.errors import Unavailable

NANO = 1_000_000_000

Given = dict[str, Any]


def options(definition: Container) -> Given:
    """Keyword arguments of docker-py's `create_container`, with `host_config` in the engine's words: docker-py has
    fewer. What the definition leaves out stays the image's and the engine's."""
    names = definition.names or Names()
    return _said(
        command=None if definition.command is None else list(definition.command),
        entrypoint=None if definition.entrypoint is None else list(definition.entrypoint),
        environment=environment(definition) or None,
        user=definition.user,
        working_dir=definition.working_dir,
        tty=definition.tty,
        stdin_open=definition.stdin_open,
        stop_signal=definition.stop_signal,
        healthcheck=None if definition.healthcheck is None else _healthcheck(definition.healthcheck),
        platform=definition.platform,
        hostname=names.hostname,
        domainname=names.domainname,
        host_config=host_config(definition),
    )


def host_config(definition: Container) -> Given:
    """What the host gives to the container. Raises Unavailable for a seccomp profile that cannot be read."""
    return _said(
        Binds=list(definition.volumes) or None,
        Mounts=[_mount(file) for file in definition.granted if _is_mounted(file)] or None,
        Tmpfs={each.target: _tmpfs(each) for each in definition.tmpfs} or None,
        Init=definition.init,
        LogConfig=_log_config(definition),
        Annotations=dict(definition.annotations) or None,
        **(_limits(definition.limits) if definition.limits else {}),
        **(_access(definition.access) if definition.access else {}),
        **(_names(definition.names) if definition.names else {}),
    )


def _said(**given: Any) -> Given:
    return {key: value for key, value in given.items() if value is not None}


# --- limits, access, names ----------------------------------------------------------------------------------------

_LIMITS = {
    "cpu_shares": "CpuShares",
    "cpu_quota": "CpuQuota",
    "cpu_period": "CpuPeriod",
    "cpu_rt_period": "CpuRealtimePeriod",
    "cpu_rt_runtime": "CpuRealtimeRuntime",
    "cpuset": "CpusetCpus",
    "mem_limit": "Memory",
    "mem_reservation": "MemoryReservation",
    "memswap_limit": "MemorySwap",
    "mem_swappiness": "MemorySwappiness",
    "pids_limit": "PidsLimit",
    "oom_kill_disable": "OomKillDisable",
    "oom_score_adj": "OomScoreAdj",
    "shm_size": "ShmSize",
    "cgroup_parent": "CgroupParent",
}
_ACCESS = {
    "privileged": "Privileged",
    "read_only": "ReadonlyRootfs",
    "cap_add": "CapAdd",
    "cap_drop": "CapDrop",
    "device_cgroup_rules": "DeviceCgroupRules",
    "group_add": "GroupAdd",
    "ipc": "IpcMode",
    "pid": "PidMode",
    "cgroup": "CgroupnsMode",
    "uts": "UTSMode",
    "userns_mode": "UsernsMode",
    "runtime": "Runtime",
}
_NAMES = {"dns": "Dns", "dns_opt": "DnsOptions", "dns_search": "DnsSearch"}


def _limits(limits: Limits) -> Given:
    ulimits = [{"Name": each.name, "Soft": each.soft, "Hard": each.hard} for each in limits.ulimits]
    return _renamed(limits, _LIMITS) | _said(
        NanoCpus=None if limits.cpus is None else round(limits.cpus * NANO),
        Ulimits=ulimits or None,
        StorageOpt=dict(limits.storage_opt) or None,
        **(_block_io(limits.blkio_config) if limits.blkio_config else {}),
    )


def _block_io(block: BlockIo) -> Given:
    return _said(
        BlkioWeight=block.weight,
        BlkioWeightDevice=[{"Path": each.path, "Weight": each.weight} for each in block.weight_device] or None,
        **{
            word: [{"Path": each.path, "Rate": each.rate} for each in rates] or None
            for word, rates in (
                ("BlkioDeviceReadBps", block.device_read_bps),
                ("BlkioDeviceReadIOps", block.device_read_iops),
                ("BlkioDeviceWriteBps", block.device_write_bps),
                ("BlkioDeviceWriteIOps", block.device_write_iops),
            )
        },
    )


def _access(access: Access) -> Given:
    devices = [
        {"PathOnHost": each.source, "PathInContainer": each.target, "CgroupPermissions": each.permissions}
        for each in access.devices
    ]
    requests = [
        {
            "Driver": each.driver,
            "Count": each.count,
            "DeviceIDs": list(each.device_ids),
            "Capabilities": [list(each.capabilities)],
            "Options": dict(each.options),
        }
        for each in access.gpus
    ]
    return _renamed(access, _ACCESS) | _said(
        SecurityOpt=[_security(option) for option in access.security_opt] or None,
        Sysctls=dict(access.sysctls) or None,
        Devices=devices or None,
        DeviceRequests=requests or None,
    )


def _security(option: str) -> str:
    """A seccomp profile goes to the engine as its text."""
    name, _, value = option.partition("=")
    if name != "seccomp" or not value.startswith("/"):
        return option
    try:
        return f"seccomp={json.dumps(json.loads(read_text(value, 'security_opt')))}"
    except ValueError as error:
        raise Unavailable(f"security_opt wants the file {value}, which is not JSON: {error}", serving=SERVING) from None


def _names(names: Names) -> Given:
    hosts = [f"{host}:{address}" for host, address in names.extra_hosts]
    return _renamed(names, _NAMES) | _said(ExtraHosts=hosts or None)


def _renamed(group: Record, words: dict[str, str]) -> Given:
    """What of these fields was written, in the engine's words."""
    said = {word: getattr(group, field) for field, word in words.items()}
    return {word: list(v) if isinstance(v, tuple) else v for word, v in said.items() if v is not None and v != ()}


# --- what is mounted, copied and written --------------------------------------------------------------------------


def carried(definition: Container) -> Container:
    """For an engine on another host, which has no files of ours: what would be mounted is copied instead. Raises
    Unavailable."""
    return definition.replace(secrets=_carried(definition.secrets), configs=_carried(definition.configs))


def _carried(files: Iterable[GrantedFile]) -> tuple[GrantedFile, ...]:
    return tuple(file.replace(content=f"text:{_text(file)}") if _is_mounted(file) else file for file in files)


def _text(file: GrantedFile) -> str:
    return read_text(_source(file), f"the file {file.target}")


def _is_mounted(file: GrantedFile) -> bool:
    return file.content.startswith("file:")


def _mount(file: GrantedFile) -> Given:
    return {"Type": "bind", "Source": _source(file), "Target": file.target, "ReadOnly": True}


def _source(file: GrantedFile) -> str:
    return file.content.removeprefix("file:")


def _tmpfs(each: Tmpfs) -> str:
    size = [] if each.size is None else [f"size={each.size}"]
    mode = [] if each.mode is None else [f"mode={each.mode:o}"]
    return ",".join([*size, *mode, *each.options])


def copied(definition: Container) -> bytes:
    """A tar of the secrets and configs that are no files of this host; empty without any. Raises Unavailable."""
    files = [file for file in definition.granted if not _is_mounted(file)]
    return _tar((file, _content(file)) for file in files) if files else b""


def _content(file: GrantedFile) -> str:
    kind, _, text = file.content.partition(":")
    return text if kind == "text" else resolved(f"the file {file.target}", file.content)


def _tar(files: Iterable[tuple[GrantedFile, str]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for file, text in files:
            content = text.encode()
            entry = tarfile.TarInfo(file.target.lstrip("/"))
            entry.size, entry.uid, entry.gid, entry.mode = len(content), file.uid, file.gid, file.mode
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _log_config(definition: Container) -> Given | None:
    logging = definition.logging
    return None if logging is None else {"Type": logging.driver, "Config": dict(logging.options)}


def hook_options(hook: Hook) -> Given:
    """Keyword arguments of docker-py's `exec_create`."""
    return {
        "cmd": list(hook.command),
        "user": hook.user or "",
        "privileged": hook.privileged,
        "workdir": hook.working_dir,
        "environment": _all_resolved(hook.environment),
    }


def restart_policy(text: str) -> Any:
    name, _, most = text.partition(":")
    return {"Name": name, "MaximumRetryCount": int(most)} if most else {"Name": name}


def named_volumes(definition: Container) -> list[str]:
    """Those that are to be there before; a volume without a name is the engine's to make."""
    sources = (volume.partition(":")[0] for volume in definition.volumes)
    return [source for source in sources if not source.startswith("/")]


def environment(definition: Container) -> dict[str, str]:
    """The env_files in their order, then `environment`. Raises Unavailable, naming what cannot be had."""
    found: dict[str, str] = {}
    for path in definition.env_file:
        found |= variables(read_text(path, "env_file"))
    return found | _all_resolved(definition.environment)


def _all_resolved(given: Pairs) -> dict[str, str]:
    return {name: resolved(f"environment {name}", value) for name, value in given}


def _healthcheck(check: DockerHealth) -> Given:
    times = {
        "Interval": check.interval,
        "Timeout": check.timeout,
        "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
    }
    nanoseconds = {word: int(value * NANO) for word, value in times.items() if value is not None}
    return _said(Test=list(check.test) or None, Retries=check.retries, **nanoseconds)
