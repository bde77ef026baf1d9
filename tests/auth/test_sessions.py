from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, alogin
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.contrib.sessions.backends.file import SessionStore as FileStore
from django.contrib.sessions.models import Session
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.test import TestCase, modify_settings, override_settings
from django.utils.functional import SimpleLazyObject

from django_ws_dispatch.auth import keys
from django_ws_dispatch.auth.keys import LoggedOut, tokens_of
from django_ws_dispatch.auth.sessions import (
    SessionKeyChange,
    guard_session,
    open_session,
    reopen_session,
)
from django_ws_dispatch.auth.users import aload_user, load_user
from django_ws_dispatch.handshake.request import HandshakeRequest, build_request

ENGINES = ["db", "cached_db", "cache", "file", "signed_cookies"]
MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"
EVERYBODY = "django.contrib.auth.backends.AllowAllUsersModelBackend"


class TokenBackend(BaseBackend):
    """A backend of a user that no session hash verifies, as of a remote service."""

    def get_user(self, user_id: Any) -> Any:
        return type("RemoteUser", (), {"pk": user_id, "is_authenticated": True})()


def engine(name: str) -> Any:
    return override_settings(SESSION_ENGINE=f"django.contrib.sessions.backends.{name}")


@pytest.fixture(autouse=True)
def _session_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Django looks at SESSION_FILE_PATH once in a process.
    monkeypatch.setattr(FileStore, "_storage_path", str(tmp_path), raising=False)


def new_session(**data: Any) -> SessionBase:
    """Save a session as a page does, and return it."""
    from importlib import import_module

    from django.conf import settings

    session: SessionBase = import_module(settings.SESSION_ENGINE).SessionStore()
    session.update(data)
    session.save()
    return session


def session_of(user: User, backend: str = MODEL_BACKEND, **changes: Any) -> SessionBase:
    data = {
        SESSION_KEY: str(user.pk),
        BACKEND_SESSION_KEY: backend,
        HASH_SESSION_KEY: user.get_session_auth_hash(),
    } | changes
    return new_session(**{key: value for key, value in data.items() if value is not None})


def request_with(session: SessionBase | str | None) -> HandshakeRequest:
    key = session.session_key if isinstance(session, SessionBase) else session
    headers = [(b"host", b"testserver")]
    if key is not None:
        headers.append((b"cookie", f"sessionid={key}".encode()))
    return build_request({"type": "websocket", "path": "/ws/", "headers": headers})


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


