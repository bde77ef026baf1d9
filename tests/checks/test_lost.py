"""Decorators of a handler that another handler has inside, and that therefore do not count."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.core.checks import Warning
from django.test import override_settings
from django.utils.functional import SimpleLazyObject

from django_ws_dispatch import checks
from django_ws_dispatch.checks.lost import Lost, lost_decorators
from django_ws_dispatch.decorators import (
    asgi_handler,
    connection_limit,
    login_required,
    max_message_size,
    permission_required,
    rate_limit,
    user_passes_test,
    with_user,
)
from django_ws_dispatch.dispatcher import WebSocketDispatcher
from django_ws_dispatch.routing.handlers import Handler


@rate_limit("5/s")
@login_required
async def room(websocket: Any) -> None: ...


async def open_room(websocket: Any) -> None: ...


@login_required
async def raw_room(scope: Any, receive: Any, send: Any) -> None: ...


ROOM = Lost("tests.checks.test_lost.room", ["rate_limit", "login_required"])


def lost(callback: Any) -> list[Lost]:
    return list(lost_decorators(Handler(callback)))


# Wrappers of each kind


def plain_wrapper(handler: Any) -> Any:
    async def wrapper(websocket: Any) -> None:
        await handler(websocket)

    return wrapper


def telling_wrapper(handler: Any) -> Any:
    return functools.wraps(handler)(plain_wrapper(handler))


def raw_wrapper(application: Any) -> Any:
    async def wrapper(scope: Any, receive: Any, send: Any) -> None:
        await application(scope, receive, send)

    return wrapper


def default_wrapper(handler: Any) -> Any:
    async def wrapper(websocket: Any, handler: Any = handler) -> None:
        await handler(websocket)

    return wrapper


async def calls(handler: Any, websocket: Any) -> None:
    await handler(websocket)


class Holder:
    def __init__(self, handler: Any) -> None:
        self.handler = handler

    async def __call__(self, websocket: Any) -> None: ...

    async def method(self, websocket: Any) -> None: ...


class Slotted:
    __slots__ = ("__dict__", "handler")

    def __init__(self, handler: Any) -> None:
        self.handler = handler

    async def __call__(self, websocket: Any) -> None: ...


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "closure": plain_wrapper,
    "two closures": lambda handler: plain_wrapper(plain_wrapper(handler)),
    "default": default_wrapper,
    "partial": lambda handler: functools.partial(calls, handler),
    "object": Holder,
    "object with slots": Slotted,
    "method": lambda handler: Holder(handler).method,
    "list": lambda handler: Holder([open_room, handler]),
    "tuple": lambda handler: Holder((open_room, handler)),
    "dict": lambda handler: Holder({"a": {"b": handler}}),
    "wraps something else": lambda handler: functools.wraps(open_room)(plain_wrapper(handler)),
    "around a wrapper that tells": lambda handler: plain_wrapper(telling_wrapper(handler)),
    "around a partial": lambda handler: plain_wrapper(functools.partial(handler)),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_what_a_handler_has_inside_has_lost_its_decorators(wrap: Callable[[Any], Any]) -> None:
    assert lost(wrap(room)) == [ROOM]
    assert lost(wrap(open_room)) == []


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_what_the_outer_handler_does_as_well_is_not_lost(wrap: Callable[[Any], Any]) -> None:
    assert lost(login_required(wrap(room))) == [ROOM._replace(decorators=["rate_limit"])]
    assert lost(rate_limit("9/s")(login_required(wrap(room)))) == []


@pytest.mark.parametrize(
    "wrap",
    [lambda handler: handler, telling_wrapper, functools.partial],
    ids=["none", "wraps", "partial"],
)
def test_what_counts_is_not_lost(wrap: Callable[[Any], Any]) -> None:
    assert lost(wrap(room)) == []


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_decorated_object_inside_has_lost_its_decorators_and_those_of_its_call(
    wrap: Callable[[Any], Any],
) -> None:
    assert lost(wrap(rate_limit("5/s")(Guarded()))) == [
        Lost("tests.checks.test_lost.Guarded", ["rate_limit"]),
        Lost("tests.checks.test_lost.Guarded.__call__", ["login_required"]),
    ]


def test_a_decorated_object_has_lost_what_it_holds() -> None:
    assert lost(login_required(Holder(room))) == [ROOM._replace(decorators=["rate_limit"])]
    assert lost(login_required(rate_limit("5/s")(Guarded()))) == []


def test_the_application_of_a_raw_wrapper_has_lost_its_decorators() -> None:
    assert lost(raw_wrapper(raw_room)) == [
        Lost("tests.checks.test_lost.raw_room", ["login_required"])
    ]


def test_each_handler_inside_is_named() -> None:
    @user_passes_test(bool)
    async def other(websocket: Any) -> None: ...

    names = [one.name for one in lost(Holder({"a": room, "b": other, "c": open_room}))]
    assert names == ["tests.checks.test_lost.room", f"{__name__}.{other.__qualname__}"]


# What a class inherits


class Guarded:
    @login_required
    async def __call__(self, websocket: Any) -> None: ...

    @login_required
    async def method(self, websocket: Any) -> None: ...

    @classmethod
    @login_required
    async def of_the_class(cls, websocket: Any) -> None: ...


class Overriding(Guarded):
    async def __call__(self, websocket: Any) -> None:
        await super().__call__(websocket)

    async def method(self, websocket: Any) -> None: ...

    @classmethod
    async def of_the_class(cls, websocket: Any) -> None: ...


class Inheriting(Guarded):
    pass


class OverridingAsWell(Guarded):
    @login_required
    async def __call__(self, websocket: Any) -> None: ...


@login_required
class GuardedClass:
    async def __call__(self, websocket: Any) -> None: ...


class Below(GuardedClass):
    async def __call__(self, websocket: Any) -> None: ...


@pytest.mark.parametrize("name", ["__call__", "method", "of_the_class"])
def test_what_a_class_overrides_has_lost_its_decorators(name: str) -> None:
    handler = Overriding() if name == "__call__" else getattr(Overriding(), name)
    assert lost(handler) == [Lost(f"tests.checks.test_lost.Guarded.{name}", ["login_required"])]


@pytest.mark.parametrize(
    "handler",
    [Guarded(), Inheriting(), OverridingAsWell(), GuardedClass(), Below(), Guarded().method],
    ids=lambda handler: type(handler).__name__,
)
def test_what_a_class_inherits_or_decorates_anew_counts(handler: Any) -> None:
    assert lost(handler) == []


def test_a_method_has_not_the_decorators_of_its_class_and_needs_not_those_of_its_call() -> None:
    class Room(GuardedClass):
        async def method(self, websocket: Any) -> None: ...

    assert [one.decorators for one in lost(Room().method)] == [["login_required"]]
    Room.method = login_required(Room.method)  # type: ignore[method-assign]
    assert lost(Room().method) == []

    class Callable(Guarded):
        async def other(self, websocket: Any) -> None: ...

    assert lost(Callable().other) == []


class Consumer:
    """As those of Channels: the class is in the closure of what is mounted."""

    @login_required
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

    @classmethod
    def as_asgi(cls) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await cls()(scope, receive, send)

        return functools.update_wrapper(app, cls, updated=())


@login_required
class GuardedConsumer(Consumer):
    pass


def test_a_decorated_call_behind_as_asgi_is_lost_and_a_decorated_class_is_not() -> None:
    assert lost(Consumer.as_asgi()) == [
        Lost("tests.checks.test_lost.Consumer.__call__", ["login_required"])
    ]
    assert lost(GuardedConsumer.as_asgi()) == []


def test_an_object_of_a_decorated_class_inside_is_named_by_its_class() -> None:
    found = [Lost("tests.checks.test_lost.GuardedClass", ["login_required"])]
    assert lost(Holder(GuardedClass())) == found
    assert lost(Holder(functools.partial(GuardedClass()))) == found


# What does the same


def member(user: Any) -> bool:
    return True


@pytest.mark.parametrize(
    ("inner", "outer", "names"),
    [
        (with_user, login_required, []),
        (with_user, rate_limit("1/s"), ["with_user"]),
        (login_required, permission_required("a.b"), []),
        (login_required, with_user, ["login_required"]),
        (permission_required("a.b"), permission_required("a.b"), []),
        (permission_required("a.b"), permission_required("a.c"), ["permission_required"]),
        (user_passes_test(member), user_passes_test(member), []),
        (user_passes_test(member), user_passes_test(bool), ["user_passes_test"]),
        (connection_limit(1), connection_limit(1), []),
        (connection_limit(1), connection_limit(2), ["connection_limit"]),
        (max_message_size(1), max_message_size(2), []),
        (asgi_handler, login_required, []),
    ],
)
def test_a_decorator_that_means_the_same_makes_up_for_another(
    inner: Any, outer: Any, names: list[str]
) -> None:
    async def handler(websocket: Any) -> None: ...

    found = lost(outer(plain_wrapper(inner(handler))))
    assert [one.decorators for one in found] == ([names] if names else [])


# What is not looked into


def test_lazy_objects_are_not_evaluated_and_cycles_end() -> None:
    holder = Holder([SimpleLazyObject(lambda: pytest.fail("evaluated")), room])
    holder.handler.append(holder)
    assert lost(holder) == [ROOM]


def test_what_a_dispatcher_or_the_settings_lead_to_is_enforced_there() -> None:
    async def pages(*args: Any) -> None: ...

    with override_settings(WEBSOCKET_HANDLERS={"ws/": room}):
        dispatcher = WebSocketDispatcher(pages)
        dispatcher.site.routes.find({"path": "/ws/"})
        assert lost(Holder([dispatcher, settings])) == []


# The check


def test_the_check_names_the_route_both_handlers_the_decorators_and_the_remedy() -> None:
    wrapper = plain_wrapper(room)
    with override_settings(WEBSOCKET_HANDLERS={"ws/a/": room, "ws/b/": wrapper}):
        (message,) = checks.check_websockets()
    outer = f"{__name__}.{wrapper.__qualname__}"
    assert type(message) is Warning
    assert (message.id, message.obj) == ("ws_dispatch.W012", "WEBSOCKET_HANDLERS['ws/b/']")
    assert message.msg == (
        f"{outer} has tests.checks.test_lost.room inside, whose decorators do not count here: "
        "rate_limit, login_required."
    )
    assert message.hint == (
        f"Decorate {outer} as well; where it is a wrapper, functools.wraps() does it. Silence this "
        "check where it is meant so."
    )
