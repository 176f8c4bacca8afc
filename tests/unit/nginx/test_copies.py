"""Files of the operator that nginx reads at each request: what they do, who may read them, what is refused."""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxyctl.adapters.nginx.generations.sources import FileRefused, page, passwords
from proxyctl.adapters.nginx.process.master import workers_of
from proxyctl.adapters.nginx.process.sight import user_of
from proxyctl.adapters.raw_prober import RawProber
from proxyctl.domain.model import BasicAuth, HealthCheck, HealthKind
from proxyctl.errors import PublishRefused
from tests.nginx_bed import BLUE, DEBIAN, MAINLINE, WEB, Bed, a_bed, all_to, share

pytestmark = pytest.mark.nginx
SHA = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="
APR1 = "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/"  # both are of the word secret


@pytest.fixture(params=[DEBIAN, MAINLINE], ids=["debian", "mainline"])
async def bed(request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    async with a_bed(request.param) as bed:
        await bed.serve_both()
        await bed.publish()
        await bed.splits.move(WEB, all_to(BLUE))
        yield bed


# --- basic auth --------------------------------------------------------------------------------------------------


def a_file(folder: Path, *lines: str) -> BasicAuth:
    path = folder / "htpasswd"
    path.write_text("\n".join(lines) + "\n")
    return BasicAuth(file=str(path), realm="Staging area")


async def asked_as(bed: Bed, user: str, password: str) -> int:
    return (await bed.get(Authorization=f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}")).status


async def test_a_client_must_name_a_user_of_the_file_and_the_password(bed: Bed, tmp_path: Path) -> None:
    users = a_file(tmp_path, "# staging", "", f"ann:{SHA}", f"bob:{APR1}:the second one")
    await bed.publish(bed.topology(bed.route(basic_auth=users)))
    for split in (all_to(BLUE), share(BLUE, 50)):
        await bed.splits.move(WEB, split)
        refused = await bed.get()
        assert (refused.status, refused.headers["www-authenticate"]) == (401, 'Basic realm="Staging area"')
        assert [await asked_as(bed, user, "secret") for user in ("ann", "bob", "eve")] == [200, 200, 401]
        assert await asked_as(bed, "ann", "secret2") == 401


async def test_probes_through_nginx_need_no_password(bed: Bed, tmp_path: Path) -> None:
    route = bed.route(basic_auth=a_file(tmp_path, f"ann:{SHA}"))
    await bed.publish(bed.topology(route))
    assert (await RawProber().probe(bed.proxy.endpoint(route, BLUE), HealthCheck(kind=HealthKind.HTTP))).passed


async def test_a_changed_file_counts_after_a_reload(bed: Bed, tmp_path: Path) -> None:
    await bed.publish(bed.topology(bed.route(basic_auth=a_file(tmp_path, f"ann:{SHA}"))))
    a_file(tmp_path, f"bob:{SHA}")
    assert [await asked_as(bed, user, "secret") for user in ("ann", "bob")] == [200, 401]
    assert await bed.proxy.reload(bed.claim) == 3
    assert [await asked_as(bed, user, "secret") for user in ("ann", "bob")] == [401, 200]
    assert await bed.proxy.reload(bed.claim) == 3


async def test_hashes_are_read_by_the_workers_and_not_by_the_world(bed: Bed, tmp_path: Path) -> None:
    await bed.publish(bed.topology(bed.route(basic_auth=a_file(tmp_path, f"ann:{SHA}"))))
    found = (bed.places.current / "auth" / "web.htpasswd").stat()
    worker, *_ = workers_of(bed.master)
    assert found.st_mode & 0o777 == (0o440 if os.geteuid() == 0 else 0o400)
    assert found.st_gid in user_of(worker.pid).groups


async def test_workers_of_another_user_read_them_too(bed: Bed, tmp_path: Path) -> None:
    users = a_file(tmp_path, f"ann:{SHA}")
    await bed.publish(bed.topology(bed.route(basic_auth=users), user="www-data"))
    assert await asked_as(bed, "ann", "secret") == 200


async def test_a_file_that_went_bad_stays_as_it_is_in_force_and_another_one_is_refused(
    bed: Bed, tmp_path: Path
) -> None:
    users = a_file(tmp_path, f"ann:{SHA}")
    await bed.publish(bed.topology(bed.route(basic_auth=users)))
    Path(users.file).write_text("")
    await bed.publish(bed.topology(bed.route(basic_auth=users, body_limit=0)))
    assert await asked_as(bed, "ann", "secret") == 200
    with pytest.raises(PublishRefused, match="nowhere cannot be read"):
        await bed.publish(bed.topology(bed.route(basic_auth=users.replace(file="/nowhere"))))
    assert await asked_as(bed, "ann", "secret") == 200


async def test_no_request_fails_while_the_door_is_taken_away(bed: Bed, tmp_path: Path) -> None:
    guarded = bed.topology(bed.route(basic_auth=a_file(tmp_path, f"ann:{SHA}")))
    await bed.publish(guarded)
    taken_away, statuses = asyncio.Event(), Counter[int]()

    async def ask() -> None:
        while not taken_away.is_set():
            statuses[await asked_as(bed, "ann", "secret")] += 1

    asking = asyncio.create_task(ask())
    for number in (3, 5, 7):
        assert await bed.publish(bed.topology()) == await bed.publish(bed.topology()) == number
        assert await bed.publish(guarded) == number + 1
    taken_away.set()
    await asking
    assert set(statuses) == {200}
    for host in ("a.example.com", "b.example.com"):
        await bed.publish(bed.topology(bed.route(hosts=(host,))))
    assert not (bed.places.current / "auth").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ann\n", "line 1 of .* is not user:hash"),
        (f":{SHA}\n", "line 1 of .* is not user:hash"),
        (f"# users\nann:{SHA}\nbob:secret\n", "line 3 of .* holds no hash"),
        ("ann:{PLAIN}secret\n", "line 1 of .* holds no hash"),
        ("# nobody yet\n", "names no user"),
        ("ann:\udcff", "is not text"),
    ],
)
def test_a_file_that_would_let_in_nobody_or_anybody_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "htpasswd"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(FileRefused, match=words) as refused:
        passwords(str(file))
    assert "secret" not in str(refused.value)


