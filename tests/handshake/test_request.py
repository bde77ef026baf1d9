from __future__ import annotations

import asyncio
import copy
from typing import Any
from unittest import mock

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import User
from django.core.exceptions import BadRequest as DjangoBadRequest
from django.core.exceptions import (
    DisallowedHost,
    SuspiciousOperation,
    SynchronousOnlyOperation,
)
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse
from django.middleware.security import SecurityMiddleware
from django.test import TestCase, override_settings
from django.utils.functional import SimpleLazyObject

from django_ws_dispatch.handshake.request import (
    _FORWARDED,
    BadRequest,
    build_request,
    split_path,
)
from tests.kit.sessions import engine, request_with, session_of
from tests.kit.waiting import DEADLINE


def scope(**changes: Any) -> dict[str, Any]:
    return {
        "type": "websocket",
        "scheme": "ws",
        "path": "/ws/rooms/a/",
        "root_path": "",
        "query_string": b"x=1&y=%C3%A9",
        "headers": [
            (b"host", b"testserver:8000"),
            (b"cookie", b"a=1; b=2"),
            (b"user-agent", b"tests"),
            (b"x-two", b"1"),
            (b"x-two", b"2"),
        ],
        "server": ("127.0.0.1", 8000),
        "client": ("10.0.0.1", 1234),
        "subprotocols": [],
        "state": {"pool": object()},
    } | changes


def test_it_is_a_get_request_without_a_body():
    request = build_request(scope())
    assert isinstance(request, ASGIRequest)
    assert request.method == "GET"
    assert request.body == b""
    assert request.POST == {}
    assert request.resolver_match is None


def test_query_cookies_headers_and_addresses_are_read():
    request = build_request(scope())
    assert request.GET.dict() == {"x": "1", "y": "\u00e9"}
    assert request.COOKIES == {"a": "1", "b": "2"}
    assert request.headers["User-Agent"] == "tests"
    assert request.headers["X-Two"] == "1,2"
    assert request.META["REMOTE_ADDR"] == "10.0.0.1"
    assert request.META["SERVER_PORT"] == "8000"


@pytest.mark.parametrize(
    ("scheme", "expected"), [("ws", "http"), ("wss", "https"), ("http", "http"), ("https", "https")]
)
def test_the_scheme_is_the_one_of_pages(scheme: str, expected: str):
    request = build_request(scope(scheme=scheme))
    assert request.scheme == expected
    assert request.is_secure() is (expected == "https")
    assert request.build_absolute_uri("/x/") == f"{expected}://testserver:8000/x/"
    assert request.build_absolute_uri() == f"{expected}://testserver:8000/ws/rooms/a/?x=1&y=%C3%A9"


@override_settings(
    SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"), USE_X_FORWARDED_HOST=True
)
def test_proxy_settings_are_honoured():
    forwarded = [(b"x-forwarded-proto", b"https"), (b"x-forwarded-host", b"localhost")]
    request = build_request(scope(headers=forwarded))
    assert request.is_secure()
    assert request.get_host() == "localhost"


FORWARDED_PROTO = ("HTTP_X_FORWARDED_PROTO", "https")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["https"], "https"),
        (["wss"], "https"),
        (["WSS"], "https"),
        ([" wss "], "https"),
        (["ws"], "http"),
        (["Ws"], "http"),
        (["wss, https"], "https, https"),
        (["wss,http"], "https,http"),
        (["http, wss"], "http,https"),
        (["wss,ws"], "https,http"),
        (["wss", "https"], "https,https"),
        (["ws", "wss"], "http,https"),
        (["wss", "WSS"], "https,https"),
        # What a page's request would have as well is none of this package's business.
        (["HTTPS"], "HTTPS"),
        (["https wss"], "https wss"),
        (["wss;q=1"], "wss;q=1"),
        (['"wss"'], '"wss"'),
        (["wss://"], "wss://"),
        (["proto=wss"], "proto=wss"),
        ([""], ""),
    ],
)
@override_settings(SECURE_PROXY_SSL_HEADER=FORWARDED_PROTO)
def test_a_proxy_may_say_of_a_socket_what_it_would_not_of_a_page(lines: list[str], expected: str):
    original = scope(headers=[(b"x-forwarded-proto", line.encode()) for line in lines])
    kept = copy.deepcopy({key: original[key] for key in ("headers", "scheme")})
    request = build_request(original)
    assert request.META["HTTP_X_FORWARDED_PROTO"] == expected
    assert request.headers["X-Forwarded-Proto"] == expected
    secure = expected.partition(",")[0].strip() == "https"
    assert request.is_secure() is secure
    assert request.scheme == ("https" if secure else "http")
    assert {key: original[key] for key in kept} == kept


