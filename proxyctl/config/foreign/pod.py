"""What a pod template of Kubernetes says of a replica: image, port and health check. Pure. Start at read_pod()."""

from __future__ import annotations

from proxyctl.config import grammar
from proxyctl.config import web_grammar as web
from proxyctl.config.document import Value
from proxyctl.config.foreign.ledger import Part
from proxyctl.config.foreign.sketch import Sketch, taken, within
from proxyctl.config.problems import shown

MOST_REPLICAS = 64
LONGEST_DEADLINE = ("100ms", "1h")

LABELS = "nothing is found by labels, annotations or namespaces here"

_OF_A_TEMPLATE = {"metadata": LABELS}
_OF_A_POD = {
    "dnsPolicy": "replicas use the engine's own names",
    "restartPolicy": "a replica that dies is started again by the engine",
    "schedulerName": "there is one host",
    "nodeSelector": "there is one host",
    "tolerations": "there is one host",
    "affinity": "there is one host",
    "topologySpreadConstraints": "there is one host",
    "priorityClassName": "there is one host",
    "serviceAccountName": "there is no cluster to be let into",
    "serviceAccount": "there is no cluster to be let into",
    "automountServiceAccountToken": "there is no cluster to be let into",
    "imagePullSecrets": "the engine's own logins are used, as docker login left them",
}
_INSTEAD_OF_A_POD = {
    "initContainers": "run it before the deploy, or in the entrypoint",
    "volumes": "write container.volumes",
    "securityContext": "write container.user",
    "terminationGracePeriodSeconds": "write container.stop_grace_period",
    "hostNetwork": "write container.network_mode: host, allow: [host-network] and strategy: recreate",
    "hostAliases": "write container.extra_hosts",
}
_OF_A_CONTAINER = {
    "name": "replicas are named by proxyctl",
    "terminationMessagePath": "its output is in proxyctl logs",
    "terminationMessagePolicy": "its output is in proxyctl logs",
    "imagePullPolicy": "an image that is not here is pulled",
}
_INSTEAD_OF_A_CONTAINER = {
    "command": "write container.entrypoint",
    "args": "write container.command",
    "workingDir": "write container.working_dir",
    "env": "write container.environment",
    "envFrom": "write container.environment, or env_file",
    "resources": "write container.cpus and container.mem_limit",
    "volumeMounts": "write container.volumes",
    "securityContext": "write container.user, cap_add, cap_drop and read_only",
    "lifecycle": "write container.pre_stop; drain waits for open requests anyway",
    "livenessProbe": "health is asked all the time, and the engine starts again what dies",
    "startupProbe": "health.deadline is the time that a candidate has to start",
}


def read_replicas(spec: Part, sketch: Sketch) -> None:
    found = spec.whole("replicas")
    if found is None:
        return
    if 1 <= found <= MOST_REPLICAS:
        sketch.replicas = found
        spec.carried("replicas", f"replicas: {found}")
    else:
        spec.not_carried("replicas", f"{found} is not 1 to {MOST_REPLICAS}; write replicas")


def read_deadline(spec: Part, sketch: Sketch) -> None:
    """The time to make progress is the time that a candidate has to pass its gate."""
    seconds = spec.seconds("progressDeadlineSeconds")
    if seconds:
        sketch.health["deadline"] = within(seconds, *LONGEST_DEADLINE)
        spec.carried("progressDeadlineSeconds", f"health.deadline: {sketch.health['deadline']}")


def read_pod(template: Part, sketch: Sketch) -> None:
    """The first container that has ports is the service; the others are told of."""
    template.no_needs(_OF_A_TEMPLATE)
    pod = template.part("spec")
    pod.no_needs(_OF_A_POD)
    pod.none_carried(_INSTEAD_OF_A_POD)
    containers = pod.parts("containers")
    chosen = next((each for each in containers if "ports" in each), containers[0] if containers else None)
    for each in containers:
        if each is not chosen:
            each.not_carried("", "a replica is one container; make it a service of its own, or leave it to Compose")
    if chosen is not None:
        _read_container(chosen, sketch)


