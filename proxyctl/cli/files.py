"""init, schema, check, plan, completion: commands about the file; none of them changes what runs."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from contextlib import closing
from pathlib import Path

import click

from proxyctl.cli.main import COMMANDS
from proxyctl.cli.options import ProjectOptions, json_option, print_json, project_options, say
from proxyctl.cli.values import IMAGE, PATH, PROJECT, SERVICE, SOURCE, Spoken
from proxyctl.config.foreign.ledger import Fate, Told
from proxyctl.config.foreign.sketch import FILL_IN
from proxyctl.config.foreign.translate import Tool, translated
from proxyctl.config.grammar import choice
from proxyctl.config.init import commented_file, file_of
from proxyctl.config.load import config_digest
from proxyctl.config.places import FILE
from proxyctl.config.schema import json_schema
from proxyctl.domain import plan as plans
from proxyctl.domain.explain import duration, figure, percent
from proxyctl.domain.forecast import StepForecast, Traffic, delays, forecast_of, traffic_of
from proxyctl.domain.model import Colour, Logged, Route, Service
from proxyctl.domain.orders import Signed
from proxyctl.domain.record import Record
from proxyctl.domain.rolling import told
from proxyctl.domain.split import WHOLE
from proxyctl.domain.state import Kind, Rollout, ServiceState
from proxyctl.domain.tally import Tick
from proxyctl.engine.judging import BEFORE
from proxyctl.engine.published import routes_of, topology_of
from proxyctl.errors import ConfigRejected, ProxyctlError, StateUnusable, UsageError
from proxyctl.ports import Network
from proxyctl.wiring import Workshop, showroom

# Addresses that no network has (RFC 2544), where Docker has still to pick them.
STAND_IN = Network(
    name="", gateway="", slots=tuple(f"198.18.{high}.{low}" for high in range(16) for low in range(1, 255))
)
FIRST = re.compile(r"^@@ -0,0 \+1,(\d+) @@$", re.MULTILINE)  # all is new, in a diff
NOT_YET = "such addresses stand in: Docker picks a free subnet when the first deploy makes the project's network"


@click.command()
@click.option("--compose", type=SOURCE, metavar="FILE", help="Take services from it.")
@click.option("--from-argo", type=SOURCE, metavar="FILE", help="Translate its Rollouts of Argo Rollouts.")
@click.option("--from-flagger", type=SOURCE, metavar="FILE", help="Translate its Canaries of Flagger.")
@click.option("--project", type=PROJECT, metavar="NAME", help="Its name; default: this folder's.")
@click.option("-f", "--file", type=PATH, default=FILE, show_default=True, metavar="FILE", help="Where to write.")
@json_option
def init(
    compose: Path | None,
    from_argo: Path | None,
    from_flagger: Path | None,
    project: str | None,
    file: str,
    as_json: bool,
) -> None:
    """Write a commented proxyctl.yml.

    What is translated is told line by line: what every key of the source becomes, or why it becomes nothing.

    \b
    Example:
      proxyctl init --compose docker-compose.yml
      proxyctl init --from-argo rollout.yml
    """
    if sum(source is not None for source in (compose, from_argo, from_flagger)) > 1:
        raise UsageError("a file has one source", next_step="give one of --compose, --from-argo and --from-flagger")
    name = project or re.sub(r"[^a-z0-9]+", "-", Path.cwd().name.lower()).strip("-") or "shop"
    if from_argo:
        text, told = _translation(name, from_argo, Tool.ARGO)
    elif from_flagger:
        text, told = _translation(name, from_flagger, Tool.FLAGGER)
    else:
        text, told = commented_file(name, compose), ()
    _write_new(Path(file), text)
    if as_json:
        print_json({"file": file, "keys": [_as_data(each) for each in told]})
    else:
        _say_each(told)
    say(f"wrote {file}; next: {_next_step(told)}")


def _translation(project: str, source: Path, tool: Tool) -> tuple[str, tuple[Told, ...]]:
    found = translated(source, tool)
    return file_of(project, found.services), found.told


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x") as new:
            new.write(text)
    except FileExistsError:
        raise UsageError(f"{path} exists already", next_step="name another with -f FILE") from None
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise UsageError(f"{path} cannot be written: {why}", next_step="name another with -f FILE") from None


def _say_each(told: tuple[Told, ...]) -> None:
    for each in told:
        say(str(each))


def _as_data(told: Told) -> dict[str, object]:
    """What --json says of a key."""
    where = {"file": str(told.file), "line": told.place.line, "column": told.place.column}
    return where | {"key": told.key, "fate": told.fate.value, "words": told.words}


def _next_step(told: tuple[Told, ...]) -> str:
    if not told:
        return "proxyctl check"
    count = {fate: sum(each.fate is fate for each in told) for fate in Fate}
    counted = ", ".join(f"{number} {fate}" for fate, number in count.items() if number)
    return f"read it, write what {FILL_IN} stands at, then proxyctl check ({counted})"


@click.command()
def schema() -> None:
    """Print the JSON Schema of proxyctl.yml, for editors.

    \b
    Example:
      proxyctl schema > proxyctl.schema.json
    """
    click.echo(json.dumps(json_schema(), indent=2))


@click.command()
@project_options
@json_option
def check(project: ProjectOptions, as_json: bool) -> None:
    """Check file, templates, nginx, Docker and ports: all problems at once, no effect.

    \b
    Example:
      proxyctl check
    """

    async def work() -> list[str]:
        async with showroom(*project) as shop:
            _tell_warnings(shop)
            of_docker = await _docker_problems(shop) or await _missing(shop)
            return [*of_docker, *await _nginx_problems(shop)]

    problems = asyncio.run(work())
    if as_json:
        print_json({"problems": problems})
    if problems:
        count = "is a problem" if len(problems) == 1 else f"are {len(problems)} problems"
        raise ConfigRejected(f"there {count}", tuple(problems), next_step="mend it, then proxyctl check")
    say("no problem found: the file, nginx, Docker and the ports are fine")


def _tell_warnings(shop: Workshop) -> None:
    for warning in shop.config.warnings:
        say(f"warning: {warning}")


async def _docker_problems(shop: Workshop) -> list[str]:
    try:
        await shop.runtime.check()
    except ProxyctlError as error:
        return [f"docker: {error}; {error.next_step}"]
    return []


async def _missing(shop: Workshop) -> list[str]:
    """What services need of this host and cannot have: variables, files, networks, ports."""
    from proxyctl.engine.host_ports import TO_FREE_A_PORT, containers_of, taken_port

    problems = []
    for service in shop.config.services:
        try:
            await shop.runtime.require(service.container, ())
            if taken := await taken_port(shop.runtime, service, containers_of(shop.store.load(service.name))):
                problems.append(f"{service.name}: {taken}; {TO_FREE_A_PORT}")
        except ProxyctlError as error:
            problems.append(f"{service.name}: {error}; {error.next_step}")
    return problems


async def _nginx_problems(shop: Workshop) -> list[str]:
    """The file's services as they would be published; addresses are stand-ins where none is leased yet."""
    from proxyctl.cli.releases import taken_by

    written = {s.name: _as_written(s, shop.store.load(s.name).route) for s in shop.config.services if s.routed}
    in_file = {service.name for service in shop.config.services}
    left = {name: route for name, route in routes_of(shop.store).items() if name not in in_file}
    topology = topology_of(shop.name, shop.config.settings, {**left, **written})
    rivals = [(route, rival) for route in written.values() if (rival := topology.rival_of(route))]
    if rivals:
        return [f"nginx: {taken_by(shop, route, rival)}" for route, rival in rivals]
    try:
        await shop.proxy.fetch(topology.settings, lambda line: say(f"  {line}"))
        return [f"nginx: {words}" for words in await shop.proxy.check(topology)]
    except ProxyctlError as error:
        return [f"nginx: {error}; {error.next_step}"]


