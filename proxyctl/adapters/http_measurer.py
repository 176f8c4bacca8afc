"""Measure by HTTP with aiohttp: an instant query of Prometheus, a number in a JSON document.

No redirects, no proxy from the environment, 64 KiB of body at most. Headers are resolved when they are sent, and in no
message.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from math import isnan
from typing import Any

import aiohttp
from yarl import URL

from proxyctl.adapters.answers import body, why
from proxyctl.adapters.secrets import resolved
from proxyctl.domain.probe import BODY_LIMIT
from proxyctl.domain.source import JsonNumber, Measurement, PromQuery, Source
from proxyctl.domain.units import Pairs
from proxyctl.errors import Unavailable
from proxyctl.ports import Subject

MOST_WORDS = 200  # of what a server says is wrong


class _Unmeasured(Exception):
    """Why, in words."""


class HttpMeasurer:
    """Implements `Measurer` for PromQuery and JsonNumber."""

    async def measure(self, source: Source, subject: Subject) -> Measurement:
        try:
            async with asyncio.timeout(source.timeout):
                value = await _value(source.question)
        except TimeoutError:
            return Measurement(error=f"no answer in {source.timeout:g} s")
        except (_Unmeasured, Unavailable) as error:
            return Measurement(error=str(error))
        except (aiohttp.ClientError, OSError) as error:
            return Measurement(error=why(error))
        except ValueError as error:  # what HTTP cannot say: a port, a host, a header. Its value is in no message
            return Measurement(error=f"it cannot be asked: {type(error).__name__}; look at its address and its headers")
        return Measurement(value=None if value is None or isnan(value) else value)


async def _value(question: object) -> float | None:
    """None: there is no data."""
    match question:
        case PromQuery(server=server, query=query, headers=headers):
            url = URL(f"{server.rstrip('/')}/api/v1/query").with_query(query=query)
            return _of_prometheus(*await _answer(url, headers))
        case JsonNumber(url=where, path=path, headers=headers):
            status, document = await _answer(URL(where), headers)
            if not 200 <= status < 300:
                raise _Unmeasured(f"{status} instead of 200-299")
            return _number(_at(document, path), ".".join(path))
    raise TypeError(f"{question} is not asked by HTTP")


async def _answer(url: URL, headers: Pairs) -> tuple[int, Any]:
    """Its status, and the document."""
    sent = {name: resolved(f"header {name}", value) for name, value in headers}
    async with (
        aiohttp.ClientSession(trust_env=False, timeout=aiohttp.ClientTimeout(total=None)) as session,
        session.get(url, headers={"User-Agent": "proxyctl"} | sent, allow_redirects=False) as answer,
    ):
        text = await body(answer, BODY_LIMIT + 1)
    if len(text) > BODY_LIMIT:
        raise _Unmeasured(f"the answer is over {BODY_LIMIT // 1024} KiB")
    try:
        return answer.status, json.loads(text)
    except (ValueError, RecursionError):
        raise _Unmeasured(f"{answer.status}, and the answer is not JSON") from None


# --- Prometheus ---------------------------------------------------------------------------------------------------


def _of_prometheus(status: int, document: Any) -> float | None:
    match document:
        case {"status": "error", "error": error}:
            raise _Unmeasured(f"Prometheus refuses: {str(error)[:MOST_WORDS]}")
        case {"status": "success", "data": {"resultType": "vector", "result": []}}:
            return None
        case {"status": "success", "data": {"resultType": "vector", "result": [{"value": [_, str(value)]}]}}:
            return _read(value)
        case {"status": "success", "data": {"resultType": "vector", "result": [*series]}}:
            raise _Unmeasured(f"{len(series)} series instead of one; sum() or max() makes them one")
        case {"status": "success", "data": {"resultType": "scalar", "result": [_, str(value)]}}:
            return _read(value)
        case {"status": "success", "data": {"resultType": str(kind)}}:
            raise _Unmeasured(f"the query gives a {kind[:MOST_WORDS]}, and no number")
    raise _Unmeasured(f"{status}, and the answer is not Prometheus's")


def _read(value: str) -> float:
    try:
        return float(value)  # NaN and +Inf as Prometheus writes them
    except ValueError:
        raise _Unmeasured(f"{value[:MOST_WORDS]!r} is no number") from None


# --- JSON ---------------------------------------------------------------------------------------------------------


def _at(document: Any, path: tuple[str, ...]) -> Any:
    found = document
    for depth, step in enumerate(path, start=1):
        try:
            found = found[int(step)] if isinstance(found, list) else _mapping(found)[step]
        except (LookupError, ValueError):
            raise _Unmeasured(f"the answer has no {'.'.join(path[:depth])}") from None
    return found


def _mapping(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, dict) else {}


def _number(found: Any, where: str) -> float | None:
    """A truth value is 1 or 0; null is no data."""
    if found is None:
        return None
    try:
        if isinstance(found, (int, float)):
            return float(found)
    except OverflowError:
        raise _Unmeasured(f"{where} is larger than any number that is compared") from None
    raise _Unmeasured(f"{where} is no number")
