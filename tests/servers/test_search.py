"""A server's own send(), behind what is wrapped around it."""

from __future__ import annotations

import asyncio
from functools import partial
from types import SimpleNamespace

import pytest
from django.utils.functional import SimpleLazyObject

from django_ws_dispatch.servers import search


class Stream:
    """As hypercorn's: its context says that the server stops."""

    def __init__(self) -> None:
        self.context = SimpleNamespace(terminated=asyncio.Event())

    async def send(self, event: object) -> None:
        """The server's ``send()``."""


def wrapped(send):
    """As a middleware does, or uvicorn's log."""

    async def sending(event):
        await send(event)

    return sending


class Responder:
    """As a middleware with a class does."""

    def __init__(self, send):
        self.wrapped = send

    async def send(self, event):
        await self.wrapped(event)


def test_the_server_s_send_is_found_in_what_is_wrapped_around_it(monkeypatch):
    monkeypatch.setattr(search, "SERVERS", {"tests"})
    send = Stream().send
    assert search.own_send(send) is send
    for outer in (wrapped(send), wrapped(wrapped(send)), partial(wrapped(send))):
        assert search.own_send(outer) == send
    monkeypatch.setattr(Responder, "__module__", "middleware")
    assert search.own_send(wrapped(Responder(wrapped(send)).send)) == send


def test_two_connections_in_one_wrapper_are_told_apart_by_nobody(monkeypatch):
    monkeypatch.setattr(search, "SERVERS", {"tests"})
    mine, another = Stream().send, Stream().send

    async def sending(event):
        await mine(event)
        await another(event)

    assert search.own_send(sending) is sending


def test_a_lazy_object_in_a_wrapper_is_not_evaluated():
    send, user = Stream().send, SimpleLazyObject(lambda: pytest.fail("evaluated"))

    async def sending(event):
        await send({**event, "user": user})

    assert search.own_send(sending) is sending


def test_what_no_known_server_has_handed_out_stays_what_it_is():
    for send in (print, Stream().send, wrapped(Stream().send), wrapped(print), len):
        assert search.own_send(send) is send
