"""A network between two processes that can fall silent, in one direction or both."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

__all__ = ["Proxy"]

CHUNK = 65536
# Small, so that what is stalled soon is felt by the sender.
BUFFER = 16384


class Proxy:
    """Forwards the connections to a port of its own, in a thread of its own.

    "Up" is from who connects to the target, "down" the way back. Methods may be called in any
    thread; when they return, it is so.

    Args:
        target: a port of 127.0.0.1, or the path of a unix socket. It may be set later: connections
            that come after that lead there.
        delay: seconds that what is sent takes at least, in each direction.
    """

    def __init__(self, target: int | str, delay: float = 0.0) -> None:
        self.target = target
        self._delay = delay
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._links: dict[asyncio.Task[None], _Link] = {}
        self._flows = (True, True)

    def __enter__(self) -> Proxy:
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._thread.start()
        self._call(lambda: self._loop.add_reader(self._listener, self._accept))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._call(lambda: self._loop.remove_reader(self._listener))
        self._listener.close()
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def stall(self, *, up: bool = True, down: bool = True, newcomers: bool = True) -> None:
        """Forward nothing more in these directions; nobody is told.

        Args:
            up: from who connects to the target.
            down: from the target.
            newcomers: connections that come later are silent, too.
        """

        def stall() -> None:
            for link in self._links.values():
                link.set_flows(not up and link.up.is_set(), not down and link.down.is_set())
            if newcomers:
                self._flows = (not up, not down)

        self._call(stall)

    def resume(self) -> None:
        """Forward again, first of all what has been held back."""

        def resume() -> None:
            self._flows = (True, True)
            for link in self._links.values():
                link.set_flows(True, True)

        self._call(resume)

    def cut(self) -> None:
        """Reset every connection that there is, on both sides."""

        async def cut() -> None:
            tasks = list(self._links)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(cut(), self._loop).result()

    def _call(self, function: Callable[[], object]) -> None:
        async def call() -> None:
            function()

        asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            while True:
                source, _ = self._listener.accept()
                link = _Link(source, self.target, self._delay)
                link.set_flows(*self._flows)
                task = self._loop.create_task(link.run())
                self._links[task] = link
                task.add_done_callback(lambda task: self._links.pop(task).close())


class _Link:
    """One connection, which is two."""

    def __init__(self, source: socket.socket, target: int | str, delay: float) -> None:
        self._delay = delay
        self.up = asyncio.Event()
        self.down = asyncio.Event()
        self._source = source
        self._address = ("127.0.0.1", target) if isinstance(target, int) else target
        self._target = socket.socket(socket.AF_INET if isinstance(target, int) else socket.AF_UNIX)
        for one in (self._source, self._target):
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)

    def set_flows(self, up: bool, down: bool) -> None:
        for event, flows in ((self.up, up), (self.down, down)):
            if flows:
                event.set()
            else:
                event.clear()

    async def run(self) -> None:
        try:
            await asyncio.get_running_loop().sock_connect(self._target, self._address)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(self._source, self._target, self.up))
                tasks.create_task(self._pump(self._target, self._source, self.down))
        except* OSError:
            pass  # one side has reset it: so does the other, now

    def close(self) -> None:
        for one in (self._source, self._target):
            with suppress(OSError):
                # A reset for whoever has not closed yet, and nothing for who has.
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()

    async def _pump(
        self, source: socket.socket, target: socket.socket, flows: asyncio.Event
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await flows.wait()
            data = await loop.sock_recv(source, CHUNK)
            if self._delay:
                await asyncio.sleep(self._delay)
            await flows.wait()
            if not data:
                target.shutdown(socket.SHUT_WR)
                return
            await loop.sock_sendall(target, data)
