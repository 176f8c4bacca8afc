"""Allow-lists of the web: hosts, paths, headers, cookies, methods, statuses, and addresses to listen on.

As in grammar.py: a value as the file has it becomes the domain's form, or a ValueError that says what to write. What
becomes part of nginx's configuration here can neither end its word nor name a variable. Never reads a file.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from proxyctl.config.grammar import line
from proxyctl.config.problems import escaped

PATH = re.compile(r"/[A-Za-z0-9._~@+,=:/-]*", re.ASCII)
LONGEST_PATH = 2048
LONGEST_MATCH = 500  # nginx takes 4095 characters in one word, where a backslash that is matched counts four times
PROBE_PATH = re.compile(r"/[A-Za-z0-9._~@+,=:/-]*(\?[A-Za-z0-9._~@+,=:/&-]*)?", re.ASCII)
HEADER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
_SITE = re.compile(r"https?://(?P<host>[a-z0-9.-]+)(?::[1-9][0-9]{0,4})?(?=/|$)", re.ASCII)
_HOST_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_HEADER_VALUE = re.compile(r"[\x20-\x23\x25-\x7e]*", re.ASCII)
_COOKIE = re.compile(r"[A-Za-z0-9_]{1,64}", re.ASCII)
_COOKIE_VALUE = re.compile(r"[\x21\x23\x25-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+", re.ASCII)
_REALM = re.compile(r"[\x20\x21\x23\x25-\x5b\x5d-\x7e]{1,100}", re.ASCII)
_STATUS = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?", re.ASCII)
_SET_BY_US = ("host", "content-length", "transfer-encoding", "connection")
_SET_BY_NGINX = ("connection", "content-length", "date", "keep-alive", "server", "transfer-encoding")
_NOT_FOR_THE_WEB = {22: "ssh", 2375: "Docker", 2376: "Docker"}


def host(value: Any) -> str:
    """Case-folded, IDNA-encoded; one leading `*.` allowed."""
    text = line(value).lower()
    bare = text.removeprefix("*.")
    ascii_ = bare if bare.isascii() and "xn--" not in bare else _idna(bare)
    labels = ascii_.split(".")
    if len(ascii_) > 253 or not all(_HOST_LABEL.fullmatch(label) for label in labels):
        raise ValueError("not a host name; write letters, digits and - between dots, such as shop.example.com")
    if labels[-1].isdigit():
        raise ValueError("an address is not a host name; leave hosts out to catch all")
    return text.removesuffix(bare) + ascii_


def plain_host(value: Any) -> str:
    """A host that a request can name: no wildcard."""
    text = host(value)
    if text.startswith("*."):
        raise ValueError("a wildcard is not one host; write the host that the check is to ask for")
    return text


def _idna(text: str) -> str:
    import idna  # 20 ms that a file in plain ASCII need not pay

    try:
        encoded = idna.encode(text, uts46=True).decode("ascii")
        idna.decode(encoded)
    except (idna.IDNAError, ValueError) as error:
        raise ValueError(f"not a host name: {escaped(str(error))}") from None
    return encoded


def path(value: Any) -> str:
    """What a service answers below."""
    return _path(value, PATH, "/api")


def probe_path(value: Any) -> str:
    """A path and perhaps a query; never a URL: probes go to the replica's own address."""
    return _path(value, PROBE_PATH, "/healthz")


def _path(value: Any, grammar: re.Pattern[str], example: str) -> str:
    text = line(value)
    if len(text) > LONGEST_PATH:
        raise ValueError(f"a path has at most {LONGEST_PATH} characters")
    if not grammar.fullmatch(text):
        raise ValueError(f"give a path such as {example}: / first, then letters, digits and . _ ~ @ + , = : -")
    if "//" in text or any(part in (".", "..") for part in text.partition("?")[0].split("/")):
        raise ValueError(f"a path has no empty, . or .. parts; give a path such as {example}")
    return text


def redirected_path(value: Any) -> str:
    """One path, or with `/*` at its end the path and all below it."""
    text = line(value)
    return path(text.removesuffix("*")) + "*" if text.endswith("/*") else path(text)


def target(value: Any) -> str:
    """Where a redirect leads: a path, or the address of another host; a `*` at its end stands for the rest."""
    text = line(value)
    site = _SITE.match(text)
    rest = text[site.end() :] if site else text
    if site is None and not text.startswith("/"):
        raise ValueError("not a target; write a path such as /new, or https://shop.example.com/new, perhaps /* last")
    if site:
        plain_host(site["host"])
        rest = rest or "/"
    probe_path(rest.removesuffix("*") if rest.endswith("/*") else rest)
    return text[: site.end()] + rest if site else rest


def header_name(value: Any) -> str:
    """Of a probe."""
    text = _header_name(value)
    if text.lower() in _SET_BY_US:
        raise ValueError(f"header {text} is set by the probe itself; for Host write host:")
    return text


