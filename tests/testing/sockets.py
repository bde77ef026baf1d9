"""Handlers for the tests of the test client."""

import asyncio
from contextlib import asynccontextmanager

from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse

from django_ws_dispatch.decorators import login_required, subprotocols
from django_ws_dispatch.exceptions import Deny
from django_ws_dispatch.groups import Group

events = []
"""what happened, for tests to look at; a test clears it"""


async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)
    events.append(("left", websocket.close_code, websocket.close_reason))


async def scope(websocket):
    await websocket.send_json(
        {
            "headers": {
                name.decode(): value.decode() for name, value in websocket.scope["headers"]
            },
            "query": websocket.request.GET,
            "secure": websocket.request.is_secure(),
            "host": websocket.request.get_host(),
            "url": websocket.request.build_absolute_uri(),
            "user": str(await websocket.auser()),
            **{
                key: websocket.scope[key]
                for key in ("type", "scheme", "path", "client", "server", "subprotocols")
            },
            "raw_path": websocket.scope["raw_path"].decode(),
            "extensions": websocket.scope["extensions"],
            "spec": websocket.scope["asgi"]["spec_version"],
        }
    )
    await websocket.wait_closed()


async def users(websocket):
    """Create a user for each name that comes; answer with the names there are."""
    async for name in websocket:
        if name:
            await sync_to_async(User.objects.create)(username=name)
        await websocket.send_json([user.username async for user in User.objects.order_by("pk")])


@login_required
async def private(websocket):
    await websocket.send((await websocket.auser()).username)
    await websocket.wait_closed()


@subprotocols("chat.v2", "chat.v1")
async def chosen(websocket):
    await websocket.accept(headers={"X-Node": "a", "Set-Cookie": "seen=1; Path=/; HttpOnly"})
    await websocket.wait_closed()


async def denies(websocket):
    response = HttpResponse("not here", status=418, headers={"X-Why": "tea"})
    response.set_cookie("denied", "yes")
    raise Deny(response)


async def forbids(websocket):
    async for _ in websocket:
        raise PermissionDenied


async def fails(websocket):
    raise LookupError("before the accept")


async def fails_later(websocket):
    async for message in websocket:
        await websocket.send("one last word")
        raise LookupError(f"on {message}")


async def fails_at_the_end(websocket):
    await websocket.wait_closed()
    raise LookupError("at the end")


async def closes(websocket):
    await websocket.send("bye")
    await websocket.close(4321, "enough")


async def deaf(websocket):
    """Never reads, never ends by itself."""
    await websocket.accept()
    try:
        await asyncio.Event().wait()
    finally:
        events.append("cancelled")


async def hangs(websocket):
    await websocket.receive()
    try:
        await asyncio.Event().wait()
    finally:
        events.append("cancelled")


async def never_answers(websocket):
    await asyncio.Event().wait()


async def room(websocket, room):
    async with websocket.join(room):
        async for message in websocket:
            await Group(room).asend(message, exclude=websocket)


async def state(websocket):
    await websocket.send_json(dict(websocket.state))
    await websocket.wait_closed()


async def garbage(websocket):
    await websocket.send("{")
    await websocket.wait_closed()


@asynccontextmanager
async def lifespan():
    loop = asyncio.get_running_loop()
    events.append("started")
    yield {"number": 42}
    events.append("stopped" if asyncio.get_running_loop() is loop else "stopped elsewhere")


@asynccontextmanager
async def broken_lifespan():
    raise OSError("no database")
    yield {}


HANDLERS = {
    f"ws/{name}/": f"tests.testing.sockets.{name}"
    for name in (
        "echo",
        "scope",
        "users",
        "private",
        "chosen",
        "denies",
        "forbids",
        "fails",
        "fails_later",
        "fails_at_the_end",
        "closes",
        "deaf",
        "hangs",
        "never_answers",
        "state",
        "garbage",
    )
} | {"ws/rooms/<slug:room>/": "tests.testing.sockets.room"}
