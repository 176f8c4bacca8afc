"""Read a rendered configuration back and hold it to its topology, before nginx sees it. Pure. Start at refusals().

It may say only what allowed.py lists, with our files, our addresses and our pools; and it must say what proxyctl relies
on: the pools with exactly their replicas, a way to each of them, and what the control server answers. nginx -t would
take all of it, and opening a library is done by testing it. See docs/adr/0007-lex-back-what-we-render.md.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from typing import NamedTuple

from proxyctl.adapters.nginx import flags
from proxyctl.adapters.nginx.control import Address
from proxyctl.adapters.nginx.flags import COVERED, NOBODY, PLAIN, folder_name
from proxyctl.adapters.nginx.names import (
    error_page,
    files_from,
    password_file,
    prober_prefix,
    seen_from,
    tls_files,
    upstream_name,
    upstream_tls_files,
    upstream_tls_files_before,
)
from proxyctl.adapters.nginx.readback.allowed import BLOCKS, DIRECTIVES, REFUSALS, Context, why_not
from proxyctl.adapters.nginx.readback.lexer import Unlexable, line_of, statements, words
from proxyctl.adapters.nginx.rendering.dealing import DEALT, dealt
from proxyctl.adapters.nginx.rendering.log_formats import LogFormat, formats_of, log_formats, log_options
from proxyctl.adapters.nginx.rendering.pools import speaks_apart
from proxyctl.adapters.nginx.traffic.shares import NOBODY_SERVES, Shares
from proxyctl.adapters.places import SPLIT_IN_FORCE, Places
from proxyctl.domain.model import Colour, Cutover, Logged, Protocol, Topology

MOST_REFUSALS = 20
NOWHERE = 0
LISTEN_OPTIONS = frozenset({"default_server", "http2", "proxy_protocol", "quic", "reuseport", "ssl"})
LOG_LEVELS = ("info", "notice", "warn", "error", "crit", "alert", "emerg")
UPSTREAM_FILES = (upstream_tls_files, upstream_tls_files_before)
NEEDED = ("pid", "error_log", "working_directory")  # nginx has defaults for them, and those are not ours

_TARGET = re.compile(r"(?:http|grpc)(s?)://([A-Za-z0-9._-]+)(?:/.*|\$request_uri)?", re.ASCII | re.DOTALL)


class Refusal(NamedTuple):
    """What cannot be taken, and where it stands in the rendered text."""

    line: int  # or NOWHERE: it is missing
    directive: str
    why: str

    def __str__(self) -> str:
        return f"{self.directive}: {self.why}" if self.directive else self.why


Words = tuple[str, ...]
Logs = dict[Words, int]  # what access_log says in one block, and where
Answer = tuple[tuple[Words, ...], Words]  # the blocks around a directive, and the directive


def refusals(
    text: str, topology: Topology, number: int, places: Places, control: Address, shares: Shares = NOBODY_SERVES
) -> list[Refusal]:
    """All that is wrong with it, the first in the text first and what is missing last; at most 20."""
    reading = _Reading(text, topology, number, places, control, shares)
    reading.read()
    return sorted(reading.found, key=lambda refusal: refusal.line or sys.maxsize)[:MOST_REFUSALS]


@dataclass
class _Block:
    """A block being read; what it says is judged when it is closed."""

    context: Context
    raw: str
    at: int
    listens: list[str] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)  # of a server, and where each stands
    addresses: list[str] = field(default_factory=list)  # of an upstream, those that are not down
    weights: dict[str, str] = field(default_factory=dict)  # of those that have one
    targets: set[str] = field(default_factory=set)  # upstreams that a server sends requests to
    logs: Logs = field(default_factory=dict)
    sent: list[_Sent] = field(default_factory=list)  # by it or by blocks in it


class _Sent(NamedTuple):
    """Requests that go to an upstream. They are logged as the innermost block says that says anything of logs."""

    pool: str
    at: int
    logs: Logs


class _Reading:
    def __init__(
        self, text: str, topology: Topology, number: int, places: Places, control: Address, shares: Shares
    ) -> None:
        self.found: list[Refusal] = []
        self._text = text
        self._topology = topology
        self._number = number
        self._control = control
        self._asked = tuple(_control_answers(topology, number, places, control, shares))
        self._top = Context.MAIN if topology.settings.mode.ours else Context.HTTP
        self._values = _values(topology, places)
        self._listens = frozenset(topology.listens)
        self._pools = dict(_pools(topology, shares))
        self._log = str(places.access_log)
        self._formats = {format.name: "\t".join(format.fields) for format in _formats(topology)}
        self._logs = {name: (self._log, name, *log_options(topology).split()) for name in self._formats}
        self._logged = dict(_logged(topology))
        self._weights = dict(_weights(topology, shares))
        encrypted = tuple(route for route in topology.routes if any(map(route.tls_of, Colour)))
        self._encrypted = dict(_pools(topology.replace(routes=encrypted), shares))
        self._unasked = set(_unasked(topology))
        self._said: set[str] = set()  # what the top level says
        self._declared: set[str] = set()
        self._targets: dict[str, int] = {}  # upstreams that something sends requests to, and where it is said first
        self._reached: set[str] = set()  # the same, but for the prober's
        self._claims: set[tuple[str, str]] = set()  # address and host
        self._controls = 0
        self._stack = [_Block(self._top, "", 0)]

    def read(self) -> None:
        if not self._text.strip():
            return self._miss("", "the templates wrote nothing")
        try:
            self._read()
        except Unlexable as error:
            self._refuse(error.at, "", str(error))

    def _read(self) -> None:
        passed = set[tuple[Context, str]]()  # a statement that was taken once is taken again wherever nothing counts it
        context = self._top
        for raw, end, at in statements(self._text):
            if end == "}":
                context = self._close(at)
            elif end == "{":
                context = self._open(raw, at)
            elif (context, raw) not in passed and self._take(context, raw, at):
                passed.add((context, raw))
            if len(self.found) >= MOST_REFUSALS:
                return
        if len(self._stack) > 1 and not self.found:
            self._refuse(self._stack[-1].at, self._stack[-1].raw.split(None, 1)[0], "this block is never closed")
        if not self.found:  # else what is missing may stand in what was refused
            self._end()

    def _refuse(self, at: int, directive: str, why: str) -> None:
        self.found.append(Refusal(line_of(self._text, at), directive, why))

    def _miss(self, directive: str, why: str) -> None:
        self.found.append(Refusal(NOWHERE, directive, why))

    # --- blocks ----------------------------------------------------------------------------------------------------

    def _open(self, raw: str, at: int) -> Context:
        around = self._stack[-1].context
        name = raw.split(None, 1)[0]
        inner = BLOCKS[around].get(name, Context.REFUSED)
        if inner is Context.REFUSED and around is not Context.REFUSED:
            self._refuse(at, name, f"no such block is taken in {around}: {why_not(name)}")
        if inner is Context.UPSTREAM:
            self._declared.update(words(raw)[1:2])
        self._stack.append(_Block(inner, raw, at))
        return inner

    def _close(self, at: int) -> Context:
        if len(self._stack) == 1:
            raise Unlexable(at, "this } closes nothing")
        block = self._stack.pop()
        if block.context is Context.SERVER:
            self._judge_server(block, at)
        elif block.context is Context.UPSTREAM:
            self._judge_upstream(block)
        self._stack[-1].sent += _logged_by(block)
        return self._stack[-1].context

    def _judge_server(self, server: _Block, end: int) -> None:
        if self._control.listen in server.listens:
            self._judge_control(server, end)
            server.sent = []
        else:
            self._reached |= server.targets
        if not server.listens:
            self._refuse(server.at, "server", "it has no listen, and nginx would take port 80 for it")
        for name, at in (server.names or {"": server.at}).items():
            claims = {(listen, name) for listen in server.listens}
            if claims & self._claims:
                self._refuse(at, "server_name", f"another server of this address is called {name!r} too")
            self._claims |= claims

    def _judge_upstream(self, upstream: _Block) -> None:
        name = " ".join(words(upstream.raw)[1:])
        expected = self._pools.get(name)
        if not upstream.addresses:
            self._refuse(upstream.at, "upstream", f"{name} has no server that is up")
        elif expected is not None and set(upstream.addresses) != expected:
            self._refuse(upstream.at, "upstream", f"{name} has other servers than {', '.join(sorted(expected))}")
        elif upstream.weights != self._weights.get(name, upstream.weights):
            self._refuse(upstream.at, "upstream", f"{name} has other weights than {_listed(self._weights[name])}")

    def _judge_control(self, server: _Block, end: int) -> None:
        self._controls += 1
        if len(server.listens) > 1 or self._controls > 1:
            self._refuse(server.at, "listen", "the control server is one server that listens on its socket only")
        said = set(_answers(self._text[server.at : end]))
        for _, (name, *_) in said:
            if name in REFUSALS:
                self._refuse(server.at, name, "not taken in the control server: proxyctl must be answered")
        if f'return 200 "{self._number} $pid' not in self._text[server.at : end]:  # as renumber() looks for it
            written = 'the generation is written `return 200 "{{ number }} $pid $nginx_version\\n";`'
            self._refuse(server.at, "return", written)
        if silent := next((answer for answer in self._asked if answer not in said), None):
            self._refuse(server.at, "server", f"the control server does not say {_shown(silent)}")

    # --- directives ------------------------------------------------------------------------------------------------

    def _take(self, context: Context, raw: str, at: int) -> bool:
        """Whether the same statement needs no second look elsewhere in this context."""
        if context is Context.REFUSED:
            return True
        if context is Context.PAIRS:
            return self._take_pair(raw, at)
        name = raw.split(None, 1)[0]
        if name not in DIRECTIVES[context]:
            self._refuse(at, name, f"not taken in {context}: {why_not(name)}")
            return False
        if context is Context.MAIN:
            self._said.add(name)
        counted = _COUNTED.get(name)
        if counted is not None:
            counted(self, words(raw), at)
            return False
        return name not in self._values or self._take_value(name, words(raw), at)

    def _take_pair(self, raw: str, at: int) -> bool:
        """nginx looks for this word in the values too."""
        if words(raw)[0] == "include":
            self._refuse(at, "include", f"not taken in {Context.PAIRS}: {why_not('include')}")
        return True

    def _take_value(self, name: str, said: Words, at: int) -> bool:
        allowed = self._values[name]
        value = " ".join(said[1:])
        if value not in allowed:
            ours = f"write {min(allowed)}" if allowed else "remove it, or set it in proxyctl.yml"
            self._refuse(at, name, f"{value} is not what proxyctl relies on; {ours}")
        return value in allowed

    def _take_format(self, said: Words, at: int) -> None:
        """Others may be called as they like."""
        name, written = "".join(said[1:2]), "".join(said[2:])
        if written != self._formats.get(name, written):
            self._refuse(at, "log_format", f"proxyctl reads what {name} writes; leave it as names.conf.j2 has it")

    def _take_log(self, said: Words, at: int) -> None:
        """Where proxyctl reads the log, whoever else writes into it speaks in its words, and as soon."""
        log = said[1:]
        self._stack[-1].logs[log] = at
        ours = self._logs.get("".join(log[1:2])) or min(self._logs.values(), default=("off",))
        if log not in (("off",), ours) and (self._logs or log[:1] != (self._log,)):
            self._refuse(at, "access_log", f"{' '.join(log)} is not what proxyctl relies on; write {' '.join(ours)}")

    def _take_listen(self, said: Words, at: int) -> None:
        address, options = "".join(said[1:2]), said[2:]
        if address not in self._listens and address != self._control.listen:
            self._refuse(at, "listen", f"{address} is not an address of this project (proxy.http, proxy.https)")
        elif strange := next((option for option in options if option not in LISTEN_OPTIONS), None):
            self._refuse(at, "listen", f"{strange} is not taken; write {', '.join(sorted(LISTEN_OPTIONS))}")
        self._stack[-1].listens.append(address)

    def _take_names(self, said: Words, at: int) -> None:
        for name in said[1:]:
            if name in self._stack[-1].names:
                self._refuse(at, "server_name", f"{name!r} stands here twice")
            self._stack[-1].names[name] = at

    def _take_member(self, said: Words, at: int) -> None:
        address = "".join(said[1:2])
        if not _is_literal(address):
            self._refuse(at, "server", f"{address} is no address; nginx would ask a name server for it, and wait")
        if "down" not in said:
            self._stack[-1].addresses.append(address)
        for weight in (word.removeprefix("weight=") for word in said if word.startswith("weight=")):
            self._stack[-1].weights[address] = weight

    def _server(self) -> _Block:
        """That which is being read."""
        return next(block for block in self._stack if block.context is Context.SERVER)

    def _take_target(self, said: Words, at: int) -> None:
        target = "".join(said[1:2])
        match = _TARGET.fullmatch(target)
        if match is None or (match[1] and match[2] not in self._encrypted):
            self._refuse(at, said[0], f"{target} is not http:// or grpc:// and an upstream of this configuration")
        else:
            self._targets.setdefault(match[2], at)
            self._server().targets.add(match[2])
            self._stack[-1].sent.append(_Sent(match[2], at, {}))

    # --- the whole -------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        for name in NEEDED:
            if self._top is Context.MAIN and name not in self._said:
                self._miss(name, "it is missing, and proxyctl relies on it")
        for name, at in self._targets.items():
            if name not in self._declared:
                self._refuse(at, "proxy_pass", f"{name} is not an upstream of this configuration")
        for at, pool in self._unlogged().items():
            ours = " ".join(self._logs[self._logged[pool][0]])
            self._refuse(at, "access_log", f"candidates are judged by the requests to {pool}; write {ours}")
        reachable = self._declared & (self._reached | self._unasked)
        for name in self._pools:
            if name not in reachable:
                self._miss("upstream", f"no request can reach {name}")
        if not self._controls:
            self._miss("server", "the control server is missing; control.conf.j2 makes it")

    def _unlogged(self) -> dict[int, str]:
        """Where it is said, a pool whose requests do not reach the log in a format of their service."""
        found: dict[int, str] = {}
        for sent in _logged_by(self._stack[0]):
            ours = {self._logs[name] for name in self._logged.get(sent.pool, ())}
            if ours and (("off",) in sent.logs or not ours & sent.logs.keys()):
                found.setdefault(next(iter(sent.logs.values()), sent.at), sent.pool)
        return found


def _logged_by(block: _Block) -> list[_Sent]:
    return [sent if sent.logs else sent._replace(logs=block.logs) for sent in block.sent]


_Counted = Callable[[_Reading, Words, int], None]
_COUNTED: dict[str, _Counted] = {
    "access_log": _Reading._take_log,
    "log_format": _Reading._take_format,
    "listen": _Reading._take_listen,
    "server_name": _Reading._take_names,
    "server": _Reading._take_member,
    "proxy_pass": _Reading._take_target,
    "grpc_pass": _Reading._take_target,
}


# --- what the topology allows ------------------------------------------------------------------------------------


def _values(topology: Topology, places: Places) -> dict[str, frozenset[str]]:
    """Directives that name something of this machine, and all that they may name."""
    routes, user, log = topology.routes, topology.settings.user, str(places.error_log)
    beside = files_from(topology.settings, places)
    files = [tls_files(route.service) for route in routes if route.tls]
    upstream = [files_of(route.service) for route in routes for files_of in UPSTREAM_FILES]
    passwords = [password_file(route.service) for route in routes if route.basic_auth]
    pages = [error_page(route.service, status) for route in routes for status in topology.error_pages(route)]
    own = {
        "trusted_certificate": [ca for ca, _, _ in upstream],
        "certificate": [certificate for _, certificate, _ in upstream],
        "certificate_key": [key for _, _, key in upstream],
    }
    return {
        "user": frozenset({user} if user else ()),
        "pid": frozenset({str(places.pid_file)}),
        "error_log": frozenset({log, *(f"{log} {level}" for level in LOG_LEVELS)}),
        "working_directory": frozenset({str(places.splits)}),
        "open_file_cache": frozenset({"off"}),  # else workers remember flags
        "disable_symlinks": frozenset({"off"}),
        "ssl_certificate": frozenset(f"{beside}{chain}" for chain, _ in files),
        "ssl_certificate_key": frozenset(f"{beside}{key}" for _, key in files),
        "auth_basic_user_file": frozenset(f"{beside}{file}" for file in passwords),
        "alias": frozenset(f"{places.current}/{page}" for page in pages),
        **{
            f"{way}_ssl_{name}": frozenset(f"{beside}{file}" for file in named)
            for way in ("proxy", "grpc")
            for name, named in own.items()
        },
        "client_body_temp_path": frozenset({f"{places.temp}/body"}),
        **{f"{way}_temp_path": frozenset({f"{places.temp}/{way}"}) for way in ("proxy", "fastcgi", "uwsgi", "scgi")},
    }


def _pools(topology: Topology, shares: Shares) -> Iterator[tuple[str, set[str]]]:
    """The addresses of every pool."""
    for route in topology.routes:
        own = partial(upstream_name, topology.project, route.service)
        for colour, plain in zip(Colour, PLAIN, strict=True):
            yield own(plain), set(route.slots(colour))
        if topology.settings.cutover is Cutover.LIVE:
            for colour, covered in zip(Colour, COVERED, strict=True):
                yield own(covered), {*route.slots(colour), *(route.slots(colour.other) if route.backed else ())}
        elif pool := dealt(route, shares.get(route.service)):
            yield own(DEALT), {*(address for address, _ in pool.members), *pool.backups}


def _formats(topology: Topology) -> Iterable[LogFormat]:
    return () if topology.settings.access_log is Logged.OFF else log_formats(topology)


def _logged(topology: Topology) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Of every pool, the formats of which one writes what it was asked: its service's."""
    for route in topology.routes if topology.settings.access_log is not Logged.OFF else ():
        formats = tuple(format.name for format in formats_of(route, topology))
        for pool in (*PLAIN, *COVERED, DEALT):
            yield upstream_name(topology.project, route.service, pool), formats


