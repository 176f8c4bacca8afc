"""What services inherit from a Compose file, and what of it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxyctl.config.interpolate import dotenv, replaced
from proxyctl.config.load import Project, load
from proxyctl.domain.model import Container
from proxyctl.errors import ConfigRejected

OURS = """\
project: shop
compose: deploy/compose.yml
services:
  web: {port: 8000, health: none%s}
"""


def loaded(folder: Path, compose: str, more: str = "", environment: dict[str, str] | None = None) -> Project:
    (folder / "deploy").mkdir(exist_ok=True)
    (folder / "deploy" / "compose.yml").write_text(compose)
    (folder / "proxyctl.yml").write_text(OURS % more)
    return load(folder / "proxyctl.yml", environment=environment or {})


def container(folder: Path, compose: str, more: str = "", environment: dict[str, str] | None = None) -> Container:
    return loaded(folder, compose, more, environment).services[0].container


def problems(folder: Path, compose: str) -> list[str]:
    with pytest.raises(ConfigRejected) as refused:
        loaded(folder, compose)
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
    deploy: {replicas: 3}
"""
    warnings = loaded(tmp_path, compose).warnings
    left_out = [line.split(": ")[1].rpartition(".")[2] for line in warnings if "left out" in line]
    assert left_out == ["build", "depends_on", "profiles", "ports", "expose", "container_name", "deploy"]


def test_a_key_that_we_do_not_carry_is_refused_by_name_and_place(tmp_path: Path) -> None:
    compose = """\
services:
  web:
    image: x
    cap_add: [NET_ADMIN]
    deploy: {resources: {}}
  other: {privileged: true}
include: [x.yml]
"""
    found = problems(tmp_path, compose)
    assert [line.split(": ")[:2] for line in found] == [
        ["4:5", "services.web.cap_add"],
        ["5:5", "services.web.deploy"],
        ["7:1", "include"],
    ]


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


def test_lines_that_assign_nothing_are_left_out_of_an_env_file() -> None:
    assert dotenv('\n#c\nno\nA=1 #c\nB="x # y"\nC=\n D = e \n') == {"A": "1", "B": "x # y", "C": "", "D": "e"}


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
