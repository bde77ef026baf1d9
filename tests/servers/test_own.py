"""uvicorn with the protocol class of this package, as the rest of it sees a connection."""

from __future__ import annotations

from typing import Any

import pytest

from django_ws_dispatch import servers
from django_ws_dispatch.servers.own import Own
from django_ws_dispatch.servers.wire import EXTENSION

from ..uvicorn.wire import opened


class Wire:
    """A connection of the class."""

    def __init__(self) -> None:
        self.latency, self.drain, self.unsent = 0.5, 0.0, 7

    async def receive(self) -> Any: ...

    async def send(self, event: Any) -> None: ...

    @property
    def scope(self) -> dict[str, Any]:
        return {"extensions": {EXTENSION: self}}


async def middleware(event: Any) -> None: ...


def test_it_is_found_in_the_scope_whatever_is_wrapped_around_send() -> None:
    wire = Wire()
    for send in (wire.send, middleware):
        server = servers.of(send, wire.scope)
        assert type(server) is Own
        assert server.unsent == 7


@pytest.mark.parametrize("scope", [{}, {"extensions": None}, {"extensions": {}}])
def test_it_is_none_where_the_scope_has_no_such_thing(scope: dict[str, Any]) -> None:
    assert type(servers.of(middleware, scope)) is not Own


def test_it_is_used_directly_only_where_nothing_is_wrapped_around_it() -> None:
    wire = Wire()
    server = servers.of(wire.send, wire.scope)
    assert server.wire(wire.receive) is wire
    assert server.wire(middleware) is None
    assert servers.of(middleware, wire.scope).wire(wire.receive) is None
    other = Wire()
    assert server.wire(other.receive) is None


def test_a_proxy_that_says_that_it_equals_the_method_is_something_around_it() -> None:
    wire = Wire()

    class Proxy:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return True

    proxy: Any = Proxy()
    assert servers.of(wire.send, wire.scope).wire(proxy) is None
    assert servers.of(proxy, wire.scope).wire(wire.receive) is None


def test_the_latency_is_told_where_nothing_is_wrapped_around_send() -> None:
    wire = Wire()
    assert servers.of(wire.send, wire.scope).latency == 0.5
    assert servers.of(middleware, wire.scope).latency is None


def test_other_servers_tell_no_latency_and_no_wire_and_do_not_drain() -> None:
    server = servers.of(middleware, {})
    server.drain_within(5)
    assert server.latency is None
    assert server.wire(middleware) is None


def test_a_drain_is_told_to_the_connection() -> None:
    wire = Wire()
    servers.of(middleware, wire.scope).drain_within(20)
    assert wire.drain == 20


@pytest.mark.asyncio
async def test_the_class_is_such_a_connection() -> None:
    async with opened() as (client, app):
        protocol = client.protocol
        server = servers.of(protocol.send, app.scope)
        assert server.wire(protocol.receive) is protocol
        assert server.unsent == 0
        assert not server.is_closing
        assert server.abort()
        await client.ended()
        assert await app.disconnected() == (1006, None)
