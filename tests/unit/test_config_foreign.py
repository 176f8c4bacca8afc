"""Files of Argo Rollouts and Flagger become files that load, and of every key of theirs something is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from proxyctl.cli.main import group
from proxyctl.config.foreign import limits
from proxyctl.config.foreign.ledger import Fate
from proxyctl.config.foreign.translate import Tool, Translation, translated
from proxyctl.config.init import file_of
from proxyctl.config.load import Project, load
from proxyctl.domain.model import Service, Strategy
from proxyctl.domain.steps import Analysis, Approval, Pause, Weight
from proxyctl.errors import ConfigRejected

GOLDEN = Path(__file__).parents[1] / "golden" / "foreign"
TOOLS = {"argo": Tool.ARGO, "flagger": Tool.FLAGGER}
POD = {"spec": {"containers": [{"image": "shop/web:1", "ports": [{"containerPort": 8000}]}]}}


def rollout(**strategy: Any) -> dict[str, Any]:
    metadata = {"name": "web"}
    spec = {"template": POD, "strategy": strategy}
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": metadata, "spec": spec}


def canary(**analysis: Any) -> list[dict[str, Any]]:
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"template": POD}}
    spec = {"targetRef": {"name": "web"}, "service": {"port": 8000}, "analysis": analysis}
    own = {"apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": {"name": "web"}, "spec": spec}
    return [own, deployment]


def of(folder: Path, *documents: dict[str, Any]) -> Translation:
    path = folder / "source.yml"
    path.write_text(yaml.dump_all(documents, Dumper=yaml.CSafeDumper, sort_keys=False))
    return translated(path, Tool.ARGO if documents[0]["kind"] == "Rollout" else Tool.FLAGGER)


def loaded(folder: Path, found: Translation) -> Project:
    (folder / "proxyctl.yml").write_text(file_of("shop", found.services))
    return load(folder / "proxyctl.yml", environment={})


def service(folder: Path, *documents: dict[str, Any]) -> Service:
    return loaded(folder, of(folder, *documents)).services[0]


def told(found: Translation, key: str) -> str:
    """The one line about this key."""
    (line,) = [line for line in found.told if line.key == key]
    return f"{line.fate}: {line.words}"


def steps(*steps: dict[str, Any]) -> dict[str, Any]:
    return rollout(canary={"steps": list(steps)})


# --- the files load ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["argo-canary", "argo-blue-green", "flagger-canary"])
def test_a_file_that_says_enough_loads_as_it_stands(name: str, tmp_path: Path) -> None:
    found = translated(GOLDEN / f"{name}.yml", TOOLS[name.partition("-")[0]])
    assert loaded(tmp_path, found).services[0].container.image


def test_what_the_file_does_not_say_is_marked_and_check_asks_for_it(tmp_path: Path) -> None:
    found = translated(GOLDEN / "flagger-ab.yml", Tool.FLAGGER)
    assert "# FILL IN: container:" in found.services
    with pytest.raises(ConfigRejected) as refused:
        loaded(tmp_path, found)
    assert all("container.image: missing" in problem for problem in refused.value.problems)
    assert [line.key for line in found.told if line.fate is Fate.FILL_IN] == ["kind", "spec.targetRef"] * 2


def test_a_rollout_without_a_pod_is_told_to_be_filled_in(tmp_path: Path) -> None:
    bare = rollout(canary={}) | {"spec": {"strategy": {"canary": {}}}}
    found = of(tmp_path, bare)
    assert told(found, "kind") == "fill in: the file does not say all of it: write container and port"
    assert "# FILL IN: port: 8000" in found.services
    assert "# FILL IN: health:" in found.services


def test_services_of_one_name_in_two_namespaces_are_told_apart(tmp_path: Path) -> None:
    found = of(tmp_path, rollout(canary={}), rollout(canary={}))
    names = [str(service.name) for service in loaded(tmp_path, found).services]
    assert names == ["web", "web-2"]


def test_text_of_the_source_never_gets_out_of_its_comment(tmp_path: Path) -> None:
    forged = "x\n  port: 22"
    found = of(tmp_path, steps({"plugin": {"name": forged}}, {"setWeight": 5}, {"pause": {}}))
    assert loaded(tmp_path, found).services[0].port == 8000
    assert "\n  port: 22" not in found.services


# --- Argo's steps ------------------------------------------------------------------------------------------------


def test_a_pause_is_the_stay_of_the_weight_before_it(tmp_path: Path) -> None:
    found = service(
        tmp_path,
        steps(
            {"setWeight": 10},
            {"pause": {"duration": 30}},
            {"setWeight": 20},
            {"pause": {"duration": "1h30m"}},
            {"setWeight": 30},
            {"pause": {"duration": "45"}},
        ),
    )
    assert found.strategy is Strategy.CANARY
    assert found.steps == (
        Weight(share=1000, dwell=30.0),
        Weight(share=2000, dwell=5400.0),
        Weight(share=3000, dwell=45.0),
    )


def test_a_pause_without_duration_waits_for_a_person(tmp_path: Path) -> None:
    found = service(tmp_path, steps({"setWeight": 20}, {"pause": {}}, {"setWeight": 40}, {"pause": {"duration": 10}}))
    assert found.steps == (Weight(share=2000, dwell=1.0), Pause(), Weight(share=4000, dwell=10.0))


def test_a_pause_whose_time_cannot_be_read_waits_for_a_person(tmp_path: Path) -> None:
    source = steps({"setWeight": 20}, {"pause": {"duration": "soon"}})
    assert service(tmp_path, source).steps == (Weight(share=2000, dwell=1.0), Pause())
    assert '"soon" is not a duration' in told(of(tmp_path, source), "spec.strategy.canary.steps.1.pause.duration")


def test_a_weight_before_an_analysis_lasts_until_it_passes(tmp_path: Path) -> None:
    analysis = {"analysis": {"templates": [{"templateName": "elsewhere"}]}}
    found = service(tmp_path, steps({"setWeight": 20}, analysis, analysis))
    assert found.steps == (Weight(share=2000, dwell=None), Analysis())


def test_weights_that_fall_are_told_and_their_pauses_stay(tmp_path: Path) -> None:
    source = steps({"setWeight": 40}, {"setWeight": 20}, {"pause": {"duration": "10m"}})
    assert service(tmp_path, source).steps == (Weight(share=4000, dwell=1.0), Pause(window=600.0))
    assert "weights only grow" in told(of(tmp_path, source), "spec.strategy.canary.steps.1.setWeight")


def test_all_traffic_comes_last_by_itself_unless_something_waits_there(tmp_path: Path) -> None:
    last = steps({"setWeight": 50}, {"pause": {"duration": 9}}, {"setWeight": 100})
    assert service(tmp_path, last).steps == (Weight(share=5000, dwell=9.0),)
    waits = steps({"setWeight": 100}, {"pause": {"duration": "5m"}})
    assert service(tmp_path, waits).steps == (Weight(share=10000, dwell=300.0),)


def test_weights_of_another_whole_are_made_percent(tmp_path: Path) -> None:
    source = rollout(
        canary={
            "trafficRouting": {"maxTrafficWeight": 1000, "nginx": {"stableIngress": "web"}},
            "steps": [{"setWeight": 5}, {"pause": {"duration": 9}}],
        }
    )
    assert service(tmp_path, source).steps == (Weight(share=50, dwell=9.0),)


def test_the_headers_of_an_ingress_are_rules_of_match(tmp_path: Path) -> None:
    annotations = {"canary-by-header": "X-Canary", "canary-by-header-value": "please", "canary-by-cookie": "beta"}
    source = rollout(canary={"trafficRouting": {"nginx": {"additionalIngressAnnotations": annotations}}})
    matches = service(tmp_path, source).matches
    assert [(match.headers, match.cookies) for match in matches] == [
        ((("X-Canary", "please"),), ()),
        ((), (("beta", "always"),)),
    ]


def test_a_canary_without_steps_moves_all_at_once(tmp_path: Path) -> None:
    found = service(tmp_path, rollout(canary={"maxSurge": 1}))
    assert (found.strategy, found.steps) == (Strategy.BLUE_GREEN, ())


def test_more_steps_than_a_strategy_has_are_told(tmp_path: Path) -> None:
    pauses = [{"pause": {"duration": "1m"}} for _ in range(120)]
    found = of(tmp_path, steps(*pauses))
    assert len(loaded(tmp_path, found).services[0].steps) == 99
    assert "at most 100 steps" in told(found, "spec.strategy.canary.steps.119")


def test_a_mirror_of_posts_is_not_carried(tmp_path: Path) -> None:
    source = steps({"setMirrorRoute": {"name": "x", "percentage": 50, "match": [{"method": {"exact": "POST"}}]}})
    assert service(tmp_path, source).mirror is None
    assert "not carried" in told(of(tmp_path, source), "spec.strategy.canary.steps.0.setMirrorRoute")


def test_a_mirror_of_nothing_copies_nothing(tmp_path: Path) -> None:
    assert service(tmp_path, steps({"setMirrorRoute": {"name": "x", "percentage": 0}})).mirror is None


# --- Argo's blue-green -------------------------------------------------------------------------------------------


def test_blue_green_waits_for_a_person_a_timer_or_nobody(tmp_path: Path) -> None:
    manual = service(tmp_path, rollout(blueGreen={"autoPromotionEnabled": False}))
    assert (manual.strategy, manual.steps) == (Strategy.BLUE_GREEN, (Pause(),))
    timed = service(tmp_path, rollout(blueGreen={"autoPromotionEnabled": False, "autoPromotionSeconds": 30}))
    assert timed.steps == (Pause(window=30.0),)
    auto = service(tmp_path, rollout(blueGreen={"activeService": "web"}))
    assert auto.steps == ()


def test_the_old_release_stays_as_long_as_it_did(tmp_path: Path) -> None:
    assert service(tmp_path, rollout(blueGreen={"scaleDownDelaySeconds": 90})).standby == 90.0


# --- Flagger -----------------------------------------------------------------------------------------------------


def test_the_last_weight_is_the_first_that_reaches_the_most(tmp_path: Path) -> None:
    found = service(tmp_path, *canary(interval="30s", stepWeight=20, maxWeight=50))
    assert found.steps == tuple(Weight(share=share, dwell=30.0) for share in (2000, 4000, 6000))


def test_listed_weights_are_taken_until_the_most(tmp_path: Path) -> None:
    found = service(tmp_path, *canary(stepWeights=[1, 2, 10, 80, 100]))
    assert found.steps == tuple(Weight(share=share, dwell=60.0) for share in (100, 200, 1000, 8000))


def test_the_finest_ladder_still_fits(tmp_path: Path) -> None:
    gate = {"name": "gate", "type": "confirm-promotion", "url": "http://x"}
    found = service(tmp_path, *canary(stepWeight=1, mirror=True, webhooks=[gate]))
    assert found.steps[0] == Pause(window=60.0)
    assert found.steps[-1] == Approval()


def test_iterations_without_a_rule_are_blue_green_on_a_timer(tmp_path: Path) -> None:
    assert service(tmp_path, *canary(interval="1m", iterations=10)).steps == (Pause(window=600.0),)


def test_without_a_mesh_there_are_ten_iterations_and_no_weights(tmp_path: Path) -> None:
    own, deployment = canary(stepWeight=10)
    own["spec"]["provider"] = "kubernetes"
    assert service(tmp_path, own, deployment).steps == (Pause(window=600.0),)


def test_a_rule_that_cannot_be_said_whole_is_not_said_in_part(tmp_path: Path) -> None:
    both = {"headers": {"x-canary": {"exact": "yes"}, "user-agent": {"regex": ".*Firefox.*"}}}
    assert service(tmp_path, *canary(iterations=1, match=[both])).matches == ()


def test_skipped_analysis_is_off(tmp_path: Path) -> None:
    own, deployment = canary(stepWeight=10)
    own["spec"]["skipAnalysis"] = True
    found = service(tmp_path, own, deployment)
    assert (found.strategy, found.analysis) == (Strategy.BLUE_GREEN, None)


@pytest.mark.parametrize(
    ("name", "success", "failure", "percent"),
    [
        ("success-rate", "result[0] >= 0.95", None, 5.0),
        ("success-rate", "result >= 99.9", None, 0.1),
        ("success-rate", None, "result[0] < 0.9", 10.0),
        ("error-rate", "result[0] <= 0.05", None, 5.0),
        ("http-5xx", None, "result[0] > 0.02", 2.0),
        ("success-rate", "result[0] >= 0.95 && result[0] < 2", None, None),  # more than a limit
        ("success-rate", "result[0] <= 0.95", None, None),  # the wrong way round
        ("p99-latency", "result[0] <= 0.05", None, None),
        ("queue-length", "result[0] <= 0.05", None, None),
    ],
)
def test_only_what_is_surely_a_rate_of_errors_becomes_one(
    name: str, success: str | None, failure: str | None, percent: float | None
) -> None:
    assert limits.most_errors(name, success, failure) == percent


# --- nothing is dropped without a word ---------------------------------------------------------------------------


def mappings(value: Any, trail: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, dict):
        yield trail
        for key, below in value.items():
            yield from mappings(below, (*trail, key))
    elif isinstance(value, list):
        for at, below in enumerate(value):
            yield from mappings(below, (*trail, at))


@pytest.mark.parametrize("source", sorted(GOLDEN.glob("*.yml")), ids=lambda path: path.stem)
def test_a_key_that_nobody_knows_is_told_wherever_it_stands(source: Path, tmp_path: Path) -> None:
    documents = list(yaml.safe_load_all(source.read_text()))
    for number, document in enumerate(documents):
        for trail in mappings(document):
            changed = deepcopy(documents)
            inner = changed[number]
            for part in trail:
                inner = inner[part]
            inner["surprise"] = 1
            path = tmp_path / "changed.yml"
            path.write_text(yaml.dump_all(changed, Dumper=yaml.CSafeDumper, sort_keys=False))
            keys = {line.key for line in translated(path, TOOLS[source.stem.partition("-")[0]]).told}
            around = {".".join(map(str, (*trail, "surprise")[:depth])) for depth in range(len(trail) + 2)}
            assert keys & around, trail


# --- what cannot be read -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no Rollout of Argo Rollouts (argoproj.io/...) is in it, but nothing"),
        ("---\n---\n", "but nothing"),
        ("{", "not YAML"),
        ("- a\n", "the document is not a mapping"),
        ("kind: Deployment\n", 'but "Deployment"'),
        ("apiVersion: example.com/v1\nkind: Rollout\n", 'but "Rollout"'),
        ("kind: Rollout\nkind: Rollout\n", "written twice"),
        ("a: &a [x]\n---\nb: *a\n", "names no anchor"),
        ("kind: Rollout\n# " + "x" * 300_000, "is larger than 256 KiB"),
        ("[" * 100, "more than 32 levels"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_words(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "source.yml").write_text(text)
    with pytest.raises(ConfigRejected) as refused:
        translated(tmp_path / "source.yml", Tool.ARGO)
    assert words in refused.value.problems[0]


def test_the_other_tools_file_is_pointed_to_the_other_option(tmp_path: Path) -> None:
    (tmp_path / "source.yml").write_text(yaml.dump_all(canary(), Dumper=yaml.CSafeDumper))
    with pytest.raises(ConfigRejected) as refused:
        translated(tmp_path / "source.yml", Tool.ARGO)
    assert refused.value.next_step == "proxyctl init --from-flagger FILE"


@pytest.mark.parametrize("nonsense", [None, 7, "text", [], {}, [None], {"x": None}])
@pytest.mark.parametrize("key", ["spec", "metadata"])
def test_any_shape_of_a_resource_is_survived(key: str, nonsense: Any, tmp_path: Path) -> None:
    assert of(tmp_path, rollout(canary={}) | {key: nonsense}).services


@pytest.mark.parametrize("source", sorted(GOLDEN.glob("*.yml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("nonsense", [7, "text", [1], {"x": 1}, None])
def test_any_shape_of_any_value_is_survived(source: Path, nonsense: Any, tmp_path: Path) -> None:
    documents = list(yaml.safe_load_all(source.read_text()))
    for number, document in enumerate(documents):
        for trail in (found for found in mappings(document) if found):
            changed = deepcopy(documents)
            inner = changed[number]
            for part in trail[:-1]:
                inner = inner[part]
            inner[trail[-1]] = nonsense
            path = tmp_path / "changed.yml"
            path.write_text(yaml.dump_all(changed, Dumper=yaml.CSafeDumper, sort_keys=False))
            yaml.load(translated(path, TOOLS[source.stem.partition("-")[0]]).services, yaml.CSafeLoader)


# --- the command -------------------------------------------------------------------------------------------------


def test_the_command_writes_the_file_and_tells_every_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["init", "--project", "shop", "--from-argo", str(GOLDEN / "argo-canary.yml")]
    ran = CliRunner().invoke(group, arguments)
    assert ran.exit_code == 0
    assert "spec.strategy.canary.steps.5.setWeight: carried: a step {weight: 20, for: 1s}" in ran.stderr
    assert load(tmp_path / "proxyctl.yml").services[0].port == 8080
    again = CliRunner().invoke(group, [*arguments, "--json", "-f", "other.yml"])
    keys = json.loads(again.stdout)["keys"]
    assert {"file", "line", "column", "key", "fate", "words"} == set(keys[0])
    assert {each["fate"] for each in keys} == {fate.value for fate in Fate}


def test_a_file_has_one_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    both = ["--from-argo", str(GOLDEN / "argo-canary.yml"), "--from-flagger", str(GOLDEN / "flagger-ab.yml")]
    ran = CliRunner().invoke(group, ["init", *both])
    assert ran.exit_code != 0
    assert not (tmp_path / "proxyctl.yml").exists()
