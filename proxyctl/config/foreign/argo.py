"""A `Rollout` of Argo Rollouts in the words of proxyctl. Pure: what it reads it tells of. Start at read_rollout()."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from proxyctl.config import grammar
from proxyctl.config.document import Value
from proxyctl.config.foreign import limits, requests
from proxyctl.config.foreign.ledger import Part
from proxyctl.config.foreign.pod import LABELS, read_deadline, read_pod, read_replicas
from proxyctl.config.foreign.sketch import FILL_IN, LONGEST_WAIT, Rollout, Sketch, Step, flow, lasting, within
from proxyctl.config.problems import shown
from proxyctl.config.strategy import MOST_STEPS

Templates = Mapping[str, Part]  # AnalysisTemplates of the same file, by name


_OF_A_SPEC = {
    "selector": LABELS,
    "revisionHistoryLimit": "releases are kept by proxyctl; see prune",
    "restartAt": "deploy again to start replicas anew",
    "paused": "proxyctl pause and resume do it",
    "progressDeadlineAbort": "a candidate that misses its deadline is always taken back",
    "rollbackWindow": "a rollback to the release that is warm asks for no steps",
    "analysis": "history is kept by proxyctl; see history",
}
_OF_SERVICES = "nginx sends each request to the right release itself; clients need one address"
_OWN_NGINX = "the nginx is proxyctl's own"
_ANNOTATIONS = ("additionalIngressAnnotations", "canaryIngressAnnotations")
_OF_PODS = "each release has all its replicas for the whole rollout"
_OF_A_CANARY = {
    "canaryService": _OF_SERVICES,
    "stableService": _OF_SERVICES,
    "pingPong": _OF_SERVICES,
    "maxSurge": _OF_PODS,
    "maxUnavailable": _OF_PODS,
    "dynamicStableScale": _OF_PODS + ", so that a rollback is at once",
    "minPodsPerReplicaSet": _OF_PODS,
    "replicaProgressThreshold": _OF_PODS,
    "antiAffinity": "there is one host",
    "canaryMetadata": LABELS,
    "stableMetadata": LABELS,
    "scaleDownDelayRevisionLimit": "one old release stays warm",
    "abortScaleDownDelaySeconds": "a candidate that was taken back is removed; proxyctl retry starts it again",
}
_OF_BLUE_GREEN = {
    "activeService": _OF_SERVICES,
    "previewReplicaCount": _OF_PODS,
    "antiAffinity": "there is one host",
    "activeMetadata": LABELS,
    "previewMetadata": LABELS,
    "maxUnavailable": _OF_PODS,
    "scaleDownDelayRevisionLimit": "one old release stays warm",
    "abortScaleDownDelaySeconds": "a candidate that was taken back is removed; proxyctl retry starts it again",
}
_WATCHED = "the log of nginx judges a candidate from its first request to the end of its bake"
_OF_A_METRIC = {
    "consecutiveErrorLimit": "a log that says nothing for 15 s holds the rollout",
    "inconclusiveLimit": "what is not proven either way holds for a person, as there (analysis.on_inconclusive)",
    "initialDelay": "nothing is judged before there are requests",
}
_COUNTS = "bad answers are weighed all together, not in counts of measurements; see analysis.sensitivity"


def read_rollout(root: Part, templates: Templates, workloads: Templates, sketch: Sketch) -> None:
    """Adds to the sketch all that the Rollout says."""
    spec = root.part("spec")
    spec.no_needs(_OF_A_SPEC)
    read_replicas(spec, sketch)
    read_pod(spec.part("template"), sketch)
    _read_workload(spec.part("workloadRef"), workloads, sketch)
    read_deadline(spec, sketch)
    spec.not_carried("minReadySeconds", "write health.healthy: so many passes in a row, health.interval apart")
    strategy = spec.part("strategy")
    if "blueGreen" in strategy:
        _read_blue_green(strategy.part("blueGreen"), templates, sketch)
    elif "canary" in strategy:
        _Canary(strategy.part("canary"), templates, sketch).read()


def _read_workload(reference: Part, workloads: Templates, sketch: Sketch) -> None:
    """The Deployment that has the pod template, when it is in the same file."""
    if not reference.value:
        return
    found = workloads.get(str(reference["name"]))
    if found is None:
        reference.fill_in("", "its pod template is not in this file: write container, port and health")
        return
    reference.no_need("", "its pod template is in this file")
    found.part("spec").no_need("replicas", "the Rollout says how many")
    read_pod(found.part("spec", "template"), sketch)


def _read_standby(part: Part, sketch: Sketch) -> None:
    seconds = part.seconds("scaleDownDelaySeconds")
    if seconds is not None:
        sketch.standby = within(seconds, "0s", "168h")
        part.carried("scaleDownDelaySeconds", f"standby: {sketch.standby}")


# --- canary ------------------------------------------------------------------------------------------------------


@dataclass
class _Canary:
    """Its steps, read one after the other."""

    canary: Part
    templates: Templates
    sketch: Sketch
    highest: float = 0.0
    open: Part | None = None  # a setWeight whose stay is not yet known

    @property
    def rollout(self) -> Rollout:
        return self.sketch.rollout

    def read(self) -> None:
        self.canary.no_needs(_OF_A_CANARY)
        _read_standby(self.canary, self.sketch)
        self._read_routing()
        for step in self.canary.parts("steps"):
            if len(self.rollout.steps) < MOST_STEPS - 1:
                self._read_step(step)
            else:
                step.not_carried("", f"a strategy has at most {MOST_STEPS} steps")
        self._close(None)
        if "analysis" in self.canary:
            self._read_background(self.canary.part("analysis"))
        if not self.rollout.is_canary:
            self.rollout.notes.append(
                "without steps all traffic moves at once; the word canary alone is 5, 25 and 50 %"
            )
            self.canary.no_need("steps", "nothing in them has a share or a wait: all traffic moves at once")

    def _read_routing(self) -> None:
        routing = self.canary.part("trafficRouting")
        if routing.part("alb", "stickinessConfig")["enabled"] is True:
            self.rollout.sticky = True
            routing.part("alb").carried("stickinessConfig", "sticky: cookie")
        routing.carried("maxTrafficWeight", "weights are divided by it")
        for key in _ANNOTATIONS:
            self._read_annotations(routing.part("nginx", key))
        for router in ("nginx", "alb"):
            part = routing.part(router)
            part.no_needs(dict.fromkeys(part.value.keys() - set(_ANNOTATIONS), _OWN_NGINX))
        routing.no_needs(dict.fromkeys(routing.value.keys() - {"nginx", "alb"}, _OWN_NGINX))

    def _read_annotations(self, extra: Part) -> None:
        """Those of an ingress by which some requests always go to the canary."""
        always: dict[str, Value] = {"exact": extra["canary-by-header-value"] or "always"}
        by_header = requests.exact_header(extra["canary-by-header"], always)
        by_cookie = requests.cookie({"exact": extra["canary-by-cookie"]})
        self.rollout.match += [dict(said) for said in (by_header, by_cookie) if said]
        for key in ("canary-by-header", "canary-by-header-value") if by_header else ():
            extra.carried(key, "a rule of match")
        if by_cookie:
            extra.carried("canary-by-cookie", "a rule of match")
        extra.none_carried(dict.fromkeys(extra.value, "the nginx is proxyctl's own; its templates add what is missing"))

    def _read_background(self, analysis: Part) -> None:
        analysis.no_need("startingStep", _WATCHED)
        analysis.no_need("templates", _WATCHED)
        self._judge(analysis)

    def _judge(self, analysis: Part) -> None:
        _told_run(analysis)
        judge(analysis, self.templates, self.rollout)

    # --- steps ---

    def _read_step(self, step: Part) -> None:
        for key, read in self._readers().items():
            if key in step.value:
                read(self, step)
                return

    @staticmethod
    def _readers() -> Mapping[str, Callable[[_Canary, Part], None]]:
        return {
            "setWeight": _Canary._weight,
            "pause": _Canary._pause,
            "analysis": _Canary._analysis,
            "setCanaryScale": _Canary._scale,
            "setHeaderRoute": _Canary._header,
            "setMirrorRoute": _Canary._mirror,
            "experiment": _Canary._experiment,
            "plugin": _Canary._plugin,
        }

    def _weight(self, step: Part) -> None:
        self._close(None)
        share = self._share(step)
        if share is None:
            step.not_carried("setWeight", "not a percentage from 0 to 100")
        elif share > self.highest:
            self.highest, self.open = share, step
        elif share < self.highest:
            wrong = f"less than the {self.highest:g} % before it: weights only grow, so a client that came over stays"
            step.not_carried("setWeight", f"{wrong}; what waits after it waits at {self.highest:g} %")
        else:
            step.no_need("setWeight", f"the candidate has {self.highest:g} % already")

    def _share(self, step: Part) -> float | None:
        weight = step.number("setWeight")
        whole = self.canary.part("trafficRouting").number("maxTrafficWeight") or 100
        share = round(weight * 100 / whole, 2) if weight is not None else None
        return share if share is not None and 0 <= share <= 100 else None

    def _close(self, stay: float | None, waits_for: str = "") -> None:
        """End the open setWeight: with the time that a pause gives it, or until what comes after it."""
        if self.open is None:
            return
        step, self.open = self.open, None
        value: dict[str, Value] = {"weight": int(self.highest) if self.highest.is_integer() else self.highest}
        if not waits_for and not (stay is None and self.highest == 100):
            value["for"] = within(stay or 1, *LONGEST_WAIT)
        if value == {"weight": 100} and not waits_for and not self._follows(step):
            step.no_need("setWeight", "100 % comes last by itself")
            return
        self._add(value, step, "setWeight", waits_for or _stays(stay))

    def _follows(self, step: Part) -> bool:
        last = self.canary.parts("steps")[-1]
        return last.location != step.location

    def _add(self, value: Value, step: Part, key: str, more: str = "") -> None:
        self.rollout.steps.append(Step(value, f"line {step.line}: {key}{', ' + more if more else ''}"))
        step.carried(key, f"a step {flow(value)}{', ' + more if more else ''}")

    def _pause(self, step: Part) -> None:
        pause = step.part("pause")
        seconds = pause.seconds("duration")
        if "duration" not in pause:
            self._close(None)
            self._add("pause", step, "pause", "until proxyctl promote")
        elif seconds is None:
            self._close(None)
            self._add("pause", step, "pause", "for no time that can be read")
        elif seconds == 0:
            pause.no_need("duration", "no time")
        elif self.open is not None:
            self._close(seconds)
            step.carried("pause", f"for: {within(seconds, *LONGEST_WAIT)} of the weight before it")
        else:
            self._add({"pause": within(seconds, *LONGEST_WAIT)}, step, "pause")

    def _analysis(self, step: Part) -> None:
        analysis = step.part("analysis")
        self._judge(analysis)
        if self.open is not None:
            self._close(None, "until the analysis passes")
            analysis.carried("templates", "the weight before it stays until the analysis passes")
        else:
            self._add("analysis", step, "analysis")

    def _scale(self, step: Part) -> None:
        step.no_need("setCanaryScale", _OF_PODS)

    def _header(self, step: Part) -> None:
        route = step.part("setHeaderRoute")
        if not route.parts("match"):
            step.no_need("setHeaderRoute", "rules of match end with the rollout")
            return
        route.no_need("name", "routes have no names here")
        for match in route.parts("match"):
            said = requests.exact_header(match["headerName"], match["headerValue"])
            if said is None:
                match.not_carried("", requests.ONLY_EXACT)
            else:
                self.rollout.match.append(dict(said))
                match.carried("", "a rule of match; it holds from the gate on, not only from this step on")

    def _mirror(self, step: Part) -> None:
        route = step.part("setMirrorRoute")
        if not route.parts("match") and "percentage" not in route:
            step.no_need("setMirrorRoute", "copies end with the rollout")
            return
        methods = [rule.part("method")["exact"] for rule in route.parts("match") if "method" in rule]
        copied = [method for method in methods if method in ("GET", "HEAD", "OPTIONS")]
        if methods and not copied:
            step.not_carried("setMirrorRoute", "only GET, HEAD and OPTIONS are copied: others would be done twice")
            return
        route.no_need("name", "routes have no names here")
        percent = 100 if "percentage" not in route else min(route.number("percentage") or 0, 100)
        if percent <= 0:
            step.no_need("setMirrorRoute", "nothing is copied")
            return
        self.rollout.mirror = {"percent": percent}
        if copied:
            self.rollout.mirror["methods"] = list(copied)
        route.carried("percentage", f"mirror.percent: {percent:g}, from the gate on, not only from this step on")
        for rule in route.parts("match"):
            if rule.part("method")["exact"] in copied:
                rule.carried("method", "mirror.methods")
            rule.not_carried("method", "only GET, HEAD and OPTIONS are copied")
            rule.none_carried(dict.fromkeys(("path", "headers"), "copies are made of all requests of the service"))

    def _experiment(self, step: Part) -> None:
        seconds = step.part("experiment").seconds("duration")
        wait = f"; to wait as long, write {{pause: {within(seconds, *LONGEST_WAIT)}}}" if seconds else ""
        words = "no baseline is started: the candidate is compared with the live release at the same time"
        step.not_carried("experiment", words + wait)

    def _plugin(self, step: Part) -> None:
        self._close(None)
        plugin = step.part("plugin")["name"]
        self.rollout.steps.append(Step(None, f"{FILL_IN}: - {{hook: NAME}}, line {step.line}: plugin {flow(plugin)}"))
        step.fill_in("plugin", "a program of your own: write it as .proxyctl/hooks/NAME and a step {hook: NAME}")


def _stays(seconds: float | None) -> str:
    return "as short as a stay can be" if seconds is None else "with its pause"


# --- blue-green --------------------------------------------------------------------------------------------------


def _read_blue_green(part: Part, templates: Templates, sketch: Sketch) -> None:
    rollout = sketch.rollout
    part.no_needs(_OF_BLUE_GREEN)
    _read_standby(part, sketch)
    _read_promotion(part, rollout)
    if "previewService" in part:
        rollout.notes.append(f"{FILL_IN}: {_preview(part, rollout)}, line {part.line}: previewService")
        part.fill_in(
            "previewService", f"a host, header or cookie that leads to the candidate: {_preview(part, rollout)}"
        )
    part.not_carried(
        "prePromotionAnalysis",
        "the log says nothing of a candidate without traffic; a canary's analysis step asks analysis.sources then",
    )
    after = part.part("postPromotionAnalysis")
    if after.value:
        _told_run(after)
        judge(after, templates, rollout)
        assert isinstance(rollout.analysis, dict)
        rollout.analysis.pop("deadline", None)
        sketch.bake = str(rollout.analysis.pop("bake", "")) or None
        after.no_need("templates", f"the log of nginx judges the bake, {sketch.bake or '60s'} long")


def _read_promotion(part: Part, rollout: Rollout) -> None:
    """By a timer if there is one, whether it is enabled or not."""
    seconds, enabled = part.seconds("autoPromotionSeconds"), part.truth("autoPromotionEnabled")
    if seconds:
        pause = within(seconds, *LONGEST_WAIT)
        rollout.steps.append(Step({"pause": pause}, "gated and warm, then all traffic at once: autoPromotionSeconds"))
        part.carried(
            "autoPromotionSeconds", f"canary with the one step {{pause: {pause}}}, which is blue-green on a timer"
        )
        part.no_need("autoPromotionEnabled", "autoPromotionSeconds decides")
    elif enabled is False:
        rollout.manual = True
        part.carried("autoPromotionEnabled", "promote: manual, until proxyctl promote")
    else:
        part.no_need("autoPromotionEnabled", "promote: auto is the default")
    part.no_need("autoPromotionSeconds", "no time")


def _preview(part: Part, rollout: Rollout) -> str:
    host = "preview.example.com"
    return 'match: [{header: {X-Preview: "yes"}}]' if rollout.is_canary else f"preview: {{host: {host}}}"


# --- analysis ----------------------------------------------------------------------------------------------------


def _told_run(analysis: Part) -> None:
    analysis.no_need("args", "the log of nginx is asked of this service alone")
    analysis.no_need("dryRun", "what is not carried decides nothing")
    analysis.no_need("analysisRunMetadata", LABELS)
    analysis.no_need("measurementRetention", "history is kept by proxyctl; see history")


def judge(analysis: Part, templates: Templates, rollout: Rollout) -> None:
    """The strictest rate of errors of its templates, and the longest time that they measure for."""
    assert isinstance(rollout.analysis, dict)
    for reference in (*analysis.parts("templates"), analysis):
        name = reference["templateName"]
        if name is None:
            continue
        template = templates.get(str(name))
        if template is None:
            reference.not_carried("templateName", "its AnalysisTemplate is not in this file; the log of nginx judges")
            continue
        for metric in template.part("spec").parts("metrics"):
            _read_metric(metric, rollout.analysis)
        reference.carried("templateName", f"as far as it can be: see AnalysisTemplate {shown(name)}")


def _read_metric(metric: Part, criteria: dict[str, Value]) -> None:
    name = str(metric["name"] or "")
    metric.no_need("name", "the log of nginx has what it measures, or nothing has")
    metric.no_needs(_OF_A_METRIC)
    metric.none_carried(dict.fromkeys(("failureLimit", "consecutiveSuccessLimit"), _COUNTS))
    most = limits.most_errors(name, metric.text("successCondition"), metric.text("failureCondition"))
    if most is None:
        words = limits.LATENCY if limits.is_latency(name) else limits.ELSEWHERE
        metric.none_carried(dict.fromkeys(("successCondition", "failureCondition", "provider"), words))
    else:
        _tighten(criteria, most)
        words = f"max_error_rate: {most:g}%, of the answers in nginx's log"
        metric.carried("successCondition", words)
        metric.carried("failureCondition", words)
        metric.no_need("provider", "nginx's log has it")
    _read_time(metric, criteria)


def _tighten(criteria: dict[str, Value], most: float) -> None:
    stricter = min(most, float(str(criteria.get("max_error_rate", "100%")).removesuffix("%")))
    criteria["max_error_rate"] = f"{stricter:g}%"


def _read_time(metric: Part, criteria: dict[str, Value]) -> None:
    """A count of measurements, an interval apart, is a time that a step lasts at least."""
    interval, count = metric.seconds("interval"), metric.whole("count")
    if not interval or not count:
        metric.no_need("interval", "the log is read all the time")
        metric.no_need("count", "the log is read all the time")
        return
    longest = max(interval * count, grammar.compose_duration(str(criteria.get("bake", "0s"))))
    criteria["bake"] = within(longest, "1s", "24h")
    if longest >= 600:
        criteria["deadline"] = lasting(min(longest * 2, 7 * 86400))
    for key in ("interval", "count"):
        metric.carried(
            key, f"it measures for {within(interval * count, '1s', '24h')}: so long a step lasts at least (bake)"
        )
