"""What the engine says, in our terms: its errors, a pull's events, what `ss` prints."""

from __future__ import annotations

import math

import pytest
import requests
from docker.errors import APIError, DockerException, ImageNotFound

from proxyctl.adapters.docker.calls import in_our_terms
from proxyctl.adapters.docker.namespace import read_ss
from proxyctl.adapters.docker.pull import Event, PullProgress, not_pulled
from proxyctl.errors import (
    AddressTaken,
    DockerUnavailable,
    ImageUnavailable,
    NoSpace,
    OutcomeUnknown,
    ProxyctlError,
    Unavailable,
)


def refused(words: str) -> APIError:
    return APIError("500 Server Error", explanation=words)


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (refused("write /var/lib/docker/x: no space left on device"), NoSpace),
        (refused("failed to add endpoint: Address already in use"), AddressTaken),
        (refused("network registry-lookup not found"), Unavailable),  # a name holds any word
        (ImageNotFound("404", explanation="No such image: shop:1"), ImageUnavailable),
        (requests.ReadTimeout("read timed out"), OutcomeUnknown),
        (requests.ConnectionError("connection broken"), OutcomeUnknown),
    ],
)
def test_each_failure_has_one_name(error: Exception, ours: type[ProxyctlError]) -> None:
    assert type(in_our_terms(error, "starting web-1-1")) is ours


def test_a_connection_that_was_never_made_asked_nothing() -> None:
    error = DockerException("cannot connect")
    error.__cause__ = requests.ConnectionError("aborted")
    error.__cause__.__cause__ = ConnectionRefusedError(111, "Connection refused")
    assert type(in_our_terms(error, "starting web-1-1")) is DockerUnavailable


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("manifest for shop:9 not found: manifest unknown", "the registry has no such image"),
        ("pull access denied for shop, repository does not exist or may require 'docker login'", "must log in"),
        ("unauthorized: authentication required", "must log in"),
        ('Get "https://r.example.com/v2/": dial tcp: lookup r.example.com: no such host', "cannot be reached"),
        ("net/http: request canceled (Client.Timeout exceeded while awaiting headers)", "cannot be reached"),
        ("something new", "something new"),
    ],
)
def test_a_refused_pull_is_told_apart(words: str, said: str) -> None:
    error = not_pulled("shop:9", words)
    assert type(error) is ImageUnavailable
    assert said in str(error)


def test_a_full_disk_is_no_fault_of_the_registry() -> None:
    assert type(not_pulled("shop:9", "failed to register layer: no space left on device")) is NoSpace


def test_progress_is_one_line_for_each_layer_and_for_every_ten_megabytes() -> None:
    told = PullProgress("shop:9")
    events: list[Event] = [
        {"status": "Pulling from shop", "id": "9"},
        {"status": "Pulling fs layer", "id": "a"},
        {"status": "Pulling fs layer", "id": "b"},
        {"status": "Downloading", "id": "a", "progressDetail": {"current": 1_000_000, "total": 30_000_000}},
        {"status": "Downloading", "id": "a", "progressDetail": {"current": 12_000_000, "total": 30_000_000}},
        {"status": "Downloading", "id": "a", "progressDetail": {"current": 13_000_000, "total": 30_000_000}},
        {"status": "Pull complete", "id": "a", "progressDetail": {}},
        {"status": "Already exists", "id": "b"},
        {"status": "Digest: sha256:0"},
    ]
    assert [line for event in events if (line := told.after(event))] == [
        "pulling shop:9: 0 of 1 layers",
        "pulling shop:9: 0 of 2 layers",
        "pulling shop:9: 0 of 2 layers, 10 MB",
        "pulling shop:9: 1 of 2 layers, 10 MB",
        "pulling shop:9: 2 of 2 layers, 10 MB",
    ]


SS = """\
0      0         172.30.0.2:8000    172.30.0.1:40000
\t cubic wscale:7,7 rto:201 rtt:0.05/0.02 lastsnd:790 lastrcv:812 lastack:790 minrtt:0.01
0      0         172.30.0.2:8000    172.30.0.1:40001
\t cubic wscale:7,7 rto:201 rtt:0.05/0.02 lastsnd:120 lastrcv:5000 lastack:790 minrtt:0.01
"""


def test_each_connection_counts_and_the_youngest_byte_decides() -> None:
    traffic = read_ss(SS)
    assert (traffic.connections, traffic.quiet_for) == (2, 0.12)


def test_an_age_that_ss_leaves_out_is_zero() -> None:
    assert read_ss(SS.replace(" lastsnd:120", "")).quiet_for == 0.0


@pytest.mark.parametrize("asked_last", ["lastsnd:9120 lastrcv:9000", "lastsnd:9000 lastrcv:9000"])
def test_who_owes_an_answer_is_not_quiet_however_long_it_takes(asked_last: str) -> None:
    """The second was asked on a new connection: both ages began with it."""
    assert read_ss(SS.replace("lastsnd:120 lastrcv:5000", asked_last)).quiet_for == 0.0


def test_from_nginxs_end_what_was_sent_last_is_a_request() -> None:
    answered = SS.replace("lastsnd:790 lastrcv:812", "lastsnd:6812 lastrcv:6790")
    answered = answered.replace("lastsnd:120 lastrcv:5000", "lastsnd:9000 lastrcv:7000")
    assert read_ss(answered, request="snd", answer="rcv").quiet_for == 6.79
    asked = answered.replace("lastsnd:9000 lastrcv:7000", "lastsnd:7000 lastrcv:9000")
    assert read_ss(asked, request="snd", answer="rcv").quiet_for == 0.0


def test_no_connection_is_quiet_for_ever() -> None:
    assert read_ss("").quiet_for == math.inf