class SessionTests(TestCase):
    def test_nothing_is_loaded_before_it_is_asked_for(self):
        session = new_session(x=1)
        with self.assertNumQueries(0):
            opened = open_session(request_with(session))
            assert opened.session_key == session.session_key
        with self.assertNumQueries(1):
            assert opened["x"] == 1

    def test_no_cookie_is_an_empty_session(self):
        for key in (None, "", "short", "no-such-session-anywhere"):
            opened = open_session(request_with(key))
            assert opened.get("x") is None

    def test_every_engine_is_read(self):
        for name in ENGINES:
            with self.subTest(name), engine(name):
                assert open_session(request_with(new_session(x=1)))["x"] == 1

    async def test_every_engine_is_read_async(self):
        for name in ENGINES:
            with self.subTest(name), engine(name):
                session = await sync_to_async(new_session)(x=1)
                assert await open_session(request_with(session)).aget("x") == 1

    def test_a_session_that_can_not_be_read_is_empty(self):
        for name in ENGINES:
            with self.subTest(name), engine(name):
                session = new_session(x=1)
                key = session.session_key
                with override_settings(SECRET_KEY="another", SECRET_KEY_FALLBACKS=[]):
                    opened = open_session(request_with(key))
                    signed = name not in ("cache", "cached_db")
                    assert opened.get("x") == (None if signed else 1)

    async def test_a_session_that_can_not_be_read_is_empty_async(self):
        for name in ("db", "file", "signed_cookies"):
            with self.subTest(name), engine(name):
                session = await sync_to_async(new_session)(x=1)
                with override_settings(SECRET_KEY="another"):
                    assert await open_session(request_with(session)).aget("x") is None

    def test_an_expired_session_is_empty_and_starts_no_other(self):
        for name in ENGINES:
            with self.subTest(name), engine(name):
                session = new_session(x=1)
                session.set_expiry(-1)
                session.save()
                opened = open_session(request_with(session))
                with mock.patch.object(type(session), "_get_new_session_key") as new_key:
                    if name != "signed_cookies":  # it has no expiry but its age
                        assert opened.get("x") is None
                new_key.assert_not_called()

    async def test_a_change_is_saved_under_the_same_key(self):
        for name in ("db", "cached_db", "cache", "file"):
            with self.subTest(name), engine(name):
                session = await sync_to_async(new_session)(x=1)
                opened = open_session(request_with(session))
                await opened.aset("x", 2)
                await opened.asave()
                assert opened.session_key == session.session_key
                assert await open_session(request_with(session)).aget("x") == 2

    def test_a_change_is_saved_under_the_same_key_sync(self):
        for name in ("db", "cached_db", "cache", "file"):
            with self.subTest(name), engine(name):
                session = new_session(x=1)
                opened = open_session(request_with(session))
                opened["x"] = 2
                opened.save()
                assert type(session)(session.session_key)["x"] == 2

    def test_what_would_change_the_key_raises(self):
        for name in ENGINES:
            for operation in ("create", "cycle_key"):
                with self.subTest(f"{name} {operation}"), engine(name):
                    opened = open_session(request_with(new_session(x=1)))
                    with pytest.raises(SessionKeyChange, match=operation):
                        getattr(opened, operation)()

    async def test_what_would_change_the_key_raises_async(self):
        for name in ENGINES:
            for operation in ("acreate", "acycle_key"):
                with self.subTest(f"{name} {operation}"), engine(name):
                    session = await sync_to_async(new_session)(x=1)
                    with pytest.raises(SessionKeyChange, match=operation):
                        await getattr(open_session(request_with(session)), operation)()

    def test_a_session_that_the_browser_does_not_have_can_not_be_saved(self):
        for name in ENGINES:
            for key in (None, "nosuchsessionanywhere"):
                with self.subTest(f"{name} {key}"), engine(name):
                    opened = open_session(request_with(key))
                    opened["x"] = 1
                    with pytest.raises((SessionKeyChange, UpdateError)):
                        opened.save()
                    with pytest.raises((SessionKeyChange, UpdateError)):
                        async_to_sync(opened.asave)()

    def test_a_signed_cookie_can_not_be_saved_or_forgotten(self):
        with engine("signed_cookies"):
            session = new_session(x=1)
            for operation in ("save", "delete", "flush"):
                opened = open_session(request_with(session))
                opened["x"] = 2
                with pytest.raises(SessionKeyChange, match=operation):
                    getattr(opened, operation)()
                assert opened.session_key == session.session_key
                with pytest.raises(SessionKeyChange, match=operation):
                    async_to_sync(getattr(opened, f"a{operation}"))()

    def test_a_session_can_be_ended_and_then_not_saved(self):
        session = new_session(x=1)
        opened = open_session(request_with(session))
        opened.flush()
        assert not Session.objects.filter(pk=session.session_key).exists()
        opened["x"] = 1
        with pytest.raises(SessionKeyChange, match="save"):
            opened.save()

    def test_a_login_in_a_handler_raises(self):
        user = User.objects.create_user("ada")
        request = request_with(new_session(x=1))
        with pytest.raises(SessionKeyChange):
            async_to_sync(alogin)(request, user, MODEL_BACKEND)
        assert Session.objects.count() == 1

    def test_a_session_of_middleware_is_guarded_in_place(self):
        session = new_session(x=1)
        guard_session(session)
        guard_session(session)
        assert session["x"] == 1
        with pytest.raises(SessionKeyChange):
            session.cycle_key()
        assert reopen_session(session)["x"] == 1

    def test_a_session_that_is_not_django_s_is_left_alone(self):
        session: Any = object()
        guard_session(session)

    def test_the_token_of_a_session_is_no_key_and_depends_on_the_secret(self):
        (token,) = tokens_of("a" * 32)
        assert "a" * 32 not in token
        assert [token] == tokens_of("a" * 32)
        assert [token] != tokens_of("b" * 32)
        with override_settings(SECRET_KEY="another"):
            assert [token] != tokens_of("a" * 32)

    def test_a_logout_is_remembered_for_a_while_and_then_forgotten(self):
        logouts = LoggedOut()
        with mock.patch("django_ws_dispatch.auth.keys.monotonic", return_value=1000.0) as now:
            logouts.add("first", "")
            now.return_value += keys.LOGOUT_SECONDS - 1
            assert logouts.has("first", "")
            assert not logouts.has("second", "")
            logouts.add("second", "")
            now.return_value += 2
            assert not logouts.has("first", "")
            logouts.add("third", "")
            assert len(logouts) == 2

    def test_a_logout_holds_in_its_namespace_and_where_none_is_known(self):
        logouts = LoggedOut()
        logouts.add("red's", "red")
        logouts.add("everybody's", "")
        namespaces = ("red", "blue", "", None)
        assert [logouts.has("red's", one) for one in namespaces] == [True, False, False, True]
        assert all(logouts.has("everybody's", one) for one in namespaces)
        logouts.add("red's", "blue")
        assert [logouts.has("red's", one) for one in namespaces] == [True, True, False, True]


