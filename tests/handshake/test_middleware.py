from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import request_finished
from django.http.response import HttpResponseBase
from django.test import TestCase, override_settings
from django.utils import timezone, translation

from django_ws_dispatch.auth.sessions import SessionKeyChange
from django_ws_dispatch.handshake.middleware import (
    Chain,
    SwitchingProtocols,
    accept_headers,
    is_accepted,
)
from tests.handshake.chains import HERE, handler, paths, request_for, run
from tests.kit.sessions import request_with, session_of

from . import middleware_examples

SESSION = "django.contrib.sessions.middleware.SessionMiddleware"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
LOGIN_REQUIRED = "django.contrib.auth.middleware.LoginRequiredMiddleware"
DEFAULT = [
    "django.middleware.security.SecurityMiddleware",
    SESSION,
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    AUTHENTICATION,
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]


@login_not_required
async def open_handler(websocket: Any) -> None:
    raise AssertionError("the handler runs after the chain")


# The chain


def test_an_empty_chain_accepts():
    response = run()
    assert is_accepted(response)
    assert accept_headers(response) == []


@pytest.mark.parametrize(
    "names",
    [
        ("sync_header", "async_header"),
        ("async_header", "sync_header"),
    ],
)
def test_sync_and_async_middleware_run_in_order(names: tuple[str, ...], seen: list[Any]):
    assert is_accepted(run(*names))
    first, second = (name.removesuffix("_header") for name in names)
    assert seen == [f"{first} in", f"{second} in", f"{second} out", f"{first} out"]


