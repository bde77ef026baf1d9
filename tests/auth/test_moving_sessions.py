"""A session that is given another key, ends, or is replaced, while a socket is open."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import HASH_SESSION_KEY, get_user_model, update_session_auth_hash
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_out
from django.contrib.sessions.models import Session
from django.db import transaction
from django.http import HttpResponse
from django.test import override_settings
from django.urls import path

from django_ws_dispatch.auth import control, keys, tell, verifier
from django_ws_dispatch.auth.control import publish_control
from django_ws_dispatch.auth.engines import deleting, tell_of_keys, telling
from django_ws_dispatch.auth.keys import seal, tokens_of
from django_ws_dispatch.decorators import login_required, with_user
from django_ws_dispatch.dispatcher import sweep as connections
from django_ws_dispatch.testing import HandshakeDenied, WebSocketClient
from tests.auth.open_sockets import OpenSockets, echo
from tests.kit.waiting import until

ENGINES = ["db", "cached_db", "cache", "file"]


@with_user
async def anybody(websocket: Any) -> None:
    async for message in websocket:
        await websocket.send(message)


@login_required
async def flushes(websocket: Any) -> None:
    async for _ in websocket:
        await websocket.session.aflush()


def cycle(request: Any) -> HttpResponse:
    request.session.cycle_key()
    return HttpResponse(request.user.username)


async def acycle(request: Any) -> HttpResponse:
    await request.session.acycle_key()
    return HttpResponse("cycled")


def flush(request: Any) -> HttpResponse:
    request.session.flush()
    return HttpResponse("flushed")


def change_password(request: Any) -> HttpResponse:
    request.user.set_password(request.GET["to"])
    request.user.save()
    update_session_auth_hash(request, request.user)
    return HttpResponse("changed")


def cycle_in_vain(request: Any) -> HttpResponse:
    with transaction.atomic():
        request.session.cycle_key()
        transaction.set_rollback(True)
    return HttpResponse("rolled back")


def who(request: Any) -> HttpResponse:
    return HttpResponse(request.user.username)


urlpatterns = [
    path("cycle/", cycle),
    path("acycle/", acycle),
    path("flush/", flush),
    path("password/", change_password),
    path("in-vain/", cycle_in_vain),
    path("who/", who),
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "DOUBT_SECONDS", 0.1)
    monkeypatch.setattr(verifier, "FIRST_PAUSE", 0.02)


@override_settings(
    ROOT_URLCONF=__name__,
    WEBSOCKET_HANDLERS={"ws/echo/": echo, "ws/anybody/": anybody, "ws/flushes/": flushes},
)
class Base(OpenSockets):
    async def ask(self, client: WebSocketClient, page: str) -> str:
        return (await client.get(page)).content.decode()

    async def verified(self) -> None:
        """Have the user's sockets verified, and wait until nobody doubts."""
        await sync_to_async(self.user.save)(update_fields=["first_name"])
        looks = connections.local().watch.verifier
        await asyncio.sleep(0)
        await until(lambda: not (looks._looking or looks._ready or looks._timers))


