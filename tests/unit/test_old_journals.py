"""What an older version wrote into the journal still loads, and means the same."""

from __future__ import annotations

from typing import Any

import pytest

from proxyctl.domain.codec import decode, encode
from proxyctl.domain.container import Access, Container, DockerHealth, GrantedFile, Hook, Limits, Pull, Tmpfs, Ulimit
from proxyctl.domain.events import Retired
from proxyctl.domain.evidence import Evidence, begin
from proxyctl.domain.model import Colour, Logged, ProxySettings, ReleaseId, RolloutId
from proxyctl.domain.state import Kind, Rollout
from proxyctl.domain.steps import Weight

FIRST_VERSION: dict[str, Any] = {
    "@": "Container",
    "image": "shop/web:1.4",
    "command": ["bin/web"],
    "entrypoint": None,
    "environment": [["A", "env:A"]],
    "env_file": ["/srv/web.env"],
    "volumes": ["uploads:/uploads", "/srv/site:/site:ro"],
    "networks": ["back"],
    "labels": [["team", "shop"]],
    "healthcheck": {
        "@": "DockerHealth",
        "test": ["NONE"],
        "interval": 1.0,
        "timeout": None,
        "start_period": None,
        "retries": None,
    },
    "user": None,
    "working_dir": None,
    "stop_signal": "SIGINT",
    "stop_grace_period": 10.0,
    "init": True,
    "restart": "unless-stopped",
}


def test_a_definition_of_the_first_version_loads_with_the_defaults_of_what_it_did_not_know() -> None:
    assert decode(Container, FIRST_VERSION) == Container(
        image="shop/web:1.4",
        command=("bin/web",),
        environment=(("A", "env:A"),),
        env_file=("/srv/web.env",),
        volumes=("uploads:/uploads", "/srv/site:/site:ro"),
        networks=("back",),
        labels=(("team", "shop"),),
        healthcheck=DockerHealth(test=("NONE",), interval=1.0),
        stop_signal="SIGINT",
        init=True,
        restart="unless-stopped",
    )


def test_a_retirement_of_the_first_version_knew_of_no_hooks() -> None:
    old = {"@": "Retired", "release": "web-1", "colour": "blue", "cut": 0}
    assert decode(Retired, old) == Retired(release=ReleaseId("web-1"), colour=Colour.BLUE, cut=0)


def test_a_rollout_of_the_first_version_baked_since_a_moment_of_its_own() -> None:
    rollout = Rollout(
        id=RolloutId("web-r1"),
        kind=Kind.DEPLOY,
        release=ReleaseId("web-1"),
        colour=Colour.BLUE,
        replaces=None,
        plan=(Weight(share=10_000),),
        fresh=True,
        route=None,
        before=None,
        settings=ProxySettings(),
        actor="ann",
        reason="",
        opened=1.0,
    )
    old = encode(rollout) | {
        "bake_since": {"@": "Moment", "boot": "b", "at": 1.0},
        "plan": [{"@": "Weight", "share": 10_000}],
    }
    for name in ("since", "spent", "paused"):
        del old[name]
    assert decode(Rollout, old) == rollout


def test_evidence_of_the_first_version_tolerated_nothing_and_said_so() -> None:
    evidence = begin(4, 100.0)
    assert decode(Evidence, encode(evidence) | {"tolerated": 1.0}) == evidence


@pytest.mark.parametrize(
    "definition",
    [
        Container(image="x"),
        Container(
            image="x",
            pull_policy=Pull.NEVER,
            tmpfs=(Tmpfs(target="/run", options=("noexec",)),),
            secrets=(GrantedFile(target="/run/secrets/db", content="env:DB"),),
            post_start=(Hook(command=("a", "b"), environment=(("A", "1"),)),),
            limits=Limits(cpus=0.5, ulimits=(Ulimit(name="nofile", soft=1, hard=2),)),
            access=Access(privileged=True, sysctls=(("a.b", "1"),)),
        ),
    ],
)
def test_a_definition_comes_back_as_it_went(definition: Container) -> None:
    assert decode(Container, encode(definition)) == definition


@pytest.mark.parametrize(("written", "means"), [(True, Logged.ON), (False, Logged.OFF), ("rollouts", Logged.ROLLOUTS)])
def test_a_generation_of_the_first_version_logged_or_did_not(written: object, means: Logged) -> None:
    old = encode(ProxySettings()) | {"access_log": written}
    assert decode(ProxySettings, old) == ProxySettings(access_log=means)
