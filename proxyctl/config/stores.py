"""Images that keep data of their own: two releases of one cannot run side by side on the same data."""

from __future__ import annotations

import re

_STORES = re.compile(
    r"(?:.*/)?(?:postgres|postgresql|postgis|pgvector|timescaledb|cockroach|mysql|mariadb|percona|mssql|mongo|mongodb"
    r"|cassandra|scylla|couchdb|influxdb|neo4j|redis|redis-stack|redis-stack-server|valkey|keydb|dragonfly|memcached"
    r"|rabbitmq|nats|kafka|redpanda|activemq|pulsar|zookeeper|etcd|elasticsearch|opensearch|solr|meilisearch|typesense"
    r"|qdrant|minio|clickhouse[^/:]*)(?:[:@].*)?",
    re.ASCII,
)


def keeps_data(image: str) -> bool:
    """A database, a cache or a queue, by its name."""
    return _STORES.fullmatch(image) is not None
