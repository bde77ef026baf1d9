"""What stands between a handshake and its handler: the user, permissions, tests, counts."""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import Permission, User
from django.core.exceptions import PermissionDenied
from django.core.signals import got_request_exception
from django.db import connections as databases
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils.decorators import async_only_middleware

from django_ws_dispatch.decorators import (
    asgi_handler,
    connection_limit,
    login_required,
    permission_required,
    recheck_user,
    user_passes_test,
    with_user,
)
from django_ws_dispatch.dispatcher import sweep as connections
from django_ws_dispatch.testing import HandshakeDenied, WebSocketClient
from django_ws_dispatch.websockets import WebSocket

from ..kit.fake_server import serving
from ..kit.waiting import until

EVERYBODY = "django.contrib.auth.backends.AllowAllUsersModelBackend"
MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"

pytestmark = pytest.mark.django_db

entered: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    entered.clear()
    yield
    assert not connections.counts._counts


def asynchronous(test: Callable[..., Any]) -> Callable[..., None]:
    """Run a coroutine function as Django does, so that the database of the test is seen."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async_to_sync(test)(*args, **kwargs)

    return run


def coroutine() -> Any:
    async def handler(websocket: Any) -> None:
        user = websocket.request.user if websocket.request.user_is_known else None
        entered.append(user)
        await websocket.accept()
        async for _ in websocket:
            pass

    return handler


def raw() -> Any:
    async def handler(scope: Any, receive: Any, send: Any) -> None:
        entered.append(scope.get("user"))
        while (event := await receive())["type"] != "websocket.disconnect":
            if event["type"] == "websocket.connect":
                await send({"type": "websocket.accept"})

    return handler


def instance() -> Any:
    class Handler:
        async def __call__(self, websocket: Any) -> None:
            await coroutine()(websocket)

    return Handler()


FORMS = [pytest.param(form, id=form.__name__) for form in (coroutine, raw, instance)]


class Site:
    """One handler, and clients that try to connect."""

    def __init__(self, handler: Any, **settings: Any) -> None:
        self.settings = {"WEBSOCKET_HANDLERS": {"ws/": handler}, **settings}

    async def status(self, user: User | None = None, **login: Any) -> int:
        """Return the status of the answer: 101 for an accept."""
        client = await client_of(user, **login)
        with override_settings(**self.settings):
            try:
                async with client.connect("/ws/"):
                    return 101
            except HandshakeDenied as denied:
                return denied.status_code


async def client_of(user: User | None, **login: Any) -> WebSocketClient:
    client = WebSocketClient()
    if user is not None:
        await client.aforce_login(user, **login)
    return client


@pytest.fixture
def ann() -> User:
    return User.objects.create_user("ann")


@pytest.fixture
def bob() -> User:
    """May do two things."""
    bob = User.objects.create_user("bob")
    names = ["add_user", "change_user"]
    bob.user_permissions.set(Permission.objects.filter(codename__in=names))
    return bob


@pytest.fixture
def root() -> User:
    return User.objects.create_superuser("root")


@pytest.fixture
def queries() -> Iterator[CaptureQueriesContext]:
    # The connection of this thread, where the sync work of the test is done.
    with CaptureQueriesContext(databases["default"]) as captured:
        yield captured


# Users


@pytest.mark.parametrize("form", FORMS)
@asynchronous
async def test_login_required_denies_anonymous_users_with_401(form: Any, ann: User) -> None:
    site = Site(login_required(form()))
    assert await site.status() == 401
    assert entered == []
    assert await site.status(ann) == 101
    assert entered == [ann]


@pytest.mark.parametrize("form", FORMS)
@asynchronous
async def test_with_user_resolves_whoever_it_is(form: Any, ann: User) -> None:
    site = Site(with_user(form()))
    assert await site.status() == 101
    assert await site.status(ann) == 101
    anonymous, user = entered
    assert anonymous.is_anonymous
    assert user == ann


@asynchronous
async def test_a_raw_handler_gets_session_and_user_only_where_it_asks(ann: User) -> None:
    scopes: list[Any] = []

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    async def another(scope: Any, receive: Any, send: Any) -> None:
        await handler(scope, receive, send)

    assert await Site(handler).status(ann) == 101
    assert await Site(with_user(another)).status(ann) == 101
    without, with_both = scopes
    assert "user" not in without
    assert "session" not in without
    assert with_both["user"] == ann
    assert await with_both["session"].aget("_auth_user_id") == str(ann.pk)


@asynchronous
async def test_nothing_is_loaded_for_a_handler_that_does_not_ask(
    ann: User, queries: CaptureQueriesContext
) -> None:
    site = Site(coroutine())
    client = await client_of(ann)
    before = len(queries)
    with override_settings(**site.settings):
        async with client.connect("/ws/"):
            pass
    assert len(queries) == before


@asynchronous
async def test_an_inactive_user_is_anonymous(ann: User) -> None:
    ann.is_active = False
    await ann.asave()
    assert await Site(login_required(coroutine())).status(ann) == 401


@asynchronous
async def test_a_backend_that_lets_inactive_users_in_is_believed(ann: User) -> None:
    ann.is_active = False
    await ann.asave()
    site = Site(login_required(coroutine()))
    with override_settings(AUTHENTICATION_BACKENDS=[EVERYBODY]):
        assert await site.status(ann, backend=EVERYBODY) == 101
    assert entered == [ann]


@asynchronous
async def test_a_user_of_a_backend_that_the_site_no_longer_has_is_anonymous(ann: User) -> None:
    site = Site(login_required(coroutine()))
    with override_settings(AUTHENTICATION_BACKENDS=[EVERYBODY, MODEL_BACKEND]):
        assert await site.status(ann, backend=EVERYBODY) == 101
        client = await client_of(ann, backend=EVERYBODY)
    with override_settings(**site.settings), pytest.raises(HandshakeDenied) as denied:
        async with client.connect("/ws/"):
            pass
    assert denied.value.status_code == 401


@asynchronous
async def test_a_password_that_was_changed_makes_a_session_worthless(ann: User) -> None:
    client = await client_of(ann)
    ann.set_password("new")
    await ann.asave()
    site = Site(login_required(coroutine()))
    with override_settings(**site.settings), pytest.raises(HandshakeDenied) as denied:
        async with client.connect("/ws/"):
            pass
    assert denied.value.status_code == 401


# Permissions


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("perm", "bobs"),
    [
        ("auth.add_user", 101),
        ("auth.delete_user", 403),
        (["auth.add_user"], 101),
        (["auth.add_user", "auth.change_user"], 101),
        (("auth.add_user", "auth.delete_user"), 403),
        ([], 101),
        ("nonsense", 403),
    ],
)
@asynchronous
async def test_permission_required(
    form: Any, perm: Any, bobs: int, ann: User, bob: User, root: User
) -> None:
    site = Site(permission_required(perm)(form()))
    assert await site.status(bob) == bobs
    assert await site.status(root) == 101
    if perm:
        assert await site.status() == 401
        assert await site.status(ann) == 403
    assert len(entered) == (1 + (bobs == 101) if perm else 2)


@asynchronous
async def test_every_permission_of_a_stack_is_needed(bob: User) -> None:
    stack = permission_required("auth.add_user")(permission_required("auth.delete_user")(raw()))
    assert await Site(stack).status(bob) == 403


@asynchronous
async def test_a_backend_decides_on_permissions(ann: User) -> None:
    site = Site(
        permission_required("auth.add_user")(coroutine()),
        AUTHENTICATION_BACKENDS=[MODEL_BACKEND, f"{__name__}.Generous"],
    )
    assert await site.status(ann) == 101


@asynchronous
async def test_a_backend_may_refuse_whatever_the_next_one_says(root: User) -> None:
    site = Site(
        permission_required("auth.add_user")(coroutine()),
        AUTHENTICATION_BACKENDS=[f"{__name__}.Strict", MODEL_BACKEND],
    )
    member = await User.objects.acreate_user("member")
    permission = await Permission.objects.aget(codename="add_user")
    await member.user_permissions.aadd(permission)
    assert await site.status(member, backend=MODEL_BACKEND) == 403


@asynchronous
async def test_a_backend_decides_who_a_session_s_user_is(ann: User, bob: User) -> None:
    for backend in (f"{__name__}.NobodyCalledAnn", f"{__name__}.Plain"):
        site = Site(login_required(coroutine()), AUTHENTICATION_BACKENDS=[backend])
        assert await site.status(ann, backend=backend) == 401
        assert await site.status(bob, backend=backend) == 101


class Generous:
    """A backend that knows only the sync way."""

    def authenticate(self, request: Any, **credentials: Any) -> None:
        return None

    def has_perm(self, user: Any, perm: str, obj: Any = None) -> bool:
        return True


class Strict(ModelBackend):
    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        raise PermissionDenied


class NobodyCalledAnn(ModelBackend):
    def get_user(self, user_id: Any) -> Any:
        user = super().get_user(user_id)
        return None if user is not None and user.username == "ann" else user


class Plain:
    """A backend that owes nothing to Django's."""

    def authenticate(self, request: Any, **credentials: Any) -> None:
        return None

    def get_user(self, user_id: Any) -> Any:
        return NobodyCalledAnn().get_user(user_id)


