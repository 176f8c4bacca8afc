"""Containers by docker-py: the `Runtime` port, and the health checks that need the engine.

SDK types never leave this file. Calls block, so they run on a small pool with one client per thread; a late call raises
OutcomeUnknown, because a thread cannot be cancelled and the effect may have happened: observe, never repeat blindly.
Containers are found by name and held to our labels; one without them is never touched.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import os
import re
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import Healthcheck, IPAMConfig, IPAMPool

from proxyctl.domain.model import (
    Colour,
    Container,
    HealthCheck,
    HealthKind,
    Incarnation,
    Release,
    Replica,
    Seconds,
    ServiceName,
)
from proxyctl.errors import (
    AddressTaken,
    ConfigRejected,
    DockerUnavailable,
    ImageUnavailable,
    NameTaken,
    NoSpace,
    OutcomeUnknown,
    ProxyctlError,
    StateUnusable,
    Unavailable,
)
from proxyctl.ports import Endpoint, Image, Life, Network, ProbeResult, ReplicaState, Traffic

T = TypeVar("T")

THREADS = 8
CALL_LIMIT: Seconds = 10.0
START_LIMIT: Seconds = 60.0
PULL_LIMIT: Seconds = 1800.0
FOLLOW_LIMIT = 7 * 24 * 3600  # of a stream of output that says nothing
NANO = 1_000_000_000


class DockerRuntime:
    """Implements `Runtime` for one project."""

    def __init__(self, project: str, state_root: Path) -> None:
        self._project = project
        self._state_root = state_root
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="docker")
        self._local = threading.local()
        self._making_networks = threading.Lock()  # the engine allows two networks of one name

    async def resolve(self, image: str, progress: Callable[[str], None]) -> Image:
        def look(client: docker.DockerClient) -> Image:
            try:
                found = client.images.get(image)
            except ImageNotFound:
                _pull(client, image, progress)
                found = client.images.get(image)
            return Image(reference=image, digest=str(found.id))

        return await self._call(look, PULL_LIMIT, f"resolving {image}")

    async def network(self) -> Network:
        return await self._call(self._network, CALL_LIMIT, "looking up the slot network")

    async def start(self, release: Release, replica: Replica, colour: Colour, rollout: str) -> Replica:
        def work(client: docker.DockerClient) -> Replica:
            with self._making_networks:
                self._network(client)
                self._make_project_network(client)
            return self._start(client, release, replica, colour, rollout)

        return await self._call(work, START_LIMIT, f"starting {replica.name}")

    async def adopt_restart_policy(self, release: Release, names: Sequence[str]) -> None:
        policy = _restart_policy(release.service.container.restart)

        def work(client: docker.DockerClient) -> None:
            for name in names:
                container = self._ours(client, name)
                if container is not None:
                    container.update(restart_policy=policy)

        await self._call(work, CALL_LIMIT, f"updating {', '.join(names)}")

    async def stop(self, name: str, grace: Seconds) -> None:
        def work(client: docker.DockerClient) -> None:
            container = self._ours(client, name)
            if container is not None:
                with suppress(NotFound):
                    container.stop(timeout=math.ceil(grace))
                _remove(container)

        await self._call(work, CALL_LIMIT + grace, f"stopping {name}")

    async def inspect(self, names: Sequence[str]) -> list[ReplicaState]:
        def work(client: docker.DockerClient) -> list[ReplicaState]:
            return [self._state(client, name) for name in names]

        return await self._call(work, CALL_LIMIT, "inspecting containers")

    async def owned(self, service: ServiceName | None = None) -> list[ReplicaState]:
        labels = [f"proxyctl.project={self._project}"] + ([f"proxyctl.service={service}"] if service else [])

        def work(client: docker.DockerClient) -> list[ReplicaState]:
            found = client.api.containers(all=True, filters={"label": labels})
            return [self._state(client, item["Names"][0].lstrip("/")) for item in found]

        return await self._call(work, CALL_LIMIT, "listing containers")

    async def logs(self, name: str, tail: int) -> str:
        def work(client: docker.DockerClient) -> str:
            container = self._ours(client, name)
            return "" if container is None else container.logs(tail=tail).decode("utf-8", "replace")

        return await self._call(work, CALL_LIMIT, f"reading the output of {name}")

    async def follow(self, name: str, tail: int) -> AsyncIterator[str]:
        """Lines as they come, until the container ends; closing the iterator closes the stream."""
        lines: asyncio.Queue[str | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        client = docker.from_env(timeout=FOLLOW_LIMIT)
        stream = client.containers.get(name).logs(stream=True, follow=True, tail=tail)

        def pump() -> None:
            for chunk in stream:
                loop.call_soon_threadsafe(lines.put_nowait, chunk.decode("utf-8", "replace").rstrip("\n"))
            loop.call_soon_threadsafe(lines.put_nowait, None)

        threading.Thread(target=pump, daemon=True).start()
        try:
            while (line := await lines.get()) is not None:
                yield line
        finally:
            stream.close()

    async def traffic(self, name: str, port: int) -> Traffic:
        def work(client: docker.DockerClient) -> Traffic:
            container = self._ours(client, name)
            if container is None or container.status != "running":
                return Traffic(connections=0, quiet_for=math.inf)
            return _traffic(container.attrs["State"]["Pid"], port)

        return await self._call(work, CALL_LIMIT, f"looking at the connections of {name}")

    async def run_in(self, name: str, command: Sequence[str]) -> int:
        """The exit code of a command run inside a container of ours."""

        def work(client: docker.DockerClient) -> int:
            container = self._ours(client, name)
            if container is None:
                raise Unavailable(f"{name} is gone")
            return int(container.exec_run(list(command)).exit_code or 0)

        return await self._call(work, START_LIMIT, f"running {command[0]} in {name}")

    async def remove_networks(self) -> None:
        """Both networks of the project; one that still has containers stays."""

        def work(client: docker.DockerClient) -> None:
            for network in client.networks.list(filters={"label": f"proxyctl.project={self._project}"}):
                with suppress(APIError):
                    network.remove()

        await self._call(work, CALL_LIMIT, "removing networks")

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    # --- one call ---------------------------------------------------------------------------------------------

    async def _call(self, work: Callable[[docker.DockerClient], T], limit: Seconds, what: str) -> T:
        """Run on the pool within the limit; the SDK's errors become ours."""

        def named() -> T:
            try:
                return work(self._client(limit))
            except (DockerException, requests.RequestException, ValueError) as error:
                raise _named(error, what) from error

        job = asyncio.get_running_loop().run_in_executor(self._threads, named)
        try:
            return await asyncio.wait_for(asyncio.shield(job), limit + 1)
        except TimeoutError as late:
            raise OutcomeUnknown(
                f"{what}: the Docker engine has not answered for {limit:g} s",
                serving="traffic stays as it is",
                next_step="docker version; then proxyctl recover",
            ) from late

    def _client(self, limit: Seconds) -> docker.DockerClient:
        """One per thread: the SDK's session is not safe to share."""
        if not hasattr(self._local, "client"):
            self._local.client = docker.from_env(timeout=int(CALL_LIMIT))
        self._local.client.api.timeout = limit
        return self._local.client  # type: ignore[no-any-return]

    # --- containers -------------------------------------------------------------------------------------------

    def _ours(self, client: docker.DockerClient, name: str) -> Any | None:
        """Our container of that name; None when there is none. A stranger's is none of ours."""
        try:
            container = client.containers.get(name)
        except NotFound:
            return None
        return container if container.labels.get("proxyctl.project") == self._project else None

    def _state(self, client: docker.DockerClient, name: str) -> ReplicaState:
        container = self._ours(client, name)
        if container is None:
            return ReplicaState(name=name, life=Life.ABSENT)
        state = container.attrs["State"]
        slots = container.attrs["NetworkSettings"]["Networks"].get(self._slot_network) or {}
        known = state["Status"] in ("running", "paused", "restarting")
        return ReplicaState(
            name=name,
            life=Life(state["Status"]) if known else Life.EXITED,
            incarnation=Incarnation(container=container.id, started_at=state["StartedAt"]),
            address=slots.get("IPAddress") or "",
            exit_code=state["ExitCode"],
            oom_killed=state["OOMKilled"],
            restarts=container.attrs["RestartCount"],
            health=(state.get("Health") or {}).get("Status", ""),
        )

    def _start(
        self, client: docker.DockerClient, release: Release, replica: Replica, colour: Colour, rollout: str
    ) -> Replica:
        running = self._standing(client, release, replica)
        if running is not None:
            return replica.replace(incarnation=running.incarnation)
        container = self._create(client, release, replica, colour, rollout)
        try:
            client.networks.get(self._slot_network).connect(container, ipv4_address=replica.ip)
            container.start()
            return replica.replace(incarnation=self._verified(client, replica))
        except BaseException:
            with suppress(DockerException, requests.RequestException):
                _remove(container)
            raise

    def _standing(self, client: docker.DockerClient, release: Release, replica: Replica) -> ReplicaState | None:
        """The replica when it runs already; what is left of an earlier try is removed."""
        try:
            found = client.containers.get(replica.name)
        except NotFound:
            return None
        labels = found.labels
        if labels.get("proxyctl.project") != self._project:
            raise NameTaken(
                f"a container named {replica.name} exists and is not proxyctl's",
                serving="nothing was changed",
                next_step=f"docker rename {replica.name} SOMETHING-ELSE, or docker rm it",
            )
        state = self._state(client, replica.name)
        if state.life is Life.RUNNING and labels.get("proxyctl.release") == release.id and state.address == replica.ip:
            return state
        _remove(found)
        return None

    def _create(
        self, client: docker.DockerClient, release: Release, replica: Replica, colour: Colour, rollout: str
    ) -> Any:
        definition = release.service.container
        networks = definition.networks or (self._project_network,)
        labels = dict(definition.labels) | {
            "proxyctl.project": self._project,
            "proxyctl.service": release.service.name,
            "proxyctl.release": release.id,
            "proxyctl.colour": colour.value,
            "proxyctl.replica": replica.name.rpartition("-")[2],
            "proxyctl.rollout": rollout,
        }
        container = client.containers.create(
            release.digest,
            name=replica.name,
            labels=labels,
            restart_policy=_restart_policy("no"),
            network=networks[0],
            environment=resolved_environment(definition),
            **_options(definition),
        )
        try:
            for network in networks[1:]:
                client.networks.get(network).connect(container)
        except BaseException:
            _remove(container)
            raise
        return container

    def _verified(self, client: docker.DockerClient, replica: Replica) -> Incarnation:
        """It exists where it should; whether it lives on is the gate's question."""
        seen = self._state(client, replica.name)
        if seen.incarnation is None or (seen.life is Life.RUNNING and seen.address != replica.ip):
            raise AddressTaken(
                f"{replica.name} started at {seen.address or 'no address'} instead of {replica.ip}",
                next_step=f"docker network inspect {self._slot_network}",
            )
        return seen.incarnation

    # --- networks ---------------------------------------------------------------------------------------------

    @property
    def _slot_network(self) -> str:
        return f"proxyctl-{self._project}-slots"

    @property
    def _project_network(self) -> str:
        """What a container joins whose definition names no network."""
        return f"proxyctl-{self._project}"

    def _network(self, client: docker.DockerClient) -> Network:
        try:
            network = client.networks.get(self._slot_network)
        except NotFound:
            network = self._make_slot_network(client)
        labels = network.attrs["Labels"] or {}
        if labels.get("proxyctl.project") != self._project:
            raise NameTaken(f"a network named {self._slot_network} exists and is not proxyctl's")
        if labels.get("proxyctl.state") != str(self._state_root):
            raise StateUnusable(
                f"project {self._project} has its state in {labels.get('proxyctl.state')}, not in {self._state_root}",
                serving="unchanged",
                next_step=f"proxyctl --state {labels.get('proxyctl.state')} ..., or another project name",
            )
        pool = network.attrs["IPAM"]["Config"][0]
        subnet = ipaddress.IPv4Network(pool["Subnet"])
        lower: ipaddress.IPv4Network = next(iter(subnet.subnets()))
        gateway = pool["Gateway"]
        slots = tuple(str(ip) for _, ip in zip(range(4096), lower.hosts(), strict=False) if str(ip) != gateway)
        return Network(name=self._slot_network, gateway=gateway, slots=slots)

    def _make_slot_network(self, client: docker.DockerClient) -> Any:
        """Docker picks a free subnet; then the network is made again with that subnet, so that addresses may be chosen.
        Dynamic addresses come from the upper half and never meet a slot."""
        probe = client.networks.create(self._slot_network, internal=True)
        probe.reload()
        subnet = ipaddress.IPv4Network(probe.attrs["IPAM"]["Config"][0]["Subnet"])
        probe.remove()
        upper = list(subnet.subnets())[1]
        pool = IPAMPool(subnet=str(subnet), iprange=str(upper), gateway=str(next(subnet.hosts())))
        network = client.networks.create(
            self._slot_network,
            internal=True,
            ipam=IPAMConfig(pool_configs=[pool]),
            labels={"proxyctl.project": self._project, "proxyctl.state": str(self._state_root)},
        )
        network.reload()
        return network

    def _make_project_network(self, client: docker.DockerClient) -> None:
        try:
            client.networks.get(self._project_network)
        except NotFound:
            labels = {"proxyctl.project": self._project}
            client.networks.create(self._project_network, labels=labels, check_duplicate=True)


