"""Allow-lists: what a name, number, duration, image, file or path inside a container may look like. Those of the web
are in web_grammar.py, those of the engine in engine_grammar.py.

Every function takes a value as the file has it and returns the domain's form, or raises ValueError that says what is
wrong and what to write instead. Matches are of the whole string and ASCII: `$` lets a newline pass, and `\\d` takes
Arabic digits. Never reads a file or the environment.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable
from typing import Any

from proxyctl.config.document import Doubtful
from proxyctl.config.places import NAME, RESERVED
from proxyctl.config.problems import shown
from proxyctl.domain.split import hundredths

LARGEST_VALUE = 32 * 1024  # characters of one variable, label or word

DURATION = re.compile(r"(0|[1-9][0-9]{0,8})(ms|s|m|h)", re.ASCII)
SIZE = re.compile(r"(0|[1-9][0-9]{0,8})([kmg]?)", re.ASCII)
ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,255}", re.ASCII)
DOCKER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}", re.ASCII)
IMAGE = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(?::[0-9]{1,5})?/)?"  # registry
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"  # tag
    r"(?:@sha256:[0-9a-f]{64})?",
    re.ASCII,
)
_COMPOSE_DURATION = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,3})?(?:us|ms|s|m|h))+", re.ASCII)
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,62})?", re.ASCII)
_SIGNAL = re.compile(r"(?:SIG)?[A-Z][A-Z0-9+-]{1,11}|[1-9][0-9]?", re.ASCII)
_RESTART = re.compile(r"no|always|unless-stopped|on-failure(?::[0-9]{1,3})?", re.ASCII)
_LABEL = re.compile(r"[\x21-\x3c\x3e-\x7e]{1,255}", re.ASCII)  # printable, no space, no =

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


# --- text -------------------------------------------------------------------------------------------------------


def line(value: Any) -> str:
    """Text without control characters."""
    text = block(value)
    for at, character in enumerate(text, start=1):
        if not character.isprintable():
            raise ValueError(f"character {at} is U+{ord(character):04X}, which is not taken here; remove it")
    return text


def block(value: Any) -> str:
    """Text that may have several lines. A number is taken as it is written, where all YAML readers agree on it."""
    if isinstance(value, Doubtful):
        raise ValueError("YAML readers disagree on what this is; write it in double quotes if text is meant")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise ValueError("this is not text; write it in double quotes")
    if "\0" in value:
        raise ValueError("character U+0000 is not taken; remove it")
    if len(value) > LARGEST_VALUE:
        raise ValueError(f"this is longer than {LARGEST_VALUE // 1024} Ki characters")
    return value


def name(value: Any) -> str:
    """What projects and services are called."""
    text = line(value)
    if text in RESERVED:
        raise ValueError(f"{text} is a reserved name; choose another")
    if not NAME.fullmatch(text):
        raise ValueError(f"not a name{_offender(text)}; write 2 to 40 of a-z, 0-9 and -, a letter first, no - last")
    return text


def _offender(text: str) -> str:
    for at, character in enumerate(text, start=1):
        if not re.fullmatch(r"[a-z0-9-]", character, re.ASCII):
            return f": character {at} is {shown(character)}"
    return ""


def words(value: Any) -> tuple[str, ...]:
    """A command written as one line, split as a shell would."""
    try:
        return tuple(shlex.split(block(value)))
    except ValueError as error:
        raise ValueError(f"cannot be split into words ({error}); write a list") from None


# --- numbers ----------------------------------------------------------------------------------------------------


def whole(least: int, most: int) -> Callable[[Any], int]:
    """A whole number in these bounds."""

    def read(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"write a whole number from {least} to {most}")
        return value

    return read


def share(value: Any) -> int:
    """Hundredths of a percent, of `5`, `12.5` or `5%`."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("write a percentage from 0 to 100, such as 5 or 12.5")
    try:
        return hundredths(value)
    except ValueError as error:
        raise ValueError(f"{error}; write a percentage from 0 to 100, such as 5 or 12.5") from None


def some_share(value: Any) -> int:
    if not share(value):
        raise ValueError("nothing would be copied; write more than 0, or leave the mirror out")
    return share(value)


def duration(least: str, most: str) -> Callable[[Any], float]:
    """Seconds, in these bounds."""
    low, high = _seconds(least), _seconds(most)

    def read(value: Any) -> float:
        if not isinstance(value, str) or not DURATION.fullmatch(value):
            raise ValueError("not a duration; write a whole number and ms, s, m or h, such as 30s")
        seconds = _seconds(value)
        if not low <= seconds <= high:
            raise ValueError(f"write a duration from {least} to {most}")
        return seconds

    return read


def _seconds(text: str) -> float:
    match = DURATION.fullmatch(text)
    assert match is not None
    return int(match[1]) * _UNITS[match[2]]


def compose_duration(value: Any) -> float:
    """Seconds of Compose's form, which may have several units: `1m30s`."""
    text = line(value)
    if not _COMPOSE_DURATION.fullmatch(text):
        raise ValueError("not a duration; write numbers with us, ms, s, m or h, such as 1m30s")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9.]+)([a-z]+)", text))
    if seconds > 86400:
        raise ValueError("write a duration of at most 24h")
    return math.fsum((seconds,))