# Tests of the user


def is_ann(user: Any) -> bool:
    return bool(getattr(user, "username", "") == "ann")


async def ais_ann(user: Any) -> bool:
    return is_ann(user)


def asks_the_database(user: Any) -> bool:
    return User.objects.filter(pk=user.pk, username="ann").exists()


async def aasks_the_database(user: Any) -> bool:
    return await User.objects.filter(pk=user.pk, username="ann").aexists()


class IsAnn:
    def __call__(self, user: Any) -> bool:
        return is_ann(user)


class AIsAnn:
    async def __call__(self, user: Any) -> bool:
        return is_ann(user)


def is_named(name: str, user: Any) -> bool:
    return bool(getattr(user, "username", "") == name)


async def ais_named(name: str, user: Any) -> bool:
    return is_named(name, user)


TESTS: dict[str, Any] = {
    "function": is_ann,
    "coroutine function": ais_ann,
    "query": asks_the_database,
    "async query": aasks_the_database,
    "callable object": IsAnn(),
    "async callable object": AIsAnn(),
    "partial": functools.partial(is_named, "ann"),
    "async partial": functools.partial(ais_named, "ann"),
    "lambda": lambda user: is_ann(user),
    "lambda that returns a coroutine": lambda user: ais_ann(user),
    "bound method": IsAnn().__call__,
    "async bound method": AIsAnn().__call__,
    "a value that is true": lambda user: is_ann(user) and "yes",
    "a value that is false": lambda user: user.username if is_ann(user) else "",
}