class DockerProber:
    """Implements `Prober` for checks that only the engine can answer: exec, Docker's own HEALTHCHECK, none."""

    def __init__(self, runtime: DockerRuntime) -> None:
        self._runtime = runtime

    async def probe(self, endpoint: Endpoint, check: HealthCheck) -> ProbeResult:
        started = time.monotonic()
        try:
            async with asyncio.timeout(check.timeout):
                passed, reason = await self._look(endpoint.replica, check)
        except TimeoutError:
            passed, reason = False, f"no answer in {check.timeout:g} s"
        except Unavailable as error:
            passed, reason = False, str(error)
        return ProbeResult(passed=passed, reason=reason, elapsed=time.monotonic() - started)

    async def close(self) -> None: ...

    async def _look(self, name: str, check: HealthCheck) -> tuple[bool, str]:
        if check.kind is HealthKind.EXEC:
            code = await self._runtime.run_in(name, check.command)
            return code == 0, f"exit code {code}"
        (state,) = await self._runtime.inspect([name])
        if check.kind is HealthKind.DOCKER:
            return state.health == "healthy", state.health or "the image has no HEALTHCHECK"
        return state.life is Life.RUNNING, state.life.value


# --- what the SDK wants -----------------------------------------------------------------------------------------


def _options(definition: Container) -> dict[str, Any]:
    """The keyword arguments of `containers.create`; what the definition leaves out stays the image's."""
    wanted = {
        "command": None if definition.command is None else list(definition.command),
        "entrypoint": None if definition.entrypoint is None else list(definition.entrypoint),
        "volumes": list(definition.volumes) or None,
        "user": definition.user,
        "working_dir": definition.working_dir,
        "stop_signal": definition.stop_signal,
        "init": definition.init,
        "healthcheck": _healthcheck(definition),
    }
    return {key: value for key, value in wanted.items() if value is not None}