class EngineTests(Base):
    async def each(self, act: Callable[[WebSocketClient, Any], Any]) -> None:
        for name in ENGINES:
            engine = f"django.contrib.sessions.backends.{name}"
            with self.subTest(name), override_settings(SESSION_ENGINE=engine):
                client = await self.logged_in()
                async with client.connect("/ws/echo/") as socket:
                    await self.assertOpen(socket)
                    await act(client, socket)

    async def test_with_another_key_the_page_is_logged_in_and_so_is_the_socket(self) -> None:
        async def act(client: WebSocketClient, socket: Any) -> None:
            before = client.cookies["sessionid"].value
            for page in ("/cycle/", "/acycle/"):
                await self.ask(client, page)
                await self.verified()
                await self.assertOpen(socket)
            assert client.cookies["sessionid"].value != before
            assert await self.ask(client, "/who/") == "ada"

        await self.each(act)

    async def test_a_logout_under_the_new_key_closes_the_socket(self) -> None:
        async def act(client: WebSocketClient, socket: Any) -> None:
            await self.ask(client, "/cycle/")
            await client.alogout()
            await self.assertLoggedOut(socket)

        await self.each(act)

    async def test_a_flush_closes_the_socket(self) -> None:
        async def act(client: WebSocketClient, socket: Any) -> None:
            await self.ask(client, "/flush/")
            await self.assertLoggedOut(socket)

        await self.each(act)

    async def test_a_login_as_somebody_else_closes_the_socket(self) -> None:
        bob = await User.objects.acreate_user("bob")

        async def act(client: WebSocketClient, socket: Any) -> None:
            await client.aforce_login(bob)
            await self.assertLoggedOut(socket)

        await self.each(act)

    async def test_who_is_deleted_from_the_store_is_out(self) -> None:
        async def act(client: WebSocketClient, socket: Any) -> None:
            session = await sync_to_async(lambda: client.session)()
            await session.adelete()
            await self.assertLoggedOut(socket)

        await self.each(act)

    async def test_who_is_deleted_by_a_store_that_then_fails_is_out(self) -> None:
        async def act(client: WebSocketClient, socket: Any) -> None:
            session = await sync_to_async(lambda: client.session)()
            store = type(session)
            delete = store.delete.__wrapped__

            def failing(self: Any, session_key: Any = None) -> None:
                delete(self, session_key)
                raise OSError("no answer")

            told = telling(failing, deleting)
            with mock.patch.object(store, "delete", told), pytest.raises(OSError, match="answer"):
                await sync_to_async(session.delete)()
            await self.assertLoggedOut(socket)

        await self.each(act)

    async def test_a_store_that_fails_and_has_deleted_nothing_closes_nobody(self) -> None:
        async def act(client: WebSocketClient, socket: Any) -> None:
            session = await sync_to_async(lambda: client.session)()
            failing = mock.Mock(__name__="delete", side_effect=OSError("no store"))
            told = telling(failing, deleting)
            with pytest.raises(OSError, match="no store"):
                await sync_to_async(told)(session)
            await self.verified()
            await self.assertOpen(socket)

        await self.each(act)

    async def test_a_new_password_closes_other_sessions_and_not_this_one(self) -> None:
        async def act(client: WebSocketClient, socket: Any) -> None:
            elsewhere = await self.logged_in()
            async with elsewhere.connect("/ws/echo/") as other:
                await self.ask(client, f"/password/?to={id(socket)}")
                await self.assertLoggedOut(other)
                await self.verified()
                await self.assertOpen(socket)
            assert await self.ask(client, "/who/") == "ada"

        await self.each(act)


