"""A container definition as the engine's client wants it, secrets resolved."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from proxyctl.adapters.docker.definition import (
    carried,
    copied,
    environment,
    hook_options,
    host_config,
    named_volumes,
    options,
    restart_policy,
)
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
    Tmpfs,
    Ulimit,
)
from proxyctl.domain.record import Record
from proxyctl.errors import Unavailable

IMAGE = "shop/web:1.4"


def in_file(tmp_path: Path, text: str) -> Container:
    (tmp_path / "web.env").write_text(text)
    return Container(image=IMAGE, env_file=(str(tmp_path / "web.env"),))


def test_an_env_file_is_read_as_compose_reads_it(tmp_path: Path) -> None:
    assert environment(in_file(tmp_path, '\n# B=comment\nA="it\'s" # one\nB\n')) == {"A": "it's"}


def test_environment_goes_over_env_files_and_a_later_file_over_an_earlier_one(tmp_path: Path) -> None:
    paths = [tmp_path / "1.env", tmp_path / "2.env"]
    paths[0].write_text("A=1\nB=1\nC=1\n")
    paths[1].write_text("B=2\nC=2\n")
    definition = Container(image=IMAGE, env_file=tuple(map(str, paths)), environment=(("C", "3"),))
    assert environment(definition) == {"A": "1", "B": "2", "C": "3"}


def test_references_are_replaced_by_what_they_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "secret")
    (tmp_path / "key").write_text("line 1\nline 2\n")
    given = (("A", "env:DB_PASSWORD"), ("B", f"file:{tmp_path}/key"), ("C", "http://env:8000"))
    assert environment(Container(image=IMAGE, environment=given)) == {
        "A": "secret",
        "B": "line 1\nline 2",
        "C": "http://env:8000",
    }


def test_a_reference_inside_an_env_file_is_only_text(tmp_path: Path) -> None:
    assert environment(in_file(tmp_path, "A=env:HOME\n")) == {"A": "env:HOME"}


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=f"env_file wants the file {tmp_path}/none: no such file"):
        environment(Container(image=IMAGE, env_file=(f"{tmp_path}/none",)))
    (tmp_path / "latin").write_bytes(b"A=\xe9")
    with pytest.raises(Unavailable, match="not UTF-8"):
        environment(Container(image=IMAGE, env_file=(f"{tmp_path}/latin",)))


def test_what_the_definition_leaves_out_stays_the_images() -> None:
    assert options(Container(image=IMAGE)) == {"host_config": {}}


def test_an_empty_command_is_not_a_missing_one() -> None:
    given = options(Container(image=IMAGE, command=(), init=False))
    assert given == {"command": [], "host_config": {"Init": False}}


def test_what_is_of_the_container_goes_to_docker_py_by_its_names() -> None:
    definition = Container(
        image=IMAGE,
        platform="linux/amd64",
        entrypoint=("/bin/app",),
        user="1000",
        working_dir="/app",
        tty=False,
        stdin_open=True,
        stop_signal="SIGQUIT",
        healthcheck=DockerHealth(test=("NONE",), start_interval=0.5),
        names=Names(hostname="web", domainname="example.com"),
    )
    assert options(definition) == {
        "platform": "linux/amd64",
        "entrypoint": ["/bin/app"],
        "user": "1000",
        "working_dir": "/app",
        "tty": False,
        "stdin_open": True,
        "stop_signal": "SIGQUIT",
        "healthcheck": {"Test": ["NONE"], "StartInterval": 500_000_000},
        "hostname": "web",
        "domainname": "example.com",
        "host_config": {},
    }


LIMITS = Limits(
    cpus=1.5,
    cpu_shares=512,
    cpu_quota=50_000,
    cpu_period=100_000,
    cpu_rt_period=1_000_000,
    cpu_rt_runtime=950_000,
    cpuset="0-1",
    mem_limit=64 << 20,
    mem_reservation=32 << 20,
    memswap_limit=-1,
    mem_swappiness=0,
    pids_limit=-1,
    oom_kill_disable=False,
    oom_score_adj=0,
    shm_size=1 << 20,
    ulimits=(Ulimit(name="nofile", soft=1, hard=2),),
    blkio_config=BlockIo(
        weight=300,
        weight_device=(DeviceWeight(path="/dev/a", weight=400),),
        device_read_bps=(DeviceRate(path="/dev/a", rate=1),),
        device_read_iops=(DeviceRate(path="/dev/a", rate=2),),
        device_write_bps=(DeviceRate(path="/dev/a", rate=3),),
        device_write_iops=(DeviceRate(path="/dev/a", rate=4),),
    ),
    storage_opt=(("size", "1G"),),
    cgroup_parent="/limited",
)
LIMITS_GIVEN = {
    "NanoCpus": 1_500_000_000,
    "CpuShares": 512,
    "CpuQuota": 50_000,
    "CpuPeriod": 100_000,
    "CpuRealtimePeriod": 1_000_000,
    "CpuRealtimeRuntime": 950_000,
    "CpusetCpus": "0-1",
    "Memory": 64 << 20,
    "MemoryReservation": 32 << 20,
    "MemorySwap": -1,
    "MemorySwappiness": 0,
    "PidsLimit": -1,
    "OomKillDisable": False,
    "OomScoreAdj": 0,
    "ShmSize": 1 << 20,
    "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}],
    "BlkioWeight": 300,
    "BlkioWeightDevice": [{"Path": "/dev/a", "Weight": 400}],
    "BlkioDeviceReadBps": [{"Path": "/dev/a", "Rate": 1}],
    "BlkioDeviceReadIOps": [{"Path": "/dev/a", "Rate": 2}],
    "BlkioDeviceWriteBps": [{"Path": "/dev/a", "Rate": 3}],
    "BlkioDeviceWriteIOps": [{"Path": "/dev/a", "Rate": 4}],
    "StorageOpt": {"size": "1G"},
    "CgroupParent": "/limited",
}
ACCESS = Access(
    privileged=False,
    read_only=True,
    cap_add=("NET_ADMIN",),
    cap_drop=("ALL",),
    security_opt=("no-new-privileges=true", "seccomp=unconfined"),
    devices=(Device(source="/dev/a", target="/dev/b", permissions="r"),),
    device_cgroup_rules=("c 1:3 mr",),
    gpus=(DeviceRequest(driver="nvidia", count=-1, capabilities=("gpu", "utility"), options=(("a", "b"),)),),
    group_add=("audio", "998"),
    sysctls=(("net.core.somaxconn", "1024"),),
    ipc="private",
    pid="host",
    cgroup="private",
    uts="host",
    userns_mode="host",
    runtime="runc",
)
ACCESS_GIVEN = {
    "Privileged": False,
    "ReadonlyRootfs": True,
    "CapAdd": ["NET_ADMIN"],
    "CapDrop": ["ALL"],
    "SecurityOpt": ["no-new-privileges=true", "seccomp=unconfined"],
    "Devices": [{"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"}],
    "DeviceCgroupRules": ["c 1:3 mr"],
    "DeviceRequests": [
        {
            "Driver": "nvidia",
            "Count": -1,
            "DeviceIDs": [],
            "Capabilities": [["gpu", "utility"]],
            "Options": {"a": "b"},
        }
    ],
    "GroupAdd": ["audio", "998"],
    "Sysctls": {"net.core.somaxconn": "1024"},
    "IpcMode": "private",
    "PidMode": "host",
    "CgroupnsMode": "private",
    "UTSMode": "host",
    "UsernsMode": "host",
    "Runtime": "runc",
}
NAMES = Names(
    dns=("10.0.0.53",),
    dns_opt=("ndots:2",),
    dns_search=(".",),
    extra_hosts=(("db", "10.0.0.5"), ("db", "::1")),
)
NAMES_GIVEN = {
    "Dns": ["10.0.0.53"],
    "DnsOptions": ["ndots:2"],
    "DnsSearch": ["."],
    "ExtraHosts": ["db:10.0.0.5", "db:::1"],
}


@pytest.mark.parametrize(
    ("group", "expected"),
    [({"limits": LIMITS}, LIMITS_GIVEN), ({"access": ACCESS}, ACCESS_GIVEN), ({"names": NAMES}, NAMES_GIVEN)],
    ids=["limits", "access", "names"],
)
def test_what_the_host_gives_goes_to_the_engine_in_its_own_words(
    group: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert host_config(Container(image=IMAGE, **group)) == expected


@pytest.mark.parametrize("group", [LIMITS, ACCESS, NAMES.replace(hostname="web", domainname="t")], ids=type)
def test_every_field_of_a_group_is_tried(group: Record) -> None:
    assert [field for field in group.fields() if getattr(group, field) in (None, ())] == []


def test_what_is_mounted_and_written(tmp_path: Path) -> None:
    definition = Container(
        image=IMAGE,
        volumes=("/srv/a:/a:ro", "b:/b", "/c"),
        tmpfs=(Tmpfs(target="/t", size=1024, mode=0o1777, options=("noexec",)), Tmpfs(target="/u")),
        secrets=(GrantedFile(target="/run/secrets/db", content=f"file:{tmp_path}/db"),),
        configs=(GrantedFile(target="/app", content="text:x"),),
        annotations=(("a", "b"),),
        logging=Logging(options=(("max-size", "1m"),)),
    )
    assert host_config(definition) == {
        "Binds": ["/srv/a:/a:ro", "b:/b", "/c"],
        "Tmpfs": {"/t": "size=1024,mode=1777,noexec", "/u": ""},
        "Mounts": [{"Type": "bind", "Source": f"{tmp_path}/db", "Target": "/run/secrets/db", "ReadOnly": True}],
        "Annotations": {"a": "b"},
        "LogConfig": {"Type": "", "Config": {"max-size": "1m"}},
    }


def test_what_is_no_file_of_the_host_is_copied_in_with_its_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    files = (
        GrantedFile(target="/run/secrets/db", content="file:/nowhere"),
        GrantedFile(target="/etc/token", content="env:TOKEN", uid=5, gid=6, mode=0o400),
        GrantedFile(target="/app", content="text:a:b\n"),
    )
    with tarfile.open(fileobj=io.BytesIO(copied(Container(image=IMAGE, secrets=files)))) as tar:
        found = {entry.name: (entry, tar.extractfile(entry)) for entry in tar}
    token = found["etc/token"][0]
    assert list(found) == ["etc/token", "app"]
    assert (token.uid, token.gid, token.mode, token.size) == (5, 6, 0o400, 6)
    assert copied(Container(image=IMAGE, secrets=files[:1])) == b""


def test_for_an_engine_on_another_host_a_file_of_ours_is_copied_and_nothing_mounted(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret\n")
    there = carried(Container(image=IMAGE, secrets=(GrantedFile(target="/run/key", content=f"file:{tmp_path}/key"),)))
    assert "Mounts" not in host_config(there)
    with tarfile.open(fileobj=io.BytesIO(copied(there))) as tar:
        assert [tar.extractfile(entry).read() for entry in tar.getmembers()] == [b"secret\n"]  # type: ignore[union-attr]


def test_a_seccomp_profile_goes_to_the_engine_as_its_text(tmp_path: Path) -> None:
    (tmp_path / "profile.json").write_text('{\n  "defaultAction": "SCMP_ACT_ALLOW"\n}\n')
    definition = Container(image=IMAGE, access=Access(security_opt=(f"seccomp={tmp_path}/profile.json",)))
    assert host_config(definition) == {"SecurityOpt": ['seccomp={"defaultAction": "SCMP_ACT_ALLOW"}']}
    (tmp_path / "profile.json").write_text("no")
    with pytest.raises(Unavailable, match="which is not JSON"):
        host_config(definition)


def test_a_hook_is_run_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    hook = Hook(command=("bye",), privileged=True, working_dir="/app", environment=(("A", "env:TOKEN"),))
    assert hook_options(hook) == {
        "cmd": ["bye"],
        "user": "",
        "privileged": True,
        "workdir": "/app",
        "environment": {"A": "secret"},
    }


def test_a_restart_policy_may_carry_a_count() -> None:
    assert restart_policy("unless-stopped") == {"Name": "unless-stopped"}
    assert restart_policy("on-failure:3") == {"Name": "on-failure", "MaximumRetryCount": 3}


def test_only_named_volumes_are_ours_to_make() -> None:
    definition = Container(image=IMAGE, volumes=("/srv/data:/data:ro", "cache:/cache", "/unnamed"))
    assert named_volumes(definition) == ["cache"]