@pytest.mark.parametrize("test", TESTS.values(), ids=TESTS)
@asynchronous
async def test_user_passes_test_takes_sync_and_async_tests(test: Any, ann: User, bob: User) -> None:
    site = Site(user_passes_test(test)(coroutine()))
    assert await site.status(ann) == 101
    assert await site.status(bob) == 403
    assert await site.status() == 403
    assert entered == [ann]


@asynchronous
async def test_a_test_that_fails_is_a_500_and_the_handler_is_not_entered(ann: User) -> None:
    def fails(user: Any) -> bool:
        raise LookupError("the test")

    site = Site(user_passes_test(fails)(coroutine()))
    client = WebSocketClient(raise_request_exception=False)
    with override_settings(**site.settings), pytest.raises(HandshakeDenied) as denied:
        async with client.connect("/ws/"):
            pass
    assert denied.value.status_code == 500
    assert not entered


# Counts


@pytest.mark.parametrize("form", FORMS)
@asynchronous
async def test_sockets_of_a_user_are_counted(form: Any, ann: User, bob: User) -> None:
    site = Site(connection_limit(2)(form()))
    client, another = await client_of(ann), await client_of(ann)
    with override_settings(**site.settings):
        async with client.connect("/ws/"), another.connect("/ws/"):
            assert await site.status(ann) == 429
            assert await site.status(bob) == 101
            assert [await site.status() for _ in range(3)] == [101, 101, 101]
        assert await site.status(ann) == 101


@pytest.mark.parametrize("form", FORMS)
@asynchronous
async def test_sockets_of_a_handler_are_counted(form: Any, ann: User) -> None:
    site = Site(connection_limit(1, per="handler")(form()))
    with override_settings(**site.settings):
        async with WebSocketClient().connect("/ws/"):
            assert await site.status() == 429
            assert await site.status(ann) == 429
        assert await site.status() == 101