def _weights(topology: Topology, shares: Shares) -> Iterator[tuple[str, dict[str, str]]]:
    """Of the pools that deal by them."""
    for route in topology.routes if topology.settings.cutover is Cutover.RELOAD else ():
        if pool := dealt(route, shares.get(route.service)):
            weights = {address: str(weight) for address, weight in pool.members if weight > 1}
            yield upstream_name(topology.project, route.service, DEALT), weights


def _unasked(topology: Topology) -> Iterator[str]:
    """A colour that is asked in a way of its own has no cover, and so its covered pool gets no request. Where nginx
    deals by itself, a colour's own pool is for the prober."""
    for route in topology.routes:
        for colour, plain, covered in zip(Colour, PLAIN, COVERED, strict=True):
            if topology.settings.cutover is Cutover.RELOAD:
                yield upstream_name(topology.project, route.service, plain)
            elif speaks_apart(route, colour):
                yield upstream_name(topology.project, route.service, covered)


def _control_answers(
    topology: Topology, number: int, places: Places, control: Address, shares: Shares
) -> Iterator[Answer]:
    """What proxyctl asks the control server, and how it has to answer."""
    yield (("location", "=", f"{control.prefix}/generation"),), ("return", "200", f"{number} $pid $nginx_version\n")
    if topology.settings.cutover is Cutover.LIVE:
        yield from _answers_by_flags(topology, places, control)
    else:
        yield from _answers_by_shares(topology, control, shares)
    yield from _answers_of_pools(topology, control)


