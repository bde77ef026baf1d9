"""What a handler gets: the WebSocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager, suppress
from types import EllipsisType
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from .. import groups, lanes, reports
from ..codes import CloseCode, check_close_code
from ..exceptions import Deny, WebSocketDisconnect
from ..typing import Event
from .joining import brought, joining, names_of, settled
from .opening import Headers, accept_event
from .reader import Reader
from .socket import Socket
from .state import CLOSING, CONNECTING, FREE, OPEN, SENDING
from .writer import turns

__all__ = ["WebSocket"]


class WebSocket(Socket):
    """One open (or opening) WebSocket.

    A handler gets it as its first argument. Not calling ``accept()`` is fine: the first receive,
    iteration, send, ``join``, ``send_each`` or ``wait_closed`` accepts.
    """

    __slots__ = ()

    async def accept(self, subprotocol: str | None = None, headers: Headers | None = None) -> None:
        """Accept the handshake.

        Args:
            subprotocol: one that the client offered. Without it the first offered one among those
                that the handler declares with ``@subprotocols`` is chosen.
            headers: more headers for the 101 response.

        Raises:
            RuntimeError: it is accepted already.
            ValueError: the client did not offer the subprotocol (RFC 6455 section 4.1), or a header
                carries one, or can not be sent.
            WebSocketDisconnect: the client is gone, or the socket was closed.
        """
        await self.connection.accept(accept_event(self.connection, subprotocol, headers))

    # Receiving

    async def receive(self) -> str | bytes:
        """Return the next message: ``str`` for a text frame, ``bytes`` for a binary one.

        Cancelling it loses no message where the server's own ``receive()`` loses none.

        Raises:
            WebSocketDisconnect: the socket is over.
            RuntimeError: another receive is under way.
        """
        try:
            return await self._reader.__anext__()
        except StopAsyncIteration:
            raise self.connection.disconnect() from None

    async def receive_text(self) -> str:
        """Return the next message, which must be text; another kind closes with 1003.

        Raises:
            WebSocketDisconnect: the socket is over.
        """
        message = await self.receive()
        if isinstance(message, str):
            return message
        raise await self._refuse(CloseCode.WRONG_KIND, "text expected")

    async def receive_bytes(self) -> bytes:
        """Return the next message, which must be binary; another kind closes with 1003.

        Raises:
            WebSocketDisconnect: the socket is over.
        """
        message = await self.receive()
        if isinstance(message, bytes):
            return message
        raise await self._refuse(CloseCode.WRONG_KIND, "binary expected")

    async def receive_json(self) -> Any:
        """Return the next message, decoded from JSON: a text frame, or UTF-8 in a binary one.

        What is not JSON closes with 1007.

        Raises:
            WebSocketDisconnect: the socket is over.
        """
        message = await self.receive()
        try:
            return json.loads(message)
        except (ValueError, RecursionError):
            pass
        raise await self._refuse(CloseCode.NOT_JSON, "JSON expected")

    async def _refuse(self, code: CloseCode, reason: str) -> WebSocketDisconnect:
        """Close for what the client sent, with one log line."""
        if self.ready_state is OPEN:
            reports.closed(self.path, code, reason)
            await self.close(code, reason)
        return WebSocketDisconnect(code, reason)

    def __aiter__(self) -> Reader:
        return self._reader

    def __anext__(self) -> Awaitable[str | bytes]:
        return self._reader.__anext__()

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
        await self.connection.ensure_accepted()
        self._reader.claim()
        if self.lane is not None and self.connection.runs_in(asyncio.current_task()):
            lanes.release(self)  # beside the handler, what it calls keeps its cursors
        await self._reader.discard()

    # Sending

    async def send(self, message: str | bytes) -> None:
        """Send one message: ``str`` as a text frame, ``bytes`` as a binary one.

        It waits where the client reads more slowly than this side sends.

        Raises:
            WebSocketDisconnect: the socket is over.
            TypeError: ``message`` is neither.
        """
        if type(message) is str or isinstance(message, str):
            kind = "text"
        elif isinstance(message, (bytes, bytearray, memoryview)):
            kind, message = "bytes", bytes(message)
        else:
            raise TypeError(
                f"send() takes str or bytes, not {type(message).__name__}: "
                "for anything else there is send_json()."
            )
        writer = self._writer
        if writer.put(message):
            if next(turns):
                await asyncio.sleep(0)
            return
        event: Event = {"type": "websocket.send", kind: message}
        if writer.state:  # not FREE
            await self.connection.ensure_accepted()
            await writer.send(event)
            return
        # As writer.send() has it, without the call.
        writer.state = SENDING
        try:
            await writer.server_send(event)
        except (OSError, RuntimeError) as exc:
            writer.raise_if_gone(exc)
            raise
        finally:
            if writer.state == SENDING:
                if writer.outbox:
                    writer.hand_over()
                else:
                    writer.state = FREE
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
        await self.connection.ensure_accepted()
        self._reader.claim()
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
            self.connection.fetch_close_code()
        if isinstance(end, Exception):
            raise end

    # Groups

    @asynccontextmanager
    async def join(
        self,
        *names: str | groups.Group,
        since: str | Mapping[str, str | None] | EllipsisType | None = ...,
        newest: int = 0,
        not_before: str | None = None,
        key: str | None = None,
        info: Any = None,
    ) -> AsyncIterator[groups.Membership]:
        """Be a member of groups: what is sent to them goes to this client.

        Once the block is entered every later message arrives; once it is left none does. A socket
        leaves its groups too when its handler ends, however it ends.

        Of a group with history (``WEBSOCKET_GROUPS``) what was sent behind a position comes first,
        in order, then what is sent live; nothing twice, and nothing missing in between. It is out
        before the block is entered.

        A socket that is not accepted yet is accepted as soon as the broker has acknowledged all
        subscriptions, so that a client whose socket is open misses nothing. What is sent in between
        goes out behind the accept.

        Args:
            names: names, or ``Group`` objects. All are subscribed to in one round trip.
            since: the position up to which the client has the messages of the group; of several
                groups a mapping of names to positions. ``None``, a missing or an empty one asks for
                nothing. Groups without history have none. By default what the client brought
                (``websocket.since``), when the socket joins a group for the first time.
            newest: how many of the newest messages a client gets that has no position of a group,
                or one that is lost.
            not_before: a position of the group: nothing older is replayed. Else who may join may
                read all that is kept.
            key: who this is, in groups that know who is here, 1 to 200 characters: several sockets
                of one key are one. By default the primary key of the user, where it is resolved,
                else one that nobody else has.
            info: what the others see of it, any JSON of at most 1 KiB. Of several sockets of a key
                the newest counts.

        Yields:
            The ``Membership``: ``recovered``, ``lost``, ``positions``, ``gaps``, ``gap()``,
            ``update()``.

        Raises:
            BrokerError: the broker did not acknowledge a subscription in time, or did not say what
                was missed, or did not take who is here. It leaves the socket as it was, not
                accepted or open, and in none of the groups.
            TypeError, ValueError: an argument is none of these; nothing is joined.
            WebSocketDisconnect: the socket is over.
        """
        joined = [one if isinstance(one, groups.Group) else groups.Group(one) for one in names]
        await settled(self, joined)
        called = names_of(self, joined)
        if since is ...:
            since = brought(self, called)
        wishes = groups.membership.wishes(called, since, newest, not_before)
        who = groups.membership.who(key, info)
        async with joining(self, joined, called, wishes, who) as membership:
            yield membership

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
            reason = "the handler closed it without accepting"
            await self.connection.deny(Deny(403).response, reason)
        elif self.ready_state is OPEN:
            self.connection.shut(code, reason)
            self.connection.cancel_after()
            if self._writer.task is not None:
                await asyncio.wait([self._writer.task])
