"""The frames of the subprotocol: a head, a line feed and a payload, made once for all."""

from __future__ import annotations

import json

import pytest

from django_ws_dispatch.groups.envelopes import Framed, enveloped, framed, plain
from django_ws_dispatch.groups.messages import (
    BYTES,
    GAP,
    PRESENCE,
    TEXT,
    Message,
    decode,
    encode_data,
)
from django_ws_dispatch.limits import entry_size


def news(data: str | bytes, position: str | None = None) -> Message:
    message = decode(encode_data(data))
    message.position = position
    return message


@pytest.mark.parametrize(
    ("payload", "frame"), [("hi", "\nhi"), ("", "\n"), (b"hi", b"\nhi"), (b"", b"\n")]
)
def test_a_message_of_a_handler_has_an_empty_head(payload, frame):
    assert plain(payload) == frame
    assert framed(None, payload).data == frame


def test_a_head_is_json_on_one_line_whatever_is_in_it():
    head = ["m", 'a\n"b"\u2028\u00e9\ud800', None, True]
    data = framed(head, "pay\nload").data
    assert isinstance(data, str)
    start, _, payload = data.partition("\n")
    assert (json.loads(start), payload) == (head, "pay\nload")
    assert start.isascii()
    assert " " not in start.replace(" b", "")


def test_a_payload_of_bytes_makes_a_binary_frame():
    message = framed(["m", "a", "1.2-3"], b"\0\xff")
    assert message.kind == BYTES
    assert message.data == b'["m","a","1.2-3"]\n\0\xff'
    assert message.event == {"type": "websocket.send", "bytes": message.data}


def test_a_frame_is_a_message_that_excludes_nobody_and_counts_with_its_head():
    message = framed(["pong", 7])
    assert (message.kind, message.exclude, message.data) == (TEXT, None, '["pong",7]\n')
    assert message.size == entry_size('["pong",7]\n')
    assert type(message.event) is Framed


@pytest.mark.parametrize(
    ("message", "frame"),
    [
        (news("hi", "1.2-3"), '["m","a","1.2-3"]\nhi'),
        (news("hi"), '["m","a",null]\nhi'),
        (news("", "1.2-3"), '["m","a","1.2-3"]\n'),
        (news(b"\0", "1.2-3"), b'["m","a","1.2-3"]\n\0'),
        (news(b"", "1.2-3"), b'["m","a","1.2-3"]\n'),
        (Message(GAP, {}, 0, None, position="1.2-3"), '["g","a","1.2-3"]\n'),
        (Message(PRESENCE, {"text": '{"count":1}'}, 0, None), '["p","a"]\n{"count":1}'),
    ],
)
def test_a_message_of_a_group_has_its_kind_its_name_and_its_position(message, frame):
    assert enveloped(message, "a").data == frame


@pytest.mark.parametrize(("data", "frame"), [("hi", "\nhi"), (b"hi", b"\nhi")])
def test_a_message_of_a_group_that_is_only_a_name_has_an_empty_head(data, frame):
    assert enveloped(news(data), None).data == frame


def test_an_envelope_is_made_once_for_each_name():
    message = news("hi", "1.2-3")
    one = enveloped(message, "<user>")
    assert enveloped(message, "<user>") is one
    other = enveloped(message, "7")
    assert other.data == '["m","7","1.2-3"]\nhi'
    assert enveloped(message, "7") is other
    assert enveloped(message, "<user>") is one
    assert message.data == "hi"
    assert enveloped(message, None) is enveloped(message, None)
