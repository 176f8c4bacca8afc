"""Replicas that speak TLS and know their callers: nginx on the way of users, and the probes before any user."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from proxyctl.adapters.prober import AiohttpProber
from proxyctl.adapters.raw_prober import RawProber
from proxyctl.domain.model import Apart, Colour, HealthCheck, HealthKind, Protocol, UpstreamTls
from proxyctl.errors import PublishRefused
from proxyctl.ports import Endpoint, Prober
from tests.certificates import NOW, a_pair
from tests.nginx_bed import BLUE, DEBIAN, GREEN, MAINLINE, WEB, Application, Bed, a_bed, all_to, free_port, share

pytestmark = pytest.mark.nginx
REPLICA = "replica.internal"
HTTPS = HealthCheck(kind=HealthKind.HTTP, path="/seen", scheme="https", timeout=5.0)


class Inside:
    """What replicas and their callers know each other by."""

    def __init__(self, folder: Path) -> None:
        self.replica = a_pair(folder, "replica", REPLICA)
        self.caller = a_pair(folder, "caller", "proxy.internal")
        self.tls = UpstreamTls(ca=self.replica.cert, cert=self.caller.cert, key=self.caller.key, server_name=REPLICA)

    def demanding(self) -> ssl.SSLContext:
        """The replica's side: without the caller's certificate nobody gets an answer."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.caller.cert)
        context.load_cert_chain(self.replica.cert, self.replica.key)
        context.verify_mode = ssl.CERT_REQUIRED
        return context


@pytest.fixture
def inside(tmp_path: Path) -> Inside:
    return Inside(tmp_path)


@pytest.fixture(params=[DEBIAN, MAINLINE], ids=["debian", "mainline"])
async def bed(request: pytest.FixtureRequest, inside: Inside) -> AsyncIterator[Bed]:
    async with a_bed(request.param) as bed:
        await bed.run(bed.blue, Application("blue"), inside.demanding())
        yield bed


async def served(bed: Bed, tls: UpstreamTls, path: str = "/") -> tuple[int, str]:
    await bed.publish(bed.topology(bed.route(upstream_tls=tls)))
    await bed.splits.move(WEB, all_to(BLUE))
    answer = await bed.get(path)
    return answer.status, answer.text


async def test_a_replica_that_demands_a_certificate_is_reached_and_told_who_asks(bed: Bed, inside: Inside) -> None:
    status, text = await served(bed, inside.tls, "/seen")
    assert status == 200
    assert json.loads(text)["headers"]["host"] == "bed.example.com"


async def test_a_caller_without_a_certificate_gets_no_answer(bed: Bed, inside: Inside) -> None:
    assert (await served(bed, inside.tls.replace(cert="", key="")))[0] in (400, 502)


async def test_a_replica_that_is_somebody_else_is_never_asked(bed: Bed, inside: Inside) -> None:
    assert (await served(bed, inside.tls.replace(server_name="other.internal")))[0] == 502
    assert (await served(bed, inside.tls.replace(ca=inside.caller.cert)))[0] == 502


async def test_a_replica_may_be_taken_at_its_word(bed: Bed, inside: Inside) -> None:
    assert await served(bed, inside.tls.replace(ca="", server_name="", verify=False)) == (200, "blue")


async def test_the_other_colour_covers_over_tls_too(bed: Bed, inside: Inside) -> None:
    await bed.publish(bed.topology(bed.route(upstream_tls=inside.tls)))
    await bed.splits.move(WEB, all_to(GREEN, cover=True))
    assert (await bed.get()).text == "blue"


async def test_a_colour_that_speaks_no_tls_yet_is_asked_without(bed: Bed, inside: Inside) -> None:
    await bed.serve(bed.green, "green")
    await bed.publish(bed.topology(bed.route(upstream_tls=inside.tls, apart=Apart(colour=GREEN, tls=None))))
    for colour in (BLUE, GREEN):
        await bed.splits.move(WEB, all_to(colour, cover=True))
        assert (await bed.get()).text == colour


