"""What services inherit from a Compose file, and what of it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxyctl.config.interpolate import replaced
from proxyctl.config.load import Project, load
from proxyctl.domain.container import Container, GrantedFile
from proxyctl.domain.model import Strategy
from proxyctl.domain.rolling import FailureAction, Order, Rolling
from proxyctl.errors import ConfigRejected

OURS = """\
project: shop
compose: deploy/compose.yml
services:
  web: {port: 8000, health: none, allow: [shared-volumes]%s}
"""


def loaded(folder: Path, compose: str, more: str = "", environment: dict[str, str] | None = None) -> Project:
    (folder / "deploy").mkdir(exist_ok=True)
    (folder / "deploy" / "compose.yml").write_text(compose)
    (folder / "proxyctl.yml").write_text(OURS % more)
    return load(folder / "proxyctl.yml", environment=environment or {})


def container(folder: Path, compose: str, more: str = "", environment: dict[str, str] | None = None) -> Container:
    return loaded(folder, compose, more, environment).services[0].container


def problems(folder: Path, compose: str, more: str = "") -> list[str]:
    with pytest.raises(ConfigRejected) as refused:
        loaded(folder, compose, more)
    return [line.rpartition("compose.yml:")[2] for line in refused.value.problems]


def test_a_service_inherits_its_container_by_name_and_lays_its_own_over_it(tmp_path: Path) -> None:
    compose = """\
services:
  web:
    image: shop/web:1
    command: serve
    environment: {A: old, B: kept}
    volumes: ["/srv/a:/data", "/srv/b:/kept"]
"""
    own = ', container: {image: "shop/web:2", environment: [A=new], volumes: ["/srv/c:/data"]}'
    assert container(tmp_path, compose, own) == Container(
        image="shop/web:2",
        command=("serve",),
        environment=(("B", "kept"), ("A", "new")),
        volumes=("/srv/b:/kept", "/srv/c:/data"),
    )


def test_relative_paths_are_those_of_the_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "web.env").touch()
    (tmp_path / "own.env").touch()
    compose = 'services: {web: {image: x, env_file: web.env, volumes: ["./a:/a"]}}'
    inherited = container(tmp_path, compose)
    assert inherited.env_file == (f"{tmp_path}/deploy/web.env",)
    assert inherited.volumes == (f"{tmp_path}/deploy/a:/a",)
    own = container(tmp_path, compose, ', container: {env_file: own.env, volumes: ["./b:/b"]}')
    assert own.env_file == (f"{tmp_path}/own.env",)
    assert own.volumes == (f"{tmp_path}/deploy/a:/a", f"{tmp_path}/b:/b")


def test_variables_come_from_the_environment_then_from_the_env_file_beside(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / ".env").write_text("TAG=1\nNAME='a b' # c\n# X=1\nexport BOTH=file\n")
    compose = (
        'services: {web: {image: "shop/web:${TAG}", environment: {N: "$NAME", B: "${BOTH}", D: "$$x", E: "${NO-e}"}}}'
    )
    found = container(tmp_path, compose, environment={"BOTH": "environment"})
    assert found.image == "shop/web:1"
    assert found.environment == (("N", "a b"), ("B", "environment"), ("D", "$x"), ("E", "e"))


def test_what_matters_to_compose_alone_is_left_out_with_a_warning(tmp_path: Path) -> None:
    compose = """\
version: "3"
services:
  web:
    image: x
    x-team: a
    build: .
    depends_on: [db]
    profiles: [p]
    ports: ["${NOT_SET}:80"]
    expose: [80]
    container_name: w
    deploy: {replicas: 3, mode: replicated, update_config: {order: start-first}, resources: {reservations: {cpus: 1}}}
"""
    warnings = loaded(tmp_path, compose, ", strategy: blue-green").warnings
    left_out = [line.split(": ")[1].removeprefix("services.web.") for line in warnings if "left out" in line]
    assert left_out == [
        *("build", "depends_on", "profiles", "ports", "expose", "container_name"),
        *("deploy.update_config", "deploy.resources.reservations.cpus"),
    ]


UPDATES = """\
services:
  web:
    image: x
    deploy:
      update_config:
        parallelism: "${BATCH}"
        delay: 1m30s
        order: start-first
        monitor: 12s
        max_failure_ratio: "0.3"
        failure_action: rollback
