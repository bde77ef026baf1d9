"""Which server a connection is of: known by the ``send`` that it hands out."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from django_ws_dispatch import servers
from django_ws_dispatch.servers import quirks

KINDS = [
    ("uvicorn.protocols.websockets.websockets_impl", quirks.Uvicorn),
    ("hypercorn.protocol.ws_stream", quirks.Hypercorn),
    ("daphne.server", quirks.Daphne),
    ("_granian.asgi", quirks.Granian),
    ("django_ws_dispatch.testing.wire", quirks.Server),
    ("daphnelike.server", quirks.Server),
]


def protocol(module: str) -> Any:
    """The object of a server, which hands out its ``send``."""

    class Protocol:
        async def send(self, event: object) -> None: ...

    Protocol.__module__ = module
    return Protocol()


def wrapped(send: Any) -> Any:
    """As a middleware does."""

    async def sending(event: object) -> None:
        await send(event)

    return sending


@pytest.mark.parametrize(("module", "kind"), KINDS)
def test_a_server_is_known_by_who_hands_out_its_send(module: str, kind: type[Any]) -> None:
    one = protocol(module)
    for _ in range(2):  # it is remembered
        assert type(servers.of(one.send, {})) is kind


@pytest.mark.parametrize(("module", "kind"), KINDS)
def test_a_server_is_known_through_a_middleware_and_a_partial(module: str, kind: type[Any]) -> None:
    one = protocol(module)
    for send in (wrapped(one.send), wrapped(wrapped(one.send)), partial(one.send)):
        assert type(servers.of(send, {})) is kind


def test_a_middleware_is_not_taken_for_the_server_that_it_once_had() -> None:
    class Middleware:
        inner: Any = None

        async def send(self, event: object) -> None:
            await self.inner(event)

    for module, kind in KINDS[:2]:
        one = Middleware()
        one.inner = protocol(module).send
        assert type(servers.of(one.send, {})) is kind


def test_a_function_that_has_nothing_inside_is_of_no_server_in_particular() -> None:
    async def send(event: object) -> None: ...

    assert type(servers.of(send, {})) is quirks.Server


def test_two_connections_have_a_server_each() -> None:
    one, other = protocol(KINDS[0][0]), protocol(KINDS[0][0])
    assert servers.of(one.send, {}) is not servers.of(other.send, {})
