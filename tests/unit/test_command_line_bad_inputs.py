"""Every value that a command takes is refused when it is a bad one: exit code 2, in words that name it, before anything
is opened, and without showing a terminal what could move its cursor. Of files the same is in test_config_bad_inputs.

BAD has the rows, by what a value is; a parameter of a command that has none there fails. Add a row, not a test.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from proxyctl.cli.main import COMMANDS
from tests.prove.ground import Ground
from tests.typist import Typed, Typist, a_typist
from tests.unit.config.bad_inputs import IMAGES, NAMES

LONG = "x" * 10_000
UNPRINTABLE = ("\x1b[2J", "web\n", "web\r\nnext: all is well", "web\u202e", "web\u200b", "\udcff\udcfe", "web\x7f")
WORDS = (LONG, *UNPRINTABLE)
NUMBERS = (
    *("", " ", " 5", "5 ", "+5", "05", "--5", "1_0", "0x10", "1e1", "1e309", "1,5", "5.", ".5", "٣", "５"),
    *("nan", "-nan", "inf", "-inf", "five", "true", "None", "$(id)"),
)
WHOLE_NUMBERS = (*NUMBERS, "-1", "5%", "1.5", "-0", "9" * 11, "9" * 5_000, *UNPRINTABLE)
PATHS = ("", *WORDS)
FILES = (*PATHS, "nowhere.yml", "../../../../nowhere.yml", "x" * 300, ".", "/", "/dev/null", "/dev/null/x", "-rf", "~")

BAD: dict[str, tuple[str, ...]] = {
    "service": tuple(value for value, _ in NAMES if "\0" not in value),
    "services": tuple(value for value, _ in NAMES if "\0" not in value),
    "project": tuple(value for value, _ in NAMES if "\0" not in value),
    "image": tuple(value for value, _ in IMAGES if "\0" not in value),
    "to": ("", " ", "web 1", "web-1;", "WEB-1", "../web-1", "wеb-1", "web_1", "$(id)", *WORDS),
    "reason": (LONG, "because\nof that", "a\tb", *UNPRINTABLE),
    "percent": (*NUMBERS, "-1", "-0.01", "%", "5%%", "101%", "100.01", "101", "12.345", "9" * 5_000, *UNPRINTABLE),
    "tail": (*WHOLE_NUMBERS, "100001"),
    "seed": WHOLE_NUMBERS,
    "from_step": (*WHOLE_NUMBERS, "0"),
    "error_rate": ("", "%", "x", "nan", "nan%", "inf%", "-1%", "101%", "1e1%", "0x1", "5%%", "5,5%", "٣%", *WORDS),
    "latency": ("", "x", "x0", "0", "x-1", "-2", "nan", "xinf", "1e9", "x99999", "2x", "x2,5", "٣", "1_0", *WORDS),
    "weights": ("", ",", "5,,50", "50,5", "5,5", "0,5", "5,100", "5;50", "nan,50", "-5,50", "1_0,50", *WORDS),
    "file": FILES,
    "state": PATHS,
    "log": FILES,
    "compose": FILES,
    "from_argo": FILES,
    "from_flagger": FILES,
    "shell": ("", " ", "fish", "BASH", "bash;", *WORDS),
}
WRITTEN = (*PATHS, "x" * 300, ".", "/", "nowhere/x.yml", "proxyctl.yml", "proxyctl.yml/x")  # where `init` shall write
GOOD = {"service": "web", "percent": "5", "shell": "bash", "log": "proxyctl.yml"}


class Parameter(NamedTuple):
    """One that takes a value, of a command."""

    command: str
    name: str
    option: str  # as it is typed; "" for an argument
    named: str  # in every refusal
    others: tuple[click.Parameter, ...]  # that the command demands beside it

    def line(self, value: str) -> list[str]:
        """All else is right."""
        options = [
            f"{other.opts[0]}={GOOD[str(other.name)]}" for other in self.others if other.param_type_name == "option"
        ]
        arguments = [GOOD[str(other.name)] for other in self.others if other.param_type_name == "argument"]
        if self.option:
            return [*self.command.split(), *options, f"{self.option}={value}", "--", *arguments]
        at = 1 if self.name == "percent" else 0
        return [*self.command.split(), *options, "--", *arguments[:at], value, *arguments[at:]]

    @property
    def rows(self) -> tuple[str, ...]:
        """Where three commands or more take the same, by the same reader, each gets a third of them."""
        if (self.command, self.name) == ("init", "file"):
            return WRITTEN
        alike = [one for one in ALL if one.name == self.name]
        return BAD[self.name][alike.index(self) % 3 :: 3] if len(alike) >= 3 else BAD[self.name]


def parameters() -> Iterator[Parameter]:
    for name, (module, _) in COMMANDS.items():
        yield from _of(name, getattr(import_module(f"proxyctl.cli.{module}"), name))


def _of(name: str, command: click.Command) -> Iterator[Parameter]:
    if isinstance(command, click.Group):
        for below, each in command.commands.items():
            yield from _of(f"{name} {below}", each)
    for one in command.params:
        if not getattr(one, "is_flag", False):
            others = tuple(other for other in command.params if other is not one and other.required)
            option = max(one.opts, key=len) if one.param_type_name == "option" else ""
            named = "-f" if one.name == "file" else option or one.metavar or str(one.name).upper()
            yield Parameter(name, str(one.name), option, named, others)


ALL = list(parameters())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two releases of a service that is called web."""
    made = tmp_path_factory.mktemp("ground")
    asyncio.run(_two_releases(made))
    return made


