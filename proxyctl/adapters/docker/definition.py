"""A container definition as docker-py wants it. References to secrets are resolved here, at creation, and nowhere else:
no value of theirs reaches a log line or an error."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from docker.types import Healthcheck

from proxyctl.domain.model import Container, DockerHealth
from proxyctl.errors import Unavailable

NANO = 1_000_000_000


def options(definition: Container) -> dict[str, Any]:
    """Keyword arguments of `containers.create`; what the definition leaves out stays the image's."""
    wanted = {
        "command": None if definition.command is None else list(definition.command),
        "entrypoint": None if definition.entrypoint is None else list(definition.entrypoint),
        "environment": environment(definition) or None,
        "volumes": list(definition.volumes) or None,
        "user": definition.user,
        "working_dir": definition.working_dir,
        "stop_signal": definition.stop_signal,
        "init": definition.init,
        "healthcheck": None if definition.healthcheck is None else _healthcheck(definition.healthcheck),
    }
    return {key: value for key, value in wanted.items() if value is not None}


def restart_policy(text: str) -> Any:
    name, _, most = text.partition(":")
    return {"Name": name, "MaximumRetryCount": int(most)} if most else {"Name": name}


def named_volumes(definition: Container) -> list[str]:
    sources = (volume.partition(":")[0] for volume in definition.volumes)
    return [source for source in sources if not source.startswith("/")]


def environment(definition: Container) -> dict[str, str]:
    """The env_files in their order, then `environment`. Raises Unavailable, naming what cannot be had."""
    found: dict[str, str] = {}
    for path in definition.env_file:
        found |= _variables(_read(path, "env_file"))
    return found | {name: _resolved(name, value) for name, value in definition.environment}


def _healthcheck(check: DockerHealth) -> Healthcheck:
    times = {"interval": check.interval, "timeout": check.timeout, "start_period": check.start_period}
    given: dict[str, Any] = {name: int(value * NANO) for name, value in times.items() if value is not None}
    if check.test:
        given["test"] = list(check.test)
    if check.retries is not None:
        given["retries"] = check.retries
    return Healthcheck(**given)


def _variables(text: str) -> dict[str, str]:
    """As Compose reads an env_file: comments, `export`, and one pair of quotes around a value."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not name.startswith("#"):
            found[name.strip()] = _unquoted(value.strip())
    return found


def _unquoted(value: str) -> str:
    quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if quoted else value.partition(" #")[0].rstrip()


def _resolved(name: str, value: str) -> str:
    kind, _, where = value.partition(":")
    if kind == "file":
        return _read(where, f"environment {name}").rstrip("\n")
    if kind != "env":
        return value
    if where not in os.environ:
        raise Unavailable(
            f"environment {name} wants the variable {where}, which is not set",
            serving="traffic stays as it is",
            next_step=f"export {where}=...",
        )
    return os.environ[where]


def _read(path: str, wanted_by: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
    except UnicodeDecodeError:
        reason = "not UTF-8"
    raise Unavailable(f"{wanted_by} wants the file {path}: {reason}", serving="traffic stays as it is")
