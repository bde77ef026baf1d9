"""``WEBSOCKET_SYNC_CONTEXT``: what is entered around each piece of sync work."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import User
from django.db import connections
from django.test import TestCase, TransactionTestCase, override_settings
from django.utils import translation
from django.utils.decorators import async_only_middleware, sync_only_middleware
from django.utils.deprecation import MiddlewareMixin

from django_ws_dispatch import lanes
from django_ws_dispatch.decorators import login_required, user_passes_test
from django_ws_dispatch.lanes import caretaker, databases
from django_ws_dispatch.signals import websocket_closed, websocket_opened
from django_ws_dispatch.testing import WebSocketClient
from tests.kit.fake_server import only_socket, serving
from tests.kit.waiting import until
from tests.lanes.sockets import ALIAS, Socket, lane_connection, run

here = threading.local()
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")
log: list[Any] = []


@contextmanager
def tenant(websocket: Any) -> Any:
    name = websocket if isinstance(websocket, str) else websocket.scope["path"]
    log.append(("enter", name))
    here.tenant = name
    token = variable.set(name)
    try:
        with translation.override("de"):
            yield
    finally:
        variable.reset(token)
        del here.tenant
        log.append(("leave", name))


@contextmanager
def setting(websocket: str) -> Any:
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("PRAGMA query_only = 1")
    yield


@contextmanager
def setting_for_some(websocket: str) -> Any:
    with connections[ALIAS].cursor() as cursor:
        if websocket == "red":
            cursor.execute("PRAGMA query_only = 1")
            cursor.execute("PRAGMA user_version")
        if websocket == "refused":
            cursor.execute("PRAGMA query_only = 1")
            raise LookupError("no tenant")
    yield


@contextmanager
def setting_and_putting_back(websocket: str) -> Any:
    # The words of PostgreSQL, as far as SQLite has them.
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("PRAGMA query_only = 1")
        yield
        cursor.execute("PRAGMA query_only = 1")


@contextmanager
def suppressing(websocket: Any) -> Any:
    try:
        yield
    except ValueError:
        log.append("suppressed")


@contextmanager
def refusing(websocket: Any) -> Any:
    raise LookupError("no tenant")
    yield


def look() -> tuple[Any, str, str | None]:
    return getattr(here, "tenant", None), variable.get(), translation.get_language()


class BoundSocket(Socket):  # type: ignore[misc]
    """One whose context is entered."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(**options)
        self.lane_socket = name


def use(name: str) -> Any:
    return override_settings(WEBSOCKET_SYNC_CONTEXT=f"{__name__}.{name}", LANGUAGE_CODE="en")


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    log.clear()


@use("tenant")
def test_it_is_entered_around_each_call_in_the_thread_and_in_the_context_of_the_task() -> None:
    async def main() -> None:
        red, blue = BoundSocket("red"), BoundSocket("blue")
        for _ in range(3):
            assert await red.hold(look) == ("red", "red", "de")
            assert await blue.hold(look) == ("blue", "blue", "de")

    run(main())
    assert log == [(what, name) for name in ("red", "blue") * 3 for what in ("enter", "leave")]


@use("tenant")
def test_nothing_of_it_stays_with_the_task() -> None:
    async def handler() -> Any:
        before = variable.get(), translation.get_language()
        await sync_to_async(look)()
        return before, (variable.get(), translation.get_language())

    async def main() -> Any:
        return await BoundSocket("red").start(handler())

    assert run(main()) == (("", "en"), ("", "en"))


@use("tenant")
def test_async_code_below_sync_code_and_its_sync_code_are_inside() -> None:
    async def inner() -> Any:
        return await sync_to_async(look)()

    async def main() -> Any:
        return await BoundSocket("red").hold(lambda: async_to_sync(inner)())

    assert run(main()) == ("red", "red", "de")


@use("tenant")
def test_what_a_call_raises_passes_through_it() -> None:
    def fail() -> None:
        raise ValueError("mine")

    async def main() -> None:
        with pytest.raises(ValueError, match="mine"):
            await BoundSocket("red").run(fail)

    run(main())
    assert log == [("enter", "red"), ("leave", "red")]


