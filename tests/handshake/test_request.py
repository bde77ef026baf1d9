from __future__ import annotations

import copy
from typing import Any

import pytest
from django.core.exceptions import BadRequest as DjangoBadRequest
from django.core.exceptions import DisallowedHost, SuspiciousOperation
from django.core.handlers.asgi import ASGIRequest
from django.test import override_settings

from django_ws_dispatch.handshake.request import BadRequest, build_request, split_path


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