# --- error pages -------------------------------------------------------------------------------------------------


def a_page(folder: Path, name: str, text: str) -> str:
    path = folder / f"{name}.html"
    path.write_text(text, "utf-8")
    return str(path)


async def test_what_nginx_answers_in_place_of_a_service_has_the_page_of_the_service(bed: Bed, tmp_path: Path) -> None:
    late, gone = a_page(tmp_path, "late", "<h1>Später</h1>"), a_page(tmp_path, "gone", "<h1>Gone</h1>")
    await bed.publish(bed.topology(bed.route(error_pages=((503, late),)), error_pages=((502, gone), (503, gone))))
    await bed.withdraw(bed.blue)
    unreachable = await bed.get()
    assert (unreachable.status, unreachable.text) == (502, "<h1>Gone</h1>")
    assert unreachable.headers["content-type"] == "text/html"
    await bed.splits.move(WEB, None)
    for answer in (await bed.get(), await (await bed.client()).ask("POST", "/x", body=b"an order")):
        assert (answer.status, answer.text) == (503, "<h1>Später</h1>")
        assert answer.headers["retry-after"] == "5"


async def test_an_upload_that_is_too_large_has_its_page_too(bed: Bed, tmp_path: Path) -> None:
    large = a_page(tmp_path, "large", "<h1>Too large</h1>")
    await bed.publish(bed.topology(bed.route(body_limit=10, error_pages=((413, large),))))
    answer = await (await bed.client()).ask("POST", "/", body=b"x" * 11)
    assert (answer.status, answer.text) == (413, "<h1>Too large</h1>")


async def test_what_the_application_answers_is_never_replaced(bed: Bed, tmp_path: Path) -> None:
    await bed.publish(bed.topology(bed.route(error_pages=((503, a_page(tmp_path, "page", "<h1>Ours</h1>")),))))
    answer = await bed.get("/busy")
    assert (answer.status, answer.text) == (503, "blue")


async def test_nobody_can_ask_for_a_page_by_its_address(bed: Bed, tmp_path: Path) -> None:
    await bed.publish(bed.topology(bed.route(error_pages=((503, a_page(tmp_path, "page", "<h1>Ours</h1>")),))))
    assert (await bed.get("/.proxyctl/web/503.html")).status == 404


@pytest.mark.parametrize(
    ("content", "words"), [(b" \n", "is empty"), (b"\xff", "is not text in UTF-8"), (b"x" * (257 << 10), "longer than")]
)
def test_a_page_that_nobody_could_read_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "page.html"
    file.write_bytes(content)
    with pytest.raises(FileRefused, match=words):
        page(str(file))
