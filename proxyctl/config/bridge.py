"""From the models of the file to the domain: the only place that knows both. Decides nothing, reads no file.

What comes here is lawful: shape.py and rules.py found nothing against it.
"""

from __future__ import annotations

import os
from pathlib import Path

from proxyctl.config.container import Definition
from proxyctl.config.schema import HealthFile, ProjectFile, ProxyFile, ServiceFile, TimeoutsFile, TlsFile
from proxyctl.domain.model import (
    Balance,
    HealthCheck,
    HealthKind,
    Protocol,
    ProxySettings,
    Service,
    ServiceName,
    Sticky,
    Strategy,
    Timeouts,
    Tls,
)

WORKER_SHUTDOWN = 60.0  # where the file says nothing and no drain is longer


def service_of(name: str, file: ServiceFile, definition: Definition, folder: Path) -> Service:
    """Relative paths of the file are taken from the folder."""
    return Service(
        name=ServiceName(name),
        container=definition.to_domain(),
        health=_health(file),
        port=file.port,
        replicas=file.replicas,
        hosts=file.hosts or (),
        aliases=file.aliases or (),
        path=file.path,
        strip_path=file.strip_path,
        protocol=Protocol(file.protocol),
        tls=_tls(file.tls, folder),
        response_headers=tuple(file.response_headers.items()),
        strategy=Strategy(file.strategy),
        bake=file.bake,
        standby=file.standby,
        drain=file.drain,
        readiness_delay=file.readiness_delay,
        balance=Balance(file.balance),
        sticky=Sticky(file.sticky),
        timeouts=_timeouts(file.timeouts),
        body_limit=file.body_limit,
    )


def settings_of(file: ProjectFile, folder: Path, templates_digest: str) -> ProxySettings:
    """Relative paths of the file are taken from the folder."""
    proxy, times = file.proxy, file.proxy.timeouts
    return ProxySettings(
        http=proxy.http,
        https=proxy.https,
        trusted=proxy.trusted,
        binary=proxy.binary,
        user=proxy.user,
        workers=proxy.workers,
        client_header_timeout=times.client_header,
        client_body_timeout=times.client_body,
        keepalive_timeout=times.client_keepalive,
        upstream_keepalive_timeout=times.upstream_keepalive,
        worker_shutdown_timeout=_worker_shutdown(proxy, file),
        access_log=proxy.access_log == "on",
        log_size=proxy.log_size,
        templates=os.path.normpath(folder / proxy.templates) if proxy.templates else None,
        templates_digest=templates_digest,
    )


def _worker_shutdown(proxy: ProxyFile, file: ProjectFile) -> float:
    """An old worker must outlive the longest drain, or it would cut what the drain waits for."""
    if proxy.timeouts.worker_shutdown is not None:
        return proxy.timeouts.worker_shutdown
    return max([WORKER_SHUTDOWN, *(service.drain for service in file.services.values())])


def _tls(file: TlsFile | None, folder: Path) -> Tls | None:
    if file is None:
        return None
    cert, key = (os.path.normpath(folder / (path or "")) for path in (file.cert, file.key))
    return Tls(cert=cert, key=key, redirect=file.redirect, hsts=file.hsts)


def _timeouts(file: TimeoutsFile) -> Timeouts:
    return Timeouts(connect=file.connect, read=file.read, send=file.send)


def _health(service: ServiceFile) -> HealthCheck:
    check = service.health
    if not isinstance(check, HealthFile):
        return HealthCheck(kind=HealthKind.NONE)
    return HealthCheck(
        kind=_kind(check),
        path=check.path or "/",
        method=check.method,
        statuses=check.status,
        headers=tuple(check.headers.items()),
        host=check.host or "",
        body=check.body,
        scheme=check.scheme,
        verify=check.verify,
        port=check.port if isinstance(check.tcp, bool) or check.tcp is None else check.tcp,
        command=tuple(check.exec or ()),
        interval=check.interval,
        timeout=check.timeout,
        healthy=check.healthy,
        unhealthy=check.unhealthy,
        deadline=check.deadline,
    )


def _kind(check: HealthFile) -> HealthKind:
    if check.tcp is not None:
        return HealthKind.TCP
    if check.exec is not None:
        return HealthKind.EXEC
    return HealthKind.DOCKER if check.docker else HealthKind.HTTP
