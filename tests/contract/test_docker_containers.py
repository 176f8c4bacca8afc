"""What a definition makes of a container on a real engine: read back from the engine, and from inside."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from pathlib import Path

import pytest

from proxyctl.adapters.docker.calls import EngineCalls
from proxyctl.adapters.docker.execs import Execs
from proxyctl.domain.container import (
    HOST_NETWORK,
    Access,
    Device,
    GrantedFile,
    Hook,
    Limits,
    Logging,
    Names,
    Tmpfs,
    Ulimit,
)
from proxyctl.domain.model import LOOPBACK, Colour, Replica
from proxyctl.errors import Unavailable
from proxyctl.ports import Life
from tests.docker_site import PYTHON, SECRET, Site
from tests.nginx_bed import free_port

pytestmark = pytest.mark.docker

MEGABYTE = 1 << 20


def python(code: str) -> Hook:
    return Hook(command=(*PYTHON, code))


# --- limits, access, names ----------------------------------------------------------------------------------------


async def test_limits_hold_inside(site: Site) -> None:
    await site.start(
        limits=Limits(
            cpus=0.5,
            cpu_shares=512,
            cpuset="0",
            mem_limit=64 * MEGABYTE,
            mem_reservation=32 * MEGABYTE,
            memswap_limit=64 * MEGABYTE,
            pids_limit=50,
            oom_score_adj=300,
            shm_size=MEGABYTE,
            ulimits=(Ulimit(name="nofile", soft=100, hard=200),),
        )
    )
    host = site.inspected()["HostConfig"]
    assert (host["NanoCpus"], host["CpuShares"], host["PidsLimit"]) == (500_000_000, 512, 50)
    assert (host["Memory"], host["MemoryReservation"]) == (64 * MEGABYTE, 32 * MEGABYTE)
    seen = site.inside(
        """
import resource
def read(*paths):
    return next(open(path).read().strip() for path in paths if os.path.exists(path))
