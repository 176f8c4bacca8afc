"""Templates of an operator: what they may add, and the ways in which they can be wrong or hostile.

Each is refused in words that name template and line, by a publish and by a check, and leaves files and nginx alone.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from proxyctl.adapters.nginx.configuration import configuration
from proxyctl.adapters.nginx.control import own_address
from proxyctl.adapters.nginx.rendering.overrides import Limits, TemplateRefused, _ask_child
from proxyctl.adapters.nginx.rendering.render import render, templates_folder
from proxyctl.domain.model import Logged, Topology
from proxyctl.errors import PublishRefused
from tests.golden.test_golden import CASES, KNOWN, STATE
from tests.nginx_bed import BLUE, PROJECT, WEB, Bed, a_bed, all_to
from tests.unit.nginx.test_readback import PLACES

pytestmark = pytest.mark.nginx

OURS = {path.name: path.read_text() for path in templates_folder().glob("*.j2")}
SERVER_LINES = OURS["server.conf.j2"].count("\n")


@pytest.fixture
async def bed() -> AsyncIterator[Bed]:
    async with a_bed() as bed:
        await bed.serve_both()
        await bed.publish()
        await bed.splits.move(WEB, all_to(BLUE))
        yield bed


@pytest.fixture(scope="module")
def standing() -> Iterator[Bed]:
    """One nginx for all who change nothing."""
    with asyncio.Runner() as runner:
        bed = a_bed()
        made = runner.run(bed.__aenter__())
        runner.run(made.publish())
        yield made
        runner.run(bed.__aexit__(None, None, None))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "templates"
    folder.mkdir(mode=0o755)
    return folder


def with_templates(bed: Bed, folder: Path) -> Topology:
    return bed.topology(templates=str(folder))


def files(folder: Path) -> dict[str, object]:
    return {str(path): path.readlink() if path.is_symlink() else path.stat().st_mtime_ns for path in folder.rglob("*")}


def added(text: str, to: str = "server.conf.j2") -> dict[str, str]:
    """Ours, and this on a line of its own at the end."""
    return {to: f"{OURS[to]}{text}\n"}


def in_server(text: str) -> dict[str, str]:
    return {"server.conf.j2": OURS["server.conf.j2"].replace("    server {\n", f"    server {{\n{text}\n", 1)}


LOGGED = "access_log {{ places.access_log }} {{ service.log_format }} {{ log_options }};"


def in_macros(before: str, after: str) -> dict[str, str]:
    assert before in OURS["_macros.j2"]
    return {"_macros.j2": OURS["_macros.j2"].replace(before, after)}


def line_of(text: str, name: str) -> str:
    return f"{name}:{OURS[name][: OURS[name].index(text)].count(chr(10)) + 1}: "


LOGGED_AT = line_of(LOGGED, "_macros.j2")
LAST = f"server.conf.j2:{SERVER_LINES + 1}: "
HOSTILE: dict[str, tuple[dict[str, str], str]] = {
    "an undefined name": (added("{{ nam }}"), f"{LAST}'nam' is undefined"),
    "an undefined attribute": (added("{{ server.nam }}"), f"{LAST}"),
    "a syntax error": (added("{% if %}"), f"{LAST}Expected an expression"),
    "an unbalanced {": (added("location / {"), f"{LAST}location: no such block is taken in http"),
    "a } too many": (added("}"), "nginx.conf.j2:43: this } closes nothing"),
    "a } too many between services": (added("}", "service.conf.j2"), "server: no such block is taken in the top level"),
    "an empty output": ({"nginx.conf.j2": ""}, "the templates wrote nothing"),
    "an output of 5 MiB": (added("{{ '#' * 5242880 }}"), "the templates write more than 10"),
    "a loop without end": (
        added("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
        "the templates were not done after 5.0 s",
    ),
    "a huge loop": (added("{% for a in range(10 ** 10) %}{% endfor %}"), f"{LAST}OverflowError: Range too big"),
    "a huge pad": (added("{{ '%1000000000s' % 'x' }}"), f"{LAST}this needs more than 512 MiB"),
    "a recursion": (added("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}"), f"{LAST}RecursionError"),
    "an include of a system file": (added("{% include '/etc/passwd' %}"), f"{LAST}there is no template '/etc/passwd'"),
    "an import from outside": (added("{% import '../../../etc/passwd' as p %}"), "files are not read"),
    "a dunder walk": (
        added("{{ ''.__class__.__mro__[1].__subclasses__() }}"),
        f"{LAST}access to attribute '__class__'",
    ),
    "a globals walk": (
        added("{{ lipsum.__globals__['os'].system('id') }}"),
        f"{LAST}access to attribute '__globals__'",
    ),
    "a path that could be written": (added("{{ places.splits.unlink() }}"), "has no attribute 'unlink'"),
    "load_module": (
        added("load_module x;", "nginx.conf.j2"),
        "load_module: not taken in the top level: it brings code",
    ),
    "ssl_engine": (added("ssl_engine x;", "nginx.conf.j2"), "ssl_engine: not taken in the top level"),
    "include": (added("include /etc/nginx/*.conf;"), f"{LAST}include: not taken in http"),
    "perl": (added("perl_modules /tmp;"), f"{LAST}perl_modules: not taken in http: it brings code"),
    "lua": (added("init_by_lua 'x';"), f"{LAST}init_by_lua: not taken in http: it brings code"),
    "js": (added("js_import x.js;"), f"{LAST}js_import: not taken in http: it brings code"),
    "user": (added("user root;", "nginx.conf.j2"), "user: root is not what proxyctl relies on"),
    "alias": (
        in_server("location /x/ { alias /etc/; }"),
        "server.conf.j2:2: alias: /etc/ is not what proxyctl relies on",
    ),
    "error_log elsewhere": (
        in_server("error_log /tmp/x;"),
        "server.conf.j2:2: error_log: /tmp/x is not what proxyctl relies on",
    ),
    "a log in other words": (
        {"names.conf.j2": OURS["names.conf.j2"].replace("{{ format.written }}", "'$time_iso8601\\t$uri'")},
        f"{line_of('log_format {{', 'names.conf.j2')}log_format: proxyctl reads what px writes; leave it as",
    ),
    "a log that tells everything late": (
        in_macros(LOGGED, LOGGED.replace("{{ log_options }}", "buffer=64k flush=1h")),
        "flush=1h is not what proxyctl relies on; write",
    ),
    "a log in the words of nginx": (
        in_server("access_log {{ places.access_log }} combined;"),
        "combined is not what proxyctl relies on; write",
    ),
    "a log for nobody": (
        in_macros(LOGGED, "access_log off;"),
        f"{LOGGED_AT}access_log: candidates are judged by the requests to px_{PROJECT}_web_",
    ),
    "a log as of no service": (
        in_macros(LOGGED, LOGGED.replace("service.log_format", "px")),
        f"{LOGGED_AT}access_log: candidates are judged by",
    ),
    "a log that the server alone has": (in_macros(LOGGED, ""), "access_log: candidates are judged by"),
    "an undeclared upstream": (in_server("location /x/ { proxy_pass http://other; }"), "proxy_pass: other is not an"),
    "an address": (in_server("location /x/ { proxy_pass http://169.254.169.254; }"), "server.conf.j2:2: proxy_pass:"),
    "the listen of another": (
        in_server("listen 127.0.0.1:1;"),
        "server.conf.j2:2: listen: 127.0.0.1:1 is not an address",
    ),
    "a comment that holds a newline": (added("# {{ '\\n' }}load_module x;"), "load_module: not taken in http"),
    "a server_name twice": (added(OURS["server.conf.j2"]), "server_name: another server of this address"),
    "an empty upstream": (added("upstream x { keepalive 1; }"), f"{LAST}upstream: x has no server that is up"),
    "all servers down": (
        {"service.conf.j2": OURS["service.conf.j2"].replace("max_fails=5", "down").replace("max_fails=0", "down")},
        f"service.conf.j2:3: upstream: px_{PROJECT}_web_blue has no server that is up",
    ),
    "no generation": (
        {"control.conf.j2": OURS["control.conf.j2"].replace("{{ number }}", "1{{ number }}")},
        "the control server does not say",
    ),
    "no way for the prober": (
        {"control.conf.j2": OURS["control.conf.j2"].replace("/upstream/", "/down/")},
        f"control.conf.j2:2: server: the control server does not say `proxy_pass http://px_{PROJECT}_web_blue/`",
    ),
    "a template that nothing uses": ({"servers.conf.j2": ""}, "did you mean server.conf.j2?"),
    "an unprintable": (added("# \u00e9"), f"{LAST}character U+00E9"),
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_a_template_that_is_wrong_changes_nothing(what: str, standing: Bed, folder: Path) -> None:
    templates, why = HOSTILE[what]
    for name, text in templates.items():
        folder.joinpath(name).write_text(text)
    await refused_without_a_trace(standing, folder, why)


async def test_a_child_that_writes_faster_than_it_is_read_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flood = tmp_path / "flood"
    flood.write_text("#!/bin/sh\nhead -c 5000000 /dev/zero\nsleep 60\n")
    flood.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(flood))
    for _ in range(5):
        async with asyncio.timeout(5):
            with pytest.raises(TemplateRefused, match="the templates write more than 10 KiB"):
                await _ask_child(b"", Limits(seconds=30.0, memory=512 << 20, output=10 << 10))


def symlinked(folder: Path) -> None:
    folder.joinpath("server.conf.j2").symlink_to("/etc/passwd")


def world_writable(folder: Path) -> None:
    folder.joinpath("server.conf.j2").write_text("")
    folder.joinpath("server.conf.j2").chmod(0o646)


def group_writable_folder(folder: Path) -> None:
    folder.chmod(0o775)


def of_a_stranger(folder: Path) -> None:
    folder.joinpath("server.conf.j2").touch()
    os.chown(folder / "server.conf.j2", 12345, 12345)


def not_utf_8(folder: Path) -> None:
    folder.joinpath("server.conf.j2").write_bytes(b"server {\n\xff}")


def a_fifo(folder: Path) -> None:
    os.mkfifo(folder / "server.conf.j2", 0o600)


def too_large(folder: Path) -> None:
    folder.joinpath("server.conf.j2").write_text("#" * (300 << 10))


def gone(folder: Path) -> None:
    folder.rmdir()


FILES: dict[Callable[[Path], None], str] = {
    symlinked: "server.conf.j2 is a symlink",
    world_writable: "server.conf.j2 (mode 0646) may be written by others; chmod go-w",
    group_writable_folder: "templates (mode 0775) may be written by others; chmod go-w",
    of_a_stranger: "server.conf.j2 belongs to user 12345",
    not_utf_8: "server.conf.j2:2: byte 0xff is not UTF-8",
    a_fifo: "server.conf.j2 is not a regular file",
    too_large: "server.conf.j2 is larger than 256 KiB",
    gone: "templates cannot be read: No such file or directory",
}


@pytest.mark.parametrize("make", FILES, ids=lambda make: make.__name__)
async def test_a_template_that_others_could_have_written_is_not_read(
    make: Callable[[Path], None], standing: Bed, folder: Path
) -> None:
    make(folder)
    await refused_without_a_trace(standing, folder, FILES[make])


async def refused_without_a_trace(bed: Bed, folder: Path, why: str) -> None:
    before, running = files(bed.places.public), bed.processes()
    with pytest.raises(PublishRefused) as refusal:
        await bed.publish(with_templates(bed, folder))
    assert why in f"{refusal.value}\n{refusal.value.detail}"
    assert why in "\n".join(await bed.proxy.check(with_templates(bed, folder)))
    assert files(bed.places.public) == before
    assert set(running) <= set(bed.processes()), "nothing was reloaded"
    assert (await bed.proxy.status()).observed == 1


# --- what they are for -------------------------------------------------------------------------------------------


async def test_a_header_of_a_template_reaches_clients_and_a_change_of_it_too(bed: Bed, folder: Path) -> None:
    template = folder / "server.conf.j2"
    for value in ("one", "two"):
        template.write_text(
            OURS["server.conf.j2"].replace("return 503 ", f"add_header X-Shop {value} always;\n            return 503 ")
        )
        assert "X-Shop" in await bed.proxy.diff(with_templates(bed, folder))
        await bed.publish(with_templates(bed, folder))
        await bed.splits.move(WEB, None)
        assert (await bed.get()).headers["x-shop"] == value
    generation = (await bed.proxy.status()).generation
    assert await bed.publish(with_templates(bed, folder)) == generation  # nothing changed is done


async def test_a_template_can_add_to_the_one_that_it_shadows(bed: Bed, folder: Path) -> None:
    folder.joinpath("http.conf.j2").write_text('{% include "proxyctl/http.conf.j2" %}\n    gzip on;\n')
    await bed.publish(with_templates(bed, folder))
    text = bed.places.current.joinpath("nginx.conf").read_text()
    assert "server_tokens off;" in text and "\n    gzip on;\n" in text


async def test_a_template_can_log_what_is_its_own_affair_as_it_likes(bed: Bed, folder: Path) -> None:
    """Beside the log that candidates are judged by."""
    folder.joinpath("_macros.j2").write_text(
        OURS["_macros.j2"].replace(LOGGED, f"{LOGGED}\n{LOGGED.replace('service.log_format', 'px')}")
    )
    folder.joinpath("http.conf.j2").write_text(
        '{% include "proxyctl/http.conf.j2" %}\n'
        "    log_format mine '$uri';\n"
        "    upstream sidecar { server 127.0.0.1:9; }\n"
    )
    quiet = (
        "location /up { access_log off; return 204; } location /sidecar { access_log off; proxy_pass http://sidecar; }"
    )
    folder.joinpath("server.conf.j2").write_text(in_server(quiet)["server.conf.j2"])
    await bed.publish(with_templates(bed, folder))


async def test_where_no_log_is_read_a_template_writes_its_own(bed: Bed, folder: Path) -> None:
    folder.joinpath("server.conf.j2").write_text(
        in_server("access_log {{ places.access_log }} combined;")["server.conf.j2"]
    )
    await bed.publish(bed.topology(templates=str(folder), access_log=Logged.OFF))
    await bed.get("/of-its-own")
    assert "GET /of-its-own" in bed.places.access_log.read_text()


async def test_templates_can_share_one_of_their_own(bed: Bed, folder: Path) -> None:
    folder.joinpath("gzip.conf.j2").write_text("    gzip on;\n")
    folder.joinpath("http.conf.j2").write_text('{% include "proxyctl/http.conf.j2" %}\n{% include "gzip.conf.j2" %}\n')
    await bed.publish(with_templates(bed, folder))
    assert "gzip on;" in bed.places.current.joinpath("nginx.conf").read_text()


@pytest.mark.parametrize("name", CASES)
async def test_an_empty_folder_renders_the_same_bytes(name: str, folder: Path) -> None:
    known = KNOWN.get(name, frozenset())
    overridden = CASES[name].replace(settings=CASES[name].settings.replace(templates=str(folder)))
    ours = render(CASES[name], 7, PLACES, known, own_address(PLACES))
    assert await configuration(overridden, 7, PLACES, known, own_address(PLACES)) == ours
    assert str(STATE) in ours