class ForeignEngineTests(TestCase):
    """An engine that is not Django's, with async methods of its own and keys that change."""

    async def test_a_session_that_is_started_anew_while_it_is_read_is_empty(self):
        class SessionStore(SessionBase):
            async def aload(self) -> dict[str, Any]:
                await self.acreate()
                return {"x": 1}

        session = SessionStore("a" * 32)
        guard_session(session)
        assert await session.aget("x") is None
        assert session.session_key is None

    async def test_a_key_that_changes_with_a_save_is_taken_back(self):
        class SessionStore(SessionBase):
            async def asave(self, must_create: bool = False) -> None:
                self._session_key = "b" * 32

        session = SessionStore("a" * 32)
        guard_session(session)
        with pytest.raises(SessionKeyChange, match="asave"):
            await session.asave()
        assert session.session_key == "a" * 32

    async def test_a_session_can_be_ended_async(self):
        session = await sync_to_async(new_session)(x=1)
        opened = open_session(request_with(session))
        await opened.aflush()
        assert not await Session.objects.filter(pk=session.session_key).aexists()


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


class RequestTests(TestCase):
    def setUp(self) -> None:
        self.user = User.objects.create_user("ada")
        self.request = request_with(session_of(self.user))

    def test_they_are_always_there_and_cost_nothing(self):
        with self.assertNumQueries(0):
            for name in ("session", "user", "auser"):
                assert hasattr(self.request, name)

    async def test_the_user_can_not_be_touched_before_it_is_resolved(self):
        user = self.request.user
        for _ in range(2):
            with pytest.raises(SynchronousOnlyOperation, match=r"await websocket\.auser\(\)"):
                _ = user.is_authenticated

    async def test_nor_with_sessions_that_need_no_database(self):
        for name in ("cache", "signed_cookies"):
            with engine(name), pytest.raises(SynchronousOnlyOperation):
                _ = request_with(None).user.is_authenticated

    async def test_auser_resolves_the_user(self):
        earlier = self.request.user
        user = await self.request.auser()
        assert user == self.user
        assert self.request.user is user
        assert earlier.is_authenticated
        assert earlier.pk == user.pk
        assert await self.request.auser() is user

    def test_in_sync_code_it_resolves_itself(self):
        assert self.request.user.pk == self.user.pk
        with self.assertNumQueries(0):
            assert async_to_sync(self.request.auser)() == self.user

    async def test_two_tasks_get_the_same_user(self):
        first, second = await asyncio.gather(self.request.auser(), self.request.auser())
        assert first is second is self.request.user

    async def test_a_user_that_middleware_sets_wins(self):
        token_user = User(username="token")
        self.request.user = token_user
        assert await self.request.auser() is token_user
        assert not self.request.user_from_session

    async def test_a_lazy_user_that_middleware_sets_wins(self):
        token_user = User(username="token")
        self.request.user = SimpleLazyObject(lambda: token_user)
        assert await self.request.auser() is token_user
        assert self.request.user is token_user

    async def test_a_lazy_user_is_loaded_in_a_thread(self):
        self.request.user = SimpleLazyObject(lambda: User.objects.get(username="ada"))
        assert await self.request.auser() == self.user

    async def test_an_auser_that_middleware_sets_wins(self):
        token_user = User(username="token")

        async def auser() -> User:
            return token_user

        self.request.auser = auser
        assert await self.request.auser() is token_user
        assert self.request.user is token_user

    def test_an_auser_that_middleware_sets_wins_in_sync_code(self):
        token_user = User(username="token")

        async def auser() -> User:
            return token_user

        self.request.auser = auser
        assert self.request.user.username == "token"

    async def test_an_auser_that_fails_makes_nobody_else_the_user(self):
        async def auser() -> User:
            raise LookupError

        self.request.auser = auser
        for _ in range(2):
            with pytest.raises(LookupError):
                await self.request.auser()

    async def test_an_auser_may_wrap_the_one_before(self):
        before = self.request.auser

        async def auser() -> Any:
            return await before()

        self.request.auser = auser
        assert await self.request.auser() == self.user

    async def test_the_later_of_two_middleware_wins(self):
        async def auser() -> User:
            return User(username="first")

        self.request.auser = auser
        self.request.user = User(username="second")
        assert (await self.request.auser()).username == "second"

    async def test_none_is_nobody_and_not_the_session_s_user(self):
        self.request.user = None
        assert await self.request.auser() is None

    async def test_a_session_that_middleware_sets_is_where_the_user_comes_from(self):
        other = await sync_to_async(User.objects.create_user)("bob")
        self.request.session = await sync_to_async(session_of)(other)
        assert await self.request.auser() == other

    async def test_django_s_own_middleware_gives_the_session_s_user_without_writing(self):
        from django.contrib.auth.middleware import AuthenticationMiddleware

        AuthenticationMiddleware(mock.Mock()).process_request(self.request)
        with mock.patch("django.contrib.auth.aget_user") as writes:
            assert await self.request.auser() == self.user
        writes.assert_not_called()
        assert self.request.user_from_session


class NotInstalledTests(TestCase):
    @modify_settings(INSTALLED_APPS={"remove": ["django.contrib.auth"]})
    def test_a_user_without_the_app_names_the_app(self):
        with pytest.raises(ImproperlyConfigured, match=r"django\.contrib\.auth"):
            load_user(open_session(request_with(None)))
        with pytest.raises(ImproperlyConfigured, match=r"django\.contrib\.auth"):
            async_to_sync(request_with(None).auser)()


def test_a_request_without_the_apps_works_and_a_session_names_the_app(tmp_path):
    import subprocess
    import sys

    program = """
import django
from django.conf import settings
settings.configure(SECRET_KEY="x", ALLOWED_HOSTS=["*"])
django.setup()
from django.core.exceptions import ImproperlyConfigured
from django_ws_dispatch.handshake.request import build_request
request = build_request({"type": "websocket", "path": "/", "headers": [(b"host", b"a")]})
request.get_host(), request.GET, request.user, request.auser
try:
    request.session
except ImproperlyConfigured as exc:
    print(exc)
settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
request.session.get("x")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert "add 'django.contrib.sessions' to INSTALLED_APPS" in done.stdout