"""
BATCH = {"BATCH": "2"}


def test_how_compose_updates_is_the_strategy_where_none_is_written(tmp_path: Path) -> None:
    project = loaded(tmp_path, UPDATES, environment=BATCH)
    (service,) = project.services
    assert service.strategy is Strategy.ROLLING
    assert service.rolling == Rolling(
        parallelism=2,
        delay=90.0,
        order=Order.START_FIRST,
        monitor=12.0,
        max_failure_ratio=0.3,
        failure_action=FailureAction.ROLLBACK,
    )
    (told,) = project.warnings
    assert told.endswith(
        "compose.yml:5:7: services.web.deploy.update_config: "
        "taken as strategy: rolling; strategy beside container would go before it"
    )


def test_what_compose_leaves_open_of_an_update_is_as_compose_has_it(tmp_path: Path) -> None:
    (service,) = loaded(tmp_path, "services: {web: {image: x, deploy: {update_config: {order: stop-first}}}}").services
    assert service.rolling == Rolling(monitor=5.0)


def test_a_strategy_of_ones_own_goes_before_how_compose_updates(tmp_path: Path) -> None:
    project = loaded(tmp_path, UPDATES, ", strategy: blue-green", BATCH)
    assert (project.services[0].strategy, project.services[0].rolling) == (Strategy.BLUE_GREEN, None)
    assert [line.partition("update_config: ")[2] for line in project.warnings] == [
        "left out: strategy beside container goes before it"
    ]


@pytest.mark.parametrize(
    ("written", "at"),
    [
        ("deploy: {replicas: 3}", "deploy.replicas"),
        ('scale: "${BATCH}"', "scale"),
        ("deploy: {replicas: 3}, scale: 3", "deploy.replicas"),
    ],
)
def test_as_many_replicas_as_compose_has_where_none_are_written(tmp_path: Path, written: str, at: str) -> None:
    compose = f"services: {{web: {{image: x, {written}}}}}"
    project = loaded(tmp_path, compose, environment={"BATCH": "3"})
    assert project.services[0].replicas == 3
    (told,) = (line for line in project.warnings if "taken" in line)
    assert told.endswith(f"services.web.{at}: taken as replicas: 3; replicas beside container would go before it")
    project = loaded(tmp_path, compose, ", replicas: 2", {"BATCH": "3"})
    assert project.services[0].replicas == 2
    assert f"services.web.{at}: left out: replicas beside container goes before it" in project.warnings[0]


@pytest.mark.parametrize("written", ["0", "65", "many", "[1]"])
def test_a_number_of_replicas_that_cannot_be_had_is_refused_at_its_place(tmp_path: Path, written: str) -> None:
    (line,) = problems(tmp_path, f"services: {{web: {{image: x, deploy: {{replicas: {written}}}}}}}")
    assert line.startswith("1:") and "write a whole number from 1 to 64, or replicas beside container" in line


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("{order: sideways}", "services.web.deploy.update_config.order: "),
        ("{monitor: 200ms}", "write a duration of at least 1s"),
        ("{max_failure_ratio: 2}", "write a part of all replicas from 0 to 1"),
        ("{parallelism: many}", "write a whole number from 0 to 64"),
        ("{paralelism: 2}", "parallelism"),
        ("rolling", "write a mapping, such as order: start-first"),
    ],
)
def test_an_update_that_compose_would_not_take_is_refused_at_its_place(
    tmp_path: Path, written: str, words: str
) -> None:
    (line,) = problems(tmp_path, f"services: {{web: {{image: x, deploy: {{update_config: {written}}}}}}}")
    assert line.startswith("1:") and words in line


def test_what_does_not_fit_how_compose_updates_says_where_that_is_written(tmp_path: Path) -> None:
    probed = ", health: {path: /, interval: 5s}"
    with pytest.raises(ConfigRejected) as refused:
        loaded(tmp_path, UPDATES, ", bake: 60s", BATCH)
    assert "not with strategy rolling in update_config of the Compose file" in refused.value.problems[0]
    (tmp_path / "proxyctl.yml").write_text((OURS % probed).replace("health: none, ", ""))
    with pytest.raises(ConfigRejected) as refused:
        load(tmp_path / "proxyctl.yml", environment=BATCH)
    assert "write 21s or more in update_config of the Compose file" in refused.value.problems[0]


def test_a_key_that_we_do_not_carry_is_refused_by_name_and_place(tmp_path: Path) -> None:
    compose = """\
services:
  web:
    image: x
    comand: x
    network_mode: "service:db"
    links: [db]
    deploy: {mode: global, placement: {constraints: [node.role == manager]}}
  other: {network_mode: host}