def _as_written(service: Service, published: Route | None) -> Route:
    """What the file says of it, on the addresses that it has, or on any."""
    from proxyctl.engine.releases import route_of

    anywhere = tuple(f"127.0.0.1:{service.port}" for _ in range(service.replicas))
    addresses = {colour: published.slots(colour) if published else anywhere for colour in Colour}
    return route_of(service, addresses, Colour.BLUE, None)


@click.command()
@click.argument("service", type=SERVICE, required=False)
@click.option("--image", type=IMAGE, metavar="REF", help="This image instead of the file's.")
@project_options
@json_option
def plan(service: str | None, image: str | None, project: ProjectOptions, as_json: bool) -> None:
    """What `deploy` would do: containers, nginx diff, steps, and what each step can catch.

    No effect but a pull of a missing image.

    \b
    Example:
      proxyctl plan web --image shop/web:1.5
    """
    from proxyctl.cli.releases import chosen_services

    async def work() -> None:
        async with showroom(*project) as shop:
            _tell_warnings(shop)
            planned = [await _planned(shop, s) for s in chosen_services(shop, [service] if service else [], image)]
        if as_json:
            print_json(planned)
            return
        for one in planned:
            click.echo("\n".join(str(line) for line in _plan_lines(one)))

    asyncio.run(work())


