"""What is a handler, in which form, and what is said of what is none."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import markcoroutinefunction
from django.contrib.auth import decorators as django_decorators

from django_ws_dispatch.decorators import asgi_handler
from django_ws_dispatch.routing.handlers import Handler, HandlerError, import_handler


async def room(websocket: Any, slug: str, page: int = 1) -> None: ...


async def application(scope: Any, receive: Any, send: Any) -> None: ...


def wrapped(inner: Any) -> Any:
    """Decorate as most people do."""

    @functools.wraps(inner)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await inner(*args, **kwargs)

    return wrapper


class Room:
    async def __call__(self, websocket: Any) -> None: ...

    async def talk(self, websocket: Any) -> None: ...

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None: ...


class Application:
    """As Starlette's is."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class AsChannels:
    """As a consumer of Channels is made an application."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

    @classmethod
    def as_asgi(cls, **initkwargs: Any) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await cls(**initkwargs)(scope, receive, send)

        functools.update_wrapper(app, cls, updated=())
        return app


class Middleware:
    """An ASGI middleware whose own names differ, around one that has the right ones."""

    def __init__(self, inner: Any) -> None:
        functools.update_wrapper(self, inner)

    async def __call__(self, a: Any, b: Any, c: Any) -> None: ...


def sync_room(websocket: Any) -> None: ...


async def yields(websocket: Any) -> Any:
    yield


def sync_application(scope: Any, receive: Any, send: Any) -> Any: ...


COROUTINE_FORMS = {
    "function": room,
    "callable object": Room(),
    "bound method": Room().talk,
    "partial": functools.partial(room, page=2),
    "partial of a partial": functools.partial(functools.partial(room, page=2), page=3),
    "partial of a callable object": functools.partial(Room()),
    "wrapped": wrapped(room),
    "marked": markcoroutinefunction(functools.wraps(sync_room)(lambda websocket: None)),
}
RAW_FORMS = {
    "function": application,
    "callable object": Application(),
    "bound method": Room().asgi,
    "partial": functools.partial(application),
    "wrapped": wrapped(application),
    "wrapped twice": wrapped(wrapped(application)),
    "wrapped callable object": Middleware(Application()),
    "as_asgi()": AsChannels.as_asgi(),
    "wrapped as_asgi()": wrapped(AsChannels.as_asgi()),
}


@pytest.mark.parametrize("callback", COROUTINE_FORMS.values(), ids=COROUTINE_FORMS)
def test_a_coroutine_handler_is_known_in_every_form(callback: Any) -> None:
    handler = Handler(callback)
    assert not handler.raw
    assert handler.callback is callback


@pytest.mark.parametrize("callback", RAW_FORMS.values(), ids=RAW_FORMS)
def test_a_raw_handler_is_known_in_every_form(callback: Any) -> None:
    handler = Handler(callback)
    assert handler.raw
    assert handler.callback is callback


def test_asgi_handler_marks_what_its_signature_does_not_show() -> None:
    @asgi_handler
    async def hidden(a: Any, b: Any, c: Any) -> None: ...

    assert Handler(hidden).raw


class Endpoint:
    """As Starlette's: made of a connection, and awaited."""

    def __init__(self, scope: Any, receive: Any, send: Any) -> None: ...

    def __await__(self) -> Any: ...


class OddEndpoint(Endpoint):
    def __init__(self, a: Any, b: Any, c: Any) -> None: ...


def test_a_class_whose_objects_are_awaited_is_an_application() -> None:
    for endpoint in (Endpoint, asgi_handler(OddEndpoint)):
        assert Handler(endpoint).raw
    with pytest.raises(HandlerError, match="is a class"):
        Handler(type("Unmarked", (Endpoint,), {"__init__": OddEndpoint.__init__}))


def test_asgi_handler_marks_a_plain_callable() -> None:
    plain = asgi_handler(functools.wraps(application)(lambda *args: application(*args)))
    assert Handler(plain).raw


