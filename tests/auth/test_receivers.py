"""What a logout, and a change of a user, mean for open sockets."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest import mock

import pytest
from django.contrib.auth import get_user
from django.contrib.auth.models import Group as AuthGroup
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_out
from django.db import transaction
from django.db.models.signals import post_delete, post_save
from django.test import RequestFactory, TransactionTestCase, override_settings
from django.utils.functional import SimpleLazyObject

from django_ws_dispatch.auth import control, receivers, tell
from django_ws_dispatch.auth.control import publish_control
from django_ws_dispatch.decorators import login_required
from django_ws_dispatch.dispatcher import sweep as connections
from django_ws_dispatch.exceptions import WebSocketDisconnect
from django_ws_dispatch.testing import HandshakeDenied, WebSocketClient


@login_required
async def echo(websocket: Any) -> None:
    async for message in websocket:
        await websocket.send(message)


SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"


def lazy(get_response: Any) -> Any:
    """As sites have it that load the user in their own way."""

    def middleware(request: Any) -> Any:
        request.user = SimpleLazyObject(lambda: get_user(request))
        return get_response(request)

    return middleware


def verifying(get_response: Any) -> Any:
    """As django-otp's: around the user, and around ``auser()``."""

    def middleware(request: Any) -> Any:
        user, auser = request.user, request.auser

        def verified() -> Any:
            user.is_verified = True
            return user

        async def averified() -> Any:
            found = await auser()
            found.is_verified = True
            return found

        request.user, request.auser = SimpleLazyObject(verified), averified
        return get_response(request)

    return middleware


def stateless(get_response: Any) -> Any:
    """As those of tokens: there is no session but what the token says."""

    def middleware(request: Any) -> Any:
        request.session, request.user = {}, User.objects.get(username="ada")
        return get_response(request)

    return middleware


def acting(get_response: Any) -> Any:
    """As django-hijack's: a user who acts as another one."""

    def middleware(request: Any) -> Any:
        if request.user.is_authenticated:
            request.user = User.objects.get(username="bob")
        return get_response(request)

    return middleware


class UserProxy(User):
    class Meta:
        app_label = "auth"
        proxy = True


