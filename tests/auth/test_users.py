"""Who the user of a session is: whom Django finds, and nothing is written."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.models import Session
from django.core.exceptions import ImproperlyConfigured
from django.test import TestCase, modify_settings, override_settings

from django_ws_dispatch.auth.sessions import (
    open_session,
    reopen_session,
)
from django_ws_dispatch.auth.users import Verdict, aload_user, load_user, verify
from tests.kit.sessions import ENGINES, engine, new_session, request_with, session_of

EVERYBODY = "django.contrib.auth.backends.AllowAllUsersModelBackend"


class TokenBackend(BaseBackend):
    """A backend of a user that no session hash verifies, as of a remote service."""

    def get_user(self, user_id: Any) -> Any:
        return type("RemoteUser", (), {"pk": user_id, "is_authenticated": True})()


def both_ways(session: SessionBase) -> Any:
    """Return the user as the sync and the async way load it, which is the same."""
    user = load_user(reopen_session(session))
    other = async_to_sync(aload_user)(reopen_session(session))
    assert user == other
    return user


class NothingWritten:
    """Fails where the session's row or key is not what it was."""

    def __init__(self, session: SessionBase) -> None:
        self.key = session.session_key

    def __enter__(self) -> None:
        self.rows = list(Session.objects.values_list())

    def __exit__(self, *failure: object) -> None:
        if failure[0] is None:
            assert list(Session.objects.values_list()) == self.rows


class UserTests(TestCase):
    def setUp(self) -> None:
        self.user = User.objects.create_user("ada", password="first")

    def test_the_user_of_the_session(self):
        assert both_ways(session_of(self.user)) == self.user

    def test_no_session_is_anonymous(self):
        assert both_ways(new_session(x=1)) == AnonymousUser()
        assert load_user(open_session(request_with(None))) == AnonymousUser()

    def test_half_a_session_is_anonymous(self):
        for missing in (SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY):
            assert both_ways(session_of(self.user, **{missing: None})) == AnonymousUser()

    def test_every_engine_gives_the_user(self):
        for name in ENGINES:
            with self.subTest(name), engine(name):
                assert both_ways(session_of(self.user)) == self.user

    def test_a_changed_password_is_anonymous_and_the_session_stays(self):
        session = session_of(self.user)
        self.user.set_password("second")
        self.user.save()
        with NothingWritten(session):
            assert both_ways(session) == AnonymousUser()

    def test_a_forged_hash_is_anonymous(self):
        for forged in ("", "x", "\u00e9", "0" * 64):
            assert both_ways(session_of(self.user, **{HASH_SESSION_KEY: forged})) == AnonymousUser()

    def test_an_inactive_user_is_anonymous(self):
        session = session_of(self.user)
        User.objects.update(is_active=False)
        assert both_ways(session) == AnonymousUser()

    @override_settings(AUTHENTICATION_BACKENDS=[EVERYBODY])
    def test_which_users_exist_is_the_backend_s_to_say(self):
        User.objects.update(is_active=False)
        assert both_ways(session_of(self.user, EVERYBODY)) == self.user

    def test_a_deleted_user_is_anonymous(self):
        session = session_of(self.user)
        self.user.delete()
        assert both_ways(session) == AnonymousUser()

    def test_a_backend_that_is_not_in_the_settings_is_anonymous(self):
        for backend in (EVERYBODY, "no.such.Backend", "", "os.system"):
            assert both_ways(session_of(self.user, backend)) == AnonymousUser()

    @override_settings(AUTHENTICATION_BACKENDS=[f"{__name__}.TokenBackend"])
    def test_a_user_without_a_session_hash_is_taken_as_it_is(self):
        session = session_of(self.user, f"{__name__}.TokenBackend", **{HASH_SESSION_KEY: None})
        assert load_user(reopen_session(session)).pk == self.user.pk
        assert async_to_sync(aload_user)(reopen_session(session)).pk == self.user.pk

    def test_a_rotated_secret_verifies_and_nothing_is_written(self):
        for name in ("db", "cached_db", "cache", "file"):
            with self.subTest(name), engine(name):
                session = session_of(self.user)
                rotated = {"SECRET_KEY": "new", "SECRET_KEY_FALLBACKS": ["older", "tests-only"]}
                with NothingWritten(session), override_settings(**rotated):
                    opened = open_session(request_with(session))
                    assert load_user(opened) == self.user
                    assert async_to_sync(aload_user)(opened) == self.user
                    assert not opened.modified
                    assert opened.session_key == session.session_key

    def test_a_secret_that_is_gone_does_not_verify(self):
        with engine("cache"):
            session = session_of(self.user)
            with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["older"]):
                assert both_ways(session) == AnonymousUser()

    def test_it_finds_whom_django_finds(self):
        from django.contrib.auth import get_user

        for changes in ({}, {HASH_SESSION_KEY: "x"}, {BACKEND_SESSION_KEY: "x"}):
            session = session_of(self.user, **changes)
            page = request_with(None)
            page.session = new_session(**dict(session.items()))
            assert both_ways(session) == get_user(page)


class NotInstalledTests(TestCase):
    @modify_settings(INSTALLED_APPS={"remove": ["django.contrib.auth"]})
    def test_a_user_without_the_app_names_the_app(self):
        with pytest.raises(ImproperlyConfigured, match=r"django\.contrib\.auth"):
            load_user(open_session(request_with(None)))
        with pytest.raises(ImproperlyConfigured, match=r"django\.contrib\.auth"):
            async_to_sync(request_with(None).auser)()


class VerifyTests(TestCase):
    """Whether a socket's user is still who it was."""

    def setUp(self) -> None:
        self.user = User.objects.create_user("ada", password="first")
        self.pk = str(self.user.pk)
        self.session = reopen_session(session_of(self.user))

    def test_who_is_still_logged_in_is_in(self):
        assert verify(self.session, self.pk, self.pk) is Verdict.IN

    def test_who_is_switched_off_or_deleted_is_out(self):
        User.objects.update(is_active=False)
        assert verify(self.session, self.pk, self.pk) is Verdict.OUT
        User.objects.all().delete()
        assert verify(reopen_session(self.session), self.pk, self.pk) is Verdict.OUT

    def test_a_session_that_is_gone_leaves_a_doubt(self):
        Session.objects.all().delete()
        assert verify(self.session, self.pk, self.pk) is Verdict.DOUBT

    def test_a_stale_hash_leaves_a_doubt(self):
        self.user.set_password("second")
        self.user.save()
        assert verify(self.session, self.pk, self.pk) is Verdict.DOUBT

    def test_a_session_of_somebody_else_leaves_a_doubt(self):
        assert verify(self.session, "0", "0") is Verdict.DOUBT

    def test_whom_a_middleware_names_has_to_be_active(self):
        bob = User.objects.create_user("bob")
        for session, in_session in ((None, None), (self.session, self.pk)):
            assert verify(session, in_session, str(bob.pk)) is Verdict.IN
        User.objects.filter(pk=bob.pk).update(is_active=False)
        for session, in_session in ((None, None), (self.session, self.pk)):
            assert verify(session, in_session, str(bob.pk)) is Verdict.OUT

    def test_who_is_nobody_stays_nobody(self):
        assert verify(None, None, None) is Verdict.IN
