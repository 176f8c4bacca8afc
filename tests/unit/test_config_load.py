"""What a file becomes, and where its problems are said to be."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck as Check
from hypothesis import given, settings
from hypothesis import strategies as st

from proxyctl.config.load import Project, config_digest, load
from proxyctl.domain.model import (
    Container,
    Cutover,
    DockerHealth,
    HealthCheck,
    HealthKind,
    Logged,
    ProxySettings,
    Service,
    ServiceName,
    Sticky,
    Timeouts,
    UpstreamTls,
)
from proxyctl.errors import ConfigRejected

MINIMAL = """\
project: shop
services:
  web:
    container: {image: "shop/web:1.4"}
    port: 8000
    health: {path: /healthz}
"""


def loaded(folder: Path, text: str | bytes) -> Project:
    file = folder / "proxyctl.yml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(file, environment={})


def problems(folder: Path, text: str) -> list[str]:
    """Each problem without the folder before it."""
    with pytest.raises(ConfigRejected) as refused:
        loaded(folder, text)
    return [line.rpartition("proxyctl.yml:")[2] for line in refused.value.problems]


def web(folder: Path, keys: str) -> Service:
    return loaded(folder, MINIMAL + keys).services[0]


def container(folder: Path, keys: str) -> Container:
    return web(folder, "").container if not keys else loaded(folder, with_container(keys)).services[0].container


def with_container(keys: str) -> str:
    """The rules of two releases side by side have a test of their own."""
    return (MINIMAL + "    allow: [shared-volumes]\n").replace(
        '{image: "shop/web:1.4"}', f"{{image: shop/web, {keys}}}"
    )


# --- what a file becomes ----------------------------------------------------------------------------------------


def test_a_changed_template_is_a_changed_setting(tmp_path: Path) -> None:
    template = tmp_path / "nginx" / "http.conf.j2"
    template.parent.mkdir()
    seen = set()
    for text in (None, "a", "b"):
        if text:
            template.write_text(text)
        settings = loaded(tmp_path, f"{MINIMAL}proxy: {{templates: ./nginx}}\n").settings
        assert settings.templates == str(template.parent)
        seen.add(settings)
    assert len(seen) == 3


def test_what_a_minimal_file_leaves_out_is_the_domains_own_default(tmp_path: Path) -> None:
    project = loaded(tmp_path, MINIMAL)
    assert project.project == "shop"
    assert project.path == tmp_path / "proxyctl.yml"
    assert project.settings == ProxySettings()
    assert project.services == (
        Service(
            name=ServiceName("web"),
            container=Container(image="shop/web:1.4"),
            health=HealthCheck(kind=HealthKind.HTTP, path="/healthz"),
            port=8000,
        ),
    )
    assert project.warnings == ()


def test_services_keep_the_order_of_the_file(tmp_path: Path) -> None:
    names = ["zeta", "alpha", "mid"]
    text = "project: shop\nservices:\n" + "".join(
        f"  {name}: {{container: {{image: x}}, health: none}}\n" for name in names
    )
    assert [service.name for service in loaded(tmp_path, text).services] == names


def test_the_file_of_the_user_reaches_the_domain_key_by_key(tmp_path: Path) -> None:
    service = web(
        tmp_path,
        """\
    replicas: 2
    hosts: [Shop.Example.com, "*.example.org"]
    path: /api
    bake: 0s
    standby: 168h
    drain: 1500ms
    sticky: cookie
    balance: round_robin
    timeouts: {connect: 500ms, read: 2m}
    body_limit: 10m
