"""What `sources:` of an analysis may hold: whom to ask beside nginx's log, and what the answers mean.

Start at SourceFile; breaches() is what its keys mean together, source_of() what the domain makes of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from proxyctl.config import fields, grammar
from proxyctl.config import web_grammar as web
from proxyctl.config.document import Location
from proxyctl.config.fields import Read, Strict, counted, lasting, like, one_of, written
from proxyctl.domain.source import (
    SUCCESS,
    CandidateCommand,
    Condition,
    HostCommand,
    JsonNumber,
    PromQuery,
    Question,
    Sign,
    Source,
)

MOST_SOURCES = 32
MOST_HEADERS = 64
LONGEST_QUERY = 4096
KINDS = ("prometheus", "url", "command")
NEEDED = (("query", "query", "prometheus"), ("json", "json_", "url"))  # a key, its field, and what needs it

CONDITION = re.compile(r"(>=|<=|==|!=|>|<) ?(-?[0-9]{1,15}(?:\.[0-9]{1,15})?|true|false)", re.ASCII)
_URL = re.compile(r"https?://[A-Za-z0-9.-]+(?::[1-9][0-9]{0,4})?(?:[/?][\x21\x24-\x3b\x3d\x3f-\x7e%]*)?", re.ASCII)
_JSON_PATH = re.compile(r"[^.]{1,200}(?:\.[^.]{1,200}){0,31}")
_TRUTHS = {"true": 1.0, "false": 0.0}


def condition(value: Any) -> Condition:
    match = CONDITION.fullmatch(grammar.line(value))
    if match is None:
        raise ValueError('write one comparison with a number, such as "> 0.05", by >, >=, <, <=, == or !=')
    return Condition(sign=Sign(match[1]), number=_TRUTHS[match[2]] if match[2] in _TRUTHS else float(match[2]))


def url(value: Any) -> str:
    text = grammar.line(value)
    if not _URL.fullmatch(text) or len(text) > web.LONGEST_PATH:
        raise ValueError(
            "not an address; write one such as http://127.0.0.1:8080/stats, what it is to know of us under headers"
        )
    return text


def query(value: Any) -> str:
    text = grammar.block(value).strip()
    if not text or len(text) > LONGEST_QUERY:
        raise ValueError(f"write a query in PromQL, of up to {LONGEST_QUERY} characters")
    return text


def json_path(value: Any) -> tuple[str, ...]:
    text = grammar.line(value)
    if not _JSON_PATH.fullmatch(text):
        raise ValueError(
            "not a place in a document; write keys and places in lists with dots between, as in items.0.age"
        )
    return tuple(text.split("."))


def header_value(value: Any) -> str:
    """Text, or a reference to a secret."""
    return web.header_value(grammar.environment_value(value))


_Condition = Annotated[Condition, Read(condition, like(CONDITION.pattern, "> 0.05", "== true"))]
_Url = Annotated[str, Read(url, like("https?://.+", "http://127.0.0.1:9090"))]
_Query = Annotated[str, Read(query, {"type": "string", "maxLength": LONGEST_QUERY})]
_JsonPath = Annotated[tuple[str, ...], Read(json_path, {"type": "string", "examples": ["data.depth", "items.0.age"]})]
_HeaderValue = Annotated[str, Read(header_value, {"type": ["string", "number"], "examples": ["env:TOKEN"]})]
_Headers = Annotated[dict[fields.HeaderName, _HeaderValue], Field(max_length=MOST_HEADERS)]


class SourceFile(Strict):
    """One of prometheus, url and command, and what its answers mean."""

    prometheus: _Url | None = written(None, "The server that is asked for a query.")
    query: _Query | None = written(None, "An instant query in PromQL that gives one number.")
    url: _Url | None = written(None, "A JSON document.")
    json_: _JsonPath | None = Field(None, alias="json", description="Where its number or truth value is: data.depth.")
    headers: _Headers = written({}, "Sent with the question; env:NAME and file:PATH stand for secrets.")
    command: fields.Command | None = written(None, "A program; it passes by its exit code 0.")
    in_: Annotated[str, one_of("host", "candidate")] | None = Field(
        None, alias="in", description="Where the command runs: candidate is one replica of it. Left out: host."
    )
    fail: _Condition | None = written(None, 'Such a value fails, as "> 0.05"; alone, any other passes.')
    pass_: _Condition | None = Field(
        None, alias="pass", description='Such a value passes, as "< 0.01"; alone, any other fails.'
    )
    interval: Annotated[float, lasting("1s", "24h")] = written("30s", "Between two measurements.")
    delay: Annotated[float, lasting("0s", "24h")] = written("0s", "Of each step, before the first one.")
    timeout: Annotated[float, lasting("100ms", "10m")] = written("10s", "For one of them.")
    count: Annotated[int, counted(1, 10_000)] | None = written(
        None, "So many in a step. Left out: as long as it lasts, and the last one must pass."
    )
    failures: Annotated[int, counted(0, 10_000)] = written(0, "So many of them may fail.")
    errors: Annotated[int, counted(0, 10_000)] = written(
        4, "So often in a row it may be impossible to measure; then it has not passed, until it is possible."
    )
    dry_run: fields.Truth = written(False, "Measured and told; it decides nothing.")


Sources = Annotated[dict[fields.Name, SourceFile], Field(max_length=MOST_SOURCES)]


def breaches(sources: dict[str, SourceFile]) -> Iterator[tuple[Location, str]]:
    """Where in them, and what is wrong."""
    for name, source in sources.items():
        yield from (((name,), wrong) for wrong in _of_source(source))


def _of_source(source: SourceFile) -> Iterator[str]:
    kinds = [kind for kind in KINDS if getattr(source, kind) is not None]
    if len(kinds) != 1:
        found = f"{' and '.join(kinds)} are written" if kinds else "it does not say whom to ask"
        yield f"{found}; write one of prometheus, url and command"
        return
    for key, field, kind in NEEDED:
        if getattr(source, field) is not None and kind not in kinds:
            yield f"{key} belongs to {kind}; remove it"
        elif getattr(source, field) is None and kind in kinds:
            yield f"no {key}; write it beside {kind}"
    if source.in_ is not None and source.command is None:
        yield "only a command is in a place; remove it"
    if source.command is None and source.fail is None and source.pass_ is None:
        yield 'no condition; write fail, such as "> 0.05", or pass'
    if source.command is not None:
        yield from _of_command(source)
    if source.count is not None and source.failures >= source.count:
        yield f"of {source.count} measurements {source.failures} may fail, so that it never fails; write fewer failures"


def _of_command(source: SourceFile) -> Iterator[str]:
    if not source.command:
        yield "the command is empty; write a program and its arguments"
    if source.fail or source.pass_:
        yield "a command passes by its exit code 0; remove fail and pass"
    if source.headers:
        yield "a command is sent no headers; remove them"


def source_of(name: str, file: SourceFile, folder: Path) -> Source:
    """Commands of the host run in the folder, and paths of its secrets begin there."""
    return Source(
        name=name,
        question=_question(file, folder),
        fails=file.fail,
        passes=SUCCESS if file.command else file.pass_,
        interval=file.interval,
        delay=file.delay,
        timeout=file.timeout,
        count=file.count,
        failures=file.failures,
        errors=file.errors,
        dry_run=file.dry_run,
    )


def _question(file: SourceFile, folder: Path) -> Question:
    headers = tuple((name, _reference(value, folder)) for name, value in file.headers.items())
    if file.command:
        inside = file.in_ == "candidate"
        words = tuple(file.command)
        return CandidateCommand(words=words) if inside else HostCommand(words=words, folder=str(folder))
    if file.prometheus:
        return PromQuery(server=file.prometheus, query=file.query or "", headers=headers)
    return JsonNumber(url=file.url or "", path=file.json_ or (), headers=headers)


def _reference(value: str, folder: Path) -> str:
    kind, _, path = value.partition(":")
    return f"file:{folder / path}" if kind == "file" else value
