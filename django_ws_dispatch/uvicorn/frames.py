"""Frames of RFC 6455: those that are plain, and the authority on all others."""

from __future__ import annotations

import logging
import struct
from typing import Final

from websockets.exceptions import PayloadTooBig
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import Protocol, Side, State
from websockets.version import version as installed

from .deflate import extension, largest

try:
    from websockets.speedups import apply_mask
except ImportError:
    from websockets.utils import apply_mask

__all__ = [
    "BINARY",
    "CLOSE",
    "FIN",
    "MASKED",
    "PING",
    "PONG",
    "RSV1",
    "TEXT",
    "Authority",
    "apply_mask",
    "close_frame",
    "control_frame",
    "data_frame",
]

logger = logging.getLogger("uvicorn.error")

FIN: Final = 0x80
RSV1: Final = 0x40
MASKED: Final = 0x80
TEXT: Final = FIN | Opcode.TEXT
BINARY: Final = FIN | Opcode.BINARY
CLOSE: Final = FIN | Opcode.CLOSE
PING: Final = FIN | Opcode.PING
PONG: Final = FIN | Opcode.PONG

OLDEST = 16


def require(version: str) -> None:
    """Raise ``ImportError`` where this version of websockets is too old for ``Authority``."""
    if int(version.partition(".")[0]) < OLDEST:
        raise ImportError(
            f"django_ws_dispatch.uvicorn needs websockets {OLDEST} or later, and this is "
            f'{version}: pip install "django-ws-dispatch[uvicorn]".'
        )


require(installed)

# A head for each first byte and each length that fits into the second.
_heads = {
    first: tuple(bytes((first, size)) for size in range(126))
    for first in (TEXT, BINARY, TEXT | RSV1, BINARY | RSV1, CLOSE, PING, PONG)
}
_medium = struct.Struct("!BBH").pack
_large = struct.Struct("!BBQ").pack


def data_frame(first: int, payload: bytes) -> bytes:
    """Return an unmasked frame (RFC 6455 section 5.2).

    Args:
        first: its first byte.
        payload: of any length.
    """
    size = len(payload)
    if size < 126:
        return _heads[first][size] + payload
    if size < 0x10000:
        return _medium(first, 126, size) + payload
    return _large(first, 127, size) + payload


def control_frame(first: int, payload: bytes = b"") -> bytes:
    """Return a frame of at most 125 bytes of payload."""
    return _heads[first][len(payload)] + payload


def close_frame(code: int | None, reason: str = "") -> bytes:
    """Return a close frame (RFC 6455 section 5.5.1); ``None`` says no code.

    Raises:
        websockets.exceptions.ProtocolError: no frame may hold this code.
        ValueError: the reason takes more than 123 bytes.
    """
    payload = b"" if code is None else Close(code, reason).serialize()
    if len(payload) > 125:
        raise ValueError(f"The reason of a close takes at most 123 bytes, not {len(payload) - 2}.")
    return control_frame(CLOSE, payload)


class Authority:
    """websockets' sans-I/O core: it says what frames that are not plain mean.

    It is made for the first of them, is given one whole frame at a time, and is dropped between
    messages, so that an idle connection has none.

    Args:
        max_size: of a message, in bytes.
        deflates: whether permessage-deflate was negotiated.
        closing: what this side's close frame has said, if it was sent.

    Attributes:
        size: of the newest message, in bytes, as far as it has come.
    """

    def __init__(self, max_size: int, deflates: bool, closing: Close | None) -> None:
        # Its limit is for control frames too.
        self._limit = largest(max_size) if deflates else max_size
        limit = max(self._limit, 125)
        self._core = Protocol(Side.SERVER, state=State.OPEN, max_size=limit, logger=logger)
        self._max_size = max_size
        if deflates:
            self._core.extensions = [extension()]
        self._payload = bytearray()
        self.size = 0
        self._opcode = Opcode.BINARY
        if closing is not None:
            self._core.close_sent = closing
            self._core.state = State.CLOSING

    @property
    def is_within(self) -> bool:
        """Whether a fragmented message has begun, and not ended."""
        return self._core.current_size is not None

    @property
    def size_left(self) -> int:
        """How many bytes its next fragment may have."""
        return self._limit - (self._core.current_size or 0)

    @property
    def is_too_big(self) -> bool:
        """Whether the newest message is, or what has come of it."""
        return self.size > self._max_size or isinstance(self._core.parser_exc, PayloadTooBig)

    @property
    def failed(self) -> bool:
        """Whether the connection is to be closed for what the client has sent."""
        return self._core.parser_exc is not None

    @property
    def answered(self) -> Close | None:
        """What the close frame says that was sent."""
        return self._core.close_sent

    def feed(self, data: bytes | bytearray) -> tuple[str | bytes | None, bytes]:
        """Take one whole frame, or the beginning of one that can not become good.

        Returns:
            The message that it completes, if so, and what is to be sent.

        Raises:
            UnicodeDecodeError: the message is no UTF-8 (RFC 6455 section 8.1).
        """
        self._core.receive_data(bytes(data))
        message = None
        for event in self._core.events_received():
            if isinstance(event, Frame) and event.opcode in (
                Opcode.TEXT,
                Opcode.BINARY,
                Opcode.CONT,
            ):
                message = self._add(event)
        return message, b"".join(self._core.data_to_send())

    def _add(self, frame: Frame) -> str | bytes | None:
        if frame.opcode is not Opcode.CONT:
            self._opcode = frame.opcode
            self.size = 0
        self.size += len(frame.data)
        self._payload += frame.data  # a list would grow with empty fragments
        if not frame.fin or self.is_too_big:
            return None
        payload, self._payload = bytes(self._payload), bytearray()
        return payload.decode() if self._opcode is Opcode.TEXT else payload
