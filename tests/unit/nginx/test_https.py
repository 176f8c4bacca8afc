"""HTTPS by a real nginx: certificates by host, redirects, renewals, gRPC; a bad certificate hinders nobody else."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from ssl import TLSVersion

import grpc
import pytest

from proxyctl.adapters.raw_prober import RawProber
from proxyctl.domain.model import Apart, HealthCheck, HealthKind, Protocol, ServiceName, Tls, Topology
from proxyctl.errors import PublishRefused
from tests.certificates import NOW, a_pair
from tests.nginx_bed import BLUE, DEBIAN, MAINLINE, WEB, Answer, Bed, Client, a_bed, all_to, free_port

pytestmark = pytest.mark.nginx
SHOP, OTHER = "shop.example.com", "other.example.com"


class Secure:
    """A bed that listens for HTTPS too."""

    def __init__(self, bed: Bed, folder: Path) -> None:
        self.bed = bed
        self.port = free_port()
        self.tls = a_pair(folder, "shop", SHOP, f"www.{SHOP}")
        bed.settings = bed.settings.replace(https=(f"127.0.0.1:{self.port}",))

    def topology(self, **changes: object) -> Topology:
        return self.bed.topology(self.bed.route(hosts=(SHOP,), tls=self.tls, **changes))

    async def publish(self, **changes: object) -> int:
        return await self.bed.publish(self.topology(**changes))

    async def get(self, host: str = SHOP, path: str = "/", trusted: str | None = None) -> Answer:
        """Over TLS, naming the host, on a connection that trusts this certificate; shop's when none is named."""
        context = ssl.create_default_context(cafile=trusted or self.tls.cert)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname=host)
        client = Client(reader, writer)
        answer = await client.ask("GET", path, {"Host": host})
        client.close()
        return answer


@pytest.fixture(params=[DEBIAN, MAINLINE], ids=["debian", "mainline"])
async def secure(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Secure]:
    async with a_bed(request.param) as bed:
        await bed.serve_both()
        secure = Secure(bed, tmp_path)
        await bed.publish(bed.topology())
        await bed.splits.move(WEB, all_to(BLUE))
        yield secure


async def test_a_host_with_a_certificate_is_served_by_https(secure: Secure) -> None:
    await secure.publish()
    assert (await secure.get()).text == "blue"
    assert b'"x-forwarded-proto": "https"' in (await secure.get(path="/seen")).body


async def test_plain_http_is_sent_to_https_with_the_whole_address(secure: Secure) -> None:
    await secure.publish()
    answer = await secure.bed.get("/a%2Fb?c=d", Host=SHOP)
    assert answer.status == 308
    assert answer.headers["location"] == f"https://{SHOP}:{secure.port}/a%2Fb?c=d"


async def test_plain_http_may_be_served_too_and_browsers_told_to_keep_to_https(secure: Secure) -> None:
    secure.tls = secure.tls.replace(redirect=False, hsts=3600.0)
    await secure.publish()
    assert (await secure.bed.get(Host=SHOP)).text == "blue"
    assert (await secure.get()).headers["strict-transport-security"] == "max-age=3600"


async def test_an_alias_is_sent_to_the_first_host(secure: Secure) -> None:
    await secure.publish(aliases=(f"www.{SHOP}",))
    for answer in (await secure.get(f"www.{SHOP}", "/x?y"), await secure.bed.get("/x?y", Host=f"www.{SHOP}")):
        assert (answer.status, answer.headers["location"]) == (308, f"https://{SHOP}:{secure.port}/x?y")


async def test_each_host_has_its_own_certificate_and_a_stranger_has_none(secure: Secure, tmp_path: Path) -> None:
    other = a_pair(tmp_path, "other", OTHER)
    routes = [
        secure.bed.route(service=ServiceName("other"), hosts=(OTHER,), tls=other),
        secure.bed.route(hosts=(SHOP,), tls=secure.tls),
    ]
    await secure.bed.publish(secure.bed.topology(*routes))
    await secure.bed.splits.move(ServiceName("other"), all_to(BLUE))
    assert (await secure.get(OTHER, trusted=other.cert)).text == "blue"
    assert (await secure.get(SHOP)).text == "blue"
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        await secure.get("stranger.example.com")


