"""What a template could write and nginx must never get: each refused by name, with the line that wrote it."""

from __future__ import annotations

import pytest

from proxyctl.adapters.nginx.configuration import ConfigurationRefused, configuration
from proxyctl.adapters.nginx.control import own_address
from proxyctl.adapters.nginx.readback.refusals import refusals
from proxyctl.adapters.nginx.rendering.render import render, templates_folder
from proxyctl.adapters.places import Places
from proxyctl.domain.model import Topology
from tests.golden.test_golden import CASES, KNOWN, SHARES, STATE, a_route, a_topology

PLACES = Places(STATE)
OURS = templates_folder()
SHOP = CASES["hosts-and-paths"]


def text_of(topology: Topology, name: str = "") -> str:
    return render(topology, 7, PLACES, KNOWN.get(name, frozenset()), own_address(PLACES), SHARES)


def said(text: str, topology: Topology = SHOP) -> list[str]:
    found = refusals(text, topology, 7, PLACES, own_address(PLACES), SHARES)
    return [f"{refusal.line}: {refusal}" for refusal in found]


@pytest.mark.parametrize("name", CASES)
def test_our_own_configurations_are_taken(name: str) -> None:
    assert said(text_of(CASES[name], name), CASES[name]) == []


IN_LOCATION, IN_SERVER, IN_HTTP, AT_TOP = (
    "            client_max_body_size 0;",
    "        server_name shop.example.com;",
    "    server_tokens off;",
    "worker_processes auto;",
)
HOSTILE = {
    "load_module /tmp/evil.so;": (AT_TOP, "load_module"),
    "ssl_engine pkcs11;": (AT_TOP, "ssl_engine"),
    "env LD_PRELOAD;": (AT_TOP, "env"),
    "user root;": (AT_TOP, "user"),
    "daemon off;": (AT_TOP, "daemon"),
    "include /etc/passwd;": (AT_TOP, "include"),
    "stream { server { listen 22; proxy_pass 127.0.0.1:22; } }": (AT_TOP, "stream"),
    "pid /etc/cron.d/x;": (AT_TOP, "pid"),
    "error_log /etc/cron.d/x warn;": (AT_TOP, "error_log"),
    '"load_module" /tmp/evil.so;': (AT_TOP, '"load_module"'),
    "include /etc/nginx/conf.d/*.conf;": (IN_HTTP, "include"),
    "perl_require /tmp/evil.pm;": (IN_HTTP, "perl_require"),
    "js_import /tmp/evil.js;": (IN_HTTP, "js_import"),
    "init_by_lua 'os.execute(1)';": (IN_HTTP, "init_by_lua"),
    "lua_package_path /tmp;": (IN_HTTP, "lua_package_path"),
    "map $host $a { include /etc/passwd; }": (IN_HTTP, "include"),
    "geo $a { 'include' /etc/passwd; }": (IN_HTTP, "include"),
    "proxy_cache_path /tmp/c keys_zone=c:1m;": (IN_HTTP, "proxy_cache_path"),
    "proxy_temp_path /etc;": (IN_HTTP, "proxy_temp_path"),
    "upstream empty { least_conn; }": (IN_HTTP, "upstream"),
    "upstream gone { server 10.0.0.1:80 down; }": (IN_HTTP, "upstream"),
    "upstream named { server evil.example.com; }": (IN_HTTP, "server"),
    "server { listen 127.0.0.1:2375; }": (IN_HTTP, "listen"),
    "server { server_name a.example.com; return 204; }": (IN_HTTP, "server"),
    f"server {{ listen unix:{PLACES.control_socket}; server_name x; }}": (IN_HTTP, "server"),
    "limit_req zone=a;": (IN_HTTP, "limit_req"),
    "deny all;": (IN_HTTP, "deny"),
    "listen 0.0.0.0:22;": (IN_SERVER, "listen"),
    "ssl_certificate_key /etc/shadow;": (IN_SERVER, "ssl_certificate_key"),
    "root /;": (IN_LOCATION, "root"),
    "alias /etc/;": (IN_LOCATION, "alias"),
    "try_files /etc/passwd =404;": (IN_LOCATION, "try_files"),
    "error_log /tmp/x;": (IN_LOCATION, "error_log"),
    "access_log /etc/cron.d/x px_web;": (IN_LOCATION, "access_log"),
    "open_file_cache max=1000;": (IN_LOCATION, "open_file_cache"),
    "content_by_lua_block { os.execute('id') }": (IN_LOCATION, "content_by_lua_block"),
    "perl 'sub { 1 }';": (IN_LOCATION, "perl"),
    "js_content evil;": (IN_LOCATION, "js_content"),
    "proxy_pass http://10.0.0.1:80;": (IN_LOCATION, "proxy_pass"),
    "proxy_pass http://undeclared;": (IN_LOCATION, "proxy_pass"),
    "proxy_pass http://$arg_to;": (IN_LOCATION, "proxy_pass"),
    "proxy_pass https://px_shop_web_blue;": (IN_LOCATION, "proxy_pass"),
    "fastcgi_pass 127.0.0.1:9000;": (IN_LOCATION, "fastcgi_pass"),
    "proxy_store /etc/cron.d/x;": (IN_LOCATION, "proxy_store"),
}


