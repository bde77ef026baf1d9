"""Names that are unique in a tenant: groups, users, logouts and counts of a namespace."""

from __future__ import annotations

import asyncio
import contextvars
import json
from typing import Any
from unittest import mock

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import alogout, logout
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_out
from django.contrib.sessions.backends import cache
from django.core.exceptions import ImproperlyConfigured
from django.http import Http404, HttpResponse
from django.test import TransactionTestCase, override_settings
from django.urls import path
from django.utils.crypto import get_random_string
from hypothesis import given
from hypothesis import strategies as st

from django_ws_dispatch import groups
from django_ws_dispatch.auth import users, verifier
from django_ws_dispatch.auth.control import publish_control, sender
from django_ws_dispatch.auth.keys import changes, seal, tokens_of
from django_ws_dispatch.decorators import connection_limit, login_required
from django_ws_dispatch.dispatcher import sweep as connections
from django_ws_dispatch.exceptions import WebSocketDisconnect
from django_ws_dispatch.groups import Group, user_group
from django_ws_dispatch.groups.messages import GROUP_CHANNEL, USER_CHANNEL, channel_of
from django_ws_dispatch.groups.namespaces import active_namespace, load_namespace
from django_ws_dispatch.testing import HandshakeDenied, WebSocketClient, assert_sent
from tests.kit.waiting import DEADLINE, until

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_ws_dispatch.middleware.NamespaceMiddleware",
]

calls: list[str] = []
looked_at = asyncio.Event()


def of_header(request: Any) -> Any:
    calls.append(request.path)
    tenant = request.headers.get("X-Tenant", "")
    if tenant == "gone":
        raise Http404
    return None if tenant == "wrong" else tenant


async def of_header_async(request: Any) -> Any:
    await asyncio.sleep(0)
    return of_header(request)


def of_the_user(request: Any) -> str:
    return f"of-{request.user.username}"


async def lobby(websocket: Any) -> None:
    async with websocket.join("lobby"):
        async for message in websocket:
            await Group("lobby").asend(f"{active_namespace()}: {message}")


async def everywhere(websocket: Any) -> None:
    await websocket.receive()
    task = await asyncio.create_task(asyncio.sleep(0, active_namespace()))
    thread = await asyncio.to_thread(active_namespace)
    lane = await sync_to_async(active_namespace)()
    await websocket.send_json([active_namespace(), task, thread, lane])


@login_required
async def me(websocket: Any) -> None:
    async with websocket.join(user_group(websocket.user)):
        async for message in websocket:
            await websocket.send(message)


@login_required
@connection_limit(1)
async def one(websocket: Any) -> None:
    async for message in websocket:
        await websocket.send(message)


def say(request: Any) -> HttpResponse:
    Group("lobby").send("from a page")
    return HttpResponse(active_namespace())


async def asay(request: Any) -> HttpResponse:
    await Group("lobby").asend("from an async page")
    return HttpResponse(active_namespace())


def out(request: Any) -> HttpResponse:
    logout(request)
    return HttpResponse("out")


async def aout(request: Any) -> HttpResponse:
    await alogout(request)
    return HttpResponse("out")


async def slow_out(request: Any) -> HttpResponse:
    """As alogout() does it, but that its sockets are looked at before the session is gone."""
    await user_logged_out.asend(sender=User, request=request, user=await request.auser())
    await looked_at.wait()
    await request.session.aflush()
    return HttpResponse("out")


def cycle(request: Any) -> HttpResponse:
    request.session.cycle_key()
    return HttpResponse("cycled")


def save(request: Any) -> HttpResponse:
    User.objects.get(username="ada").save()
    return HttpResponse("saved")


urlpatterns = [
    path("say/", say),
    path("asay/", asay),
    path("out/", out),
    path("aout/", aout),
    path("slow-out/", slow_out),
    path("cycle/", cycle),
    path("save/", save),
]


def moved_to(key: str) -> int:
    """How many sockets go by this key, which they were found to be in by."""
    found = [socket.watched for socket in connections.local().sockets]
    return sum(one is not None and one.key == key and one.key_since < 0 for one in found)