shm = os.statvfs("/dev/shm")
print(json.dumps({
    "memory": read("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
    "pids": read("/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"),
    "files": resource.prlimit(1, resource.RLIMIT_NOFILE),
    "shm": shm.f_blocks * shm.f_frsize,
    "cpus": sorted(os.sched_getaffinity(0)),
    "oom": read("/proc/1/oom_score_adj"),
}))"""
    )
    assert seen == {
        "memory": str(64 * MEGABYTE),
        "pids": "50",
        "files": [100, 200],
        "shm": MEGABYTE,
        "cpus": [0],
        "oom": "300",
    }


async def test_access_is_given_and_taken_away(site: Site) -> None:
    await site.start(
        tmpfs=(Tmpfs(target="/run/app", size=MEGABYTE, mode=0o1777), Tmpfs(target="/scratch", options=("exec",))),
        access=Access(
            read_only=True,
            cap_drop=("ALL",),
            cap_add=("NET_RAW",),
            security_opt=("no-new-privileges=true", "seccomp=unconfined"),
            devices=(Device(source="/dev/null", target="/dev/nothing", permissions="rw"),),
            device_cgroup_rules=("c 10:229 rw",),
            group_add=("998",),
            sysctls=(("net.core.somaxconn", "77"),),
            ipc="private",
            runtime="runc",
        ),
    )
    seen = site.inside(
        """
status = dict(line.split(":", 1) for line in open("/proc/1/status").read().splitlines())
def refused(path):
    try:
        open(path, "w").close()
    except OSError as error:
        return error.strerror
run = os.statvfs("/run/app")
print(json.dumps({
    "capabilities": int(status["CapEff"], 16),
    "no new privileges": status["NoNewPrivs"].strip(),
    "seccomp": status["Seccomp"].strip(),
    "groups": os.getgroups(),
    "root": refused("/x"),
    "in memory": [refused("/run/app/x"), refused("/scratch/x")],
    "size": run.f_blocks * run.f_frsize,
    "mode": oct(os.stat("/run/app").st_mode)[-4:],
    "device": open("/dev/nothing").read(),
    "somaxconn": open("/proc/sys/net/core/somaxconn").read().strip(),
}))"""
    )
    assert seen == {
        "capabilities": 1 << 13,
        "no new privileges": "1",
        "seccomp": "0",
        "groups": [0, 998],
        "root": "Read-only file system",
        "in memory": [None, None],
        "size": MEGABYTE,
        "mode": "1777",
        "device": "",
        "somaxconn": "77",
    }
    assert site.inspected()["HostConfig"]["DeviceCgroupRules"] == ["c 10:229 rw"]


async def test_a_container_may_share_what_the_host_has(site: Site) -> None:
    await site.start(access=Access(pid="host", uts="host", cgroup="host", ipc="host"))
    host = site.inspected()["HostConfig"]
    assert (host["PidMode"], host["UTSMode"], host["CgroupnsMode"], host["IpcMode"]) == ("host",) * 4


LISTENS_WITH_OTHERS = """
import socket, time
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
listener.bind(("127.0.0.1", %d))
listener.listen()
time.sleep(60)
"""


async def test_who_shares_a_port_of_the_host_with_a_container_is_a_stranger_beside_it(site: Site) -> None:
    port = free_port()
    made = await site.release(command=(*PYTHON, LISTENS_WITH_OTHERS % port), networks=(HOST_NETWORK,))
    release = made.replace(service=made.service.replace(port=port))
    replica = Replica(name=f"{site.project}-web-1-1", address=f"{LOOPBACK}:{port}")
    started = await site.runtime.start(release, replica, Colour.GREEN, "web-r1")
    assert started.incarnation is not None
    own = [started.incarnation.container]
    async with asyncio.timeout(10):
        while not await site.runtime.stranger(port, ()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert await site.runtime.stranger(port, own) == ""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind((LOOPBACK, port))
        other.listen()
        assert (await site.runtime.stranger(port, own)).startswith(f"pid {os.getpid()} (")


async def test_a_container_has_its_names_and_finds_others_by_those_it_is_given(site: Site) -> None:
    await site.start(
        names=Names(
            hostname="web",
            domainname="shop.test",
            dns=("10.0.0.53",),
            dns_opt=("ndots:2",),
            dns_search=("shop.test",),
            extra_hosts=(("db", "10.0.0.5"), ("host", "host-gateway")),
        )
    )
    hosts = site.inside("""
import socket
print(json.dumps([socket.gethostname(), [line.split() for line in open("/etc/hosts")]]))""")
    assert hosts[0] == "web"
    assert ["10.0.0.5", "db"] in hosts[1]
    assert any(line[1:] == ["host"] for line in hosts[1])
    host = site.inspected()["HostConfig"]
    assert (host["Dns"], host["DnsOptions"], host["DnsSearch"]) == (["10.0.0.53"], ["ndots:2"], ["shop.test"])
    assert site.inspected()["Config"]["Domainname"] == "shop.test"


async def test_output_goes_where_the_definition_says(site: Site) -> None:
    await site.start(logging=Logging(driver="json-file", options=(("max-size", "1m"),)), tty=True, stdin_open=True)
    found = site.inspected()
    assert found["HostConfig"]["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "1m"}}
    assert (found["Config"]["Tty"], found["Config"]["OpenStdin"]) == (True, True)


# --- what is mounted and copied in --------------------------------------------------------------------------------


async def test_secrets_and_configs_are_files_that_only_the_container_reads(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    (tmp_path / "db").write_text("from a file")
    await site.start(
        user="1000",
        secrets=(
            GrantedFile(target="/run/secrets/db", content=f"file:{tmp_path}/db"),
            GrantedFile(target="/run/secrets/token", content="env:TOKEN", uid=1000, mode=0o400),
        ),
        configs=(GrantedFile(target="/etc/shop/app.ini", content="text:level=debug\n"),),
    )
    seen = site.inside("""
def told(path):
    found = os.stat(path)
    return [open(path).read(), found.st_uid, oct(found.st_mode)[-3:]]
print(json.dumps([told(path) for path in ("/run/secrets/token", "/etc/shop/app.ini")]))""")
    assert seen == [[SECRET, 1000, "400"], ["level=debug\n", 0, "444"]]
    assert site.inside('print(json.dumps(open("/run/secrets/db").read()))') == "from a file"
    (mounted,) = [mount for mount in site.inspected()["Mounts"] if mount["Destination"] == "/run/secrets/db"]
    assert mounted["RW"] is False
    assert SECRET not in str(site.inspected())


async def test_a_file_mounted_into_a_read_only_container_can_be_read(site: Site, tmp_path: Path) -> None:
    (tmp_path / "db").write_text("from a file")
    await site.start(
        access=Access(read_only=True), secrets=(GrantedFile(target="/run/secrets/db", content=f"file:{tmp_path}/db"),)
    )
    assert site.inside('print(json.dumps(open("/run/secrets/db").read()))') == "from a file"


async def test_a_secret_that_is_gone_is_named_and_nothing_is_left(site: Site, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=f"{tmp_path}/none"):
        await site.start(secrets=(GrantedFile(target="/run/secrets/db", content=f"file:{tmp_path}/none"),))
    with pytest.raises(Unavailable, match="the file /run/x wants the variable PROXYCTL_TEST_UNSET"):
        await site.start(secrets=(GrantedFile(target="/run/x", content="env:PROXYCTL_TEST_UNSET"),))
    assert site.containers() == []


async def test_a_volume_without_a_name_ends_with_its_container(site: Site) -> None:
    replica = await site.start(volumes=("/cache",))
    (mounted,) = site.inspected()["Mounts"]
    assert (mounted["Type"], mounted["Destination"]) == ("volume", "/cache")
    await site.runtime.stop(replica.name, 0.0)
    assert site.engine.volumes.list(filters={"name": mounted["Name"]}) == []


# --- hooks --------------------------------------------------------------------------------------------------------


async def test_hooks_after_the_start_run_in_their_order_inside(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    write = "import os; print(os.getcwd(), os.getuid(), os.environ.get('A'), file=open('/tmp/said', 'a'))"
    await site.start(
        tmpfs=(Tmpfs(target="/tmp", mode=0o1777),),
        post_start=(
            python(f"{write}; os.chmod('/tmp/said', 0o666)"),
            python(write).replace(user="1000", working_dir="/tmp", environment=(("A", "env:TOKEN"),)),
        ),
    )
    assert site.inside("print(json.dumps(open('/tmp/said').read()))") == f"/ 0 None\n/tmp 1000 {SECRET}\n"


async def test_a_hook_that_fails_after_the_start_refuses_the_replica_with_its_last_words(site: Site) -> None:
    with pytest.raises(Unavailable, match=r"post_start of .*-web-1-1: .* exited with code 3") as refused:
        await site.start(post_start=(python("print('no cache'); raise SystemExit(3)"),))
    assert refused.value.detail == "no cache"
    assert site.containers() == []


async def test_a_hook_that_cannot_be_run_is_told_in_the_engines_words(site: Site) -> None:
    with pytest.raises(Unavailable, match=r"/no/such/hook exited with code 12[67]") as refused:
        await site.start(post_start=(Hook(command=("/no/such/hook",)),))
    assert "no such file" in refused.value.detail
    assert site.containers() == []


async def test_a_hook_of_a_container_that_is_gone_is_not_waited_for(site: Site) -> None:
    with pytest.raises(Unavailable, match="post_start of"):
        await site.start(image="exits", post_start=(python("import time; time.sleep(3600)"),))
    assert site.containers() == []


async def test_a_hook_of_a_paused_container_fails_at_once(site: Site) -> None:
    replica = await site.start()
    assert replica.incarnation is not None
    site.containers()[0].pause()
    engine = EngineCalls()
    with pytest.raises(Unavailable, match="paused"):
        await Execs(engine).end_of(python(""), replica.incarnation.container, "running a hook")
    await engine.close()


async def test_what_a_hook_leaves_running_is_not_waited_for(site: Site) -> None:
    began = time.monotonic()
    await site.start(post_start=(python("import os, time\nif not os.fork(): time.sleep(60)"),))
    assert time.monotonic() - began < 10.0


async def test_a_hook_is_killed_when_the_start_is_given_up(site: Site) -> None:
    starting = asyncio.create_task(site.start(post_start=(python("import time; time.sleep(3600)"),)))
    while "sleep(3600)" not in str(running := _processes(site)):
        await asyncio.sleep(0.1)
        assert not starting.done(), running
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert "sleep(3600)" not in str(_processes(site))


def _processes(site: Site) -> object:
    return [container.top() for container in site.containers() if container.status == "running"]


async def test_hooks_run_before_the_stop_signal(site: Site, tmp_path: Path) -> None:
    says = """
import signal
signal.signal(15, lambda *_: (print('term', file=open('/said/x', 'a')), exit(0)))
signal.pause()"""
    replica = await site.start(
        entrypoint=PYTHON,
        command=(says,),
        volumes=(f"{tmp_path}:/said",),
        pre_stop=(hook := python("print('bye', file=open('/said/x', 'a'))"),),
    )
    await asyncio.sleep(0.5)  # until it listens to signals
    assert await site.runtime.stop(replica.name, 5.0, (hook,)) == ""
    assert (tmp_path / "x").read_text() == "bye\nterm\n"
    assert site.containers() == []


async def test_hooks_share_the_grace_period_and_keep_no_container_from_its_end(site: Site) -> None:
    replica = await site.start()
    began = time.monotonic()
    failed = await site.runtime.stop(replica.name, 2.0, (python("import time; time.sleep(3600)"),))
    assert "took more than the grace period of 2 s" in failed
    assert time.monotonic() - began < 6.0
    assert site.containers() == []


async def test_a_hook_that_fails_before_the_stop_is_told(site: Site) -> None:
    replica = await site.start()
    assert "exited with code 5" in await site.runtime.stop(replica.name, 5.0, (python("raise SystemExit(5)"),))
    assert site.containers() == []


async def test_a_container_that_ended_by_itself_has_nothing_to_do_before_its_stop(site: Site) -> None:
    replica = await site.start(image="exits")
    while (await site.runtime.inspect([replica.name]))[0].life is Life.RUNNING:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    assert await site.runtime.stop(replica.name, 5.0, (python("raise SystemExit(5)"),)) == ""
    assert site.containers() == []