def test_the_default_middleware_of_a_site_accepts():
    with override_settings(INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"]):
        response = run(*DEFAULT)
    assert is_accepted(response)
    names = [name for name, _ in accept_headers(response)]
    assert b"x-frame-options" in names
    assert not {b"content-length", b"content-type"} & set(names)


def test_middleware_that_is_not_used_is_left_out():
    assert is_accepted(run("unused", "async_header"))
    with override_settings(DEBUG=True):
        assert is_accepted(run("unused", "sync_header"))


def test_a_response_of_middleware_denies(seen: list[Any]):
    response = run("sync_header", "denying", "async_header")
    assert not is_accepted(response)
    assert (response.status_code, response.content) == (418, b"teapot")
    assert response["X-Sync"] == "1"
    assert "async in" not in seen


def test_a_response_of_its_own_with_101_is_no_accept():
    response = SwitchingProtocols()
    assert is_accepted(response)
    response.status_code = 403
    assert not is_accepted(response)


@pytest.mark.parametrize("status", [400, 403, 404])
def test_what_middleware_raises_means_what_it_means_on_a_page(status: int):
    assert run("sync_header", "raising", query=f"status={status}").status_code == status


def test_cancellation_passes():
    async def main() -> None:
        request: Any = request_for()
        request.reached = asyncio.Event()
        task = asyncio.ensure_future(Chain(paths("waiting")).run(request, handler))
        await request.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_the_end_of_a_chain_is_not_the_end_of_a_request():
    finished: list[Any] = []

    def receiver(**kwargs: Any) -> None:
        finished.append(kwargs)

    request_finished.connect(receiver)
    try:
        run("sync_header", "async_header")
    finally:
        request_finished.disconnect(receiver)
    assert finished == []


@pytest.mark.parametrize("path", ["no.such.Middleware", f"{HERE}.NoSuch", "nodots"])
def test_a_path_that_can_not_be_imported_is_named(path: str):
    with pytest.raises(ImproperlyConfigured, match=rf"WEBSOCKET_MIDDLEWARE: '{path}'"):
        Chain([path])


@pytest.mark.parametrize("name", ["Incapable", "forgetful"])
def test_what_is_no_middleware_is_named(name: str):
    with pytest.raises(ImproperlyConfigured, match=f"WEBSOCKET_MIDDLEWARE: .*{name}"):
        Chain(paths(name))


# After routing


def test_process_view_gets_the_handler_and_its_arguments(seen: list[Any]):
    chain = Chain(paths("async_header", "ViewMiddleware"))
    response = async_to_sync(chain.run)(request_for(), handler, (1,), {"room": "a"})
    assert is_accepted(response)
    assert (handler, (1,), {"room": "a"}) in seen


def test_handshakes_at_once_do_not_see_each_other_s_handler(seen: list[Any]):
    async def main() -> None:
        chain = Chain(paths("async_header", "sync_header", "ViewMiddleware"))
        runs = [chain.run(request_for(), handler, (), {"room": room}) for room in range(20)]
        await asyncio.gather(*runs)

    asyncio.run(main())
    calls = [call for call in seen if isinstance(call, tuple)]
    assert sorted(kwargs["room"] for _, _, kwargs in calls) == list(range(20))


def test_a_template_response_of_process_view_is_rendered():
    response = run("ViewMiddleware", query="template=1")
    assert (response.status_code, response.content) == (451, b"gone for good")


def test_process_exception_answers_for_a_template_that_fails():
    response = run("ExceptionMiddleware", query="template=1")
    assert (response.status_code, response.content) == (409, b"TemplateDoesNotExist")


# What goes out with the accept


def test_headers_and_cookies_go_out_with_the_accept():
    headers = accept_headers(run("async_header", "sync_header"))
    assert (b"x-sync", b"1") in headers
    assert (b"x-async", b"1") in headers
    cookies = [value for name, value in headers if name == b"set-cookie"]
    assert cookies == [b"visited=yes; Path=/", b"again=yes; Path=/"]


def test_what_only_the_server_may_say_is_left_out():
    response = SwitchingProtocols("body")
    for name in (
        "Connection",
        "Content-Encoding",
        "Content-Length",
        "Keep-Alive",
        "Sec-WebSocket-Accept",
        "Sec-WebSocket-Protocol",
        "Transfer-Encoding",
        "Upgrade",
    ):
        response[name] = "x"
    response["Content-Language"] = "de"
    response["X-Name"] = "\u00e9"
    assert accept_headers(response) == [(b"content-language", b"de"), (b"x-name", b"\xe9")]


# What holds afterwards


def test_a_language_and_a_time_zone_hold_in_the_task_and_nowhere_else():
    chain = Chain(["django.middleware.locale.LocaleMiddleware", *paths("time_zone", "sync_header")])

    async def connect(language: str, zone: str) -> tuple[Any, ...]:
        await chain.run(request_for(f"tz={zone}&tenant={zone}", accept_language=language), handler)
        await asyncio.sleep(0)
        name = timezone.get_current_timezone_name()
        in_thread = await sync_to_async(translation.get_language)()
        return translation.get_language(), in_thread, name, middleware_examples.tenant.name

    async def main() -> Any:
        before = translation.get_language(), timezone.get_current_timezone_name()
        tasks = [
            asyncio.ensure_future(connect(language, zone))
            for language, zone in [("de", "Europe/Berlin"), ("fr", "Europe/Paris")] * 5
        ]
        results = await asyncio.gather(*tasks)
        assert (translation.get_language(), timezone.get_current_timezone_name()) == before
        assert not hasattr(middleware_examples.tenant, "name")
        return results

    with override_settings(USE_I18N=True):
        results = contextvars.Context().run(asyncio.run, main())
    berlin = ("de", "de", "Europe/Berlin", "Europe/Berlin")
    paris = ("fr", "fr", "Europe/Paris", "Europe/Paris")
    assert results == [berlin, paris] * 5


# Sessions and users


class UserTests(TestCase):
    def setUp(self) -> None:
        self.user = User.objects.create_user("ada")
        self.request = request_with(session_of(self.user))

    async def run_chain(self, *names: str, view: Any = handler) -> HttpResponseBase:
        chain = await sync_to_async(Chain)(paths(*names))
        return await chain.run(self.request, view)

    async def test_the_user_of_the_chain_is_the_user_afterwards(self):
        assert is_accepted(await self.run_chain(SESSION, AUTHENTICATION))
        assert await self.request.auser() == self.user
        assert self.request.user_from_session

    async def test_a_user_of_a_token_wins_over_the_session(self):
        await sync_to_async(User.objects.create_user)("bob")
        self.request.META["HTTP_X_TOKEN"] = "bob"
        assert is_accepted(await self.run_chain(SESSION, AUTHENTICATION, "TokenMiddleware"))
        assert (await self.request.auser()).username == "bob"
        assert self.request.user.username == "bob"

    async def test_login_required_lets_users_in(self):
        for names in ((LOGIN_REQUIRED,), (SESSION, AUTHENTICATION, LOGIN_REQUIRED)):
            self.request = request_with(await sync_to_async(session_of)(self.user))
            assert is_accepted(await self.run_chain(*names))
            assert self.request.user.pk == self.user.pk

    async def test_login_required_sends_others_to_the_login(self):
        for names in ((LOGIN_REQUIRED,), (SESSION, AUTHENTICATION, LOGIN_REQUIRED)):
            self.request = request_with(None)
            response = await self.run_chain(*names)
            assert response.status_code == 302
            assert response["Location"] == "/accounts/login/?next=/ws/"

    async def test_a_handler_may_need_no_login(self):
        self.request = request_with(None)
        names = (SESSION, AUTHENTICATION, LOGIN_REQUIRED)
        assert is_accepted(await self.run_chain(*names, view=open_handler))

    async def test_a_session_that_middleware_writes_goes_out_with_the_accept(self):
        self.request = request_with(None)
        response = await self.run_chain(SESSION, "session_counter")
        key = self.request.session.session_key
        cookies = [value for name, value in accept_headers(response) if name == b"set-cookie"]
        assert len(cookies) == 1
        assert cookies[0].startswith(f"sessionid={key};".encode())
        assert await SessionStore(key).aget("visits") == 1

    async def test_after_the_chain_the_session_keeps_its_key(self):
        await self.run_chain(SESSION, "session_counter")
        await self.request.session.aset("x", 1)
        await self.request.session.asave()
        with pytest.raises(SessionKeyChange):
            await self.request.session.acycle_key()

    async def test_a_rotated_secret_changes_no_session(self):
        key = self.request.session.session_key
        rotated = {"SECRET_KEY": "new", "SECRET_KEY_FALLBACKS": ["tests-only"]}
        for names in ((SESSION, AUTHENTICATION, LOGIN_REQUIRED), (AUTHENTICATION,)):
            with override_settings(**rotated):
                self.request = request_with(key)
                response = await self.run_chain(*names)
                assert is_accepted(response)
                assert await self.request.auser() == self.user
            assert self.request.session.session_key == key
            assert b"set-cookie" not in dict(accept_headers(response))
