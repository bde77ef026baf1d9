"""What a logout, and a change of a user, mean for open sockets."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group as AuthGroup
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_out
from django.db import transaction
from django.db.models.signals import post_delete, post_save
from django.test import RequestFactory, TransactionTestCase, override_settings

from django_ws_dispatch.auth import receivers, tell
from tests.auth.open_sockets import OpenSockets, echo


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
class OpenSocketTests(OpenSockets):
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

    async def test_another_name_and_another_login_close_nothing(self) -> None:
        async with (await self.logged_in()).connect("/ws/echo/") as socket:
            self.user.first_name = "Ada"
            await self.user.asave()
            await self.logged_in()
            await self.assertOpen(socket)