class KeyTests(Base):
    async def test_a_row_that_is_gone_is_noticed_at_the_next_look(self) -> None:
        async with (await self.logged_in()).connect("/ws/echo/") as socket:
            await Session.objects.all().adelete()
            await sync_to_async(self.user.save)()
            await self.assertLoggedOut(socket)

    async def test_a_logout_on_a_page_whose_session_is_gone_closes_the_socket(self) -> None:
        client = await self.logged_in()
        async with client.connect("/ws/echo/") as socket:
            await Session.objects.all().adelete()
            request: Any = type("Request", (), {"COOKIES": {}, "session": None})()
            request.COOKIES["sessionid"] = client.cookies["sessionid"].value
            await user_logged_out.asend(sender=User, request=request, user=None)
            await self.assertLoggedOut(socket)

    async def test_a_change_that_is_rolled_back_changes_nothing(self) -> None:
        client = await self.logged_in()
        async with client.connect("/ws/echo/") as socket:
            await self.ask(client, "/in-vain/")
            watched = len(keys.changes)
            await self.verified()
            await self.assertOpen(socket)
            assert len(keys.changes) == watched

    async def test_nobody_is_let_in_by_the_old_key(self) -> None:
        client = await self.logged_in()
        old = client.cookies["sessionid"].value
        async with client.connect("/ws/echo/") as socket:
            await self.ask(client, "/cycle/")
            client.cookies["sessionid"] = old
            with pytest.raises(HandshakeDenied, match="401"):
                async with client.connect("/ws/echo/"):
                    pass
            await self.assertOpen(socket)

    async def test_what_is_saved_on_the_socket_is_saved_under_the_new_key(self) -> None:
        client = await self.logged_in()

        @login_required
        async def saves(websocket: Any) -> None:
            async for message in websocket:
                await websocket.session.aset("seen", message)
                await websocket.session.asave()
                await websocket.send("saved")

        with override_settings(WEBSOCKET_HANDLERS={"ws/saves/": saves}):
            async with client.connect("/ws/saves/") as socket:
                await self.ask(client, "/cycle/")
                await socket.send("this")
                assert await socket.receive() == "saved"
        session = await sync_to_async(lambda: client.session)()
        assert await session.aget("seen") == "this"

    async def test_an_anonymous_socket_stays_open_when_its_visitor_logs_in_and_out(self) -> None:
        client = WebSocketClient()
        session = await sync_to_async(lambda: client.session)()
        await session.asave()
        client.cookies["sessionid"] = session.session_key
        async with client.connect("/ws/anybody/") as socket:
            await client.aforce_login(self.user)
            await client.alogout()
            await self.assertOpen(socket)

    async def test_a_handler_that_flushes_its_session_logs_out(self) -> None:
        async with (await self.logged_in()).connect("/ws/flushes/") as socket:
            await socket.send("out")
            await self.assertLoggedOut(socket)

    async def half_a_page(self, client: WebSocketClient) -> Any:
        """Change the password as a page does, up to where it saves the session."""
        session = await sync_to_async(lambda: client.session)()
        self.user.set_password("second")
        await self.user.asave()
        await session.acycle_key()
        return session

    async def test_a_page_that_is_not_done_is_waited_for(self) -> None:
        client = await self.logged_in()
        async with client.connect("/ws/echo/") as socket:
            session = await self.half_a_page(client)
            await asyncio.sleep(4 * verifier.DOUBT_SECONDS)
            await self.assertOpen(socket)
            await session.aset(HASH_SESSION_KEY, self.user.get_session_auth_hash())
            await session.asave()
            await self.verified()
            await self.assertOpen(socket)

    async def test_a_page_that_is_never_done_is_not_waited_for_for_ever(self) -> None:
        client = await self.logged_in()
        with mock.patch.object(verifier, "PAGE_SECONDS", 0.2):
            async with client.connect("/ws/echo/") as socket:
                await self.half_a_page(client)
                await self.assertLoggedOut(socket)

    async def test_the_new_key_comes_from_another_process_too(self) -> None:
        client = await self.logged_in()
        async with client.connect("/ws/echo/") as socket:
            old = client.cookies["sessionid"].value
            data = await Session.objects.aget(pk=old)
            await Session.objects.acreate(
                pk="n" * 32, session_data=data.session_data, expire_date=data.expire_date
            )
            message = {"changed": tokens_of(old), "to": seal("n" * 32, old), "from": "another"}
            await publish_control(json.dumps(message).encode())
            await data.adelete()
            await self.verified()
            await self.assertOpen(socket)
            await Session.objects.filter(pk="n" * 32).adelete()
            await sync_to_async(self.user.save)()
            await self.assertLoggedOut(socket)

    async def test_keys_that_are_told_in_another_order_are_followed_to_the_last(self) -> None:
        client = await self.logged_in()
        async with client.connect("/ws/echo/") as socket:
            old, second, last = client.cookies["sessionid"].value, "s" * 32, "l" * 32
            await Session.objects.filter(pk=old).aupdate(session_key=last)
            # What the broker did not take at first comes after what it took at once.
            for before, after in [(second, last), (old, second)]:
                message = {"changed": tokens_of(before), "to": seal(after, before)}
                await publish_control(json.dumps({**message, "from": "another"}).encode())
            await self.verified()
            await self.assertOpen(socket)
            (watched,) = connections.local().watch._by_user[str(self.user.pk)]
            assert watched.watched is not None
            assert watched.watched.key == last

    async def test_a_question_counts_once_this_process_has_heard_it(self) -> None:
        client = await self.logged_in()
        async with client.connect("/ws/echo/"):
            watch = connections.local().watch
            with mock.patch.object(watch.verifier, "heard") as heard:
                for token in tokens_of(client.cookies["sessionid"].value):
                    await publish_control(control.encode({"where": token}))
                await until(lambda: heard.called)
            heard.assert_called_once_with(*watch._by_user[str(self.user.pk)])

    async def test_who_comes_with_the_old_key_a_moment_later_goes_with_the_new_one(self) -> None:
        client = await self.logged_in()
        old, new = client.cookies["sessionid"].value, "n" * 32
        data = await Session.objects.aget(pk=old)
        await Session.objects.acreate(
            pk=new, session_data=data.session_data, expire_date=data.expire_date
        )
        # The database that the socket reads from is behind, and still has it.
        keys.changes.note(*tokens_of(old), *seal(new, old))
        async with client.connect("/ws/echo/") as socket:
            await self.assertOpen(socket)
            await sync_to_async(tell.end_session)({new})
            await self.assertLoggedOut(socket)

    async def test_a_hash_that_is_stale_closes_the_socket_though_the_session_is_there(self) -> None:
        client = await self.logged_in()
        async with client.connect("/ws/echo/") as socket:
            session = await sync_to_async(lambda: client.session)()
            await session.aset(HASH_SESSION_KEY, "stale")
            await session.asave()
            await sync_to_async(self.user.save)()
            await self.assertLoggedOut(socket)


def test_an_engine_is_told_to_tell_once() -> None:
    from django.contrib.sessions.backends import db, signed_cookies

    before = db.SessionStore.cycle_key
    for engine in (db, signed_cookies):
        tell_of_keys(engine.__name__)
    assert db.SessionStore.cycle_key is before
    assert not hasattr(signed_cookies.SessionStore.cycle_key, "__wrapped__")
    assert get_user_model() is User
