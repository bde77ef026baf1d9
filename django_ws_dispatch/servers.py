"""What servers can not do, in one place: each deviation is known by the ``send`` that it hands out.

ASGI has no word for any of this. ``docs/topics/servers`` has the whole table.
"""

from __future__ import annotations

import asyncio
import inspect
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from time import monotonic
from typing import Any

from .inside import inside
from .typing import Scope, Send

__all__ = [
    "LagWatch",
    "abort",
    "closing_code",
    "is_closing",
    "is_forced_to_exit",
    "is_stopping",
    "is_told_to_exit",
    "is_too_big",
    "own_send",
    "see_out",
    "sends_each_header_once",
    "unsent",
]

SERVERS = frozenset(("uvicorn", "hypercorn", "daphne", "granian"))
# How far to look for a server's send() in what is wrapped around it, and through what.
LAYERS, WIDTH = 8, 32
_CALLABLES = (types.FunctionType, types.MethodType, types.BuiltinMethodType, partial)
# The types of the objects whose methods servers hand out, seen so far.
_owners: set[type] = set()

# Seconds that a client may take nothing of what it was sent last, and that it may take at all.
CLOSE_GRACE = 10.0
SLOW_GRACE = 60.0
# Seconds between two looks at it. Before the first one the loop has its turns: uvloop writes at the
# end of one, and a server may answer in a task of its own.
UNSENT_INTERVAL = 0.1
TURNS = 2

# Seconds that a task may keep the event loop to itself, and between two looks at it.
LAG = 0.1
LAG_INTERVAL = 0.05


class LagWatch(threading.Thread):
    """Tells which task blocks an event loop, and where. No server does.

    Args:
        loop: the running one.
        blame: is called in this thread with the task and the place in the source.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, blame: Callable[[asyncio.Task[Any], str], None]
    ) -> None:
        super().__init__(name="websocket-lag", daemon=True)
        self.over = threading.Event()
        self._loop = loop
        self._blame = blame
        self._watched = threading.get_ident()

    def run(self) -> None:
        with suppress(RuntimeError):  # the loop is closed
            while not self.over.wait(LAG_INTERVAL):
                beat = threading.Event()
                self._loop.call_soon_threadsafe(beat.set)
                if not beat.wait(LAG):
                    task = asyncio.current_task(self._loop)
                    frame = sys._current_frames().get(self._watched)
                    if task is not None and frame is not None:
                        self._blame(task, f"{frame.f_code.co_filename}:{frame.f_lineno}")
                    while not beat.wait(1) and not self._loop.is_closed():
                        pass


def _server(send: Any) -> str:
    """Return the top-level package of the object behind a server's ``send``."""
    return type(_owner(send)).__module__.partition(".")[0].lstrip("_")


def own_send(send: Send) -> Send:
    """Return the server's own ``send``, also from within what stands around it; else ``send``.

    A middleware, an application that mounts this one, and ``uvicorn --log-level trace`` hand on
    another one: a function that closes over it, or a method of an object that has it. Where there
    is more than one connection in it nobody knows which it is.
    """
    owner = getattr(send, "__self__", None)
    if type(owner) in _owners or (inspect.isfunction(send) and send.__closure__ is None):
        return send
    layer: list[Any] = [send]
    seen = {id(owner)}
    for _ in range(LAYERS):
        found = {id(_owner(one)): one for one in layer if _server(one) in SERVERS}
        if len(found) > 1:
            break
        for one in found.values():
            if one is send and owner is not None:
                _owners.add(type(owner))
            return one  # type: ignore[no-any-return]
        layer = list(islice(chain.from_iterable(_callables(one, seen) for one in layer), WIDTH))
    return send


def _owner(send: Any) -> Any:
    send = getattr(send, "func", send)  # daphne: functools.partial of a method
    return getattr(send, "__self__", send)


def _callables(send: Any, seen: set[int]) -> Iterator[Any]:
    """What may be a ``send`` in one, in the object whose method it is, and in the function."""
    for inner in chain(inside(send), inside(getattr(send, "__self__", None))):
        # Its type, and not its class: a lazy object would be evaluated.
        if issubclass(type(inner), _CALLABLES) and (one := id(_owner(inner))) not in seen:
            seen.add(one)
            yield inner


def abort(send: Send) -> bool:
    """Drop the connection without waiting for its buffer; ``False`` where that is impossible.

    On uvicorn ``send`` is a method of the protocol that owns the transport, on hypercorn of a
    stream below it. Elsewhere the server's own time-outs decide.
    """
    transport = _transport(send)
    if transport is None:
        return False
    transport.abort()
    return True


def unsent(send: Send) -> int:
    """Return how many bytes wait for the client to read; 0 where the server does not tell."""
    transport = _transport(send)
    size: int = 0 if transport is None else transport.get_write_buffer_size()
    return size