def _answers_by_shares(topology: Topology, control: Address, shares: Shares) -> Iterator[Answer]:
    for route in topology.routes:
        said = folder_name(shares.get(route.service))
        yield (("location", "=", f"{control.prefix}/split/{route.service}"),), ("return", "200", said)


def _answers_by_flags(topology: Topology, places: Places, control: Address) -> Iterator[Answer]:
    split = ("location", "~", f"^{control.prefix}/split/(?<px_service>[a-z0-9-]+)$")
    folder = f"{seen_from(topology.settings, places)}${{px_service}}/{SPLIT_IN_FORCE}"
    for flag, pool in flags.AT_REST + flags.IN_SPLIT:
        name = flag.format(b1="$arg_b1", b2="$arg_b2")
        yield (split, ("if", "(-f", f"{folder}/{name})")), ("return", "200", pool)
    yield (split,), ("return", "200", NOBODY)
    if any(route.previews for route in topology.routes):
        preview = ("location", "~", f"^{control.prefix}/preview/(?<px_service>[a-z0-9-]+)$")
        for flag, pool in flags.PREVIEWED:
            yield (preview, ("if", "(-f", f"{folder}/{flag})")), ("return", "200", pool)
        yield (preview,), ("return", "200", NOBODY)


def _answers_of_pools(topology: Topology, control: Address) -> Iterator[Answer]:
    for route in topology.routes:
        for colour in Colour:
            upstream = upstream_name(topology.project, route.service, colour)
            grpc, s = route.protocol_of(colour) is Protocol.GRPC, "s" if route.tls_of(colour) else ""
            to = ("grpc_pass", f"grpc{s}://{upstream}") if grpc else ("proxy_pass", f"http{s}://{upstream}/")
            yield (("location", f"{control.prefix}{prober_prefix(route.service, colour)}/"),), to


def _answers(server: str) -> Iterator[Answer]:
    """All that a server says, with the blocks around each directive but for its own."""
    around: list[Words] = []
    for raw, end, _ in statements(server):
        if end == "{":
            around.append(words(raw))
        elif end == "}":
            around.pop()
        else:
            yield tuple(around[1:]), words(raw)


def _shown(answer: Answer) -> str:
    around, said = answer
    return f"`{' '.join(said)}` in `{' '.join(around[-1])}`".replace("\n", "\\n")


def _listed(weights: dict[str, str]) -> str:
    return ", ".join(f"{address} weight={weight}" for address, weight in sorted(weights.items()))


def _is_literal(address: str) -> bool:
    """An address and perhaps a port."""
    host, colon, port = address.rpartition(":")
    if colon and not port.isdecimal():
        host = address  # an IPv6 address that ends in letters, not in a port
    try:
        ip_address((host or address).strip("[]"))
    except ValueError:
        return False
    return True