def test_three_other_names_are_no_raw_handler() -> None:
    async def handler(websocket: Any, receive: Any, send: Any) -> None: ...

    assert not Handler(handler).raw


def django_wrapped(decorate: Callable[[Any], Any]) -> Any:
    async def inner(websocket: Any) -> None: ...

    return decorate(inner)


class DjangoGuarded:
    @django_decorators.login_required
    async def __call__(self, websocket: Any) -> None: ...


REFUSED: dict[str, tuple[Any, str, str]] = {
    "sync function": (sync_room, "is not a coroutine function", "Write it with 'async def'"),
    "lambda": (lambda websocket: None, "is not a coroutine function", "Write it with 'async def'"),
    "partial of a sync function": (
        functools.partial(sync_room),
        "is not a coroutine function",
        "sync code in it is called through asgiref.sync.sync_to_async",
    ),
    "sync raw function": (sync_application, "is not a coroutine function", "with asgi_handler"),
    "async generator function": (
        yields,
        "yields is an async generator function: it yields.",
        "Take the yield out, and send with 'await websocket.send()'.",
    ),
    "partial of an async generator function": (
        functools.partial(yields),
        "it yields.",
        "Take the yield out",
    ),
    "class": (Room, "Room is a class", "Pass an instance of it."),
    "class with as_asgi": (AsChannels, "AsChannels is a class", "Pass AsChannels.as_asgi()."),
    "None": (None, "None is not a handler", "Give a coroutine function"),
    "number": (3, "3 is not a handler", "or the dotted path of one"),
    "coroutine's result": (object(), "is not a handler", "Give a coroutine function"),
    "login_required": (
        django_wrapped(django_decorators.login_required),
        "is wrapped by a decorator of django.contrib.auth.decorators",
        "Use the decorator of the same name from django_ws_dispatch.decorators",
    ),
    "permission_required": (
        django_wrapped(django_decorators.permission_required("a.b")),
        "is wrapped by a decorator of django.contrib.auth.decorators",
        "Use the decorator of the same name from django_ws_dispatch.decorators",
    ),
    "user_passes_test": (
        django_wrapped(django_decorators.user_passes_test(bool)),
        "is wrapped by a decorator of django.contrib.auth.decorators",
        "Use the decorator of the same name from django_ws_dispatch.decorators",
    ),
    "login_required below another": (
        wrapped(django_wrapped(django_decorators.login_required)),
        "is wrapped by a decorator of django.contrib.auth.decorators",
        "Use the decorator of the same name from django_ws_dispatch.decorators",
    ),
    "partial of login_required": (
        functools.partial(django_wrapped(django_decorators.login_required)),
        "is wrapped by a decorator of django.contrib.auth.decorators",
        "Use the decorator of the same name from django_ws_dispatch.decorators",
    ),
    "__call__ with login_required": (
        DjangoGuarded(),
        "is wrapped by a decorator of django.contrib.auth.decorators",
        "Use the decorator of the same name from django_ws_dispatch.decorators",
    ),
    "raw with login_required": (
        django_decorators.login_required(application),
        "is wrapped by a decorator of django.contrib.auth.decorators",
        "Use the decorator of the same name from django_ws_dispatch.decorators",
    ),
}


