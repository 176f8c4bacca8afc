"""Allow-lists: what a name, host, path, image, duration may look like. Whole-string ASCII matches; each refusal in words.

Every function takes a value as the file has it and returns the domain's form, or raises ValueError that says what is
wrong and what to write instead.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from typing import Any

from proxyctl.config.places import NAME, RESERVED

_DURATION = re.compile(r"(0|[1-9][0-9]{0,8})(ms|s|m|h)", re.ASCII)
_SIZE = re.compile(r"(0|[1-9][0-9]{0,8})([kmg]?)", re.ASCII)
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_PATH = re.compile(r"/[A-Za-z0-9._~!&()*+,:@%/-]*", re.ASCII)
_PROBE_PATH = re.compile(r"/[A-Za-z0-9._~!&()*+,:@%/?=-]*", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9!#%&'*+.^_`|~-]{1,64}", re.ASCII)
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,1024}", re.ASCII)
_IMAGE = re.compile(
    r"(?=.{1,255}\Z)(([a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?|\[[0-9a-f:]+\](:[0-9]{1,5})?)/)?"
    r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?",
    re.ASCII,
)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,255}", re.ASCII)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_REFUSED_HEADERS = ("host", "content-length", "transfer-encoding", "connection")
MAX_PATH = 2048


def name(value: Any) -> str:
    text = _text(value, "a name such as web")
    if not NAME.fullmatch(text):
        raise ValueError("a name has 2 to 40 of a-z, 0-9 and -, begins with a letter and does not end with -")
    if text in RESERVED:
        raise ValueError(f"{text} is a reserved name; choose another")
    return text


def host(value: Any) -> str:
    """Case-folded, IDNA-encoded; one leading `*.` allowed."""
    text = _text(value, "a host such as shop.example.com").lower()
    bare = text.removeprefix("*.")
    if not bare.isascii():
        bare = _idna(bare)
    labels = bare.split(".")
    if len(bare) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("a host is labels of letters, digits and - joined by dots, without scheme, port or path")
    if labels[-1].isdigit():
        raise ValueError("an address is not a host name; leave `hosts` out to catch all")
    if any(label.startswith("xn--") for label in labels):
        _decodes(bare)
    return ("*." if text.startswith("*.") else "") + bare


def _idna(text: str) -> str:
    import idna

    try:
        return idna.encode(text, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise ValueError(f"not a host name: {error}") from None


def _decodes(text: str) -> None:
    import idna

    try:
        idna.decode(text)
    except idna.IDNAError as error:
        raise ValueError(f"not a host name: {error}") from None


def path(value: Any) -> str:
    return _checked_path(value, _PATH, "a path such as /api/")


def probe_path(value: Any) -> str:
    """A path with its query; never a URL: probes go to the replica's own address."""
    return _checked_path(value, _PROBE_PATH, "a path such as /healthz")


def _checked_path(value: Any, grammar: re.Pattern[str], example: str) -> str:
    text = _text(value, example)
    if len(text) > MAX_PATH or not grammar.fullmatch(text):
        raise ValueError(f"give {example}: it begins with / and has no spaces, quotes or any of ;{{}}$\\#")
    if "//" in text or any(part in (".", "..") for part in text.partition("?")[0].split("/")):
        raise ValueError("a path has no empty, . or .. parts")
    if re.search(r"%(?![0-9A-Fa-f]{2})|%(00|0[ad]|2e|2f)", text, re.ASCII | re.IGNORECASE):
        raise ValueError("percent signs stand before two hex digits, and not for control characters, dots or slashes")
    return text


def duration(value: Any) -> float:
    """Seconds."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a duration is a whole number and a unit: 500ms, 30s, 15m or 2h")
    return int(match[1]) * _UNITS[match[2]]


def size(value: Any) -> int:
    """Bytes."""
    match = _SIZE.fullmatch(str(value)) if isinstance(value, (str, int)) and not isinstance(value, bool) else None
    if match is None:
        raise ValueError("a size is a whole number with k, m or g: 512k, 10m; 0 is unlimited")
    return int(match[1]) * _SIZES[match[2]]


def port(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        raise ValueError("a port is a number from 1 to 65535")
    return value


def listen(value: Any) -> str:
    """`80`, `127.0.0.1:8080`, `[::]:80`."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(value, "80 or [::]:80")
    address, _, number = text.rpartition(":")
    try:
        port(int(number) if number.isascii() and number.isdigit() and str(int(number)) == number else None)
        if address:
            ipaddress.ip_address(address[1:-1] if address.startswith("[") else address)
    except ValueError:
        raise ValueError("listen on a port such as 80, or on address:port such as 127.0.0.1:8080 or [::]:80") from None
    return text


def network(value: Any) -> str:
    text = _text(value, "10.0.0.0/8")
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise ValueError(f"a network such as 10.0.0.0/8: {error}") from None


def image(value: Any) -> str:
    text = _text(value, "an image such as shop/web:1.4")
    if not _IMAGE.fullmatch(text):
        raise ValueError("an image is [registry/]name[:tag][@sha256:digest], the name in lower case")
    return text


def header(key: Any, value: Any) -> tuple[str, str]:
    name_, text = _text(key, "a header name"), _text(value, "a header value")
    if not _TOKEN.fullmatch(name_):
        raise ValueError("a header name has letters, digits and -")
    if name_.lower() in _REFUSED_HEADERS:
        raise ValueError(f"{name_} is set by proxyctl; use `host` for the Host header")
    if not _HEADER_VALUE.fullmatch(text):
        raise ValueError("a header value has printable ASCII characters only, at most 1024")
    return name_, text


def status_ranges(value: Any) -> tuple[tuple[int, int], ...]:
    """`200`, `200-299`, or a list of them."""
    items = value if isinstance(value, list) else [value]
    return tuple(_status_range(item) for item in items)


def _status_range(item: Any) -> tuple[int, int]:
    match = re.fullmatch(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?", str(item), re.ASCII)
    if match is None or isinstance(item, bool):
        raise ValueError("a status is 100 to 599, or a range such as 200-299")
    low, high = int(match[1]), int(match[2] or match[1])
    if low > high:
        raise ValueError(f"{low}-{high} is empty; write {high}-{low}")
    return low, high


def environment_name(value: Any) -> str:
    text = _text(value, "a variable name")
    if not _ENV_NAME.fullmatch(text):
        raise ValueError("a variable name has letters, digits and _, and does not begin with a digit")
    return text


def words(value: Any) -> tuple[str, ...]:
    """A command: a list, or one string split as a shell would."""
    if isinstance(value, str):
        try:
            return tuple(shlex.split(value))
        except ValueError as error:
            raise ValueError(f"cannot be split into words: {error}; write a list") from None
    if isinstance(value, list):
        return tuple(_text(item, "a list of strings") for item in value)
    raise ValueError("a command is a string or a list of strings")


def text(value: Any) -> str:
    return _text(value, "text")


def _text(value: Any, example: str) -> str:
    """No silent YAML 1.1 surprise: what YAML took for a number, a truth or a date must be quoted."""
    if not isinstance(value, str):
        kind = {bool: "true or false", int: "a number", float: "a number", type(None): "nothing"}.get(type(value))
        raise ValueError(f"YAML reads {kind or 'something else'} here; write {example}, in quotes if need be")
    if any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise ValueError("control characters are not allowed")
    return value
