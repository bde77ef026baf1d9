"""Whatever comes from a broker: members go on, nothing raises, and the log is not filled."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from django_ws_dispatch import groups
from django_ws_dispatch.auth import control
from django_ws_dispatch.brokers import get_broker
from django_ws_dispatch.codes import check_close_code
from django_ws_dispatch.dispatcher import sweep as connections
from django_ws_dispatch.groups import Group
from django_ws_dispatch.groups.messages import (
    CLOSE,
    CONTROL_CHANNEL,
    TEXT,
    LaterVersion,
    decode,
    encode_close,
    encode_data,
)
from tests.kit.members import FakeMember, run

pytestmark = [pytest.mark.once, pytest.mark.slow]

ROOM = Group("fuzz")

heads = st.builds(
    lambda kind, length, name: bytes((kind, length)) + name,
    st.one_of(st.sampled_from(b"tbcz{"), st.integers(0, 255)),
    st.one_of(st.sampled_from([0, 1, 2, 22, 255]), st.integers(0, 255)),
    st.binary(max_size=25),
)
codes = st.builds(
    lambda code, reason: b"c\x00" + code.to_bytes(2) + reason,
    st.one_of(
        st.sampled_from([0, 999, 1000, 1004, 1005, 1006, 1015, 2999, 3000, 5000, 65535]),
        st.integers(0, 65535),
    ),
    st.binary(max_size=200),
)
messages = st.one_of(
    st.binary(max_size=60),
    codes,
    st.builds(lambda head, payload: head + payload, heads, st.binary(max_size=40)),
)

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["*", "1", "x" * 300, "\ud800", "\x00"]),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
names = st.sampled_from(
    [
        "session",
        "also",
        "changed",
        "to",
        "where",
        "user",
        "from",
        "namespace",
        "version",
        "",
        "\udfff",
    ]
)
objects = st.one_of(values, st.dictionaries(names, values, max_size=4)).map(
    lambda value: json.dumps(value).encode()
)
payloads = st.one_of(
    st.binary(max_size=40),
    objects,
    objects.map(lambda text: text.decode().encode("utf-16")),
    st.sampled_from([b"", b"[" * 100_000, b'{"user":' * 100_000, b"9" * 5000, b"\xef\xbb\xbf{}"]),
)


@given(message=messages)
@example(message=b"c\x00\x03\xed")
def test_what_is_decoded_can_be_delivered(message):
    try:
        decoded = decode(message)
    except LaterVersion:
        assert message[:1].islower()
        return
    except ValueError:
        return
    if decoded.kind == CLOSE:
        check_close_code(decoded.code)
        again = encode_close(decoded.code, decoded.reason, decoded.exclude)
    else:
        kind = "text" if decoded.kind == TEXT else "bytes"
        assert decoded.event.keys() == {"type", kind}
        assert decoded.size > 0
        again = encode_data(decoded.event[kind], decoded.exclude)
    assert again == message


@given(foreign=st.lists(messages, min_size=1, max_size=5))
def test_a_member_goes_on_whatever_comes_on_its_channel(foreign):
    async def scenario() -> None:
        groups.group.mark_dispatching()
        member = FakeMember()
        await groups.members.local().join(member, ROOM)
        for message in foreign:
            await get_broker("default").apublish(ROOM.channel, message)
        await ROOM.asend("good")
        assert member.got[-1] == "good"

    run(scenario)


@given(payload=payloads)
def test_a_control_message_is_one_of_ours_or_none(payload):
    try:
        message = control.decode(payload)
    except LaterVersion:
        assert b"version" in payload.replace(b"\x00", b"")  # it may be UTF-16
        return
    if message is not None:
        several = [*message.sessions, *sum(message.changed, ()), *message.look]
        texts = [*several, message.where, message.user, message.namespace, message.sender]
        assert all(isinstance(text, str) and text for text in texts if text is not None)


@given(
    foreign=st.lists(
        st.one_of(payloads.map(encode_data), payloads.map(lambda one: b"t\x00" + one), messages),
        min_size=1,
        max_size=20,
    )
)
def test_no_control_message_is_a_failure(foreign, caplog):
    caplog.clear()
    control._complaint_due = float("-inf")

    async def scenario() -> None:
        home: Any = connections.local()
        await home.watch.listen()
        for message in foreign:
            await get_broker("default").apublish(CONTROL_CHANNEL, message)
        await asyncio.sleep(0)
        await connections.aclose()

    run(scenario)
    # Of what is no JSON of ours once, of what is no message of ours at all once, and of what is a
    # later version's once for each kind.
    told = [record.getMessage() for record in caplog.records]
    later = {text for text in told if "later version" in text}
    assert len(told) <= 2 + len(later)
    assert all(record.levelname == "WARNING" for record in caplog.records)
    assert not any(record.exc_info for record in caplog.records)
