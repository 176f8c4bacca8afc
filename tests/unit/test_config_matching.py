"""Matches, previews and mirrors as a file writes them, and what they become."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from proxyctl.config.matching import MatchFile, MirrorFile, PreviewFile, breaches, match_of, mirror_of
from proxyctl.domain.model import Match, Mirror


def test_a_rule_becomes_what_nginx_is_to_know() -> None:
    written = {"header": {"X-Canary": ["yes", "beta"], "X-Team": "shop"}, "cookie": {"canary": 1}, "cidr": "10.0.0.0/8"}
    assert match_of(MatchFile.model_validate(written)) == Match(
        headers=(("X-Canary", "yes"), ("X-Canary", "beta"), ("X-Team", "shop")),
        cookies=(("canary", "1"),),
        networks=("10.0.0.0/8",),
    )


def test_a_preview_may_have_a_host_of_its_own() -> None:
    file = PreviewFile.model_validate({"host": "Preview.Shop.example.com", "cidr": ["fd00::/8", "10.0.0.0/8"]})
    assert match_of(file) == Match(host="preview.shop.example.com", networks=("fd00::/8", "10.0.0.0/8"))
    with pytest.raises(ValidationError, match="host"):
        MatchFile.model_validate({"host": "preview.shop.example.com"})


@pytest.mark.parametrize(
    ("written", "mirror"),
    [
        ({}, Mirror(share=10_000, methods=("GET", "HEAD"))),
        ({"percent": 10, "methods": ["OPTIONS", "GET", "GET"]}, Mirror(share=1000, methods=("OPTIONS", "GET"))),
        ({"percent": "0.5%"}, Mirror(share=50)),
    ],
)
def test_a_mirror_takes_a_share_of_what_can_be_done_twice(written: dict[str, Any], mirror: Mirror) -> None:
    assert mirror_of(MirrorFile.model_validate(written)) == mirror


@pytest.mark.parametrize(
    ("kind", "written", "words"),
    [
        (MatchFile, {"header": {"X_Canary": "yes"}}, "nginx passes over headers with an underscore"),
        (MatchFile, {"header": {"X Canary": "yes"}}, "not a header name"),
        (MatchFile, {"header": {"X-Canary": ""}}, "no header has such a value"),
        (MatchFile, {"header": {"X-Canary": " yes"}}, "no header has such a value"),
        (MatchFile, {"header": {"X-Canary": "$host"}}, "without \\$"),
        (MatchFile, {"header": {"X-Canary": "é"}}, "printable ASCII"),
        (MatchFile, {"header": {"X-Canary": "a\nb"}}, "character 2 is U\\+000A"),
        (MatchFile, {"header": {"X-Canary": "x" * 501}}, "up to 500"),
        (MatchFile, {"header": {"X-Canary": True}}, "this is not text"),
        (MatchFile, {"header": {"X-Canary": []}}, "at least 1"),
        (MatchFile, {"header": {"X-Canary": {"a": "b"}}}, 'a value such as "yes", or a list of them'),
        (MatchFile, {"header": {}}, "at least 1"),
        (MatchFile, {"cookie": {"my-canary": "1"}}, "not a cookie that nginx can name"),
        (MatchFile, {"cookie": {"canary": "a b"}}, "not the value of a cookie"),
        (MatchFile, {"cookie": {"canary": "a;b"}}, "not the value of a cookie"),
        (MatchFile, {"cidr": "10.0.0.1/8"}, "not a network"),
        (MatchFile, {"cidr": []}, "at least 1"),
        (PreviewFile, {"host": "*.shop.example.com"}, "a wildcard is not one host"),
        (MirrorFile, {"percent": 0}, "nothing would be copied"),
        (MirrorFile, {"percent": 101}, "not between 0 and 100"),
        (MirrorFile, {"percent": True}, "write a percentage"),
        (MirrorFile, {"methods": ["GET", "POST"]}, "a copy does everything a second time"),
        (MirrorFile, {"methods": []}, "at least 1"),
        (MirrorFile, {"mehtods": ["GET"]}, "mehtods"),
    ],
)
def test_what_nginx_could_not_know_is_refused(kind: type[MatchFile], written: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        kind.model_validate(written)


def test_a_rule_that_says_nothing_would_match_everything() -> None:
    everything = "it says nothing, and every request would match; write header, cookie"
    assert list(breaches(MatchFile())) == [f"{everything} or cidr"]
    assert list(breaches(PreviewFile())) == [f"{everything}, cidr or host"]


def test_a_header_has_one_name_in_whatever_case() -> None:
    file = MatchFile.model_validate({"header": {"X-Canary": "yes", "x-canary": "beta"}})
    assert list(breaches(file)) == ['header "x-canary" is written twice; keep one, with a list of values']
    assert list(breaches(MatchFile.model_validate({"header": {"X-Canary": "yes"}}))) == []
