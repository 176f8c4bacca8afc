"""What every `Prober` promises. The two that speak HTTP meet the same well-meant and hostile servers, the engine's
meets real containers, the one in memory a world of its own."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import subprocess
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import docker
import pytest

from proxyctl.adapters.docker.execs import KILLED_WITHIN
from proxyctl.adapters.docker.prober import DockerProber
from proxyctl.adapters.docker.runtime import DockerRuntime
from proxyctl.adapters.memory import MemoryProber, MemoryWorld
from proxyctl.adapters.prober import AiohttpProber
from proxyctl.adapters.raw_prober import RawProber
from proxyctl.domain.model import Colour, Container, DockerHealth, HealthCheck, HealthKind, Replica, ServiceName
from proxyctl.ports import Endpoint, Prober, ProbeResult
from tests.releases import a_release

TIMEOUT = 1.0
LATE = 2.0  # a probe ends within its timeout and this much more, on a busy machine

HTTP = HealthCheck(kind=HealthKind.HTTP, path="/healthz", timeout=TIMEOUT)
TCP = HealthCheck(kind=HealthKind.TCP, timeout=TIMEOUT)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"

Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Reads one request, then speaks as it is told. `heard` is the request."""

    def __init__(self, speak: Speak) -> None:
        self._speak = speak
        self.heard = ""
        self.served = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            self.heard = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.served += 1
            await self._speak(reader, writer)
        writer.close()


def says(answer: bytes) -> Speak:
    async def speak(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    return speak


async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for byte in OK * 1000:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)


async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read(1)