include: [x.yml]
"""
    found = problems(tmp_path, compose)
    assert [line.split(": ")[:2] for line in found] == [
        ["4:5", "services.web.comand"],
        ["5:19", "services.web.network_mode"],
        ["6:5", "services.web.links"],
        ["7:14", "services.web.deploy.mode"],
        ["7:28", "services.web.deploy.placement"],
        ["9:1", "include"],
    ]
    assert "nginx reaches a replica at an address of its own; write networks" in found[1]


def test_problems_of_both_files_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigRejected) as refused:
        loaded(tmp_path, "services: {web: {image: X, comand: y}}", ", replicas: 0")
    assert [line.split(": ")[1] for line in refused.value.problems] == [
        "services.web.replicas",
        "services.web.image",
        "services.web.comand",
    ]


@pytest.mark.parametrize("text", ["${A", "${A:+x}", "${}", "$", "a $1", "${A:?}", "${A?why}", "${A}", "${A:-${B}}"])
def test_a_variable_that_is_missing_or_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    line = problems(tmp_path, f'services: {{web: {{image: x, user: "{text}"}}}}')[0]
    assert line.startswith("1:34: services.web.user: ")
    with pytest.raises(ValueError, match=r"is not set|\$ begins no variable"):
        replaced(text, {})


def test_an_empty_variable_takes_the_word_only_with_a_colon() -> None:
    assert replaced("${A-x}${A:-y}", {"A": ""}) == "y"


def test_networks_and_volumes_have_the_names_that_compose_gives_them(tmp_path: Path) -> None:
    compose = """\
name: shop-${STAGE:-test}
services:
  web: {image: x, networks: [back, front, out], volumes: ["data:/data", "given:/given"]}
networks: {back: , front: {name: fronts}, out: {external: true}}
volumes: {data: , given: {name: "v${STAGE:-1}"}}
"""
    found = container(tmp_path, compose)
    assert found.networks == ("shop-test_back", "fronts", "out")
    assert found.volumes == ("shop-test_data:/data", "v1:/given")
    assert container(tmp_path, compose, environment={"COMPOSE_PROJECT_NAME": "p"}).networks[0] == "p_back"


def test_an_undeclared_network_is_refused(tmp_path: Path) -> None:
    assert "is not declared under networks" in problems(tmp_path, "services: {web: {image: x, networks: [a]}}")[0]


def test_a_service_joins_composes_network_when_others_stay_with_compose(tmp_path: Path) -> None:
    project = loaded(tmp_path, "services: {web: {image: x}, db: {image: postgres}}")
    assert project.services[0].container.networks == ("deploy_default",)
    assert "joins the network deploy_default" in project.warnings[0]
    assert container(tmp_path, "services: {web: {image: x}}").networks == ()


def test_a_service_that_compose_does_not_know_needs_an_image(tmp_path: Path) -> None:
    with pytest.raises(ConfigRejected) as refused:
        loaded(tmp_path, "services: {}")
    assert "container.image: missing; write it here or in the Compose file" in refused.value.problems[0]


# --- what is changed on the way ---------------------------------------------------------------------------------


def test_what_is_for_a_swarm_is_left_out_where_it_is_allowed(tmp_path: Path) -> None:
    compose = "services: {web: {image: x, deploy: {mode: global, placement: {max_replicas_per_node: 1}}}}"
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "compose.yml").write_text(compose)
    (tmp_path / "proxyctl.yml").write_text((OURS % "").replace("shared-volumes", "swarm"))
    warnings = load(tmp_path / "proxyctl.yml", environment={}).warnings
    assert [line.split(": ")[1] for line in warnings] == ["services.web.deploy.mode", "services.web.deploy.placement"]


def test_nothing_else_but_the_networks_name_is_taken_from_its_settings(tmp_path: Path) -> None:
    compose = """\
services:
  web:
    image: x
    mac_address: 02:42:ac:11:65:43
    networks:
      back: {ipv4_address: 10.0.0.5, aliases: [web]}
      front:
networks: {back: {external: true}, front: {external: true}}
"""
    project = loaded(tmp_path, compose)
    assert project.services[0].container.networks == ("back", "front")
    assert [line.split(": ")[1].removeprefix("services.web.") for line in project.warnings] == [
        "mac_address",
        "networks.back.ipv4_address",
        "networks.back.aliases",
    ]


def test_a_setting_of_a_network_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    compose = "services: {web: {image: x, networks: {back: {alias: x}}}}\nnetworks: {back: }"
    assert "settings of one network are not carried" in problems(tmp_path, compose)[0]


def test_what_makes_another_proxy_route_a_container_is_left_out(tmp_path: Path) -> None:
    compose = """\
services:
  web:
    image: x
    labels: {traefik.enable: "true", caddy: a.t, team: shop}
    environment: [VIRTUAL_HOST=a.t, LOG=1]