""",
    )
    assert service.replicas == 2
    assert service.hosts == ("shop.example.com", "*.example.org")
    assert service.path == "/api"
    assert (service.bake, service.standby, service.drain) == (0.0, 604800.0, 1.5)
    assert service.sticky is Sticky.COOKIE
    assert service.timeouts == Timeouts(connect=0.5, read=120.0)
    assert service.body_limit == 10 * 1024 * 1024


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("{path: /h, status: 204}", {"statuses": ((204, 204),)}),
        ("{path: /h, status: [200, 300-399]}", {"statuses": ((200, 200), (300, 399))}),
        ("{path: /h, headers: {X-A: b}, host: A.t}", {"headers": (("X-A", "b"),), "host": "a.t"}),
        ("{path: /h, scheme: https, verify: false, port: 8443}", {"scheme": "https", "verify": False, "port": 8443}),
        ("{path: /h, method: HEAD, body: ok, healthy: 1}", {"method": "HEAD", "body": "ok", "healthy": 1}),
    ],
)
def test_a_check_by_path_says_what_it_expects(tmp_path: Path, written: str, expected: dict[str, object]) -> None:
    assert web_health(tmp_path, written) == HealthCheck(kind=HealthKind.HTTP, path="/h").replace(**expected)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("{tcp: true}", HealthCheck(kind=HealthKind.TCP)),
        ("{tcp: 9000}", HealthCheck(kind=HealthKind.TCP, port=9000)),
        (
            "{exec: [redis-cli, ping], deadline: 30s}",
            HealthCheck(kind=HealthKind.EXEC, command=("redis-cli", "ping"), deadline=30.0),
        ),
        ("{exec: redis-cli 'a b'}", HealthCheck(kind=HealthKind.EXEC, command=("redis-cli", "a b"))),
        ("{docker: true}", HealthCheck(kind=HealthKind.DOCKER)),
        ("none", HealthCheck(kind=HealthKind.NONE)),
    ],
)
def test_a_check_goes_by_connection_command_or_docker_too(tmp_path: Path, written: str, expected: HealthCheck) -> None:
    assert web_health(tmp_path, written) == expected


def web_health(folder: Path, written: str) -> HealthCheck:
    return loaded(folder, MINIMAL.replace("{path: /healthz}", written)).services[0].health


def test_a_probe_may_be_slower_than_its_interval_for_probes_are_never_two_at_once(tmp_path: Path) -> None:
    assert web_health(tmp_path, "{path: /, interval: 1s, timeout: 5s}").timeout == 5.0


def test_a_readiness_delay_stands_for_a_missing_health_check(tmp_path: Path) -> None:
    text = "project: shop\nservices: {worker: {container: {image: x}, readiness_delay: 7s}}\n"
    worker = loaded(tmp_path, text).services[0]
    assert worker.readiness_delay == 7.0
    assert worker.health.kind is HealthKind.NONE
    assert not worker.routed


def test_a_worker_does_not_bake_beside_the_one_before_it_unless_the_file_says_so(tmp_path: Path) -> None:
    text = "project: shop\nservices: {worker: {container: {image: x}, readiness_delay: 7s}}\n"
    assert loaded(tmp_path, text).services[0].bake == 0.0
    assert loaded(tmp_path, text.replace("7s", "7s, bake: 60s")).services[0].bake == 60.0
    assert web(tmp_path, "").bake == 60.0


def test_old_workers_outlive_the_longest_drain_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    assert loaded(tmp_path, MINIMAL + "    drain: 10m\n").settings.worker_shutdown_timeout == 600.0
    stated = MINIMAL + "    drain: 10m\nproxy: {timeouts: {worker_shutdown: 5s}}\n"
    assert loaded(tmp_path, stated).settings.worker_shutdown_timeout == 5.0


def test_the_proxy_is_set_up_as_written(tmp_path: Path) -> None:
    proxy = """\
proxy:
  mode: process
  http: [80, "127.0.0.1:8080", "[0:0::1]:80"]
  trusted: [10.0.0.0/8]
  cutover: reload
  binary: /opt/nginx
  user: www-data
  workers: 2
  log: rollouts
  timeouts: {client_header: 1s, client_body: 2s, client_keepalive: 3s, upstream_keepalive: 4s}
