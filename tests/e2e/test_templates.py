"""An operator's templates, from the file to the answers that clients get."""

from __future__ import annotations

import pytest

from tests.e2e.shop import ONE, TWO, open_shop

pytestmark = pytest.mark.docker


async def test_a_template_reaches_clients_with_the_next_deploy_and_a_bad_one_stops_it() -> None:
    async with open_shop() as shop:
        folder = shop.scene.folder / "templates"
        folder.mkdir(mode=0o755)
        template = folder / "http.conf.j2"
        ours = '{% include "proxyctl/http.conf.j2" %}\n'
        shop.write("proxy:\n", "proxy:\n  templates: templates\n")

        template.write_text(f"{ours}    add_header X-Shop one always;\n")
        assert (await shop.type("deploy", "web", "--image", ONE)).code == 0
        assert b"\r\nX-Shop: one\r\n" in await shop.get("/")
        await shop.at_rest()

        template.write_text(f"{ours}    add_header X-Shop two always;\n")
        planned = (await shop.type("plan", "web", "--image", TWO)).out
        assert "-    add_header X-Shop one always;" in planned
        assert "+    add_header X-Shop two always;" in planned
        assert (await shop.type("deploy", "web", "--image", TWO)).code == 0
        assert b"\r\nX-Shop: two\r\n" in await shop.get("/")
        await shop.at_rest()

        template.write_text(f"{ours}    root /etc;\n")
        containers = {container.id for container in shop.containers()}
        for command in (("check",), ("deploy", "web", "--image", ONE)):
            said = await shop.type(*command)
            assert said.code in (3, 6)
            assert "http.conf.j2:2: root: not taken in http: it opens files" in said.err
        assert {container.id for container in shop.containers()} == containers
        assert b"\r\nX-Shop: two\r\n" in await shop.get("/")
        template.write_text(ours)
