"""permessage-deflate, and what becomes of bytes that only say that they are compressed."""

from __future__ import annotations

import os
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import NegotiationError, PayloadTooBig, ProtocolError
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from django_ws_dispatch.uvicorn.deflate import (
    FACTORY,
    SMALLEST,
    compress,
    deflates,
    extension,
    inflate,
)

generated = settings(deadline=None, derandomize=True, database=None, max_examples=50)


def deflated(payload: bytes, level: int = 9, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
    deflate = zlib.compressobj(level, zlib.DEFLATED, -15)
    data = deflate.compress(payload) + deflate.flush(flush)
    return data.removesuffix(b"\x00\x00\xff\xff")


@pytest.mark.parametrize(
    ("offer", "answer", "window"),
    [
        ([], {"server_no_context_takeover", "client_no_context_takeover"}, 15),
        (
            [("client_max_window_bits", None)],
            {"server_no_context_takeover", "client_no_context_takeover"},
            15,
        ),
        (
            [("server_max_window_bits", "10")],
            {
                "server_no_context_takeover",
                "client_no_context_takeover",
                "server_max_window_bits=10",
            },
            10,
        ),
        (
            [("server_no_context_takeover", None), ("client_no_context_takeover", None)],
            {"server_no_context_takeover", "client_no_context_takeover"},
            15,
        ),
    ],
)
def test_no_side_keeps_a_context(offer, answer, window):
    params, one = FACTORY.process_request_params(offer, [])
    said = {name if value is None else f"{name}={value}" for name, value in params}
    assert answer <= said
    assert one.remote_no_context_takeover is one.local_no_context_takeover is True
    assert one.local_max_window_bits == window
    assert deflates([one]) == (True, window == 15)


def test_what_is_unknown_is_not_negotiated():
    with pytest.raises(NegotiationError):
        FACTORY.process_request_params([("strange", None)], [])


def test_other_extensions_compress_nothing():
    assert deflates([]) == deflates([object()]) == (False, False)
    small = PerMessageDeflate(True, True, 15, 9)
    assert deflates([object(), small]) == (True, False)
    assert deflates([object(), extension()]) == (True, True)


@pytest.mark.parametrize("size", [0, 1, SMALLEST - 1])
def test_what_is_short_is_not_compressed(size):
    assert compress(b"\0" * size) is None


def test_what_does_not_become_shorter_is_not_compressed():
    for size in SMALLEST, 1000, 100_000:
        assert compress(os.urandom(size)) is None


@pytest.mark.parametrize("size", [SMALLEST, 1000, 100_000])
def test_what_is_compressed_is_read_again_here_and_by_websockets(size):
    message = (b"so long " * size)[:size]
    payload = compress(message)
    assert payload is not None
    assert len(payload) < size
    assert inflate(payload, size) == message
    frame = extension().decode(Frame(Opcode.BINARY, payload, rsv1=True), max_size=size + 1)
    assert bytes(frame.data) == message


@generated
@given(st.binary(max_size=3000), st.integers(0, 9), st.sampled_from([bytes, bytearray]))
def test_what_is_compressed_is_read_whatever_it_is(message, level, kind):
    assert inflate(kind(deflated(message, level)), len(message) or 1) == message
    payload = compress(message * 10)
    assert payload is None or inflate(payload, len(message) * 10) == message * 10


@generated
@given(st.binary(min_size=1, max_size=500), st.integers(1, 5), st.integers(1, 499))
def test_what_has_more_than_is_read_is_refused(message, times, less):
    message *= times
    size = max(1, len(message) - less)
    if size < len(message):
        with pytest.raises(PayloadTooBig):
            inflate(deflated(message), size)


@pytest.mark.parametrize("size", [1, 100, 2043, 2044, 65536])
def test_a_message_may_have_all_the_size_that_is_read(size):
    for message in b"\0" * size, os.urandom(size):
        assert inflate(deflated(message), size) == message
        with pytest.raises(PayloadTooBig):
            inflate(deflated(message + b"\0"), size)


def test_the_end_of_a_deflate_stream_ends_a_message():
    assert inflate(deflated(b"abc" * 100, flush=zlib.Z_FINISH), 300) == b"abc" * 100
    with pytest.raises(PayloadTooBig):
        inflate(deflated(b"abc" * 100, flush=zlib.Z_FINISH), 299)


def test_an_empty_message_is_compressed_too():
    assert inflate(deflated(b""), 10) == inflate(b"\x00", 10) == inflate(b"", 10) == b""


@pytest.mark.parametrize("payload", [b"\xff", b"\x07", b"x" * 100, deflated(b"abc" * 9)[2:]])
def test_what_is_not_compressed_is_refused(payload):
    with pytest.raises(ProtocolError, match="decompression failed"):
        inflate(payload, 1000)


def test_a_bomb_is_not_inflated():
    bomb = deflated(b"\0" * 50_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooBig):
            inflate(bomb, 1000)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