class Told:
    """Instead of ``tell``: what it was told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sessions: list[str] = []
        self.users: list[Any] = []
        monkeypatch.setattr(tell, "end_session", lambda keys, *_: self.sessions.extend(keys))
        monkeypatch.setattr(tell, "verify_user", lambda user, _: self.users.append(user.pk))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(monkeypatch)


@pytest.fixture
def ada(db: None) -> User:
    return User.objects.create_user("ada", password="first")


def test_a_new_user_has_no_sockets_to_verify(db, told, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        User.objects.create_user("ada")
    assert (callbacks, told.users) == ([], [])


def test_a_saved_user_is_verified_once_the_transaction_is_committed(
    ada, told, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        ada.save()
        assert told.users == []
    assert told.users == [ada.pk]


def test_a_save_that_is_rolled_back_verifies_nobody(ada, told, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        ada.save()
        transaction.set_rollback(True)
    assert told.users == []


def test_a_save_of_the_last_login_alone_verifies_nobody(
    ada, told, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        ada.save(update_fields=["last_login"])
        assert told.users == []
        ada.save(update_fields=["last_login", "password"])
    assert told.users == [ada.pk]


def test_a_deleted_user_is_verified_by_the_key_it_had(
    ada, told, django_capture_on_commit_callbacks
):
    key = ada.pk
    with django_capture_on_commit_callbacks(execute=True):
        ada.delete()
    assert (ada.pk, told.users) == (None, [key])


class ManualCommits(TransactionTestCase):
    """A site, or a command, that commits by itself."""

    def test_a_user_can_be_saved_and_is_verified_then_and_once_autocommit_is_on_again(self) -> None:
        ada = User.objects.create_user("ada")
        with pytest.MonkeyPatch.context() as monkeypatch:
            told = Told(monkeypatch)
            transaction.set_autocommit(False)
            try:
                ada.save()
                assert told.users == [ada.pk]
                transaction.commit()
                assert told.users == [ada.pk]
            finally:
                transaction.set_autocommit(True)
            assert told.users == [ada.pk] * 2


def test_a_user_can_be_saved_whatever_goes_wrong(ada, monkeypatch, caplog):
    def fail(*args: Any) -> None:
        raise RuntimeError("no broker")

    monkeypatch.setattr(receivers, "active_namespace", fail)
    ada.save()
    assert "can not be told" in caplog.text


def test_proxies_of_the_user_model_count(ada, told, django_capture_on_commit_callbacks):
    receivers.connect()  # again: the proxy was made after the app was ready
    with django_capture_on_commit_callbacks(execute=True):
        UserProxy.objects.get(pk=ada.pk).save()
    assert told.users == [ada.pk]


def test_other_models_pay_nothing(db):
    assert not post_save.has_listeners(AuthGroup)
    assert not post_delete.has_listeners(AuthGroup)


def test_connecting_twice_tells_once(ada, told, django_capture_on_commit_callbacks):
    receivers.connect()
    receivers.connect()
    with django_capture_on_commit_callbacks(execute=True):
        ada.save()
    assert told.users == [ada.pk]


def test_a_change_of_the_user_model_is_followed(db):
    with override_settings(AUTH_USER_MODEL="auth.Group"):
        assert post_save.has_listeners(AuthGroup)
        assert not post_save.has_listeners(User)
    assert post_save.has_listeners(User)
    assert not post_save.has_listeners(AuthGroup)


def test_a_site_without_auth_listens_to_nothing():
    with override_settings(INSTALLED_APPS=["django_ws_dispatch"]):
        assert not post_save.has_listeners(User)
    assert post_save.has_listeners(User)


@pytest.mark.parametrize("session", [None, "", "no session"])
def test_a_logout_without_a_session_key_tells_nobody(told, session):
    request: Any = None
    if session is not None:
        request = RequestFactory().get("/")
        if session == "":
            request.session = type("Session", (), {"session_key": None})()
    user_logged_out.send(sender=User, request=request, user=None)
    assert told.sessions == []


def test_a_logout_does_not_fail_because_of_the_sockets(monkeypatch, caplog):
    def fail(*args: Any) -> None:
        raise RuntimeError("no broker")

    monkeypatch.setattr(tell, "end_session", fail)
    request: Any = RequestFactory().get("/")
    request.session = type("Session", (), {"session_key": "a" * 32})()
    user_logged_out.send(sender=User, request=request, user=None)
    assert "can not be told" in caplog.text
    assert "a" * 32 not in caplog.text


# With real sockets


@override_settings(WEBSOCKET_HANDLERS={"ws/echo/": echo})
class OpenSocketTests(TransactionTestCase):
    def setUp(self) -> None:
        self.user = User.objects.create_user("ada", password="first")

    async def logged_in(self) -> WebSocketClient:
        client = WebSocketClient()
        await client.aforce_login(self.user)
        return client

    async def assertOpen(self, socket: Any) -> None:
        await socket.send("ping")
        assert await socket.receive() == "ping"

    async def assertLoggedOut(self, socket: Any) -> None:
        with pytest.raises(WebSocketDisconnect) as caught:
            await socket.receive(timeout=5)
        assert caught.value.code == 4401

    async def test_a_logout_closes_the_sockets_of_its_session_alone(self) -> None:
        here, elsewhere = await self.logged_in(), await self.logged_in()
        async with here.connect("/ws/echo/") as one, elsewhere.connect("/ws/echo/") as other:
            await self.assertOpen(one)
            await here.alogout()
            await self.assertLoggedOut(one)
            await self.assertOpen(other)

    async def test_a_new_password_closes_the_sockets_of_the_user(self) -> None:
        async with (await self.logged_in()).connect("/ws/echo/") as socket:
            await self.assertOpen(socket)
            self.user.set_password("second")
            await self.user.asave()
            await self.assertLoggedOut(socket)

    async def test_a_user_who_is_switched_off_is_closed(self) -> None:
        async with (await self.logged_in()).connect("/ws/echo/") as socket:
            self.user.is_active = False
            await self.user.asave(update_fields=["is_active"])
            await self.assertLoggedOut(socket)

    async def test_a_deleted_user_is_closed(self) -> None:
        async with (await self.logged_in()).connect("/ws/echo/") as socket:
            await self.user.adelete()
            await self.assertLoggedOut(socket)

    async def test_every_user_is_verified_where_a_process_could_not_say_whom(self) -> None:
        bob = await User.objects.acreate_user("bob")
        client = WebSocketClient()
        await client.aforce_login(bob)
        async with (
            (await self.logged_in()).connect("/ws/echo/") as adas,
            client.connect("/ws/echo/") as bobs,
        ):
            # No signal says it, in this process.
            await User.objects.filter(username="ada").aupdate(is_active=False)
            await publish_control(b'{"user": "*", "from": "another process"}')
            await self.assertLoggedOut(adas)
            await self.assertOpen(bobs)

    async def test_what_this_process_could_not_say_is_no_news_to_itself(self) -> None:
        async with (await self.logged_in()).connect("/ws/echo/") as socket:
            await User.objects.filter(username="ada").aupdate(is_active=False)
            await publish_control(control.encode({"user": control.EVERYBODY}))
            await self.assertOpen(socket)

    async def test_another_name_and_another_login_close_nothing(self) -> None:
        async with (await self.logged_in()).connect("/ws/echo/") as socket:
            self.user.first_name = "Ada"
            await self.user.asave()
            await self.logged_in()
            await self.assertOpen(socket)

    async def test_a_user_whom_a_middleware_names_is_logged_out_with_the_session(self) -> None:
        await User.objects.acreate_user("bob")
        for middleware in (lazy, verifying, acting):
            paths = [SESSIONS, AUTHENTICATION, f"{__name__}.{middleware.__name__}"]
            with self.subTest(middleware.__name__), override_settings(WEBSOCKET_MIDDLEWARE=paths):
                client = await self.logged_in()
                async with client.connect("/ws/echo/") as socket:
                    await self.assertOpen(socket)
                    await client.alogout()
                    await self.assertLoggedOut(socket)
                async with (await self.logged_in()).connect("/ws/echo/") as socket:
                    self.user.set_password(middleware.__name__)
                    await self.user.asave()
                    await self.assertLoggedOut(socket)

    async def test_whom_another_user_acts_as_has_to_stay_active_too(self) -> None:
        bob = await User.objects.acreate_user("bob")
        paths = [SESSIONS, AUTHENTICATION, f"{__name__}.acting"]
        with override_settings(WEBSOCKET_MIDDLEWARE=paths):
            async with (await self.logged_in()).connect("/ws/echo/") as socket:
                await bob.asave()
                await self.assertOpen(socket)
                bob.is_active = False
                await bob.asave()
                await self.assertLoggedOut(socket)

    async def test_the_user_may_be_asked_for_twice_at_once(self) -> None:
        async def asks(websocket: Any) -> None:
            first, second = await asyncio.gather(websocket.auser(), websocket.auser())
            await websocket.send(f"{first} {first is second}")
            async for _ in websocket:
                pass

        with override_settings(WEBSOCKET_HANDLERS={"ws/asks/": asks}):
            client = await self.logged_in()
            async with client.connect("/ws/asks/") as socket:
                assert await socket.receive() == "ada True"
                await client.alogout()
                await self.assertLoggedOut(socket)

    async def test_a_task_that_outlives_its_handler_leaves_no_socket_behind(self) -> None:
        tasks = []

        async def leaves(websocket: Any) -> None:
            async def ask_later() -> None:
                await over.wait()
                await websocket.auser()

            tasks.append(asyncio.create_task(ask_later()))
            await websocket.accept()

        over = asyncio.Event()
        client = await self.logged_in()
        with override_settings(WEBSOCKET_HANDLERS={"ws/leaves/": leaves, "ws/echo/": echo}):
            async with client.connect("/ws/echo/") as socket:  # keeps the loop's sockets
                async with client.connect("/ws/leaves/") as other:
                    await other.wait_closed()
                over.set()
                await tasks[0]
                home = connections.local().watch
                watched = [*home._by_session.values(), *home._by_user.values()]
                assert [len(sockets) for sockets in watched] == [1, 1]
                await self.assertOpen(socket)

    async def test_a_session_of_a_middleware_s_own_is_left_alone(self) -> None:
        paths = [f"{__name__}.stateless"]
        with override_settings(WEBSOCKET_MIDDLEWARE=paths):
            async with WebSocketClient().connect("/ws/echo/") as socket:
                await self.assertOpen(socket)

    async def test_a_browser_without_a_session_takes_no_thread(self) -> None:
        hopping = mock.patch("django_ws_dispatch.auth.users.sync_to_async")
        with hopping as hops, pytest.raises(HandshakeDenied):
            async with WebSocketClient().connect("/ws/echo/"):
                pass
        hops.assert_not_called()