@use("refusing")
def test_where_it_raises_the_call_is_not_made() -> None:
    called: list[int] = []

    async def main() -> None:
        with pytest.raises(LookupError, match="no tenant"):
            await BoundSocket("red").run(called.append, 1)

    run(main())
    assert called == []


@use("setting")
@override_settings(WEBSOCKET_SYNC_THREADS=1)
def test_what_it_sets_itself_costs_no_connection(database: Any) -> None:
    async def main() -> None:
        first = (await BoundSocket("red").run(lane_connection)).connection
        assert (await BoundSocket("blue").run(lane_connection)).connection is first

    run(main())


def count_query_only() -> int:
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("SELECT query_only FROM pragma_query_only")
        found: int = cursor.fetchone()[0]
    return found


@use("setting_for_some")
@override_settings(WEBSOCKET_SYNC_THREADS=1)
def test_what_it_sets_for_some_is_not_there_for_others(database: Any) -> None:
    async def main() -> None:
        red, public = BoundSocket("red"), BoundSocket("public")
        for _ in range(2):
            assert await red.hold(count_query_only) == 1
            assert await public.hold(count_query_only) == 0
        with pytest.raises(LookupError, match="no tenant"):
            await BoundSocket("refused").hold(count_query_only)
        assert await public.hold(count_query_only) == 0

    run(main())


@use("setting_for_some")
@override_settings(WEBSOCKET_SYNC_THREADS=1)
def test_a_call_is_made_once_though_the_context_is_entered_again(
    database: Any,
) -> None:
    called: list[int] = []

    async def main() -> None:
        await BoundSocket("red").hold(called.append, 1)
        await BoundSocket("public").hold(called.append, 2)

    run(main())
    assert called == [1, 2]


@use("suppressing")
def test_a_call_whose_failure_it_suppresses_is_made_once(database: Any) -> None:
    called: list[int] = []

    def fail() -> None:
        called.append(1)
        raise ValueError

    async def main() -> None:
        assert await BoundSocket("red").run(fail) is None

    run(main())
    assert called == [1]
    assert log == ["suppressed"]