def _healthcheck(definition: Container) -> Healthcheck | None:
    check = definition.healthcheck
    if check is None:
        return None
    times: dict[str, Any] = {
        name: int(value * NANO)
        for name in ("interval", "timeout", "start_period")
        if (value := getattr(check, name)) is not None
    }
    retries: dict[str, Any] = {} if check.retries is None else {"retries": check.retries}
    return Healthcheck(test=list(check.test) or None, **times, **retries)


def _restart_policy(text: str) -> Any:
    name, _, count = text.partition(":")
    return {"Name": name, "MaximumRetryCount": int(count)} if count else {"Name": name}


def resolved_environment(definition: Container) -> dict[str, str]:
    """env_files first, then `environment`; references to secrets are resolved here, at creation, and nowhere else."""
    found: dict[str, str] = {}
    for path in definition.env_file:
        for line in Path(path).read_text().splitlines():
            key, equals, value = line.strip().partition("=")
            if equals and not key.startswith("#"):
                found[key] = value
    return found | {key: _secret(key, value) for key, value in definition.environment}


def _secret(key: str, value: str) -> str:
    kind, _, where = value.partition(":")
    if kind == "env":
        if where not in os.environ:
            raise ConfigRejected(f"environment {key} wants the variable {where}, which is not set")
        return os.environ[where]
    if kind == "file":
        try:
            return Path(where).read_text().rstrip("\n")
        except OSError as error:
            raise ConfigRejected(f"environment {key} wants the file {where}: {error.strerror}") from error
    return value


