"""The right prober for each kind of health check."""

from __future__ import annotations

from collections.abc import Mapping

from proxyctl.domain.model import HealthCheck, HealthKind
from proxyctl.ports import Endpoint, Prober, ProbeResult


class ProberByKind:
    def __init__(self, by_kind: Mapping[HealthKind, Prober]) -> None:
        self._by_kind = by_kind

    async def probe(self, endpoint: Endpoint, check: HealthCheck) -> ProbeResult:
        return await self._by_kind[check.kind].probe(endpoint, check)

    async def close(self) -> None:
        for prober in set(self._by_kind.values()):
            await prober.close()