@pytest.mark.parametrize(("callback", "problem", "remedy"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_handler_is_refused_with_the_remedy(
    callback: Any, problem: str, remedy: str
) -> None:
    with pytest.raises(HandlerError) as raised:
        Handler(callback)
    assert problem in raised.value.problem
    assert remedy in raised.value.remedy
    assert str(raised.value) == f"{raised.value.problem} {raised.value.remedy}"


def test_login_not_required_of_django_is_no_wrapper() -> None:
    handler = Handler(django_wrapped(django_decorators.login_not_required))
    assert handler.callback.login_required is False  # type: ignore[attr-defined]


def test_a_chain_of_wrappers_that_leads_back_to_itself_ends() -> None:
    async def handler(websocket: Any) -> None: ...

    handler.__wrapped__ = handler  # type: ignore[attr-defined]
    assert not Handler(handler).raw


@pytest.mark.parametrize(
    ("args", "names"), [(0, {"slug"}), (0, {"slug", "page"}), (1, set()), (2, set())]
)
def test_a_handler_fits_what_its_route_captures(args: int, names: set[str]) -> None:
    Handler(room).check_arguments(args, names)


@pytest.mark.parametrize(
    ("args", "names", "called_with"),
    [
        (0, set(), "(websocket)"),
        (0, {"room"}, "(websocket, room)"),
        (0, {"slug", "extra"}, "(websocket, extra, slug)"),
        (3, set(), "(websocket, …, …, …)"),
    ],
)
def test_a_handler_that_does_not_fit_its_route_is_refused(
    args: int, names: set[str], called_with: str
) -> None:
    with pytest.raises(HandlerError) as raised:
        Handler(room).check_arguments(args, names)
    assert "test_handlers.room" in raised.value.problem
    assert "does not fit its route: " in raised.value.problem
    assert raised.value.remedy == f"It is called with {called_with}."


class OtherNames:
    async def __call__(self, sc: Any, re: Any, se: Any, /) -> None: ...


async def other_names(sc: Any, re: Any, se: Any) -> None: ...


async def takes_rooms(websocket: Any, floor: str, room: str) -> None: ...


async def takes_room_first(socket: Any, floor: str, room: str) -> None: ...


async def takes_a_default(socket: Any, floor: str, room: str = "") -> None: ...


@pytest.mark.parametrize(
    ("callback", "names", "told"),
    [
        (other_names, set(), True),
        (other_names, {"room"}, True),
        (OtherNames(), set(), True),
        (takes_rooms, set(), False),
        (takes_room_first, {"room"}, False),
        (takes_a_default, set(), False),
    ],
)
def test_what_may_be_an_application_with_names_of_its_own_is_told_of_asgi_handler(
    callback: Any, names: set[str], told: bool
) -> None:
    with pytest.raises(HandlerError) as raised:
        Handler(callback).check_arguments(0, names)
    assert raised.value.remedy.startswith("It is called with (websocket")
    assert ("is marked with asgi_handler." in raised.value.remedy) is told


def test_a_wrapped_handler_is_asked_for_the_signature_of_what_it_wraps() -> None:
    Handler(wrapped(room)).check_arguments(0, {"slug"})
    with pytest.raises(HandlerError):
        Handler(wrapped(room)).check_arguments(0, {"room"})


def test_a_partial_is_asked_for_what_is_left() -> None:
    async def talk(where: str, websocket: Any, slug: str) -> None: ...

    Handler(functools.partial(talk, "here")).check_arguments(0, {"slug"})


def test_a_raw_handler_takes_whatever_its_route_captures() -> None:
    Handler(application).check_arguments(2, {"slug"})


@pytest.mark.parametrize(
    ("callback", "name"),
    [
        (room, "tests.routing.test_handlers.room"),
        (Room(), "tests.routing.test_handlers.Room"),
        (Room().talk, "tests.routing.test_handlers.Room.talk"),
        (functools.partial(room), "tests.routing.test_handlers.room"),
        (wrapped(room), "tests.routing.test_handlers.room"),
        (AsChannels.as_asgi(), "tests.routing.test_handlers.AsChannels"),
    ],
)
def test_a_handler_has_a_name_for_people(callback: Any, name: str) -> None:
    assert Handler(callback).name == name


def test_a_dotted_path_is_imported() -> None:
    assert import_handler("tests.routing.test_handlers.room") is room


@pytest.mark.parametrize(
    "path",
    [
        "tests.nowhere.room",
        "tests.routing.test_handlers.nothing",
        "room",
        "",
        "tests..room",
        ".",
        ".room",
        "..room",
    ],
)
def test_a_dotted_path_to_nothing_names_itself_and_the_remedy(path: str) -> None:
    with pytest.raises(HandlerError) as raised:
        import_handler(path)
    assert repr(path) in raised.value.problem
    assert "dotted path of a coroutine function" in raised.value.remedy
