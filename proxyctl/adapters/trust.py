"""How a probe speaks TLS: as nginx speaks it to the same replica, where the service says how. Start at context()."""

from __future__ import annotations

import ssl

from proxyctl.domain.model import HealthCheck
from proxyctl.ports import Endpoint


def context(endpoint: Endpoint, check: HealthCheck) -> ssl.SSLContext:
    """Raises OSError that says so where the service's files cannot be used."""
    tls = endpoint.tls
    try:
        made = ssl.create_default_context(cafile=(tls and tls.ca) or None)
        if tls and tls.cert:
            made.load_cert_chain(tls.cert, tls.key)
    except OSError as error:
        raise OSError(error.errno, f"the files of upstream_tls cannot be used: {error.strerror}") from error
    if not check.verify or (tls and not tls.verify):
        made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


def server_name(endpoint: Endpoint, check: HealthCheck) -> str:
    """Whom the replica is to be."""
    named = endpoint.tls.server_name if endpoint.tls else ""
    return named or check.host or endpoint.host or endpoint.address.rpartition(":")[0]