"""
    project = loaded(tmp_path, compose)
    assert project.services[0].container.labels == (("team", "shop"),)
    assert project.services[0].container.environment == (("LOG", "1"),)
    assert ["traefik.enable, caddy" in line or "VIRTUAL_HOST" in line for line in project.warnings] == [True, True]


def test_a_label_of_another_proxy_in_our_own_file_is_doubted(tmp_path: Path) -> None:
    warnings = loaded(tmp_path, "services: {web: {image: x}}", ', container: {labels: ["caddy=a.t"]}').warnings
    assert "has another proxy route candidates, past the gate" in warnings[0]


def test_a_privileged_container_is_taken_with_a_warning(tmp_path: Path) -> None:
    project = loaded(tmp_path, "services: {web: {image: x, privileged: true}}")
    assert "as good as root on the host" in project.warnings[0]


def test_a_container_that_a_killed_engine_would_leave_stopped_is_taken_with_a_warning(tmp_path: Path) -> None:
    project = loaded(tmp_path, "services: {web: {image: x, restart: unless-stopped}}")
    assert project.services[0].container.restart == "unless-stopped"
    assert "leaves it stopped once dockerd itself was killed" in project.warnings[0]


def test_secrets_and_configs_are_what_the_file_declares_them_to_be(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "db.txt").write_text("secret")
    compose = """\
services:
  web:
    image: x
    secrets: [db, {source: token, target: /run/token, mode: 0400, uid: "1000"}]
    configs: [app]
secrets: {db: {file: ./db.txt}, token: {environment: TOKEN}}
configs: {app: {content: "level=${LEVEL}"}}
"""
    found = container(tmp_path, compose, environment={"LEVEL": "debug"})
    assert found.secrets == (
        GrantedFile(target="/run/secrets/db", content=f"file:{tmp_path}/deploy/db.txt"),
        GrantedFile(target="/run/token", content="env:TOKEN", uid=1000, mode=0o400),
    )
    assert found.configs == (GrantedFile(target="/app", content="text:level=debug"),)


def test_the_rights_of_a_mounted_file_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "db.txt").write_text("secret")
    compose = "services: {web: {image: x, secrets: [{source: db, mode: 0400}]}}\nsecrets: {db: {file: db.txt}}"
    project = loaded(tmp_path, compose)
    assert project.services[0].container.secrets[0].mode == 0o444
    assert "secrets.0.mode: left out: a file is mounted as it is" in project.warnings[0]


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ("secrets: {}", "is not declared under secrets"),
        ("secrets: {db: {external: true}}", "it lives outside of the file"),
        ("secrets: {db: {file: none}}", "there is no file"),
    ],
)
def test_a_secret_that_cannot_be_had_is_refused(tmp_path: Path, declared: str, words: str) -> None:
    assert words in problems(tmp_path, f"services: {{web: {{image: x, secrets: [db]}}}}\n{declared}")[0]


# --- two releases side by side ----------------------------------------------------------------------------------


@pytest.mark.parametrize("volume", ["data:/data", "/srv/data:/data:z"])
def test_a_volume_that_two_releases_would_write_to_is_refused_unless_allowed(tmp_path: Path, volume: str) -> None:
    compose = f'services: {{web: {{image: x, volumes: ["{volume}"]}}}}\nvolumes: {{data: }}'
    assert loaded(tmp_path, compose)
    (tmp_path / "proxyctl.yml").write_text((OURS % "").replace("shared-volumes", "database"))
    with pytest.raises(ConfigRejected) as refused:
        load(tmp_path / "proxyctl.yml", environment={})
    assert "two releases would write to" in refused.value.problems[0]
    (tmp_path / "deploy" / "compose.yml").write_text(compose.replace(":/data", ":/data:ro").replace("ro:z", "ro,z"))
    assert load(tmp_path / "proxyctl.yml", environment={})


def test_a_volume_that_compose_would_make_with_a_driver_is_to_be_made_before(tmp_path: Path) -> None:
    compose = "services: {web: {image: x, volumes: ['data:/d:ro']}}\nvolumes: {data: {driver_opts: {type: nfs}}}"
    assert "volumes.data.driver_opts: matters only to who makes the volume" in loaded(tmp_path, compose).warnings[0]


def test_a_volume_without_a_name_is_of_one_container_alone(tmp_path: Path) -> None:
    (tmp_path / "proxyctl.yml").write_text(
        "project: shop\nservices: {web: {container: {image: x, volumes: [/cache]}, health: none}}"
    )
    assert load(tmp_path / "proxyctl.yml", environment={}).services[0].container.volumes == ("/cache",)


@pytest.mark.parametrize("image", ["redis", "postgres:16", "quay.io/x/mariadb@sha256:" + "0" * 64])
def test_a_database_is_refused_unless_allowed(tmp_path: Path, image: str) -> None:
    compose = f'services: {{web: {{image: "{image}"}}}}'
    with pytest.raises(ConfigRejected) as refused:
        loaded(tmp_path, compose)
    assert "write allow: [database]" in refused.value.problems[0]
    (tmp_path / "proxyctl.yml").write_text((OURS % "").replace("shared-volumes", "database"))
    assert load(tmp_path / "proxyctl.yml", environment={}).services[0].container.image == image
