"""What things are called inside our nginx configuration. Pure, and light: a warm rollback needs the pool's path.

A project and a service hold no underscore (their grammar has only a-z, 0-9 and -), so these names cannot collide.
"""

from __future__ import annotations

from typing import NamedTuple

from proxyctl.domain.model import Colour, ServiceName

CONFIG = "nginx.conf"
TLS_FOLDER = "tls"
AUTH_FOLDER = "auth"
ERRORS_FOLDER = "errors"


def pools_prefix(project: str, service: ServiceName) -> str:
    return f"px_{project}_{service}"


def upstream_name(project: str, service: ServiceName, pool: str) -> str:
    return f"{pools_prefix(project, service)}_{pool}"


def tls_files(service: ServiceName) -> tuple[str, str]:
    """Certificate and key, in the folder of a generation."""
    return f"{TLS_FOLDER}/{service}.crt", f"{TLS_FOLDER}/{service}.key"


class UpstreamFiles(NamedTuple):
    ca: str  # whom we believe
    cert: str
    key: str


def upstream_tls_files(service: ServiceName) -> UpstreamFiles:
    return UpstreamFiles(f"upstream/{service}.ca", f"upstream/{service}.crt", f"upstream/{service}.key")


def upstream_tls_files_before(service: ServiceName) -> UpstreamFiles:
    """For a colour that goes on being asked as before; no service has a dot in its name."""
    return upstream_tls_files(ServiceName(f"{service}.before"))


def password_file(service: ServiceName) -> str:
    return f"{AUTH_FOLDER}/{service}.htpasswd"


def error_page(service: ServiceName, status: int) -> str:
    return f"{ERRORS_FOLDER}/{service}.{status}.html"


def read_late(name: str) -> bool:
    """Whether workers read this file of a generation as requests come; all else is read with the configuration."""
    return name.startswith((f"{AUTH_FOLDER}/", f"{ERRORS_FOLDER}/"))


def log_format(service: ServiceName) -> str:
    return f"px_{service}"


def cookie_name(project: str) -> str:
    """nginx reads it as $cookie_NAME, and a variable's name has no hyphen."""
    return f"px_{project.replace('-', '_')}"


def prober_prefix(service: ServiceName, colour: Colour) -> str:
    """On the control server: what follows it is the path that the colour's plain pool gets."""
    return f"/upstream/{service}/{colour}"
