"""What the keys of `proxyctl.yml` mean together: who is asked how, who takes which host, what is missing.

Works on what shape.py left standing, so that one run shows these problems beside the others. Reads no file but to see
that an env_file or a secret is there. Start at held().
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from proxyctl.config import strategy
from proxyctl.config.compose_keys import ON_ONE_OF_THE_TWO
from proxyctl.config.definition import Definition
from proxyctl.config.document import Location, place_of
from proxyctl.config.mounts import is_written_to, mounted_at, source_of
from proxyctl.config.problems import displayed, shown
from proxyctl.config.rolling import too_short
from proxyctl.config.schema import HealthFile, ProjectFile, RedirectFile, ServiceFile, UpstreamTlsFile
from proxyctl.config.shape import Findings
from proxyctl.config.source import Unreadable, bytes_of
from proxyctl.config.stores import keeps_data
from proxyctl.domain.container import HOST_NETWORK, GrantedFile

CATCH_ALL = ""

_ENGINE_SOCKETS = ("docker.sock", "containerd.sock", "podman.sock", "crio.sock")
_ROUTED_ONLY = (
    *("hosts", "aliases", "redirects", "path", "strip_path", "protocol", "tls", "upstream_tls", "basic_auth"),
    *("response_headers", "balance", "sticky", "timeouts", "body_limit", "error_pages"),
)
_MOUNTED = ("tmpfs", "secrets", "configs")  # beside volumes
_WAYS = ("path", "tcp", "exec", "docker")
_OF_HTTP = ("scheme", "verify", "method", "status", "headers", "host", "body")


class Breach(NamedTuple):
    """A rule that the keys at this location break together."""

    location: Location
    wrong: str


def held(file: ProjectFile, definitions: Mapping[str, Definition], findings: Findings) -> None:
    """Add every breach of a rule to the findings. `definitions`: of each service whose container is known in whole."""
    for breach in _breaches(file, definitions, findings):
        findings.key(*breach)


def _breaches(file: ProjectFile, definitions: Mapping[str, Definition], findings: Findings) -> Iterator[Breach]:
    if file.project is None:
        yield Breach(("project",), "missing; write a name such as project: shop")
    if not file.services:
        yield Breach(("services",), "missing; write at least one service")
    yield from _of_listens(file)
    yield from _of_the_users_nginx(file)
    yield from _of_reloads(file)
    yield from _of_trust(file)
    yield from _of_http3(file)
    yield from _of_header_limits(file)
    yield from _of_the_log(file)
    services = {name: _routed(service, ("services", name), findings) for name, service in file.services.items()}
    for name, service in services.items():
        for breach in _of_service(service, definitions.get(name)):
            yield Breach(("services", name, *breach.location), breach.wrong)
    yield from _of_host_ports(file, definitions)
    yield from _of_claims(services, findings)
    yield from _of_aliases(services)
    yield from _of_certificates(services)


def _routed(service: ServiceFile, at: Location, findings: Findings) -> ServiceFile:
    """A wrong port is a port all the same: what hangs on it is not complained of."""
    return service.model_copy(update={"port": 1}) if findings.touch((*at, "port")) else service


def _of_listens(file: ProjectFile) -> Iterator[Breach]:
    everywhere = [each if ":" in each else f"0.0.0.0:{each}" for each in file.proxy.http]
    if any(service.tls for service in file.services.values()):
        everywhere += [each if ":" in each else f"0.0.0.0:{each}" for each in file.proxy.https]
    for listen in _repeated(everywhere):
        yield Breach(("proxy", "http"), f"{shown(listen)} is listed twice; keep one")


def _of_the_users_nginx(file: ProjectFile) -> Iterator[Breach]:
    if file.proxy.mode != "include":
        return
    for key, own in (("user", "a user"), ("workers", "workers")):
        if getattr(file.proxy, key) is not None:
            yield Breach(("proxy", key), f"your nginx has {own} of its own; remove it")
    for name, service in file.services.items():
        if service.port is not None and service.hosts is None:
            wrong = "with mode: include, your own default site answers to the rest; write hosts"
            yield Breach(("services", name, "hosts"), wrong)


def _of_reloads(file: ProjectFile) -> Iterator[Breach]:
    if file.proxy.cutover != "reload":
        return
    for name, service in file.services.items():
        if service.sticky != "none":
            wrong = "with cutover: reload nothing keeps a client on its side; write none, or cutover: live under proxy"
            yield Breach(("services", name, "sticky"), wrong)
        if service.strategy.matches or service.strategy.mirror:
            wrong = "with cutover: reload no request is asked for; write no match, preview or mirror, or cutover: live"
            yield Breach(("services", name, "strategy"), wrong)


def _of_the_log(file: ProjectFile) -> Iterator[Breach]:
    if file.proxy.log != "off":
        return
    for name, service in file.services.items():
        if service.strategy.analysis and any(map(strategy.needs_analysis, service.strategy.steps)):
            wrong = "its steps wait for the analysis, and proxy.log is off; give every weight a for, or have a log"
            yield Breach(("services", name, "strategy"), wrong)


def _of_trust(file: ProjectFile) -> Iterator[Breach]:
    if file.proxy.proxy_protocol and not file.proxy.trusted:
        wrong = "nobody is believed on who the client is; write trusted, the networks of your balancer"
        yield Breach(("proxy", "proxy_protocol"), wrong)


def _of_http3(file: ProjectFile) -> Iterator[Breach]:
    if not file.proxy.http3:
        return
    if file.proxy.mode == "include":
        yield Breach(("proxy", "http3"), "with mode: include the ports are your own nginx's; write mode: process")
    if file.proxy.proxy_protocol:
        yield Breach(("proxy", "http3"), "a balancer of connections passes no HTTP/3 on; take out http3")
    if not any(service.tls for service in file.services.values()):
        yield Breach(("proxy", "http3"), "no service has tls, which HTTP/3 is made of; write tls for one")


def _of_header_limits(file: ProjectFile) -> Iterator[Breach]:
    limits = file.proxy.header_limits
    if limits and limits.buffer > limits.line:
        yield Breach(("proxy", "header_limits", "buffer"), "more than the longest line; make it smaller")


def _repeated(texts: Iterable[str]) -> list[str]:
    return sorted(text for text, times in Counter(texts).items() if times > 1)


# --- one service ------------------------------------------------------------------------------------------------


def _of_service(service: ServiceFile, definition: Definition | None) -> Iterator[Breach]:
    if definition is not None:
        yield from _of_container(definition)
        if _is_on_the_host(definition):
            yield from _of_the_host_network(service, definition)
        if not service.strategy.recreate:
            yield from _of_two_releases(definition, frozenset(service.allow))
    yield from _of_routing(service)
    yield from _of_health(service)
    yield from _of_strategy(service)


def _of_container(definition: Definition) -> Iterator[Breach]:
    if "image" not in definition.given:
        yield Breach(("container", "image"), "missing; write it here or in the Compose file")
    for key in ("environment", "labels"):
        names = [name for name, _ in definition.given.get(key, ())]
        for name in _repeated(names):
            yield Breach(("container", key), f"{shown(name)} is written twice; keep one")
    for wrong in _of_volumes(definition.given.get("volumes", ())):
        yield Breach(("container", "volumes"), wrong)
    yield from _of_targets(definition)
    yield from _of_granted(definition)
    for path in definition.given.get("env_file", ()):
        yield from _of_env_file(Path(path))


def _of_volumes(volumes: tuple[str, ...]) -> Iterator[str]:
    for source in (source_of(volume) for volume in volumes):
        if source and source.strip("/") == "":
            yield "the whole file system of the host is not given to a container; name a folder"
        if source.rpartition("/")[2] in _ENGINE_SOCKETS:
            yield f"{shown(source)} makes the container root on the host; it is not given to one"


def _of_targets(definition: Definition) -> Iterator[Breach]:
    mounted = [(mounted_at(volume), "volumes") for volume in definition.given.get("volumes", ())]
    mounted += [(each.target, key) for key in _MOUNTED for each in definition.given.get(key, ())]
    for target in _repeated(target for target, _ in mounted):
        key = next(key for where, key in reversed(mounted) if where == target)
        yield Breach(("container", key), f"{shown(target)} is mounted twice; keep one")


def _of_granted(definition: Definition) -> Iterator[Breach]:
    for key in ("secrets", "configs"):
        for file in definition.given.get(key, ()):
            if wrong := _wrong_with(file, bool(definition.given.get("read_only"))):
                yield Breach(("container", key), wrong)


def _wrong_with(file: GrantedFile, read_only: bool) -> str:
    kind, _, path = file.content.partition(":")
    if kind == "file" and not Path(path).is_file():
        return f"there is no file {shown(displayed(Path(path)))}; make it, or name another"
    if kind == "file" and file != GrantedFile(target=file.target, content=file.content):
        return "a file is mounted as it is; change the file itself, and remove uid, gid and mode"
    if kind != "file" and read_only:
        return "nothing can be copied into a container that is read_only; write file:PATH"
    return ""


def _of_env_file(path: Path) -> Iterator[Breach]:
    try:
        bytes_of(path)
    except Unreadable as error:
        yield Breach(("container", "env_file"), f"{displayed(path)} {error.problem.wrong}")


def _of_two_releases(definition: Definition, allowed: frozenset[str]) -> Iterator[Breach]:
    """Two releases run side by side, for a while or for the whole standby."""
    image = definition.given.get("image", "")
    if keeps_data(image) and "database" not in allowed:
        wrong = f"two releases of {shown(image)} would run side by side, each with its data or both on the same"
        yield Breach(("container", "image"), f"{wrong}; leave it to Compose, or write allow: [database]")
    for volume in definition.given.get("volumes", ()):
        if source_of(volume) and is_written_to(volume) and "shared-volumes" not in allowed:
            wrong = f"two releases would write to {shown(source_of(volume))} at once"
            yield Breach(("container", "volumes"), f"{wrong}; write :ro after it, or allow: [shared-volumes]")


def _is_on_the_host(definition: Definition) -> bool:
    return definition.given.get("networks") == (HOST_NETWORK,)


def _of_the_host_network(service: ServiceFile, definition: Definition) -> Iterator[Breach]:
    """All that run there share one address, and its ports."""
    if "host-network" not in service.allow:
        wrong = "it would answer on ports of this host, to whoever reaches the host"
        yield Breach(
            ("container", "network_mode"), f"{wrong}; write networks, or allow: [host-network] beside container"
        )
    if {"networks", "network_mode"} <= service.container.model_fields_set:
        yield Breach(("container", "networks"), ON_ONE_OF_THE_TWO)
    if not service.strategy.recreate:
        yield Breach(("strategy",), "on the host's network two releases would want the same port; write recreate")
    if service.replicas > 1:
        yield Breach(("replicas",), "on the host's network all of them would want the same port; write 1")
    for name, _ in definition.given.get("sysctls", ()):
        if name.startswith("net."):
            wrong = f"{shown(name)} is the host's own on its network; set it there, and remove it"
            yield Breach(("container", "sysctls"), wrong)


def _of_strategy(service: ServiceFile) -> Iterator[Breach]:
    for location, wrong in strategy.breaches(service.strategy):
        yield Breach(("strategy", *location), wrong)
    judged = service.strategy.analysis
    if judged and judged.holdback and not service.bake:
        yield Breach(("strategy",), "analysis.holdback is for the bake, and bake is 0s; remove one of the two")
    yield from _of_rolling(service)
    canary = service.strategy.canary
    if canary is not None and service.port is None:
        yield Breach(("strategy",), "a service without a port has no traffic to share; write blue-green")
    if service.port is None and (service.strategy.matches or service.strategy.mirror):
        yield Breach(("strategy",), "a service without a port gets no requests; remove its rules")
    if service.protocol == "grpc" and service.strategy.mirror:
        yield Breach(("strategy", "canary", "mirror"), "calls of gRPC are POSTs, which are not copied; remove it")
    if canary and canary.sticky and "sticky" in service.model_fields_set and canary.sticky != service.sticky:
        yield Breach(("sticky",), f"strategy.canary.sticky says {canary.sticky}; keep one of the two")


def _of_rolling(service: ServiceFile) -> Iterator[Breach]:
    own, check = service.strategy.rolls, service.health
    if own is None:
        return
    instead = {"bake": "its replicas are watched as they come; write monitor", "standby": "no old release stays warm"}
    for key, why in instead.items():
        if key in service.model_fields_set:
            yield Breach((key,), f"not with strategy {service.strategy.kind}{own.place}: {why}")
    if isinstance(check, HealthFile) and (wrong := too_short(own, check.unhealthy, check.interval, check.timeout)):
        yield Breach(("strategy", service.strategy.kind, "monitor"), wrong)


def _of_routing(service: ServiceFile) -> Iterator[Breach]:
    if service.port is None:
        for key in _ROUTED_ONLY:
            if key in service.model_fields_set:
                yield Breach((key,), "only a routed service has this; write port, or remove it")
    own = (*(service.hosts or ()), *_preview_hosts(service))
    for host in _repeated((*own, *(host for _, host in _given_away(service)))):
        yield Breach(("hosts",), f"{shown(host)} is listed twice; keep one")
    for index, redirect in enumerate(service.redirects or ()):
        for wrong in _of_redirect(redirect):
            yield Breach(("redirects", index), wrong)
    yield from _of_edge(service)


def _of_edge(service: ServiceFile) -> Iterator[Breach]:
    if service.aliases and not service.hosts:
        yield Breach(("aliases",), "there is no host to send them to; write hosts")
    if service.aliases and service.hosts and service.hosts[0].startswith("*."):
        yield Breach(
            ("aliases",), f"they are sent to the first of hosts, and {shown(service.hosts[0])} is not one host"
        )
    if service.protocol == "grpc" and service.tls is None:
        yield Breach(("protocol",), "grpc clients need HTTP/2, which comes with HTTPS; write tls")
    if service.protocol == "grpc" and service.error_pages:
        yield Breach(("error_pages",), "a grpc client reads no page; remove it")
    if service.strip_path and service.path == "/":
        yield Breach(("strip_path",), "there is no path to take away; write path, or remove it")
    for key in ("cert", "key") if service.tls else ():
        if getattr(service.tls, key) is None:
            yield Breach(("tls", key), f"missing; write it, such as file:{key}.pem")
    for key, wrong in _of_upstream_tls(service.upstream_tls, service.hosts or ()) if service.upstream_tls else ():
        yield Breach(("upstream_tls", key), wrong)
    if service.basic_auth and service.basic_auth.file is None:
        yield Breach(("basic_auth", "file"), "missing; write it, such as file:htpasswd")


def _of_upstream_tls(tls: UpstreamTlsFile, hosts: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if (tls.cert is None) != (tls.key is None):
        missing = "key" if tls.key is None else "cert"
        yield missing, f"missing; a certificate of our own has two files: write file:{missing}.pem"
    if tls.verify and tls.ca is None:
        yield "ca", "missing; write whose certificates are believed, such as file:ca.pem, or verify: false"
    if tls.verify and tls.server_name is None and (not hosts or hosts[0].startswith("*.")):
        yield "server_name", "missing; write the name that is in the replicas' certificates"
    if not tls.verify and tls.ca is not None:
        yield "ca", "nothing is verified, so nobody needs to be believed; keep one of ca and verify: false"


def _of_redirect(redirect: RedirectFile) -> Iterator[str]:
    path, to = redirect.path or "", redirect.to or ""
    if (redirect.path is None) == (redirect.host is None):
        yield "write one of path and host, which is sent elsewhere"
    if redirect.to is None:
        yield "it does not say where to; write to, such as /new or https://shop.example.com/*"
    if redirect.host is not None and to.startswith("/"):
        yield f"all of {shown(redirect.host)} is sent away; write to with a host, such as https://shop.example.com{to}"
    if path and to.endswith("/*") and not path.endswith("/*"):
        yield f"nothing is left for the * of to; write path: {path.rstrip('/')}/*, or to without it"
    if path and _lies_in(to.partition("?")[0], path):
        yield "it leads to itself; write another path"


def _lies_in(to: str, path: str) -> bool:
    bare = path.removesuffix("/*")
    return to == bare or (bare != path and to.startswith(f"{bare}/"))


def _of_health(service: ServiceFile) -> Iterator[Breach]:
    match service.health:
        case None if not service.readiness_delay:
            wrong = "no health check; write one such as {path: /healthz}, or health: none, or a readiness_delay"
            yield Breach(("health",), wrong)
        case HealthFile() as check:
            if service.readiness_delay:
                yield Breach(("readiness_delay",), "for a service without a health check; keep one of the two")
            for breach in _of_check(check, service):
                yield Breach(("health", *breach.location), breach.wrong)


def _of_check(check: HealthFile, service: ServiceFile) -> Iterator[Breach]:
    ways = [way for way in _WAYS if getattr(check, way) is not None]
    if len(ways) != 1:
        found = f"{' and '.join(ways)} are written" if ways else "it does not say how to ask"
        yield Breach((), f"{found}; write one of path, tcp, exec and docker")
        return
    if ways != ["path"]:
        for key in _OF_HTTP:
            if key in check.model_fields_set:
                yield Breach((key,), f"only a check by path has this; remove it, or {ways[0]}")
    if check.exec == ():
        yield Breach(("exec",), "the command is empty; write one that exits 0 when all is well")
    if check.path is not None and check.port is None and service.port is None:
        yield Breach(("path",), "a check by path needs a port; write health.port")
    if check.tcp is True and check.port is None and service.port is None:
        yield Breach(("tcp",), "a check by connection needs a port; write the port instead of true")
    if check.timeout >= check.deadline:
        yield Breach(("timeout",), "not below the deadline, so no probe could be late; make it shorter")


# --- all services -----------------------------------------------------------------------------------------------


def _of_host_ports(file: ProjectFile, definitions: Mapping[str, Definition]) -> Iterator[Breach]:
    """On the host's network a port has one holder."""
    first = dict.fromkeys(_listened(file), "nginx")
    for name, service in file.services.items():
        if name in definitions and _is_on_the_host(definitions[name]):
            for location, port in _host_ports(service):
                holder = first.setdefault(port, f"service {name}")
                if holder != f"service {name}":
                    wrong = f"port {port} of the host is taken by {holder}; let this service listen on another"
                    yield Breach(("services", name, *location), wrong)