@asynchronous
async def test_two_limits_of_a_kind_count_a_socket_once_each(ann: User) -> None:
    site = Site(connection_limit(2)(connection_limit(2)(connection_limit(3)(coroutine()))))
    client = await client_of(ann)
    with override_settings(**site.settings):
        async with client.connect("/ws/"), client.connect("/ws/"):
            assert await site.status(ann) == 429


@asynchronous
async def test_handlers_are_counted_apart(ann: User) -> None:
    handlers = {
        "ws/": connection_limit(1)(coroutine()),
        "other/": connection_limit(1)(coroutine()),
    }
    client = await client_of(ann)
    with override_settings(WEBSOCKET_HANDLERS=handlers):
        async with client.connect("/ws/"), client.connect("/other/"):
            with pytest.raises(HandshakeDenied):
                async with client.connect("/other/"):
                    pass


@pytest.mark.parametrize("form", FORMS)
@asynchronous
async def test_what_is_made_of_a_handler_is_counted_apart_and_itself_on_all_its_routes(
    form: Any, ann: User
) -> None:
    chat = connection_limit(1)(form())
    handlers = {"ws/": chat, "again/": chat, "members/": login_required(chat)}
    with override_settings(WEBSOCKET_HANDLERS=handlers):
        client = await client_of(ann)
        async with client.connect("/ws/"):
            with pytest.raises(HandshakeDenied):
                async with client.connect("/again/"):
                    pass
            async with client.connect("/members/"):
                with pytest.raises(HandshakeDenied):
                    async with client.connect("/members/"):
                        pass


@asynchronous
async def test_what_is_made_of_a_handler_leaves_it_open_to_all() -> None:
    chat = coroutine()
    handlers = {"ws/": chat, "members/": login_required(chat)}
    with override_settings(WEBSOCKET_HANDLERS=handlers):
        async with WebSocketClient().connect("/ws/"):
            pass
        with pytest.raises(HandshakeDenied) as denied:
            async with WebSocketClient().connect("/members/"):
                pass
        assert denied.value.status_code == 401


@asynchronous
async def test_a_handler_that_fails_is_counted_no_longer(ann: User) -> None:
    @connection_limit(1)
    async def fails(websocket: Any) -> None:
        raise LookupError

    client = WebSocketClient(raise_request_exception=False)
    await client.aforce_login(ann)
    with override_settings(WEBSOCKET_HANDLERS={"ws/": fails}):
        for _ in range(3):
            with pytest.raises(HandshakeDenied) as denied:
                async with client.connect("/ws/"):
                    pass
            assert denied.value.status_code == 500


@asynchronous
async def test_a_denied_socket_is_not_counted(ann: User) -> None:
    stack = connection_limit(5)(connection_limit(1, per="handler")(coroutine()))
    site = Site(stack)
    client = await client_of(ann)
    with override_settings(**site.settings):
        async with client.connect("/ws/"):
            assert [await site.status(ann) for _ in range(8)] == [429] * 8
        assert await site.status(ann) == 101


# The log, and the order