site = override_settings(
    ROOT_URLCONF=__name__,
    MIDDLEWARE=MIDDLEWARE,
    WEBSOCKET_NAMESPACE=f"{__name__}.of_header",
    WEBSOCKET_HANDLERS={
        "ws/lobby/": lobby,
        "ws/everywhere/": everywhere,
        "ws/me/": me,
        "ws/one/": one,
    },
)


# The namespace that is active


def test_without_one_a_name_is_what_it_was() -> None:
    assert active_namespace() == ""
    assert Group("x").channel == "group:x"
    assert user_group(User(pk=1)).channel == "user:1"


def test_a_with_block_makes_one_active_and_blocks_nest() -> None:
    lobby = Group("lobby")
    with groups.namespace("red"):
        red = lobby.channel
        with groups.namespace("blue"):
            assert lobby.channel not in (red, "group:lobby")
        with groups.namespace(""):
            assert lobby.channel == "group:lobby"
        assert lobby.channel == red != "group:lobby"
    assert active_namespace() == ""


def test_a_group_is_the_same_group_wherever_it_was_made() -> None:
    with groups.namespace("red"):
        made_there = Group("lobby")
    assert made_there == Group("lobby")
    assert hash(made_there) == hash(Group("lobby"))
    assert made_there.channel == Group("lobby").channel


names = st.text(max_size=8) | st.sampled_from(
    ["", "in:1:a:", "group:", "user:1", "1", ":", "3:red:"]
)


@given(first=st.tuples(names, names), second=st.tuples(names, names))
def test_no_name_reaches_into_another_namespace(first: Any, second: Any) -> None:
    channels = [
        channel_of(kind, name, namespace)
        for namespace, name in {first, second}
        for kind in (GROUP_CHANNEL, USER_CHANNEL)
    ]
    assert len(set(channels)) == len(channels)
    assert not {"control:"} & set(channels)


@pytest.mark.parametrize("name", [None, 1, b"red"])
def test_what_is_no_str_is_no_namespace(name: Any) -> None:
    with pytest.raises(TypeError, match="A namespace is a str"), groups.namespace(name):
        pass
    assert active_namespace() == ""


def test_a_namespace_has_a_length() -> None:
    with (
        pytest.raises(ValueError, match="up to 200 characters, not 201"),
        groups.namespace("x" * 201),
    ):
        pass


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("nowhere.at.all", "can not be imported"),
        ("tests.settings.SECRET_KEY", "no function"),
        ("django.http.Http404", "is a class"),
    ],
)
def test_a_wrong_path_says_what_to_write(value: str, problem: str) -> None:
    with (
        override_settings(WEBSOCKET_NAMESPACE=value),
        pytest.raises(ImproperlyConfigured) as raised,
    ):
        load_namespace()
    assert problem in str(raised.value)
    assert "returns a str" in str(raised.value)


# Sockets


class Base(TransactionTestCase):
    def setUp(self) -> None:
        self.enterContext(site)
        calls.clear()

    async def get(self, client: WebSocketClient, url: str) -> bytes:
        # Django's async client has headers of its own for sockets alone.
        tenant = client.defaults["HTTP_X_TENANT"]
        content: bytes = (await client.get(url, headers={"x-tenant": tenant})).content
        return content

    def client_of(self, tenant: str) -> WebSocketClient:
        return WebSocketClient(headers={"x-tenant": tenant})

    async def logged_in(self, tenant: str, user: Any) -> WebSocketClient:
        client = self.client_of(tenant)
        await client.aforce_login(user)
        return client

    async def assertOpen(self, socket: Any) -> None:
        await socket.send("ping")
        assert await socket.receive(timeout=DEADLINE) == "ping"

    async def assertClosed(self, socket: Any) -> None:
        with pytest.raises(WebSocketDisconnect) as caught:
            await socket.receive(timeout=DEADLINE)
        assert caught.value.code == 4401


