"""Allow-lists of what the Docker engine is told of a container: sizes, limits, devices, names.

As in grammar.py: a value as the file has it becomes the domain's form, or a ValueError that says what to write. What a
variable of a Compose file gives is text, so numbers and truths are taken as text too. Never reads a file.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from proxyctl.config.document import Doubtful
from proxyctl.config.grammar import block, compose_duration, environment_name, file, inside, line, user
from proxyctl.config.problems import shown
from proxyctl.domain.container import HOST_NETWORK, Device, Pull, Tmpfs

MOST_CPUS = 1024.0
LARGEST = 1 << 50  # bytes
LEAST_MEMORY = 6 << 20  # less is refused by the engine
UNLIMITED = -1

_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?) ?(?:([kmgt])(?:i?b)?|b)?", re.ASCII | re.IGNORECASE)
_POWER = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,14})", re.ASCII)
_CPUS = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,9})?", re.ASCII)
_CPUSET = re.compile(r"[0-9]{1,4}(?:-[0-9]{1,4})?(?:,[0-9]{1,4}(?:-[0-9]{1,4})?)*", re.ASCII)
_CAPABILITY = re.compile(r"(?:CAP_)?[A-Z][A-Z_]{1,30}", re.ASCII)
_SECURITY = re.compile(r"([a-z-]{2,30})(?:[=:](.{1,4096}))?", re.ASCII)
_DEVICE_RULE = re.compile(r"[abc] (?:[0-9]{1,7}|\*):(?:[0-9]{1,7}|\*) [rwm]{1,3}", re.ASCII)
_PERMISSIONS = re.compile(r"r?w?m?", re.ASCII)
_SYSCTL = re.compile(r"[a-z0-9_]{1,40}(?:\.[A-Za-z0-9_/*-]{1,60}){1,6}", re.ASCII)
_HOSTNAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9][A-Za-z0-9-]{0,62})*", re.ASCII)
_EXTRA_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?", re.ASCII)
_DNS_OPTION = re.compile(r"[a-z0-9-]{1,40}(?::[0-9]{1,3})?", re.ASCII)
_PLATFORM = re.compile(r"[a-z0-9]{2,20}(?:/[a-z0-9_]{2,20}(?:/[a-z0-9.]{1,20})?)?", re.ASCII)
_DRIVER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./:-]{0,254}", re.ASCII)
_OPTION = re.compile(r"[A-Za-z0-9_.-]{1,100}", re.ASCII)
_MEMORY_FILE_SYSTEM_OPTION = re.compile(r"[a-z_]{2,20}(?:=[A-Za-z0-9%]{1,20})?", re.ASCII)
_CGROUP = re.compile(r"[A-Za-z0-9_./:-]{1,255}", re.ASCII)
_GPU_WORD = re.compile(r"[A-Za-z0-9_.:/-]{1,100}", re.ASCII)

_ULIMITS = (
    *("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio"),
    *("rttime", "sigpending", "stack"),
)
_SECURITY_NAMES = ("apparmor", "label", "no-new-privileges", "seccomp")
_BUILT_IN_PROFILES = ("unconfined", "builtin")


def _text(value: Any) -> str:
    """Text, or a number as it was written; that YAML readers disagree on it is no matter where only a number can be."""
    return str(value) if isinstance(value, Doubtful) else line(value)


def _matching(pattern: re.Pattern[str], wrong: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        text = line(value)
        if not pattern.fullmatch(text):
            raise ValueError(wrong)
        return text

    return read


# --- numbers ------------------------------------------------------------------------------------------------------


def size(value: Any) -> int:
    """Bytes."""
    text = _text(value)
    if not (match := _SIZE.fullmatch(text)):
        raise ValueError("not a size; write a number and k, m or g, such as 512m")
    found = int(float(match[1]) * (1 << _POWER[(match[2] or "").lower()]))
    if found > LARGEST:
        raise ValueError("write a size that a machine can have, such as 512m")
    return found


def memory(value: Any) -> int:
    found = size(value)
    if found < LEAST_MEMORY:
        raise ValueError("the engine gives no container less than 6m; write at least that")
    return found


def swap(value: Any) -> int:
    return UNLIMITED if str(value) == "-1" else memory(value)


def count(least: int, most: int) -> Callable[[Any], int]:
    """A whole number in these bounds."""

    def read(value: Any) -> int:
        text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
        if not _WHOLE.fullmatch(text) or not least <= int(text) <= most:
            raise ValueError(f"write a whole number from {least} to {most}")
        return int(text)

    return read


def cpus(value: Any) -> float:
    text = _text(value)
    if not _CPUS.fullmatch(text) or not 0.01 <= float(text) <= MOST_CPUS:
        raise ValueError("not a number of CPUs; write one such as 0.5, at least 0.01")
    return float(text)


def microseconds(value: Any) -> int:
    """A whole number of them, or a duration."""
    text = _text(value)
    found = int(text) if _WHOLE.fullmatch(text) else round(compose_duration(text) * 1e6)
    if not 0 <= found <= 10**9:
        raise ValueError("write microseconds, such as 100000, or a duration such as 100ms")
    return found


def truth(value: Any) -> bool:
    known = {True: True, False: False, "true": True, "false": False}
    if not isinstance(value, (bool, str)) or value not in known:
        raise ValueError("write true or false")
    return known[value]


def all_or_count(value: Any) -> int:
    return UNLIMITED if value == "all" else count(UNLIMITED, 64)(value)


# --- names of the kernel and the engine -----------------------------------------------------------------------------

cpuset = _matching(_CPUSET, "not a set of CPUs; write numbers and ranges, such as 0-3,6")
device_cgroup_rule = _matching(_DEVICE_RULE, "not a rule; write type, numbers and rights, such as c 1:3 mr")
cgroup_parent = _matching(_CGROUP, "not a cgroup; write its path, such as /limited")
driver = _matching(_DRIVER, "not a driver's name; write one such as json-file")
device_word = _matching(_GPU_WORD, "not a word of a device driver; write one such as gpu")
option_name = _matching(_OPTION, "not an option's name; write one such as max-size")
platform = _matching(_PLATFORM, "not a platform; write os/architecture, such as linux/amd64")
hostname = _matching(_HOSTNAME, "not a host's name; write letters, digits, - and ., such as web-1")
dns_option = _matching(_DNS_OPTION, "not an option of the resolver; write one such as ndots:2")
extra_host = _matching(_EXTRA_HOST, "not a host's name; write letters, digits, - and ., such as db.internal")
runtime = _matching(_DRIVER, "not a runtime's name; write one such as runc")
group = user


def capability(value: Any) -> str:
    text = line(value).upper()
    if not _CAPABILITY.fullmatch(text):
        raise ValueError("not a capability; write its name, such as NET_ADMIN, or ALL")
    return text


def ulimit_name(value: Any) -> str:
    text = line(value)
    if text not in _ULIMITS:
        raise ValueError(f"not a limit of the kernel; write one of {', '.join(_ULIMITS)}")
    return text


def sysctl_name(value: Any) -> str:
    text = line(value)
    if not _SYSCTL.fullmatch(text):
        raise ValueError("not a kernel parameter; write its name, such as net.core.somaxconn")
    return text


def sysctl_entry(value: Any) -> tuple[str, str]:
    named, equals, text = line(value).partition("=")
    if not equals:
        raise ValueError("write name=value, such as net.core.somaxconn=1024")
    return sysctl_name(named), text


def security_option(value: Any) -> str:
    """`name=value`, or `no-new-privileges`."""
    match = _SECURITY.fullmatch(line(value))
    if match is None or match[1] not in _SECURITY_NAMES:
        raise ValueError(f"not an option that is carried; write one of {', '.join(_SECURITY_NAMES)}")
    if match[2] is None and match[1] != "no-new-privileges":
        raise ValueError(f"without a value; write one such as {match[1]}=unconfined")
    return f"{match[1]}={match[2] or 'true'}"


def seccomp_profile(option: str) -> str:
    """The path of a profile that is a file, else empty."""
    name, _, value = option.partition("=")
    return value if name == "seccomp" and value not in _BUILT_IN_PROFILES else ""


def namespace(*known: str) -> Callable[[Any], str]:
    """One of these modes; never the namespace of another container, which would end with it."""

    def read(value: Any) -> str:
        text = line(value)
        if text.startswith(("service:", "container:")):
            raise ValueError(f"a replica would end with the other container; write {' or '.join(known)}, or remove it")
        if text not in known:
            raise ValueError(f"not a mode; write {' or '.join(known)}, or remove it")
        return text

    return read


def network_mode(value: Any) -> str:
    """The host's network. What else a mode can say is said by networks, or is not for a replica."""
    text = line(value)
    if text == HOST_NETWORK:
        return text
    if text.startswith(("service:", "container:")):
        raise ValueError(
            "nginx reaches a replica at an address of its own; write networks, where the two find each other by name"
        )
    if text in ("bridge", "default"):
        raise ValueError("a replica has a bridge of its own already; remove it")
    if text == "none":
        raise ValueError("a replica without a network cannot be reached; remove it, or write networks")
    raise ValueError(f"not a mode; write networks: [{shown(text)}] if that is a network, or host")