def _listened(file: ProjectFile) -> Iterator[int]:
    """The ports of an nginx of ours."""
    if file.proxy.mode != "include":
        https = file.proxy.https if any(service.tls for service in file.services.values()) else ()
        yield from (int(listen.rpartition(":")[2]) for listen in (*file.proxy.http, *https))


def _host_ports(service: ServiceFile) -> Iterator[tuple[Location, int]]:
    if service.port is not None:
        yield ("port",), service.port
    if isinstance(check := service.health, HealthFile):
        for key, port in (("port", check.port), ("tcp", check.tcp)):
            if port is not None and not isinstance(port, bool):
                yield ("health", key), port


def _of_claims(services: Mapping[str, ServiceFile], findings: Findings) -> Iterator[Breach]:
    """A host and path that two services take. Hosts are folded and encoded by now; /api/ is /api."""
    first: dict[tuple[str, str], Location] = {}
    for name, service in services.items():
        at: Location = ("services", name)
        if service.port is None or findings.touch((*at, "hosts")) or findings.touch((*at, "path")):
            continue
        for host, location in _claimed(service, at):
            claim = (host, service.path.rstrip("/"))
            holder = first.setdefault(claim, location)
            if holder[1] != name:
                yield Breach(location, _taken(host, service.path, holder, findings))
    yield from _of_redirected_paths(services, first, findings)