@pytest.mark.parametrize(
    ("decorate", "status", "reason"),
    [
        (login_required, 401, "not logged in"),
        (permission_required("auth.add_user"), 401, "not logged in"),
        (user_passes_test(is_ann), 403, "user_passes_test()"),
    ],
)
@asynchronous
async def test_a_denial_is_one_warning_with_its_reason(
    decorate: Any, status: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert await Site(decorate(coroutine())).status() == status
    (record,) = [one for one in caplog.records if one.name.startswith("django_ws_dispatch")]
    assert record.levelno == logging.WARNING
    assert record.getMessage() == f"Denied /ws/ with {status}: {reason}."
    assert record.__dict__["status_code"] == status


@asynchronous
async def test_an_origin_is_refused_before_the_user_is_asked_for(
    ann: User, queries: CaptureQueriesContext
) -> None:
    client = await client_of(ann)
    before = len(queries)
    with (
        override_settings(WEBSOCKET_HANDLERS={"ws/": login_required(coroutine())}),
        pytest.raises(HandshakeDenied) as denied,
    ):
        async with client.connect("/ws/", headers={"Origin": "https://evil.example"}):
            pass
    assert denied.value.status_code == 403
    assert len(queries) == before
    assert not entered


@asynchronous
async def test_all_that_asks_for_the_user_loads_it_once(
    root: User, queries: CaptureQueriesContext
) -> None:
    stack = coroutine()
    for decorate in (
        with_user,
        login_required,
        permission_required("auth.add_user"),
        user_passes_test(bool),
        connection_limit(3),
        recheck_user(every=60),
    ):
        stack = decorate(stack)
    client = await client_of(root)
    before = len(queries)
    with override_settings(WEBSOCKET_HANDLERS={"ws/": stack}):
        async with client.connect("/ws/"):
            pass
    made = queries.captured_queries[before:]
    tables = [query["sql"].partition("FROM")[2].split()[0] for query in made]
    assert tables == ['"django_session"', '"auth_user"']


@asynchronous
async def test_a_marked_asgi_handler_is_admitted_like_any_other(ann: User) -> None:
    @login_required
    @asgi_handler
    async def hidden(a: Any, b: Any, c: Any) -> None:
        await raw()(a, b, c)

    assert await Site(hidden).status() == 401
    assert await Site(hidden).status(ann) == 101


@asynchronous
async def test_a_user_that_a_middleware_supplies_is_the_one_that_is_asked(ann: User) -> None:
    site = Site(login_required(coroutine()), WEBSOCKET_MIDDLEWARE=[f"{__name__}.everybody_is_ann"])
    assert await site.status() == 101
    assert entered == [ann]


@asynchronous
async def test_a_middleware_may_say_that_there_is_no_user() -> None:
    settings = {"WEBSOCKET_MIDDLEWARE": [f"{__name__}.nobody_is_there"]}
    assert await Site(coroutine(), **settings).status() == 101
    assert await Site(login_required(coroutine()), **settings).status() == 401
    limited = connection_limit(1, per="user")(coroutine())
    assert await Site(limited, **settings).status() == 101


# Middleware that fails


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str]]:
    return [(one.levelname, one.name, one.getMessage()) for one in caplog.records]


@pytest.fixture
def signals() -> Iterator[list[Any]]:
    """What ``got_request_exception`` was sent with, and what was being handled then."""
    seen: list[Any] = []

    def note(sender: Any, request: Any, **kwargs: Any) -> None:
        seen.append((sender, request.path, sys.exc_info()[0]))

    got_request_exception.connect(note)
    yield seen
    got_request_exception.disconnect(note)


EXAMPLES = "tests.handshake.middleware_examples"
FAILING = [f"{EXAMPLES}.{name}" for name in ("raising", "sync_raising", "RaisingMiddleware")]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("failing", FAILING)
@asynchronous
async def test_a_middleware_that_fails_is_one_error_with_its_name_and_a_500(
    failing: str, form: Any, caplog: pytest.LogCaptureFixture, signals: list[Any]
) -> None:
    names = [f"{EXAMPLES}.async_header", f"{EXAMPLES}.sync_header", failing]
    client = WebSocketClient(raise_request_exception=False)
    with (
        override_settings(WEBSOCKET_HANDLERS={"ws/": form()}, WEBSOCKET_MIDDLEWARE=names),
        pytest.raises(HandshakeDenied) as denied,
    ):
        async with client.connect("/ws/"):
            pass
    assert denied.value.status_code == 500
    assert denied.value.body == b"Internal Server Error"
    assert denied.value.headers["X-Async"] == "1"
    assert entered == []
    assert lines(caplog) == [
        (
            "ERROR",
            "django_ws_dispatch.handshake",
            f"The handshake of /ws/ failed in the middleware {failing}",
        )
    ]
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is LookupError
    extra = record.__dict__
    assert (extra["path"], extra["status_code"], extra["request"].path) == ("/ws/", 500, "/ws/")
    ((sender, path, kind),) = signals
    assert issubclass(sender, WebSocket)
    assert (path, kind) == ("/ws/", LookupError)


@pytest.mark.parametrize("failing", FAILING)
@asynchronous
async def test_a_test_sees_what_a_middleware_raises(failing: str) -> None:
    for names in ([failing], [f"{EXAMPLES}.replacing", failing]):
        with pytest.raises(LookupError, match="broken"):
            await Site(coroutine(), WEBSOCKET_MIDDLEWARE=names).status()