def response_header_name(value: Any) -> str:
    text = _header_name(value)
    if text.lower() in _SET_BY_NGINX:
        raise ValueError(f"header {text} is set by nginx itself; remove it")
    return text


def _header_name(value: Any) -> str:
    text = line(value)
    if not HEADER_NAME.fullmatch(text):
        raise ValueError("not a header name; write letters, digits and -, such as X-Shop")
    return text


def header_value(value: Any) -> str:
    """Of a probe."""
    return _header_value(value, 8192)


def response_header_value(value: Any) -> str:
    """nginx takes 4095 characters in one word, where each quote and backslash counts twice."""
    return _header_value(value, 2000)


def _header_value(value: Any, most: int) -> str:
    text = line(value)
    if len(text) > most or not _HEADER_VALUE.fullmatch(text):
        raise ValueError(f"not a header value; write up to {most} printable ASCII characters without $")
    return text


def matched_header_name(value: Any) -> str:
    """Of a request."""
    text = _header_name(value)
    if "_" in text:
        raise ValueError("nginx passes over headers with an underscore; write letters, digits and -, such as X-Canary")
    return text


def matched_header_value(value: Any) -> str:
    """Just this; nginx takes away the spaces around a value."""
    text = _header_value(value, LONGEST_MATCH)
    if not text or text != text.strip(" "):
        raise ValueError("no header has such a value; write it without spaces around it, and at least one character")
    return text


def cookie_name(value: Any) -> str:
    text = line(value)
    if not _COOKIE.fullmatch(text):
        raise ValueError("not a cookie that nginx can name; write letters, digits and _, such as canary")
    return text


def cookie_value(value: Any) -> str:
    text = line(value)
    if len(text) > LONGEST_MATCH or not _COOKIE_VALUE.fullmatch(text):
        wrong = f"not the value of a cookie; write 1 to {LONGEST_MATCH} printable ASCII characters"
        raise ValueError(f'{wrong} without spaces and any of " $ , ; \\')
    return text


def realm(value: Any) -> str:
    """What a browser shows beside the fields for user and password."""
    text = line(value)
    if not _REALM.fullmatch(text) or text == "off":
        raise ValueError("not a realm; write up to 100 printable ASCII characters without $, quotes and backslashes")
    return text


def hash_key(value: Any) -> tuple[str, str]:
    """What requests are dealt by, and the name of the cookie or header."""
    text = line(value)
    kind, _, named = text.partition(":")
    if text in ("address", "uri") or (kind == "cookie" and _COOKIE.fullmatch(named)):
        return kind, named
    if kind == "cookie":
        raise ValueError("not a cookie that nginx can name; write letters, digits and _, such as cookie:cart")
    if kind == "header":
        return kind, _header_name(named)
    raise ValueError("write address, uri, cookie:NAME or header:NAME")


def method(value: Any) -> str:
    text = line(value)
    if text not in ("GET", "HEAD", "POST", "OPTIONS"):
        raise ValueError("write GET, HEAD, POST or OPTIONS")
    return text


def copied_method(value: Any) -> str:
    text = line(value)
    if text not in ("GET", "HEAD", "OPTIONS"):
        raise ValueError("a copy does everything a second time; write GET, HEAD or OPTIONS")
    return text


def status(value: Any) -> tuple[int, int]:
    """`200` or `200-299`, as an inclusive range."""
    match = _STATUS.fullmatch(line(value))
    if match is None:
        raise ValueError("not a status; write 100 to 599, or a range such as 200-299")
    low, high = int(match[1]), int(match[2] or match[1])
    if low > high:
        raise ValueError(f"the range is empty; write {high}-{low}")
    return low, high


def page_status(value: Any) -> int:
    """One that nginx answers with by itself, for a service."""
    text = line(value)
    if text not in ("413", "502", "503", "504"):
        raise ValueError("nginx has no page of its own for this; write one of 413, 502, 503 and 504")
    return int(text)


# --- addresses --------------------------------------------------------------------------------------------------


def listen(value: Any) -> str:
    """`80`, `127.0.0.1:8080` or `[::]:80`, the address in its shortest form."""
    text = line(value)
    address, _, number = text.rpartition(":")
    if not re.fullmatch(r"[1-9][0-9]{0,4}", number, re.ASCII) or int(number) > 65535:
        raise ValueError("nothing to listen on; write a port such as 80, or 127.0.0.1:8080, or [::]:80")
    if holder := _NOT_FOR_THE_WEB.get(int(number)):
        raise ValueError(f"port {number} belongs to {holder}; choose another")
    return f"{_address(address)}:{number}" if address else number


def _address(text: str) -> str:
    bracketed = text.startswith("[") and text.endswith("]")
    try:
        if bracketed:
            return f"[{ipaddress.IPv6Address(text[1:-1].partition('%')[0])}]"
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise ValueError("not an address; write 127.0.0.1:8080, or [::1]:8080 in brackets") from None


def network(value: Any) -> str:
    text = line(value)
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise ValueError("not a network; write its first address and length, such as 10.0.0.0/8") from None