def _of_redirected_paths(
    services: Mapping[str, ServiceFile], first: dict[tuple[str, str], Location], findings: Findings
) -> Iterator[Breach]:
    """A path of a host that is sent elsewhere has no service, and one target. `first`: who has which by now."""
    for name, service in services.items():
        for index, redirect in enumerate(service.redirects or () if service.port is not None else ()):
            location: Location = ("services", name, "redirects", index)
            path = redirect.path or ""
            root_alone = path == "/"  # beside a service of all paths
            for host in (service.hosts or (CATCH_ALL,)) if path else ():
                holder = first.setdefault((host, path if root_alone else path.rstrip("/*")), location)
                if holder != location:
                    taken = f"{shown(path)} is taken by {_holder(holder, findings)}; send another path elsewhere"
                    yield Breach(location, taken)


def _claimed(service: ServiceFile, at: Location) -> Iterator[tuple[str, Location]]:
    if service.hosts is None:
        yield CATCH_ALL, (*at, "hosts")
    for index, host in enumerate(service.hosts or ()):
        yield host, (*at, "hosts", index)
    for host in _preview_hosts(service):
        yield host, (*at, "strategy", "blue-green", "preview", "host")


def _preview_hosts(service: ServiceFile) -> tuple[str, ...]:
    return tuple(match.host for match in service.strategy.matches if match.host)


