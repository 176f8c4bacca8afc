"""What things are called inside our nginx configuration. Pure, and light: a warm rollback needs the pool's path.

A project and a service hold no underscore (their grammar has only a-z, 0-9 and -), so these names cannot collide.
"""

from __future__ import annotations

from typing import NamedTuple

from proxyctl.adapters.places import Places
from proxyctl.domain.model import Colour, ProxySettings, ServiceName, Topology

CONFIG = "nginx.conf"
SHARES = "splits.json"  # in a generation that tells nginx who gets traffic
TLS_FOLDER = "tls"
AUTH_FOLDER = "auth"
ERRORS_FOLDER = "errors"
# Why a request went to its colour, in the log.
SPLIT = "-"  # its place in the split, and no rule
MATCH = "match"
MIRROR = "mirror"  # it is a copy


def include_line(places: Places) -> str:
    """What an nginx that is not ours has to say of us. It starts without us, too: a pattern may match nothing."""
    return f"include {places.current}/*.conf;"


def seen_from(settings: ProxySettings, places: Places) -> str:
    """What leads to the flags. Our own workers stand there (working_directory), which makes each question cheaper."""
    return "" if settings.mode.ours else f"{places.splits}/"


def files_from(settings: ProxySettings, places: Places) -> str:
    """What leads to the files of a generation: ours takes them from beside its configuration."""
    return "" if settings.mode.ours else f"{places.current}/"


def pools_prefix(project: str, service: ServiceName) -> str:
    return f"px_{project}_{service}"


def upstream_name(project: str, service: ServiceName, pool: str) -> str:
    return f"{pools_prefix(project, service)}_{pool}"


def tls_files(service: ServiceName) -> tuple[str, str]:
    """Certificate and key, in the folder of a generation."""
    return f"{TLS_FOLDER}/{service}.crt", f"{TLS_FOLDER}/{service}.key"


def variables_prefix(topology: Topology) -> str:
    """What our variables, log formats and zones begin with. An nginx that is not ours may have several projects."""
    return "px" if topology.settings.mode.ours else f"px_{_variable(topology.project)}"


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


def log_format(prefix: str, service: ServiceName) -> str:
    return f"{prefix}_{service}"


def mirror_format(prefix: str, service: ServiceName) -> str:
    return f"{log_format(prefix, service)}_mirror"


def cookie_name(project: str) -> str:
    """nginx reads it as $cookie_NAME, and a variable's name has no hyphen."""
    return f"px_{_variable(project)}"


def _variable(project: str) -> str:
    return project.replace("-", "_")


def prober_prefix(service: ServiceName, colour: Colour) -> str:
    """On the control server: what follows it is the path that the colour's plain pool gets."""
    return f"/upstream/{service}/{colour}"