def pull(value: Any) -> Pull:
    text = line(value)
    if text == "if_not_present":
        return Pull.MISSING
    if text == "build":
        raise ValueError("nothing is built here; build the image before, and write missing or never")
    if text not in Pull._value2member_map_:
        raise ValueError("write always, missing or never")
    return Pull(text)


# --- devices and memory file systems --------------------------------------------------------------------------------


def device(value: Any) -> Device:
    """`source[:target][:rwm]`."""
    source, _, rest = line(value).partition(":")
    target, _, permissions = rest.partition(":")
    if target and not permissions and not target.startswith("/"):
        target, permissions = "", target
    return device_of(source, target or source, permissions or "rwm")


def device_of(source: str, target: str, permissions: str) -> Device:
    if not source.startswith("/dev/"):
        raise ValueError("not a device of the host; write its path, such as /dev/ttyUSB0")
    if not _PERMISSIONS.fullmatch(permissions) or not permissions:
        raise ValueError("not rights on a device; write r, w and m, in this order")
    return Device(source=inside(source), target=inside(target), permissions=permissions)


def tmpfs(value: Any) -> Tmpfs:
    """`target[:options]`, as in `/run:size=64m,mode=1777,noexec`."""
    target, _, rest = line(value).partition(":")
    given = dict.fromkeys(rest.split(",")) if rest else {}
    sizes = [each for each in given if each.startswith("size=")]
    modes = [each for each in given if each.startswith("mode=")]
    others = [memory_file_system_option(each) for each in given if each not in (*sizes, *modes)]
    return Tmpfs(
        target=inside(target),
        size=size(sizes[-1].removeprefix("size=")) if sizes else None,
        mode=file_mode(modes[-1].removeprefix("mode=")) if modes else None,
        options=tuple(others),
    )


