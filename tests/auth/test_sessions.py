from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth import alogin
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.contrib.sessions.models import Session
from django.test import TestCase, override_settings

from django_ws_dispatch.auth.sessions import (
    SessionKeyChange,
    guard_session,
    open_session,
    reopen_session,
)
from tests.kit.sessions import ENGINES, MODEL_BACKEND, engine, new_session, request_with


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
