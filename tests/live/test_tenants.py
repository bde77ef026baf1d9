"""Two tenants with the same primary keys: what is one's never reaches the other.

On django-tenants, and with row-level security. ``tests/live/tenants`` has the sites.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tests.kit.postgres import PostgresServer
from tests.kit.server import DEADLINE, ROOT
from tests.kit.valkey import Valkey

from .tenants.sites import QUICKLY, Site, Sites
from .tenants.visits import WAYS, Tenant, busy, close_code, session_key, storm

pytestmark = [pytest.mark.live, pytest.mark.asyncio]

pytest.importorskip("django_tenants")

KINDS = ["schemas", "policies"]


@pytest.fixture(scope="module")
def broker() -> Iterator[Valkey]:
    with Valkey() as valkey:
        yield valkey


@pytest.fixture(scope="module")
def sites(postgres: PostgresServer, broker: Valkey) -> Sites:
    return Sites(postgres, broker)


@pytest.fixture(params=KINDS)
def site(sites: Sites, request: Any) -> Iterator[Site]:
    with sites.serve(request.param) as site:
        yield site


async def words(socket: Any, count: int = 1) -> list[str]:
    async with asyncio.timeout(DEADLINE):
        return [str(await socket.recv()) for _ in range(count)]


async def say(socket: Any, message: str) -> str:
    await socket.send(message)
    (answer,) = await words(socket)
    return answer


async def still_in(tenant: Tenant, *sockets: Any) -> None:
    """They are in, and are who they were."""
    for socket in sockets:
        assert (await say(socket, "who")).startswith(f"{tenant.name} ")


# In numbers

SOCKETS = 200
# WS_DISPATCH_ANSWERS=200000 is the long form.
ANSWERS = int(os.environ.get("WS_DISPATCH_ANSWERS", "10000"))
FEWER = ANSWERS // 5
MIDDLEWARE = pytest.mark.parametrize("middleware", ["sync", "async"])


async def asked(site: Site, answers: int) -> Counter[tuple[str, str]]:
    """Who read in which way got what, how often; ``"own"``, or what they were told."""
    async with asyncio.timeout(60 + answers / 50):
        found = await storm((site.red, site.blue), SOCKETS, answers)
    assert found.total() == answers
    return found


@MIDDLEWARE
async def test_ten_thousand_answers_are_all_of_the_own_tenant(
    sites: Sites, middleware: str
) -> None:
    with sites.serve("schemas", **QUICKLY, LIVE_MIDDLEWARE=middleware) as site:
        assert await asked(site, ANSWERS) == {(way, "own"): ANSWERS // 4 for way in WAYS}


@MIDDLEWARE
async def test_without_the_settings_who_does_not_say_for_whom_gets_an_error(
    sites: Sites, middleware: str
) -> None:
    environment = {**QUICKLY, "LIVE_MIDDLEWARE": middleware, "LIVE_WITHOUT": "1"}
    with sites.serve("schemas", **environment) as site:
        found = await asked(site, FEWER)
        with pytest.raises(InvalidStatus) as caught:
            async with site.red.connect("/ws/shop/", "ada"):
                pass
        assert caught.value.response.status_code == 500
        site.server.expected += ["handler of /ws/shop/", "Traceback", "ERROR"]
    assert found.pop(("by-itself", "own")) == FEWER // 4
    # The public schema, which is what is left, has no such table.
    assert {way for way, _ in found} == {*WAYS} - {"by-itself"}
    for _, answer in found:
        assert answer.startswith('ProgrammingError: relation "shop_item" does not exist')


@MIDDLEWARE
async def test_policies_pass_the_rows_of_the_own_tenant(sites: Sites, middleware: str) -> None:
    with sites.serve("policies", **QUICKLY, LIVE_MIDDLEWARE=middleware) as site:
        assert await asked(site, FEWER) == {(way, "own"): FEWER // 4 for way in WAYS}


@MIDDLEWARE
async def test_without_the_settings_policies_refuse_who_does_not_say_for_whom(
    sites: Sites, middleware: str
) -> None:
    environment = {**QUICKLY, "LIVE_MIDDLEWARE": middleware, "LIVE_WITHOUT": "1"}
    with sites.serve("policies", **environment) as site:
        found = await asked(site, FEWER)
    # Most get them. Where the next call came late, somebody else got the connection meanwhile.
    assert found.pop(("by-itself", "own"))
    for _, answer in found:
        assert answer.startswith("ProgrammingError: unrecognized configuration parameter")


@MIDDLEWARE
@pytest.mark.parametrize("kind", KINDS)
async def test_a_hundred_pages_that_come_back_at_once_are_all_answered(
    sites: Sites, kind: str, middleware: str
) -> None:
    # The database has 50 connections. That one is refused would be in the log.
    async def come_back(tenant: Tenant) -> None:
        async with tenant.connect("/ws/shop/", "ada") as socket:
            assert await say(socket, "who") == f"{tenant.name} ada"
            await everybody.wait()
            assert await say(socket, "rows") == ",".join(tenant.rows)

    with sites.serve(kind, **QUICKLY, LIVE_MIDDLEWARE=middleware, LIVE_SLOW="1") as site:
        everybody = asyncio.Barrier(100)
        async with asyncio.TaskGroup() as pages:
            for tenant in (site.red, site.blue):
                for _ in range(50):
                    pages.create_task(come_back(tenant))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_pool_hands_nobody_a_connection_of_a_tenant(sites: Sites, kind: str) -> None:
    pytest.importorskip("psycopg_pool")
    pool = {"OPTIONS": {"pool": {"min_size": 1, "max_size": 6}}}
    with sites.serve(kind, database=pool) as site:
        async with busy(site.red, site.blue), site.red.many(8, "/ws/by-the-orm/") as sockets:
            for _ in range(5):
                await site.red.ask(sockets)
                # A page that says for no tenant that it reads.
                assert await site.red.status("/unset/") == (500 if kind == "policies" else 200)
                for tenant in (site.red, site.blue):
                    assert await tenant.page("/rows/") == ",".join(tenant.rows)
        if kind == "policies":
            site.server.expected += ["/unset/", "Traceback", "Error", "LINE 1", "ERROR"]


# Answers, while both tenants are busy


async def test_forty_sockets_pages_and_commands_each_see_their_own_tenant(site: Site) -> None:
    _, red, blue = site
    pages = 0
    async with busy(red, blue, each=5) as rounds:  # forty
        while len(rounds) < 100 or not pages:
            for tenant in (red, blue):
                pages += 1
                assert await tenant.page("/rows/") == ",".join(tenant.rows)
                async with tenant.connect("/ws/shop/", "ada") as socket:
                    assert await say(socket, "who") == f"{tenant.name} ada"
                    assert await say(socket, "rows") == ",".join(tenant.rows)
        await asyncio.gather(*(tenant.command("say", "hello") for tenant in (red, blue)))


async def test_a_host_that_is_no_tenants_is_denied(site: Site) -> None:
    green = Tenant("green", site.server, {})
    with pytest.raises(InvalidStatus) as caught:
        async with green.connect("/ws/by-the-orm/"):
            pass
    assert caught.value.response.status_code == 404


# Groups


async def test_a_group_message_stays_at_home(site: Site) -> None:
    _, red, blue = site
    async with (
        busy(red, blue),
        red.many(4, "/ws/shop/", "ada") as reds,
        blue.many(4, "/ws/shop/", "ada") as blues,
    ):
        for number in range(5):
            for tenant, speaker in ((red, reds[0]), (blue, blues[0])):
                await speaker.send(f"say {tenant.name} socket {number}")
                await tenant.page(f"/say/?text={tenant.name}%20page%20{number}")
        # Not beside each other: what they send they send in this order.
        for tenant in (red, blue):
            await tenant.command("say", f"{tenant.name} command")
        for tenant, sockets in ((red, reds), (blue, blues)):
            for socket in sockets:
                heard = await words(socket, 11)
                assert {word.partition(" ")[0] for word in heard} == {tenant.name}
                assert heard[-1] == f"{tenant.name} command"
                assert await say(socket, "over") == "over"


async def test_a_message_to_a_user_reaches_nobody_with_that_key_in_another_tenant(
    site: Site,
) -> None:
    _, red, blue = site
    async with (
        busy(red, blue),
        red.connect("/ws/shop/", "ada") as red_ada,
        red.connect("/ws/shop/", "ben") as red_ben,
        blue.connect("/ws/shop/", "ada") as blue_ada,
        blue.connect("/ws/shop/", "ben") as blue_ben,
    ):
        for tenant in (red, blue):
            await tenant.page(f"/tell/?user=ada&text={tenant.name}-page")
            await tenant.command("tell", "ada", f"{tenant.name}-command")
        assert await words(red_ada, 2) == ["red-page", "red-command"]
        assert await words(blue_ada, 2) == ["blue-page", "blue-command"]
        for socket in (red_ada, red_ben, blue_ada, blue_ben):
            assert await say(socket, "over") == "over"


# Who is in


async def test_a_logout_closes_the_sockets_of_its_own_tenant(site: Site) -> None:
    _, red, blue = site
    async with (
        busy(red, blue),
        red.many(3, "/ws/shop/", "ada") as reds,
        red.connect("/ws/shop/", "ben") as red_ben,
        blue.many(3, "/ws/shop/", "ada") as blues,
        blue.connect("/ws/shop/", "ben") as blue_ben,
    ):
        assert await red.page("/logout/", "ada") == "out"
        assert {await close_code(socket) for socket in reds} == {4401}
        await still_in(red, red_ben)
        await still_in(blue, *blues, blue_ben)
        await blue.command("end_session", session_key("ben"))
        assert await close_code(blue_ben) == 4401
        await still_in(red, red_ben)
        await still_in(blue, *blues)
        assert await blue.page("/logout/", "ada") == "out"
        assert {await close_code(socket) for socket in blues} == {4401}
        await still_in(red, red_ben)


async def test_a_user_who_is_deactivated_is_out_of_one_tenant(site: Site) -> None:
    _, red, blue = site
    async with (
        busy(red, blue),
        red.many(2, "/ws/shop/", "ada") as reds,
        red.connect("/ws/shop/", "ben") as red_ben,
        blue.many(2, "/ws/shop/", "ada") as blues,
        blue.connect("/ws/shop/", "ben") as blue_ben,
    ):
        await red.page("/active/?user=ada&to=0")
        assert {await close_code(socket) for socket in reds} == {4401}
        await still_in(red, red_ben)
        await still_in(blue, *blues, blue_ben)
        await blue.command("deactivate", "ben")
        assert await close_code(blue_ben) == 4401
        await still_in(red, red_ben)
        await still_in(blue, *blues)
        with pytest.raises(InvalidStatus) as caught:
            async with red.connect("/ws/shop/", "ada"):
                pass
        assert caught.value.response.status_code == 401
        async with blue.connect("/ws/shop/", "ada") as socket:
            await still_in(blue, socket)


async def test_a_new_password_closes_the_sockets_of_its_own_tenant(site: Site) -> None:
    _, red, blue = site
    async with (
        busy(red, blue),
        red.many(2, "/ws/shop/", "ada") as reds,
        red.connect("/ws/shop/", "ben") as red_ben,
        blue.many(2, "/ws/shop/", "ada") as blues,
        blue.connect("/ws/shop/", "ben") as blue_ben,
    ):
        await red.page("/password/?user=ada")
        assert {await close_code(socket) for socket in reds} == {4401}
        await still_in(red, red_ben)
        await still_in(blue, *blues, blue_ben)
        await blue.command("change_password", "ben")
        assert await close_code(blue_ben) == 4401
        await still_in(red, red_ben)
        await still_in(blue, *blues)


async def test_a_session_with_another_key_keeps_its_sockets_and_is_one_of_its_tenant(
    site: Site,
) -> None:
    _, red, blue = site
    async with (
        busy(red, blue),
        red.connect("/ws/shop/", "ada") as red_ada,
        blue.connect("/ws/shop/", "ada") as blue_ada,
    ):
        _, key = await red.get("/own-password/", "ada")
        assert key != session_key("ada")
        await still_in(red, red_ada)
        await still_in(blue, blue_ada)
        # Each is found under its own key.
        assert await blue.page("/logout/", "ada") == "out"
        assert await close_code(blue_ada) == 4401
        await still_in(red, red_ada)
        assert await red.page("/logout/", key=key) == "out"
        assert await close_code(red_ada) == 4401


async def test_a_recheck_looks_in_its_own_tenant(site: Site) -> None:
    _, red, blue = site
    async with (
        busy(red, blue),
        red.connect("/ws/rechecked/", "ada") as red_ada,
        red.connect("/ws/rechecked/", "ben") as red_ben,
        blue.connect("/ws/rechecked/", "ada") as blue_ada,
        blue.connect("/ws/rechecked/", "ben") as blue_ben,
    ):
        for tenant, sockets in ((red, (red_ada, red_ben)), (blue, (blue_ada, blue_ben))):
            for socket in sockets:
                assert await words(socket) == [tenant.name]
        await red.command("quietly_deactivate", "ada")
        assert await close_code(red_ada) == 4401
        await blue.command("quietly_deactivate", "ben")
        assert await close_code(blue_ben) == 4401
        # Who is left was looked at several times, meanwhile.
        for socket in (red_ben, blue_ada):
            assert await say(socket, "here") == "here"


async def test_connections_are_counted_for_each_user_of_each_tenant(site: Site) -> None:
    _, red, blue = site
    async with (
        busy(red, blue),
        red.many(2, "/ws/twice/", "ada"),
        blue.many(2, "/ws/twice/", "ada"),
    ):
        for tenant in (red, blue):
            with pytest.raises(InvalidStatus) as caught:
                async with tenant.connect("/ws/twice/", "ada"):
                    pass
            assert caught.value.response.status_code == 429
            async with tenant.connect("/ws/twice/", "ben") as socket:
                assert await words(socket) == [tenant.name]


# Users and sessions of all tenants


async def test_a_session_that_tenants_share_is_ended_in_all(sites: Sites) -> None:
    with sites.serve("schemas", LIVE_SHARED_USERS="1") as (_, red, blue):
        async with (
            busy(red, blue),
            red.connect("/ws/shop/", "ada") as red_ada,
            blue.connect("/ws/shop/", "ada") as blue_ada,
            red.connect("/ws/shop/", "ben") as red_ben,
            blue.connect("/ws/shop/", "ben") as blue_ben,
        ):
            _, key = await red.get("/own-password/", "ben")
            assert await red.page("/logout/", "ada") == "out"
            for socket in (red_ada, blue_ada):
                assert await close_code(socket) == 4401
            # Its key is another one, in both of them.
            for socket in (red_ben, blue_ben):
                assert await say(socket, "who") == "all ben"
            assert await blue.page("/logout/", key=key) == "out"
            for socket in (red_ben, blue_ben):
                assert await close_code(socket) == 4401


async def test_a_shared_user_is_verified_in_the_namespace_that_is_active(sites: Sites) -> None:
    with sites.serve("schemas", LIVE_SHARED_USERS="1") as (_, red, blue):
        async with (
            red.connect("/ws/shop/", "ada") as red_ada,
            blue.connect("/ws/shop/", "ada") as blue_ada,
            blue.connect("/ws/rechecked/", "ada") as rechecked,
            red.connect("/ws/shop/", "ben") as red_ben,
            blue.connect("/ws/shop/", "ben") as blue_ben,
        ):
            await red.page("/active/?user=ada&to=0")
            assert await close_code(red_ada) == 4401
            assert await close_code(rechecked) == 4401
            assert await say(blue_ada, "who") == "all ada"
            await red.command("deactivate_everywhere", "ben")
            for socket in (red_ben, blue_ben):
                assert await close_code(socket) == 4401


# Tests of a site


async def test_a_test_case_of_django_tenants_opens_sockets_of_its_tenant(sites: Sites) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "django", "test", "--noinput", "tests.live.tenants.shop.tests"],
        cwd=ROOT,
        env={**os.environ, **sites.environment("schemas", "tested")},
        capture_output=True,
        text=True,
        timeout=DEADLINE * 5,
    )
    assert not done.returncode, f"{done.stdout}\n{done.stderr}"
    assert "Ran 2 tests" in done.stderr