@pytest.mark.parametrize("header", ["X-Scheme", "X-Forwarded-Scheme", "CloudFront-Forwarded-Proto"])
def test_it_is_the_header_of_the_setting_that_is_read(header: str):
    name = "HTTP_" + header.upper().replace("-", "_")
    headers = [(header.lower().encode(), b"wss"), (b"x-forwarded-proto", b"wss")]
    with override_settings(SECURE_PROXY_SSL_HEADER=(name, "https")):
        request = build_request(scope(headers=headers))
    assert request.headers[header] == "https"
    assert request.headers["X-Forwarded-Proto"] == "wss"


@pytest.mark.parametrize("setting", [None, ("HTTP_X_SCHEME", "https")])
def test_no_other_header_is_believed(setting: Any):
    forged = [(b"x-forwarded-proto", b"wss"), (b"forwarded", b"proto=wss")]
    with override_settings(SECURE_PROXY_SSL_HEADER=setting):
        request = build_request(scope(headers=forged))
        assert not request.is_secure()
    assert request.headers["X-Forwarded-Proto"] == "wss"
    assert request.headers["Forwarded"] == "proto=wss"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("proto=wss", "proto=https"),
        ('proto="wss"', 'proto="https"'),
        ("Proto=WSS", "Proto=https"),
        ("proto=ws", "proto=http"),
        ("for=192.0.2.60;proto=wss;by=203.0.113.43", "for=192.0.2.60;proto=https;by=203.0.113.43"),
        ("proto=wss, proto=ws", "proto=https, proto=http"),
        ("for=a ; proto=wss ;host=b", "for=a ; proto=https ;host=b"),
        ('for="[2001:db8::1]";proto="wss"', 'for="[2001:db8::1]";proto="https"'),
        # Only there.
        ("wss", "wss"),
        ("for=wss;host=wss", "for=wss;host=wss"),
        ("xproto=wss", "xproto=wss"),
        ("proto=wsss", "proto=wsss"),
        ("proto=wss://", "proto=wss://"),
        ('host="a;proto=wss;b"', 'host="a;proto=wss;b"'),
        ('host="a\\";proto=wss', 'host="a\\";proto=wss'),
        ('host="a;proto=wss', 'host="a;proto=wss'),
        ('proto="wss', 'proto="wss'),
        ('proto=wss"', 'proto=wss"'),
        ('host="a\\', 'host="a\\'),
    ],
)
@override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_FORWARDED", "proto=https"))
def test_in_a_forwarded_header_it_is_the_proto_that_counts(value: str, expected: str):
    request = build_request(scope(headers=[(b"forwarded", value.encode())]))
    assert request.headers["Forwarded"] == expected
    assert request.is_secure() is (expected.partition(",")[0].strip() == "proto=https")


@pytest.mark.parametrize(
    "value", ['"', '"a', '"\\', '"\\"', '"' + '\\"' * 9, '"a;proto=wss', '"\n"']
)
def test_a_quote_is_read_once_so_that_no_header_takes_long(value: str):
    match = _FORWARDED.match(value)
    assert match is not None
    assert match.end() == len(value)


@override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "wss"))
def test_a_site_may_wait_for_what_its_proxy_says_of_sockets():
    assert build_request(scope(headers=[(b"x-forwarded-proto", b"wss, http")])).is_secure()
    assert not build_request(scope(headers=[(b"x-forwarded-proto", b"https")])).is_secure()


@pytest.mark.parametrize("scheme", ["wss", "WSS", "https"])
def test_a_server_s_own_middleware_may_have_read_the_proxy_s_word(scheme: str):
    # uvicorn and granian make it ws or wss, hypercorn takes it as it comes.
    headers = [(b"host", b"testserver"), (b"x-forwarded-proto", b"wss")]
    for setting in (None, FORWARDED_PROTO):
        with override_settings(SECURE_PROXY_SSL_HEADER=setting):
            request = build_request(scope(scheme=scheme, headers=headers))
            assert request.is_secure()
            assert request.build_absolute_uri("/") == "https://testserver/"


@override_settings(
    SECURE_PROXY_SSL_HEADER=FORWARDED_PROTO, SECURE_SSL_REDIRECT=True, USE_X_FORWARDED_PORT=True
)
def test_all_of_django_sees_a_page_s_request():
    headers = [
        (b"host", b"testserver"),
        (b"x-forwarded-proto", b"wss"),
        (b"x-forwarded-port", b"443"),
    ]
    request = build_request(scope(headers=headers))
    assert SecurityMiddleware(lambda request: HttpResponse()).process_request(request) is None
    assert request.get_port() == "443"
    assert request.build_absolute_uri("/x/") == "https://testserver/x/"