@pytest.mark.parametrize(("colour", "stands_in"), [(GREEN, "blue"), (BLUE, "green")])
async def test_one_that_speaks_tls_and_one_that_does_not_stand_in_for_each_other(
    bed: Bed, inside: Inside, colour: Colour, stands_in: str
) -> None:
    await bed.serve(bed.green, "green")
    await bed.withdraw(bed.green if colour is GREEN else bed.blue)
    await bed.publish(bed.topology(bed.route(upstream_tls=inside.tls, apart=Apart(colour=GREEN, tls=None))))
    await bed.splits.move(WEB, all_to(colour, cover=True))
    assert (await bed.get()).text == stands_in


async def test_a_colour_is_asked_by_its_own_names_and_certificates(bed: Bed, inside: Inside, tmp_path: Path) -> None:
    tmp_path.joinpath("new").mkdir()
    new = Inside(tmp_path / "new")
    await bed.run(bed.green, Application("green"), new.demanding())
    for apart, path in ((BLUE, "/"), (GREEN, "/api")):
        mine, other = (new.tls, inside.tls) if apart is BLUE else (inside.tls, new.tls)
        route = bed.route(path=path, strip_path=path != "/", upstream_tls=mine, apart=Apart(colour=apart, tls=other))
        await bed.publish(bed.topology(route))
        for colour in (BLUE, GREEN):
            for split in (all_to(colour), all_to(colour, cover=True), share(colour, "99.99")):
                await bed.splits.move(WEB, split)
                assert '"path": "/seen"' in (await bed.get(f"{path.rstrip('/')}/seen")).text
            result = await RawProber().probe(bed.proxy.endpoint(route, colour), HTTPS)
            assert result.reason == "200"


async def test_the_files_by_which_the_release_beside_is_known_may_be_gone(
    bed: Bed, inside: Inside, tmp_path: Path
) -> None:
    assert await served(bed, inside.tls) == (200, "blue")
    for path in (inside.tls.ca, inside.tls.cert, inside.tls.key):
        Path(path).unlink()
    tmp_path.joinpath("new").mkdir()
    new = Inside(tmp_path / "new")
    for body_limit in (1, 2):
        route = bed.route(upstream_tls=new.tls, apart=Apart(colour=BLUE, tls=inside.tls), body_limit=body_limit)
        await bed.publish(bed.topology(route))
        assert (await bed.get()).text == "blue"


async def test_a_colour_that_still_speaks_tls_is_asked_so(bed: Bed, inside: Inside) -> None:
    await bed.serve(bed.green, "green")
    await bed.publish(bed.topology(bed.route(apart=Apart(colour=BLUE, tls=inside.tls))))
    for colour in (BLUE, GREEN):
        await bed.splits.move(WEB, all_to(colour, cover=True))
        assert (await bed.get()).text == colour