"""
    assert loaded(tmp_path, MINIMAL + proxy).settings == ProxySettings(
        cutover=Cutover.RELOAD,
        http=("80", "127.0.0.1:8080", "[::1]:80"),
        trusted=("10.0.0.0/8",),
        binary="/opt/nginx",
        user="www-data",
        workers=2,
        client_header_timeout=1.0,
        client_body_timeout=2.0,
        keepalive_timeout=3.0,
        upstream_keepalive_timeout=4.0,
        access_log=Logged.ROLLOUTS,
    )


# --- containers -------------------------------------------------------------------------------------------------


def test_every_form_that_compose_has_of_a_key_means_the_same(tmp_path: Path) -> None:
    as_lists = container(
        tmp_path, 'command: [sh, -c, "a b"], environment: ["A=1", "B=x=y"], labels: ["t=s"], env_file: []'
    )
    as_mappings = container(tmp_path, "command: sh -c 'a b', environment: {A: 1, B: x=y}, labels: {t: s}")
    assert as_lists == as_mappings
    assert as_lists.command == ("sh", "-c", "a b")
    assert as_lists.environment == (("A", "1"), ("B", "x=y"))


def test_secrets_stay_references_and_their_files_lie_beside_the_file(tmp_path: Path) -> None:
    found = container(tmp_path, 'environment: {A: "env:DB", B: "file:secrets/db", C: "file:/run/db", D: }')
    assert found.environment == (
        ("A", "env:DB"),
        ("B", f"file:{tmp_path}/secrets/db"),
        ("C", "file:/run/db"),
        ("D", "env:D"),
    )


def test_relative_binds_become_absolute_and_named_volumes_stay(tmp_path: Path) -> None:
    found = container(
        tmp_path,
        'volumes: ["./data:/data", "../up:/up:ro", "named:/n", "/abs:/abs:rw",'
        " {type: bind, source: rel, target: /rel, read_only: true}]",
    )
    assert found.volumes == (
        f"{tmp_path}/data:/data",
        f"{tmp_path.parent}/up:/up:ro",
        "named:/n",
        "/abs:/abs",
        f"{tmp_path}/rel:/rel:ro",
    )


def test_a_container_is_described_with_every_key_that_we_carry(tmp_path: Path) -> None:
    (tmp_path / "web.env").write_text("A=1\n")
    found = container(
        tmp_path,
        "entrypoint: /bin/app, env_file: web.env, networks: [back, front], user: 1000, working_dir: /app,"
        " stop_signal: SIGQUIT, stop_grace_period: 1m30s, init: true, restart: on-failure:3,"
        " healthcheck: {test: curl -f localhost, interval: 10s, retries: 2}",
    )
    assert found == Container(
        image="shop/web",
        entrypoint=("/bin/app",),
        env_file=(f"{tmp_path}/web.env",),
        networks=("back", "front"),
        user="1000",
        working_dir="/app",
        stop_signal="SIGQUIT",
        stop_grace_period=90.0,
        init=True,
        restart="on-failure:3",
        healthcheck=DockerHealth(test=("CMD-SHELL", "curl -f localhost"), interval=10.0, retries=2),
    )


def test_the_restart_policy_no_needs_no_quotes(tmp_path: Path) -> None:
    assert container(tmp_path, "restart: no").restart == "no"


@pytest.mark.parametrize(
    "image",
    ["a", "shop/web:1.4", "localhost:5000/a/b_c:T-1", f"reg.example.com/x@sha256:{'a' * 64}", f"x:1@sha256:{'0' * 64}"],
)
def test_an_image_may_carry_registry_tag_and_digest(tmp_path: Path, image: str) -> None:
    assert loaded(tmp_path, MINIMAL.replace("shop/web:1.4", image)).services[0].container.image == image


# --- digest -----------------------------------------------------------------------------------------------------


def test_the_digest_changes_with_the_definition_and_with_what_an_env_file_says(tmp_path: Path) -> None:
    (tmp_path / "web.env").write_text("A=1\n")
    service = loaded(tmp_path, with_container("env_file: [web.env]")).services[0]
    before = config_digest(service)
    assert before == config_digest(service)
    assert before != config_digest(service.replace(replicas=2))
    (tmp_path / "web.env").write_text("A=2\n")
    assert before != config_digest(service)
    (tmp_path / "web.env").unlink()
    with pytest.raises(ConfigRejected):
        config_digest(service)


# --- problems ---------------------------------------------------------------------------------------------------


def test_every_problem_is_told_at_once_in_the_order_of_the_file_with_line_and_column(tmp_path: Path) -> None:
    text = """\
project: Shop
proxy:
  acess_log: on
services:
  web:
    container:
      image: shop/web
      environment:
        - OK=1
        - 1BAD=2
    port: 80-90
    health: {path: /healthz, timeout: 90s, hedaers: {}}
    hosts:
      - good.example.com
      - bad_host
  api:
    container: {image: x}
    port: 80
    replicas: 99
