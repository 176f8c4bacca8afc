"""What every `Measurer` promises, against real servers, real commands and a real container."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import docker
import pytest
from aiohttp import web

from proxyctl.adapters.docker.measurer import CandidateMeasurer
from proxyctl.adapters.docker.runtime import DockerRuntime
from proxyctl.adapters.host_measurer import HostMeasurer
from proxyctl.adapters.http_measurer import HttpMeasurer
from proxyctl.domain.model import Colour, Container, Replica, ServiceName
from proxyctl.domain.source import SUCCESS, CandidateCommand, HostCommand, JsonNumber, Measurement, PromQuery, Source
from proxyctl.domain.units import Pairs
from proxyctl.ports import Subject
from tests.releases import a_release

TIMEOUT = 1.0
SUBJECT = Subject(
    project="shop", service=ServiceName("web"), release="web-2", colour=Colour.GREEN, share=500, replica="shop-web-2-1"
)


def a_source(question: PromQuery | JsonNumber | HostCommand | CandidateCommand) -> Source:
    return Source(name="s", question=question, passes=SUCCESS, timeout=TIMEOUT)


class Heard:
    """The requests that a server got."""

    def __init__(self) -> None:
        self.requests = list[web.BaseRequest]()


@asynccontextmanager
async def answering(
    body: str, status: int = 200, headers: dict[str, str] | None = None
) -> AsyncIterator[tuple[str, Heard]]:
    heard = Heard()

    async def answer(request: web.BaseRequest) -> web.Response:
        heard.requests.append(request)
        return web.Response(text=body, status=status, headers=headers)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}", heard
    finally:
        await runner.cleanup()


# --- Prometheus -------------------------------------------------------------------------------------------------


def vector(*values: str) -> str:
    result = [{"metric": {"i": str(at)}, "value": [1435781451.781, value]} for at, value in enumerate(values)]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}})


SCALAR = json.dumps({"status": "success", "data": {"resultType": "scalar", "result": [1435781451.781, "3"]}})
MATRIX = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": []}})
REFUSED = json.dumps({"status": "error", "errorType": "bad_data", "error": "parse error: unexpected end of input"})


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        (vector("0.25"), 200, Measurement(value=0.25)),
        (SCALAR, 200, Measurement(value=3.0)),
        (vector(), 200, Measurement()),
        (vector("NaN"), 200, Measurement()),
        (vector("+Inf"), 200, Measurement(value=float("inf"))),
        (vector("1", "2"), 200, Measurement(error="2 series instead of one; sum() or max() makes them one")),
        (MATRIX, 200, Measurement(error="the query gives a matrix, and no number")),
        (REFUSED, 400, Measurement(error="Prometheus refuses: parse error: unexpected end of input")),
        (vector("one"), 200, Measurement(error="'one' is no number")),
        ("{}", 200, Measurement(error="200, and the answer is not Prometheus's")),
        ("<html>", 502, Measurement(error="502, and the answer is not JSON")),
        ("[" * 50_000, 200, Measurement(error="200, and the answer is not JSON")),
        (" " * 70_000, 200, Measurement(error="the answer is over 64 KiB")),
    ],
)
async def test_an_instant_query_gives_one_number_or_no_data_or_says_why(
    body: str, status: int, expected: Measurement
) -> None:
    async with answering(body, status) as (server, heard):
        question = PromQuery(server=f"{server}/prom/", query='sum(rate(failed{job="a"}[1m])) > 0 & x')
        assert await HttpMeasurer().measure(a_source(question), SUBJECT) == expected
    (request,) = heard.requests
    assert (request.path, request.query["query"]) == ("/prom/api/v1/query", question.query)


# --- JSON -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "path", "expected"),
    [
        ('{"data": {"depth": 12}}', "data.depth", Measurement(value=12.0)),
        ('{"items": [{"age": 1.5}]}', "items.0.age", Measurement(value=1.5)),
        ('{"ready": true}', "ready", Measurement(value=1.0)),
        ('{"0": false}', "0", Measurement(value=0.0)),
        ('{"depth": null}', "depth", Measurement()),
        ('{"depth": NaN}', "depth", Measurement()),
        ('{"depth": "12"}', "depth", Measurement(error="depth is no number")),
        ('{"depth": {}}', "depth", Measurement(error="depth is no number")),
        ('{"depth": 12}', "data.depth", Measurement(error="the answer has no data")),
        ('{"items": []}', "items.0.age", Measurement(error="the answer has no items.0")),
        ("12", "depth", Measurement(error="the answer has no depth")),
        (f'{{"depth": 1{"0" * 400}}}', "depth", Measurement(error="depth is larger than any number that is compared")),
    ],
)
async def test_a_document_gives_the_number_at_a_place(body: str, path: str, expected: Measurement) -> None:
    async with answering(body) as (server, _):
        question = JsonNumber(url=f"{server}/stats?all=1", path=tuple(path.split(".")))
        assert await HttpMeasurer().measure(a_source(question), SUBJECT) == expected


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_a_document_with_another_status_is_none_and_no_redirect_is_followed(status: int) -> None:
    async with answering('{"depth": 1}', status, {"Location": "/elsewhere"}) as (server, heard):
        found = await HttpMeasurer().measure(a_source(JsonNumber(url=server, path=("depth",))), SUBJECT)
    assert found == Measurement(error=f"{status} instead of 200-299")
    assert len(heard.requests) == 1


async def test_headers_carry_secrets_that_no_message_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    monkeypatch.setenv("WORD", "h1dden")
    headers: Pairs = (("Authorization", f"file:{tmp_path}/token"), ("X-Word", "env:WORD"), ("X-Plain", "as it is"))
    async with answering("no json") as (server, heard):
        found = await HttpMeasurer().measure(a_source(JsonNumber(url=server, path=("x",), headers=headers)), SUBJECT)
    (request,) = heard.requests
    assert [request.headers[name] for name, _ in headers] == ["s3cret", "h1dden", "as it is"]
    assert "s3cret" not in repr(found) and "h1dden" not in repr(found)


async def test_a_secret_that_cannot_be_had_is_named_and_nobody_is_asked() -> None:
    async with answering("{}") as (server, heard):
        question = JsonNumber(url=server, path=("x",), headers=(("Authorization", "env:NO_SUCH_VARIABLE"),))
        found = await HttpMeasurer().measure(a_source(question), SUBJECT)
    assert found.error == "header Authorization wants the variable NO_SUCH_VARIABLE, which is not set"
    assert heard.requests == []


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("http://127.0.0.1:99999/", ""),
        ("http://a..b/", ""),
        (f"http://{'a' * 64}.t/", ""),
        ("http://127.0.0.1:9/", "two\nlines"),
    ],
)
async def test_what_http_cannot_say_was_not_measured(url: str, secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", secret)
    headers = (("X-Token", "env:TOKEN"),) if secret else ()
    found = await HttpMeasurer().measure(a_source(JsonNumber(url=url, path=("x",), headers=headers)), SUBJECT)
    assert found.error and "lines" not in found.error, found


async def test_a_server_that_is_not_there_or_hangs_was_not_measured() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    listening = await asyncio.start_server(hang, "127.0.0.1", 0)
    host, port = listening.sockets[0].getsockname()
    source = a_source(JsonNumber(url=f"http://{host}:{port}/", path=("x",)))
    assert await HttpMeasurer().measure(source, SUBJECT) == Measurement(error="no answer in 1 s")
    listening.close()
    await listening.wait_closed()
    assert await HttpMeasurer().measure(source, SUBJECT) == Measurement(error="connection refused")


# --- commands of the host ---------------------------------------------------------------------------------------


async def run(folder: Path, *words: str) -> Measurement:
    return await HostMeasurer().measure(a_source(HostCommand(words=words, folder=str(folder))), SUBJECT)


async def test_a_program_of_the_folder_is_run_there_and_told_about_whom_it_is(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "smoke"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$1 $PROXYCTL_RELEASE $PROXYCTL_WEIGHT"; pwd >&2; exit 3\n')
    program.chmod(0o755)
    found = await run(tmp_path, "bin/smoke", "all")
    assert found == Measurement(value=3.0, output=f"all web-2 5\n{tmp_path}")


async def test_of_what_it_writes_the_end_is_kept(tmp_path: Path) -> None:
    found = await run(tmp_path, sys.executable, "-c", "print('x' * 300_000 + 'the end')")
    assert found.value == 0
    assert len(found.output) <= 4096 and found.output.endswith("the end")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("bin/missing",), "bin/missing: no such file or directory"),
        (("sh", "-c", "echo who?; exit 127"), "the command could not be run: who?"),
        (("sh", "-c", "kill -9 $$"), "signal 9 ended the command"),
    ],
)
async def test_a_program_that_says_nothing_of_the_candidate_was_not_measured(
    tmp_path: Path, words: tuple[str, ...], error: str
) -> None:
    assert (await run(tmp_path, *words)).error == error


async def test_what_outlives_its_time_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    began = time.monotonic()
    found = await run(tmp_path, "sh", "-c", "sleep 300 & echo $! > child; wait")
    assert found == Measurement(error="the command did not end in 1 s")
    assert time.monotonic() - began < TIMEOUT + 1
    child = int((tmp_path / "child").read_text())
    async with asyncio.timeout(5):
        while _runs(child):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def _runs(pid: int) -> bool:
    """A zombie that nobody has reaped runs no more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_what_it_leaves_running_keeps_nobody_waiting(tmp_path: Path) -> None:
    began = time.monotonic()
    found = await run(tmp_path, "sh", "-c", "setsid sleep 300 & echo $! > child; echo done")
    assert found == Measurement(value=0.0, output="done")
    assert time.monotonic() - began < TIMEOUT
    os.kill(int((tmp_path / "child").read_text()), 9)