@pytest.mark.parametrize("statement", HOSTILE)
def test_what_brings_in_code_files_or_strangers_is_refused(statement: str) -> None:
    after, directive = HOSTILE[statement]
    text = text_of(SHOP)
    assert after in text
    line = text[: text.index(after)].count("\n") + 2
    refused = said(text.replace(after, f"{after}\n{statement}", 1))
    assert [words for words in refused if words.startswith(f"{line}: {directive}: ")], refused


@pytest.mark.parametrize(
    "statement",
    [
        "gzip on; gzip_types text/css application/json;",
        "add_header X-Frame-Options DENY always;",
        "limit_req_zone $remote_addr zone=a:1m rate=10r/s;",
        "map $host $a { hostnames; default 1; *.example.com 2; }",
        "upstream sidecar { server 127.0.0.1:9000; }",
        "server { listen 127.0.0.1:18080; server_name other.example.com; location / { stub_status; } }",
    ],
)
def test_what_shapes_requests_and_answers_is_taken(statement: str) -> None:
    assert said(text_of(SHOP).replace(IN_HTTP, f"{IN_HTTP}\n{statement}")) == []


WHOLE = text_of(SHOP)
MISSING = {
    "a control server that answers": (
        WHOLE.replace("server_name control;", "deny all;"),
        "deny: not taken in the control",
    ),
    "an empty output": ("\n", "the templates wrote nothing"),
    "the generation": (
        WHOLE.replace('return 200 "7 $pid $nginx_version\\n"', 'return 200 "8 $pid $nginx_version\\n"'),
        r"`return 200 7 $pid $nginx_version\n`",
    ),
    "the generation as it is renumbered": (
        WHOLE.replace('return 200 "7 $pid $nginx_version\\n"', "return 200 '7 $pid\\n'"),
        'the generation is written `return 200 "{{ number }} $pid $nginx_version\\n";`',
    ),
    "a question": (
        WHOLE.replace("current/all.green) { return 200 green; }", "x) { return 200 blue; }"),
        "return 200 green",
    ),
    "a prober's way": (WHOLE.replace("location /upstream/web/blue/", "location /elsewhere/"), "px_shop_web_blue/"),
    "a way to a pool": (
        WHOLE.replace("px_shop_web_blue_cover; break", "px_shop_web_blue; break"),
        "px_shop_web_blue_cover",
    ),
    "a replica": (WHOLE.replace("server 172.30.0.2:8000 max_fails=5 fail_timeout=1s;", ""), "has other servers than"),
    "all replicas": (WHOLE.replace("=1s;", "=1s down;").replace(" backup;", " backup down;"), "no server that is up"),
    "the pid file": (WHOLE.replace(f"pid {PLACES.pid_file};", ""), "pid: it is missing"),
    "an end": (WHOLE.rstrip().removesuffix("}"), "this block is never closed"),
    "a beginning": (WHOLE + "}", "this } closes nothing"),
    "a quote": (WHOLE.replace('"" "";', '"" ";'), "nginx cannot read on"),
}


@pytest.mark.parametrize("what", MISSING)
def test_what_proxyctl_relies_on_must_be_there(what: str) -> None:
    text, why = MISSING[what]
    refused = said(text)
    assert why in " ".join(refused), refused


def test_a_host_has_one_server_per_address() -> None:
    again = "server { listen 127.0.0.1:18080; server_name shop.example.com; }"
    [refused] = said(text_of(SHOP).replace(IN_HTTP, f"{IN_HTTP}\n{again}"))
    assert "another server of this address is called 'shop.example.com'" in refused


def test_a_comment_cannot_end_in_a_directive() -> None:
    refused = said(WHOLE.replace("# HTTP/1.0", "# HTTP/1.0\n    load_module x;\n    #"))
    assert len(refused) == 1 and "load_module" in refused[0]


def test_one_bad_line_in_a_loop_does_not_flood() -> None:
    many = a_topology(*(a_route(f"s{number:03d}", hosts=(f"s{number}.example.com",)) for number in range(100)))
    text = text_of(many).replace("return 418;", "root /; return 418;")
    assert len(said(text, many)) == 20


async def test_a_refusal_names_the_line_of_the_template() -> None:
    wrong = a_topology(a_route(blue=("replica.example.com:80",)))
    with pytest.raises(ConfigurationRefused) as refused:
        await configuration(wrong, 7, PLACES, frozenset(), own_address(PLACES))
    line = OURS.joinpath("service.conf.j2").read_text().splitlines().index("{% for address in upstream.servers %}") + 2
    assert refused.value.refusals[0].startswith(f"service.conf.j2:{line}: server: replica.example.com:80 is no address")


@pytest.mark.parametrize(
    ("ours", "theirs", "why"),
    [
        ("weight=19", "weight=20", "px_shop_web_dealt has other weights than 172.30.0.2:8000 weight=19, "),
        (" weight=2 ", " ", "px_shop_web_dealt has other weights than"),
        ("return 200 green-00500-cover;", "return 200 green-10000;", "does not say `return 200 green-00500-cover`"),
        (
            "proxy_pass http://px_shop_web_dealt",
            "proxy_pass http://px_shop_web_blue",
            "no request can reach px_shop_web",
        ),
    ],
)
def test_a_template_deals_as_the_split_says(ours: str, theirs: str, why: str) -> None:
    text = text_of(CASES["reload"], "reload")
    assert ours in text
    assert why in "".join(said(text.replace(ours, theirs), CASES["reload"]))