async def _planned(shop: Workshop, service: Service) -> dict[str, object]:
    known = shop.store.load(service.name)
    idle = known.replace(rollout=None)
    signed = Signed(actor="plan", reason="", wall=0.0)
    so_far = await shop.runtime.network_so_far()

    async def network() -> Network:
        return so_far or STAND_IN

    with closing(shop.store.scratch()) as scratch:  # addresses are chosen, and leased to nobody
        opening = shop.opening_in(scratch, network)
        release = await opening.release(service, known, 0.0, config_digest(service), lambda line: say(f"  {line}"))
        steps = plans.of(service, known.live.release.service if known.live else None)
        opened = await opening.fresh(Kind.DEPLOY, steps, release, idle, signed)
    route = opened.rollout.route
    placed = opened.placement
    replicas = (*placed.replicas, *placed.absent) if placed else ()
    return {
        "service": service.name,
        "release": release.id,
        "image": release.image,
        "digest": release.digest,
        "colour": opened.rollout.colour.value,
        "replaces": opened.rollout.replaces,
        "replicas": [{"name": r.name, "address": r.address} for r in replicas],
        "addresses": "chosen" if so_far else "stand-ins",
        "steps": _steps(known, service, opened.rollout),
        "told": list(told(opened.rollout.plan, service.routed)),
        "nginx": await _diff(shop, known, route),
        "delays": list(delays(opened.rollout.plan, service.analysis)) if service.analysis else [],
        **await _foreseen(shop, service, known, opened.rollout.plan),
    }


async def _foreseen(shop: Workshop, service: Service, known: ServiceState, steps: plans.Plan) -> dict[str, object]:
    """What each step can tell by today's traffic; `traffic` is null where that is not known, `forecast` then empty."""
    shared = any(0 < stage.share < WHOLE for stage in plans.stages(steps))
    if service.analysis is None or known.live is None or known.route is None or not shared:
        return {"traffic": None, "forecast": []}
    traffic, why = await _today(shop, known)
    if traffic is None:
        return {"traffic": None, "forecast": [], "unforeseen": why}
    forecast = forecast_of(steps, service.analysis, traffic)
    return {"traffic": _fields(traffic), "forecast": [_step_json(step) for step in forecast]}


async def _today(shop: Workshop, known: ServiceState) -> tuple[Traffic | None, str]:
    """Of the last half hour, or why it is not known."""
    assert known.live is not None and known.route is not None
    if known.settings is None or known.settings.access_log is Logged.OFF:
        return None, "nginx writes no log of requests (proxy.log: off)"
    now, ticks, more = shop.clock.wall(), list[Tick](), True
    try:
        position = await shop.access_log.since(now - BEFORE)
        while more:
            reading = await shop.access_log.read(position, known.route)
            ticks += [tick for tick in reading.ticks if tick.at >= now - BEFORE]
            position, more = reading.position, reading.more
    except StateUnusable as error:
        return None, str(error)
    finally:
        shop.access_log.close()
    traffic = traffic_of(ticks, known.live.colour, now)
    seldom = known.settings.access_log is Logged.ROLLOUTS
    why = "; with proxy.log: rollouts it is written only while one runs" if seldom else ""
    return traffic, "" if traffic else f"nginx's log has no request for {known.service} in the last 30 minutes{why}"


def _step_json(step: StepForecast) -> dict[str, object]:
    """A share is a part of 1, as every rate here."""
    return {**_fields(step), "share": step.share / WHOLE, "inconclusive": step.inconclusive, "sentence": str(step)}


def _fields(record: Record) -> dict[str, object]:
    return {name: getattr(record, name) for name in record.fields()}