def _remove(container: Any) -> None:
    with suppress(NotFound):
        container.remove(force=True, v=True)


def _pull(client: docker.DockerClient, image: str, progress: Callable[[str], None]) -> None:
    """One line whenever another layer is there."""
    progress(f"pulling {image}")
    done: set[str] = set()
    tag = None if ":" in image.rpartition("/")[2] or "@" in image else "latest"
    for event in client.api.pull(image, tag=tag, stream=True, decode=True):
        if "error" in event:
            raise APIError(event["error"])
        if event.get("status") in ("Pull complete", "Already exists") and event.get("id") not in done:
            done.add(event["id"])
            progress(f"pulling {image}: {len(done)} layers")


def _traffic(pid: int, port: int) -> Traffic:
    """Established connections to the port, by `ss` inside the container's network namespace."""
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", "ss", "-Htin", "state", "established", f"sport = :{port}"]
    try:
        seen = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"the connections of process {pid} cannot be seen: {error}") from error
    quiet = [
        min(int(ms) for ms in re.findall(r"last(?:snd|rcv):(\d+)", line)) / 1000
        for line in seen.splitlines()
        if "lastsnd" in line or "lastrcv" in line
    ]
    connections = sum(1 for line in seen.splitlines() if line and not line.startswith(("\t", " ")))
    return Traffic(connections=connections, quiet_for=min(quiet, default=math.inf if not connections else 0.0))


def _named(error: Exception, what: str) -> ProxyctlError:
    """The SDK's error in our terms, with the engine's own words. Only the text tells some of them apart."""
    words = str(getattr(error, "explanation", None) or error)
    low = words.lower()
    if isinstance(error, requests.Timeout) or "read timed out" in low:
        return OutcomeUnknown(f"{what}: the Docker engine did not answer in time", next_step="docker version")
    if "no space left" in low:
        return NoSpace(f"{what}: no space left on the Docker host", detail=words, next_step="docker system df")
    if "address already in use" in low:
        return AddressTaken(f"{what}: its address is taken", detail=words)
    registry_words = ("manifest", "pull access", "registry", "lookup")
    if isinstance(error, ImageNotFound) or any(word in low for word in registry_words):
        return ImageUnavailable(
            f"{what}: the image cannot be had", detail=words, next_step="docker pull it by hand, or docker login"
        )
    if isinstance(error, APIError):
        return Unavailable(f"{what}: the Docker engine refused", detail=words, serving="nothing was changed")
    return DockerUnavailable(
        f"{what}: the Docker engine cannot be reached",
        detail=words,
        serving="traffic stays as it is",
        next_step="docker version; start the engine, or set DOCKER_HOST",
    )
