"""A decorator makes another handler, like the one that it is given, with an option more."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import itertools
from collections.abc import Callable
from types import MethodType
from typing import Any
from unittest.mock import AsyncMock

import pytest
from asgiref.sync import iscoroutinefunction
from django.contrib.auth.decorators import login_not_required
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
from django_ws_dispatch.routing.handlers import Handler, HandlerError, name_of
from django_ws_dispatch.routing.options import Options, options_of


async def call(handler: Any, *args: Any) -> Any:
    return await handler(*args)


def names_of(handler: Any) -> list[str]:
    return [one.name for one in options_of(handler).applied]


def is_ann(user: Any) -> bool:
    return bool(user.username == "ann")


# Each decorator, ready to decorate, with the options that it sets.
DECORATORS: dict[str, tuple[Callable[[Any], Any], dict[str, Any]]] = {
    "asgi_handler": (asgi_handler, {"asgi": True}),
    "with_user": (with_user, {"needs_user": True}),
    "login_required": (login_required, {"needs_user": True, "login": True}),
    "permission_required": (
        permission_required("a.b"),
        {"needs_user": True, "login": True, "permissions": ("a.b",)},
    ),
    "user_passes_test": (user_passes_test(is_ann), {"needs_user": True, "tests": (is_ann,)}),
    "subprotocols": (subprotocols("v2", "v1"), {"subprotocols": ("v2", "v1")}),
    "allowed_origins": (
        allowed_origins("https://a.example"),
        {"allowed_origins": ("https://a.example",)},
    ),
    "max_message_size": (max_message_size(10), {"max_message_size": 10}),
    "rate_limit": (rate_limit("20/s"), {"rate_limit": Rate(20, 1)}),
    "idle_timeout": (idle_timeout(60), {"idle_timeout": 60.0}),
    "connection_limit": (
        connection_limit(3),
        {"needs_user": True, "connection_limits": ((3, "user"),)},
    ),
    "recheck_user": (recheck_user(every=60), {"needs_user": True, "recheck_user": 60.0}),
}
BY_NAME = [
    pytest.param(decorate, changes, id=name) for name, (decorate, changes) in DECORATORS.items()
]


def coroutine_handler() -> Any:
    async def room(websocket: Any, slug: str, page: int = 1, *, quiet: bool = False) -> str:
        """Talk in a room."""
        return f"{slug} {page}"

    room.topic = "tea"  # type: ignore[attr-defined]
    return room


def raw_handler() -> Any:
    async def application(scope: Any, receive: Any, send: Any = 2) -> str:
        """Speak ASGI."""
        return f"{receive} {send}"

    return application


class Room:
    """A room."""

    topic = "tea"

    async def __call__(self, websocket: Any, slug: str, page: int = 1) -> str:
        """Talk in a room."""
        return f"{slug} {page}"

    async def talk(self, websocket: Any, slug: str, page: int = 1) -> str:
        """Talk in it."""
        return f"{slug} {page}"

    @staticmethod
    async def whisper(websocket: Any, slug: str, page: int = 1) -> str:
        return f"{slug} {page}"


class Slotted(Room):
    """A small room."""

    __slots__ = ()
    __setattr__ = None  # type: ignore[assignment]


def bound_method() -> Any:
    return Room().talk


def static_method() -> Any:
    return Room.whisper


def partial_handler() -> Any:
    async def room(where: str, websocket: Any, slug: str, page: int = 1) -> str:
        """Talk in a room."""
        return f"{slug} {page}"

    return functools.partial(room, "here")


def partial_with_attributes() -> Any:
    handler = functools.partial(Room())
    handler.topic = "tea"  # type: ignore[attr-defined]
    return handler


def wrapper() -> Any:
    inner = coroutine_handler()

    @functools.wraps(inner)
    async def outer(*args: Any, **kwargs: Any) -> Any:
        return await inner(*args, **kwargs)

    return outer


class Binding:
    """As libraries have them that decorate functions and methods with an object."""

    def __init__(self, wrapped: Any) -> None:
        functools.update_wrapper(self, wrapped)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return await self.__wrapped__(*args, **kwargs)  # type: ignore[attr-defined]

    def __get__(self, instance: Any, owner: Any) -> Any:
        return Binding(self.__wrapped__.__get__(instance, owner))  # type: ignore[attr-defined]


def of_another_library() -> Any:
    return Binding(coroutine_handler())


def mock() -> Any:
    async def room(websocket: Any, slug: str) -> str: ...

    return AsyncMock(room, return_value="tea 1")


FORMS = [
    pytest.param(form, id=form.__name__)
    for form in (
        coroutine_handler,
        raw_handler,
        Room,
        Slotted,
        bound_method,
        static_method,
        partial_handler,
        partial_with_attributes,
        wrapper,
        of_another_library,
        mock,
    )
]


def seen(handler: Any) -> Any:
    """What anybody sees of a handler."""
    return (
        inspect.signature(handler),
        *(
            getattr(handler, name, None)
            for name in ("__name__", "__qualname__", "__module__", "__doc__", "__class__", "topic")
        ),
        inspect.getdoc(handler),
        iscoroutinefunction(handler),
        iscoroutinefunction(handler.__call__),
        inspect.iscoroutinefunction(handler),
        inspect.iscoroutinefunction(handler.__call__),
        inspect.isfunction(handler),
        inspect.ismethod(handler),
        inspect.isclass(handler),
        getattr(handler, "__self__", None),
        name_of(handler),
    )


def test_every_decorator_is_tested() -> None:
    assert set(DECORATORS) == set(decorators.__all__)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("decorate", "changes"), BY_NAME)
def test_a_decorator_returns_another_handler_with_its_option(
    decorate: Any, changes: dict[str, Any], form: Any
) -> None:
    handler = form()
    before = dict(getattr(handler, "__dict__", {}))
    decorated = decorate(handler)
    assert decorated is not handler
    assert options_of(decorated) == Options(**changes)
    assert options_of(handler) == Options()
    assert getattr(handler, "__dict__", {}) == before


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("decorate", "changes"), BY_NAME)
def test_it_looks_like_the_one_that_was_decorated(
    decorate: Any, changes: dict[str, Any], form: Any
) -> None:
    handler = form()
    assert seen(decorate(handler)) == seen(handler)
    assert seen(decorate(decorate(handler))) == seen(handler)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("decorate", "changes"), BY_NAME)
def test_it_can_be_called_directly(decorate: Any, changes: dict[str, Any], form: Any) -> None:
    assert asyncio.run(call(decorate(form()), None, "tea", 1)) == "tea 1"


@pytest.mark.parametrize("form", FORMS)
def test_all_of_them_stack(form: Any) -> None:
    handler = form()
    changes: dict[str, Any] = {}
    for decorate, change in DECORATORS.values():
        handler = decorate(handler)
        changes |= change
    assert options_of(handler) == Options(**changes)
    assert names_of(handler) == list(reversed(DECORATORS))


@pytest.mark.parametrize("form", FORMS)
def test_two_of_one_handler_are_strangers(form: Any) -> None:
    handler = form()
    first, second = subprotocols("v1")(handler), subprotocols("v2")(login_required(handler))
    assert options_of(first).subprotocols == ("v1",)
    assert not options_of(first).login
    assert options_of(second).subprotocols == ("v2",)
    assert options_of(second).login


@pytest.mark.parametrize("form", [one for one in FORMS if one.id != "mock"])  # wraps() refuses it
def test_they_stack_with_those_of_others(form: Any) -> None:
    def wrapped(inner: Any) -> Any:
        @functools.wraps(inner)
        async def outer(*args: Any, **kwargs: Any) -> Any:
            return await inner(*args, **kwargs)

        return outer

    handler = rate_limit("20/s")(wrapped(login_required(wrapped(subprotocols("v1")(form())))))
    assert names_of(handler) == ["rate_limit", "login_required", "subprotocols"]
    assert names_of(functools.partial(handler, slug="tea")) == names_of(handler)


def test_any_order_means_the_same() -> None:
    stacks = set()
    for order in itertools.permutations(["login_required", "rate_limit", "subprotocols"]):
        handler = coroutine_handler()
        for name in order:
            handler = DECORATORS[name][0](handler)
        stacks.add(options_of(handler))
        assert names_of(handler) == list(reversed(order))
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


def test_a_decorated_object_shares_its_state_and_is_of_its_class() -> None:
    room = Room()
    decorated: Any = login_required(room)
    assert isinstance(decorated, Room)
    decorated.topic = "coffee"
    assert room.topic == "coffee"
    room.topic = "milk"
    assert decorated.topic == "milk"
    assert vars(decorated) is vars(room)


def test_what_another_decorator_sets_on_a_handler_is_there_for_middleware() -> None:
    for form in (coroutine_handler, Room, partial_handler):
        handler = login_not_required(login_required(form()))
        assert Handler(handler).callback.login_required is False  # type: ignore[attr-defined]


@pytest.mark.parametrize("form", FORMS)
def test_routes_that_are_copied_keep_the_options(form: Any) -> None:
    assert options_of(copy.deepcopy({"ws/": login_required(form())})["ws/"]).login


def test_the_application_calls_what_was_decorated_and_nothing_in_between() -> None:
    room = Room()
    assert Handler(login_required(rate_limit("20/s")(room))).callback is room
    handler = coroutine_handler()
    callback: Any = Handler(login_required(rate_limit("20/s")(handler))).callback
    assert callback.__code__ is handler.__code__


def test_a_decorated_function_names_the_one_that_it_was_made_of() -> None:
    handler = coroutine_handler()
    assert inspect.unwrap(login_required(rate_limit("20/s")(handler))) is handler


def test_a_method_is_decorated_in_its_class_or_where_it_is_bound() -> None:
    class Lobby:
        @login_required
        async def talk(self, websocket: Any) -> Any:
            return self

        @classmethod
        @login_required
        async def of_the_class(cls, websocket: Any) -> None: ...

        @login_required
        @staticmethod
        async def of_nobody(websocket: Any) -> None: ...

        @staticmethod
        @login_required
        async def of_nobody_either(websocket: Any) -> None: ...

        async def open_talk(self, websocket: Any) -> None: ...

    lobby = Lobby()
    for handler in (lobby.talk, lobby.of_the_class, lobby.of_nobody, lobby.of_nobody_either):
        assert Handler(handler).options.login
    assert not Handler(lobby.open_talk).options.login
    bound = login_required(lobby.open_talk)
    assert Handler(bound).options.login
    assert bound.__self__ is lobby  # type: ignore[attr-defined]
    assert not Handler(lobby.open_talk).options.login


def test_a_method_that_another_library_has_decorated_is_bound_to_its_object() -> None:
    class Lobby:
        @login_required
        @Binding
        async def talk(self, websocket: Any) -> Any:
            return self

    lobby = Lobby()
    assert Handler(lobby.talk).options.login
    Handler(lobby.talk).check_arguments(0, set())
    assert asyncio.run(call(lobby.talk, None)) is lobby


class Consumer:
    """As those of Channels."""

    def __init__(self, greeting: str = "") -> None:
        self.greeting = greeting

    async def __call__(self, scope: Any, receive: Any, send: Any) -> str:
        return self.greeting

    @classmethod
    def as_asgi(cls, **initkwargs: Any) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> str:
            return await cls(**initkwargs)(scope, receive, send)

        return functools.update_wrapper(app, cls, updated=())


def test_a_class_behind_as_asgi_is_decorated_as_a_class_of_its_own() -> None:
    members = login_required(Consumer)
    assert issubclass(members, Consumer)
    assert seen(members)[:7] == seen(Consumer)[:7]
    assert inspect.getsource(members) == inspect.getsource(Consumer)
    assert Handler(members.as_asgi()).options.login
    assert Handler(members.as_asgi()).name == Handler(Consumer.as_asgi()).name
    assert not Handler(Consumer.as_asgi()).options.login
    assert asyncio.run(call(members.as_asgi(greeting="hello"), None, None, None)) == "hello"


def test_a_class_stacks_and_can_be_decorated_where_it_is_mounted() -> None:
    @rate_limit("20/s")
    @login_required
    class Guarded(Consumer):
        def __init__(self) -> None:
            super().__init__("hello")

    mounted = subprotocols("v1")(Guarded.as_asgi())
    assert names_of(mounted) == ["subprotocols", "rate_limit", "login_required"]
    assert Guarded().greeting == "hello"


def test_a_method_made_of_something_else_is_decorated_like_any_other() -> None:
    handler = MethodType(Room(), object())
    assert options_of(login_required(handler)).login
    assert not options_of(handler).login


@pytest.mark.parametrize(("decorate", "changes"), BY_NAME)
@pytest.mark.parametrize("handler", ["chat.sockets.room", None, 3])
def test_what_is_not_callable_is_refused(
    decorate: Any, changes: dict[str, Any], handler: Any
) -> None:
    with pytest.raises(TypeError, match=r"^@\w+ decorates a handler, not "):
        decorate(handler)


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