async def endless_body(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def endless_headers(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX-Big: ")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


@asynccontextmanager
async def serving(speak: Speak, **options: object) -> AsyncIterator[tuple[Server, Endpoint]]:
    server = Server(speak)
    listening = await asyncio.start_server(server, "127.0.0.1", 0, **options)  # type: ignore[arg-type]
    host, port = listening.sockets[0].getsockname()
    try:
        yield server, Endpoint(replica="web-1-1", address=f"{host}:{port}")
    finally:
        listening.close()


@pytest.fixture(params=[AiohttpProber, RawProber], ids=["aiohttp", "raw"])
def prober(request: pytest.FixtureRequest) -> Prober:
    made: Prober = request.param()
    return made


_watched = list[list[str]]()  # an audit hook stays for ever, so it tells those that listen


def _tell(event: str, what: tuple[object, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo") and _watched:
        address = what[1] if event == "socket.connect" else what
        _watched[-1].append(str(address[0] if isinstance(address, tuple) else address))


sys.addaudithook(_tell)


@pytest.fixture
def reached_out() -> Iterator[list[str]]:
    """Whom this process connects to or looks up, as the interpreter itself tells."""
    _watched.append([])
    yield _watched[-1]
    _watched.pop()


async def probed(prober: Prober, speak: Speak, check: HealthCheck = HTTP) -> ProbeResult:
    async with serving(speak) as (_, endpoint):
        return await prober.probe(endpoint, check)


# --- what passes ------------------------------------------------------------------------------------------------


async def test_a_healthy_application_passes(prober: Prober) -> None:
    result = await probed(prober, says(OK))
    assert (result.passed, result.reason) == (True, "200")
    assert result.elapsed < TIMEOUT


@pytest.mark.parametrize(("status", "passed"), [(200, True), (204, True), (205, False), (300, False), (404, True)])
async def test_the_expected_statuses_are_ranges_with_both_ends(prober: Prober, status: int, passed: bool) -> None:
    answer = f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode()
    check = HTTP.replace(statuses=((200, 204), (404, 404)))
    assert (await probed(prober, says(answer), check)).passed is passed


async def test_an_unexpected_status_says_which_ones_were_wanted(prober: Prober) -> None:
    answer = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
    result = await probed(prober, says(answer), HTTP.replace(statuses=((200, 204), (301, 301))))
    assert (result.passed, result.reason) == (False, "503 instead of 200-204, 301")


async def test_a_redirect_is_not_followed(prober: Prober) -> None:
    async with serving(says(OK)) as (elsewhere, target):
        answer = f"HTTP/1.1 302 Found\r\nLocation: http://{target.address}/\r\nContent-Length: 0\r\n\r\n".encode()
        result = await probed(prober, says(answer))
    assert not result.passed
    assert result.reason == f"302: redirects to http://{target.address}/ (not followed)"
    assert elsewhere.served == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("metadata", ["169.254.169.254", "[fd00:ec2::254]", "metadata.google.internal"])
async def test_a_redirect_to_the_secrets_of_the_machine_goes_nowhere(
    prober: Prober, metadata: str, status: int, reached_out: list[str]
) -> None:
    """An application must not have proxyctl, which is root, ask a cloud's metadata service."""
    target = f"http://{metadata}/latest/meta-data/iam/"
    answer = f"HTTP/1.1 {status} X\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode()
    async with serving(says(answer)) as (_, endpoint):
        refused = await prober.probe(endpoint, HTTP)
        wanted = await prober.probe(endpoint, HTTP.replace(statuses=((300, 399),)))
    assert (refused.passed, refused.reason) == (False, f"{status}: redirects to {target} (not followed)")
    assert (wanted.passed, wanted.reason) == (True, str(status))
    assert set(reached_out) == {endpoint.address.rpartition(":")[0]}


async def test_an_interim_answer_is_not_the_answer(prober: Prober) -> None:
    result = await probed(prober, says(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK))
    assert (result.passed, result.reason) == (True, "200")


async def test_the_request_is_the_one_that_was_asked_for(prober: Prober) -> None:
    check = HTTP.replace(method="POST", path="/a%2Fb?c=d", host="shop.example.com", headers=(("X-Probe", "1"),))
    async with serving(says(OK)) as (server, endpoint):
        assert (await prober.probe(endpoint, check)).passed
    line, *headers = server.heard.lower().split("\r\n")
    assert line == "post /a%2fb?c=d http/1.1"
    assert {"host: shop.example.com", "x-probe: 1", "user-agent: proxyctl"} <= set(headers)


async def test_the_host_is_the_services_first_one_when_the_check_names_none(prober: Prober) -> None:
    async with serving(says(OK)) as (server, endpoint):
        await prober.probe(endpoint.replace(host="shop.example.com"), HTTP)
        assert "host: shop.example.com\r\n" in server.heard.lower()


async def test_a_proxy_of_the_environment_is_not_used(prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert (await probed(prober, says(OK))).passed


async def test_a_unix_socket_is_asked_under_its_prefix(prober: Prober, tmp_path: Path) -> None:
    server = Server(says(OK))
    listening = await asyncio.start_unix_server(server, tmp_path / "control.sock")
    endpoint = Endpoint(replica="nginx", socket=str(tmp_path / "control.sock"), prefix="/upstream/web/blue")
    result = await prober.probe(endpoint, HTTP)
    listening.close()
    assert result.passed
    assert server.heard.startswith("GET /upstream/web/blue/healthz HTTP/1.1\r\n")


# --- the body ---------------------------------------------------------------------------------------------------

WANTS_BODY = HTTP.replace(body="all is well")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{all is well}",
        CHUNKED + b"5\r\n{all \r\n8;x=y\r\nis well}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{all is well}",
    ],
    ids=["length", "chunked", "until the end"],
)
async def test_the_wanted_text_is_found_however_the_body_comes(prober: Prober, answer: bytes) -> None:
    assert (await probed(prober, says(answer), WANTS_BODY)).passed


async def test_a_body_without_the_wanted_text_fails(prober: Prober) -> None:
    result = await probed(prober, says(OK), WANTS_BODY)
    assert (result.passed, result.reason) == (False, "200, but the body lacks 'all is well'")


async def test_a_server_that_keeps_the_connection_open_is_not_waited_for(prober: Prober) -> None:
    async def stays(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await hang(reader, writer)

    result = await probed(prober, stays, WANTS_BODY)
    assert result.reason == "200, but the body lacks 'all is well'"


async def test_text_beyond_64_kib_is_not_found(prober: Prober) -> None:
    body = b"x" * 65536 + b"all is well"
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    assert not (await probed(prober, says(answer), WANTS_BODY)).passed


async def test_a_compressed_body_is_not_unpacked(prober: Prober) -> None:
    bomb = gzip.compress(b"all is well" + bytes(50_000_000))
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s" % (len(bomb), bomb)
    result = await probed(prober, says(answer), WANTS_BODY)
    assert not result.passed
    assert result.elapsed < TIMEOUT + LATE


# --- hostile servers --------------------------------------------------------------------------------------------

BIG = b"X-Big: %s\r\n"
TOO_LONG = ("headers over 16 KiB", "not an HTTP answer")  # aiohttp does not say which

HOSTILE: dict[str, tuple[Speak, tuple[str, ...]]] = {
    "drip": (drip, ("no answer in 1 s",)),
    "hang": (hang, ("no answer in 1 s",)),
    "endless headers": (endless_headers, TOO_LONG),
    "huge header": (says(b"HTTP/1.1 200 OK\r\n" + BIG % (b"x" * 100_000) + b"\r\n"), TOO_LONG),
    "many headers": (says(b"HTTP/1.1 200 OK\r\n" + BIG % (b"x" * 1000) * 50 + b"\r\n"), TOO_LONG),
    "HTTP/0.9": (says(b"<html>all is well</html>\n"), ("not an HTTP answer",)),
    "garbage": (says(bytes(range(256)) * 8 + b"\r\n\r\n"), ("not an HTTP answer",)),
    "no status": (says(b"HTTP/1.1 OK\r\n\r\n"), ("not an HTTP answer",)),
    "closed": (says(b""), ("closed without an answer",)),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_server_fails_in_time_and_in_words(prober: Prober, name: str) -> None:
    speak, reasons = HOSTILE[name]
    started = time.monotonic()
    result = await probed(prober, speak, WANTS_BODY)
    assert not result.passed
    assert result.reason in reasons
    assert time.monotonic() - started < TIMEOUT + LATE


async def test_an_endless_body_is_read_no_further_than_64_kib(prober: Prober) -> None:
    result = await probed(prober, endless_body, WANTS_BODY)
    assert result.reason == "200, but the body lacks 'all is well'"
    assert result.elapsed < TIMEOUT + LATE


async def test_a_body_that_nobody_wants_is_not_waited_for(prober: Prober) -> None:
    result = await probed(prober, endless_body)
    assert (result.passed, result.reason) == (True, "200")


async def test_an_answer_cut_short_fails_when_its_text_is_wanted(prober: Prober) -> None:
    result = await probed(prober, says(CHUNKED + b"ff\r\nall is"), WANTS_BODY)
    assert not result.passed


async def test_a_length_that_was_promised_and_never_came_is_not_waited_for_beyond_the_timeout(prober: Prober) -> None:
    async def lies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\nall is")
        await hang(reader, writer)

    result = await probed(prober, lies, WANTS_BODY)
    assert (result.passed, result.reason) == (False, "no answer in 1 s")
    assert result.elapsed < TIMEOUT + LATE


async def test_a_server_that_never_accepts_is_not_waited_for_beyond_the_timeout(prober: Prober) -> None:
    """The kernel has taken the connection for it, and nobody reads."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        host, port = deaf.getsockname()
        result = await prober.probe(Endpoint(replica="web-1-1", address=f"{host}:{port}"), HTTP)
    assert (result.passed, result.reason) == (False, "no answer in 1 s")
    assert result.elapsed < TIMEOUT + LATE


async def test_a_flood_takes_no_memory(prober: Prober) -> None:
    floods = (endless_body, endless_headers, drip)
    await asyncio.gather(*(probed(prober, flood, WANTS_BODY) for flood in floods))  # whatever is made once is made
    tracemalloc.start()
    try:
        await asyncio.gather(*(probed(prober, flood, WANTS_BODY) for flood in floods * 4))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 << 20


# --- connections ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [HTTP, TCP], ids=["http", "tcp"])
async def test_a_refused_connection_is_said_to_be_one(prober: Prober, check: HealthCheck) -> None:
    result = await prober.probe(Endpoint(replica="web-1-1", address="127.0.0.1:1"), check)
    assert (result.passed, result.reason) == (False, "connection refused")


async def test_a_missing_socket_fails_in_words(prober: Prober, tmp_path: Path) -> None:
    result = await prober.probe(Endpoint(replica="nginx", socket=str(tmp_path / "none.sock")), HTTP)
    assert (result.passed, result.reason) == (False, "no such file or directory")


async def test_for_tcp_a_connection_is_enough(prober: Prober) -> None:
    result = await probed(prober, hang, TCP)
    assert (result.passed, result.reason) == (True, "connected")


# --- TLS --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server's side of TLS with a certificate that nobody trusts, for shop.example.com."""
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(cert), "-subj", "/CN=shop.example.com", "-days", "2"]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return context


async def test_an_untrusted_certificate_fails(prober: Prober, certificate: ssl.SSLContext) -> None:
    async with serving(says(OK), ssl=certificate) as (_, endpoint):
        result = await prober.probe(endpoint, HTTP.replace(scheme="https"))
    assert (result.passed, result.reason) == (False, "TLS: self-signed certificate")


async def test_an_untrusted_certificate_passes_where_verification_is_off(
    prober: Prober, certificate: ssl.SSLContext
) -> None:
    names: list[str | None] = []
    certificate.sni_callback = lambda _socket, name, _context: names.append(name)
    check = HTTP.replace(scheme="https", verify=False, host="shop.example.com")
    async with serving(says(OK), ssl=certificate) as (_, endpoint):
        result = await prober.probe(endpoint, check)
    assert (result.passed, result.reason) == (True, "200")
    assert names == ["shop.example.com"]


async def test_plain_http_answered_to_https_fails_in_words(prober: Prober) -> None:
    result = await probed(prober, says(OK), HTTP.replace(scheme="https"))
    assert not result.passed
    assert result.reason.startswith(("TLS: ", "no answer in"))


# --- in memory --------------------------------------------------------------------------------------------------


async def test_in_memory_an_application_answers_as_long_as_it_runs() -> None:
    world = MemoryWorld()
    prober, endpoint = MemoryProber(world), Endpoint(replica="web-1-1", address="172.30.0.2:8000")
    assert (await prober.probe(endpoint, HTTP)).reason == "connection refused"
    world.run("web-1-1", "172.30.0.2", "shop:1", ServiceName("web"))
    assert (await prober.probe(endpoint, HTTP)).passed
    world.sick.add("shop:1")
    assert (await prober.probe(endpoint, HTTP)).reason == "503 instead of 200-299"


# --- the engine's -----------------------------------------------------------------------------------------------

PYTHON = str(Path(sys.executable).resolve())
EXEC = HealthCheck(kind=HealthKind.EXEC, timeout=3.0)
BY_ENGINE = HealthCheck(kind=HealthKind.DOCKER, timeout=3.0)


class Bench:
    """One container of the demo application, and the engine's prober."""

    def __init__(self, engine: docker.DockerClient, project: str, root: Path, image: str) -> None:
        self._engine = engine
        self._image = image
        self.runtime = DockerRuntime(project, root)
        self.prober = DockerProber(self.runtime)
        self.name = f"{project}-web-1-1"

    async def started(self, healthcheck: DockerHealth | None = None) -> Endpoint:
        image = await self.runtime.resolve(Container(image=self._image), print)
        release = a_release(1, image.reference, image.digest, healthcheck=healthcheck)
        replica = Replica(name=self.name, address=(await self.runtime.network()).slots[0])
        await self.runtime.start(release, replica, Colour.BLUE, "web-r1")
        return Endpoint(replica=self.name)

    def processes(self) -> list[str]:
        return [line[-1] for line in self._engine.containers.get(self.name).top()["Processes"]]


@pytest.fixture
async def bench(
    docker_engine: docker.DockerClient, unique_project: str, tmp_path: Path, demo_images: dict[str, str]
) -> AsyncIterator[Bench]:
    made = Bench(docker_engine, unique_project, tmp_path, demo_images["1"])
    yield made
    await made.runtime.close()


def python(code: str) -> tuple[str, ...]:
    return (PYTHON, "-S", "-c", code)


@pytest.mark.docker
async def test_a_command_inside_passes_when_it_exits_with_0(bench: Bench) -> None:
    endpoint = await bench.started()
    good = await bench.prober.probe(endpoint, EXEC.replace(command=python("pass")))
    bad = await bench.prober.probe(endpoint, EXEC.replace(command=python("raise SystemExit(7)")))
    assert (good.passed, good.reason) == (True, "exit code 0")
    assert (bad.passed, bad.reason) == (False, "exit code 7")


@pytest.mark.docker
async def test_a_command_that_does_not_exist_fails_in_words(bench: Bench) -> None:
    result = await bench.prober.probe(await bench.started(), EXEC.replace(command=("/no/such/command",)))
    assert not result.passed
    assert "/no/such/command" in result.reason


@pytest.mark.docker
async def test_a_command_that_outlives_its_timeout_fails_and_is_killed(bench: Bench) -> None:
    check = EXEC.replace(command=python("import time; time.sleep(300)"), timeout=1.0)
    endpoint = await bench.started()
    result = await bench.prober.probe(endpoint, check)
    assert (result.passed, result.reason) == (False, "no answer in 1 s")
    assert result.elapsed < 1.0 + KILLED_WITHIN + LATE
    assert not any("sleep(300)" in process for process in bench.processes())


@pytest.mark.docker
@pytest.mark.parametrize("after", [0.001, 0.004, 0.01, 0.03, 0.1])
async def test_a_command_is_killed_however_early_it_is_given_up(bench: Bench, after: float) -> None:
    endpoint = await bench.started()
    check = EXEC.replace(command=python("import time; time.sleep(300)"), timeout=after)
    for _ in range(4):
        await bench.prober.probe(endpoint, check)
    await asyncio.sleep(1.0)  # for a start that was still on its way
    assert not any("sleep(300)" in process for process in bench.processes())


@pytest.mark.docker
async def test_the_images_own_healthcheck_decides(bench: Bench) -> None:
    test = ("CMD", *python("pass"))
    endpoint = await bench.started(DockerHealth(test=test, interval=0.5, timeout=3.0, retries=1))
    assert not (await bench.prober.probe(endpoint, BY_ENGINE)).passed  # starting
    async with asyncio.timeout(10):
        while not (result := await bench.prober.probe(endpoint, BY_ENGINE)).passed:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert result.reason == "healthy"


@pytest.mark.docker
async def test_an_image_without_a_healthcheck_never_passes_one(bench: Bench) -> None:
    result = await bench.prober.probe(await bench.started(), BY_ENGINE)
    assert (result.passed, result.reason) == (False, "the image has no HEALTHCHECK")


@pytest.mark.docker
async def test_without_a_check_running_is_enough(bench: Bench) -> None:
    check = HealthCheck(kind=HealthKind.NONE, timeout=3.0)
    assert (await bench.prober.probe(await bench.started(), check)).passed
    await bench.runtime.stop(bench.name, 0.0)
    gone = await bench.prober.probe(Endpoint(replica=bench.name), check)
    assert (gone.passed, gone.reason) == (False, "absent")
