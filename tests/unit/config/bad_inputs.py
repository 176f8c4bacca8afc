"""Every bad input that `proxyctl.yml` must refuse, with a fragment of what is said. One table; add a row, not a test.

The letters are groups of what can be wrong: A names, B hosts, C paths, D headers, F durations, G health, H images,
I containers, J the YAML itself, K keys that contradict each other, S sizes and ports.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple


class Bad(NamedTuple):
    group: str
    text: bytes
    fragment: str


def everything() -> Iterator[Bad]:
    yield from _each("A", _PROJECT, NAMES)
    yield from _each("A", _SERVICE_NAME, NAMES)
    yield from _each("B", _HOST, HOSTS)
    yield from _each("C", _PATH, PATHS)
    yield from _each("C", _PROBE_PATH, PROBE_PATHS)
    yield from _each("D", _HEADER_NAME, HEADER_NAMES)
    yield from _each("D", _HEADER_VALUE, HEADER_VALUES)
    for key in ("bake", "standby", "drain", "readiness_delay"):
        yield from _plain("F", f"{_WEB}    {key}: %s\n", DURATIONS)
    for key in ("interval", "timeout", "deadline"):
        yield from _plain("F", f"{_ROUTED}    health: {{path: /, {key}: %s}}\n", (*DURATIONS, *NOT_ZERO))
    yield from _plain("F", f"{_WEB}    drain: %s\n", LONG_DRAINS)
    yield from _plain("S", f"{_WEB}    port: %s\n", PORTS)
    yield from _plain("S", f"proxy: {{http: %s}}\n{_WHOLE}", LISTENS)
    yield from _plain("S", f"{_ROUTED}    health: none\n    body_limit: %s\n", SIZES)
    yield from _plain("S", f"{_WEB}    replicas: %s\n", COUNTS)
    yield from _plain("G", f"{_ROUTED}    health: %s\n", HEALTHS)
    yield from _each("G", f"{_ROUTED}    health: %s\n", URLS)
    yield from _each("H", f"{_HEAD}  web:\n    health: none\n    container: {{image: %s}}\n", IMAGES)
    yield from _plain("I", f"{_HEAD}  web:\n    health: none\n    container: {{image: shop/web, %s}}\n", CONTAINERS)
    for text, fragment in (*FILES, *CONTRADICTIONS):
        yield Bad("J", text if isinstance(text, bytes) else text.encode(), fragment)


def _each(group: str, template: str, rows: tuple[tuple[str, str], ...]) -> Iterator[Bad]:
    """The value in double quotes, escaped: it reaches the grammars as it stands here."""
    for value, fragment in rows:
        yield Bad(group, template.replace("%s", json.dumps(value)).encode(), fragment)


def _plain(group: str, template: str, rows: tuple[tuple[str, str], ...]) -> Iterator[Bad]:
    """The value as YAML."""
    for value, fragment in rows:
        yield Bad(group, template.replace("%s", value).encode(), fragment)


def _many(count: int, form: str) -> str:
    return ", ".join(form.format(n) for n in range(count))


_HEAD = "project: shop\nservices:\n"
_WEB = _HEAD + "  web:\n    container: {image: shop/web}\n    health: none\n"
_ROUTED = _HEAD + "  web:\n    container: {image: shop/web}\n    port: 8000\n"
_WHOLE = _WEB.removeprefix("project: shop\n") + "project: shop\n"
_PROJECT = "services: {web: {container: {image: shop/web}, health: none}}\nproject: %s\n"
_SERVICE_NAME = "project: shop\nservices:\n  ? %s\n  : {container: {image: shop/web}, health: none}\n"
_HOST = _ROUTED + "    health: none\n    hosts: [%s]\n"
_PATH = _ROUTED + "    health: none\n    path: %s\n"
_PROBE_PATH = _ROUTED + "    health: {path: %s}\n"
_HEADER_NAME = _ROUTED + "    health: {path: /, headers: {%s: x}}\n"
_HEADER_VALUE = _ROUTED + "    health: {path: /, headers: {X-Probe: %s}}\n"

_NOT_TAKEN = "which is not taken here"

NAMES = (
    ("", "not a name"),
    (" ", "not a name"),
    ("web\n", "character 4 is U+000A"),
    ("web\r\nx", "character 4 is U+000D"),
    ("web;", 'character 4 is ";"'),
    ("web{", 'character 4 is "{"'),
    ("web}", 'character 4 is "}"'),
    ("../web", 'character 1 is "."'),
    ("..", "not a name"),
    (".", "not a name"),
    ("/etc/x", 'character 1 is "/"'),
    ("web/../../x", 'character 4 is "/"'),
    ("WEB", 'character 1 is "W"'),
    ("wéb", 'character 2 is "\\u00e9"'),
    ("ｗｅｂ", "character 1 is"),
    ("wеb", 'character 2 is "\\u0435"'),
    ("web\0", "U+0000"),
    ("-rf", "not a name"),
    ("--help", "not a name"),
    ("web-", "no - last"),
    ("w", "write 2 to 40"),
    ("w" * 41, "write 2 to 40"),
    ("w" * 10_000, "write 2 to 40"),
    ("1web", "a letter first"),
    ("$host", 'character 1 is "$"'),
    ("web$(id)", 'character 4 is "$"'),
    ("web`id`", 'character 4 is "`"'),
    ("web|cat", 'character 4 is "|"'),
    ("web'", "character 4 is"),
    ('web"', "character 4 is"),
    ("web#", "character 4 is"),
    ("web%2e%2e", "character 4 is"),
    ("web\x1b[2J", "U+001B"),
    ("web\u202e", "U+202E"),
    ("web\u200b", "U+200B"),
    ("\udcff\udcfe", ""),
    ("{{7*7}}", "character 1 is"),
    ("web_1", 'character 4 is "_"'),
    ("current", "reserved"),
    ("default", "reserved"),
    ("proxyctl", "reserved"),
)

HOSTS = (
    ("", "not a host name"),
    ("*", "not a host name"),
    ("*.", "not a host name"),
    ("*.*.t", "not a host name"),
    ("a.*.t", "not a host name"),
    ("~^(.*)$", "not a host name"),
    ("_", "not a host name"),
    (".a.t", "not a host name"),
    ("a..t", "not a host name"),
    ("-a.t", "not a host name"),
    ("a-.t", "not a host name"),
    ("a" * 64 + ".t", "not a host name"),
    (".".join(["a" * 62] * 5), "not a host name"),
    ("a.t:80", "not a host name"),
    ("http://a.t", "not a host name"),
    ("a.t/", "not a host name"),
    ("a_b.t", "not a host name"),
    ("a.t b.t", "not a host name"),
    ("a.t;", "not a host name"),
    ("a.t}", "not a host name"),
    ('"a.t"', "not a host name"),
    ("a.t\n", "U+000A"),
    ("a.t\0", "U+0000"),
    ("a.t.", "not a host name"),
    ("$host", "not a host name"),
    ("[::1]", "not a host name"),
    ("1.2.3.4", "an address is not a host name"),
    ("xn--a-ecp.t", "not a host name"),
    ("xn--.t", "not a host name"),
    ("a\u200b.t", "U+200B"),
    ("bü cher.t", "not a host name"),
)

_PATH_FORM = "give a path such as /"
_PARTS = "no empty, . or .. parts"
PROBE_PATHS = (
    ("", _PATH_FORM),
    ("a", _PATH_FORM),
    ("/a b", _PATH_FORM),
    ("/a;", _PATH_FORM),
    ("/a{", _PATH_FORM),
    ("/a}", _PATH_FORM),
    ('/a"', _PATH_FORM),
    ("/a'", _PATH_FORM),
    ("/a\\", _PATH_FORM),
    ("/a$uri", _PATH_FORM),
    ("/a#", _PATH_FORM),
    ("/a\n}", "U+000A"),
    ("/../", _PARTS),
    ("/a/../b", _PARTS),
    ("/./a", _PARTS),
    ("//", _PARTS),
    ("/%2e%2e/", _PATH_FORM),
    ("/%00", _PATH_FORM),
    ("/%0d%0aX:", _PATH_FORM),
    ("/%zz", _PATH_FORM),
    ("~ ^/x", _PATH_FORM),
    ("= /x", _PATH_FORM),
    ("@n", _PATH_FORM),
    ("/*", _PATH_FORM),
    ("/é", _PATH_FORM),
    ("/" + "a" * 2048, "at most 2048"),
)
PATHS = (*PROBE_PATHS, ("/a?b=c", _PATH_FORM))

HEADER_NAMES = (
    ("", "not a header name"),
    ("X Y", "not a header name"),
    ("X:Y", "not a header name"),
    ("X\r\nY", "U+000D"),
    ("é", "not a header name"),
    ("Host", "write host:"),
    ("host", "write host:"),
    ("Content-Length", "set by the probe"),
    ("Transfer-Encoding", "set by the probe"),
    ("Connection", "set by the probe"),
)
HEADER_VALUES = (
    ("a\r\nB: c", "U+000D"),
    ("\0", "U+0000"),
    ("\x7f", "U+007F"),
    ("$remote_addr", "not a header value"),
    ("${host}", "not a header value"),
    ("a" * 9 * 1024, "not a header value"),
    ("é", "not a header value"),
)

_DURATION = "not a duration"
DURATIONS = (
    ("-5s", _DURATION),
    ("5", _DURATION),
    ("5 m", _DURATION),
    ("1h30", _DURATION),
    ("1h30m", _DURATION),
    ("1e9s", _DURATION),
    ("99999999999999s", _DURATION),
    ("999999999s", "write a duration from"),
    ("5M", _DURATION),
    ("5s;", _DURATION),
    ("1:30", _DURATION),
    (".inf", _DURATION),
    ("{}", _DURATION),
    ("[]", _DURATION),
    ("5ss", _DURATION),
    ("½s", _DURATION),
    ("٣s", _DURATION),
    ("05s", _DURATION),
    ("1_0s", _DURATION),
    ("1.5s", _DURATION),
    ('" 5s"', _DURATION),
    ('"5s\\n"', _DURATION),
    ("true", _DURATION),
    ("~", "no value"),
    ("", "no value"),
    ('""', _DURATION),
)
NOT_ZERO = (("0s", "write a duration from"), ("1ms", "write a duration from"), ("61m", "to 1h"))
LONG_DRAINS = (("61m", "to 1h"), ("2h", "to 1h"))

PORTS = (
    ("0", "not a port"),
    ("65536", "not a port"),
    ("-1", "not a port"),
    ("80-90", "not a port"),
    ("http", "not a port"),
    ('"80"', "not a port"),
    ("080", "not a port"),
    ("0x50", "not a port"),
    ("8_0", "not a port"),
    ("+80", "not a port"),
    ("8e1", "not a port"),
    ("80.0", "not a port"),
    ("٨٠", "not a port"),
    ("true", "not a port"),
    ("[80]", "not a port"),
    ("9" * 5000, "not a port"),
)
LISTENS = (
    ("0", "nothing to listen on"),
    ("65536", "nothing to listen on"),
    ("22", "belongs to ssh"),
    ("2375", "belongs to Docker"),
    ("http", "nothing to listen on"),
    ('"80-90"', "nothing to listen on"),
    ('"080"', "nothing to listen on"),
    ('"localhost:80"', "not an address"),
    ('"::1:80"', "not an address"),
    ('"[::g]:80"', "not an address"),
    ('"256.0.0.1:80"', "not an address"),
    ('"127.1:80"', "not an address"),
    ('"0x7f.1:80"', "not an address"),
    ('"2130706433:80"', "not an address"),
    ('"unix:/run/x.sock"', "nothing to listen on"),
    ('"80 default_server"', "nothing to listen on"),
    ("[80, 80]", "listed twice"),
    ('[80, "0.0.0.0:80"]', "listed twice"),
    ("{a: 1}", "write a port, or a list"),
)
SIZES = (
    ("-1m", "not a size"),
    ("1mm", "not a size"),
    ("10G", "not a size"),
    ("1.5m", "not a size"),
    ("010", "not a size"),
    ("true", "not a size"),
    ("1e3", "not a size"),
    ("65g", "at most 64g"),
    ("[]", "not a size"),
)
COUNTS = (
    ("0", "write a whole number from 1 to 64"),
    ("65", "write a whole number from 1 to 64"),
    ("-1", "write a whole number from 1 to 64"),
    ("1.5", "write a whole number from 1 to 64"),
    ("010", "write a whole number from 1 to 64"),
    ("1_0", "write a whole number from 1 to 64"),
    ("0x10", "write a whole number from 1 to 64"),
    ("1e3", "write a whole number from 1 to 64"),
    (".nan", "write a whole number from 1 to 64"),
    ("yes", "write a whole number from 1 to 64"),
    ("50%", "write a whole number from 1 to 64"),
    ("99999999999", "write a whole number from 1 to 64"),
)

URLS = tuple(
    (url, "give a path such as health: {path: /healthz}")
    for url in (
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.1:22/",
        "http://127.0.0.1:2375/",
        "http://[::1]/",
        "http://0/",
        "2130706433",
        "0x7f.1",
        "127.1",
        "http://user:pw@h/",
        "http://h#@evil/",
        "http://h\\@evil/",
        "file:///etc/passwd",
        "gopher://h/",
        "ftp://h/",
        "unix:/run/x",
        "/healthz",
    )
)
HEALTHS = (
    ('{path: "http://169.254.169.254/"}', _PATH_FORM),
    ('{path: "//evil/"}', _PARTS),
    ("{path: /, port: 99999}", "not a port"),
    ("{path: /, status: 99}", "not a status"),
    ("{path: /, status: 600}", "not a status"),
    ('{path: /, status: "2xx,"}', "not a status"),
    ("{path: /, status: 299-200}", "write 200-299"),
    ("{path: /, status: [200, x]}", "not a status"),
    ("{path: /, status: {a: 1}}", "write a status such as 200"),
    ("{path: /, method: DELETE}", "write GET, HEAD"),
    ("{path: /, scheme: ftp}", "write http or https"),
    ("{path: /, verify: yes}", "write true or false"),
    ('{path: /, host: "*.a.t"}', "a wildcard is not one host"),
    ('{path: /, host: "$host"}', "not a host name"),
    ("{path: /, body: [x]}", "not text"),
    ("{path: /, healthy: 0}", "write a whole number from 1 to 100"),
    ("{path: /, timeout: 60s}", "not below the deadline"),
    ("{path: /, tcp: true}", "path and tcp are written"),
    ("{interval: 1s}", "write one of path, tcp, exec and docker"),
    ("{tcp: false}", "not a port"),
    ("{tcp: true, body: x}", "only a check by path has this"),
    ("{docker: false}", "write true"),
    ("{exec: []}", "the command is empty"),
    ('{exec: "a \'b"}', "cannot be split into words"),
    ("{exec: {a: b}}", "write a list of words"),
    ("{path: /, expect: 200}", "unknown key"),
    (f"{{path: /, headers: {{{_many(65, 'X-{}: x')}}}}}", "at most that many"),
    ("[]", "write a mapping such as {path: /healthz}"),
    ("true", "the word none"),
    ("no", "the word none"),
)

_NO_IMAGES = tuple(
    (image, "not an image")
    for image in (
        "",
        "Shop/Web",
        "a:b:c",
        "-v",
        "--privileged",
        "shop/web@sha256:abcd",
        "img;id",
        "../img",
        "img:$(id)",
        "img:" + "a" * 129,
        "my image",
        "img:",
        "img@",
        "/img",
        "img/",
        "a//b",
        "shop/web:${TAG}",
        "é",
        "a" * 600,
    )
)
IMAGES = (*_NO_IMAGES, ("img\u200b", "U+200B"), ("img\n", "U+000A"))

CONTAINERS = (
    ("privileged: 1", "write true or false"),
    ("pid: private", "write host"),
    ('pid: "service:db"', "would end with the other container"),
    ('ipc: "container:db"', "would end with the other container"),
    ("network_mode: host", "write networks"),
    ("networks: [host]", "networks of its own"),
    ("networks: {back: {aliases: [x]}}", "not carried"),
    ("networks: back", "write a list of networks"),
    ('volumes: ["/:/host"]', "whole file system"),
    ('volumes: ["/var/run/docker.sock:/s"]', "root on the host"),
    ('volumes: ["/run/containerd/containerd.sock:/s"]', "root on the host"),
    ('volumes: ["../../../../../../../../../../../..:/host"]', "whole file system"),
    ('volumes: ["/srv/../etc:/etc"]', "no . or .. parts"),
    ('volumes: ["data:/../etc"]', "no . or .. parts"),
    ('volumes: ["data:data"]', "not a path inside the container"),
    ('volumes: ["data/x:/data"]', "not a Docker name"),
    ('volumes: ["~/x:/data"]', "~ is not replaced"),
    ('volumes: ["data"]', "a volume needs a name or a folder"),
    ('volumes: [":/data"]', "a volume needs a name or a folder"),
    ('volumes: ["data:/data:x"]', "the mode x is not carried"),
    ('volumes: ["data:/data:ro,x"]', "the mode x is not carried"),
    ('volumes: ["a:/data", "b:/data"]', "mounted twice"),
    ('volumes: ["a:/data:ro"], tmpfs: /data', "mounted twice"),
    ('volumes: ["data:/data"]', "two releases would write to"),
    ('volumes: ["./data:/data:z"]', "two releases would write to"),
    ("volumes: [{type: tmpfs, source: x, target: /x}]", "a tmpfs has no source"),
    ("volumes: [{type: npipe, source: x, target: /x}]", "not yet in this version"),
    ("volumes: [{type: bind, target: /x}]", "a bind needs a source"),
    ("volumes: [{type: bind, source: x, target: /x, bind: {create_host_path: false}}]", "make it before"),
    ("volumes: [{type: volume, source: x, target: /x, volume: {subpath: y}}]", "unknown key"),
    ("volumes: [{type: bind, source: /, target: /x}]", "whole file system"),
    ("volumes: data", "write a list"),
    ("cap_add: SYS_ADMIN", "write a list"),
    ('cap_add: ["NET ADMIN"]', "not a capability"),
    ("devices: [/etc/passwd]", "not a device of the host"),
    ('devices: ["/dev/null:/dev/x:rwx"]', "not rights on a device"),
    ("devices: [{source: /dev/null, permissions: x}]", "not rights on a device"),
    ('devices: ["/dev/null:data:r"]', "not a path inside"),
    ('device_cgroup_rules: ["c 1:3"]', "not a rule"),
    ('security_opt: ["systempaths=unconfined"]', "not an option that is carried"),
    ('security_opt: ["seccomp"]', "without a value"),
    ("cpus: 0", "not a number of CPUs"),
    ("cpus: many", "not a number of CPUs"),
    ("cpu_shares: 1", "from 2 to"),
    ("cpu_quota: -1", "write microseconds"),
    ("cpuset: all", "not a set of CPUs"),
    ("mem_limit: 5m", "less than 6m"),
    ("mem_limit: lots", "not a size"),
    ("mem_limit: 5000t", "that a machine can have"),
    ("memswap_limit: 1m", "less than 6m"),
    ("mem_swappiness: 101", "from 0 to 100"),
    ("pids_limit: -2", "from -1 to"),
    ("oom_score_adj: 1001", "from -1000 to 1000"),
    ("oom_kill_disable: maybe", "write true or false"),
    ("shm_size: x", "not a size"),
    ("ulimits: {files: 1}", "not a limit of the kernel"),
    ("ulimits: {nofile: {soft: 1}}", "missing"),
    ("blkio_config: {weight: 1}", "from 10 to 1000"),
    ("blkio_config: {device_read_bps: [{path: sda, rate: 1m}]}", "not a path"),
    ('storage_opt: {"si ze": 1g}', "not an option's name"),
    ("cgroup_parent: 'a b'", "not a cgroup"),
    ("gpus: two", "write all"),
    ("gpus: [{count: 1, device_ids: [a]}]", "keep one of the two"),
    ("gpus: [{count: some}]", "write a whole number"),
    ("group_add: ['a b']", "not a user"),
    ("sysctls: {somaxconn: 1}", "not a kernel parameter"),
    ("sysctls: [net.core.somaxconn]", "write name=value"),
    ("cgroup: shared", "write private or host"),
    ("userns_mode: private", "write host"),
    ("uts: private", "write host"),
    ("runtime: 'a b'", "not a runtime"),
    ("hostname: a_b", "not a host's name"),
    ("domainname: a_b", "not a host's name"),
    ("dns: localhost", "not an address"),
    ("dns: [10.0.0.300]", "not an address"),
    ("dns_opt: [NDOTS]", "not an option of the resolver"),
    ("dns_search: [a_b]", "not a host's name"),
    ("extra_hosts: [db]", "write host:address"),
    ("extra_hosts: {db: somewhere}", "not an address"),
    ("tmpfs: run", "not a path inside"),
    ("tmpfs: '/run:size=lots'", "not a size"),
    ("tmpfs: '/run:mode=9'", "not a mode"),
    ("tmpfs: '/run:a b'", "not an option of tmpfs"),
    ("secrets: [db]", "write where it comes from"),
    ("secrets: ['text:x']", "a text has no name"),
    ("secrets: ['env:1A']", "not a variable's name"),
    ("secrets: ['file:none']", "there is no file"),
    ("secrets: [{source: 'env:A', target: ../x}]", "no . or .. parts"),
    ("secrets: [{source: 'env:A', target: x, mode: 9}]", "not a mode"),
    ("secrets: [{source: 'file:proxyctl.yml', target: x, uid: 1}]", "mounted as it is"),
    ("configs: [{source: 'text:x', target: /x}], read_only: true", "nothing can be copied"),
    ("configs: [{source: 'text:x', target: /x}, {source: 'env:A', target: x}]", "mounted twice"),
    ("logging: {driver: 'a b'}", "not a driver's name"),
    ("logging: json-file", "write a mapping"),
    ("annotations: {'a b': c}", "not a label"),
    ("pull_policy: build", "nothing is built here"),
    ("pull_policy: daily", "write always, missing or never"),
    ("platform: linux amd64", "not a platform"),
    ("tty: 1", "write true or false"),
    ("post_start: [{user: root}]", "missing"),
    ("post_start: ['true']", "write a mapping"),
    ("pre_stop: [{command: x, working_dir: x}]", "not a path inside"),
    ("pre_stop: [{command: x, environment: {1A: x}}]", "not a variable's name"),
    ("deploy: {replicas: 2}", "write replicas beside container"),
    ("deploy: {mode: global}", "for the nodes of a swarm"),
    ("deploy: {resources: {limits: {gpus: 1}}}", "unknown key"),
    ("deploy: {restart_policy: {condition: never}}", "write none, on-failure or any"),
    ("links: [db]", "write networks"),
    ("volumes_from: [db]", "write the volumes themselves"),
    ("extends: base", "docker compose config"),
    ("credential_spec: {file: x}", "for Windows"),
    ("build: .", "build the image before"),
    ("container_name: x", "named by proxyctl"),
    ('ports: ["80:80"]', "write port beside container"),
    ("imgae: x", 'did you mean "image"?'),
    ('environment: {"A=B": x}', "not a variable's name"),
    ('environment: {"1A": x}', "not a variable's name"),
    ('environment: ["=x"]', "not a variable's name"),
    ("env_file: [{path: none.env}]", "cannot be read"),
    ("env_file: [{path: none.env, format: raw}]", "unknown key"),
    ("environment: [A=1, A=2]", "written twice"),
    ('environment: {A: "x\\0"}', "U+0000"),
    ("environment: {A: yes}", "in double quotes"),
    ("environment: {A: true}", "in double quotes"),
    ("environment: {A: 010}", "in double quotes"),
    ("environment: {A: 1:30}", "in double quotes"),
    ("environment: {A: 1.10}", "in double quotes"),
    ("environment: {A: 2024-01-02}", "in double quotes"),
    ("environment: {A: 1e3}", "in double quotes"),
    ("environment: {A: .nan}", "in double quotes"),
    ("environment: {A: [x]}", "in double quotes"),
    ('environment: {A: "env:"}', "env: names a variable"),
    ('environment: {A: "file:"}', "file: names a file"),
    ("environment: x", "write a mapping"),
    (f"environment: {{A: {'x' * 40_000}}}", "longer than 32 Ki"),
    ("env_file: nowhere.env", "No such file"),
    ("env_file: /dev/zero", "not a regular file"),
    ("env_file: /proc", "not a regular file"),
    ("labels: {proxyctl.project: x}", "are ours"),
    ('labels: ["proxyctl=x"]', "are ours"),
    ('labels: {"a b": x}', "not a label"),
    (f"labels: {{{_many(10_001, 'l{}: x')}}}", "at most that many"),
    ("command: [sleep, yes]", "in double quotes"),
    ('command: "sh -c \'x"', "cannot be split into words"),
    ("command: {a: b}", "write a list of words"),
    ("user: root;id", "not a user"),
    ("working_dir: app", "not a path inside the container"),
    ("stop_signal: kill", "not a signal"),
    ("stop_grace_period: 10", "not a duration"),
    ("stop_grace_period: 25h", "at most 24h"),
    ("init: yes", "write true or false"),
    ("restart: never", "unless-stopped"),
    ("restart: false", "not text"),
    ("healthcheck: {tset: x}", 'did you mean "test"?'),
    ("healthcheck: {retries: 0}", "write a whole number"),
    ("healthcheck: x", "write a mapping"),
)


def _bomb() -> str:
    """A few hundred bytes that would be 10^9 leaves."""
    lines = ["a: &a0 [x]"] + [f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "\n".join(lines)


def _merge_bomb() -> str:
    lines = ["x: &a0 {k0: 1}"]
    for n in range(1, 10):
        lines.append(f"y{n}: &a{n} {{k{n}: 1, <<: [{', '.join([f'*a{n - 1}'] * 10)}]}}")
    return "\n".join(lines)


_RIGHT = _WEB
_EDGE = _ROUTED + "    health: none\n    %s\n"
FILES: tuple[tuple[str | bytes, str], ...] = (
    (_bomb(), "more than 100 alias expansions"),
    (_merge_bomb(), "more than 100 alias expansions"),
    (f"x: &a {{{_many(20_000, 'k{}: ')}}}\ny: [{_many(99, '*a')}]\n", "more than 200000 values"),
    (_RIGHT + "volumes: {data: }\n", "volumes: unknown key"),
    ("a: " + "[" * 5000, "levels of nesting"),
    ("a: " + "{a: " * 5000, "levels of nesting"),
    ("a: &a [*a]", "no anchor that is complete"),
    ("a: *nowhere", "no anchor that is complete"),
    (_RIGHT + "project: shop2\n", "written twice, first at line 1"),
    (_RIGHT + "    health: none\n", "written twice, first at line 5"),
    (_RIGHT + "---\nproject: shop2\n", "a second document"),
    (_RIGHT + "...\nproject: shop2\n", "not YAML"),
    ("project: !!python/object/apply:os.system [id]\n", "YAML tag"),
    ("project: !!str shop\n", "YAML tag"),
    ("!x\nproject: shop\n", "YAML tag"),
    (_RIGHT.replace("health", "helath"), 'did you mean "health"?'),
    ("project: shop\nservcies: {}\n", 'did you mean "services"?'),
    ("project: shop\n\tservices: {}\n", "not YAML"),
    (_RIGHT.encode("utf-16"), "UTF-16"),
    (_RIGHT.encode("utf-16-be"), "U+0000"),
    (b"\xef\xbb\xbf" + _RIGHT.encode(), "byte order mark"),
    ("project: shop\0\n", "U+0000"),
    ("project: shop\a\n", "U+0007"),
    ("project: shop\x1b[2J\n", "U+001B"),
    ("# " + "x" * 300 * 1024, "larger than 256 KiB"),
    ("", "the file is empty"),
    ("# nothing\n", "the file is empty"),
    ("~", "the file is empty"),
    ("- project: shop\n", "not a mapping"),
    ("shop\n", "not a mapping"),
    ("1: x\n", "as a key is not text"),
    ("yes: x\n", "as a key is not text"),
    ("? [a]\n: x\n", "as a key is not text"),
    ("? {a: b}\n: x\n", "as a key is not text"),
    ("~: x\n", "as a key is not text"),
    ("<<: 5\nproject: shop\n", "takes a mapping"),
    ("<<: [5]\nproject: shop\n", "takes a mapping"),
    (b"project: sh\xffop\n", "byte 0xff is not UTF-8"),
    (b"project: sh\xed\xa0\x80op\n", "is not UTF-8"),
    ("%YAML 9\n---\nproject: shop\n", "not YAML"),
    ("project: 'shop\n", "not YAML"),
    ("project: [shop\n", "not YAML"),
    ("project: shop: x\n", "not YAML"),
    ("project: 2024-01-02\n" + _WHOLE.removesuffix("project: shop\n"), "in double quotes"),
    ("project: no\n" + _WHOLE.removesuffix("project: shop\n"), "in double quotes"),
    ("project: 12\n" + _WHOLE.removesuffix("project: shop\n"), "not a name"),
    ("project:\n" + _WHOLE.removesuffix("project: shop\n"), "no value"),
    ("project: [shop]\n" + _WHOLE.removesuffix("project: shop\n"), "not text"),
    (_WHOLE.removesuffix("project: shop\n"), "project: missing"),
    ("project: shop\n", "services: missing"),
    ("project: shop\nservices: {}\n", "services: missing"),
    ("project: shop\nservices:\n", "no value"),
    ("project: shop\nservices: []\n", "write a mapping"),
    ("project: shop\nservices: {web: }\n", "no value"),
    ("project: shop\nservices: {web: x}\n", "write a mapping"),
    (_RIGHT + "proxy: x\n", "write a mapping"),
    (_RIGHT + "proxy: {mode: container}\n", "not yet in this version; write process"),
    (_RIGHT + "proxy: {mode: include}\n", "not yet in this version; write process"),
    (_RIGHT + "proxy: {mode: host}\n", "write process"),
    (_RIGHT + "proxy: {cutover: reload}\n", "not yet in this version; write live"),
    (_RIGHT + "proxy: {https: 0}\n", "nothing to listen on"),
    (_RIGHT + "accessories: {}\n", "not yet in this version"),
    (_RIGHT + "    strategy: canary\n", "not yet in this version; write blue-green"),
    (_RIGHT + "    strategy: rolling\n", "not yet in this version; write blue-green"),
    (_RIGHT + "    strategy: recreate\n", "not yet in this version; write blue-green"),
    (_RIGHT + "    strategy: bluegreen\n", "write blue-green"),
    (_RIGHT + "    protocol: h2\n", "write http or grpc"),
    (_RIGHT + "    protocol: grpc\n", "only a routed service has this"),
    (_EDGE % "protocol: grpc", "grpc clients need HTTP/2"),
    (_EDGE % "tls: x", "write a mapping"),
    (_EDGE % "tls: {cert: file:c.pem}", "tls.key: missing"),
    (_EDGE % "tls: {cert: c.pem, key: file:k.pem}", "write where it is, such as file:cert.pem"),
    (_EDGE % "tls: {cert: env:CERT, key: file:k.pem}", "write where it is, such as file:cert.pem"),
    (_EDGE % "tls: {cert: 'file:', key: file:k.pem}", "not a file's path"),
    (_EDGE % "tls: {cert: file:c.pem, key: file:k.pem, hsts: 1y}", "not a duration"),
    (_EDGE % "tls: {cert: file:c.pem, key: file:k.pem, hsts: 99999h}", "write a duration from"),
    (_EDGE % "strip_path: true", "there is no path to take away"),
    (_EDGE % "aliases: [www.a.t]", "there is no host to send them to"),
    (_EDGE % "hosts: ['*.a.t']\n    aliases: [www.b.t]", "is not one host"),
    (_EDGE % "hosts: [a.t]\n    aliases: ['*.b.t']", "a wildcard is not one host"),
    (_EDGE % "hosts: [a.t]\n    aliases: [A.t]", "listed twice"),
    (_EDGE % "response_headers: {X-A: $b}", "not a header value"),
    (_EDGE % 'response_headers: {X-A: "a\\nb"}', "U+000A, which is not taken here"),
    (_EDGE % "response_headers: {Server: b}", "is set by nginx itself"),
    (_EDGE % "tls: {cert: file:c.pem, key: file:k.pem}" + "proxy: {http: 443}\n", "listed twice"),
    (_RIGHT + "proxy: {trusted: [10.0.0.1/8]}\n", "not a network"),
    (_RIGHT + "proxy: {trusted: [all]}\n", "not a network"),
    (_RIGHT + "proxy: {trusted: 10.0.0.0/8}\n", "write a list"),
    (_RIGHT + "proxy: {access_log: true}\n", "write on or off"),
    (_RIGHT + "proxy: {workers: 0}\n", "write a whole number from 1 to 512"),
    (_RIGHT + "proxy: {user: root;x}\n", "not a user"),
    (_RIGHT + "proxy: {binary: -x}\n", "not a program"),
    (_RIGHT + "proxy: {timeouts: {client_header: 0s}}\n", "write a duration from"),
    (_RIGHT + "compose: nowhere.yml\n", "No such file"),
    (_RIGHT + "compose: /\n", "not a regular file"),
)

_TWO = _HEAD + "".join(
    f"  {name}: {{container: {{image: x}}, port: 80, health: none, %s}}\n" for name in ("one", "two")
)
CONTRADICTIONS = (
    (_TWO % ("hosts: [a.t]", "hosts: [a.t]"), "is taken by service one at line 3"),
    (_TWO % ("hosts: [a.t]", "hosts: [A.T]"), "is taken by service one at line 3"),
    (_TWO % ("hosts: [bücher.t]", "hosts: [xn--bcher-kva.t]"), "is taken by service one at line 3"),
    (_TWO % ("hosts: [a.t], path: /x", "hosts: [a.t], path: /x/"), "is taken by service one at line 3"),
    (_TWO % ("path: /", "path: /"), "every host with path"),
    (_TWO % ("hosts: [a.t]", "hosts: [b.t], aliases: [a.t]"), "is a host of service one"),
    (_TWO % ("hosts: [a.t], aliases: [c.t]", "hosts: [b.t], aliases: [c.t]"), "is a host of service one"),
    (
        _TWO
        % (
            "hosts: [a.t], tls: {cert: file:a, key: file:a}",
            "hosts: [a.t], path: /x, tls: {cert: file:b, key: file:b}",
        ),
        "has the certificate of service one",
    ),
    (_ROUTED + "    health: none\n    hosts: [a.t, A.t]\n", "listed twice"),
    (_ROUTED + "    health: none\n    hosts: []\n", "the list is empty"),
    (_ROUTED + "    health: none\n    hosts: a.t\n", "write a list"),
    (f"{_ROUTED}    health: none\n    hosts: [{_many(65, 'h{}.t')}]\n", "at most that many"),
    (_WEB + "    hosts: [a.t]\n", "only a routed service has this"),
    (_WEB + "    path: /x\n", "only a routed service has this"),
    (_ROUTED, "no health check"),
    (_HEAD + "  web: {container: {image: x}}\n", "no health check"),
    (_HEAD + "  web: {container: {image: x}, health: {path: /}}\n", "needs a port"),
    (_HEAD + "  web: {container: {image: x}, health: {tcp: true}}\n", "needs a port"),
    (_HEAD + "  web: {health: none}\n", "container.image: missing"),
    (_HEAD + "  web: {health: none, container: {image: redis}}\n", "leave it to Compose, or write allow: [database]"),
    (_HEAD + "  web: {health: none, container: {image: quay.io/x/postgres:16}}\n", "two releases of"),
    (_WEB + "    allow: [everything]\n", "write shared-volumes, database or swarm"),
    (_WEB + "    allow: database\n", "write a list"),
    (_ROUTED + "    health: {path: /}\n    readiness_delay: 5s\n", "keep one of the two"),
    (_WEB + "    sticky: header\n", "write none, cookie or ip"),
    (_WEB + "    balance: ip_hash\n", "write least_conn or round_robin"),
    (_HEAD + "".join(f"  s{n}x: {{health: none}}\n" for n in range(5001)), "at most that many"),
)
