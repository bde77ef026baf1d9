"""Who the sockets of an event loop belong to: what is told of sessions and users finds them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from time import monotonic
from types import SimpleNamespace
from typing import Any
from unittest import mock
from uuid import uuid4

import pytest
from django.contrib.auth import get_user
from django.contrib.auth.models import User
from django.test import override_settings
from django.utils.functional import SimpleLazyObject

from django_ws_dispatch.auth import control, watch
from django_ws_dispatch.auth.control import CONTROL, EVERYBODY, Message, publish_control
from django_ws_dispatch.auth.keys import seal, tokens_of
from django_ws_dispatch.auth.verifier import Verifier
from django_ws_dispatch.auth.watch import Watch
from django_ws_dispatch.auth.watched import Watched
from django_ws_dispatch.dispatcher import sweep as connections
from django_ws_dispatch.testing import HandshakeDenied, WebSocketClient
from tests.auth.open_sockets import OpenSockets, echo
from tests.kit.members import FakeReceiver, run
from tests.kit.waiting import until

SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"


AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"


def lazy(get_response: Any) -> Any:
    """As sites have it that load the user in their own way."""

    def middleware(request: Any) -> Any:
        request.user = SimpleLazyObject(lambda: get_user(request))
        return get_response(request)

    return middleware


def verifying(get_response: Any) -> Any:
    """As django-otp's: around the user, and around ``auser()``."""

    def middleware(request: Any) -> Any:
        user, auser = request.user, request.auser

        def verified() -> Any:
            user.is_verified = True
            return user

        async def averified() -> Any:
            found = await auser()
            found.is_verified = True
            return found

        request.user, request.auser = SimpleLazyObject(verified), averified
        return get_response(request)

    return middleware


def stateless(get_response: Any) -> Any:
    """As those of tokens: there is no session but what the token says."""

    def middleware(request: Any) -> Any:
        request.session, request.user = {}, User.objects.get(username="ada")
        return get_response(request)

    return middleware


def acting(get_response: Any) -> Any:
    """As django-hijack's: a user who acts as another one."""

    def middleware(request: Any) -> Any:
        if request.user.is_authenticated:
            request.user = User.objects.get(username="bob")
        return get_response(request)

    return middleware


class FakeSocket:
    """A socket of a session, or of none, without a server.

    Args:
        key: of its session.
        namespace: that it is in.
        from_session: its user is the session's.
    """

    def __init__(
        self, key: str | None = None, namespace: str | None = None, *, from_session: bool = True
    ) -> None:
        self.watch: Any = watch.local()
        self.watched: Watched | None = None
        self.namespace = namespace
        self.is_over = False
        self.path = "/ws/"
        self.request = SimpleNamespace(user_from_session=from_session, has_session=True)
        self.session = SimpleNamespace(session_key=key)
        self.kicked: list[tuple[int, str]] = []

    def kick(self, code: int, reason: str = "", /) -> None:
        self.kicked.append((code, reason))

    async def is_users(self, user: Any) -> Any:
        """Resolve its user, whom its site says to be this one."""

        async def load() -> Any:
            return user

        return await self.watch.resolve_user(self, load)


ADA, BOB = SimpleNamespace(pk=1), SimpleNamespace(pk=2)
OUT = (4401, "logged out")


def new_key() -> str:
    """Return a key that no other test has told of."""
    return uuid4().hex


