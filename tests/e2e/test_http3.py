"""HTTP/3, by a client that speaks it: what loses nothing, and what nginx cannot do without a loss."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from proxyctl.adapters.nginx.process.listens import obstacle
from proxyctl.adapters.nginx.process.master import find_masters
from proxyctl.domain.model import Route, Tls
from proxyctl.errors import PublishRefused
from tests.certificates import a_pair
from tests.e2e.shop import TWO, open_shop
from tests.e2e.test_container_mode import FILE
from tests.http3 import Door, Http3Load, speaking_http3
from tests.nginx_bed import BLUE, GREEN, IN_A_CONTAINER, WEB, Bed, Client, a_bed, all_to, free_port
from tests.nginx_image import image_with_http3

pytestmark = pytest.mark.docker

SHOP = "shop.example.com"


class Site(NamedTuple):
    """A bed whose host has a certificate, and speaks HTTP/3 on both loopbacks."""

    bed: Bed
    port: int
    tls: Tls

    @property
    def listens(self) -> tuple[str, ...]:
        return (f"127.0.0.1:{self.port}", f"[::1]:{self.port}")

    def route(self, **changes: object) -> Route:
        return self.bed.route(hosts=(SHOP,), tls=self.tls, **changes)

    def door(self, address: str = "127.0.0.1") -> Door:
        return Door(address, self.port, SHOP, self.tls.cert)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    image, port = await asyncio.to_thread(image_with_http3), free_port()
    async with a_bed(IN_A_CONTAINER) as bed:
        site = Site(bed, port, a_pair(tmp_path, "shop", SHOP))
        bed.settings = bed.settings.replace(image=image, http3=True, https=site.listens)
        await bed.serve_both()
        await bed.publish(bed.topology(site.route()))
        await bed.splits.move(WEB, all_to(BLUE))
        yield site


async def test_who_comes_by_tcp_is_told_of_http3_and_finds_it_on_every_address(site: Site) -> None:
    context = ssl.create_default_context(cafile=site.tls.cert)
    for address in ("127.0.0.1", "::1"):
        client = Client(*await asyncio.open_connection(address, site.port, ssl=context, server_hostname=SHOP))
        told = (await client.ask("GET", "/", {"Host": SHOP})).headers["alt-svc"]
        client.close()
        (port,) = re.findall(r'^h3=":(\d+)"; ma=\d+$', told)
        asked = f"{SHOP}:{port}"
        async with speaking_http3(site.door(address)._replace(port=int(port))) as browser:
            seen = json.loads((await browser.get(asked, "/seen")).body)["headers"]
        assert (seen["host"], seen["x-forwarded-host"], seen["x-forwarded-proto"]) == (asked, asked, "https")
        assert seen["x-real-ip"] == address


async def test_udp_is_heard_where_nginx_listens_and_nowhere_else(site: Site) -> None:
    assert [str(obstacle(f"{listen}/udp"))[-7:] for listen in site.listens] == ["(nginx)", "(nginx)"]
    assert obstacle(f"127.0.0.2:{site.port}/udp") is None
    assert await site.bed.proxy.check(site.bed.topology(site.route())) == [], "it is in nobody's way but its own"


async def test_a_port_of_udp_that_somebody_else_has_is_named_before_anything_changes(site: Site) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        taken = f"127.0.0.1:{holder.getsockname()[1]}"
        wanted = site.bed.topology(site.route(), https=(taken,))
        (objection,) = await site.bed.proxy.check(wanted)
        assert f"{taken}/udp is taken by pid {os.getpid()}" in objection
        with pytest.raises(PublishRefused, match=f"{taken}/udp is taken by pid"):
            await site.bed.publish(wanted)
        assert await site.bed.proxy.check(wanted.replace(settings=wanted.settings.replace(http3=False))) == []


async def test_traffic_moves_and_no_request_is_lost(site: Site) -> None:
    async with Http3Load(site.door()) as load:
        for colour in (GREEN, BLUE) * 5:
            await site.bed.splits.move(WEB, all_to(colour))
            await some_more(load)
    assert load.failed() == []


async def some_more(load: Http3Load) -> None:
    wanted = len(load.outcomes) + 20
    async with asyncio.timeout(30):
        while len(load.outcomes) < wanted:
            await asyncio.sleep(0.005)


async def test_a_reload_lets_its_clients_go_and_they_find_the_new_configuration(site: Site) -> None:
    """What is asked in that moment may be lost, whatever nginx is told: docs/configuration.md."""
    async with speaking_http3(site.door()) as before:
        assert (await before.get(SHOP)).text == "blue"
        await site.bed.publish(site.bed.topology(site.route(response_headers=(("X-New", "yes"),))))
        await old_workers_are_gone(site.bed)
        assert not before.takes_more
    async with speaking_http3(site.door()) as after:
        assert (await after.get(SHOP)).headers["x-new"] == "yes"


async def test_an_upgrade_lets_its_clients_go_and_they_find_the_new_nginx(site: Site) -> None:
    async with speaking_http3(site.door()) as before:
        assert (await before.get(SHOP)).text == "blue"
        await site.bed.upgrade()
        await old_workers_are_gone(site.bed)
        assert not before.takes_more
    async with speaking_http3(site.door()) as after:
        assert (await after.get(SHOP)).text == "blue"


async def old_workers_are_gone(bed: Bed) -> None:
    """Until then they take some packets that are the new ones'."""
    async with asyncio.timeout(30):
        while len(find_masters(bed.places)) > 1 or any(process.leaving for process in bed.processes()):
            await asyncio.sleep(0.02)


async def test_releases_come_and_go_and_no_request_is_lost(tmp_path: Path) -> None:
    tls, port = a_pair(tmp_path, "shop", SHOP), free_port()
    file = FILE.replace("IMAGE", image_with_http3())
    file = file.replace("{mode", f'{{http3: true, https: "127.0.0.1:{port}", mode')
    file += f'    hosts: [{SHOP}]\n    tls: {{cert: "file:{tls.cert}", key: "file:{tls.key}"}}\n'
    async with open_shop(file=file) as shop:
        assert (await shop.type("deploy", "web")).code == 0
        async with Http3Load(Door("127.0.0.1", port, SHOP, tls.cert)) as load:
            assert (await shop.type("deploy", "web", "--image", TWO)).code == 0
            assert (await shop.type("rollback", "web")).code == 0
    assert load.failed() == []
    assert {outcome.release for outcome in load.outcomes} == {"1", "2"}
