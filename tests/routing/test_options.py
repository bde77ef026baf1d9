"""Where a decorator may stand, and that it counts there, once."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from django_ws_dispatch.decorators import login_required, permission_required
from django_ws_dispatch.routing.handlers import Handler
from django_ws_dispatch.routing.options import options_of

from .test_handlers import AsChannels, room, wrapped


def test_options_are_seen_through_a_wrapper() -> None:
    @login_required
    async def inner(websocket: Any) -> None: ...

    assert options_of(wrapped(inner)).login
    assert Handler(wrapped(inner)).options.login


class Guarded:
    @login_required
    async def __call__(self, websocket: Any) -> None: ...


@login_required
class GuardedChannels(AsChannels):
    pass


async def guarded(where: str, websocket: Any) -> None: ...


@pytest.mark.parametrize(
    "handler",
    [
        functools.partial(login_required(guarded), "here"),
        Guarded(),
        functools.partial(Guarded()),
        wrapped(Guarded()),
        functools.update_wrapper(Guarded(), room),
        GuardedChannels.as_asgi(),
    ],
    ids=["partial", "__call__", "its partial", "its wrapper", "wraps another", "as_asgi"],
)
def test_options_are_seen_wherever_the_decorator_stands(handler: Any) -> None:
    assert Handler(handler).options.login


def test_an_option_that_a_wrapper_has_copied_counts_once() -> None:
    @permission_required("a.inner")
    async def inner(websocket: Any) -> None: ...

    handler = permission_required("a.outer")(functools.partial(wrapped(inner)))
    assert options_of(handler).permissions == ("a.outer", "a.inner")
    assert [one.name for one in options_of(handler).applied] == ["permission_required"] * 2