def _read_container(container: Part, sketch: Sketch) -> None:
    container.no_needs(_OF_A_CONTAINER)
    container.none_carried(_INSTEAD_OF_A_CONTAINER)
    image = container.text("image")
    if image and taken(grammar.image, image):
        sketch.container["image"] = image
        container.carried("image", f"container.image: {image}")
    elif image:
        container.not_carried("image", f"{shown(image)} is not a name of an image that the engine takes")
    ports = _ports(container)
    if sketch.port is None and ports:
        sketch.port = next(iter(ports.values()))
    if sketch.port in ports.values():
        container.carried("ports", f"port: {sketch.port}; others are not reached through nginx")
    else:
        container.not_carried("ports", "no number from 1 to 65535 is there")
    _read_probe(container.part("readinessProbe"), ports, sketch)


def _ports(container: Part) -> dict[str, int]:
    """By name; one without has its number for a name."""
    found = ((port["name"], port["containerPort"]) for port in container.parts("ports"))
    return {str(name or number): int(str(number)) for name, number in found if taken(grammar.port, number)}


def port_of(value: Value, ports: dict[str, int]) -> int | None:
    """Of a number, or of a name that the container gives one."""
    if isinstance(value, str) and value in ports:
        return ports[value]
    return value if isinstance(value, int) and taken(grammar.port, value) else None


def named_ports(template: Part) -> dict[str, int]:
    return {name: port for each in template.part("spec").parts("containers") for name, port in _ports(each).items()}


# --- readinessProbe ----------------------------------------------------------------------------------------------


def _read_probe(probe: Part, ports: dict[str, int], sketch: Sketch) -> None:
    asked = _by_http(probe, ports, sketch) or _by_connection(probe, ports, sketch) or _by_command(probe)
    if not asked:
        if probe.value:
            probe.not_carried("", "it asks in a way that health does not; write health")
        return
    sketch.health |= asked
    for key, ours in (("successThreshold", "healthy"), ("failureThreshold", "unhealthy")):
        times = probe.whole(key)
        if times:
            sketch.health[ours] = min(times, 100)
            probe.carried(key, f"health.{ours}: {min(times, 100)}")
    for key, ours in (("periodSeconds", "interval"), ("timeoutSeconds", "timeout")):
        seconds = probe.seconds(key)
        if seconds:
            sketch.health[ours] = within(seconds, "50ms", "1h")
            probe.carried(key, f"health.{ours}: {sketch.health[ours]}")
    probe.no_need("initialDelaySeconds", "a candidate may fail until health.deadline; it is asked from its start on")


def _by_http(probe: Part, ports: dict[str, int], sketch: Sketch) -> dict[str, Value]:
    get = probe.part("httpGet")
    path = get.text("path") or "/"
    if not get.value:
        return {}
    if not taken(web.probe_path, path):
        get.not_carried("path", f"{shown(path)} is not a path that can be asked for; write health")
        return {"tcp": True} if sketch.port else {}
    asked: dict[str, Value] = {"path": path, "status": "200-399", **_other_port(get, ports, sketch)}
    get.carried("path", f"health.path: {path}; healthy from 200 to 399, as there")
    if get.text("scheme") == "HTTPS":
        asked |= {"scheme": "https", "verify": False}
        get.carried("scheme", "health.scheme: https; certificates are not verified, as there")
    get.no_need("scheme", "http it is")
    get.not_carried("host", "a replica is asked at its own address; write health.host for the Host header")
    get.not_carried("httpHeaders", "write health.headers")
    return asked


def _by_connection(probe: Part, ports: dict[str, int], sketch: Sketch) -> dict[str, Value]:
    socket = probe.part("tcpSocket")
    port = port_of(socket["port"], ports)
    if port is None:
        return {}
    probe.carried("tcpSocket", "health.tcp")
    return {"tcp": True if port == sketch.port else port}


def _by_command(probe: Part) -> dict[str, Value]:
    command = probe.part("exec")["command"]
    if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
        return {}
    probe.carried("exec", "health.exec")
    return {"exec": [str(word) for word in command]}


def _other_port(get: Part, ports: dict[str, int], sketch: Sketch) -> dict[str, Value]:
    port = port_of(get["port"], ports)
    if port is None:
        get.not_carried("port", f"{shown(get['port'])} is no port of the container; the service's own is asked")
        return {}
    get.carried("port", f"port {port} is asked")
    return {} if port == sketch.port else {"port": port}