memory_file_system_option = _matching(
    _MEMORY_FILE_SYSTEM_OPTION, "not an option of tmpfs; write size=64m, mode=1777, uid=1000, noexec or the like"
)


def file_mode(value: Any) -> int:
    """Octal, as it is written: 1777, 0o1777, "0700"."""
    text = str(value).removeprefix("0o")
    if isinstance(value, (bool, float)) or not re.fullmatch(r"[0-7]{1,5}", text, re.ASCII):
        raise ValueError('not a mode; write it in octal, such as "1777"')
    return int(text, 8)


def made_by_the_engine(value: Any) -> bool:
    """Of a folder that is bound."""
    if not truth(value):
        raise ValueError("the engine makes a folder that is missing; make it before, and remove this")
    return True


# --- addresses ------------------------------------------------------------------------------------------------------


def address(value: Any) -> str:
    text = line(value)
    try:
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise ValueError("not an address; write one such as 10.0.0.53") from None


def search_domain(value: Any) -> str:
    text = line(value)
    return text if text == "." else hostname(text)


def host_address(value: Any) -> str:
    """Of an extra host."""
    return "host-gateway" if value == "host-gateway" else address(value)


def extra_host_entry(value: Any) -> tuple[str, str]:
    """`host:address` or `host=address`."""
    text = line(value)
    named, sign, where = text.partition("=") if "=" in text else text.partition(":")
    if not sign:
        raise ValueError("write host:address, such as db.internal:10.0.0.5")
    return extra_host(named), host_address(where)


# --- files that are granted -----------------------------------------------------------------------------------------


def granted(value: Any) -> str:
    """Where a secret or config comes from."""
    text = block(value)
    kind, colon, where = text.partition(":")
    if not colon or kind not in ("file", "env", "text"):
        raise ValueError("write where it comes from: file:PATH, env:NAME, or text: and the text itself")
    return text if kind == "text" else f"{kind}:{file(where) if kind == 'file' else environment_name(where)}"


def granted_alone(value: Any) -> str:
    """One that is called as its file or its variable."""
    text = granted(value)
    if text.startswith("text:"):
        raise ValueError("a text has no name; write a mapping with source and target")
    return text


def granted_target(value: Any) -> str:
    """A name below the usual folder, or a whole path."""
    text = line(value)
    inside(text if text.startswith("/") else f"/{text}")
    return text