async def _two_releases(folder: Path) -> None:
    ground = Ground(folder)
    for image in ("app:1", "app:2"):
        with ground.driven():
            await ground.deploy(image)
    ground.close()


@pytest.fixture(scope="module")
def typist(folder: Path) -> Iterator[Typist]:
    with a_typist(folder, {"PROXYCTL_STATE": str(folder / "state"), "HOME": str(folder), "TERM": "xterm"}) as made:
        yield made


def everything(folder: Path) -> dict[str, str]:
    """All that lies there, by its name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


def amiss(typed: Typed, named: str) -> list[str]:
    """What is not as it should be of a refusal."""
    errors = [line for line in typed.shown.split("\n") if line.lower().startswith("error: ")]
    wrong = []
    if typed.code != 2:
        wrong.append(f"exit code {typed.code}")
    if len(errors) != 1:
        wrong.append(f"{len(errors)} errors")
    if named.lower() not in "".join(typed.shown.partition(errors[0])[1:] if errors else "").lower():
        wrong.append(f"{named} is not named")
    if "Traceback" in typed.shown:
        wrong.append("a traceback")
    if not all(character.isprintable() or character == "\n" for character in typed.shown):
        wrong.append("it could move a cursor")
    if len(typed.shown) > 1_000:
        wrong.append(f"{len(typed.shown)} characters")
    return wrong


def test_the_terminal_shows_what_is_said_to_one(typist: Typist) -> None:
    """What these tests go by: what goes well is told from what does not."""
    typed = typist.type("history", "web")
    assert typed.code == 0, typed
    assert "web-1 -> web-2" in typed.shown


@pytest.mark.parametrize("parameter", ALL, ids=lambda one: f"{one.command}-{one.name}")
def test_a_bad_value_is_refused_in_words_and_nothing_is_written(
    parameter: Parameter, typist: Typist, folder: Path
) -> None:
    before = everything(folder)
    refused = {value: typist.type(*parameter.line(value)) for value in parameter.rows}
    wrong = {value[:40]: (what, typed) for value, typed in refused.items() if (what := amiss(typed, parameter.named))}
    assert not wrong
    assert everything(folder) == before


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("\x1b[2Jdeploy",), "No such command"),
        (("deploy\nerror: all is lost",), "No such command"),
        ((LONG,), "No such command"),
        (("proxy", "st\x07art"), "No such command"),
        (("status", "--\x1b[2Jwatch"), "No such option"),
        (("status", f"--{LONG}"), "No such option"),
        (("status", "web", "\x1b[2J"), "unexpected extra argument"),
        (("status", "--watch=\x1b[2J"), "does not take a value"),
        (("deploy", "--image"), "requires an argument"),
        (("switch",), "SERVICE"),
        (("weight", "web"), "PERCENT"),
        (("completion",), "bash|zsh"),
        (("init", "--compose", "proxyctl.yml", "--from-argo", "proxyctl.yml"), "one source"),
    ],
)
def test_words_that_are_no_command_are_refused_as_plainly(
    words: tuple[str, ...], named: str, typist: Typist, folder: Path
) -> None:
    before = everything(folder)
    typed = typist.type(*words)
    assert not amiss(typed, named), typed
    assert everything(folder) == before


@pytest.mark.parametrize(("words", "listed"), [((), "rollback"), (("proxy",), "upgrade")])
def test_a_group_without_a_command_shows_its_help(words: tuple[str, ...], listed: str, typist: Typist) -> None:
    typed = typist.type(*words)
    assert typed == (2, typist.type(*words, "--help").shown)
    assert f"\n  {listed} " in typed.shown


@pytest.mark.parametrize("percent", ["5", "5%", "5 %"])
def test_a_share_is_a_percentage_with_its_sign_and_without(percent: str, typist: Typist) -> None:
    """It is read: what is refused is that nobody knows the service."""
    assert "'nope' was never deployed" in typist.type("weight", "nope", percent).shown


def test_what_is_said_to_be_typed_next_is_of_the_project_that_was_named(typist: Typist, folder: Path) -> None:
    options = (f"--file={folder}/proxyctl.yml", f"--state={folder}/state")
    typed = typist.type("resume", "web", *options)
    assert f"next:    proxyctl deploy --file {folder}/proxyctl.yml --state {folder}/state web\n" in typed.shown, typed
    assert "next:    proxyctl deploy web\n" in typist.type("resume", "web").shown


def test_to_deploy_a_service_is_said_of_one_that_the_file_has(typist: Typist, tmp_path: Path) -> None:
    file = tmp_path / "other.yml"
    file.write_text("project: ground\nservices: {api: {container: {image: app}, health: none}}\n")
    assert f"next:    proxyctl deploy --file {file} api\n" in typist.type("status", "api", f"--file={file}").shown
    assert f"next:    name one of {file}: api\n" in typist.type("status", "nope", f"--file={file}").shown
    file.write_text("project: ground\nservices: nothing\n")
    assert f"next:    proxyctl check --file {file}\n" in typist.type("status", "nope", f"--file={file}").shown


@pytest.mark.parametrize("variable", ["PROXYCTL_FILE", "PROXYCTL_STATE"])
@pytest.mark.parametrize("value", [value for value in PATHS if value])
def test_a_bad_path_in_the_environment_is_named(variable: str, value: str, typist: Typist) -> None:
    assert not amiss(typist.type("history", **{variable: value}), variable)


def test_the_table_is_as_large_as_it_claims() -> None:
    assert sum(len(parameter.rows) for parameter in ALL) > 900
