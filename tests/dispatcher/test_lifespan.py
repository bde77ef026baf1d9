"""The life of a server process, and what the site does in it."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress

import pytest
from django.test import override_settings

from django_ws_dispatch.auth.control import publish_control
from django_ws_dispatch.auth.keys import logged_out, tokens_of
from django_ws_dispatch.brokers.memory import MemoryBroker
from django_ws_dispatch.dispatcher import WebSocketDispatcher
from django_ws_dispatch.dispatcher import sweep as connections
from django_ws_dispatch.exceptions import Deny

from ..kit.fake_server import FakeServer, hurry
from ..kit.waiting import until

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    hurry(monkeypatch)


async def nothing(scope, receive, send):
    raise AssertionError("not called")


@asynccontextmanager
async def pool():
    entered.append("in")
    try:
        yield {"pool": 42}
    finally:
        entered.append("out")


@asynccontextmanager
async def broken():
    raise LookupError("no database")
    yield {}


entered: list[str] = []


async def state_of(websocket):
    await websocket.send_json([websocket.state["pool"], websocket.request.scope["state"]["pool"]])


async def raw_state_of(scope, receive, send):
    await receive()
    raise Deny(200 + scope["state"]["pool"])


async def run_lifespan(dispatcher, state=None):
    events: asyncio.Queue[dict[str, object]] = asyncio.Queue()
    sent = []

    async def send(event):
        sent.append(event["type"])

    scope = {"type": "lifespan"} if state is None else {"type": "lifespan", "state": state}
    task = asyncio.create_task(dispatcher(scope, events.get, send))
    events.put_nowait({"type": "lifespan.startup"})
    await until(lambda: sent)
    return task, events, sent


async def test_without_a_lifespan_of_the_sites_own_the_server_starts_and_stops():
    task, events, sent = await run_lifespan(WebSocketDispatcher(nothing))
    assert sent == ["lifespan.startup.complete"]
    events.put_nowait({"type": "lifespan.shutdown"})
    await task
    assert sent[1:] == ["lifespan.shutdown.complete"]


async def test_what_the_lifespan_yields_is_the_state_of_every_socket():
    entered.clear()
    with override_settings(
        WEBSOCKET_LIFESPAN="tests.dispatcher.test_lifespan.pool",
        WEBSOCKET_HANDLERS={"ws/": state_of, "raw/": raw_state_of},
    ):
        dispatcher = WebSocketDispatcher(nothing)
        state: dict[str, object] = {}
        task, events, sent = await run_lifespan(dispatcher, state)
        assert state == {"pool": 42}
        assert entered == ["in"]
        server = FakeServer(dispatcher, state=dict(state)).start()
        await server.ended()
        assert server.data == ["[42,42]"]
        server = FakeServer(dispatcher, "/raw/", state=dict(state)).start()
        await server.ended()
        assert server.denied is not None
        assert server.denied[0] == 242
        events.put_nowait({"type": "lifespan.shutdown"})
        await task
    assert entered == ["in", "out"]
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_lifespan_that_fails_stops_the_start_of_the_server(caplog):
    with override_settings(WEBSOCKET_LIFESPAN="tests.dispatcher.test_lifespan.broken"):
        task, _, sent = await run_lifespan(WebSocketDispatcher(nothing))
        await task
    assert sent == ["lifespan.startup.failed"]
    (record,) = caplog.records
    assert record.levelname == "ERROR"


@asynccontextmanager
async def of_tasks():
    async def background():
        raise LookupError("no database any more")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(background())
        yield {"pool": 42}


@asynccontextmanager
async def gives_up():
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_soon(task.cancel)
    with suppress(asyncio.CancelledError):
        yield {"pool": 42}


@pytest.mark.parametrize(("name", "raises"), [("of_tasks", True), ("gives_up", False)])
async def test_a_lifespan_that_ends_while_the_server_runs_is_logged_once_and_the_state_stays(
    name, raises, caplog
):
    with override_settings(
        WEBSOCKET_LIFESPAN=f"tests.dispatcher.test_lifespan.{name}",
        WEBSOCKET_HANDLERS={"ws/": state_of},
    ):
        dispatcher = WebSocketDispatcher(nothing)
        state: dict[str, object] = {}
        task, events, sent = await run_lifespan(dispatcher, state)
        await until(lambda: caplog.records)
        server = FakeServer(dispatcher, state=dict(state)).start()
        await server.ended()
        assert server.data == ["[42,42]"]
        events.put_nowait({"type": "lifespan.shutdown"})
        await task
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.name == "django_ws_dispatch.lifespan"
    assert "WEBSOCKET_LIFESPAN has ended while the server runs" in record.getMessage()
    assert ("no database any more" in caplog.text) is raises


@asynccontextmanager
async def leaves_badly():
    yield {}
    raise LookupError("no goodbye")


async def test_a_lifespan_that_fails_at_the_stop_is_a_failed_shutdown(caplog):
    with override_settings(WEBSOCKET_LIFESPAN="tests.dispatcher.test_lifespan.leaves_badly"):
        task, events, sent = await run_lifespan(WebSocketDispatcher(nothing))
        events.put_nowait({"type": "lifespan.shutdown"})
        await task
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.failed"]
    (record,) = caplog.records
    assert record.getMessage() == "The shutdown failed"


@pytest.mark.parametrize("scope", [{}, {"state": {}}])  # uvicorn --lifespan off has an empty one
async def test_a_server_without_a_lifespan_enters_it_before_the_first_connection(scope):
    entered.clear()
    with override_settings(
        WEBSOCKET_LIFESPAN="tests.dispatcher.test_lifespan.pool",
        WEBSOCKET_HANDLERS={"ws/": state_of},
    ):
        dispatcher = WebSocketDispatcher(nothing)
        servers = [FakeServer(dispatcher, server="daphne", **scope).start() for _ in range(3)]
        for server in servers:
            await server.ended()
            assert server.data == ["[42,42]"]
        assert entered == ["in"]
        await dispatcher.lifespan.stop()
    assert entered == ["in", "out"]


class FarBroker(MemoryBroker):
    """A memory broker that says that it reaches other processes."""

    in_process = False


async def test_a_server_hears_of_logouts_elsewhere_from_its_start_and_not_from_its_first_user():
    brokers = {"default": {"BACKEND": f"{__name__}.FarBroker"}}
    (token,) = tokens_of("a session")
    with override_settings(WEBSOCKET_BROKERS=brokers):
        task, events, _ = await run_lifespan(WebSocketDispatcher(nothing))
        await connections.local().watch.listen()
        await publish_control(json.dumps({"session": token}).encode())
        assert logged_out.has(token, "")
        events.put_nowait({"type": "lifespan.shutdown"})
        await task
        await connections.aclose()
