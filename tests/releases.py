"""One builder of releases for tests: a_release()."""

from __future__ import annotations

from typing import Any

from proxyctl.domain.model import Container, HealthCheck, HealthKind, Release, ReleaseId, Service, ServiceName

CHECK = HealthCheck(kind=HealthKind.HTTP, path="/healthz", interval=0.1, timeout=1.0, healthy=2, deadline=10.0)


def a_release(number: int, image: str, digest: str, *, service: str = "web", **container: Any) -> Release:
    """Release `number` of a service that listens on 8000; further keywords go to its container definition."""
    definition = Container(image=image, **container)
    return Release(
        id=ReleaseId(f"{service}-{number}"),
        service=Service(name=ServiceName(service), container=definition, health=CHECK, port=8000),
        image=image,
        digest=digest,
        config_digest="",
        created=0.0,
    )