@asynchronous
async def test_a_middleware_around_the_failure_has_a_line_for_its_own_answer(
    caplog: pytest.LogCaptureFixture, signals: list[Any]
) -> None:
    names = [f"{EXAMPLES}.replacing", f"{EXAMPLES}.raising"]
    client = WebSocketClient(raise_request_exception=False)
    with (
        override_settings(WEBSOCKET_HANDLERS={"ws/": coroutine()}, WEBSOCKET_MIDDLEWARE=names),
        pytest.raises(HandshakeDenied) as denied,
    ):
        async with client.connect("/ws/"):
            pass
    assert (denied.value.status_code, denied.value.body) == (503, b"500 there")
    assert [(level, text) for level, _, text in lines(caplog)] == [
        ("ERROR", f"The handshake of /ws/ failed in the middleware {EXAMPLES}.raising"),
        ("WARNING", f"Denied /ws/ with 503: the middleware {EXAMPLES}.replacing."),
    ]
    assert len(signals) == 1


@pytest.mark.parametrize(
    ("status", "kind"), [(404, "Http404"), (403, "PermissionDenied"), (429, "Deny")]
)
@asynchronous
async def test_a_middleware_that_refuses_is_one_warning_with_its_name(
    status: int, kind: str, caplog: pytest.LogCaptureFixture, signals: list[Any]
) -> None:
    site = Site(coroutine(), WEBSOCKET_MIDDLEWARE=[f"{EXAMPLES}.raising"])
    with override_settings(**site.settings), pytest.raises(HandshakeDenied) as denied:
        async with WebSocketClient().connect(f"/ws/?status={status}"):
            pass
    assert denied.value.status_code == status
    name = f"{EXAMPLES}.raising"
    assert lines(caplog) == [
        (
            "WARNING",
            "django_ws_dispatch.handshake",
            f"Denied /ws/ with {status}: the middleware {name} raised {kind}.",
        )
    ]
    assert signals == []


@asynchronous
async def test_a_middleware_that_answers_is_one_warning_with_its_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = [f"{EXAMPLES}.{name}" for name in ("async_header", "denying")]
    assert await Site(coroutine(), WEBSOCKET_MIDDLEWARE=names).status() == 418
    ((_, _, text),) = lines(caplog)
    assert text == f"Denied /ws/ with 418: the middleware {EXAMPLES}.denying."


@asynchronous
async def test_what_a_middleware_sets_and_can_not_be_sent_is_its_failure(
    caplog: pytest.LogCaptureFixture, signals: list[Any]
) -> None:
    site = Site(coroutine(), WEBSOCKET_MIDDLEWARE=[f"{__name__}.breaks_a_line"])
    with pytest.raises(ValueError, match="The cookie b'token' is not one"):
        await site.status()
    assert entered == []
    ((level, logger, text),) = lines(caplog)
    assert (level, logger) == ("ERROR", "django_ws_dispatch.handshake")
    assert text == "The handshake of /ws/ failed in a middleware of WEBSOCKET_MIDDLEWARE"
    assert "secret" not in caplog.text
    assert len(signals) == 1


def breaks_a_line(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        response = get_response(request)
        # As a version of Python has it that does not look at it.
        response.cookies["token"] = "secret"
        dict.__setitem__(response.cookies["token"], "path", "/\r\nX-Injected: 1")
        return response

    return middleware


@asynchronous
async def test_a_handshake_that_is_cancelled_has_told_of_its_failures(
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = [f"{__name__}.waits_after_it", f"{EXAMPLES}.raising"]
    waiting.clear()
    async with serving(coroutine(), WEBSOCKET_MIDDLEWARE=names) as server:
        await until(waiting.is_set)
        assert server.task is not None
        server.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await server.ended()
    assert [(level, text) for level, _, text in lines(caplog) if level == "ERROR"] == [
        ("ERROR", f"The handshake of /ws/ failed in the middleware {names[1]}")
    ]


waiting = threading.Event()


@async_only_middleware
def waits_after_it(get_response: Any) -> Any:
    async def middleware(request: Any) -> Any:
        await get_response(request)
        waiting.set()
        return await asyncio.Event().wait()

    return middleware


def nobody_is_there(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        request.user = None
        return get_response(request)

    return middleware


def everybody_is_ann(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        request.user = User.objects.get(username="ann")
        return get_response(request)

    return middleware
