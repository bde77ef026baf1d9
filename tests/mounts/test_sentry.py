"""Sentry around the application, as in ``docs/howto/sentry.md``."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from sentry_sdk.integrations.asgi import SentryAsgiMiddleware

from django_ws_dispatch.asgi import leads_to_dispatcher
from tests.asgi import application
from tests.kit.server import Server

from .site import closed, connect, denied, run

pytestmark = pytest.mark.live


def site(application: str) -> Server:
    """The site without a database: its page fails."""
    return Server(
        application=f"tests.mounts.sentry_site:{application}",
        settings="tests.mounts.settings",
        environment={
            "MOUNTS_HANDLERS": "tests.mounts.sentry_sockets",
            # Other people's warnings are theirs.
            "PYTHONDEVMODE": "",
            "PYTHONWARNINGS": "default",
        },
    )


@pytest.fixture
def server() -> Iterator[Server]:
    with site("application") as server:
        yield server


@pytest.fixture
def unwrapped() -> Iterator[Server]:
    with site("bare") as server:
        yield server


def sent(server: Server, kind: str) -> list[dict[str, Any]]:
    """Everything of one kind that Sentry would have got. The server has to have stopped."""
    notes = [json.loads(note) for note in server.notes]
    return [note for note in notes if note["kind"] == kind]


async def fail(server: Server, name: str, *before: str) -> None:
    async with connect(server, f"/rooms/{name}/?token=of-{name}") as socket:
        for message in (*before, "fail"):
            await socket.recv()
            await socket.send(message)
        assert (await closed(socket))[0] == 1011
    server.expected += ["The handler of", "Traceback", "LookupError"]


def ask_for_a_page(server: Server) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{server.http_url}/login/nobody/")
    with caught.value as response:
        assert response.code == 500
    server.expected += ["Internal Server Error", "Traceback", "OperationalError"]


def test_a_failure_is_reported_once_after_the_accept_and_before_it(server: Server) -> None:
    async def scenario() -> None:
        await fail(server, "ann")
        assert (await denied(server, "/fails/")).status_code == 500

    run(scenario)
    server.stop()
    events = sent(server, "event")
    values = [event["exception"]["values"][-1]["value"] for event in events]
    assert values == ["in the room of ann", "before the accept"]
    assert "fail, said ann" not in str(events)


def test_what_one_handler_says_is_in_no_report_of_another_socket_or_a_page(server: Server) -> None:
    async def scenario() -> None:
        async with connect(server, "/rooms/ann/") as ann, connect(server, "/rooms/ben/") as ben:
            assert await ann.recv() == await ben.recv() == "in"
            await fail(server, "cid")

    run(scenario)
    ask_for_a_page(server)
    server.stop()
    socket, page = sent(server, "event")
    assert socket["user"] == {"id": "cid"}
    assert "/rooms/ann/" not in str(socket["breadcrumbs"])
    assert "user" not in page


def test_without_the_wrapper_it_would_be(unwrapped: Server) -> None:
    async def scenario() -> None:
        async with connect(unwrapped, "/rooms/ann/") as ann:
            assert await ann.recv() == "in"
            assert (await denied(unwrapped, "/fails/")).status_code == 500

    run(scenario)
    unwrapped.expected += ["The handler of", "Traceback", "LookupError"]
    ask_for_a_page(unwrapped)
    unwrapped.stop()
    assert [event["user"]["id"] for event in sent(unwrapped, "event")] == ["ann", "ann"]


def test_a_report_has_the_name_of_the_route_where_the_handler_gives_it(server: Server) -> None:
    async def scenario() -> None:
        await fail(server, "ann")
        await fail(server, "ben", "route")

    run(scenario)
    server.stop()
    names = [event["transaction"] for event in sent(server, "event")]
    assert names == [f"{server.url}/rooms/ann/", "rooms/<slug:name>/"]


def test_a_message_is_a_transaction_and_a_socket_is_none(server: Server) -> None:
    async def scenario() -> None:
        async with connect(server, "/rooms/ann/") as socket:
            assert await socket.recv() == "in"
            await socket.send("hello")
            assert await socket.recv() == "hello"

    run(scenario)
    ask_for_a_page(server)
    server.stop()
    names = [one["transaction"] for one in sent(server, "transaction")]
    assert names == ["a message", "/login/{name}/"]


def test_a_restart_reaches_the_client_through_it(server: Server) -> None:
    async def scenario() -> None:
        async with connect(server, "/rooms/ann/") as socket:
            assert await socket.recv() == "in"
            server.terminate()
            assert (await closed(socket))[0] == 1012

    run(scenario)
    server.wait()


def test_the_checks_see_through_it() -> None:
    assert leads_to_dispatcher(SentryAsgiMiddleware(application))