"""
    found = problems(tmp_path, text)
    assert [line.partition(": ")[0] for line in found] == [
        "1:10",
        "3:3",
        "10:11",
        "11:11",
        "12:30",
        "12:44",
        "15:9",
        "16:3",
        "19:15",
    ]
    assert [line.split(": ")[1] for line in found] == [
        "project",
        "proxy.acess_log",
        "services.web.container.environment.1",
        "services.web.port",
        "services.web.health.timeout",
        "services.web.health.hedaers",
        "services.web.hosts.1",
        "services.api.health",
        "services.api.replicas",
    ]


def test_a_problem_says_key_value_what_is_wrong_and_what_to_write(tmp_path: Path) -> None:
    assert problems(tmp_path, MINIMAL.replace("8000", "80-90")) == [
        '5:11: services.web.port: "80-90": not a port; write a whole number from 1 to 65535'
    ]
    assert problems(tmp_path, MINIMAL + "    replica: 2\n") == [
        '7:5: services.web.replica: unknown key; did you mean "replicas"?'
    ]


def test_a_folder_of_templates_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, f"{MINIMAL}proxy: {{templates: nginx}}\n")
    assert "proxy.templates" in problem and "nginx is not a folder; make it" in problem


def test_a_value_is_escaped_and_cut(tmp_path: Path) -> None:
    escaped = problems(tmp_path, MINIMAL + '    path: "/\\u202e\\e[2J"\n')[0]
    assert '"/\\u202e\\u001b[2J"' in escaped
    cut = problems(tmp_path, MINIMAL + f"    path: {'x' * 5000}\n")[0]
    assert len(cut) < 250


def test_a_secret_that_is_written_wrong_is_not_repeated(tmp_path: Path) -> None:
    text = with_container('environment: {"DB PASSWORD": hunter2, TOKEN: ["hunter2"]}')
    assert not any("hunter2" in line for line in problems(tmp_path, text))


def test_a_wrong_value_is_the_only_complaint_about_it(tmp_path: Path) -> None:
    """A port that is no number is a port all the same: nothing is said of hosts without a port."""
    assert len(problems(tmp_path, MINIMAL.replace("8000", "http") + "    hosts: [a.t]\n    sticky: ip\n")) == 1
    assert len(problems(tmp_path, MINIMAL.replace("{path: /healthz}", "{path: healthz}"))) == 1


def test_two_services_on_one_host_and_path_are_named_both(tmp_path: Path) -> None:
    other = "  api: {container: {image: x}, port: 1, health: none, hosts: [xn--bcher-kva.t]}\n"
    line = problems(tmp_path, MINIMAL + "    hosts: [a.t, BÜCHER.t]\n" + other)[0]
    assert line.startswith("8:63: services.api.hosts.0: ")
    assert '"xn--bcher-kva.t" with path "/" is taken by service web at line 7' in line


def test_one_host_may_have_services_on_several_paths_and_no_host_too(tmp_path: Path) -> None:
    for hosts in ("    hosts: [a.t]\n", ""):
        other = "  api: {container: {image: x}, port: 1, health: none, path: /api, " + hosts.strip() + "}\n"
        assert len(loaded(tmp_path, MINIMAL + hosts + other).services) == 2


def test_a_file_with_thousands_of_problems_is_told_the_first_five_hundred(tmp_path: Path) -> None:
    text = MINIMAL + "".join(f"key{n}: 1\n" for n in range(20_000))
    found = problems(tmp_path, text)
    assert len(found) == 501
    assert "there may be more" in found[-1]


# --- warnings ---------------------------------------------------------------------------------------------------


def test_what_is_taken_but_perhaps_not_meant_is_a_warning(tmp_path: Path) -> None:
    text = MINIMAL.replace('"shop/web:1.4"', '"shop/web:1.4", environment: {DB_PASSWORD: x, A: "${B}", TOKEN: "env:T"}')
    warnings = loaded(tmp_path, text + "    hosts: [bücher.t]\nproxy: {trusted: [0.0.0.0/0]}\n").warnings
    assert [line.partition("proxyctl.yml:")[2].split(": ")[1] for line in warnings] == [
        "proxy.trusted.0",
        "services.web.hosts.0",
        "services.web.container.environment.DB_PASSWORD",
        "services.web.container.environment.A",
    ]
    assert "xn--bcher-kva.t" in warnings[1]


# --- the YAML itself --------------------------------------------------------------------------------------------


def test_anchors_and_merge_keys_are_taken_and_what_stands_beside_them_wins(tmp_path: Path) -> None:
    text = """\
project: shop
services:
  web: &web
    container: {image: x}
    replicas: 2
    health: none
  worker: {<<: *web, replicas: 3}
