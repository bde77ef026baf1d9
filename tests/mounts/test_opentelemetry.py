"""OpenTelemetry on the pages and around the application, as in ``docs/howto/opentelemetry.md``."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

from django_ws_dispatch.asgi import leads_to_dispatcher
from tests.asgi import application
from tests.kit.server import Server

from .site import closed, connect, run

pytestmark = pytest.mark.live


@pytest.fixture
def serve() -> Iterator[Callable[[str], Server]]:
    with ExitStack() as stack:

        def serve(application: str) -> Server:
            server = Server(
                application=f"tests.mounts.opentelemetry_site:{application}",
                settings="tests.mounts.settings",
                environment={
                    "MOUNTS_HANDLERS": "tests.mounts.opentelemetry_sockets",
                    # Other people's warnings are theirs.
                    "PYTHONDEVMODE": "",
                    "PYTHONWARNINGS": "default",
                },
            )
            return stack.enter_context(server)

        yield serve


def ask_for_a_page(server: Server) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{server.http_url}/missing/")
    caught.value.close()


def spans(server: Server) -> Counter[str]:
    """Send a message to two sockets, ask for a page, stop, and return what that leaves."""

    async def scenario() -> None:
        async with connect(server, "/room/") as one, connect(server, "/room/") as two:
            await two.ping()
            await one.send("hello")
            assert await one.recv() == await two.recv() == "hello"
            await asyncio.to_thread(ask_for_a_page, server)
            server.terminate()
            assert (await closed(one))[0] == (await closed(two))[0] == 1012

    run(scenario)
    server.wait()
    assert "detach context" not in server.log
    return Counter(server.notes)


def test_pages_are_traced_and_of_sockets_what_the_handler_says(serve) -> None:
    assert spans(serve("application")) == {
        "root: a message": 1,
        "child: on a lane": 1,
        "root: GET": 1,
    }


def test_around_the_application_a_socket_is_a_span_and_a_message_none(serve) -> None:
    assert spans(serve("wrapped")) == {
        "root: HTTP /room/": 2,
        "child: a message": 1,
        "child: on a lane": 1,
        "root: GET /missing/": 1,
        "child: GET": 1,
    }


def test_by_default_each_message_is_a_span(serve) -> None:
    seen = spans(serve("talkative"))
    assert seen["child: HTTP /room/ websocket receive"] > 2
    # Of each an accept and the message; the close of a restart is uvicorn's own.
    assert seen["child: HTTP /room/ websocket send"] == 4


def test_sockets_can_be_left_out_by_their_scheme(serve) -> None:
    seen = spans(serve("without_sockets"))
    assert not any("/room/" in name for name in seen)
    assert seen["root: GET /missing/"] == seen["root: a message"] == 1


def test_the_checks_see_through_it() -> None:
    assert leads_to_dispatcher(OpenTelemetryMiddleware(application))
