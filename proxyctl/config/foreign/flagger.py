"""A `Canary` of Flagger in the words of proxyctl. Pure: what it reads it tells of. Start at read_canary()."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from proxyctl.config import web_grammar as web
from proxyctl.config.document import Value
from proxyctl.config.foreign import limits, requests
from proxyctl.config.foreign.ledger import Part
from proxyctl.config.foreign.pod import LABELS, named_ports, port_of, read_deadline, read_pod, read_replicas
from proxyctl.config.foreign.sketch import FILL_IN, LONGEST_WAIT, Sketch, Step, flow, taken, within
from proxyctl.config.strategy import MOST_STEPS

INTERVAL = 60.0  # seconds, where none is written
LEAST_INTERVAL = 10.0
BLIND_ITERATIONS = 10  # there, of a provider that cannot share traffic, where none are written
MOST_WEIGHTS = MOST_STEPS - 10  # gates and waits are steps as well

_OF_A_SPEC = {
    "provider": "the nginx is proxyctl's own",
    "metricsServer": "the log of nginx is the judge",
    "ingressRef": "the nginx is proxyctl's own; write hosts",
    "routeRef": "the nginx is proxyctl's own; write hosts",
    "upstreamRef": "the nginx is proxyctl's own; write hosts",
    "revertOnDeletion": "nothing is changed that would have to be put back",
}
_INSTEAD_OF_A_SPEC = {
    "autoscalerRef": "replicas are a number of the file; write replicas and deploy",
    "suspend": "proxyctl pause stops a rollout where it is",
}
_OF_A_SERVICE = {
    "name": "clients ask for hosts",
    "portName": "ports have no names here; for gRPC write protocol: grpc",
    "portDiscovery": "clients reach one port of a service",
    "headless": "clients come through nginx",
    "gateways": "the nginx is proxyctl's own",
    "delegation": "the nginx is proxyctl's own",
    "meshName": "there is no mesh",
    "backends": "there is no mesh",
    "trafficDistribution": "there is one host",
    "apex": LABELS,
    "primary": LABELS,
    "canary": LABELS,
    "unmanagedMetadata": LABELS,
}
_INSTEAD_OF_A_SERVICE = {
    "appProtocol": "for gRPC write protocol: grpc",
    "retries": "a request that reaches no replica of one release is asked of the other, with nothing to configure",
    "rewrite": "write strip_path: true where the path is to go",
    "headers": "write response_headers",
    "corsPolicy": "write response_headers, or a template",
    "trafficPolicy": "write balance, and upstream_tls where replicas speak TLS",
    "mirror": "write strategy.canary.mirror",
}
_OF_AN_ANALYSIS = {
    "stepWeightPromotion": "the candidate that was tested becomes the live release; nothing moves back",
    "primaryReadyThreshold": "every replica of a release must be healthy",
    "canaryReadyThreshold": "every replica of a release must be healthy",
}
_INSTEAD_OF_AN_ANALYSIS = {
    "threshold": "one answer too many does not count here, evidence does; see analysis.sensitivity",
    "alerts": "follow proxyctl events -f, or read the exit code of deploy",
}
_INSTEAD_OF_A_WEBHOOK = {
    "rollout": "a hook runs once, not at each interval; nothing makes load: a canary is judged by your clients",
    "confirm-traffic-increase": "write a step {gate: approve} before each weight that is to be confirmed",
    "post-rollout": "run it after proxyctl deploy has ended, by its exit code",
    "rollback": "proxyctl abort or rollback does it, at once",
    "event": "follow proxyctl events -f",
}


def read_canary(root: Part, workloads: Mapping[str, Part], sketch: Sketch) -> None:
    """Adds to the sketch all that the Canary says."""
    spec = root.part("spec")
    spec.no_needs(_OF_A_SPEC)
    spec.none_carried(_INSTEAD_OF_A_SPEC)
    _read_service(spec, workloads, sketch)
    _read_target(spec.part("targetRef"), workloads, sketch)
    read_deadline(spec, sketch)
    analysis = spec.part("analysis" if "analysis" in spec else "canaryAnalysis")
    if spec.truth("skipAnalysis"):
        sketch.rollout.analysis = "off"
        spec.carried("skipAnalysis", "blue-green with analysis: off")
        analysis.not_carried("", "skipAnalysis passes over it; leave analysis: off out and write canary to have it")
        return
    spec.no_need("skipAnalysis", "it is not skipped")
    blind = spec["provider"] == "kubernetes"
    _Analysis(analysis, sketch, iterations=analysis.whole("iterations") or (BLIND_ITERATIONS if blind else 0)).read()


def _read_service(spec: Part, workloads: Mapping[str, Part], sketch: Sketch) -> None:
    service = spec.part("service")
    service.no_needs(_OF_A_SERVICE)
    service.none_carried(_INSTEAD_OF_A_SERVICE)
    found = workloads.get(str(spec.part("targetRef")["name"]))
    ports = named_ports(found.part("spec", "template")) if found else {}
    key = "targetPort" if "targetPort" in service else "port"
    sketch.port = port_of(service[key], ports)
    if sketch.port is None:
        service.fill_in(key, "a port's name, whose Deployment is not in this file; write port")
    else:
        service.carried(key, f"port: {sketch.port}")
    service.no_need("port", "clients come to the ports of proxy")
    _read_hosts(service, sketch)
    _read_timeout(service, sketch)
    for match in service.parts("match"):
        if match.part("uri")["prefix"] == "/":
            match.no_need("", "path: / is the default")
        match.not_carried("", "write path, or a service of its own for each path")


def _read_hosts(service: Part, sketch: Sketch) -> None:
    hosts = service["hosts"]
    for at, host in enumerate(hosts if isinstance(hosts, list) else ()):
        location = (*service.location, "hosts", at)
        part = Part(service.ledger, location, {})
        if host == "*":
            part.no_need("", "a service without hosts catches all")
        elif not isinstance(host, str) or not taken(web.host, host):
            part.not_carried("", "not a host that clients can ask for; write hosts")
        else:
            sketch.hosts.append(host)
            part.carried("", f"hosts: {host}")


def _read_timeout(service: Part, sketch: Sketch) -> None:
    seconds = service.seconds("timeout")
    if seconds:
        sketch.timeouts["read"] = within(seconds, "1ms", "1h")
        service.carried("timeout", f"timeouts.read: {sketch.timeouts['read']}, between two reads of an answer")


def _read_target(reference: Part, workloads: Mapping[str, Part], sketch: Sketch) -> None:
    found = workloads.get(str(reference["name"]))
    if found is None:
        reference.fill_in("", "its pod template is not in this file: write container and health")
        return
    reference.no_need("", "its pod template is in this file")
    read_replicas(found.part("spec"), sketch)
    read_pod(found.part("spec", "template"), sketch)


@dataclass
class _Analysis:
    """One loop there: at each interval the hooks, then the metrics, then the next weight."""

    part: Part
    sketch: Sketch
    iterations: int

    def read(self) -> None:
        self.part.no_needs(_OF_AN_ANALYSIS)
        self.part.none_carried(_INSTEAD_OF_AN_ANALYSIS)
        self._read_hooks("pre-rollout", "confirm-rollout")
        self._read_shares()
        self._read_hooks("confirm-promotion")
        self._read_other_hooks()
        self._read_mirror()
        self._read_affinity()
        for metric in self.part.parts("metrics"):
            self._read_metric(metric)

    @property
    def interval(self) -> float:
        return max(self.part.seconds("interval") or INTERVAL, LEAST_INTERVAL)

    # --- its kind: shares, requests or time alone ---

    def _read_shares(self) -> None:
        if self.iterations:
            self._read_match()
            self._wait(
                self.iterations * self.interval,
                "iterations",
                f"{self.iterations} times {within(self.interval, *LONGEST_WAIT)}",
            )
            self.part.none_carried(
                dict.fromkeys(("maxWeight", "stepWeight", "stepWeights"), "iterations go without them")
            )
            return
        self.part.not_carried("match", "without iterations it is passed over there too")
        if self.part.truth("mirror"):
            self._wait(self.interval, "mirror", "copies alone, for one interval")
        self._climb()

    def _wait(self, seconds: float, key: str, why: str) -> None:
        pause = within(seconds, *LONGEST_WAIT)
        self._add({"pause": pause}, f"{key}, {why}")
        self.part.carried(key, f"a step {{pause: {pause}}}: {why}")
        self.part.carried("interval", f"a part of {{pause: {pause}}}")

    def _climb(self) -> None:
        weights = list(self._weights())
        key = "stepWeights" if "stepWeights" in self.part else "stepWeight"
        stay = within(self.interval, *LONGEST_WAIT)
        for weight in weights:
            self._add({"weight": weight, "for": stay}, key)
        if not weights:
            self.part.not_carried(key, "no weight from 1 to 99 is in it; all traffic moves at once")
            return
        words = ", ".join(str(weight) for weight in weights)
        self.part.carried(key, f"weights {words}; 100 % comes last by itself")
        self.part.carried("maxWeight", f"the last weight is {weights[-1]}, the first that reaches it")
        self.part.carried("interval", f"for: {stay} of each weight")
        self.part.no_need("stepWeight", "stepWeights decide")

    def _weights(self) -> Iterator[int]:
        """There a weight is not cut to maxWeight: the last one is the first that reaches it."""
        listed, step = self.part["stepWeights"], self.part.whole("stepWeight")
        most = self.part.whole("maxWeight") or 100
        if isinstance(listed, list):
            ladder = [each for each in listed if isinstance(each, int)]
        else:
            ladder = list(range(step, 100, step)) if step else []
        highest = 0
        for weight in ladder[:MOST_WEIGHTS]:
            if highest >= most or not highest < weight < 100:
                return
            highest = weight
            yield weight

    def _read_match(self) -> None:
        for match in self.part.parts("match"):
            if "sourceLabels" in match:
                match.not_carried("", "there is no mesh that labels who asks; write match by header or cidr")
                continue
            rule = requests.rule_of(match.part("headers"))
            if rule is not None:
                self.sketch.rollout.match.append(rule)
                match.carried("headers", "a rule of match")

    # --- beside them ---

    def _read_hooks(self, *kinds: str) -> None:
        for hook in self.part.parts("webhooks"):
            kind = str(hook["type"])
            if kind not in kinds:
                continue
            if kind == "pre-rollout":
                name = flow(hook["name"])
                why = f"{FILL_IN}: - {{hook: NAME}}, line {hook.line}: {kind} {name}"
                self.sketch.rollout.steps.append(Step(None, why))
                hook.fill_in("", "a program of your own: write it as .proxyctl/hooks/NAME and a step {hook: NAME}")
            else:
                self.sketch.rollout.steps.append(Step({"gate": "approve"}, f"line {hook.line}: {kind}"))
                hook.carried("", "a step {gate: approve}: proxyctl approve or deny answers it, nothing is asked")

    def _read_other_hooks(self) -> None:
        for hook in self.part.parts("webhooks"):
            kind = str(hook["type"] or "rollout")
            hook.not_carried("", _INSTEAD_OF_A_WEBHOOK.get(kind, "no hook is of this type"))

    def _read_mirror(self) -> None:
        if not self.part.truth("mirror"):
            self.part.no_need("mirror", "nothing is copied")
            self.part.no_need("mirrorWeight", "nothing is copied")
            return
        percent = self.part.whole("mirrorWeight") or 100
        self.sketch.rollout.mirror = {"percent": min(percent, 100)}
        words = f"mirror.percent: {min(percent, 100)}, of GET and HEAD alone, until the candidate has all traffic"
        self.part.carried("mirrorWeight", words)
        self.part.carried("mirror", words)

    def _read_affinity(self) -> None:
        affinity = self.part.part("sessionAffinity")
        if not affinity.value:
            return
        self.sketch.rollout.sticky = True
        affinity.carried("cookieName", "sticky: cookie, of proxyctl's own name")
        affinity.no_need(
            "primaryCookieName", "sticky keeps a client on either side; a share that grows moves only clients over"
        )
        affinity.none_carried(
            dict.fromkeys(
                ("maxAge", "secure", "httpOnly", "domain", "path", "sameSite", "partitioned"),
                "the cookie is proxyctl's own",
            )
        )

    def _read_metric(self, metric: Part) -> None:
        name, window = metric.text("name"), metric.part("thresholdRange")
        least = window.number("min") if window.value else metric.number("threshold")
        if name == "request-success-rate" and least is not None and 0 < least <= 100:
            self._tighten(limits.errors_beyond(least), metric)
        elif name == "request-duration":
            metric.not_carried("", limits.LATENCY)
        else:
            metric.not_carried("", limits.ELSEWHERE)

    def _tighten(self, most: float, metric: Part) -> None:
        analysis = self.sketch.rollout.analysis
        assert isinstance(analysis, dict)
        analysis["max_error_rate"] = f"{most:g}%"
        metric.no_need("interval", "the log is read all the time")
        for key in ("name", "thresholdRange", "threshold"):
            metric.carried(key, f"analysis.max_error_rate: {most:g}%")

    def _add(self, value: Value, why: str) -> None:
        self.sketch.rollout.steps.append(Step(value, f"line {self.part.line}: {why}"))
