"""permessage-deflate (RFC 7692) without context takeover, both ways: no state for each socket."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)

__all__ = ["FACTORY", "compress", "deflates", "extension", "inflate", "largest"]

FACTORY = ServerPerMessageDeflateFactory(
    server_no_context_takeover=True, client_no_context_takeover=True
)
"""It negotiates. The answer always has ``client_no_context_takeover``."""

# What is shorter does not become shorter by enough to be worth it.
SMALLEST = 256
LEVEL = 1
WINDOW = 15
# The end of a sync flush, which is not sent (RFC 7692 section 7.2.1).
TAIL = b"\x00\x00\xff\xff"


def deflates(extensions: Sequence[object]) -> tuple[bool, bool]:
    """Return whether messages of the client, and those to it, may be compressed.

    A client with a smaller window can not read what is compressed for all of them.
    """
    for one in extensions:
        if isinstance(one, PerMessageDeflate):
            return True, one.local_max_window_bits == WINDOW
    return False, False


def extension() -> PerMessageDeflate:
    """Return what reads fragments: it has a state, so that each connection has its own."""
    return PerMessageDeflate(True, True, WINDOW, WINDOW)


def largest(size: int) -> int:
    """Return how many bytes a message of ``size`` may have compressed.

    What can not be compressed is stored, with five bytes more for each block, which a compressor
    with little memory makes small; one that does not store needs nine bits for each byte.
    """
    return size + size // 8 + 64


def compress(payload: bytes) -> bytes | None:
    """Return a message compressed; ``None`` where that does not make it shorter."""
    if len(payload) < SMALLEST:
        return None
    deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, -WINDOW)
    compressed = deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)
    if len(compressed) - len(TAIL) >= len(payload):
        return None
    return compressed[: -len(TAIL)]


def inflate(payload: bytes | bytearray, max_size: int) -> bytes:
    """Return a whole message.

    Raises:
        websockets.exceptions.PayloadTooBig: it has more than ``max_size`` bytes; no more than
            those were inflated.
        websockets.exceptions.ProtocolError: it is not compressed.
    """
    inflater = zlib.decompressobj(-WINDOW)
    try:
        data = inflater.decompress(payload, max_size)
        if inflater.unconsumed_tail:
            raise PayloadTooBig(None, max_size)
        # There may be more than fits where the end of the payload is used up.
        rest = inflater.decompress(TAIL, max_size + 1 - len(data))
    except zlib.error as exc:
        raise ProtocolError("decompression failed") from exc
    data += rest
    if len(data) > max_size:
        raise PayloadTooBig(None, max_size)
    return data
