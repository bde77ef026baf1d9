"""What a handler gets: the WebSocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

from django.core.serializers.json import DjangoJSONEncoder
from django.dispatch import Signal

from .. import groups, lanes, servers
from ..codes import CloseCode, check_close_code
from ..exceptions import Deny, WebSocketDisconnect
from ..typing import Event
from .opening import Opening
from .writer import BUSY, CLOSED, CLOSING, CONNECTING, FREE, OPEN, WebSocketState, logger, turns

__all__ = ["CloseCode", "WebSocket", "WebSocketState"]

# What a close from elsewhere is as the answer to a handshake, where it is no 403.
DENIALS: dict[int, int] = {CloseCode.LOGGED_OUT: 401, CloseCode.SLOW_CLIENT: 503}


class WebSocket(Opening):
    """One open (or opening) WebSocket.

    A handler gets it as its first argument. Not calling ``accept()`` is fine: the first receive,
    iteration, send, ``join``, ``send_each`` or ``wait_closed`` accepts.

    Attributes:
        scope: the ASGI connection scope, as the server gave it.
        ready_state: a ``WebSocketState``.
        subprotocol: the chosen one, or ``None``.
        close_code: the close code once the socket is over, else ``None``.
        close_reason: the close reason once the socket is over, else ``None``.
    """

    __slots__ = ("__weakref__",)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path} {self.ready_state.name}>"

    async def send_signal(self, signal: Signal, **named: Any) -> None:
        """Send a signal about this socket; what receivers raise is logged."""
        for receiver, result in await signal.asend_robust(WebSocket, websocket=self, **named):
            if isinstance(result, Exception):
                logger.error("%r failed for %s", receiver, self.path, exc_info=result)

    # Receiving

    async def receive(self) -> str | bytes:
        """Return the next message: ``str`` for a text frame, ``bytes`` for a binary one.

        Cancelling it loses no message where the server's own ``receive()`` loses none.

        Raises:
            WebSocketDisconnect: the socket is over.
            RuntimeError: another receive is under way.
        """
        return await self._read(WebSocketDisconnect)

    async def receive_text(self) -> str:
        """Return the next message, which must be text; another kind closes with 1003.

        Raises:
            WebSocketDisconnect: the socket is over.
        """
        message = await self._read(WebSocketDisconnect)
        if isinstance(message, str):
            return message
        raise await self._refuse(CloseCode.WRONG_KIND, "text expected")

    async def receive_bytes(self) -> bytes:
        """Return the next message, which must be binary; another kind closes with 1003.

        Raises:
            WebSocketDisconnect: the socket is over.
        """
        message = await self._read(WebSocketDisconnect)
        if isinstance(message, bytes):
            return message
        raise await self._refuse(CloseCode.WRONG_KIND, "binary expected")

    async def receive_json(self) -> Any:
        """Return the next message, decoded from JSON: a text frame, or UTF-8 in a binary one.

        What is not JSON closes with 1007.

        Raises:
            WebSocketDisconnect: the socket is over.
        """
        message = await self._read(WebSocketDisconnect)
        try:
            return json.loads(message)
        except (ValueError, RecursionError):
            pass
        raise await self._refuse(CloseCode.NOT_JSON, "JSON expected")

    async def _refuse(self, code: CloseCode, reason: str) -> WebSocketDisconnect:
        """Close for what the client sent, with one log line."""
        if self.ready_state is OPEN:
            logger.warning(
                "Closed %s with %d: %s.",
                self.path,
                code,
                reason,
                extra={"path": self.path, "status_code": int(code)},
            )
            await self.close(code, reason)
        return WebSocketDisconnect(code, reason)

    def __aiter__(self) -> Self:
        return self

    __anext__ = Opening._read

    async def iter_json(self) -> AsyncIterator[Any]:
        """Iterate over the messages, as ``receive_json()`` has them; ends when the client goes."""
        while True:
            try:
                item = await self.receive_json()
            except WebSocketDisconnect:
                return
            yield item

    async def wait_closed(self) -> None:
        """Wait until the socket is over. What the client sends meanwhile does not matter."""
        await self._ensure_accepted()
        self._claim_read()
        self.attends = True
        if self.lane is not None and self.runs_in(asyncio.current_task()):
            lanes.release(self)  # beside the handler, what it calls keeps its cursors
        self._discard_inbox()
        while self.ready_state < CLOSING:
            event = await self._next_event()
            if event is not None:
                self._take(event)
            self._discard_inbox()

    # Sending

    async def send(self, message: str | bytes) -> None:
        """Send one message: ``str`` as a text frame, ``bytes`` as a binary one.

        It waits where the client reads more slowly than this side sends.

        Raises:
            WebSocketDisconnect: the socket is over.
            TypeError: ``message`` is neither.
        """
        event: Event
        if type(message) is str or isinstance(message, str):
            event = {"type": "websocket.send", "text": message}
        elif isinstance(message, (bytes, bytearray, memoryview)):
            event = {"type": "websocket.send", "bytes": bytes(message)}
        else:
            raise TypeError(
                f"send() takes str or bytes, not {type(message).__name__}: "
                "for anything else there is send_json()."
            )
        if self.wire:  # not FREE
            await self._ensure_accepted()
            await self._transmit(event)
            return
        # As _transmit() has it, without the call.
        self.wire = BUSY
        try:
            await self.server_send(event)
        except (OSError, RuntimeError) as exc:
            if servers.is_too_big(exc):
                raise
            self._lost()
            raise self._over(WebSocketDisconnect) from exc
        finally:
            if self.wire == BUSY:  # and so open still
                if self._outbox:
                    self._hand_over()
                else:
                    self.wire = FREE
        if next(turns):
            await asyncio.sleep(0)

    async def send_json(self, obj: Any) -> None:
        """Send ``obj`` as JSON in a text frame, encoded by ``DjangoJSONEncoder``.

        Raises:
            WebSocketDisconnect: the socket is over.
            TypeError: it can not be encoded.
        """
        await self.send(json.dumps(obj, cls=DjangoJSONEncoder, separators=(",", ":")))

    async def send_each(self, messages: AsyncIterable[str | bytes]) -> None:
        """Send each message of an async iterable, until it ends or the client leaves.

        What the client sends meanwhile does not matter. When the client leaves, the iterable's
        pending ``__anext__()`` is cancelled; a generator is closed in every case.
        """
        await self._ensure_accepted()
        self._claim_read()
        gone = asyncio.get_running_loop().create_task(self.wait_closed())
        try:
            async with asyncio.timeout(None) as scope:

                def leave(_: object) -> None:
                    with suppress(RuntimeError):  # the block has just been left
                        scope.reschedule(asyncio.get_running_loop().time())

                gone.add_done_callback(leave)
                try:
                    async for message in messages:
                        await self.send(message)
                finally:
                    gone.remove_done_callback(leave)
        except TimeoutError:
            if not scope.expired():
                raise
        except WebSocketDisconnect:
            if self.ready_state < CLOSING:
                raise
        finally:
            gone.cancel()
            if isinstance(messages, AsyncGenerator):
                await messages.aclose()
            (end,) = await asyncio.gather(gone, return_exceptions=True)
            self._learn_code()
        if isinstance(end, Exception):
            raise end

    # Groups

    @asynccontextmanager
    async def join(self, *names: str | groups.Group) -> AsyncIterator[None]:
        """Be a member of groups: what is sent to them goes to this client.

        Once the block is entered every later message arrives; once it is left none does. A socket
        leaves its groups too when its handler ends, however it ends.

        A socket that is not accepted yet is accepted as soon as the broker has acknowledged all
        subscriptions, so that a client whose socket is open misses nothing. What is sent in between
        goes out behind the accept.

        Args:
            names: names, or ``Group`` objects. All are subscribed to in one round trip.

        Raises:
            BrokerError: the broker did not acknowledge a subscription in time. It leaves the socket
                as it was, not accepted or open, and in none of the groups.
            WebSocketDisconnect: the socket is over.
        """
        if self.ready_state >= CLOSING:
            raise self._over(WebSocketDisconnect)
        registry = groups.members.local()
        joined = [one if isinstance(one, groups.Group) else groups.Group(one) for one in names]
        entered = [group.place for group in joined]
        await registry.join(self, *entered)
        # Nothing is awaited in between: from here on the end of the handler leaves them, too.
        if self._joined is None:
            self._joined = []
        self._joined += entered
        try:
            await self._ensure_accepted()
            if self.ready_state is not OPEN:
                raise self._over(WebSocketDisconnect)
            yield
        finally:
            for place in entered:
                if self._joined and place in self._joined:
                    self._joined.remove(place)
                    registry.leave(self, place)

    def take_down(self) -> Coroutine[Any, Any, None] | None:
        """The handler has ended: leave every group. Return what sees the close or denial out."""
        if self._joined:
            joined, self._joined = self._joined, None
            for place in joined:
                groups.members.local().leave(self, place)
        if self.ready_state is CLOSING and not self.accepted:
            status = DENIALS.get(self.close_code or 0, 403)
            reason = self.close_reason or "closed from elsewhere"
            return self.see_out(self.deny(Deny(status).response, reason))
        if (
            self.ready_state is not CLOSED
            or self._writer is not None
            or servers.unsent(self._own_send)
        ):
            return self.see_out()
        return None

    # The end

    async def close(self, code: int = CloseCode.DONE, reason: str = "") -> None:
        """Close the socket; before it was accepted, deny it with 403. Once is enough.

        Args:
            code: 1000-1003, 1007-1014 or 3000-4999 (RFC 6455 section 7.4).
            reason: cut to 123 bytes of UTF-8.

        Raises:
            ValueError: the code may not be sent.
        """
        check_close_code(code)
        if self.ready_state is CONNECTING:
            await self.deny(Deny(403).response, "the handler closed it without accepting")
        elif self.ready_state is OPEN:
            self._shut(code, reason)
            self._cancel_after()
            if self._writer is not None:
                await asyncio.wait([self._writer])
