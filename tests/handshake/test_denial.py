from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from http.cookies import CookieError
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.core.signals import request_finished
from django.http import FileResponse, Http404, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.template import engines
from django.template.response import SimpleTemplateResponse

from django_ws_dispatch import servers
from django_ws_dispatch.exceptions import BrokerError, Deny
from django_ws_dispatch.handshake.denial import (
    RawResponse,
    deny,
    plain_response,
    response_for,
    response_headers,
)

EXTENSION = {"websocket.http.response": {}}


class Server:
    """Takes what is sent, as a server does."""

    def __init__(self, extensions: dict[str, Any] | None = EXTENSION, gone: bool = False) -> None:
        self.scope: dict[str, Any] = {"type": "websocket", "extensions": extensions}
        if extensions is None:
            del self.scope["extensions"]
        self.gone = gone
        self.events: list[Any] = []

    async def send(self, event: Any) -> None:
        if self.gone:
            raise OSError("gone")
        self.events.append(event)

    def deny(self, response: HttpResponseBase) -> list[Any]:
        async_to_sync(deny)(servers.of(self.send, self.scope), response)
        return self.events

    def denied(self, response: HttpResponseBase) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        start, body = self.deny(response)
        assert start["type"] == "websocket.http.response.start"
        assert body["type"] == "websocket.http.response.body"
        assert not body.get("more_body")
        return start["status"], start["headers"], body["body"]


# The extension


def test_the_whole_response_goes_out():
    response = HttpResponse("nein, w\u00e4hrend", status=418, headers={"X-Why": "\u00e9"})
    status, headers, body = Server().denied(response)
    assert status == 418
    assert body == "nein, w\u00e4hrend".encode()
    assert headers == [
        (b"x-why", b"\xe9"),
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", b"14"),
    ]


def test_the_charset_of_the_response_is_kept():
    response = HttpResponse("\u00e9", content_type="text/plain; charset=latin-1")
    _, headers, body = Server().denied(response)
    assert body == b"\xe9"
    assert (b"content-length", b"1") in headers


def test_every_cookie_goes_out():
    response = HttpResponse(status=403)
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    headers = Server().denied(response)[1]
    assert [value for name, value in headers if name == b"set-cookie"] == [
        b"a=1; Path=/",
        b"b=2; Path=/",
    ]


def test_a_cookie_of_any_text_goes_out():
    response = HttpResponse(status=403)
    response.set_cookie("a", "\u20ac\r\nX: y", path="/\u20ac")
    headers = dict(Server().denied(response)[1])
    assert b"\n" not in headers[b"set-cookie"]


def test_granian_gets_no_header_name_twice():
    response = HttpResponse(status=403)
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    headers = Server({**EXTENSION, "http.response.pathsend": {}}).denied(response)[1]
    assert [value for name, value in headers if name == b"set-cookie"] == [b"b=2; Path=/"]


def test_a_wrong_length_and_headers_of_the_connection_are_not_sent():
    response = HttpResponse("four", status=403)
    for name in ("Content-Length", "Connection", "Transfer-Encoding", "Upgrade", "Keep-Alive"):
        response[name] = "9"
    headers = Server().denied(response)[1]
    assert [name for name, _ in headers] == [b"content-type", b"content-length"]
    assert dict(headers)[b"content-length"] == b"4"


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_has_neither_body_nor_length(status: int):
    _, headers, body = Server().denied(HttpResponse("x", status=status))
    assert body == b""
    assert b"content-length" not in dict(headers)


def test_an_interim_status_becomes_a_500(caplog: pytest.LogCaptureFixture):
    assert Server().denied(HttpResponse(status=101))[0] == 500
    assert "101" in caplog.text


def test_a_streaming_response_is_collected():
    def parts() -> Iterator[Any]:
        yield b"a"
        yield "b"

    async def async_parts() -> AsyncIterator[Any]:
        yield b"a"
        yield "b"

    for content in (parts(), async_parts(), [b"a", "b"]):
        status, headers, body = Server().denied(StreamingHttpResponse(content, status=403))
        assert (status, body) == (403, b"ab")
        assert dict(headers)[b"content-length"] == b"2"


def test_a_template_response_is_rendered():
    template: Any = engines["django"].from_string("{{ what }}")
    response = SimpleTemplateResponse(template, {"what": "nothing"}, status=410)
    assert Server().denied(response)[2] == b"nothing"


def test_a_response_that_fails_becomes_a_500(caplog: pytest.LogCaptureFixture):
    def parts() -> Iterator[bytes]:
        yield b"secret"
        raise LookupError

    status, headers, body = Server().denied(
        StreamingHttpResponse(parts(), status=403, headers={"X-Secret": "1"})
    )
    assert (status, body) == (500, b"Internal Server Error")
    assert b"x-secret" not in dict(headers)
    assert "LookupError" in caplog.text


