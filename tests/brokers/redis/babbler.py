"""A server that does not speak as Redis does, and a broker on it."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

from django_ws_dispatch.brokers.redis import RedisBroker

GARBAGE = {
    "no number": b":abc\r\n",
    "no length": b"$abc\r\n",
    "nil": b"*-7\r\n",
    "text": b"+OK\r\n",
    "too deep": b"*1\r\n" * 3000 + b":1\r\n",
    "no UTF-8": b"-ERR \xff\xfe\r\n",
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
}


class Babbler:
    """A server that answers PUBLISH and SUBSCRIBE with ``answer``.

    Attributes:
        answer: what it says to them; ``None`` stands for what Redis would say.
        politely: whether it answers what comes before them, as Redis does.
        deaf: while it is set, nothing is read behind a SUBSCRIBE.
        connections: how many there have been.
        asked: the commands that it got.
    """

    def __init__(self) -> None:
        self.answer: bytes | None = None
        self.politely = True
        self.deaf = threading.Event()
        self.connections = 0
        self.asked: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self.deaf.clear()
        for sock in (self._listener, *self._open):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for sock in (self._listener, *self._open):
            sock.close()

    def answer_all(self, answer: bytes) -> None:
        """Say something on every connection."""
        for sock in self._open:
            sock.sendall(answer)

    def hang_up(self) -> None:
        """Close every connection, as a server that is started anew."""
        for sock in self._open:
            sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                self.connections += 1
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError):
            while data := connection.recv(65536):
                command = data.split(b"\r\n")[2]
                self.asked.append(command)
                if command == b"SUBSCRIBE" and self.deaf.is_set():
                    while self.deaf.is_set():
                        time.sleep(0.01)
                    return
                if self.answer is not None and (
                    command in (b"PUBLISH", b"SUBSCRIBE", b"SENTINEL") or not self.politely
                ):
                    connection.sendall(self.answer)
                elif command == b"PUBLISH":
                    connection.sendall(b":1\r\n")
                elif command == b"SUBSCRIBE":
                    connection.sendall(b"*3\r\n$9\r\nsubscribe\r\n$5\r\nwsd:a\r\n:1\r\n")
                else:
                    connection.sendall(b"+OK\r\n" * data.count(b"CLIENT"))


def make_broker(server: Babbler, **options: object) -> RedisBroker:
    return RedisBroker("default", server.url, {"timeout": 5, **options})
