"""One form of every key of a container definition: paths absolute, ready to be laid over another and to be made one.

defined() takes what one file says, over() lays one on the other, to_domain() is the way into the domain. Reads no
file but to see whether an env_file is there that need not be.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from proxyctl.config import engine_grammar as engine
from proxyctl.config.container import ContainerFile, DeviceFile, HookFile
from proxyctl.config.fields import EnvFile
from proxyctl.config.limits import gpus, ulimits
from proxyctl.config.mounts import Granted, Mount, granted_file, is_path, mounted_at, source_of
from proxyctl.domain.container import Access, Container, Device, GrantedFile, Hook, Limits, Names
from proxyctl.domain.record import Record
from proxyctl.domain.units import Pairs


class Definition(NamedTuple):
    """A container definition in one form of each key, paths absolute. Holds only what was written."""

    given: dict[str, Any]

    def over(self, inherited: Definition) -> Definition:
        """This laid over the inherited one: what has names by name, what has targets by target, the rest whole."""
        merged = inherited.given | self.given
        for key, name_of in _MERGED.items():
            if key in inherited.given and key in self.given:
                own = {name_of(item) for item in self.given[key]}
                kept = tuple(item for item in inherited.given[key] if name_of(item) not in own)
                merged[key] = kept + self.given[key]
        return Definition(merged)

    def to_domain(self) -> Container:
        """The keys of a group that has none stay unsaid in one."""
        flat = dict(self.given)
        groups: dict[str, Any] = {name: _taken_from(flat, group) for name, group in _GROUPS.items()}
        return Container(**flat, **groups)


def defined(file: ContainerFile, folder: Path) -> Definition:
    """What the file says, its relative paths taken from this folder."""
    written = sorted(file.model_fields_set - {"deploy"})
    given = {key: _ONE_FORM.get(key, _as_it_is)(getattr(file, key), folder) for key in written}
    in_memory = tuple(each.in_memory() for each in file.volumes if isinstance(each, Mount) and each.type == "tmpfs")
    if in_memory:
        given["tmpfs"] = (*given.get("tmpfs", ()), *in_memory)
    if mode := given.pop("network_mode", None):
        given["networks"] = (mode,)
    return Definition(given | file.deploy.as_keys())


_GROUPS: dict[str, type[Record]] = {"limits": Limits, "access": Access, "names": Names}


def _taken_from(flat: dict[str, Any], group: type[Record]) -> Record | None:
    own = {key: flat.pop(key) for key in group.fields() if key in flat}
    return group(**own) if own else None


def _first(pair: tuple[str, str]) -> str:
    return pair[0]


def _target(item: Any) -> str:
    return str(item.target)


_MERGED: dict[str, Callable[[Any], str]] = {
    **dict.fromkeys(("environment", "labels", "annotations", "sysctls"), _first),
    **dict.fromkeys(("tmpfs", "secrets", "configs", "devices"), _target),
    "volumes": mounted_at,
}


def _as_it_is(value: Any, _folder: Path) -> Any:
    return value


def _pairs(value: Any, _folder: Path) -> Pairs:
    return tuple(value.items()) if isinstance(value, dict) else value


def _listed(value: Any, _folder: Path) -> tuple[Any, ...]:
    return tuple(value)


def _environment(value: Any, folder: Path) -> Pairs:
    """A variable without value is taken from the environment at the start, as Compose does."""
    pairs = _pairs(value, folder)
    return tuple((name, f"env:{name}" if text is None else _reference(text, folder)) for name, text in pairs)


def _reference(text: str, folder: Path) -> str:
    kind, _, named = text.partition(":")
    return f"file:{_absolute(named, folder)}" if kind == "file" else text


def _files(value: tuple[str | EnvFile, ...], folder: Path) -> tuple[str, ...]:
    """One that need not be there and is not is as good as unwritten."""
    files = ((each, True) if isinstance(each, str) else (each.path, each.required) for each in value)
    paths = ((_absolute(path, folder), required) for path, required in files)
    return tuple(path for path, required in paths if required or Path(path).exists())


def _volumes(value: tuple[str | Mount, ...], folder: Path) -> tuple[str, ...]:
    written = (each if isinstance(each, str) else each.short() for each in value if not _is_in_memory(each))
    return tuple(_bound(each, folder) for each in written)


def _is_in_memory(each: str | Mount) -> bool:
    return isinstance(each, Mount) and each.type == "tmpfs"


def _bound(text: str, folder: Path) -> str:
    source = source_of(text)
    return _absolute(source, folder) + text.removeprefix(source) if is_path(source) else text


def _granted_below(inside: str) -> Callable[[tuple[str | Granted, ...], Path], tuple[GrantedFile, ...]]:
    def one_form(value: tuple[str | Granted, ...], folder: Path) -> tuple[GrantedFile, ...]:
        files = (granted_file(each, inside) for each in value)
        return tuple(file.replace(content=_reference(file.content, folder)) for file in files)

    return one_form


def _hooks(value: tuple[HookFile, ...], folder: Path) -> tuple[Hook, ...]:
    return tuple(
        Hook(
            command=tuple(each.command),
            user=each.user,
            privileged=each.privileged,
            working_dir=each.working_dir,
            environment=_environment(each.environment, folder),
        )
        for each in value
    )


def _devices(value: tuple[Device | DeviceFile, ...], _folder: Path) -> tuple[Device, ...]:
    return tuple(each if isinstance(each, Device) else each.to_domain() for each in value)


def _security(value: tuple[str, ...], folder: Path) -> tuple[str, ...]:
    profiles = ((option, engine.seccomp_profile(option)) for option in value)
    return tuple(f"seccomp={_absolute(path, folder)}" if path else option for option, path in profiles)


def _extra_hosts(value: Any, _folder: Path) -> Pairs:
    if not isinstance(value, dict):
        return tuple(value)
    return tuple((host, address) for host, addresses in value.items() for address in addresses)


def _absolute(path: str, folder: Path) -> str:
    return os.path.normpath(folder / path)


_ONE_FORM: dict[str, Callable[[Any, Path], Any]] = {
    **dict.fromkeys(("command", "networks"), _listed),
    **dict.fromkeys(("labels", "annotations", "sysctls", "storage_opt"), _pairs),
    **dict.fromkeys(("post_start", "pre_stop"), _hooks),
    **dict.fromkeys(("healthcheck", "logging", "blkio_config"), lambda value, _: value.to_domain()),
    "environment": _environment,
    "env_file": _files,
    "volumes": _volumes,
    "secrets": _granted_below("/run/secrets"),
    "configs": _granted_below(""),
    "devices": _devices,
    "security_opt": _security,
    "gpus": lambda value, _: gpus(value),
    "ulimits": lambda value, _: ulimits(value),
    "extra_hosts": _extra_hosts,
}