@pytest.mark.parametrize("header", [("X-Why", "a\0b"), ("X Why", "a"), ("X-Why", "a\x1b[31m")])
def test_a_header_that_can_not_be_sent_becomes_a_500(
    header: tuple[str, str], caplog: pytest.LogCaptureFixture
):
    status, headers, body = Server().denied(
        HttpResponse(status=403, headers={header[0]: header[1]})
    )
    assert (status, body) == (500, b"Internal Server Error")
    assert header[0].lower().encode() not in dict(headers)
    assert "can be sent" in caplog.text


BAD = "a\r\nX-Injected: 1"


def set_attribute(response: HttpResponse, name: str, value: str) -> None:
    response.set_cookie("token", "secret")
    # As set_cookie() does: newer versions of Python refuse it here, older ones never do.
    response.cookies["token"][name] = value


@pytest.mark.parametrize("name", ["path", "domain", "expires", "max-age", "samesite"])
def test_a_cookie_with_a_line_break_in_an_attribute_becomes_a_500(
    name: str, caplog: pytest.LogCaptureFixture
):
    response = HttpResponse(status=403)
    try:
        set_attribute(response, name, BAD)
    except CookieError:
        return
    status, headers, body = Server().denied(response)
    assert (status, body) == (500, b"Internal Server Error")
    assert b"set-cookie" not in dict(headers)
    assert "The cookie" in caplog.text
    assert "can be sent" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("arguments", [{"path": f"/{BAD}"}, {"domain": BAD}, {"expires": BAD}])
def test_what_set_cookie_takes_is_checked(arguments: dict[str, Any]):
    def headers() -> Any:
        response = HttpResponse(status=403)
        response.set_cookie("a", "b", **arguments)
        return response_headers(response)

    with pytest.raises((CookieError, ValueError)):
        headers()


def test_a_version_of_python_that_refuses_a_cookie_itself_is_understood():
    class Refused:
        key = "token"

        def OutputString(self) -> str:
            raise CookieError("Control characters are not allowed in cookies: 'secret'")

    response: Any = HttpResponse(status=403)
    response.cookies = {"token": Refused()}
    with pytest.raises(ValueError, match="The cookie 'token' is not one") as raised:
        response_headers(response)
    assert raised.value.__suppress_context__


def test_a_cookie_of_a_mounted_application_is_checked_and_not_shown():
    with pytest.raises(ValueError, match="The cookie b'token' is not one") as raised:
        RawResponse(403, [(b"Set-Cookie", b"token=secret\r\nX-Injected: 1")])
    assert "secret" not in str(raised.value)


# Without it


@pytest.mark.parametrize("extensions", [None, {}])
def test_without_the_extension_the_server_says_403(extensions: Any):
    events = Server(extensions).deny(HttpResponse(status=404))
    assert events == [{"type": "websocket.close", "code": 1000}]


# Clients, resources


@pytest.mark.parametrize("extensions", [None, EXTENSION])
def test_a_client_that_has_left_is_no_error(extensions: Any):
    response = HttpResponse(status=404)
    assert Server(extensions, gone=True).deny(response) == []
    assert response.closed


@pytest.mark.parametrize("extensions", [None, EXTENSION])
def test_resources_are_released(extensions: Any, tmp_path: Any):
    path = tmp_path / "denied.txt"
    path.write_bytes(b"no")
    file = path.open("rb")
    response = FileResponse(file, status=403)
    Server(extensions).deny(response)
    assert file.closed
    assert response.closed


def test_a_resource_that_can_not_be_closed_keeps_no_other_from_it():
    closed: list[int] = []
    response: Any = HttpResponse(status=403)
    response._resource_closers += [lambda: 1 / 0, lambda: closed.append(1)]
    Server().deny(response)
    assert closed == [1]


def test_no_request_is_finished_where_none_was_started():
    finished: list[Any] = []

    def receiver(**kwargs: Any) -> None:
        finished.append(kwargs)

    request_finished.connect(receiver)
    try:
        Server().deny(HttpResponse(status=403))
    finally:
        request_finished.disconnect(receiver)
    assert finished == []


def test_a_response_can_deny_again():
    response = Deny(404).response
    assert Server().denied(response) == Server().denied(response)


# Which response


@pytest.mark.parametrize(
    ("exc", "status"),
    [
        (Http404("no such room"), 404),
        (PermissionDenied("secret"), 403),
        (SuspiciousOperation("secret"), 400),
        (BadRequest("secret"), 400),
        (LookupError("secret"), 500),
        (BrokerError("secret"), 503),
        (Deny(409), 409),
    ],
)
def test_the_response_for_an_exception_tells_no_details(exc: Exception, status: int):
    response: Any = response_for(exc)
    assert response.status_code == status
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert b"secret" not in response.content
    assert b"room" not in response.content


def test_the_response_of_a_deny_is_the_one_it_was_given():
    response = HttpResponse("no", status=402)
    assert response_for(Deny(response)) is response


def test_who_is_refused_for_now_is_told_when_to_come_back():
    response = plain_response(503)
    assert (response.status_code, response["Retry-After"]) == (503, "10")
    assert response.content == b"Service Unavailable"
    assert "Retry-After" not in plain_response(500)


def test_a_status_without_a_name_has_no_body():
    assert plain_response(599).content == b""