# --- commands in the candidate ----------------------------------------------------------------------------------

PYTHON = str(Path(sys.executable).resolve())


@pytest.mark.docker
async def test_a_command_is_run_in_a_replica_of_the_candidate(
    docker_engine: docker.DockerClient, unique_project: str, tmp_path: Path, demo_images: dict[str, str]
) -> None:
    runtime = DockerRuntime(unique_project, tmp_path)
    measurer, name = CandidateMeasurer(runtime), f"{unique_project}-web-1-1"

    async def inside(*words: str) -> Measurement:
        return await measurer.measure(a_source(CandidateCommand(words=words)), SUBJECT.replace(replica=name))

    try:
        assert (await inside("true")).error == f"{name} is absent"
        image = await runtime.resolve(Container(image=demo_images["1"]), print)
        replica = Replica(name=name, address=(await runtime.network()).slots[0])
        await runtime.start(a_release(1, image.reference, image.digest), replica, Colour.BLUE, "web-r1")
        code = "import os; print(os.environ['PROXYCTL_RELEASE']); raise SystemExit(7)"
        assert await inside(PYTHON, "-S", "-c", code) == Measurement(value=7.0, output="web-2")
        assert "/no/such/command" in (await inside("/no/such/command")).error
        late = await inside(PYTHON, "-S", "-c", "import time; time.sleep(300)")
        assert late == Measurement(error="the command did not end in 1 s")
        running = [line[-1] for line in docker_engine.containers.get(name).top()["Processes"]]
        assert not any("sleep(300)" in process for process in running)
    finally:
        await runtime.close()
