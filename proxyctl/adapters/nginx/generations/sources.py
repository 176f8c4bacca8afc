"""A file of the operator as text, or why nginx cannot use it. Never repeats what stands in one. Start at text_of()."""

from __future__ import annotations

import re
from pathlib import Path

PAGE_LIMIT = 256 << 10  # bytes

# What htpasswd and openssl passwd make, and nginx can check.
_HASH = re.compile(
    r"\$apr1\$[./0-9A-Za-z]{1,8}\$[./0-9A-Za-z]{22}|\{SHA\}[0-9A-Za-z+/]{27}=|\{SSHA\}[0-9A-Za-z+/]{28,}=*"
    r"|\$(?:1|2[aby]|5|6|y)\$[./0-9A-Za-z$=,]{20,}",
    re.ASCII,
)


class FileRefused(ValueError):
    """In one clause that names the file."""


def text_of(path: str, encoding: str = "ascii", what: str = "PEM text") -> str:
    """Raises FileRefused."""
    try:
        return Path(path).read_text(encoding)
    except OSError as error:
        raise FileRefused(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise FileRefused(f"{path} is not {what}") from error


def passwords(path: str) -> tuple[str]:
    """Lines of a user's name and the hash of a password, as htpasswd writes them. Raises FileRefused."""
    text = text_of(path, "utf-8", "text")
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line and line[0] != "#"]
    for number, line in lines:
        user, colon, rest = line.partition(":")
        if not user or not colon:
            raise FileRefused(f"line {number} of {path} is not user:hash; write it with htpasswd")
        if not _HASH.fullmatch(rest.partition(":")[0]):
            raise FileRefused(f"line {number} of {path} holds no hash that nginx can check; write it with htpasswd")
    if not lines:
        raise FileRefused(f"{path} names no user, so nobody could come in")
    return (text,)


def page(path: str) -> tuple[str]:
    """HTML that stands alone, in UTF-8. Raises FileRefused."""
    text = text_of(path, "utf-8", "text in UTF-8")
    if not text.strip():
        raise FileRefused(f"{path} is empty")
    if len(text.encode()) > PAGE_LIMIT:
        raise FileRefused(f"{path} is longer than {PAGE_LIMIT >> 10} KiB")
    return (text,)
