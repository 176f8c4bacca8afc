"""Every key of a container: what it becomes, from either file, and laid over the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxyctl.config.container import ContainerFile
from proxyctl.config.load import load
from proxyctl.domain.container import (
    Access,
    BlockIo,
    Container,
    Device,
    DeviceRate,
    DeviceRequest,
    DeviceWeight,
    DockerHealth,
    GrantedFile,
    Hook,
    Limits,
    Logging,
    Names,
    Pull,
    Tmpfs,
    Ulimit,
)

MEGABYTE = 1 << 20
ALL_GPUS = DeviceRequest(count=-1, capabilities=("gpu",))


def own(folder: Path, keys: str, compose: str = "") -> Container:
    """What the container of a service is, when these keys are laid over those of a Compose file."""
    (folder / "compose.yml").write_text(f"services: {{web: {{image: x, {compose}}}}}")
    (folder / "proxyctl.yml").write_text(
        "project: shop\ncompose: compose.yml\nservices:\n  web:\n    health: none\n    allow: [shared-volumes]\n"
        f"    container: {{{keys}}}\n"
    )
    return load(folder / "proxyctl.yml", environment={"DATA": "data"}).services[0].container


def limits(**keys: Any) -> dict[str, Any]:
    return {"limits": Limits(**keys)}


def access(**keys: Any) -> dict[str, Any]:
    return {"access": Access(**keys)}


def names(**keys: Any) -> dict[str, Any]:
    return {"names": Names(**keys)}


CARRIED: list[tuple[str, dict[str, Any]]] = [
    ("pull_policy: always", {"pull_policy": Pull.ALWAYS}),
    ("pull_policy: if_not_present", {"pull_policy": Pull.MISSING}),
    ("platform: linux/arm64/v8", {"platform": "linux/arm64/v8"}),
    ("volumes: [/cache]", {"volumes": ("/cache",)}),
    ("volumes: ['/srv/a:/a:ro,z']", {"volumes": ("/srv/a:/a:ro,z",)}),
    (
        "volumes: [{type: bind, source: /a, target: /b, read_only: true, bind: {propagation: rslave, selinux: Z}}]",
        {"volumes": ("/a:/b:ro,Z,rslave",)},
    ),
    ("volumes: [{type: volume, target: /b}]", {"volumes": ("/b",)}),
    ("volumes: [{type: volume, source: a, target: /b, volume: {nocopy: true}}]", {"volumes": ("a:/b:nocopy",)}),
    (
        "volumes: [{type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 0700}}]",
        {"volumes": (), "tmpfs": (Tmpfs(target="/t", size=MEGABYTE, mode=0o700),)},
    ),
    ("tmpfs: /run", {"tmpfs": (Tmpfs(target="/run"),)}),
    (
        "tmpfs: ['/run:size=64m,mode=1777,noexec,uid=1000']",
        {"tmpfs": (Tmpfs(target="/run", size=64 * MEGABYTE, mode=0o1777, options=("noexec", "uid=1000")),)},
    ),
    ("secrets: ['env:DB']", {"secrets": (GrantedFile(target="/run/secrets/DB", content="env:DB"),)}),
    (
        "configs: [{source: 'text:a=b', target: /etc/app.ini, uid: 5, gid: 6, mode: '0440'}]",
        {"configs": (GrantedFile(target="/etc/app.ini", content="text:a=b", uid=5, gid=6, mode=0o440),)},
    ),
    ("annotations: {a.b: c}", {"annotations": (("a.b", "c"),)}),
    (
        "healthcheck: {test: x, start_interval: 2s}",
        {"healthcheck": DockerHealth(test=("CMD-SHELL", "x"), start_interval=2.0)},
    ),
    ("tty: true, stdin_open: 'false'", {"tty": True, "stdin_open": False}),
    (
        "logging: {driver: journald, options: {tag: web}}",
        {"logging": Logging(driver="journald", options=(("tag", "web"),))},
    ),
    ("logging: {options: {max-size: 1m}}", {"logging": Logging(options=(("max-size", "1m"),))}),
    (
        "post_start: [{command: bin/warm --all, user: root, working_dir: /app, environment: {A: 1}}]",
        {
            "post_start": (
                Hook(command=("bin/warm", "--all"), user="root", working_dir="/app", environment=(("A", "1"),)),
            )
        },
    ),
    (
        "pre_stop: [{command: [bin/bye], privileged: true}]",
        {"pre_stop": (Hook(command=("bin/bye",), privileged=True),)},
    ),
    ("deploy: {restart_policy: {condition: none}}", {"restart": "no"}),
    ("deploy: {restart_policy: {condition: on-failure, max_attempts: 3}}", {"restart": "on-failure:3"}),
    ("deploy: {restart_policy: {condition: any}}, restart: no", {"restart": "always"}),
    (
        "deploy: {resources: {limits: {cpus: '0.50', memory: 64m, pids: 9}}}",
        limits(cpus=0.5, mem_limit=64 * MEGABYTE, pids_limit=9),
    ),
    ("deploy: {resources: {reservations: {memory: 32m}}}", limits(mem_reservation=32 * MEGABYTE)),
    (
        "deploy: {resources: {reservations: {devices: [{driver: nvidia, count: 1, capabilities: [gpu]}]}}}",
        access(gpus=(DeviceRequest(driver="nvidia", count=1, capabilities=("gpu",)),)),
    ),
    ("cpus: 1.5", limits(cpus=1.5)),
    ("cpu_shares: 512", limits(cpu_shares=512)),
    ("cpu_quota: 50ms, cpu_period: 100000", limits(cpu_quota=50_000, cpu_period=100_000)),
    ("cpu_rt_runtime: 950000, cpu_rt_period: 1s", limits(cpu_rt_runtime=950_000, cpu_rt_period=1_000_000)),
    ("cpuset: '0-1,3'", limits(cpuset="0-1,3")),
    ("mem_limit: 1.5g", limits(mem_limit=1536 * MEGABYTE)),
    ("mem_reservation: 64mb", limits(mem_reservation=64 * MEGABYTE)),
    ("memswap_limit: -1, mem_swappiness: 0", limits(memswap_limit=-1, mem_swappiness=0)),
    ("pids_limit: -1", limits(pids_limit=-1)),
    ("oom_kill_disable: true, oom_score_adj: -500", limits(oom_kill_disable=True, oom_score_adj=-500)),
    ("shm_size: 128m", limits(shm_size=128 * MEGABYTE)),
    (
        "ulimits: {nofile: {soft: 1024, hard: 2048}, nproc: 65535}",
        limits(ulimits=(Ulimit(name="nofile", soft=1024, hard=2048), Ulimit(name="nproc", soft=65535, hard=65535))),
    ),
    (
        "blkio_config: {weight: 300, weight_device: [{path: /dev/sda, weight: 400}],"
        " device_read_bps: [{path: /dev/sda, rate: 1m}], device_write_iops: [{path: /dev/sda, rate: 30}]}",
        limits(
            blkio_config=BlockIo(
                weight=300,
                weight_device=(DeviceWeight(path="/dev/sda", weight=400),),
                device_read_bps=(DeviceRate(path="/dev/sda", rate=MEGABYTE),),
                device_write_iops=(DeviceRate(path="/dev/sda", rate=30),),
            )
        ),
    ),
    ("storage_opt: {size: 1G}", limits(storage_opt=(("size", "1G"),))),
    ("cgroup_parent: /limited", limits(cgroup_parent="/limited")),
    ("privileged: true", access(privileged=True)),
    ("read_only: true", access(read_only=True)),
    ("cap_add: [net_admin], cap_drop: [ALL]", access(cap_add=("NET_ADMIN",), cap_drop=("ALL",))),
    (
        "security_opt: [no-new-privileges, 'apparmor:unconfined', 'seccomp=unconfined']",
        access(security_opt=("no-new-privileges=true", "apparmor=unconfined", "seccomp=unconfined")),
    ),
    (
        "devices: ['/dev/null', '/dev/zero:/dev/z:r', {source: /dev/full, target: /dev/f, permissions: rw}]",
        access(
            devices=(
                Device(source="/dev/null", target="/dev/null"),
                Device(source="/dev/zero", target="/dev/z", permissions="r"),
                Device(source="/dev/full", target="/dev/f", permissions="rw"),
            )
        ),
    ),
    ("device_cgroup_rules: ['c 1:3 mr']", access(device_cgroup_rules=("c 1:3 mr",))),
    ("gpus: all", access(gpus=(ALL_GPUS,))),
    (
        "gpus: [{driver: nvidia, device_ids: ['0'], options: {a: b}}]",
        access(gpus=(DeviceRequest(driver="nvidia", device_ids=("0",), capabilities=("gpu",), options=(("a", "b"),)),)),
    ),
    ("group_add: [audio, 998]", access(group_add=("audio", "998"))),
    ("sysctls: {net.core.somaxconn: 1024}", access(sysctls=(("net.core.somaxconn", "1024"),))),
    ("sysctls: [net.core.somaxconn=1024]", access(sysctls=(("net.core.somaxconn", "1024"),))),
    ("ipc: shareable, pid: host, cgroup: private", access(ipc="shareable", pid="host", cgroup="private")),
    ("uts: host, userns_mode: host, runtime: runc", access(uts="host", userns_mode="host", runtime="runc")),
    ("hostname: web, domainname: example.com", names(hostname="web", domainname="example.com")),
    ("dns: 10.0.0.53", names(dns=("10.0.0.53",))),
    ("dns: [10.0.0.53], dns_opt: ['ndots:2']", names(dns=("10.0.0.53",), dns_opt=("ndots:2",))),
    ("dns_search: [a.t, '.']", names(dns_search=("a.t", "."))),
    ("extra_hosts: ['db:10.0.0.5', 'db=::1']", names(extra_hosts=(("db", "10.0.0.5"), ("db", "::1")))),
    ("extra_hosts: {db: [10.0.0.5, '::1']}", names(extra_hosts=(("db", "10.0.0.5"), ("db", "::1")))),
    ("extra_hosts: {host: host-gateway}", names(extra_hosts=(("host", "host-gateway"),))),
]


@pytest.mark.parametrize(("keys", "expected"), CARRIED, ids=[keys.partition(":")[0] for keys, _ in CARRIED])
def test_a_key_is_carried_from_either_file(tmp_path: Path, keys: str, expected: dict[str, Any]) -> None:
    assert own(tmp_path, keys) == Container(image="x", **expected)
    if not any(word in keys for word in ("secrets", "configs", "source: a,")):  # Compose declares these apart
        assert own(tmp_path, "", keys) == Container(image="x", **expected)


def test_every_key_is_tried() -> None:
    """Those that are no newer than the first version are tried elsewhere."""
    first = {"image", "command", "entrypoint", "environment", "env_file", "networks", "labels", "user", "working_dir"}
    first |= {"stop_signal", "stop_grace_period", "init", "restart", "network_mode"}
    tried = " ".join(keys for keys, _ in CARRIED)
    assert [key for key in ContainerFile.model_fields if key not in first and f"{key}:" not in tried] == []


def test_keys_are_laid_over_those_of_compose_by_name_by_target_or_whole(tmp_path: Path) -> None:
    found = own(
        tmp_path,
        "sysctls: {net.a.b: 2}, tmpfs: ['/a:size=2m'], devices: ['/dev/zero:/dev/x'], cap_add: [B_C], mem_limit: 64m",
        "sysctls: [net.a.b=1, net.c.d=1], tmpfs: [/a, /b], devices: ['/dev/null:/dev/x', /dev/full], cap_add: [A_B],"
        " deploy: {resources: {limits: {memory: 32m, pids: 5}}}",
    )
    assert found.tmpfs == (Tmpfs(target="/b"), Tmpfs(target="/a", size=2 * MEGABYTE))
    assert found.limits == Limits(mem_limit=64 * MEGABYTE, pids_limit=5)
    assert found.access == Access(
        sysctls=(("net.c.d", "1"), ("net.a.b", "2")),
        devices=(Device(source="/dev/full", target="/dev/full"), Device(source="/dev/zero", target="/dev/x")),
        cap_add=("B_C",),
    )


def test_a_variable_of_compose_gives_text_that_is_read_as_what_the_key_wants(tmp_path: Path) -> None:
    keys = "init: '${A:-true}', mem_limit: '${B:-64m}', pids_limit: '${C:-5}', cpus: '${D:-0.5}', user: '${DATA}'"
    found = own(tmp_path, "", keys)
    assert (found.init, found.user) == (True, "data")
    assert found.limits == Limits(mem_limit=64 * MEGABYTE, pids_limit=5, cpus=0.5)


def test_an_env_file_that_need_not_be_there_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "a.env").touch()
    found = own(tmp_path, "env_file: [a.env, {path: none.env, required: false}, {path: ./a.env}]")
    assert found.env_file == (f"{tmp_path}/a.env", f"{tmp_path}/a.env")


def test_files_that_a_definition_names_lie_beside_the_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "db").touch()
    found = own(tmp_path, "secrets: ['file:db'], security_opt: ['seccomp:profile.json']")
    assert found.secrets == (GrantedFile(target="/run/secrets/db", content=f"file:{tmp_path}/db"),)
    assert found.access == Access(security_opt=(f"seccomp={tmp_path}/profile.json",))
