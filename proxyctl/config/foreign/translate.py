"""Make the services of a `proxyctl.yml` out of a file of Argo Rollouts or Flagger. Never writes to disk.

    documents (document.py)   the resources of the file, with a place for everything
    read (argo.py, flagger.py, pod.py, requests.py, limits.py)
                              a Sketch of each service; a word of every key
    write (sketch.py)         text

Start at translated().
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from proxyctl.config import grammar
from proxyctl.config.document import Document, documents, value_of
from proxyctl.config.foreign.argo import read_rollout
from proxyctl.config.foreign.flagger import read_canary
from proxyctl.config.foreign.ledger import Fate, Ledger, Part, Told
from proxyctl.config.foreign.pod import LABELS
from proxyctl.config.foreign.sketch import Sketch, text_of
from proxyctl.config.problems import Place, Problem, displayed, shown
from proxyctl.config.source import Unreadable
from proxyctl.errors import ConfigRejected

WORKLOADS = ("Deployment", "DaemonSet")
TEMPLATES = ("AnalysisTemplate", "ClusterAnalysisTemplate")


class Tool(Enum):
    """Whose file it is, and what of it is a service here."""

    ARGO = ("Argo Rollouts", "argoproj.io/", "Rollout")
    FLAGGER = ("Flagger", "flagger.app/", "Canary")

    def __init__(self, called: str, group: str, kind: str) -> None:
        self.called = called
        self.group = group
        self.kind = kind


class Translation(NamedTuple):
    services: str  # what stands under `services`
    told: tuple[Told, ...]


@dataclass(frozen=True, slots=True)
class _Resource:
    kind: str
    name: str
    root: Part
    ledger: Ledger


def translated(path: Path, tool: Tool) -> Translation:
    """A service for each Rollout or Canary of the file. Raises ConfigRejected where there is none, or the file cannot
    be read."""
    resources = _resources(path)
    chosen = [each for each in resources if each.kind == tool.kind and _group(each).startswith(tool.group)]
    if not chosen:
        raise _none(path, tool, resources)
    sketches = [_sketch(each, tool, resources) for each in chosen]
    _tell_apart(sketches)
    for each in resources:
        _tell_of_the_rest(each, each in chosen)
    alone = len(sketches) == 1
    told = [line for each in resources for line in each.ledger.lines()]
    return Translation("\n".join(text_of(sketch, alone) for sketch in sketches), tuple(told))


def _resources(path: Path) -> list[_Resource]:
    try:
        found = list(documents(path))
    except Unreadable as error:
        raise ConfigRejected(f"{displayed(path)} cannot be used", (str(error.problem),)) from error
    problems = [str(problem) for document in found for problem in document.problems]
    if problems:
        raise ConfigRejected(f"{displayed(path)} cannot be used", tuple(problems), next_step="mend it, then again")
    return [_resource(document) for document in found]


def _resource(document: Document) -> _Resource:
    ledger, value = Ledger(document), value_of(document.root)
    assert isinstance(value, dict)
    root = Part(ledger, (), value)
    name = root.part("metadata")["name"]
    return _Resource(str(root["kind"]), str(name) if name is not None else "", root, ledger)


def _group(resource: _Resource) -> str:
    return str(resource.root["apiVersion"])


def _none(path: Path, tool: Tool, resources: list[_Resource]) -> ConfigRejected:
    kinds = ", ".join(shown(each.root["kind"]) for each in resources) or "nothing"
    wrong = f"no {tool.kind} of {tool.called} ({tool.group}...) is in it, but {kinds}"
    other = next((each for each in Tool if each is not tool and any(r.kind == each.kind for r in resources)), None)
    step = f"proxyctl init {_OPTION[other]} FILE" if other else f"name the file that has the {tool.kind}"
    problem = Problem(path, Place(1, 1), "", wrong)
    return ConfigRejected(f"{displayed(path)} cannot be used", (str(problem),), next_step=step)


_OPTION = {Tool.ARGO: "--from-argo", Tool.FLAGGER: "--from-flagger"}


def _sketch(resource: _Resource, tool: Tool, resources: list[_Resource]) -> Sketch:
    sketch = Sketch(
        name=_name(resource), origin=f"of the {tool.kind} {shown(resource.name)}, line {resource.root.line}"
    )
    if not resource.name:
        resource.root.fill_in("kind", "it has no name: the service is called web; write another")
    workloads = {each.name: each.root for each in resources if each.kind in WORKLOADS}
    templates = {each.name: each.root for each in resources if each.kind in TEMPLATES}
    if tool is Tool.ARGO:
        read_rollout(resource.root, templates, workloads, sketch)
    else:
        read_canary(resource.root, workloads, sketch)
    missing = ["container"] * ("image" not in sketch.container) + ["port"] * (sketch.port is None)
    if missing:
        resource.root.fill_in("kind", f"the file does not say all of it: write {' and '.join(missing)}")
    return sketch


def _tell_apart(sketches: list[Sketch]) -> None:
    """Names may be equal in two namespaces; here they are not."""
    taken: set[str] = set()
    for sketch in sketches:
        own, number = sketch.name, 2
        while sketch.name in taken:
            sketch.name, number = f"{own[:36]}-{number}", number + 1
        taken.add(sketch.name)


def _name(resource: _Resource) -> str:
    """Its own, where a service can be called so."""
    metadata = resource.root.part("metadata")
    own = re.sub(r"[^a-z0-9]+", "-", resource.name.lower()).strip("-")[:40].rstrip("-")
    try:
        grammar.name(own)
    except ValueError:
        own = "web"
        metadata.fill_in("name", "no service can be called so: it is called web; write another")
    metadata.carried("name", f"the service {own}")
    return own


# --- what is the same of every resource --------------------------------------------------------------------------

_OF_A_WORKLOAD = {
    "selector": LABELS,
    "strategy": "a release always starts beside the live one",
    "updateStrategy": "a release always starts beside the live one",
    "revisionHistoryLimit": "releases are kept by proxyctl; see prune",
    "paused": "proxyctl pause and resume do it",
    "progressDeadlineSeconds": "health.deadline is the time that a candidate has to start",
    "minReadySeconds": "health.healthy is how often in a row a replica must pass",
}
_OTHERS = {
    "Service": (Fate.NO_NEED, "nginx knows the replicas itself"),
    "Ingress": (Fate.NOT_CARRIED, "write its hosts under hosts, its certificate under tls"),
    "VirtualService": (Fate.NOT_CARRIED, "write its hosts under hosts"),
    "Gateway": (Fate.NOT_CARRIED, "write its ports under proxy, its certificate under tls"),
    "DestinationRule": (Fate.NO_NEED, "nginx knows the replicas itself"),
    "HorizontalPodAutoscaler": (Fate.NOT_CARRIED, "replicas are a number of the file; write replicas and deploy"),
    "ConfigMap": (Fate.NOT_CARRIED, "write container.environment or container.configs"),
    "Secret": (Fate.NOT_CARRIED, "write container.secrets, or env:NAME in container.environment"),
    "MetricTemplate": (Fate.NOT_CARRIED, "the log of nginx is the judge; ask for other metrics in analysis.sources"),
}


def _tell_of_the_rest(resource: _Resource, is_service: bool) -> None:
    root = resource.root
    was_read = is_service or resource.kind in (*WORKLOADS, *TEMPLATES)
    if not was_read:
        fate, words = _OTHERS.get(resource.kind, (Fate.NOT_CARRIED, "proxyctl has nothing of this kind"))
        resource.ledger.tell((), fate, f"{shown(resource.kind)} {shown(resource.name)}: {words}")
        return
    root.no_needs({"apiVersion": "it says whose file it is", "kind": "it says whose file it is"})
    root.no_need("status", "what a cluster noted of it")
    root.part("metadata").no_need("name", "what refers to it was read")
    root.part("metadata").no_needs(dict.fromkeys(root.part("metadata").value, LABELS))
    if resource.kind in WORKLOADS:
        root.part("spec").no_needs(_OF_A_WORKLOAD)
    if resource.kind in TEMPLATES:
        root.part("spec").no_need("args", "the log of nginx is asked of this service alone")
    if not resource.ledger.is_told_below(("spec", "metrics")):
        root.part("spec").not_carried("metrics", "no analysis that is carried uses it")