def test_a_disallowed_host_raises_as_on_a_page():
    with pytest.raises(DisallowedHost):
        build_request(scope(headers=[(b"host", b"evil.example")])).get_host()


def test_the_scope_is_copied_and_not_changed():
    original = scope()
    kept = copy.copy(original)
    request = build_request(original)
    request.scope["path"] = "/other/"
    request.scope["new"] = 1
    assert original == kept
    assert request.scope["state"] is original["state"]
    assert request.scope["type"] == "http"


def test_a_bare_scope_is_enough():
    request = build_request({"type": "websocket"})
    assert request.path == request.path_info == "/"
    assert request.scheme == "http"
    assert request.GET == {}
    assert request.COOKIES == {}


@pytest.mark.parametrize("address", [None, (), ["/run/site.sock", None], "unix", ("1", "2", "3")])
def test_an_address_of_any_form_is_taken(address: Any):
    request = build_request(scope(server=address, client=address))
    assert request.META["SERVER_NAME"]


def test_ports_may_be_strings():
    request = build_request(scope(server=("127.0.0.1", "8000"), client=("127.0.0.1", "48416")))
    assert request.META["SERVER_PORT"] == "8000"
    assert request.META["REMOTE_PORT"] == "48416"


@pytest.mark.parametrize(
    "changes",
    [
        {"query_string": b"\xff"},
        {"headers": [(b"content-type", b"text/plain; charset=a\x00b")]},
    ],
)
def test_what_can_not_be_read_is_a_bad_request(changes: dict[str, Any]):
    with pytest.raises(BadRequest) as caught:
        build_request(scope(**changes))
    assert isinstance(caught.value, SuspiciousOperation)
    assert isinstance(caught.value, DjangoBadRequest)


def test_no_header_makes_it_raise_anything_else():
    values = [b"", b"\xff\xfe", b"\x00", b";;;=", b"a" * 10000, b"multipart/form-data; boundary"]
    names = [b"cookie", b"content-type", b"content-length", b"host", b"x_y", b"\xff", b""]
    for name in names:
        for value in values:
            try:
                request = build_request(scope(headers=[(name, value)]))
            except BadRequest:
                continue
            assert request.COOKIES is not None


# Paths. Each server's own way to say the same: uvicorn, the others, a proxy that strips.


@pytest.mark.parametrize(
    ("root_path", "path", "expected"),
    [
        ("", "/ws/", ("", "/ws/")),
        ("/sub", "/sub/ws/", ("/sub", "/ws/")),
        ("/sub", "/ws/", ("/sub", "/ws/")),
        ("/sub/", "/sub/ws/", ("/sub", "/ws/")),
        ("/sub/", "/ws/", ("/sub", "/ws/")),
        ("/sub", "/subway/", ("/sub", "/subway/")),
        ("/sub", "/sub/subway/", ("/sub", "/subway/")),
        ("/sub", "/sub/sub/", ("/sub", "/sub/")),
        ("/sub", "/sub", ("/sub", "/")),
        ("/sub", "/sub/", ("/sub", "/")),
        ("/sub/way", "/sub/way/ws/", ("/sub/way", "/ws/")),
        ("/", "/ws/", ("", "/ws/")),
        (None, "/ws/", ("", "/ws/")),
        ("", "", ("", "/")),
        ("/\u00e9", "/\u00e9/ws/", ("/\u00e9", "/ws/")),
    ],
)
def test_the_prefix_is_stripped_where_a_segment_ends(
    root_path: str | None, path: str, expected: tuple[str, str]
):
    assert split_path(scope(root_path=root_path, path=path)) == expected


@pytest.mark.parametrize("path", ["/sub/ws/", "/ws/"])
@pytest.mark.parametrize("root_path", ["/sub", "/sub/"])
def test_the_paths_of_a_request_agree_on_every_server(path: str, root_path: str):
    request = build_request(scope(root_path=root_path, path=path))
    assert request.path == "/sub/ws/"
    assert request.path_info == "/ws/"
    assert request.META["SCRIPT_NAME"] == "/sub"
    assert request.get_full_path() == "/sub/ws/?x=1&y=%C3%A9"


@pytest.mark.parametrize("path", ["/forced/ws/", "/ws/"])
@override_settings(FORCE_SCRIPT_NAME="/forced")
def test_a_forced_script_name_is_the_prefix(path: str):
    assert split_path(scope(path=path, root_path="/sub")) == ("/forced", "/ws/")
    request = build_request(scope(path=path, root_path="/sub"))
    assert (request.path, request.path_info) == ("/forced/ws/", "/ws/")


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
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.stderr == ""
    assert "add 'django.contrib.sessions' to INSTALLED_APPS" in done.stdout