class Tenants(Base):
    async def test_it_is_active_in_a_handler_in_its_tasks_and_in_its_lanes(self) -> None:
        async with self.client_of("red").connect("/ws/everywhere/") as socket:
            await socket.send("?")
            assert await socket.receive_json() == ["red"] * 4
        assert calls == ["/ws/everywhere/"]

    async def test_a_group_is_that_of_the_tenant(self) -> None:
        red, blue = self.client_of("red"), self.client_of("blue")
        async with (
            red.connect("/ws/lobby/") as reds,
            blue.connect("/ws/lobby/") as blues,
            WebSocketClient().connect("/ws/lobby/") as nobodys,
        ):
            await reds.send("hello")
            assert await reds.receive() == "red: hello"
            for url, said in (("/say/", "from a page"), ("/asay/", "from an async page")):
                assert await self.get(blue, url) == b"blue"
                assert await blues.receive() == said
            await Group("lobby").asend("to nobody's")
            assert await nobodys.receive() == "to nobody's"
            with groups.namespace("red"):
                await sync_to_async(Group("lobby").send)("from a task")
            assert await reds.receive() == "from a task"
            for socket in (reds, blues, nobodys):
                await socket.receive_nothing(0.02)

    async def test_a_user_is_that_of_the_tenant(self) -> None:
        ada = await User.objects.acreate_user("ada")
        red, blue = await self.logged_in("red", ada), await self.logged_in("blue", ada)
        async with red.connect("/ws/me/") as reds, blue.connect("/ws/me/") as blues:
            with groups.namespace("red"):
                await user_group(ada).asend("for red's ada")
            assert await reds.receive() == "for red's ada"
            await user_group(ada).asend("for nobody")
            for socket in (reds, blues):
                await socket.receive_nothing(0.02)

    async def test_a_logout_is_that_of_the_tenant(self) -> None:
        ada = await User.objects.acreate_user("ada")
        for page in ("/out/", "/aout/"):
            red, blue = await self.logged_in("red", ada), await self.logged_in("blue", ada)
            async with red.connect("/ws/me/") as reds, blue.connect("/ws/me/") as blues:
                await self.get(red, page)
                await self.assertClosed(reds)
                await self.assertOpen(blues)

    async def test_a_session_that_tenants_share_is_ended_in_all_of_them(self) -> None:
        ada = await User.objects.acreate_user("ada")
        red, blue = await self.logged_in("red", ada), self.client_of("blue")
        blue.cookies = red.cookies
        async with red.connect("/ws/me/") as reds, blue.connect("/ws/me/") as blues:
            await self.get(red, "/out/")
            await self.assertClosed(reds)
            await self.assertClosed(blues)

    async def test_it_is_ended_where_it_was_looked_at_before_it_was_gone(self) -> None:
        ada = await User.objects.acreate_user("ada")
        red, blue = await self.logged_in("red", ada), self.client_of("blue")
        blue.cookies = red.cookies
        looked_at.clear()
        loop = asyncio.get_running_loop()

        def verify(*args: Any) -> users.Verdict:
            verdict = users.verify(*args)
            loop.call_soon_threadsafe(looked_at.set)
            return verdict

        with mock.patch.object(verifier, "verify", verify):
            async with red.connect("/ws/me/") as reds, blue.connect("/ws/me/") as blues:
                await self.get(red, "/slow-out/")
                await self.assertClosed(reds)
                await self.assertClosed(blues)

    async def test_a_session_that_tenants_share_is_followed_to_its_new_key_in_all_of_them(
        self,
    ) -> None:
        ada = await User.objects.acreate_user("ada")
        red, blue = await self.logged_in("red", ada), self.client_of("blue")
        blue.cookies = red.cookies
        async with red.connect("/ws/me/") as reds, blue.connect("/ws/me/") as blues:
            assert await self.get(red, "/cycle/") == b"cycled"
            key = red.cookies["sessionid"].value
            await until(lambda: moved_to(key) == 2)
            for socket in (reds, blues):
                await self.assertOpen(socket)
            await self.get(red, "/out/")
            for socket in (reds, blues):
                await self.assertClosed(socket)

    async def test_a_saved_user_is_that_of_the_tenant_and_without_one_of_all(self) -> None:
        ada = await User.objects.acreate_user("ada")
        red, blue = await self.logged_in("red", ada), await self.logged_in("blue", ada)
        async with red.connect("/ws/me/") as reds, blue.connect("/ws/me/") as blues:
            # No signal says it: whoever is verified is out.
            await User.objects.filter(pk=ada.pk).aupdate(is_active=False)
            await self.get(self.client_of("red"), "/save/")
            await self.assertClosed(reds)
            await self.assertOpen(blues)
            await ada.asave(update_fields=["first_name"])
            await self.assertClosed(blues)

    async def test_another_process_says_in_which(self) -> None:
        ada = await User.objects.acreate_user("ada")
        red, blue = await self.logged_in("red", ada), await self.logged_in("blue", ada)
        async with red.connect("/ws/me/") as reds, blue.connect("/ws/me/") as blues:
            await User.objects.filter(pk=ada.pk).aupdate(is_active=False)
            message = {"user": str(ada.pk), "namespace": "blue", "from": "another"}
            await publish_control(json.dumps(message).encode())
            await self.assertClosed(blues)
            await self.assertOpen(reds)

    async def test_the_sockets_of_a_user_are_counted_in_each(self) -> None:
        ada = await User.objects.acreate_user("ada")
        red, blue = await self.logged_in("red", ada), await self.logged_in("blue", ada)
        async with red.connect("/ws/one/"), blue.connect("/ws/one/"):
            with pytest.raises(HandshakeDenied, match="429"):
                async with red.connect("/ws/one/"):
                    pass

    async def test_the_function_may_ask_who_it_is(self) -> None:
        client = await self.logged_in("red", await User.objects.acreate_user("ada"))
        with override_settings(WEBSOCKET_NAMESPACE=f"{__name__}.of_the_user"):
            async with client.connect("/ws/everywhere/") as socket:
                await socket.send("?")
                assert await socket.receive_json() == ["of-ada"] * 4

    async def test_what_the_function_raises_means_what_a_handler_means_by_it(self) -> None:
        with pytest.raises(HandshakeDenied, match="404"):
            async with self.client_of("gone").connect("/ws/lobby/"):
                pass

    async def test_what_is_no_namespace_fails_the_handshake_and_names_the_setting(self) -> None:
        with pytest.raises(TypeError, match="WEBSOCKET_NAMESPACE"):
            async with self.client_of("wrong").connect("/ws/lobby/"):
                pass

    async def test_an_assertion_about_a_group_is_one_about_its_namespace(self) -> None:
        with groups.namespace("red"):
            with assert_sent("lobby") as sent:
                await self.get(self.client_of("red"), "/say/")
                await self.get(self.client_of("blue"), "/say/")
            assert sent == ["from a page"]
        with pytest.raises(AssertionError, match="in 'red': 'from a page'"), assert_sent("lobby"):
            await self.get(self.client_of("red"), "/say/")

    async def test_code_that_reads_a_group_reads_that_of_its_namespace(self) -> None:
        async with self.client_of("red").connect("/ws/lobby/") as socket:
            with groups.namespace("red"):
                async with Group("lobby").subscribe() as messages:
                    with groups.namespace("blue"):  # what is active when it is left is no matter
                        await socket.send("x")
                        assert await anext(messages) == "red: x"