async def see_out(
    send: Send,
    sending: asyncio.Task[Any] | None = None,
    *,
    ends: float | None = None,
    taken: bool = True,
) -> None:
    """Wait until a client has what it was sent last, and cut it off where it does not take it.

    uvicorn waits for ever for a client that does not read, also when it stops. Who takes nothing
    for ``CLOSE_GRACE`` is cut off; who takes some of it may go on for ``SLOW_GRACE``, but no longer
    than ``CLOSE_GRACE`` once the server has been told to stop. It waits for nobody where the server
    is forced to stop, or something else than this package cancels it.

    Args:
        send: the server's own.
        sending: what still sends; it is cancelled where it is not done by the end.
        ends: until when (monotonic, in seconds), whatever the client takes meanwhile.
        taken: wait until the client has taken all, and not only until ``sending`` is done.
    """
    now = monotonic()
    last = now + SLOW_GRACE if ends is None else ends
    stalled = now + CLOSE_GRACE if ends is None else ends
    left, turns = unsent(send), TURNS
    try:
        while (sending is not None and not sending.done()) or (taken and left):
            if turns:
                turns -= 1
                await asyncio.sleep(0)
            elif now >= min(last, stalled) or is_forced_to_exit():
                if abort(send):
                    for _ in range(TURNS):  # the server hears of it before the application returns
                        await asyncio.sleep(0)
                    if sending is not None:
                        await asyncio.wait([sending], timeout=UNSENT_INTERVAL)
                break
            elif sending is not None and not sending.done():
                await asyncio.wait([sending], timeout=UNSENT_INTERVAL)
            else:
                await asyncio.sleep(UNSENT_INTERVAL)
            now, before, left = monotonic(), left, unsent(send)
            if ends is None:
                if left < before:
                    stalled = now + CLOSE_GRACE
                if is_told_to_exit() or is_stopping(send):
                    ends = last = min(last, now + CLOSE_GRACE)
    except asyncio.CancelledError:
        if unsent(send):
            abort(send)
        raise
    finally:
        if sending is not None:
            sending.cancel()


def is_closing(send: Send) -> bool:
    """Whether the server has closed the connection, perhaps only to wait for its buffer.

    uvicorn closes a client that does not answer a ping, and waits for it to read what was sent:
    until then nobody hears of a disconnect, also when the server stops.
    """
    transport = _transport(send)
    return transport is not None and bool(transport.is_closing())


def _transport(send: Send) -> Any:
    # uvloop's transports are none of asyncio's classes.
    owner = getattr(send, "__self__", None)
    if owner is None:
        return None
    transport = getattr(owner, "transport", None)
    if transport is None:
        # hypercorn: a stream sends to its protocol, which over HTTP/1.1 has no other stream, and
        # sends to the connection.
        protocol = getattr(getattr(owner, "send", None), "__self__", None)
        if type(protocol).__name__ == "H11Protocol":
            connection = getattr(getattr(protocol, "send", None), "__self__", None)
            transport = getattr(getattr(connection, "writer", None), "transport", None)
    if hasattr(transport, "abort") and hasattr(transport, "get_write_buffer_size"):
        return transport
    return None


def is_stopping(send: Send) -> bool:
    """Whether the server waits for its connections to end, and tells them nothing: hypercorn.

    On Python 3.12 and later hypercorn 0.18 waits without end. Elsewhere the disconnect says it.
    """
    context = getattr(getattr(send, "__self__", None), "context", None)
    is_set = getattr(getattr(context, "terminated", None), "is_set", None)
    return callable(is_set) and bool(is_set())


def is_told_to_exit() -> bool:
    """Whether uvicorn has been told to stop: it tells that to no socket whose client has left.

    Its ``Server`` handles the signal itself. Under another process manager nobody knows.
    """
    return _server_says("should_exit")


def is_forced_to_exit() -> bool:
    """Whether uvicorn has been told twice, by Ctrl-C.

    On Python 3.12 and later it waits for all connections nevertheless where the loop is asyncio's.
    """
    return _server_says("force_exit")


def _server_says(attribute: str) -> bool:
    handler = signal.getsignal(signal.SIGTERM)
    return bool(getattr(getattr(handler, "__self__", None), attribute, False))


def is_too_big(exc: BaseException) -> bool:
    """Whether ``send()`` has refused a message, and the client is still there: daphne, over 1 MiB.

    autobahn's exception is a ``RuntimeError``, as are those that say that the client has gone.
    """
    return type(exc).__name__ == "PayloadExceededError"


def closing_code(send: Send, code: int) -> int:
    """Return the close code that says ``code`` on this server.

    daphne 4.2 can send 1000 and 3000-4999 only, so that 1011 goes out as 4011, and no ``IntEnum``.
    """
    code = int(code)
    if 1000 < code < 3000 and _server(send) == "daphne":
        return code + 3000
    return code


def sends_each_header_once(send: Send, scope: Scope) -> bool:
    """Whether a header name that comes twice in a denial may kill the worker: granian before 2.8.9.

    Where something is wrapped around its ``send``, an extension of HTTP tells it, which has no
    place on a websocket.
    """
    extensions = scope.get("extensions") or {}
    return _server(own_send(send)) == "granian" or "http.response.pathsend" in extensions