def size(value: Any) -> int:
    """Bytes; 0 is unlimited."""
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not (match := SIZE.fullmatch(str(value))):
        raise ValueError("not a size; write a whole number and k, m or g, such as 10m; 0 is unlimited")
    found = int(match[1]) * _SIZES[match[2]]
    if found > 64 << 30:
        raise ValueError("write a size of at most 64g; 0 is unlimited")
    return found


def size_within(least: str, most: str) -> Callable[[Any], int]:
    """Bytes, in these bounds."""
    low, high = size(least), size(most)

    def read(value: Any) -> int:
        if not low <= size(value) <= high:
            raise ValueError(f"write a size from {least} to {most}")
        return size(value)

    return read


def port(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
        raise ValueError("not a port; write a whole number from 1 to 65535")
    return value


# --- containers -------------------------------------------------------------------------------------------------


def image(value: Any) -> str:
    text = line(value)
    if len(text) > 512 or not IMAGE.fullmatch(text):
        raise ValueError("not an image; write name:tag or name@sha256:digest, the name in lower case: shop/web:1.4")
    return text


def environment_name(value: Any) -> str:
    text = line(value)
    if not ENVIRONMENT_NAME.fullmatch(text):
        raise ValueError("not a variable's name; write letters, digits and _, no digit first, such as LOG_LEVEL")
    return text


def environment_value(value: Any) -> str:
    """Text, or a reference to a secret: `env:NAME`, `file:PATH`."""
    text = block(value)
    kind, _, named = text.partition(":")
    if kind == "env" and not ENVIRONMENT_NAME.fullmatch(named):
        raise ValueError("env: names a variable of the environment, such as env:DB_PASSWORD")
    if kind == "file" and not named:
        raise ValueError("file: names a file, such as file:secrets/db")
    return text


def environment_entry(value: Any) -> tuple[str, str]:
    """`NAME=value`; `NAME` alone takes it from the environment at the start of the container."""
    named, equals, text = block(value).partition("=")
    known = environment_name(named)
    return known, environment_value(text) if equals else f"env:{known}"


def label_name(value: Any) -> str:
    text = line(value)
    if not _LABEL.fullmatch(text):
        raise ValueError("not a label; write printable ASCII without spaces or =, such as com.example.team")
    if text == "proxyctl" or text.startswith("proxyctl."):
        raise ValueError("labels that begin with proxyctl. are ours; choose another")
    return text


def label_entry(value: Any) -> tuple[str, str]:
    named, _, text = block(value).partition("=")
    return label_name(named), text


def docker_network(value: Any) -> str:
    text = line(value)
    if text in ("host", "none", "container", "bridge"):
        raise ValueError("a replica needs networks of its own; name a network that you created")
    return docker_name(text)


def docker_name(value: Any) -> str:
    text = line(value)
    if not DOCKER_NAME.fullmatch(text):
        raise ValueError("not a Docker name; write letters, digits and _ . -, such as shop_data")
    return text


def user(value: Any) -> str:
    return _fullmatch(value, _USER, "not a user; write a name or number, perhaps with a group: app:app")


def working_dir(value: Any) -> str:
    return inside(value)


def stop_signal(value: Any) -> str:
    return _fullmatch(value, _SIGNAL, "not a signal; write its name, such as SIGTERM")


def restart(value: Any) -> str:
    # YAML readers that see a truth value in `no` are known well enough: here it can only be the word.
    text = str(value) if isinstance(value, Doubtful) else value
    return _fullmatch(text, _RESTART, 'write "no", always, on-failure, on-failure:3 or unless-stopped')


def _fullmatch(value: Any, grammar: re.Pattern[str], wrong: str) -> str:
    text = line(value)
    if not grammar.fullmatch(text):
        raise ValueError(wrong)
    return text


def truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("write true or false")
    return value


def file(value: Any) -> str:
    """A file of this machine; a relative one lies beside the file that names it."""
    text = line(value)
    if not text or len(text) > 4096:
        raise ValueError("not a file's path; write one such as ./web.env")
    if text.startswith("~"):
        raise ValueError("~ is not replaced; write the whole path")
    return text


def file_reference(value: Any) -> str:
    """The path in `file:PATH`."""
    kind, _, path = line(value).partition(":")
    if kind != "file":
        raise ValueError("write where it is, such as file:cert.pem")
    return file(path)


def inside(value: Any) -> str:
    """A path inside a container."""
    text = line(value)
    if not text.startswith("/") or len(text) > 4096 or ":" in text:
        raise ValueError("not a path inside the container; write one that begins with /, such as /data")
    if any(part in (".", "..") for part in text.split("/")):
        raise ValueError("a path inside the container has no . or .. parts")
    return text


def choice(*known: str, later: tuple[str, ...] = ()) -> Callable[[Any], str]:
    """One of these words; those of `later` are refused as not yet in this version."""
    listed = " or ".join((", ".join(known[:-1]), known[-1])) if len(known) > 1 else known[0]

    def read(value: Any) -> str:
        if isinstance(value, str) and str(value) in known:
            return str(value)
        if isinstance(value, str) and value in later:
            raise ValueError(f"{value} is not yet in this version; write {listed}")
        raise ValueError(f"write {listed}")

    return read