def _steps(known: ServiceState, service: Service, rollout: Rollout) -> list[str]:
    leaving = [f"end the standby {known.standby.release.id}"] if known.standby else []
    steps = [plans.words(step) for step in rollout.plan]
    if rollout.rolling is not None:
        return [*leaving, *steps, "promote"]
    return [*leaving, "start", "gate", *steps, *_after(service)]


def _after(service: Service) -> list[str]:
    after = f"keep the old release warm for {service.standby:g} s" if service.routed else "end the old release"
    return ["promote", after]


async def _diff(shop: Workshop, known: ServiceState, route: Route | None) -> str:
    if route is None or (route, shop.config.settings) == (known.route, known.settings):
        return ""
    await shop.proxy.fetch(shop.config.settings, lambda line: say(f"  {line}"))
    routes = {**routes_of(shop.store), known.service: route}
    return await shop.proxy.diff(topology_of(shop.name, shop.config.settings, routes))


def _plan_lines(one: dict[str, object]) -> list[object]:
    replicas = one["replicas"]
    assert isinstance(replicas, list) and isinstance(one["steps"], list) and isinstance(one["told"], list)
    text: list[object] = [
        f"{one['service']}: {one['release']} from {one['image']} ({str(one['digest'])[:19]}) into {one['colour']}",
        f"  over {one['replaces'] or 'nothing'}",
        *(f"  + {replica['name']} at {replica['address']}" for replica in replicas),
        *([f"    {NOT_YET}"] if one["addresses"] == "stand-ins" else []),
        f"  steps: {', '.join(one['steps'])}",
    ]
    if one["told"]:
        text += (f"  {line}" for line in one["told"])
    elif not one["nginx"]:
        text.append("  nginx: no reload, it knows all of it already")
    elif first := FIRST.search(str(one["nginx"])):
        text.append(f"  nginx: one new generation, the first; --json has its {first[1]} lines")
    else:
        text += ["  nginx: one new generation", *(f"    {line}" for line in str(one["nginx"]).splitlines())]
    return [*text, *_delay_lines(one), *_forecast_lines(one)]


def _delay_lines(one: dict[str, object]) -> list[object]:
    assert isinstance(one["delays"], list)
    return ["  sources:", *(f"    {delay}" for delay in one["delays"])] if one["delays"] else []


def _forecast_lines(one: dict[str, object]) -> list[object]:
    traffic, forecast = one["traffic"], one["forecast"]
    if "unforeseen" in one:
        return [f"  forecast: none; {one['unforeseen']}"]
    if not isinstance(traffic, dict) or not isinstance(forecast, list):
        return []
    seen = f"{figure(traffic['per_second'])} req/s, {percent(traffic['usual'])} bad"
    said = f"  forecast, by the last {duration(traffic['seconds'])} of nginx's log ({seen}):"
    return [said, *(f"    {step['sentence']}" for step in forecast)]


@click.command()
@click.argument("shell", type=Spoken("shell", choice("bash", "zsh")), metavar="bash|zsh")
def completion(shell: str) -> None:
    """Print the completion script: static words, so that no Python starts at TAB.

    \b
    Example:
      source <(proxyctl completion bash)
    """
    from proxyctl.cli.operate import proxy

    words = " ".join(COMMANDS)
    if shell == "bash":
        click.echo(_BASH.replace("@WORDS@", words).replace("@PROXY@", " ".join(proxy.commands)))
    else:
        click.echo(f"#compdef proxyctl\n_arguments '1: :({words})' '*: :_files'")
    sys.stdout.flush()


_BASH = """_proxyctl() {
    local word=${COMP_WORDS[COMP_CWORD]}
    if [ "$COMP_CWORD" = 1 ]; then
        COMPREPLY=($(compgen -W "@WORDS@" -- "$word"))
    elif [ "${COMP_WORDS[1]}" = proxy ]; then
        COMPREPLY=($(compgen -W "@PROXY@" -- "$word"))
    else  # the file is here or in a parent folder, and service names stand two spaces deep in it
        local folder=$PWD names
        until [ -z "$folder" ] || [ -f "$folder/proxyctl.yml" ]; do folder=${folder%/*}; done
        names=$(sed -n '/^services:/,/^[^ ]/s/^  \\([a-z][a-z0-9-]*\\):.*/\\1/p' "$folder/proxyctl.yml" 2>/dev/null)
        COMPREPLY=($(compgen -W "$names" -- "$word"))
    fi
}
complete -o default -F _proxyctl proxyctl"""
