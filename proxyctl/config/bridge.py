"""From the models of the file to the domain: the only place that knows both. Decides nothing, reads no file.

What comes here is lawful: shape.py and rules.py found nothing against it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from proxyctl.config.definition import Definition
from proxyctl.config.schema import (
    BasicAuthFile,
    HashFile,
    HeaderLimitsFile,
    HealthFile,
    ProjectFile,
    ProxyFile,
    RedirectFile,
    ServiceFile,
    TimeoutsFile,
    TlsFile,
)
from proxyctl.domain.model import (
    Balance,
    BasicAuth,
    Cutover,
    Hash,
    HashKey,
    HeaderLimits,
    HealthCheck,
    HealthKind,
    Logged,
    Mode,
    Pages,
    Protocol,
    ProxySettings,
    Redirect,
    Service,
    ServiceName,
    Sticky,
    Timeouts,
    Tls,
    UpstreamTls,
)
from proxyctl.domain.rolling import Rolling

WORKER_SHUTDOWN = 60.0  # where the file says nothing and no drain is longer


def service_of(name: str, file: ServiceFile, definition: Definition, folder: Path) -> Service:
    """Relative paths of the file are taken from the folder."""
    rolling, analysis = _rolling(file), file.strategy.analysis
    return Service(
        name=ServiceName(name),
        container=definition.to_domain(),
        health=_health(file),
        port=file.port,
        replicas=file.replicas,
        hosts=file.hosts or (),
        aliases=file.aliases or (),
        redirects=tuple(map(_redirect, file.redirects or ())),
        path=file.path,
        strip_path=file.strip_path,
        protocol=Protocol(file.protocol),
        tls=_tls(file.tls, folder),
        upstream_tls=_upstream_tls(file, folder),
        basic_auth=_basic_auth(file.basic_auth, folder),
        response_headers=tuple(file.response_headers.items()),
        error_pages=_pages(file.error_pages, folder),
        strategy=file.strategy.kind,
        steps=file.strategy.steps,
        analysis=analysis.criteria(folder) if analysis else None,
        rolling=rolling,
        matches=file.strategy.matches,
        mirror=file.strategy.mirror,
        bake=rolling.monitor if rolling else file.bakes_for,  # of a first release
        standby=file.standby,
        drain=file.drain,
        readiness_delay=file.readiness_delay,
        balance=_balance(file.balance),
        sticky=Sticky(_sticky(file)),
        timeouts=_timeouts(file.timeouts),
        body_limit=file.body_limit,
    )


def _rolling(file: ServiceFile) -> Rolling | None:
    check = _health(file)
    fails_within = 0.0 if check.kind is HealthKind.NONE else check.unhealthy * (check.interval + check.timeout)
    return file.strategy.rolls.policy(fails_within) if file.strategy.rolls else None


def _sticky(file: ServiceFile) -> str:
    """A word of the canary's own goes for the service."""
    return (file.strategy.canary.sticky if file.strategy.canary else None) or file.sticky


def settings_of(file: ProjectFile, folder: Path, templates_digest: str) -> ProxySettings:
    """Relative paths of the file are taken from the folder."""
    proxy, times = file.proxy, file.proxy.timeouts
    return ProxySettings(
        mode=Mode(proxy.mode),
        cutover=Cutover(proxy.cutover),
        image=proxy.image,
        config=_path(proxy.config, folder) if proxy.config else None,
        http=proxy.http,
        https=proxy.https,
        http3=proxy.http3,
        trusted=proxy.trusted,
        proxy_protocol=proxy.proxy_protocol,
        binary=proxy.binary,
        user=proxy.user,
        workers=proxy.workers,
        header_limits=_header_limits(proxy.header_limits),
        client_header_timeout=times.client_header,
        client_body_timeout=times.client_body,
        keepalive_timeout=times.client_keepalive,
        upstream_keepalive_timeout=times.upstream_keepalive,
        worker_shutdown_timeout=_worker_shutdown(proxy, file),
        access_log=Logged(proxy.log),
        error_pages=_pages(proxy.error_pages, folder),
        log_size=proxy.log_size,
        templates=_path(proxy.templates, folder) if proxy.templates else None,
        templates_digest=templates_digest,
    )


def _worker_shutdown(proxy: ProxyFile, file: ProjectFile) -> float:
    """An old worker must outlive the longest drain, or it would cut what the drain waits for."""
    if proxy.timeouts.worker_shutdown is not None:
        return proxy.timeouts.worker_shutdown
    return max([WORKER_SHUTDOWN, *(service.drain for service in file.services.values())])


def _header_limits(file: HeaderLimitsFile | None) -> HeaderLimits | None:
    return HeaderLimits(buffer=file.buffer, line=file.line, lines=file.lines) if file else None


def _balance(file: HashFile | str) -> Balance | Hash:
    if isinstance(file, str):
        return Balance(file)
    kind, name = file.hash
    return Hash(key=HashKey(kind), name=name)


def _redirect(file: RedirectFile) -> Redirect:
    return Redirect(path=file.path or "", host=file.host or "", to=file.to or "", status=file.status)


def _tls(file: TlsFile | None, folder: Path) -> Tls | None:
    if file is None:
        return None
    cert, key = _path(file.cert, folder), _path(file.key, folder)
    return Tls(cert=cert, key=key, redirect=file.redirect, hsts=file.hsts)


def _upstream_tls(service: ServiceFile, folder: Path) -> UpstreamTls | None:
    file = service.upstream_tls
    if file is None:
        return None
    first = (service.hosts or ("*.",))[0]
    return UpstreamTls(
        ca=_path(file.ca, folder) if file.ca else "",
        cert=_path(file.cert, folder) if file.cert else "",
        key=_path(file.key, folder) if file.key else "",
        verify=file.verify,
        server_name=file.server_name or ("" if first.startswith("*.") else first),
    )


def _basic_auth(file: BasicAuthFile | None, folder: Path) -> BasicAuth | None:
    return BasicAuth(file=_path(file.file, folder), realm=file.realm) if file else None


def _pages(files: Mapping[int, str], folder: Path) -> Pages:
    return tuple((status, _path(file, folder)) for status, file in sorted(files.items()))


def _path(written: str | None, folder: Path) -> str:
    return os.path.normpath(folder / (written or ""))


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
        scheme=check.scheme or ("https" if service.upstream_tls and check.port is None else "http"),
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
