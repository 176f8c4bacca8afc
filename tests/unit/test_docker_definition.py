"""A container definition as the engine's client wants it, secrets resolved."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxyctl.adapters.docker.definition import environment, named_volumes, options, restart_policy
from proxyctl.domain.model import Container
from proxyctl.errors import Unavailable

IMAGE = "shop/web:1.4"


def in_file(tmp_path: Path, text: str) -> Container:
    (tmp_path / "web.env").write_text(text)
    return Container(image=IMAGE, env_file=(str(tmp_path / "web.env"),))


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=plain", "plain"),
        ("A=", ""),
        ("  A = spaced ", "spaced"),
        ("export A=exported", "exported"),
        ("A='single # quoted'", "single # quoted"),
        ('A="double quoted"', "double quoted"),
        ("A=before # after", "before"),
        ("A=a#b", "a#b"),
        ("A=x=y", "x=y"),
    ],
)
def test_an_env_file_is_read_as_compose_reads_it(tmp_path: Path, line: str, value: str) -> None:
    assert environment(in_file(tmp_path, f"\n# A=comment\n{line}\n")) == {"A": value}


def test_a_line_without_a_value_sets_nothing(tmp_path: Path) -> None:
    assert environment(in_file(tmp_path, "A\n")) == {}


def test_environment_goes_over_env_files_and_a_later_file_over_an_earlier_one(tmp_path: Path) -> None:
    paths = [tmp_path / "1.env", tmp_path / "2.env"]
    paths[0].write_text("A=1\nB=1\nC=1\n")
    paths[1].write_text("B=2\nC=2\n")
    definition = Container(image=IMAGE, env_file=tuple(map(str, paths)), environment=(("C", "3"),))
    assert environment(definition) == {"A": "1", "B": "2", "C": "3"}


def test_references_are_replaced_by_what_they_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "secret")
    (tmp_path / "key").write_text("line 1\nline 2\n")
    given = (("A", "env:DB_PASSWORD"), ("B", f"file:{tmp_path}/key"), ("C", "http://env:8000"))
    assert environment(Container(image=IMAGE, environment=given)) == {
        "A": "secret",
        "B": "line 1\nline 2",
        "C": "http://env:8000",
    }


def test_a_reference_inside_an_env_file_is_only_text(tmp_path: Path) -> None:
    assert environment(in_file(tmp_path, "A=env:HOME\n")) == {"A": "env:HOME"}


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=f"env_file wants the file {tmp_path}/none: no such file"):
        environment(Container(image=IMAGE, env_file=(f"{tmp_path}/none",)))
    (tmp_path / "latin").write_bytes(b"A=\xe9")
    with pytest.raises(Unavailable, match="not UTF-8"):
        environment(Container(image=IMAGE, env_file=(f"{tmp_path}/latin",)))


def test_what_the_definition_leaves_out_stays_the_images() -> None:
    assert options(Container(image=IMAGE)) == {}


def test_an_empty_command_is_not_a_missing_one() -> None:
    assert options(Container(image=IMAGE, command=(), init=False)) == {"command": [], "init": False}


def test_a_restart_policy_may_carry_a_count() -> None:
    assert restart_policy("unless-stopped") == {"Name": "unless-stopped"}
    assert restart_policy("on-failure:3") == {"Name": "on-failure", "MaximumRetryCount": 3}


def test_only_named_volumes_are_ours_to_make() -> None:
    definition = Container(image=IMAGE, volumes=("/srv/data:/data:ro", "cache:/cache"))
    assert named_volumes(definition) == ["cache"]
