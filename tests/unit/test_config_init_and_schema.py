"""The file that `init` writes loads; the schema and the documentation say what the loader takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from proxyctl.config.init import commented_file
from proxyctl.config.load import Project, load
from proxyctl.config.places import project_name
from proxyctl.config.schema import json_schema
from proxyctl.domain.model import HealthKind
from proxyctl.errors import ConfigRejected

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "configuration.md"
COMPOSE = """\
services:
  web:
    build: .
    ports: ["${PORT:-8080}:8000"]
    depends_on: [db]
  api:
    image: shop/api
    expose: ["9000/tcp"]
    healthcheck: {test: [CMD, "true"]}
  long: {image: a, ports: [{target: 7000, published: 80}]}
  writes: {image: x, ports: ["1:1"], volumes: ["/data:/data"], deploy: {mode: global}}
  host: {image: x, expose: [9100], network_mode: host, volumes: ["/data:/data"]}
  unknown: {image: x, network_mode: host}
  edge: {image: x, expose: [80], network_mode: host}
  beside: {image: x, expose: [1], network_mode: "service:web"}
  db: {image: "postgres:16", ports: ["5432:5432"]}
  my_job: {image: x, ports: ["1:1"]}
  worker: {image: x}
"""


def written(folder: Path, text: str) -> Project:
    (folder / "proxyctl.yml").write_text(text)
    return load(folder / "proxyctl.yml", environment={})


def test_the_first_file_loads_as_it_stands(tmp_path: Path) -> None:
    project = written(tmp_path, commented_file("shop"))
    assert (project.project, project.warnings) == ("shop", ())
    assert project.services[0].health.kind is HealthKind.HTTP
    assert project_name(project.path) == "shop"


def test_the_first_file_has_the_services_that_clients_of_a_compose_file_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("compose.yml").write_text(COMPOSE)
    text = commented_file("shop", Path("compose.yml"))
    services = {service.name: service for service in written(tmp_path, text).services}
    assert {str(name): service.port for name, service in services.items()} == {
        "web": 8000,
        "api": 9000,
        "long": 7000,
        "writes": 1,
        "host": 9100,
    }
    kinds = [service.health.kind for service in services.values()]
    assert kinds == [HealthKind.TCP, HealthKind.DOCKER, HealthKind.TCP, HealthKind.TCP, HealthKind.TCP]
    assert "allow: [shared-volumes, swarm]" in text
    assert "allow: [host-network]" in text and "strategy: recreate" in text
    instead = ", or write its port with strategy: recreate and allow: [host-network]"
    assert [line for line in text.splitlines() if line.startswith('# "')] == [
        f'# "unknown" stays with Compose{instead}',
        '# "edge" stays with Compose',
        '# "beside" stays with Compose',
        '# "db" stays with Compose',
        '# "my_job" stays with Compose',
        '# "worker" stays with Compose',
    ]


def test_one_service_of_a_compose_file_catches_all_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("compose.yml").write_text('services: {web: {image: x, ports: ["80:80"]}}')
    assert written(tmp_path, commented_file("shop", Path("compose.yml"))).services[0].hosts == ()


def test_a_compose_file_that_cannot_be_read_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigRejected) as refused:
        commented_file("shop", tmp_path / "nowhere.yml")
    assert "No such file" in refused.value.problems[0]


@pytest.mark.parametrize(
    ("text", "words", "stays"),
    [
        ("service: shop\nimage: shop/web\nservers: [192.0.2.1]\n", "has no services", ()),
        ("services: {worker: {image: x}}", "has no service that clients", ('"worker" stays with Compose',)),
    ],
)
def test_a_file_without_anything_to_take_is_refused_and_not_replaced_by_the_example(
    tmp_path: Path, text: str, words: str, stays: tuple[str, ...]
) -> None:
    (tmp_path / "deploy.yml").write_text(text)
    with pytest.raises(ConfigRejected, match=words) as refused:
        commented_file("shop", tmp_path / "deploy.yml")
    assert refused.value.problems == stays


def test_a_project_that_cannot_be_called_so_is_refused_before_anything_is_written() -> None:
    with pytest.raises(ConfigRejected, match="not a name"):
        commented_file("1")


# --- schema -----------------------------------------------------------------------------------------------------


def test_the_schema_describes_every_key_of_a_service_and_refuses_others() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["project", "services"]
    service = schema["$defs"]["ServiceFile"]
    assert service["additionalProperties"] is False
    words = [form["enum"] for form in service["properties"]["strategy"]["oneOf"] if "enum" in form]
    assert words == [["blue-green", "canary", "rolling", "recreate"]]
    assert {"weight", "for", "pause", "gate", "hook"} == set(schema["$defs"]["StepFile"]["properties"])
    assert re.fullmatch(service["properties"]["bake"]["pattern"], service["properties"]["bake"]["default"])


def test_the_schema_never_offers_null() -> None:
    allowed = json_schema()
    environment = allowed["$defs"]["ContainerFile"]["properties"].pop("environment")
    allowed["$defs"]["ContainerFile"]["properties"].pop("networks")
    assert environment  # there, no value means: from the environment
    assert not list(nulls(allowed))


def nulls(schema: Any) -> Any:
    if isinstance(schema, dict):
        if schema.get("type") == "null":
            yield schema
        for value in schema.values():
            yield from nulls(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from nulls(value)


# --- documentation ----------------------------------------------------------------------------------------------


def examples() -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", DOCUMENTATION.read_text(), re.DOTALL)


@pytest.mark.parametrize("example", examples(), ids=range(len(examples())))
def test_every_example_of_the_documentation_loads(example: str, tmp_path: Path) -> None:
    (tmp_path / "docker-compose.yml").write_text(
        "services: {web: {image: shop/web, ports: ['80:80']}, db: {image: postgres}}"
    )
    (tmp_path / "web.env").touch()
    (tmp_path / "templates").mkdir()
    text = example
    if "project:" not in text:
        text = "project: shop\n" + text
    if "services:" not in text:
        text += "services: {web: {container: {image: x}, health: none}}\n"
    assert written(tmp_path, text).services


def test_every_key_is_documented() -> None:
    text = DOCUMENTATION.read_text()
    keys = {key for model in json_schema()["$defs"].values() for key in model.get("properties", {})}
    assert not sorted(key for key in keys if f"`{key}`" not in text)