def test_what_it_sets_is_not_given_back_to_a_pool_that_pages_have_too(
    database: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(databases, "_is_pooled", lambda wrapper: True)

    async def main(name: str) -> tuple[bool, bool]:
        with use(name), override_settings(WEBSOCKET_SYNC_THREADS=1):
            monkeypatch.setattr(caretaker, "CHECK_AFTER_SECONDS", 3600)
            first = await BoundSocket("red").run(lane_connection)
            given_back, opened = first.connection is None, first.connection
            second = await BoundSocket("blue").run(lane_connection)
            assert second is first
            assert given_back or first.connection is opened
            closed = mock.Mock(wraps=databases._close)
            monkeypatch.setattr(databases, "_close", closed)
            monkeypatch.setattr(caretaker, "CHECK_AFTER_SECONDS", 0)
            await until(lambda: first.connection is None)
            return given_back, closed.called

    # The second is closed for good where it is closed: a pool may not hand it to anybody.
    assert run(main("tenant")) == (True, False)
    assert run(main("setting")) == (False, True)
    assert run(main("setting_and_putting_back")) == (True, False)


# On sockets


@login_required
@user_passes_test(lambda user: look()[0] == "/ws/red/")
async def asks(websocket: Any) -> None:
    async for _ in websocket:
        tenant_seen, *_ = await sync_to_async(look)()
        user = await User.objects.aget()
        await websocket.send(f"{tenant_seen} {user.username}")


@use("tenant")
@override_settings(WEBSOCKET_HANDLERS={"ws/red/": asks})
class UnderTheTestClient(TestCase):
    """Lanes are off there, and the transaction is the test's."""

    async def test_it_is_entered_all_the_same(self) -> None:
        client = WebSocketClient()
        await client.aforce_login(await User.objects.acreate_user("ada"))
        log.clear()
        async with client.connect("/ws/red/") as socket:
            await socket.send("?")
            assert await socket.receive() == "/ws/red/ ada"
        assert set(log) == {("enter", "/ws/red/"), ("leave", "/ws/red/")}
        assert len(log) >= 8  # the user, the test of the user, two of the handler
        assert await sync_to_async(look)() == (None, "", "en")


class Verifications(TransactionTestCase):
    async def test_the_user_is_verified_inside(self) -> None:
        with use("tenant"), override_settings(WEBSOCKET_HANDLERS={"ws/red/": asks}):
            user = await User.objects.acreate_user("ada")
            client = WebSocketClient()
            await client.aforce_login(user)
            async with client.connect("/ws/red/") as socket:
                log.clear()
                await user.asave()
                await until(lambda: log == [("enter", "/ws/red/"), ("leave", "/ws/red/")])
                await socket.send("?")
                await socket.receive()


@pytest.mark.asyncio
async def test_receivers_of_signals_are_inside() -> None:
    seen: list[Any] = []

    def receiver(**kwargs: Any) -> None:
        seen.append(look()[0])

    async def handler(websocket: Any) -> None:
        await websocket.accept()

    for signal in (websocket_opened, websocket_closed):
        signal.connect(receiver)
    try:
        async with serving(handler, WEBSOCKET_SYNC_CONTEXT=f"{__name__}.tenant") as server:
            await server.ended()
    finally:
        for signal in (websocket_opened, websocket_closed):
            signal.disconnect(receiver)
        lanes.shutdown()
    assert len(seen) == 2
    assert None not in seen


# Around middleware it is not: the socket's work begins after the handshake


@sync_only_middleware
def in_a_thread(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        log.append(look()[0])
        response = get_response(request)
        log.append(look()[0])
        return response

    return middleware


class InPieces(MiddlewareMixin):
    def process_request(self, request: Any) -> None:
        log.append(look()[0])

    def process_view(self, request: Any, *args: Any) -> None:
        log.append(look()[0])

    def process_response(self, request: Any, response: Any) -> Any:
        log.append(look()[0])
        return response


@async_only_middleware
def from_tasks(get_response: Any) -> Any:
    async def look_from_here() -> None:
        log.append((await sync_to_async(look)())[0])

    async def middleware(request: Any) -> Any:
        await look_from_here()
        with lanes.lane_for(only_socket()):  # as the verification of its user is
            await look_from_here()
        response = await get_response(request)
        await asyncio.create_task(look_from_here())
        return response

    return middleware


async def looks(websocket: Any) -> None:
    await websocket.send(str((await sync_to_async(look)())[0]))


INSIDE = [("enter", "/ws/red/"), ("leave", "/ws/red/")]
MIDDLEWARE = {
    "in_a_thread": [None, None],
    "InPieces": [None, None, None],
    "from_tasks": [None, *INSIDE, "/ws/red/", None],
}


def with_middleware(name: str) -> dict[str, Any]:
    return {
        "WEBSOCKET_SYNC_CONTEXT": f"{__name__}.tenant",
        "WEBSOCKET_MIDDLEWARE": [f"{__name__}.{name}"],
    }


@pytest.mark.asyncio
@pytest.mark.parametrize("name", MIDDLEWARE)
async def test_middleware_is_not_inside(name: str) -> None:
    async with serving(looks, "/ws/red/", route="ws/red/", **with_middleware(name)) as server:
        assert await server.sends(1) == ["/ws/red/"]
        await server.ended()
    assert log == MIDDLEWARE[name] + INSIDE


async def look_with_the_client(name: str) -> None:
    with override_settings(WEBSOCKET_HANDLERS={"ws/red/": looks}, **with_middleware(name)):
        async with WebSocketClient().connect("/ws/red/") as socket:
            assert await socket.receive() == "/ws/red/"
    assert log == MIDDLEWARE[name] + INSIDE


@pytest.mark.asyncio
@pytest.mark.parametrize("name", MIDDLEWARE)
async def test_nor_under_the_test_client(name: str) -> None:
    await look_with_the_client(name)


@pytest.mark.parametrize("name", MIDDLEWARE)
def test_nor_under_the_test_client_of_a_sync_test(name: str) -> None:
    # As that of Django's TestCase: asgiref prefers the thread that waits.
    async_to_sync(look_with_the_client)(name)