async def test_a_websocket_passes_over_tls(bed: Bed, inside: Inside) -> None:
    await served(bed, inside.tls)
    client = await bed.client()
    client.writer.write(b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    assert (await client.head())[0] == 101
    client.writer.write(b"one")
    assert await client.reader.read(100) == b"blue one"


async def test_a_grpc_replica_may_demand_a_certificate(bed: Bed, inside: Inside, tmp_path: Path) -> None:
    async def say(request: bytes, _: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return b"heard " + request

    server = grpc.aio.server()
    handler = grpc.method_handlers_generic_handler("shop.Shop", {"Say": grpc.unary_unary_rpc_method_handler(say)})
    server.add_generic_rpc_handlers((handler,))
    pairs = [(Path(inside.replica.key).read_bytes(), Path(inside.replica.cert).read_bytes())]
    demanding = grpc.ssl_server_credentials(pairs, Path(inside.caller.cert).read_bytes(), require_client_auth=True)
    address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', demanding)}"
    await server.start()
    shop, secure = a_pair(tmp_path, "shop", "shop.example.com"), free_port()
    route = bed.route(
        hosts=("shop.example.com",), tls=shop, protocol=Protocol.GRPC, blue=(address,), upstream_tls=inside.tls
    )
    await bed.publish(bed.topology(route, https=(f"127.0.0.1:{secure}",)))
    await bed.splits.move(WEB, all_to(BLUE))
    credentials = grpc.ssl_channel_credentials(Path(shop.cert).read_bytes())
    options = [("grpc.ssl_target_name_override", "shop.example.com")]
    async with grpc.aio.secure_channel(f"127.0.0.1:{secure}", credentials, options) as channel:
        say_to: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/shop.Shop/Say")
        assert await say_to(b"a call") == b"heard a call"
    await server.stop(None)


# --- probes ------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[AiohttpProber, RawProber], ids=["aiohttp", "raw"])
def prober(request: pytest.FixtureRequest) -> Prober:
    made: Prober = request.param()
    return made


async def probed(prober: Prober, bed: Bed, tls: UpstreamTls) -> str:
    return (await prober.probe(Endpoint(replica="web-1-1", address=bed.blue, tls=tls), HTTPS)).reason


async def test_a_probe_speaks_as_nginx_will(bed: Bed, inside: Inside, prober: Prober) -> None:
    assert await probed(prober, bed, inside.tls) == "200"
    assert "Hostname mismatch" in await probed(prober, bed, inside.tls.replace(server_name="other.internal"))
    assert await probed(prober, bed, inside.tls.replace(ca="", verify=False, server_name="")) == "200"
    assert await probed(prober, bed, inside.tls.replace(cert="", key="")) != "200"
    assert "the files of upstream_tls cannot be used: no such" in await probed(
        prober, bed, inside.tls.replace(cert="/nowhere")
    )


async def test_a_probe_through_nginx_goes_by_plain_http_to_it_and_by_tls_from_it(
    bed: Bed, inside: Inside, prober: Prober
) -> None:
    route = bed.route(upstream_tls=inside.tls)
    await bed.publish(bed.topology(route))
    assert (await prober.probe(bed.proxy.endpoint(route, BLUE), HTTPS)).reason == "200"


# --- files -------------------------------------------------------------------------------------------------------


async def test_a_renewed_certificate_of_ours_is_in_force_after_a_reload(
    bed: Bed, inside: Inside, tmp_path: Path
) -> None:
    strange = a_pair(tmp_path, "strange", "proxy.internal")
    known = {path: Path(path).read_bytes() for path in (inside.caller.cert, inside.caller.key)}
    Path(inside.caller.cert).write_bytes(Path(strange.cert).read_bytes())
    Path(inside.caller.key).write_bytes(Path(strange.key).read_bytes())
    assert (await served(bed, inside.tls))[0] in (400, 502)
    for path, content in known.items():
        Path(path).write_bytes(content)
    await bed.proxy.reload(bed.claim)
    assert (await bed.get()).text == "blue"


async def test_the_first_end_of_a_service_s_certificates_is_known(bed: Bed, inside: Inside, tmp_path: Path) -> None:
    soon = a_pair(tmp_path, "soon", "proxy.internal", ends=timedelta(days=7))
    tls = inside.tls.replace(cert=soon.cert, key=soon.key)
    await bed.publish(bed.topology(bed.route(upstream_tls=tls)))
    ends = (await bed.proxy.status()).certificates[WEB]
    assert abs(ends - (NOW + timedelta(days=7)).timestamp()) < 2


async def test_our_key_is_read_by_nobody_but_its_owner(bed: Bed, inside: Inside) -> None:
    await bed.publish(bed.topology(bed.route(upstream_tls=inside.tls)))
    modes = {path.name: path.stat().st_mode & 0o777 for path in (bed.places.current / "upstream").iterdir()}
    assert modes == {"web.ca": 0o444, "web.crt": 0o444, "web.key": 0o400}


async def test_files_that_replicas_or_we_would_refuse_are_refused_before_anything_changes(
    bed: Bed, inside: Inside, tmp_path: Path
) -> None:
    expired = a_pair(tmp_path, "expired", "proxy.internal", ends=timedelta(minutes=-1))
    for changes, words in (
        ({"ca": "/nowhere"}, "/nowhere cannot be read"),
        ({"ca": inside.caller.key}, "holds no certificate in PEM"),
        ({"ca": expired.cert}, "expired.crt expired on"),
        ({"cert": expired.cert, "key": expired.key}, "expired.crt expired on"),
        ({"key": inside.replica.key}, "replica.key is not the key of"),
    ):
        with pytest.raises(PublishRefused, match=words):
            await served(bed, inside.tls.replace(**changes))
    assert bed.proxy.topology() is None