async def test_browsers_are_offered_http2(secure: Secure) -> None:
    await secure.publish()
    context = ssl.create_default_context(cafile=secure.tls.cert)
    context.set_alpn_protocols(["h2", "http/1.1"])
    _, writer = await asyncio.open_connection("127.0.0.1", secure.port, ssl=context, server_hostname=SHOP)
    connection = writer.get_extra_info("ssl_object")
    assert (connection.selected_alpn_protocol(), connection.version()) == ("h2", "TLSv1.3")
    writer.close()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_a_client_that_knows_no_tls_newer_than_1_1_is_refused(secure: Secure) -> None:
    await secure.publish()
    lenient = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=that_takes_everything(secure.tls))
    async with lenient:
        assert await spoken(lenient.sockets[0].getsockname()[1], TLSVersion.TLSv1_1) == "TLSv1.1", "the client can"
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        await spoken(secure.port, TLSVersion.TLSv1_1)
    assert await spoken(secure.port, TLSVersion.TLSv1_2) == "TLSv1.2"
    assert await spoken(secure.port, TLSVersion.TLSv1_3) == "TLSv1.3"


def that_takes_everything(tls: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.cert, tls.key)
    context.minimum_version = TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    return context


async def spoken(port: int, version: TLSVersion) -> str:
    """What a client of this version, and no other, comes to speak."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=SHOP)
    version_spoken: str = writer.get_extra_info("ssl_object").version()
    writer.transport.abort()
    return version_spoken


# --- renewals and refusals ---------------------------------------------------------------------------------------


async def test_a_renewed_certificate_is_in_force_after_a_reload_and_its_end_known(
    secure: Secure, tmp_path: Path
) -> None:
    assert await secure.publish() == 2
    assert await secure.publish() == 2
    secure.tls = a_pair(tmp_path, "shop", SHOP, ends=timedelta(days=7))
    assert await secure.bed.proxy.reload(secure.bed.claim) == 3
    assert (await secure.get()).text == "blue"
    ends = (await secure.bed.proxy.status()).certificates[WEB]
    assert abs(ends - (NOW + timedelta(days=7)).timestamp()) < 2


async def test_a_renewal_that_is_not_sound_is_named_and_the_last_one_serves_on(secure: Secure) -> None:
    assert await secure.publish() == 2
    sound = Path(secure.tls.key).read_text()
    Path(secure.tls.key).write_text("half a ke")
    with pytest.raises(PublishRefused, match=str(secure.tls.key)) as refusal:
        await secure.bed.proxy.reload(secure.bed.claim)
    assert "generation 2" in refusal.value.serving
    assert (await secure.get()).text == "blue"
    Path(secure.tls.key).write_text(sound)
    assert await secure.bed.proxy.reload(secure.bed.claim) == 2


async def test_a_certificate_that_went_bad_hinders_no_other_service(secure: Secure, tmp_path: Path) -> None:
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(Path(secure.tls.cert).read_bytes())
    await secure.publish()
    a_pair(tmp_path, "shop", SHOP, ends=timedelta(seconds=-1))
    assert await secure.publish(path="/later/") == 3
    await secure.bed.splits.move(WEB, all_to(BLUE))
    assert (await secure.get(path="/later/", trusted=str(trusted))).text == "blue"
    assert "expired on" in (await secure.bed.proxy.check(secure.topology()))[0]


def expired(folder: Path) -> Tls:
    return a_pair(folder, "bad", SHOP, ends=timedelta(minutes=-1))


def of_the_future(folder: Path) -> Tls:
    return a_pair(folder, "bad", SHOP, begins=timedelta(days=1))


def of_another_host(folder: Path) -> Tls:
    return a_pair(folder, "bad", OTHER)


def with_another_key(folder: Path) -> Tls:
    return a_pair(folder, "bad", SHOP).replace(key=a_pair(folder, "another", SHOP).key)


def with_a_passphrase(folder: Path) -> Tls:
    return a_pair(folder, "bad", SHOP, passphrase=b"secret")


def of_nothing(folder: Path) -> Tls:
    return Tls(cert=str(folder / "bad.crt"), key=str(folder / "bad.key"))


def of_no_pem(folder: Path) -> Tls:
    (folder / "bad.crt").write_text("-----BEGIN NOTHING-----\n")
    return a_pair(folder, "another", SHOP).replace(cert=str(folder / "bad.crt"))


def in_disorder(folder: Path) -> Tls:
    made, stranger = a_pair(folder, "bad", SHOP), a_pair(folder, "another", SHOP)
    Path(made.cert).write_bytes(Path(made.cert).read_bytes() + Path(stranger.cert).read_bytes())
    return made


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (expired, "bad.crt expired on"),
        (of_the_future, "bad.crt is not valid before"),
        (of_another_host, f"bad.crt is not for {SHOP} but for {OTHER}"),
        (with_another_key, "another.key is not the key of"),
        (with_a_passphrase, "bad.key is encrypted"),
        (of_nothing, "bad.crt cannot be read: no such file"),
        (of_no_pem, "bad.crt holds no certificate in PEM"),
        (in_disorder, "certificate 2 in"),
    ],
)
async def test_a_certificate_that_clients_would_refuse_is_refused_before_anything_changes(
    secure: Secure, tmp_path: Path, made: object, words: str
) -> None:
    secure.tls = made(tmp_path)  # type: ignore[operator]
    with pytest.raises(PublishRefused, match=words):
        await secure.publish()
    assert (await secure.bed.get()).text == "blue"
    assert secure.bed.proxy.topology() == secure.bed.topology()


async def test_a_key_is_read_by_nobody_but_its_owner(secure: Secure) -> None:
    await secure.publish()
    modes = {path.name: path.stat().st_mode & 0o777 for path in (secure.bed.places.current / "tls").iterdir()}
    assert modes == {"web.crt": 0o444, "web.key": 0o400}


# --- what replicas speak, and how they are asked -----------------------------------------------------------------


async def test_a_call_reaches_a_grpc_service_through_https(secure: Secure) -> None:
    async def say(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return b"blue heard " + request

    server = grpc.aio.server()
    handler = grpc.method_handlers_generic_handler("shop.Shop", {"Say": grpc.unary_unary_rpc_method_handler(say)})
    server.add_generic_rpc_handlers((handler,))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    await secure.publish(protocol=Protocol.GRPC, blue=(address,))
    await secure.bed.splits.move(WEB, all_to(BLUE))
    credentials = grpc.ssl_channel_credentials(Path(secure.tls.cert).read_bytes())
    options = [("grpc.ssl_target_name_override", SHOP)]
    async with grpc.aio.secure_channel(f"127.0.0.1:{secure.port}", credentials, options) as channel:
        say_to: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/shop.Shop/Say")
        assert await say_to(b"a call") == b"blue heard a call"
    await server.stop(None)


async def test_a_release_that_speaks_http_is_asked_so_beside_one_that_speaks_grpc(secure: Secure) -> None:
    apart = Apart(colour=BLUE, tls=None, protocol=Protocol.HTTP)
    await secure.publish(protocol=Protocol.GRPC, apart=apart)
    for split in (all_to(BLUE), all_to(BLUE, cover=True)):
        await secure.bed.splits.move(WEB, split)
        assert (await secure.get()).text == "blue"
    route = secure.topology(protocol=Protocol.GRPC, apart=apart).routes[0]
    assert (await RawProber().probe(secure.bed.proxy.endpoint(route, BLUE), HealthCheck(kind=HealthKind.HTTP))).passed


@pytest.mark.parametrize(
    ("path", "asked", "seen"),
    [
        ("/api", "/api", "/"),
        ("/api", "/api/", "/"),
        ("/api", "/api/seen?x=1", "/seen?x=1"),
        ("/api/", "/api/seen", "/seen"),
    ],
)
async def test_a_path_can_be_taken_away(secure: Secure, path: str, asked: str, seen: str) -> None:
    await secure.bed.publish(secure.bed.topology(secure.bed.route(path=path, strip_path=True)))
    answer = await secure.bed.get(asked)
    assert answer.text == "blue" if seen == "/" else f'"path": "{seen}"' in answer.text


async def test_headers_are_added_to_every_answer(secure: Secure) -> None:
    value = 'a "quoted" back\\slash; {braces} and #more'
    await secure.bed.publish(secure.bed.topology(secure.bed.route(response_headers=(("X-Shop", value),))))
    assert (await secure.bed.get()).headers["x-shop"] == value


async def test_http3_is_refused_in_words_where_nginx_was_built_without_it(secure: Secure) -> None:
    number = await secure.publish()
    topology = secure.topology()
    wanted = topology.replace(settings=topology.settings.replace(http3=True))
    words = "proxy.http3: this nginx was built without HTTP/3"
    assert await secure.bed.proxy.check(wanted) == [words]
    with pytest.raises(PublishRefused, match=words):
        await secure.bed.publish(wanted)
    assert (await secure.bed.proxy.status()).observed == number
