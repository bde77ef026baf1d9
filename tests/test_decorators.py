"""Decorators set options on a handler, which stays the object that it is."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_ws_dispatch import decorators
from django_ws_dispatch.decorators import (
    allowed_origins,
    asgi_handler,
    connection_limit,
    idle_timeout,
    login_required,
    max_message_size,
    permission_required,
    rate_limit,
    recheck_user,
    subprotocols,
    user_passes_test,
    with_user,
)
from django_ws_dispatch.limits import Rate
from django_ws_dispatch.routing.handlers import Handler, HandlerError, Options, options_of


def is_ann(user: Any) -> bool:
    return bool(user.username == "ann")


# Each decorator, ready to decorate, with the options that it sets.
DECORATORS: dict[str, tuple[Callable[[Any], Any], dict[str, Any]]] = {
    "asgi_handler": (asgi_handler, {"asgi": True}),
    "with_user": (with_user, {"user": True}),
    "login_required": (login_required, {"login": True}),
    "permission_required": (permission_required("a.b"), {"permissions": ("a.b",)}),
    "user_passes_test": (user_passes_test(is_ann), {"tests": (is_ann,)}),
    "subprotocols": (subprotocols("v2", "v1"), {"subprotocols": ("v2", "v1")}),
    "allowed_origins": (
        allowed_origins("https://a.example"),
        {"allowed_origins": ("https://a.example",)},
    ),
    "max_message_size": (max_message_size(10), {"max_message_size": 10}),
    "rate_limit": (rate_limit("20/s"), {"rate_limit": Rate(20, 1)}),
    "idle_timeout": (idle_timeout(60), {"idle_timeout": 60.0}),
    "connection_limit": (connection_limit(3), {"connection_limits": ((3, "user"),)}),
    "recheck_user": (recheck_user(every=60), {"recheck_user": 60.0}),
}
BY_NAME = [
    pytest.param(decorate, changes, id=name) for name, (decorate, changes) in DECORATORS.items()
]


def coroutine_handler() -> Any:
    async def room(websocket: Any, slug: str, page: int = 1) -> None:
        """Talk in a room."""

    return room


def raw_handler() -> Any:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        """Speak ASGI."""

    return application


def callable_object() -> Any:
    class Room:
        """A room."""

        async def __call__(self, websocket: Any, slug: str, page: int = 1) -> None:
            """Talk in a room."""

    return Room()


def partial_handler() -> Any:
    async def room(where: str, websocket: Any, slug: str, page: int = 1) -> None:
        """Talk in a room."""

    return functools.partial(room, "here")


FORMS = [
    pytest.param(form, id=form.__name__)
    for form in (coroutine_handler, raw_handler, callable_object, partial_handler)
]


def test_every_decorator_is_tested() -> None:
    assert set(DECORATORS) == set(decorators.__all__)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("decorate", "changes"), BY_NAME)
def test_a_decorator_returns_the_same_object_with_its_option(
    decorate: Any, changes: dict[str, Any], form: Any
) -> None:
    handler = form()
    assert decorate(handler) is handler
    assert options_of(handler) == Options(**changes)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("decorate", "changes"), BY_NAME)
def test_introspection_sees_the_handler_as_it_was(
    decorate: Any, changes: dict[str, Any], form: Any
) -> None:
    def seen(handler: Any) -> Any:
        return (
            inspect.signature(handler),
            getattr(handler, "__name__", None),
            getattr(handler, "__module__", None),
            inspect.getdoc(handler),
            inspect.iscoroutinefunction(handler),
            inspect.unwrap(handler) is handler,
        )

    handler = form()
    before = seen(handler)
    assert seen(decorate(handler)) == before


@pytest.mark.parametrize("form", FORMS)
def test_all_of_them_stack(form: Any) -> None:
    handler = form()
    changes: dict[str, Any] = {}
    for decorate, change in DECORATORS.values():
        decorate(handler)
        changes |= change
    assert options_of(handler) == Options(**changes)
    assert options_of(handler).names == tuple(reversed(DECORATORS))


def test_any_order_means_the_same() -> None:
    stacks = set()
    for order in itertools.permutations(["login_required", "rate_limit", "subprotocols"]):
        handler = coroutine_handler()
        for name in order:
            DECORATORS[name][0](handler)
        stacks.add(options_of(handler))
        assert options_of(handler).names == tuple(reversed(order))
    assert len(stacks) == 1


def test_the_outermost_of_two_alike_wins() -> None:
    @rate_limit("20/s")
    @rate_limit("5/m")
    async def handler(websocket: Any) -> None: ...

    assert options_of(handler).rate_limit == Rate(20, 1)


def test_permissions_tests_and_counts_add_up_outermost_first() -> None:
    def second(user: Any) -> bool:
        return True

    @permission_required(["a.one", "a.two"])
    @permission_required("a.three")
    @user_passes_test(is_ann)
    @user_passes_test(second)
    @connection_limit(1, per="user")
    @connection_limit(100, per="handler")
    async def handler(websocket: Any) -> None: ...

    options = options_of(handler)
    assert options.permissions == ("a.one", "a.two", "a.three")
    assert options.tests == (is_ann, second)
    assert options.connection_limits == ((1, "user"), (100, "handler"))


def test_permissions_may_come_from_an_iterator_and_a_decorator_be_used_twice() -> None:
    decorate = permission_required(f"a.{one}" for one in ("x", "y"))
    for handler in (coroutine_handler(), coroutine_handler()):
        assert options_of(decorate(handler)).permissions == ("a.x", "a.y")


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("with_user", True),
        ("login_required", True),
        ("permission_required", True),
        ("user_passes_test", True),
        ("recheck_user", True),
        ("connection_limit", True),
        ("asgi_handler", False),
        ("subprotocols", False),
        ("allowed_origins", False),
        ("max_message_size", False),
        ("rate_limit", False),
        ("idle_timeout", False),
    ],
)
def test_only_what_asks_for_the_user_makes_a_handshake_load_one(name: str, needs: bool) -> None:
    handler = DECORATORS[name][0](coroutine_handler())
    assert options_of(handler).needs_user is needs
    if name != "asgi_handler":
        assert Handler(handler).plain is not needs


def test_a_count_of_all_sockets_needs_no_user() -> None:
    handler = connection_limit(5, per="handler")(coroutine_handler())
    assert not options_of(handler).needs_user
    assert not Handler(handler).plain


def test_another_object_of_the_class_has_no_options() -> None:
    class Room:
        async def __call__(self, websocket: Any) -> None: ...

    first, second = Room(), Room()
    login_required(first)
    assert options_of(first).login
    assert not options_of(second).login


def test_a_partial_of_a_decorated_function_has_options_of_its_own() -> None:
    async def room(where: str, websocket: Any) -> None: ...

    here, there = functools.partial(room, "here"), functools.partial(room, "there")
    login_required(here)
    assert options_of(here).login
    assert not options_of(there).login
    assert not options_of(room).login


class Rooms:
    async def talk(self, websocket: Any) -> None: ...


class Slotted:
    __slots__ = ()

    async def __call__(self, websocket: Any) -> None: ...


@pytest.mark.parametrize(("decorate", "changes"), BY_NAME)
@pytest.mark.parametrize("handler", [Rooms().talk, Slotted()], ids=["bound method", "slots"])
def test_what_takes_no_attributes_is_refused_with_the_remedy(
    decorate: Any, changes: dict[str, Any], handler: Any
) -> None:
    with pytest.raises(TypeError, match="takes no attributes: decorate a function, or an object"):
        decorate(handler)


@pytest.mark.parametrize(("decorate", "changes"), BY_NAME)
@pytest.mark.parametrize("handler", ["chat.sockets.room", None, 3])
def test_what_is_not_callable_is_refused(
    decorate: Any, changes: dict[str, Any], handler: Any
) -> None:
    with pytest.raises(TypeError, match=r"^@\w+ decorates a handler, not "):
        decorate(handler)


def test_a_method_is_decorated_in_its_class() -> None:
    class Lobby:
        @login_required
        async def talk(self, websocket: Any) -> None: ...

    assert options_of(Lobby().talk).login
    assert Handler(Lobby().talk).options.login


@pytest.mark.parametrize(
    ("decorator", "remedy"),
    [
        (permission_required, r'Write @permission_required\("app_label.codename"\)'),
        (subprotocols, r'Name the subprotocols: @subprotocols\("chat.v2"'),
        (allowed_origins, r'Name the origins: @allowed_origins\("https://example.com"\)'),
        (max_message_size, r"max_message_size\(\) takes a number, not <function"),
        (rate_limit, r'Write @rate_limit\("20/s"\)'),
        (idle_timeout, r"idle_timeout\(\) takes a number, not <function"),
        (connection_limit, r"connection_limit\(\) takes a number, not <function"),
        (recheck_user, r"recheck_user\(\) takes a number, not <function"),
    ],
)
def test_a_decorator_without_its_argument_is_refused_at_once(decorator: Any, remedy: str) -> None:
    with pytest.raises(TypeError, match=remedy):
        decorator(coroutine_handler())


def test_a_decorator_that_took_the_handler_for_its_test_is_refused_with_the_routes() -> None:
    with pytest.raises(HandlerError, match="parentheses, as in @user_passes_test"):
        Handler(user_passes_test(coroutine_handler()))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: subprotocols(), TypeError, "Name the subprotocols"),
        (lambda: subprotocols(""), TypeError, "Name the subprotocols"),
        (lambda: subprotocols(["v1"]), TypeError, "Name the subprotocols"),  # type: ignore[arg-type]
        (lambda: user_passes_test("ann"), TypeError, "takes a function of the user, not 'ann'"),  # type: ignore[arg-type]
        (lambda: allowed_origins("a.example"), ImproperlyConfigured, "is not an origin"),
        (lambda: allowed_origins(["https://a"]), ImproperlyConfigured, "a list of origins"),  # type: ignore[arg-type]
        (lambda: max_message_size(0), ValueError, "takes a number above 0, not 0"),
        (lambda: max_message_size(-5), ValueError, "takes a number above 0, not -5"),
        (lambda: max_message_size(1.5), TypeError, "takes a number, not 1.5"),  # type: ignore[arg-type]
        (lambda: max_message_size(True), TypeError, "takes a number, not True"),
        (lambda: rate_limit("20"), ValueError, 'written like "20/s"'),
        (lambda: rate_limit("9" * 400 + "/s"), ValueError, "at most 1000000000 messages"),
        (lambda: rate_limit(20), ValueError, 'written like "20/s"'),  # type: ignore[arg-type]
        (lambda: idle_timeout(0), ValueError, "takes a number above 0, not 0"),
        (lambda: idle_timeout(float("nan")), ValueError, "takes a number above 0, not nan"),
        (lambda: connection_limit(0), ValueError, "takes a number above 0, not 0"),
        (
            lambda: connection_limit(3, per="ip"),
            ValueError,
            'per "user" or per "handler", not \'ip',
        ),  # type: ignore[arg-type]
        (lambda: recheck_user(every=0), ValueError, "takes a number above 0, not 0"),
    ],
)
def test_a_wrong_argument_is_refused_at_once(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()