def _of_aliases(services: Mapping[str, ServiceFile]) -> Iterator[Breach]:
    """A host that is sent elsewhere serves nothing else, for nobody."""
    hosts = {
        host: name for name, service in services.items() for host in (*(service.hosts or ()), *_preview_hosts(service))
    }
    first: dict[str, str] = {}
    for name, service in services.items():
        for location, host in _given_away(service):
            holder = hosts.get(host) or first.setdefault(host, name)
            if holder != name:
                yield Breach(("services", name, *location), f"{shown(host)} is a host of service {holder}")


def _given_away(service: ServiceFile) -> Iterator[tuple[Location, str]]:
    for index, alias in enumerate(service.aliases or ()):
        yield ("aliases", index), alias
    for index, redirect in enumerate(service.redirects or ()):
        if redirect.host is not None:
            yield ("redirects", index), redirect.host


def _of_certificates(services: Mapping[str, ServiceFile]) -> Iterator[Breach]:
    """Services that share a host share its certificate: it is written in one of them."""
    first: dict[str, str] = {}
    for name, service in services.items():
        for host in (service.hosts or (CATCH_ALL,)) if service.tls and service.port is not None else ():
            holder = first.setdefault(host, name)
            if service.tls != services[holder].tls:
                what = f"{shown(host)} has" if host else "all hosts have"
                wrong = f"{what} the certificate of service {holder}; write tls in one of the two"
                yield Breach(("services", name, "tls"), wrong)


def _taken(host: str, path: str, holder: Location, findings: Findings) -> str:
    what = f"{shown(host)} with path {shown(path)}" if host else f"every host with path {shown(path)}"
    instead = "take another host or path" if host else "write hosts for one of them"
    return f"{what} is taken by {_holder(holder, findings)}; {instead}"


def _holder(location: Location, findings: Findings) -> str:
    return f"service {location[1]} at line {place_of(findings.document.root, location).line}"