"""
    assert [service.replicas for service in loaded(tmp_path, text).services] == [2, 3]


def test_a_fifo_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "proxyctl.yml")
    with pytest.raises(ConfigRejected, match="a problem") as refused:
        load(tmp_path / "proxyctl.yml")
    assert "not a regular file" in refused.value.problems[0]


PIECES = [
    *("project: shop\n", "services:\n", "  web:\n", "    port: 80\n", "    health: none\n", "proxy:\n", "  http: 80\n"),
    *("    container: {image: x}\n", "    hosts: [a.t]\n", "    health: {path: /}\n", "compose: x.yml\n", "    ", "- "),
    *(
        "&a ",
        "*a",
        "<<: ",
        "!!str ",
        "? ",
        ": ",
        "[",
        "]",
        "{",
        "}",
        "|\n",
        ">\n",
        "'",
        '"',
        "#",
        "%",
        "---\n",
        "...\n",
    ),
    *(
        "~",
        "yes",
        "010",
        "1:30",
        "\t",
        "\0",
        "\x85",
        "\u2028",
        "é",
        "\ufeff",
        "{a: b}",
        "[a]",
        "environment: ",
        "[key]: 1\n",
    ),
    *("<list>: 1\n", "<mapping>: {a: 1}\n", "    volumes: [{}]\n", "    env_file: \n", "    networks: {a: }\n"),
]


@settings(max_examples=400, deadline=None, suppress_health_check=[Check.function_scoped_fixture])
@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join) | st.binary(max_size=200) | st.text(max_size=100))
def test_no_input_ends_in_anything_but_a_project_or_a_refusal(tmp_path: Path, text: str | bytes) -> None:
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    assert refused_or_loaded(tmp_path, raw)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["path", "image", "tcp", "a", "[key]", "<list>", "test"]), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = ["container", "port", "replicas", "hosts", "path", "health", "bake", "timeouts", "body_limit", "sticky", "x"]


@settings(max_examples=400, deadline=None, suppress_health_check=[Check.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from(KEYS), values),
    st.dictionaries(st.sampled_from(["http", "mode", "trusted"]), values),
)
def test_no_value_of_any_key_ends_in_a_traceback(
    tmp_path: Path, service: dict[str, object], proxy: dict[str, object]
) -> None:
    import yaml

    raw = yaml.safe_dump({"project": "shop", "proxy": proxy, "services": {"web": service}}, allow_unicode=True)
    assert refused_or_loaded(tmp_path, raw.encode("utf-8", "surrogatepass"))


def refused_or_loaded(folder: Path, raw: bytes) -> Iterable[object]:
    try:
        return [loaded(folder, raw)]
    except ConfigRejected as refused:
        return refused.problems


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("balance: ip_hash", "the other answers GET, HEAD and OPTIONS only"),
        ("balance: {hash: uri}", "the other answers GET, HEAD and OPTIONS only"),
        (
            "balance: ip_hash\n    protocol: grpc\n    tls: {cert: file:c.pem, key: file:k.pem}",
            "no colour stands in for calls",
        ),
        ("basic_auth: file:htpasswd", "passwords travel readable without HTTPS"),
    ],
)
def test_what_a_setting_costs_is_said(tmp_path: Path, keys: str, words: str) -> None:
    text = "project: shop\nservices:\n  web:\n    container: {image: x}\n    port: 80\n    health: none\n"
    (warning,) = loaded(tmp_path, f"{text}    {keys}\n").warnings
    assert words in warning


@pytest.mark.parametrize(
    ("cutover", "words"),
    [
        ("live", "moves of traffic lose none"),
        ("reload", "every move reloads nginx, and a reload loses requests of HTTP/3"),
    ],
)
def test_what_http3_loses_is_said(tmp_path: Path, cutover: str, words: str) -> None:
    tls = "hosts: [a.t], tls: {cert: file:c.pem, key: file:k.pem}"
    web = f"web: {{container: {{image: x}}, port: 80, health: none, {tls}}}"
    text = f"project: shop\nproxy: {{http3: true, cutover: {cutover}}}\nservices:\n  {web}\n"
    *_, warning = loaded(tmp_path, text).warnings
    assert "proxy.http3: " in warning
    assert words in warning


@pytest.mark.parametrize(
    ("health", "scheme"),
    [("{path: /}", "https"), ("{path: /, port: 9000}", "http"), ("{path: /, scheme: http}", "http")],
)
def test_replicas_that_speak_tls_are_probed_by_https_on_their_port(tmp_path: Path, health: str, scheme: str) -> None:
    text = "project: shop\nservices:\n  web:\n    container: {image: x}\n    port: 8443\n    hosts: [a.t]\n"
    (web,) = loaded(tmp_path, f"{text}    health: {health}\n    upstream_tls: {{ca: file:ca.pem}}\n").services
    assert web.health.scheme == scheme
    assert web.upstream_tls == UpstreamTls(ca=str(tmp_path / "ca.pem"), server_name="a.t")
