"""The exceptions of this package."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from django.http import HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse

from django_ws_dispatch import exceptions
from django_ws_dispatch.exceptions import BrokerError, Deny, WebSocketDisconnect, WebSocketError


@pytest.mark.parametrize("name", exceptions.__all__)
def test_each_is_a_websocket_error_and_no_os_error(name: str) -> None:
    kind = getattr(exceptions, name)
    assert issubclass(kind, WebSocketError)
    assert not issubclass(kind, OSError)


@pytest.mark.parametrize("name", exceptions.__all__)
def test_each_stands_in_the_drawing_of_the_tree(name: str) -> None:
    assert f" {name}" in str(exceptions.__doc__)


@pytest.mark.parametrize(
    ("disconnect", "text"),
    [
        (WebSocketDisconnect(), "1006"),
        (WebSocketDisconnect(1001), "1001"),
        (WebSocketDisconnect(4401, "logged out"), "4401 logged out"),
    ],
)
def test_a_disconnect_reads_as_its_code_and_reason(
    disconnect: WebSocketDisconnect, text: str
) -> None:
    assert str(disconnect) == text
    assert (disconnect.code, disconnect.reason) == disconnect.args


def test_a_disconnect_survives_a_pickle() -> None:
    copy = pickle.loads(pickle.dumps(WebSocketDisconnect(4401, "logged out")))
    assert (copy.code, copy.reason) == (4401, "logged out")


@pytest.mark.parametrize("status", [200, 302, 401, 403, 404, 429, 503, 599])
def test_a_status_makes_a_response(status: int) -> None:
    deny = Deny(status)
    assert deny.status_code == deny.response.status_code == status
    assert str(deny) == str(status)


def test_a_status_says_its_phrase_and_nothing_else() -> None:
    response: Any = Deny(429).response
    assert response.content == b"Too Many Requests"
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    nameless: Any = Deny(599).response
    assert nameless.content == b""


@pytest.mark.parametrize(
    "response",
    [
        HttpResponse("no", status=418),
        JsonResponse({"error": "full"}, status=503),
        HttpResponseRedirect("/login/"),
        StreamingHttpResponse(["no"], status=403),
    ],
)
def test_a_response_is_kept_as_it_is(response: Any) -> None:
    deny = Deny(response)
    assert deny.response is response
    assert deny.status_code == response.status_code


@pytest.mark.parametrize("status", [-1, 0, 100, 101, 199, 600, 4401])
def test_a_status_that_can_not_answer_a_handshake_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match=f"takes a status from 200 to 599, not {status}"):
        Deny(status)


def test_a_response_that_can_not_answer_a_handshake_is_refused() -> None:
    with pytest.raises(ValueError, match="takes a status from 200 to 599, not 101"):
        Deny(HttpResponse(status=101))


@pytest.mark.parametrize("response", ["403", None, True, 403.0, b"no", HttpResponse])
def test_anything_else_is_refused(response: Any) -> None:
    with pytest.raises(TypeError, match="takes an HTTP status or an HttpResponse, not "):
        Deny(response)


def test_a_broker_error_is_no_disconnect() -> None:
    assert not issubclass(BrokerError, WebSocketDisconnect)