class SessionStore(cache.SessionStore):
    """Each tenant has one."""

    @property
    def cache_key_prefix(self) -> str:  # type: ignore[override]
        return f"{active_namespace()}."


def own_store(websocket: Any) -> Any:
    return groups.namespace(websocket.request.headers["x-tenant"])


@override_settings(
    SESSION_ENGINE=__name__,
    WEBSOCKET_SYNC_CONTEXT=f"{__name__}.own_store",
)
class Clones(Base):
    """One tenant was copied from the other: their sessions have the same keys."""

    def setUp(self) -> None:
        self.enterContext(site)
        self.enterContext(override_settings(MIDDLEWARE=[MIDDLEWARE[-1], *MIDDLEWARE[:-1]]))
        self.enterContext(mock.patch.object(verifier, "DOUBT_SECONDS", 0.1))

    async def both_logged_in(self) -> tuple[WebSocketClient, WebSocketClient]:
        ada = await User.objects.acreate_user("ada")
        red, blue = self.client_of("red"), self.client_of("blue")
        with groups.namespace("red"):
            await red.aforce_login(ada)
            key = red.cookies["sessionid"].value
            session = dict(await SessionStore(key).aitems())
        with groups.namespace("blue"):
            copy = SessionStore()
            await copy.aupdate(session)
            copy._session_key = key  # type: ignore[attr-defined]
            await copy.asave(must_create=True)
        blue.cookies["sessionid"] = key
        return red, blue

    async def test_a_logout_in_one_is_none_in_the_other(self) -> None:
        red, blue = await self.both_logged_in()
        async with red.connect("/ws/me/") as reds, blue.connect("/ws/me/") as blues:
            await self.get(red, "/out/")
            await self.assertClosed(reds)
            async with blue.connect("/ws/me/") as later:
                await self.assertOpen(later)
            with pytest.raises(HandshakeDenied, match="401"):
                async with red.connect("/ws/me/"):
                    pass
            await self.assertOpen(blues)

    async def moved(self, red: WebSocketClient) -> tuple[str, str]:
        """Give the session of red another key, such that nobody hears of it."""
        old, new = red.cookies["sessionid"].value, get_random_string(32).lower()
        with groups.namespace("red"):
            session = SessionStore(old)
            await session.aitems()  # loads it
            await session.adelete()
            session._session_key = new  # type: ignore[attr-defined]
            await session.asave(must_create=True)
        return old, new

    async def test_who_asks_what_has_become_of_a_key_asks_for_one(self) -> None:
        red, blue = await self.both_logged_in()
        async with red.connect("/ws/me/"), blue.connect("/ws/me/"):
            with mock.patch("django_ws_dispatch.auth.tell.end_session"):
                old, new = await self.moved(red)
            for token, sealed in zip(tokens_of(old), seal(new, old), strict=True):
                changes.note(token, sealed)
            connections.local().watch.verify_all()
            await until(lambda: moved_to(new) == 1)
            assert moved_to(old) == 1

    async def test_another_process_says_it_for_one_and_is_told_for_one(self) -> None:
        red, blue = await self.both_logged_in()
        async with red.connect("/ws/me/"), blue.connect("/ws/me/"):
            with mock.patch("django_ws_dispatch.auth.tell.end_session"):
                old, new = await self.moved(red)
            (token,), (sealed,) = tokens_of(old), seal(new, old)
            told = {"changed": [token], "to": [sealed], "namespace": "red", "from": "another"}
            await publish_control(json.dumps(told).encode())
            await until(lambda: moved_to(new) == 1)
            assert moved_to(old) == 1
            answers: list[Any] = []

            async def publish(payload: bytes) -> None:
                answers.append(json.loads(payload))

            with mock.patch("django_ws_dispatch.auth.control.publish_control", publish):
                asked = {"where": token, "namespace": "red", "from": "another"}
                await publish_control(json.dumps(asked).encode())
                await until(lambda: answers)
            (answer,) = answers
            assert answer == {**told, "from": sender()}

    async def test_a_key_that_is_changed_in_one_is_the_same_in_the_other(self) -> None:
        red, blue = await self.both_logged_in()
        old = blue.cookies["sessionid"].value
        async with red.connect("/ws/me/") as reds, blue.connect("/ws/me/") as blues:
            await self.get(red, "/cycle/")
            new = red.cookies["sessionid"].value
            await until(lambda: moved_to(new) == 1)
            assert moved_to(old) == 1
            await self.get(blue, "/out/")
            await self.assertClosed(blues)
            await self.assertOpen(reds)
            await self.get(red, "/out/")
            await self.assertClosed(reds)


def test_a_context_that_is_copied_has_it() -> None:
    with groups.namespace("red"):
        context = contextvars.copy_context()
    assert context.run(active_namespace) == "red"