def in_a_loop(scenario: Callable[[Watch], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario with a watch; at the end it is closed, and no task is left."""

    async def watched() -> None:
        try:
            await scenario(watch.local())
        finally:
            await watch.local().aclose()

    run(watched)


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The sockets whose user is to be looked at again."""
    verified: list[Any] = []
    monkeypatch.setattr(Verifier, "verify", lambda verifier, socket: verified.append(socket))
    return verified


def test_a_session_that_ends_takes_its_sockets_along_and_no_others(verified: Any) -> None:
    async def scenario(home: Watch) -> None:
        key, other = new_key(), new_key()
        sockets = [FakeSocket(key), FakeSocket(key), FakeSocket(other)]
        for socket in sockets:
            assert await socket.is_users(ADA) is ADA
        home.handle(Message(sessions=tuple(tokens_of(key))))
        assert [socket.kicked for socket in sockets] == [[OUT], [OUT], []]
        assert verified == []

    in_a_loop(scenario)


def test_a_session_of_nobody_may_end(verified: Any) -> None:
    async def scenario(home: Watch) -> None:
        socket = FakeSocket(new_key())
        await socket.is_users(None)
        home.handle(Message(sessions=tuple(tokens_of(socket.session.session_key))))
        assert (socket.kicked, verified) == ([], [])

    in_a_loop(scenario)


def test_a_session_that_ends_in_one_namespace_is_looked_at_in_another(verified: Any) -> None:
    async def scenario(home: Watch) -> None:
        key = new_key()
        red, blue, unknown = FakeSocket(key, "red"), FakeSocket(key, "blue"), FakeSocket(key)
        for socket in (red, blue, unknown):
            await socket.is_users(ADA)
        home.handle(Message(sessions=tuple(tokens_of(key)), namespace="red"))
        assert [socket.kicked for socket in (red, blue, unknown)] == [[OUT], [], [OUT]]
        assert verified == [blue]

    in_a_loop(scenario)


def test_a_user_who_was_changed_is_looked_at_where_the_user_is(verified: Any) -> None:
    async def scenario(home: Watch) -> None:
        adas, bobs, reds = FakeSocket(), FakeSocket(), FakeSocket(None, "red")
        for socket, user in ((adas, ADA), (bobs, BOB), (reds, ADA)):
            await socket.is_users(user)
        home.handle(Message(user="1", namespace="blue"))
        assert verified == [adas]  # nobody knows yet where it is
        home.handle(Message(user="1"))
        assert verified == [adas, adas, reds]
        assert not any(socket.kicked for socket in (adas, bobs, reds))

    in_a_loop(scenario)


def test_after_the_broker_was_away_everybody_is_looked_at_once(verified: Any) -> None:
    async def scenario(home: Watch) -> None:
        sockets = [FakeSocket(new_key()) for _ in range(3)]
        for socket in sockets:
            await socket.is_users(ADA)
        home.catch_up()
        assert verified == sockets

    in_a_loop(scenario)


def test_who_logs_out_while_the_user_is_loaded_is_nobody() -> None:
    async def scenario(home: Watch) -> None:
        socket = FakeSocket(new_key())

        async def load() -> Any:
            home.handle(Message(sessions=tuple(tokens_of(socket.session.session_key))))
            return ADA

        assert (await home.resolve_user(socket, load)).is_anonymous
        assert socket.kicked == []

    in_a_loop(scenario)


def test_who_has_just_logged_out_is_nobody_and_not_loaded() -> None:
    async def scenario(home: Watch) -> None:
        socket = FakeSocket(new_key())
        home.handle(Message(sessions=tuple(tokens_of(socket.session.session_key))))

        async def load() -> Any:
            raise AssertionError("the store may still have the session")

        assert (await home.resolve_user(socket, load)).is_anonymous

    in_a_loop(scenario)


@pytest.mark.parametrize("whom", ["1", EVERYBODY])
def test_who_is_changed_while_the_user_is_loaded_is_loaded_again(verified: Any, whom: str) -> None:
    async def scenario(home: Watch) -> None:
        loads: list[Any] = []

        async def load() -> Any:
            loads.append(ADA)
            if len(loads) == 1:
                home.handle(Message(user=whom))
            return ADA

        assert await home.resolve_user(FakeSocket(), load) is ADA
        assert len(loads) == 2

    in_a_loop(scenario)


def test_somebody_else_who_is_changed_meanwhile_is_no_reason_to_load_again() -> None:
    async def scenario(home: Watch) -> None:
        loads: list[Any] = []

        async def load() -> Any:
            loads.append(ADA)
            home.handle(Message(user="2"))
            return ADA

        await home.resolve_user(FakeSocket(), load)
        assert len(loads) == 1

    in_a_loop(scenario)


def test_a_session_with_another_key_is_found_by_that_one_alone(verified: Any) -> None:
    async def scenario(home: Watch) -> None:
        old, new = new_key(), new_key()
        socket = FakeSocket(old)
        await socket.is_users(ADA)
        home.handle(Message(changed=tuple(zip(tokens_of(old), seal(new, old), strict=True))))
        assert verified == [socket]
        home.handle(Message(sessions=tuple(tokens_of(old))))
        assert socket.kicked == []
        home.handle(Message(sessions=tuple(tokens_of(new))))
        assert socket.kicked == [OUT]

    in_a_loop(scenario)


def test_who_knows_where_a_session_went_answers_who_asks() -> None:
    heard = FakeReceiver()

    async def scenario(home: Watch) -> None:
        old, new = new_key(), new_key()
        await heard.listen(CONTROL)
        (token,), (sealed,) = tokens_of(old), seal(new, old)
        home.handle(Message(where=token))  # of which nobody has told
        home.handle(Message(changed=((token, sealed),)))
        home.handle(Message(where=token, namespace="red"))
        await until(lambda: heard.got)
        (answer,) = [json.loads(one) for one in heard.got]
        assert (answer["changed"], answer["to"]) == ([token], [sealed])
        assert answer["namespace"] == "red"

    in_a_loop(scenario)


def test_a_user_is_looked_at_again_every_so_often_until_the_socket_is_over(verified: Any) -> None:
    async def scenario(home: Watch) -> None:
        socket = FakeSocket(new_key())
        await socket.is_users(ADA)
        home.recheck(socket, 60)
        now = monotonic()
        home.sweep(now)
        assert verified == []
        home.sweep(now + 61)
        home.sweep(now + 62)
        assert verified == [socket]
        home.sweep(now + 200)
        assert verified == [socket] * 2
        home.forget(socket)
        home.sweep(now + 1000)
        assert verified == [socket] * 2

    in_a_loop(scenario)


def test_a_socket_that_is_over_is_found_by_nothing(verified: Any) -> None:
    async def scenario(home: Watch) -> None:
        socket = FakeSocket(new_key())
        await socket.is_users(ADA)
        home.forget(socket)
        home.handle(Message(sessions=tuple(tokens_of(socket.session.session_key))))
        home.handle(Message(user="1"))
        home.verify_all()
        assert (socket.kicked, verified) == ([], [])
        assert socket.watched is None

    in_a_loop(scenario)


# With real sockets


@override_settings(WEBSOCKET_HANDLERS={"ws/echo/": echo})
class OpenSocketTests(OpenSockets):
    """Whom it finds, and whom not."""

    async def test_every_user_is_verified_where_a_process_could_not_say_whom(self) -> None:
        bob = await User.objects.acreate_user("bob")
        client = WebSocketClient()
        await client.aforce_login(bob)
        async with (
            (await self.logged_in()).connect("/ws/echo/") as adas,
            client.connect("/ws/echo/") as bobs,
        ):
            # No signal says it, in this process.
            await User.objects.filter(username="ada").aupdate(is_active=False)
            await publish_control(b'{"user": "*", "from": "another process"}')
            await self.assertLoggedOut(adas)
            await self.assertOpen(bobs)

    async def test_what_this_process_could_not_say_is_no_news_to_itself(self) -> None:
        async with (await self.logged_in()).connect("/ws/echo/") as socket:
            await User.objects.filter(username="ada").aupdate(is_active=False)
            await publish_control(control.encode({"user": control.EVERYBODY}))
            await self.assertOpen(socket)

    async def test_a_user_whom_a_middleware_names_is_logged_out_with_the_session(self) -> None:
        await User.objects.acreate_user("bob")
        for middleware in (lazy, verifying, acting):
            paths = [SESSIONS, AUTHENTICATION, f"{__name__}.{middleware.__name__}"]
            with self.subTest(middleware.__name__), override_settings(WEBSOCKET_MIDDLEWARE=paths):
                client = await self.logged_in()
                async with client.connect("/ws/echo/") as socket:
                    await self.assertOpen(socket)
                    await client.alogout()
                    await self.assertLoggedOut(socket)
                async with (await self.logged_in()).connect("/ws/echo/") as socket:
                    self.user.set_password(middleware.__name__)
                    await self.user.asave()
                    await self.assertLoggedOut(socket)

    async def test_whom_another_user_acts_as_has_to_stay_active_too(self) -> None:
        bob = await User.objects.acreate_user("bob")
        paths = [SESSIONS, AUTHENTICATION, f"{__name__}.acting"]
        with override_settings(WEBSOCKET_MIDDLEWARE=paths):
            async with (await self.logged_in()).connect("/ws/echo/") as socket:
                await bob.asave()
                await self.assertOpen(socket)
                bob.is_active = False
                await bob.asave()
                await self.assertLoggedOut(socket)

    async def test_the_user_may_be_asked_for_twice_at_once(self) -> None:
        async def asks(websocket: Any) -> None:
            first, second = await asyncio.gather(websocket.auser(), websocket.auser())
            await websocket.send(f"{first} {first is second}")
            async for _ in websocket:
                pass

        with override_settings(WEBSOCKET_HANDLERS={"ws/asks/": asks}):
            client = await self.logged_in()
            async with client.connect("/ws/asks/") as socket:
                assert await socket.receive() == "ada True"
                await client.alogout()
                await self.assertLoggedOut(socket)

    async def test_a_task_that_outlives_its_handler_leaves_no_socket_behind(self) -> None:
        tasks = []

        async def leaves(websocket: Any) -> None:
            async def ask_later() -> None:
                await over.wait()
                await websocket.auser()

            tasks.append(asyncio.create_task(ask_later()))
            await websocket.accept()

        over = asyncio.Event()
        client = await self.logged_in()
        with override_settings(WEBSOCKET_HANDLERS={"ws/leaves/": leaves, "ws/echo/": echo}):
            async with client.connect("/ws/echo/") as socket:  # keeps the loop's sockets
                async with client.connect("/ws/leaves/") as other:
                    await other.wait_closed()
                over.set()
                await tasks[0]
                home = connections.local().watch
                watched = [*home._by_session.values(), *home._by_user.values()]
                assert [len(sockets) for sockets in watched] == [1, 1]
                await self.assertOpen(socket)

    async def test_a_session_of_a_middleware_s_own_is_left_alone(self) -> None:
        paths = [f"{__name__}.stateless"]
        with override_settings(WEBSOCKET_MIDDLEWARE=paths):
            async with WebSocketClient().connect("/ws/echo/") as socket:
                await self.assertOpen(socket)

    async def test_a_browser_without_a_session_takes_no_thread(self) -> None:
        hopping = mock.patch("django_ws_dispatch.auth.users.sync_to_async")
        with hopping as hops, pytest.raises(HandshakeDenied):
            async with WebSocketClient().connect("/ws/echo/"):
                pass
        hops.assert_not_called()
