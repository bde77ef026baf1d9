"""What the end of a handler means: for the client, for the log."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.core.signals import got_request_exception
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.urls import register_converter
from django.urls.converters import REGISTERED_CONVERTERS

from django_ws_dispatch import servers
from django_ws_dispatch.dispatcher import endings
from django_ws_dispatch.dispatcher import sweep as connections
from django_ws_dispatch.exceptions import BrokerError, Deny, WebSocketDisconnect, WebSocketError
from django_ws_dispatch.routing import re_path
from django_ws_dispatch.signals import websocket_closed, websocket_opened
from django_ws_dispatch.websockets import WebSocket, WebSocketState

from ..kit.fake_server import HABITS, FakeServer, hurry, only_socket, serving
from ..kit.waiting import until

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    hurry(monkeypatch)


@pytest.fixture
def failures():
    """What ``got_request_exception`` was sent with."""
    seen = []

    def note(sender, request, **kwargs):
        seen.append((sender, request))

    got_request_exception.connect(note)
    yield seen
    got_request_exception.disconnect(note)


def ends_with(exc, *, form, accept):
    """A handler of a form that ends with an exception, or returns, before or after its accept."""

    async def handler(websocket):
        if accept:
            await websocket.accept()
        if exc is not None:
            raise exc

    async def raw(scope, receive, send):
        await receive()
        if accept:
            await send({"type": "websocket.accept"})
        if exc is not None:
            raise exc

    return raw if form == "raw" else handler


def package_lines(caplog, level=logging.INFO):
    return [
        record
        for record in caplog.records
        if record.name.startswith("django_ws_dispatch") and record.levelno >= level
    ]


both_forms = pytest.mark.parametrize("form", ["websocket", "raw"])


class Custom(PermissionDenied):
    pass


TABLE = [
    (None, 403, 1000),
    (Http404("secret"), 404, 4404),
    (PermissionDenied("secret"), 403, 4403),
    (Custom("secret"), 403, 4403),
    (SuspiciousOperation("secret"), 400, 4400),
    (BadRequest("secret"), 400, 4400),
    (Deny(401), 401, 4401),
    (Deny(HttpResponse("tea", status=418)), 418, 4418),
]
table = pytest.mark.parametrize(
    ("exc", "status", "code"), TABLE, ids=[repr(row[0]).partition("(")[0] for row in TABLE]
)


@both_forms
@table
async def test_before_the_accept_the_end_of_a_handler_is_a_response(
    exc, status, code, form, caplog, failures
):
    async with serving(ends_with(exc, form=form, accept=False)) as server:
        await server.ended()
        assert server.types == ["http.response.start", "http.response.body"]
        assert server.denied is not None
        assert server.denied[0] == status
        assert b"secret" not in server.denied[1]
    (record,) = package_lines(caplog)
    assert record.levelname == "WARNING"
    assert record.name == "django_ws_dispatch.handshake"
    assert (record.path, record.status_code) == ("/ws/", status)
    assert "secret" not in record.getMessage()
    assert not failures


@both_forms
async def test_a_handler_that_closes_before_the_accept_has_its_line(form, caplog):
    async def handler(websocket):
        await websocket.close()
        await websocket.close()

    async def raw(scope, receive, send):
        await send({"type": "websocket.close"})

    async with serving(raw if form == "raw" else handler) as server:
        await server.ended()
    (record,) = package_lines(caplog)
    assert record.levelname == "WARNING"
    assert record.getMessage() == ("Denied /ws/ with 403: the handler closed it without accepting.")


async def test_a_raw_handler_that_answers_has_its_line(caplog):
    async def handler(scope, receive, send):
        await send({"type": "websocket.http.response.start", "status": 418})
        await send({"type": "websocket.http.response.body", "body": b"tea"})

    async with serving(handler) as server:
        await server.ended()
    (record,) = package_lines(caplog)
    assert (record.levelname, record.path, record.status_code) == ("WARNING", "/ws/", 418)


async def fails():
    yield b"a"
    raise ValueError("secret")


@both_forms
@pytest.mark.parametrize(
    "make",
    [
        lambda: StreamingHttpResponse(fails(), status=429),
        lambda: HttpResponse(status=429, headers={"X-Why": "a\0b"}),
    ],
    ids=["body", "header"],
)
async def test_the_line_of_a_denial_has_the_status_that_was_sent(make, form, caplog):
    async with serving(ends_with(Deny(make()), form=form, accept=False)) as server:
        await server.ended()
        assert server.denied is not None
        assert server.denied[0] == 500
    *_, failed, record = package_lines(caplog)
    assert failed.levelname == "ERROR"
    assert (record.levelname, record.path, record.status_code) == ("WARNING", "/ws/", 500)
    assert record.getMessage() == "Denied /ws/ with 500: the handler raised Deny."


async def test_without_the_extension_the_line_of_a_denial_has_the_status_that_was_meant(caplog):
    async with serving(
        ends_with(Deny(429), form="websocket", accept=False), server="daphne"
    ) as served:
        await served.ended()
    (record,) = package_lines(caplog)
    assert (record.path, record.status_code) == ("/ws/", 429)


async def test_a_redirect_is_a_denial_with_its_line(caplog):
    async with serving(ends_with(Deny(302), form="websocket", accept=False)) as server:
        await server.ended()
    (record,) = package_lines(caplog, logging.WARNING)
    assert record.getMessage() == "Denied /ws/ with 302: the handler raised Deny."


@both_forms
@table
async def test_after_the_accept_the_end_of_a_handler_is_a_close_frame(
    exc, status, code, form, caplog, failures
):
    async with serving(ends_with(exc, form=form, accept=True)) as server:
        await server.ended()
        assert server.types == ["accept", "close"]
        assert server.closed == (code, "")
    assert len(package_lines(caplog)) == (exc is not None)
    for record in package_lines(caplog):
        assert record.levelname == "WARNING"
        assert record.name == "django_ws_dispatch.connection"
        assert (record.path, record.status_code) == ("/ws/", code)
    assert not failures


class CustomBase(BaseException):
    pass


FAILURES = [
    ValueError("secret"),
    OSError("a Redis of the handler's own"),
    ConnectionResetError(),
    asyncio.CancelledError(),
    CustomBase(),
    WebSocketError(),
    ExceptionGroup("several", [ValueError(), KeyError()]),
]
each_failure = pytest.mark.parametrize("exc", FAILURES, ids=lambda exc: type(exc).__name__)


@both_forms
@each_failure
async def test_before_the_accept_a_failure_is_a_500_one_traceback_and_the_signal(
    exc, form, caplog, failures
):
    async with serving(ends_with(exc, form=form, accept=False)) as server:
        await server.ended()
        assert server.denied is not None
        assert server.denied[0] == 500
        assert b"secret" not in server.denied[1]
    (record,) = package_lines(caplog)
    assert record.levelname == "ERROR"
    assert record.exc_info
    assert record.exc_info[1] is exc
    assert (record.path, record.status_code) == ("/ws/", 500)
    assert len(failures) == 1


@both_forms
@each_failure
async def test_after_the_accept_a_failure_is_1011_one_traceback_and_the_signal(
    exc, form, caplog, failures
):
    async with serving(ends_with(exc, form=form, accept=True)) as server:
        await server.ended()
        assert server.types == ["accept", "close"]
        assert server.closed == (1011, "")
    (record,) = package_lines(caplog)
    assert record.levelname == "ERROR"
    assert record.exc_info
    assert (record.path, record.status_code) == ("/ws/", 1011)
    ((sender, request),) = failures
    assert issubclass(sender, WebSocket)
    assert request.path == "/ws/"
    assert request.resolver_match is not None


# Groups: what a TaskGroup of the handler raises


def group(*exceptions):
    return BaseExceptionGroup("several", exceptions)


GROUPS = [
    ([Http404()], 404, 4404, "Http404"),
    ([group(Http404())], 404, 4404, "Http404"),
    ([Custom(), Http404()], 403, 4403, "Custom"),
    ([group(group(Deny(429)), Http404()), BadRequest()], 429, 4429, "Deny"),
    ([Deny(HttpResponse("tea", status=418)), Deny(401)], 418, 4418, "Deny"),
]
groups = pytest.mark.parametrize(("exceptions", "status", "code", "name"), GROUPS)


@both_forms
@groups
async def test_before_the_accept_a_group_means_what_the_first_of_it_does(
    exceptions, status, code, name, form, caplog, failures
):
    async with serving(ends_with(group(*exceptions), form=form, accept=False)) as server:
        await server.ended()
        assert server.denied is not None
        assert server.denied[0] == status
    (record,) = package_lines(caplog)
    assert record.getMessage() == f"Denied /ws/ with {status}: the handler raised {name}."
    assert not failures


@both_forms
@groups
async def test_after_the_accept_a_group_means_what_the_first_of_it_does(
    exceptions, status, code, name, form, caplog, failures
):
    async with serving(ends_with(group(*exceptions), form=form, accept=True)) as server:
        await server.ended()
        assert server.closed == (code, "")
    (record,) = package_lines(caplog)
    assert record.getMessage() == f"Closed /ws/ with {code}: the handler raised {name}."
    assert not failures


@both_forms
@pytest.mark.parametrize("accept", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "exceptions",
    [
        [Http404(), ValueError("secret")],
        [group(ValueError("secret")), Http404()],
        [Http404(), asyncio.CancelledError()],
        [Http404(), WebSocketDisconnect(1001)],  # of the handler's own making
        [Http404(), CustomBase()],
    ],
)
async def test_one_failure_in_a_group_is_a_failure_and_the_whole_group_is_logged(
    exceptions, accept, form, caplog, failures
):
    exc = group(*exceptions)
    async with serving(ends_with(exc, form=form, accept=accept)) as server:
        await server.ended()
        if accept:
            assert server.closed == (1011, "")
        else:
            assert server.denied is not None
            assert server.denied[0] == 500
    (record,) = package_lines(caplog)
    assert record.levelname == "ERROR"
    assert record.exc_info
    assert record.exc_info[1] is exc
    assert len(failures) == 1


async def test_what_means_something_beside_a_disconnect_and_our_cancellation_is_no_failure(
    caplog, failures
):
    async def handler(websocket):
        async def read():
            await websocket.receive()

        async def write():
            await never.wait()

        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(read())
                tasks.create_task(write())
        except BaseException as exc:
            raise BaseExceptionGroup("both", [exc, Http404()]) from None

    never = asyncio.Event()
    async with serving(handler) as server:
        await server.accepted()
        server.leave()
        await server.ended()
    assert not package_lines(caplog)
    assert not failures


async def test_what_means_something_beside_our_own_cancellation_is_no_failure(caplog, failures):
    async def handler(websocket):
        await websocket.accept()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as exc:
            raise BaseExceptionGroup("both", [exc, Http404()]) from None

    async with serving(handler) as server:
        await server.accepted()
        server.leave()
        await server.ended()
    assert not package_lines(caplog)
    assert not failures


# A broker that fails


def outages(caplog):
    return [
        (record.name, record.levelname, record.getMessage(), record.status_code, record.exc_info)
        for record in package_lines(caplog)
    ]


@both_forms
@pytest.mark.parametrize(
    "exc",
    [
        BrokerError("no answer\nin 2 s"),
        group(BrokerError("no answer in 2 s")),
        group(group(BrokerError("no answer in 2 s")), BrokerError("the other as well")),
    ],
    ids=["alone", "group", "nested"],
)
async def test_before_the_accept_a_broker_that_fails_is_a_503_and_one_line_without_a_traceback(
    exc, form, caplog, failures
):
    async with serving(ends_with(exc, form=form, accept=False)) as server:
        await server.ended()
        assert server.denied == (503, b"Service Unavailable")
        assert (b"retry-after", b"10") in server.sent[0]["headers"]
    assert outages(caplog) == [
        (
            "django_ws_dispatch.handshake",
            "ERROR",
            "The broker failed in the handshake of /ws/: no answer in 2 s",
            503,
            None,
        )
    ]
    assert not failures


@both_forms
@pytest.mark.parametrize(
    "exc", [BrokerError("gone"), group(BrokerError("gone"), Http404())], ids=["alone", "group"]
)
async def test_after_the_accept_a_broker_that_fails_is_a_failure(exc, form, caplog, failures):
    async with serving(ends_with(exc, form=form, accept=True)) as server:
        await server.ended()
        assert server.closed == (1011, "")
    (record,) = package_lines(caplog)
    assert record.levelname == "ERROR"
    assert record.exc_info
    assert len(failures) == 1


async def test_a_bug_beside_a_broker_that_fails_is_a_bug(caplog, failures):
    exc = group(BrokerError("gone"), ValueError())
    async with serving(ends_with(exc, form="websocket", accept=False)) as server:
        await server.ended()
        assert server.denied is not None
        assert server.denied[0] == 500
    assert len(failures) == 1


async def test_a_broker_that_fails_once_the_client_has_left_is_one_line(caplog, failures):
    async def handler(websocket):
        await left.wait()
        await until(lambda: websocket.ready_state is WebSocketState.CLOSED)
        raise BrokerError

    left = asyncio.Event()
    async with serving(handler) as server:
        await until(lambda: server.waiting)
        server.leave()
        left.set()
        await server.ended()
        assert not server.sent
    ((_, level, line, _, trace),) = outages(caplog)
    assert (level, trace) == ("ERROR", None)
    assert line.endswith(": BrokerError")
    assert not failures


@both_forms
async def test_a_failure_after_the_client_left_is_still_one_traceback(form, caplog, failures):
    async def handler(websocket):
        async for _ in websocket:
            pass
        raise ValueError

    async def raw(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        assert (await receive())["type"] == "websocket.disconnect"
        raise ValueError

    async with serving(raw if form == "raw" else handler) as server:
        await server.accepted()
        server.leave()
        await server.ended()
        assert server.types == ["accept"]
    (record,) = package_lines(caplog)
    assert record.levelname == "ERROR"
    assert len(failures) == 1


async def test_a_query_string_that_is_not_utf_8_does_not_hide_the_failure(caplog, failures):
    async def handler(websocket):
        raise ValueError

    async with serving(
        handler, scope={"query_string": b"a=\xff", "headers": [(b"host", b"testserver")]}
    ) as server:
        await server.ended()
        assert server.denied is not None
        assert server.denied[0] in (400, 500)


# Before there is a socket


@pytest.fixture
def converter():
    """A URL converter ``raises``, and what it raises."""
    raised = []

    class Raises:
        regex = "[^/]+"

        def to_python(self, value):
            raise raised[0]

        def to_url(self, value):
            return value

    register_converter(Raises, "raises")
    yield raised
    del REGISTERED_CONVERTERS["raises"]


async def takes_a_room(websocket, room):
    pass


@pytest.mark.parametrize(
    ("exc", "status"),
    [(exc, status) for exc, status, _ in TABLE if exc is not None],
    ids=[type(exc).__name__ for exc, *_ in TABLE if exc is not None],
)
async def test_what_a_url_converter_raises_is_a_response_as_for_a_handler(
    exc, status, converter, caplog, failures
):
    converter.append(exc)
    async with serving(takes_a_room, "/room/x/", route="room/<raises:room>/") as server:
        await server.ended()
        assert server.denied is not None
        assert server.denied[0] == status
        assert b"secret" not in server.denied[1]
    (record,) = package_lines(caplog)
    assert record.getMessage() == (
        f"Denied /room/x/ with {status}: the routing raised {type(exc).__name__}."
    )
    assert (record.levelname, record.path, record.status_code) == ("WARNING", "/room/x/", status)
    assert not failures


async def test_a_broker_that_fails_in_a_url_converter_is_a_503(converter, caplog, failures):
    converter.append(BrokerError("no answer in 2 s"))
    async with serving(takes_a_room, "/room/x/", route="room/<raises:room>/") as server:
        await server.ended()
        assert server.denied == (503, b"Service Unavailable")
    assert [line[1:] for line in outages(caplog)] == [
        ("ERROR", "The broker failed in the handshake of /room/x/: no answer in 2 s", 503, None)
    ]
    assert not failures


async def test_a_group_in_a_url_converter_means_what_the_first_of_it_does(converter, caplog):
    converter.append(group(Http404(), Deny(429)))
    async with serving(takes_a_room, "/room/x/", route="room/<raises:room>/") as server:
        await server.ended()
        assert server.denied is not None
        assert server.denied[0] == 404
    (record,) = package_lines(caplog)
    assert record.getMessage() == "Denied /room/x/ with 404: the routing raised Http404."


async def test_a_url_converter_that_fails_is_a_500_one_traceback_and_the_signal(
    converter, caplog, failures
):
    converter.append(LookupError("secret"))
    async with serving(takes_a_room, "/room/x/", route="room/<raises:room>/") as server:
        await server.ended()
        assert server.denied is not None
        assert server.denied[0] == 500
    (record,) = package_lines(caplog)
    assert (record.levelname, record.path, record.status_code) == ("ERROR", "/room/x/", 500)
    assert len(failures) == 1


# A disconnect is no failure


async def uncaught(websocket):
    while True:
        await websocket.receive()


async def in_a_task_group(websocket):
    async def read():
        while True:
            await websocket.receive()

    async def write():
        while True:
            await websocket.send("tick")
            await asyncio.sleep(0.001)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(read())
        tasks.create_task(write())


async def in_nested_task_groups(websocket):
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(in_a_task_group(websocket))
        tasks.create_task(websocket.send("hello"))


async def sends_for_ever(websocket):
    await websocket.accept()
    while True:
        await websocket.send("tick")
        await asyncio.sleep(0.001)


async def waits_for_ever(websocket):
    await websocket.accept()
    await asyncio.Event().wait()


async def waits_in_a_task_group(websocket):
    await websocket.accept()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(asyncio.Event().wait())
        tasks.create_task(asyncio.Event().wait())


async def raw_sends_for_ever(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        await send({"type": "websocket.send", "text": "tick"})
        await asyncio.sleep(0.001)


async def raw_waits_for_ever(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    await asyncio.Event().wait()


async def raw_returns_late(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass
    with pytest.raises(OSError, match="closed"):
        await send({"type": "websocket.send", "text": "late"})
    await send({"type": "websocket.close"})
    await receive()


@pytest.mark.parametrize("server_name", HABITS)
@pytest.mark.parametrize(
    "handler",
    [
        uncaught,
        in_a_task_group,
        in_nested_task_groups,
        sends_for_ever,
        waits_for_ever,
        waits_in_a_task_group,
        raw_sends_for_ever,
        raw_waits_for_ever,
        raw_returns_late,
    ],
    ids=lambda handler: handler.__name__,
)
async def test_a_disconnect_ends_any_handler_without_a_line_in_the_log(
    handler, server_name, caplog, failures, monkeypatch
):
    # Nobody has to be given up.
    hurry(monkeypatch, BUSY_GRACE=3600, READ_ON_GRACE=3600)
    async with serving(handler, server=server_name) as server:
        await server.accepted()
        await asyncio.sleep(0.01)
        server.leave(1001)
        await server.ended()
        assert "close" not in server.types
    assert not package_lines(caplog)
    assert not failures


async def test_a_disconnect_in_the_middle_of_a_send_is_no_failure(caplog, failures):
    async with serving(sends_for_ever) as server:
        await server.accepted()
        server.block()
        await asyncio.sleep(0.01)
        server.leave()
        await server.ended()
    assert not package_lines(caplog)
    assert not failures


async def test_the_send_that_finds_the_client_gone_has_the_true_code():
    codes = []

    async def handler(websocket):
        await websocket.accept()
        go.set()
        await left.wait()
        with pytest.raises(WebSocketDisconnect) as caught:
            await websocket.send("x")
        codes.append(caught.value.code)

    go, left = asyncio.Event(), asyncio.Event()
    async with serving(handler) as server:
        await go.wait()
        server.leave(4999)
        left.set()
        await server.ended()
    assert codes == [4999]


async def test_a_disconnect_and_a_failure_in_one_group_are_a_failure(caplog, failures):
    async def handler(websocket):
        async def read():
            try:
                await websocket.receive()
            finally:
                raise ValueError

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read())
            tasks.create_task(uncaught_later())

    async def uncaught_later():
        await asyncio.Event().wait()

    async with serving(handler) as server:
        await server.accepted()
        server.leave()
        await server.ended()
    (record,) = package_lines(caplog)
    assert record.levelname == "ERROR"
    assert len(failures) == 1


async def test_a_websocket_disconnect_of_the_handlers_own_making_is_a_failure(caplog, failures):
    async def handler(websocket):
        await websocket.accept()
        raise WebSocketDisconnect(1001)  # say, from a client library's socket

    async with serving(handler) as server:
        await server.ended()
        assert server.closed == (1011, "")
    assert len(failures) == 1


async def test_a_raw_application_of_another_framework_may_raise_its_own_disconnect(
    caplog, failures
):
    theirs = type("WebSocketDisconnect", (Exception,), {})

    async def raw(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        raise theirs

    async with serving(raw) as server:
        await server.accepted()
        server.leave()
        await server.ended()
    assert not package_lines(caplog)
    assert not failures


# Someone else's cancellation


@pytest.mark.parametrize("handler", [waits_for_ever, raw_waits_for_ever, uncaught])
async def test_a_server_that_cancels_the_application_gets_its_cancellation_and_closes_with_1012(
    handler, caplog
):
    async with serving(handler) as server:
        await server.accepted()
        assert server.task is not None
        server.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await server.ended()
        assert server.closed == (1012, "server restart")
    assert not package_lines(caplog)


@pytest.mark.parametrize("blocked", [False, True], ids=["takes-the-close", "full"])
@pytest.mark.parametrize("handler", [waits_for_ever, raw_waits_for_ever, uncaught])
async def test_who_cancels_the_application_waits_for_no_client_that_does_not_read(
    handler, blocked, monkeypatch
):
    hurry(monkeypatch, CLOSE_GRACE=3600)
    async with serving(handler) as server:
        await server.accepted()
        transport = server.stall()
        if blocked:
            server.block()
        assert server.task is not None
        server.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await server.ended()
        assert transport.aborted
        assert server.closed == (None if blocked else (1012, "server restart"))


async def test_who_cancels_the_application_waits_for_no_client_where_the_handler_goes_on(
    monkeypatch,
):
    async def handler(websocket):
        await websocket.accept()
        with suppress(asyncio.CancelledError):
            await websocket.wait_closed()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    hurry(monkeypatch, CLOSE_GRACE=3600)
    async with serving(handler) as server:
        await server.accepted()
        transport = server.stall()
        server.feed({"type": "websocket.disconnect", "code": 1012})  # the server stops
        await until(lambda: not server.waiting)
        assert server.task is not None
        server.task.cancel()
        await server.ended()
        assert transport.aborted


async def test_who_cancels_while_a_close_is_seen_out_waits_no_longer(monkeypatch):
    async def handler(websocket):
        await websocket.accept()
        returned.set()

    hurry(monkeypatch, CLOSE_GRACE=3600)
    returned = asyncio.Event()
    async with serving(handler, started=False) as server:
        transport = server.stall()
        server.start()
        await returned.wait()
        await asyncio.sleep(0.02)
        assert not transport.aborted
        assert server.task is not None
        server.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await server.ended()
        assert transport.aborted


async def test_a_handshake_that_somebody_else_cancels_waits_for_no_client(monkeypatch):
    async def handler(websocket):
        await asyncio.Event().wait()

    hurry(monkeypatch, CLOSE_GRACE=3600)
    async with serving(handler, started=False) as server:
        transport = server.stall()
        server.start()
        await until(lambda: connections.local().sockets)
        assert server.task is not None
        server.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await server.ended()
        assert server.denied is not None
        assert transport.aborted


@pytest.mark.parametrize("blocked", [False, True], ids=["unsent", "full"])
async def test_a_server_that_is_forced_to_stop_waits_for_no_client(blocked, monkeypatch):
    hurry(monkeypatch, CLOSE_GRACE=3600, STOP_GRACE=3600)
    forced = False
    monkeypatch.setattr(servers, "is_forced_to_exit", lambda: forced)
    async with serving(sends_for_ever) as server:
        await server.sends(1)
        transport = server.stall()
        if blocked:
            server.block()
        server.feed({"type": "websocket.disconnect", "code": 1012})
        await asyncio.sleep(0.02)
        assert not transport.aborted
        forced = True
        await until(lambda: transport.aborted)


# Denials that nobody reads


async def closes_early(websocket):
    await websocket.close()


async def raw_answers(scope, receive, send):
    await send({"type": "websocket.http.response.start", "status": 418})
    await send({"type": "websocket.http.response.body", "body": b"tea"})


def streamed():
    return StreamingHttpResponse(iter([b"a", b"b"]), status=403)


NOBODY_READS = {
    "body": (ends_with(Deny(HttpResponse(b"x" * 100, status=403)), form="raw", accept=False), {}),
    "headers": (ends_with(Deny(HttpResponse(status=403)), form="websocket", accept=False), {}),
    "streaming": (ends_with(Deny(streamed()), form="websocket", accept=False), {}),
    "failure": (ends_with(ValueError(), form="websocket", accept=False), {}),
    "close": (closes_early, {}),
    "raw answer": (raw_answers, {}),
    "returned": (ends_with(None, form="websocket", accept=False), {}),
    "404": (uncaught, {"path": "/other/"}),
    "400": (uncaught, {"scope": {"headers": [(b"host", b"evil.example")]}}),
    "403": (
        uncaught,
        {"scope": {"headers": [(b"host", b"testserver"), (b"origin", b"http://evil.example")]}},
    ),
    "routing": (takes_a_room, {"path": "/room/x/", "route": "room/<raises:room>/"}),
}


@pytest.mark.parametrize("name", NOBODY_READS)
@pytest.mark.parametrize("blocked", [False, True], ids=["unsent", "full"])
async def test_a_client_that_does_not_read_its_denial_is_cut_off(
    name, blocked, converter, monkeypatch
):
    hurry(monkeypatch, CLOSE_GRACE=0.02)
    converter.append(LookupError())
    handler, options = NOBODY_READS[name]
    async with serving(handler, **options, started=False) as server:
        transport = server.stall()
        if blocked:
            server.block()
        server.start()
        await server.ended()
        assert transport.aborted
        assert (server.denied is None) is blocked


async def test_over_the_number_of_connections_a_client_that_does_not_read_is_cut_off(monkeypatch):
    hurry(monkeypatch, CLOSE_GRACE=0.02)
    async with serving(uncaught, WEBSOCKET_MAX_CONNECTIONS=1) as first:
        await first.accepted()
        second = FakeServer(first.application)
        transport = second.stall()
        second.start()
        await second.ended()
        assert second.denied is not None
        assert second.denied[0] == 503
        assert transport.aborted


async def test_without_the_extension_a_client_that_does_not_read_its_403_is_given_up(monkeypatch):
    hurry(monkeypatch, CLOSE_GRACE=0.02)
    async with serving(uncaught, "/other/", server="daphne", started=False) as server:
        server.block()
        server.start()
        await server.ended()
        assert not server.sent


async def test_a_client_that_reads_its_denial_slowly_gets_all_of_it(monkeypatch):
    def reads():
        transport.unsent -= 1
        return transport.unsent

    hurry(monkeypatch, CLOSE_GRACE=3600, UNSENT_INTERVAL=0)
    async with serving(ends_with(Deny(403), form="raw", accept=False), started=False) as server:
        transport = server.stall(50)
        monkeypatch.setattr(transport, "get_write_buffer_size", reads)
        server.start()
        await server.ended()
        assert (transport.unsent, transport.aborted) == (0, False)


async def test_a_handler_does_not_wait_for_the_client_to_read_what_it_was_denied_with(monkeypatch):
    async def handler(websocket):
        await websocket.close()
        done.set()
        await go.wait()

    hurry(monkeypatch, CLOSE_GRACE=3600)
    done, go = asyncio.Event(), asyncio.Event()
    async with serving(handler, started=False) as server:
        transport = server.stall()
        server.start()
        await asyncio.wait_for(done.wait(), 5)
        transport.unsent = 0
        go.set()
        await server.ended()


# Signals


@both_forms
async def test_opened_and_closed_are_sent_once_each_with_code_and_reason(form):
    seen = []

    async def opened(sender, websocket, **kwargs):
        assert sender is WebSocket
        seen.append(("opened", websocket.path))

    def closed(sender, websocket, code, reason, **kwargs):
        assert sender is WebSocket
        seen.append(("closed", websocket.path, code, reason))

    websocket_opened.connect(opened)
    websocket_closed.connect(closed)
    try:
        handler = uncaught
        if form == "raw":
            handler = raw_returns_late
        async with serving(handler) as server:
            await until(lambda: seen)
            server.leave(4000, "bye")
            await server.ended()
        async with serving(ends_with(None, form=form, accept=False)) as server:
            await server.ended()
        async with serving(ends_with(ValueError(), form=form, accept=True)) as server:
            await server.ended()
    finally:
        websocket_opened.disconnect(opened)
        websocket_closed.disconnect(closed)
    assert seen == [
        ("opened", "/ws/"),
        ("closed", "/ws/", 4000, "bye"),
        ("opened", "/ws/"),
        ("closed", "/ws/", 1011, ""),
    ]


async def test_what_receivers_raise_is_logged_and_does_not_touch_the_socket(caplog):
    def broken(**kwargs):
        raise ValueError

    websocket_opened.connect(broken)
    websocket_closed.connect(broken)
    try:
        async with serving(ends_with(None, form="websocket", accept=True)) as server:
            await server.ended()
            assert server.closed == (1000, "")
    finally:
        websocket_opened.disconnect(broken)
        websocket_closed.disconnect(broken)
    assert [record.levelname for record in package_lines(caplog)] == ["ERROR", "ERROR"]


async def test_a_client_that_leaves_during_the_accept_is_neither_opened_nor_closed():
    seen = []

    def note(signal, **kwargs):
        seen.append(signal)

    websocket_opened.connect(note)
    websocket_closed.connect(note)
    try:
        async with serving(uncaught, started=False) as server:
            server.leave()
            server.start()
            await server.ended()
    finally:
        websocket_opened.disconnect(note)
        websocket_closed.disconnect(note)
    assert not seen


@pytest.mark.parametrize("signal", [websocket_closed, got_request_exception], ids=["closed", "exc"])
async def test_receivers_do_not_wait_for_a_call_that_the_handler_has_left(signal):
    def note(**kwargs):
        seen.append(over.is_set())

    async def handler(websocket):
        await websocket.accept()
        calling = asyncio.create_task(sync_to_async(over.wait)(30))
        await sync_to_async(lambda: None, thread_sensitive=False)()
        await asyncio.sleep(0)
        calling.cancel()
        raise ValueError

    over, seen = threading.Event(), []
    signal.connect(note)
    try:
        async with serving(handler) as server:
            await server.ended()
    finally:
        over.set()
        signal.disconnect(note)
    assert seen == [False]


async def test_receivers_that_hang_are_not_waited_for(monkeypatch, caplog):
    async def hang(**kwargs):
        await asyncio.Event().wait()

    monkeypatch.setattr(endings, "SIGNAL_GRACE", 0.01)
    websocket_closed.connect(hang)
    try:
        async with serving(ends_with(None, form="websocket", accept=True)) as server:
            await server.ended()
    finally:
        websocket_closed.disconnect(hang)
    (record,) = package_lines(caplog)
    assert "The receivers of websocket_closed took over" in record.getMessage()


# What is left behind


async def test_every_end_leaves_the_groups(failures):
    from django_ws_dispatch.groups import Group

    async def handler(websocket):
        context = websocket.join("lobby")
        await context.__aenter__()
        kept.append(context)  # nobody ever leaves it
        raise ValueError

    kept: list[object] = []
    async with serving(handler) as server:
        await server.ended()
        await Group("lobby").asend("anyone?")
        assert server.data == []
        await kept[0].__aexit__(None, None, None)


async def test_a_log_line_escapes_the_path(caplog):
    async with serving(ends_with(None, form="raw", accept=False), "/ws\n\x1b[31m/") as server:
        await server.ended()
        assert server.denied is not None
        assert server.denied[0] == 404
    (record,) = package_lines(caplog)
    assert "\n" not in record.getMessage()
    assert "\x1b" not in record.getMessage()


async def test_a_log_line_cuts_the_path(caplog):
    path = "/ws/" + "a" * 5000
    handler = ends_with(Deny(410), form="websocket", accept=False)
    for route in ("ws/", [re_path("", handler)]):  # nobody's path, and a handler's
        caplog.clear()
        async with serving(handler, path, route=route) as server:
            await server.ended()
        (record,) = package_lines(caplog)
        assert len(record.getMessage()) < 300
        assert record.path == path[:200] + "..."


async def test_nothing_is_denied_twice():
    async def handler(websocket):
        await websocket.close()
        raise Deny(410)

    async with serving(handler) as server:
        await server.ended()
        assert server.types == ["http.response.start", "http.response.body"]
        assert server.denied is not None
        assert server.denied[0] == 403


async def test_a_socket_that_is_kicked_before_its_accept_is_denied():
    async def handler(websocket):
        websocket.kick(4401, "logged out")
        with pytest.raises(WebSocketDisconnect):
            await websocket.send("x")

    async with serving(handler) as server:
        await server.ended()
        assert server.denied is not None
        assert server.denied[0] == 401


async def test_what_a_handler_does_after_it_denied_is_not_cut_off(monkeypatch):
    done = []

    async def handler(websocket):
        await websocket.close()
        await asyncio.sleep(0.05)  # it notes who came
        done.append(True)

    async with serving(handler) as server:
        await server.ended()
    assert done


async def test_a_handler_that_never_ends_after_its_own_close_is_cancelled(monkeypatch, caplog):
    hurry(monkeypatch, BUSY_GRACE=0.05)

    async def handler(websocket):
        await websocket.accept()
        await websocket.close(4000)
        await asyncio.Event().wait()

    async with serving(handler) as server:
        await server.ended()
        assert server.closed == (4000, "")
        assert only_socket is not None
    assert not package_lines(caplog)
