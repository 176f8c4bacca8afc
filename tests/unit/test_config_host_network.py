"""`network_mode: host` is taken where it is said to be meant, and one release at a time can answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxyctl.config.load import Project, load
from proxyctl.domain.container import HOST_NETWORK
from proxyctl.errors import ConfigRejected

COMPOSE = "services: {web: {image: x, network_mode: host%s}, db: {image: postgres}}"
HEAD = "project: shop\n"
MEANT = "allow: [host-network], strategy: recreate, container: {image: x, network_mode: host}"
LEFT_UNSAID = """\
project: shop
services:
  web:
    port: 8000
    health: none
    replicas: 2
    strategy: canary
    container:
      image: x
      network_mode: host
      networks: [back]
      sysctls: {net.core.somaxconn: 1024, kernel.shmmax: 1}
"""


def loaded(folder: Path, text: str, compose: str = "") -> Project:
    (folder / "compose.yml").write_text(compose)
    (folder / "proxyctl.yml").write_text(text)
    return load(folder / "proxyctl.yml", environment={})


def problems(folder: Path, text: str, compose: str = "") -> list[str]:
    with pytest.raises(ConfigRejected) as refused:
        loaded(folder, text, compose)
    return [line.rpartition(".yml:")[2] for line in refused.value.problems]


def test_what_is_meant_is_taken(tmp_path: Path) -> None:
    (web,) = loaded(tmp_path, f"{HEAD}services:\n  web: {{{MEANT}, port: 8000, health: {{tcp: 9000}}}}\n").services
    assert web.container.networks == (HOST_NETWORK,)
    assert web.host_ports == (8000, 9000)


def test_a_container_with_a_network_of_its_own_has_no_port_of_the_host(tmp_path: Path) -> None:
    (web,) = loaded(tmp_path, f"{HEAD}services:\n  web: {{container: {{image: x}}, port: 80, health: none}}\n").services
    assert (web.container.on_the_host, web.host_ports) == (False, ())


def test_everything_that_is_wrong_is_told_at_once_and_where(tmp_path: Path) -> None:
    assert problems(tmp_path, LEFT_UNSAID) == [
        "6:5: services.web.replicas: on the host's network all of them would want the same port; write 1",
        "7:5: services.web.strategy: on the host's network two releases would want the same port; write recreate",
        "10:7: services.web.container.network_mode: it would answer on ports of this host, to whoever reaches the host;"
        " write networks, or allow: [host-network] beside container",
        "11:7: services.web.container.networks: a container on the host's network is on no other; keep network_mode or"
        " this",
        '12:7: services.web.container.sysctls: "net.core.somaxconn" is the host\'s own on its network;'
        " set it there, and remove it",
    ]


@pytest.mark.parametrize(
    ("listens", "services", "wrong"),
    [
        ("http: '127.0.0.1:8000'", "port: 8000, health: none", "port 8000 of the host is taken by nginx"),
        ("http: 80", "port: 8000, health: {tcp: 80}", "services.web.health.tcp: port 80 of the host is taken by nginx"),
        ("http: 80", "port: 8000, health: {path: /, port: 80}", "health.port: port 80 of the host is taken by nginx"),
        ("http: 80", "port: 9000, health: none", "port 9000 of the host is taken by service agent; let this"),
    ],
)
def test_a_port_of_the_host_has_one_holder(tmp_path: Path, listens: str, services: str, wrong: str) -> None:
    text = f"{HEAD}proxy: {{{listens}}}\nservices:\n  agent: {{{MEANT}, health: {{tcp: 9000}}}}\n"
    (said,) = problems(tmp_path, f"{text}  web: {{{MEANT}, {services}}}\n")
    assert wrong in said


def test_the_ports_of_an_nginx_of_the_users_are_his_affair(tmp_path: Path) -> None:
    web = f"  web: {{{MEANT}, port: 80, hosts: [a.test], health: none}}\n"
    assert loaded(tmp_path, f"{HEAD}proxy: {{mode: include}}\nservices:\n{web}").services[0].host_ports == (80,)


def test_it_comes_from_a_compose_file_too_and_joins_nothing_of_it(tmp_path: Path) -> None:
    ours = f"{HEAD}compose: compose.yml\nservices:\n  web: {{port: 8000, health: none%s}}\n"
    project = loaded(tmp_path, ours % ", strategy: recreate, allow: [host-network]", COMPOSE % "")
    assert (project.services[0].container.networks, project.warnings) == ((HOST_NETWORK,), ())
    refused = problems(tmp_path, ours % "", COMPOSE % "")
    assert [line.partition(":")[0] for line in refused] == ["4", "4"]
    twice = problems(tmp_path, ours % ", strategy: recreate, allow: [host-network]", COMPOSE % ", networks: [back]")
    assert twice == [
        "1:48: services.web.networks: not carried; a container on the host's network is on no other; keep network_mode"
        " or this"
    ]


def test_the_nearer_word_for_the_network_counts(tmp_path: Path) -> None:
    ours = f"{HEAD}compose: compose.yml\nservices:\n  web: {{health: none, container: {{%s}}%s}}\n"
    on_a_network = loaded(tmp_path, ours % ("networks: [back]", ""), COMPOSE % "")
    assert on_a_network.services[0].container.networks == ("back",)
    meant = ("network_mode: host", ", strategy: recreate, allow: [host-network]")
    compose = "services: {web: {image: x, networks: [back]}}\nnetworks: {back: }\n"
    on_the_host = loaded(tmp_path, ours % meant, compose)
    assert on_the_host.services[0].container.networks == (HOST_NETWORK,)
