"""What a strategy says of requests that reach the candidate beside its share: matches, previews and mirrors.

In one rule everything must hold, and of several values one is enough. Start at MatchFile, PreviewFile and MirrorFile;
breaches() is what their keys mean together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field, Tag

from proxyctl.config import fields, grammar
from proxyctl.config import web_grammar as web
from proxyctl.config.fields import ALONE, LISTED, Read, Strict, alone, forms, like, written
from proxyctl.config.problems import shown
from proxyctl.domain.model import Match, Mirror
from proxyctl.domain.units import Pairs

MOST_MATCHES = 32
MOST_NAMES = 16
MOST_VALUES = 64
MOST_NETWORKS = 256

_SCALAR: dict[str, Any] = {"type": ["string", "number"]}
_NETWORK: dict[str, Any] = {"type": "string", "examples": ["10.0.0.0/8"]}


_HeaderName = Annotated[str, Read(web.matched_header_name, like(web.HEADER_NAME.pattern, "X-Canary"))]
_HeaderValue = Annotated[str, Read(web.matched_header_value, _SCALAR)]
_CookieName = Annotated[str, Read(web.cookie_name, like("[A-Za-z0-9_]{1,64}", "canary"))]
_CookieValue = Annotated[str, Read(web.cookie_value, _SCALAR)]
_Method = Annotated[str, Read(web.copied_method, {"enum": ["GET", "HEAD", "OPTIONS"]})]
_SomeShare = Annotated[int, Read(grammar.some_share, {"type": ["number", "string"], "examples": [10, "0.5%"]})]


_Headers = dict[
    _HeaderName,
    Annotated[
        Annotated[tuple[_HeaderValue, ...], Field(min_length=1, max_length=MOST_VALUES), Tag(LISTED)]
        | Annotated[tuple[str, ...], alone(web.matched_header_value, _SCALAR), Tag(ALONE)],
        forms('a value such as "yes", or a list of them'),
    ],
]
_Cookies = dict[
    _CookieName,
    Annotated[
        Annotated[tuple[_CookieValue, ...], Field(min_length=1, max_length=MOST_VALUES), Tag(LISTED)]
        | Annotated[tuple[str, ...], alone(web.cookie_value, _SCALAR), Tag(ALONE)],
        forms('a value such as "1", or a list of them'),
    ],
]
_Networks = Annotated[
    Annotated[tuple[fields.Network, ...], Field(min_length=1, max_length=MOST_NETWORKS), Tag(LISTED)]
    | Annotated[tuple[str, ...], alone(web.network, _NETWORK), Tag(ALONE)],
    forms("a network such as 10.0.0.0/8, or a list of them"),
]


class MatchFile(Strict):
    """Requests that always go to the candidate. All that is written must hold."""

    header: Annotated[_Headers, Field(min_length=1, max_length=MOST_NAMES)] | None = written(
        None, "These headers have these values, or one of a list."
    )
    cookie: Annotated[_Cookies, Field(min_length=1, max_length=MOST_NAMES)] | None = written(
        None, "The same of cookies."
    )
    cidr: _Networks | None = written(None, "The client's address is in this network, or in one of a list.")


class PreviewFile(MatchFile):
    """The same, and perhaps a host for nothing else."""

    host: fields.PlainHost | None = written(None, "A host of the service that is asked for.")


class MirrorFile(Strict):
    """Requests that the candidate gets a copy of. Nobody waits for what it answers."""

    percent: _SomeShare = written(100, "How many of them.")
    methods: Annotated[tuple[_Method, ...], Field(min_length=1, max_length=3)] = written(
        ("GET", "HEAD"), "Of GET, HEAD and OPTIONS."
    )


Matches = Annotated[tuple[MatchFile, ...], Field(min_length=1, max_length=MOST_MATCHES)]


def match_of(file: MatchFile) -> Match:
    return Match(
        headers=_pairs(file.header),
        cookies=_pairs(file.cookie),
        networks=file.cidr or (),
        host=(file.host or "") if isinstance(file, PreviewFile) else "",
    )


def mirror_of(file: MirrorFile) -> Mirror:
    return Mirror(share=file.percent, methods=tuple(dict.fromkeys(file.methods)))


def _pairs(names: Mapping[str, tuple[str, ...]] | None) -> Pairs:
    return tuple((name, value) for name, values in (names or {}).items() for value in values)


def breaches(file: MatchFile) -> Iterator[str]:
    """What is wrong with a rule whose every key is right."""
    if match_of(file) == Match():
        *keys, last = type(file).model_fields
        yield f"it says nothing, and every request would match; write {', '.join(keys)} or {last}"
    for name, times in Counter(name.lower() for name in file.header or ()).items():
        if times > 1:
            yield f"header {shown(name)} is written twice; keep one, with a list of values"
